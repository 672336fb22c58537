"""Commands that run until Ctrl-C: `serve`, `simulator` and `ui`.

Here: the commands and their options. Not here: the servers (`serve/`, `simulator/`, Dagster).
"""

import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tunegraph_pipeline.cli.lake_access import open_lake
from tunegraph_pipeline.cli.options import MAIN_LAKE, LakeOption, as_date
from tunegraph_pipeline.cli.show import answers, notes
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.bundle import CURRENT
from tunegraph_pipeline.words import in_plain_words

if TYPE_CHECKING:
    from pydantic import BaseModel

AnyFaults = TypeVar("AnyFaults", bound="BaseModel")


def simulator(
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port on loopback; 0 for any that is free.")
    ] = 8765,
    day: Annotated[
        datetime | None,
        typer.Option(
            "--date", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="The day to serve. Default: today."
        ),
    ] = None,
    users: Annotated[int, typer.Option(metavar="N", min=1, help="Users after one year.")] = 2_000,
    tracks: Annotated[int, typer.Option(metavar="N", min=1, help="Songs after one year.")] = 4_000,
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of the world.")] = 7,
    faults: Annotated[
        str,
        typer.Option(
            metavar="JSON", help='Faults to inject, as JSON: {"latency_ms": 20, "server_error": 0.05, ...}'
        ),
    ] = "{}",
    development: Annotated[
        bool, typer.Option("--development", help="Answer like Spotify's development mode.")
    ] = False,
    dumps: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Serve dumps of ListenBrainz and MusicBrainz instead. They are written to FOLDER.",
        ),
    ] = None,
) -> None:
    """Serve a simulated Spotify and ListenBrainz, or a mirror of dumps.

    They speak of one invented world, answer as the real services do, and fail as --faults says.
    """
    from tunegraph_pipeline.simulator.server import Faults, Mode, SimulatorServer
    from tunegraph_pipeline.simulator.server import serve as serve_world
    from tunegraph_pipeline.simulator.world import World, WorldConfig

    served_day = as_date(day) or datetime.now(UTC).date()
    if dumps is not None:
        if development:
            raise InputError("--development does not go with --dumps: dumps have no such mode")
        _serve_dumps(dumps, served_day, users, tracks, seed, faults, port)
        return
    what = _as_faults(Faults, faults)
    world = World(WorldConfig(seed=seed, n_users=users, n_tracks=tracks))

    mode = Mode.DEVELOPMENT if development else Mode.EXTENDED
    server = SimulatorServer(world, served_day, port=port, mode=mode, faults=what)

    def announce() -> None:
        answers.print(
            f"Spotify       {server.url}/v1, tokens at {server.url}/api/token (simulator / simulator)"
        )
        answers.print(f"ListenBrainz  {server.url}/1")
        answers.print(f"ReccoBeats    {server.url}/reccobeats/v1")
        answers.print(f"start users   {', '.join(world.start_users())}")
        notes.print("press Ctrl-C to stop")

    serve_world(server, announce)


def _serve_dumps(folder: Path, day: date, users: int, tracks: int, seed: int, faults: str, port: int) -> None:
    """Write the dumps that ``folder`` lacks of the day's mirror, and serve it."""
    from tunegraph_pipeline.simulator.dump_server import DumpFaults, DumpServer
    from tunegraph_pipeline.simulator.dumps.archives import MIRROR_FOLDER, mirror_world, publish
    from tunegraph_pipeline.simulator.dumps.listens import config_of_size
    from tunegraph_pipeline.simulator.server import serve as serve_folder

    what = _as_faults(DumpFaults, faults)
    server = DumpServer(folder, port=port, faults=what)
    world = mirror_world(folder, config_of_size(users, tracks, seed, day))
    notes.print(f"writing the dumps of {day} that {folder} lacks")
    for made in publish(world, folder, day):
        notes.print(f"wrote {made.relative_to(folder)}")

    def announce() -> None:
        answers.print(f"mirror  {server.url}/{MIRROR_FOLDER}")
        notes.print("press Ctrl-C to stop")

    serve_folder(server, announce)


def _as_faults(kind: type[AnyFaults], text: str) -> AnyFaults:
    """The faults that a JSON says. Raises InputError for others than there are."""
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(
            f"--faults: {'.'.join(map(str, problem['loc'])) or 'the JSON'}: {in_plain_words(problem['msg'])}"
        ) from None


