"""The simulator as a source: the real Spotify source, with a server of the world.

Here: its settings, and a server process that ends with the crawl. Not here: the world (`world`) or the
server's answers (`api`).
"""

import json
import subprocess
import sys
from datetime import date
from typing import Any

from pydantic import Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import SIMULATED
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import SpotifySettings


class SimulatorSettings(WorldConfig, frozen=True, extra="forbid"):
    """Settings of the simulator, section ``simulator`` of `lake.json`: its world, and how it is read."""

    twins: float = Field(default=0.03, ge=0, le=1)
    """Share of the songs that have two ids, as on a single and an album."""
    over_http: bool = True
    """Crawl a server over HTTP, like a real source. Else read the world directly: faster for many days."""
    server: dict[str, Any] = Field(default_factory=dict)
    """The faults of that server, see `simulator.faults.Faults`."""

    def world(self) -> WorldConfig:
        """The world alone."""
        return WorldConfig(**self.model_dump(include=set(WorldConfig.model_fields)))


class SimulatorSource(SpotifySource):
    """The real Spotify source, spotipy and all, with a server of the world in a process of its own."""

    def __init__(
        self, config: SimulatorSettings, policy: RequestPolicy, frontier: Frontier, day: date
    ) -> None:
        world = config.world()
        self._server = _start_server(world, day, config.server)
        try:
            url = _address(self._server)
            start_users = tuple(World(world).start_users())
            super().__init__(
                SpotifySettings(start_users=start_users, api_url=f"{url}/v1", accounts_url=url),
                policy,
                frontier,
                name=SIMULATED,
                credentials=("simulator", "simulator"),
                ceiling=5_000.0,
                providers=lambda source: [SpotifyFeatures(source)],
            )
        except BaseException:
            _stop_server(self._server)
            raise

    def close(self) -> None:
        super().close()
        _stop_server(self._server)


def _start_server(world: WorldConfig, day: date, faults: dict[str, Any]) -> "subprocess.Popen[str]":
    module = "tunegraph_pipeline.simulator.server"
    options = ["--world", world.model_dump_json(), "--day", day.isoformat(), "--faults", json.dumps(faults)]
    # It reads from a pipe that we hold, and stops when the pipe closes: at the latest when we exit.
    return subprocess.Popen(  # noqa: S603  # this very program
        [sys.executable, "-m", module, "--port", "0", "--until-stdin-closes", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stdout is not None
    line = server.stdout.readline().strip()
    if not line.startswith("http"):
        raise InputError("the simulator's server did not start; its message is above")
    return line


def _stop_server(server: "subprocess.Popen[str]") -> None:
    if server.stdin is not None:
        server.stdin.close()
    server.wait(timeout=20)
    if server.stdout is not None:
        server.stdout.close()
