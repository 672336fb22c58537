"""Which source a name stands for.

Here: the names, the settings each source reads from `lake.json`, and opening one for a crawl. Not here: what
a source does (its own module), or when it is asked (the orchestration).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.frontier import Frontier
from tunegraph_pipeline.lake.lake import FILES, SIMULATED
from tunegraph_pipeline.lake.schemas import FEEDBACK
from tunegraph_pipeline.sources.session import Manners
from tunegraph_pipeline.sources.simulator import WorldConfig
from tunegraph_pipeline.sources.source import FeatureProvider, Source

LISTENBRAINZ, SPOTIFY = "listenbrainz", "spotify"
SOURCES = (SIMULATED, LISTENBRAINZ, SPOTIFY, FILES)
"""What can be crawled."""
SAYING = (*SOURCES, "reccobeats", FEEDBACK)
"""Whose words a lake may keep: those, a provider of audio features, and the listeners of the service."""

_Section = TypeVar("_Section", bound=BaseModel)


class SettingsReader(Protocol):
    """Gives a section of `lake.json`, validated: `Lake.section`."""

    def __call__(self, name: str, model: type[_Section]) -> _Section: ...


class SimulatorSettings(WorldConfig, frozen=True):
    """Settings of the simulator, section ``simulator`` of `lake.json`: its world, and how it is read."""

    twins: float = Field(default=0.03, ge=0, le=1)
    """Share of the songs that are there under two ids, as on a single and an album."""
    over_http: bool = True
    """Crawl a server of its own over HTTP, as a real source; else look into the world, to play many days."""
    server: dict[str, Any] = Field(default_factory=dict)
    """What goes wrong at that server, see `simulator_server.Faults`."""

    def world(self) -> WorldConfig:
        """The world alone."""
        return WorldConfig(**self.model_dump(include=set(WorldConfig.model_fields)))


class FilesSettings(BaseModel):
    """Settings of files as a source, section ``files`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: tuple[str, ...] = ()
    """Files read again on every day that is refreshed; those of `tunegraph import` are not named here."""


def open_source(
    name: str, settings: SettingsReader, manners: Manners, frontier: Frontier, day: date
) -> Source:
    """The source of this name, ready to be crawled for ``day``; its answers are kept in ``frontier``.

    Raises InputError for a name nobody knows, and for credentials or settings that do not do.
    """
    opened = _OPEN.get(name)
    if opened is None:
        raise InputError(f"source {name!r} is not known; it is one of {', '.join(SOURCES)}, or none")
    return opened(settings, manners, frontier, day)


def _open_spotify(settings: SettingsReader, manners: Manners, frontier: Frontier, day: date) -> Source:
    from tunegraph_pipeline.sources.spotify import SpotifySettings, SpotifySource

    return SpotifySource(settings(SPOTIFY, SpotifySettings), manners, frontier)


def _open_listenbrainz(settings: SettingsReader, manners: Manners, frontier: Frontier, day: date) -> Source:
    from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource

    return ListenBrainzSource(settings(LISTENBRAINZ, ListenBrainzSettings), manners, frontier)


def _open_files(settings: SettingsReader, manners: Manners, frontier: Frontier, day: date) -> Source:
    from tunegraph_pipeline.sources.file_source import FileSource

    return FileSource(settings(FILES, FilesSettings).paths)


def _open_simulator(settings: SettingsReader, manners: Manners, frontier: Frontier, day: date) -> Source:
    """The real Spotify source, spotipy and all, against a server of the world in a process of its own."""
    from tunegraph_pipeline.sources.simulator import World
    from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySettings, SpotifySource

    config = settings(SIMULATED, SimulatorSettings)
    world = config.world()
    server = _start_server(world, day, config.server)

    class SimulatorSource(SpotifySource):
        """Ends its server with itself."""

        def close(self) -> None:
            super().close()
            _stop_server(server)

    def chain(source: SpotifySource) -> list[FeatureProvider]:
        return [SpotifyFeatures(source)]

    try:
        url = _address(server)
        start = World(world).start_users()
        return SimulatorSource(
            SpotifySettings(start_users=tuple(start), api_url=f"{url}/v1", accounts_url=url),
            manners,
            frontier,
            name=SIMULATED,
            credentials=("simulator", "simulator"),
            ceiling=5_000.0,
            providers=chain,
        )
    except BaseException:
        _stop_server(server)
        raise


_OPEN: dict[str, Callable[[SettingsReader, Manners, Frontier, date], Source]] = {
    SIMULATED: _open_simulator,
    LISTENBRAINZ: _open_listenbrainz,
    SPOTIFY: _open_spotify,
    FILES: _open_files,
}


def _start_server(world: WorldConfig, day: date, faults: dict[str, Any]) -> "subprocess.Popen[str]":
    module = "tunegraph_pipeline.sources.simulator_server"
    options = ["--world", world.model_dump_json(), "--day", day.isoformat(), "--faults", json.dumps(faults)]
    # It reads our end of a pipe, and ends when that closes: with us, however we end.
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
        raise InputError("the simulator's server did not start; what it said is above")
    return line


def _stop_server(server: "subprocess.Popen[str]") -> None:
    if server.stdin is not None:
        server.stdin.close()
    server.wait(timeout=20)
    if server.stdout is not None:
        server.stdout.close()