def serve(
    lake: LakeOption = MAIN_LAKE,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65_535, help="Port; 0 for any free one.")
    ] = 8000,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Worker processes.")] = 1,
    reload_seconds: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.05, help="How often to look for a newly published bundle."),
    ] = 1.0,
    rate_limit: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Requests per second per client, with bursts of twice that; 0 for no limit. Default: none on"
            " loopback, else 50.",
        ),
    ] = None,
    proxies: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Proxies before the service: trusted X-Forwarded-For entries."),
    ] = 0,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="An origin that may call the API, or * for all; repeatable."),
    ] = None,
    blocklist: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A file of what never to show: track:ID, artist:ID or artist:NAME per line."
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A host name, besides localhost, for a service on loopback; repeatable."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A limit of what a client may cost (docs/service.md); repeatable."
        ),
    ] = None,
    shapes: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="APIs to speak besides its own, for programs that know those: spotify, lastfm, listenbrainz,"
            " subsonic, lidarr (docs/programs.md), with commas.",
        ),
    ] = "",
    playlists: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Services to ask for a playlist whose link somebody gives: listenbrainz, spotify (with the"
            " app's SPOTIPY_CLIENT_ID and _SECRET in the environment), with commas.",
        ),
    ] = "",
    access_log: Annotated[bool, typer.Option(help="Log each request to standard output, as JSON.")] = True,
) -> None:
    """Serve over HTTP: a page at /, the API at /docs.

    Runs until Ctrl-C or SIGTERM. Reads the lake, writes only feedback, and switches to a newly published
    bundle without interrupting requests. Requests about stored users need the key in the environment variable
    TUNEGRAPH_API_KEY; without one they are refused, except on loopback.
    """
    from tunegraph_pipeline.lake.snapshots import pull
    from tunegraph_pipeline.serve.run import serve as serve_lake
    from tunegraph_pipeline.serve.settings import (
        ServiceSettings,
        check_host,
        check_origin,
        check_playlists,
        check_shapes,
        limits_of,
    )

    settings = ServiceSettings(
        lake=lake,
        host=host,
        port=port,
        workers=workers,
        reload_seconds=reload_seconds,
        rate_limit=rate_limit,
        proxies=proxies,
        cors_origins=tuple(check_origin(origin) for origin in cors_origin or ()),
        allowed_hosts=tuple(check_host(name) for name in allowed_host or ()),
        limits=limits_of(limit or ()),
        blocklist=blocklist,
        shapes=check_shapes(shapes),
        playlists=check_playlists(playlists),
        access_log=access_log,
    )
    pull(lake, only_served=True)
    if not (settings.serving / CURRENT).exists():
        from tunegraph_pipeline.pipeline.alone import check_live

        check_live(open_lake(lake))
    serve_lake(settings, lambda line: notes.print(line, soft_wrap=True))


def ui(
    lake: LakeOption = MAIN_LAKE,
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65_535, help="Port on loopback.")] = 3000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            envvar="TUNEGRAPH_UI_HOSTS",
            help="A further name of the page, such as that of a proxy; repeatable.",
        ),
    ] = None,
) -> None:
    """Open the Dagster UI: assets, runs, schedules and backfills.

    Runs until Ctrl-C, and says nothing more unless something fails. Refuses requests from other web pages and
    under unknown host names. With a token in the environment variable TUNEGRAPH_UI_TOKEN, it asks for that.
    """
    from tunegraph_pipeline.orchestration.dagster_page import MODULE
    from tunegraph_pipeline.orchestration.history import dagster_home, open_history, project_file
    from tunegraph_pipeline.orchestration.page_guard import HOSTS_VARIABLE, PageSettings, known_hosts
    from tunegraph_pipeline.serve.run import listening

    home = open_lake(lake)
    hosts = known_hosts(allow_host or ())
    PageSettings.of_environment()  # the token is sound
    with listening("127.0.0.1", port):
        pass  # the port is free: Dagster takes half a minute to find out, and says so in forty lines
    history = dagster_home(home.root)
    with open_history(history):
        pass  # it can be written, and runs that died are closed
    environment = {
        "PYTHONWARNINGS": "ignore",  # Dagster's own, of functions that it is about to rename
        **os.environ,
        "DAGSTER_HOME": str(history),
        "TUNEGRAPH_LAKE": str(home.root.resolve()),
        HOSTS_VARIABLE: " ".join(sorted(hosts)),
    }
    notes.print(f"Dagster on http://127.0.0.1:{port} for {home.name}; Ctrl-C ends it")
    os.execve(  # noqa: S606  # this process becomes Dagster, so that Ctrl-C reaches it
        sys.executable,
        [
            *(sys.executable, "-m", MODULE, "dev", "-w", str(project_file("workspace.yaml"))),
            *("-h", "127.0.0.1", "-p", str(port), "--log-level", "error"),
        ],
        environment,
    )
