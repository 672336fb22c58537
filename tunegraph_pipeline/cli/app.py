"""The command line: `tunegraph …`, a thin face over the same jobs and functions as the Dagster UI.

Here: options, tables, progress bars and exit codes. Not here: anything a test would have to run a terminal
for; that is in the folders this calls. Heavy imports are made inside the commands, so `--help` is quick.

Exit codes: 0 done, 1 a fault of the program, 2 bad input (one line says what to do), 130 Ctrl-C.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.lake.storage import check_writable

if TYPE_CHECKING:
    import polars as pl

    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.raw import BatchInfo
    from tunegraph_pipeline.pipeline.compare import ComparisonSettings
    from tunegraph_pipeline.recommend.recommender import Query, Reason, Recommender

app = typer.Typer(
    name="tunegraph",
    help="Liked songs in, recommendations out, refreshed every day.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# What a command answers goes to standard output, everything said on the way to standard error.
answers = Console(highlight=False)
notes = Console(stderr=True, highlight=False)

LakeOption = Annotated[
    Path, typer.Option("--lake", envvar="TUNEGRAPH_LAKE", help="The folder of the lake to work on.")
]
WaitOption = Annotated[
    float,
    typer.Option("--wait", min=0, help="Seconds to wait for another writer of the lake; none unless given."),
]
CountOption = Annotated[int, typer.Option("-k", min=1, max=1000, help="How many songs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MAIN_LAKE = Path("data_lake/main")
INTERRUPTED = 130


def main() -> None:
    """Run the command line and turn what went wrong into one line and an exit code."""
    try:
        # typer turns Ctrl-C and Exit into the code it returns here.
        code = app(standalone_mode=False) or 0
    except TuneGraphError as error:
        _complain(str(error))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the fault is shown, and told apart from bad input
        if (usage := getattr(error, "format_message", None)) is not None:
            _complain(usage())
            sys.exit(2)
        # Plain, since rich can take minutes over the long messages of a schema mismatch.
        traceback.print_exc()
        sys.exit(1)
    if code == INTERRUPTED:
        _complain("interrupted; the lake is as it was after the last finished step")
    sys.exit(code)


# --- import and refresh ---


@app.command("import")
def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files, or folders of Million Playlist slices or the seed's three files; a Spotify account "
            "export as downloaded (all of its zips) or unpacked."
        ),
    ],
    lake: LakeOption = MAIN_LAKE,
    file_format: Annotated[
        str, typer.Option("--format", help="What the files are; found by looking unless named.")
    ] = "auto",
    kind: Annotated[
        str, typer.Option(help="likes, tracks or features; found by looking unless named.")
    ] = "auto",
    user_column: Annotated[
        str | None, typer.Option(help="The column with the user, where its name is not understood.")
    ] = None,
    track_column: Annotated[str | None, typer.Option(help="The column with the track.")] = None,
    time_column: Annotated[str | None, typer.Option(help="The column with the time of the like.")] = None,
    user_id: Annotated[
        str | None,
        typer.Option(
            help="Whose a Spotify account export is, `me` unless given. Exports under one name are one "
            "person's: people who share a lake need one each."
        ),
    ] = None,
    min_plays: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Count songs played this often, by a Spotify account export, as liked; unless given the "
            "library alone, or 5 plays where it has none.",
        ),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day these lists were seen; today unless given."),
    ] = None,
    mix_sources: Annotated[bool, typer.Option(help="Allow real likes in a lake of simulated ones.")] = False,
    wait: WaitOption = 0,
) -> None:
    """Add files of likes, tracks or audio features to the lake.

    Each file becomes a raw batch of the day; `tunegraph refresh` makes tables, graph and model of them.
    A file imported twice on a day counts once. A user in several files of one day likes what all of them
    say; a list imported on a later day replaces that of an earlier one.
    """
    from tunegraph_pipeline.pipeline.import_files import receive
    from tunegraph_pipeline.sources.files import read_files

    day = _day(as_of)
    with notes.status("reading …"):
        batches = read_files(
            paths,
            format=file_format,
            kind=kind,
            user_column=user_column,
            track_column=track_column,
            time_column=time_column,
            user_id=user_id,
            min_plays=min_plays,
        )
    home = _open_or_create(lake)
    with _writing(home, "tunegraph import", wait) as home:
        for info in receive(home, day, batches, mix=mix_sources):
            _show_batch(info)
    _tell_days_to_come(home)
    notes.print(f"received {day} in {home.root}; next: [bold]tunegraph refresh --lake {home.root}[/bold]")


@app.command()
def refresh(
    lake: LakeOption = MAIN_LAKE,
    source: Annotated[
        str | None,
        typer.Option(
            help="simulator, listenbrainz, spotify or files; none to rebuild from what was received;"
            " the lake's own unless given."
        ),
    ] = None,
    start_user: Annotated[
        list[str] | None,
        typer.Option(
            "--start-user", help="A user the crawl starts from; may be given several times, and is kept."
        ),
    ] = None,
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The day to fill; today unless given."),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The first day to fill of several."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="The last of them; today unless given."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Train the model anew even where nothing changed.")
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(
            min=1, help="Refresh after each so many days, one run each; once at the end unless given."
        ),
    ] = None,
    wait: WaitOption = 0,
) -> None:
    """Fill the days, bring graph, model and bundle up to date, and publish.

    The same job as `refresh` in the Dagster UI, in this process; the run shows there too. A stage whose
    inputs did not change is kept as it is.
    """
    from tunegraph_pipeline.pipeline.fill_days import days_to_fill
    from tunegraph_pipeline.pipeline.sources import SOURCES

    if source not in (None, "none", *SOURCES):
        raise InputError(f"--source {source}: choose one of {', '.join(SOURCES)}, or none")
    if day and (first or last):
        raise InputError("--date goes alone, without --from and --to")
    home = _lake_to_refresh(lake, source)
    with _writing(home, "tunegraph refresh", wait) as home:
        source = source or home.file.source or "none"
        _take_in_feedback(home)
        _tell_days_to_come(home)
        days = days_to_fill(home, source, _date(first or day), _date(last or day))
        _prepare_crawl(home, source, start_user or [])
        for span in days.steps(step) if step else [days]:
            notes.print(f"refreshing {home.root} from {source}, {_span(span.first, span.last)}")
            with _progress() as progress:
                ops: dict[str, dict[str, Any]] = {
                    # Who looks on tries again when they like; a schedule has nobody who would.
                    "crawled_users": {"source": source, "retries": 0, **span.crawl_config()},
                    "trained_model": {"full": full},
                }
                _run(home, "refresh", progress, span.first, span.last, ops=ops)
        refreshed = _open(home.root)  # the run has its own view of the lake, and may have changed it
        refreshed.refresh_views()
    _show_status(refreshed)


@app.command()
def publish(
    lake: LakeOption = MAIN_LAKE,
    override: Annotated[
        str | None, typer.Option(help="Publish the model that the gate refused, and why; recorded.")
    ] = None,
    wait: WaitOption = 0,
) -> None:
    """Publish by hand: as a refresh does, the gate deciding, or a model that it refused.

    `tunegraph rollback` goes back to a bundle that was live before.
    """
    home = _open(lake)
    if override is not None and not override.strip():
        raise InputError('--override has to say why: --override "the new catalogue is worth it"')
    with _writing(home, "tunegraph publish", wait) as home:
        with _progress() as progress:
            _run(home, "publish", progress, ops={"serving_bundle": {"override": override or ""}})
        home.refresh_views()
    _show_status(home)


@app.command()
def forget(
    users: Annotated[
        list[str] | None,
        typer.Argument(metavar="USER", help="Whom to forget, as the source names them; may be several."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A file of users, one a line; unlike USER it is in no shell's history."),
    ] = None,
    lake: LakeOption = MAIN_LAKE,
) -> None:
    """Take users out of the lake for good, and publish lists and recommendations without them.

    They go from raw batches, tables, crawls, feedback, matrices, bundles and recommendations; a keyed hash of
    their id keeps a later import or crawl from bringing them back. The weights of the model go at the next
    full retrain. Without USER and --file it works off the requests that wait. The same job as `forget` in the
    Dagster UI, which takes its users from files in `forget_requests/`; no id is in Dagster's history.
    """
    from tunegraph_pipeline.pipeline.forgetting import pending_requests, read_user_ids, request

    home = _open(lake)
    ids = [*(users or []), *(read_user_ids(file) if file is not None else [])]
    if ids:
        request(home, ids)
    elif not pending_requests(home):
        raise InputError(
            "nobody to forget: give a USER or --file FILE with one a line; no request waits in the lake"
        )
    try:
        with _writing(home, "tunegraph forget"):
            with _progress() as progress:
                _run(home, "forget", progress, ops={})
            home = _open(home.root)
            home.refresh_views()
    except BaseException:
        if pending_requests(home):
            notes.print(
                "[yellow]the request is kept: `tunegraph forget` without a USER, or the next refresh, goes on"
                " with it[/yellow]"
            )
        raise
    _show_status(home)


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="The bundle to go back to; the one live before this unless given.")
    ] = None,
    lake: LakeOption = MAIN_LAKE,
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
) -> None:
    """Make the bundle live again that was live before, or another one at hand whose model was live.

    Services change over within a second. It lasts until a refresh publishes: fresh likes with the model gone
    back to, or a model that the gate accepts against it.
    """
    from tunegraph_pipeline.pipeline.rollback import roll_back
    from tunegraph_pipeline.recommend.publication import live_version

    home = _open(lake)
    with _writing(home, "tunegraph rollback") as home:
        before = live_version(home.serving) or "nothing that can be read"
        bundle = roll_back(home, version, reason)
    answers.print(
        f"live was {before}, is {bundle.version}: model {bundle.model_version}, likes up to"
        f" {bundle.facts.get('cut_off', 'a day that is not known')}",
        soft_wrap=True,
        markup=False,
    )


def _lake_to_refresh(root: Path, source: str | None) -> "Lake":
    # A refresh that crawls may start a lake; one that only rebuilds has nothing to rebuild in a new one.
    return _open(root) if source in (None, "none", "files") else _open_or_create(root)


def _prepare_crawl(lake: "Lake", source: str, start_users: list[str]) -> None:
    """Keep what a crawl of ``source`` was told on the command line, and say what a person has to know."""
    from tunegraph_pipeline.lake.tombstones import Tombstones
    from tunegraph_pipeline.pipeline.sources import LISTENBRAINZ, SPOTIFY

    if source not in ("none", "files"):
        lake.admit_source(source, record=False)
    if start_users:
        tombstones = Tombstones.of(lake.root)
        if any(map(tombstones.buries_one, start_users)):
            raise InputError("a --start-user is somebody who was forgotten, and stays away; leave them out")
        if source not in (LISTENBRAINZ, SPOTIFY):
            raise InputError(
                f"--start-user goes with --source {LISTENBRAINZ} or {SPOTIFY}, not with {source}"
            )
        section = dict(lake.file.settings.get(source, {}))
        known = section.get("start_users", [])
        lake.set_section(source, {**section, "start_users": list(dict.fromkeys([*known, *start_users]))})
    if source == SPOTIFY and not lake.frontier_path(SPOTIFY).exists():
        from tunegraph_pipeline.sources.spotify import TERMS

        notes.print(f"[yellow]{TERMS}[/yellow]")


def _take_in_feedback(lake: "Lake") -> None:
    """Before the days are chosen: what listeners said makes the day on which they did stale."""
    from tunegraph_pipeline.lake.feedback_spool import collect

    found = collect(lake)
    for batch in found.batches:
        notes.print(f"feedback: {batch.rows['feedback']:,} of {batch.folder.parent.name.removeprefix('dt=')}")
    for note in found.sentences():
        notes.print(f"[yellow]{escape(note)}[/yellow]")


def _tell_days_to_come(lake: "Lake") -> None:
    """Warn of days that the lake received and that are yet to come by this machine's clock, which was wrong
    then or was set back."""
    today = datetime.now(UTC).date()
    to_come = [day for day in lake.raw_days() if day > today]
    if to_come:
        notes.print(
            f"[yellow]the lake has received lists of {to_come[-1]}, and by this machine's clock today is"
            f" {today}: such lists are taken in when their day has come, and go before all that is received"
            " until then; set the clock right[/yellow]",
            soft_wrap=True,
        )


def _run(
    lake: "Lake",
    job: str,
    bar: "_Bar",
    first: date | None = None,
    last: date | None = None,
    *,
    ops: dict[str, dict[str, Any]],
) -> None:
    from tunegraph_pipeline.orchestration.in_process import run_job
    from tunegraph_pipeline.progress import watched_by

    with watched_by(bar, lambda note: notes.print(f"[yellow]{escape(note)}[/yellow]")):
        run_job(lake, job, first, last, ops)


@app.command()
def login(
    lake: LakeOption = MAIN_LAKE,
    browser: Annotated[
        bool, typer.Option(help="Open the page in a browser, or only print its address.")
    ] = True,
) -> None:
    """Let a Spotify user authorise your app, so that their library can be read in development mode.

    Needs SPOTIPY_CLIENT_ID, SPOTIPY_CLIENT_SECRET and, unless it is http://127.0.0.1:8888/callback,
    SPOTIPY_REDIRECT_URI. The token is kept in your configuration folder, readable by you alone.
    """
    from tunegraph_pipeline.sources.spotify import TERMS, SpotifySettings, authorise, token_folder

    settings = _open(lake).section("spotify", SpotifySettings) if lake.exists() else SpotifySettings()
    notes.print(f"[yellow]{TERMS}[/yellow]")
    user = authorise(settings, open_browser=browser)
    answers.print(f"{escape(user)} authorised the app; the token is in {token_folder()}")


@app.command()
def simulator(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 for any that is free.")] = 8765,
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The day that is served; today unless given."),
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Listeners of the world after a year.")] = 2_000,
    tracks: Annotated[int, typer.Option(min=1, help="Songs of the world after a year.")] = 4_000,
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 7,
    faults: Annotated[
        str, typer.Option(help='What goes wrong, as JSON: {"latency_ms": 20, "server_error": 0.05, ...}')
    ] = "{}",
    development: Annotated[
        bool, typer.Option("--development", help="Answer as Spotify does apps in development mode.")
    ] = False,
) -> None:
    """Serve the simulated world over HTTP in the shapes of Spotify, ListenBrainz and ReccoBeats."""
    from pydantic import ValidationError

    from tunegraph_pipeline.simulator.server import Faults, Mode, SimulatorServer, serve
    from tunegraph_pipeline.simulator.world import World, WorldConfig

    try:
        what = Faults.model_validate_json(faults)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(
            f"--faults: {'.'.join(map(str, problem['loc'])) or 'the JSON'}: {problem['msg']}"
        ) from None
    world = World(WorldConfig(seed=seed, n_users=users, n_tracks=tracks))

    def announce(server: SimulatorServer) -> None:
        answers.print(
            f"Spotify       {server.url}/v1, tokens at {server.url}/api/token (simulator / simulator)"
        )
        answers.print(f"ListenBrainz  {server.url}/1")
        answers.print(f"ReccoBeats    {server.url}/reccobeats/v1")
        answers.print(f"start users   {', '.join(world.start_users())}")
        notes.print("Ctrl-C ends it")

    mode = Mode.DEVELOPMENT if development else Mode.EXTENDED
    serve(world, _date(day) or datetime.now(UTC).date(), port=port, mode=mode, faults=what, announce=announce)


@app.command()
def serve(
    lake: LakeOption = MAIN_LAKE,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 for any that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that answer; they share the mapped bundle.")
    ] = 1,
    reload_seconds: Annotated[
        float, typer.Option(min=0.05, help="How often to look for a newly published bundle.")
    ] = 1.0,
    rate_limit: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Requests a second of one client, twice that at once; 0 for no limit. Unless given, none on"
            " loopback and 50 elsewhere.",
        ),
    ] = None,
    proxies: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many proxies of yours stand before the service; so many entries of X-Forwarded-For"
            " are believed.",
        ),
    ] = 0,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            help="An origin whose pages may ask, or * for all; may be given several times.",
        ),
    ] = None,
    blocklist: Annotated[
        Path | None,
        typer.Option(
            "--blocklist", help="A file of what is never shown: track:ID, artist:ID or artist:NAME a line."
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option(help="Write a line of JSON a request to standard output.")
    ] = True,
) -> None:
    """Answer over HTTP, with a page at / and the API at /docs, until Ctrl-C or SIGTERM.

    The lake is only read, but for the feedback it receives, and a newly published bundle is taken up while
    requests go on. TUNEGRAPH_API_KEY in the environment is the key that is asked for where a request is about
    a stored user; without one, an address that others can reach answers none of these.
    """
    from tunegraph_pipeline.serve.run import serve as serve_lake
    from tunegraph_pipeline.serve.settings import ServiceSettings, check_origin

    settings = ServiceSettings(
        lake=lake,
        host=host,
        port=port,
        workers=workers,
        reload_seconds=reload_seconds,
        rate_limit=rate_limit,
        proxies=proxies,
        cors_origins=tuple(check_origin(origin) for origin in cors_origin or ()),
        blocklist=blocklist,
        access_log=access_log,
    )
    serve_lake(settings, lambda line: notes.print(escape(line), soft_wrap=True))


# --- questions ---


@app.command()
def recommend(
    lake: LakeOption = MAIN_LAKE,
    user: Annotated[str | None, typer.Option("--user", help="A user of the lake.")] = None,
    likes: Annotated[str | None, typer.Option("--likes", help="Track ids with commas between them.")] = None,
    users: Annotated[Path | None, typer.Option("--users", help="A file with a column of user ids.")] = None,
    user_column: Annotated[
        str | None, typer.Option(help="The column of --users, where its name is not understood.")
    ] = None,
    k: CountOption = 10,
    dislikes: Annotated[
        str | None,
        typer.Option("--dislikes", help="Track ids of which, and of songs like them, there should be less."),
    ] = None,
    exclude: Annotated[
        str | None, typer.Option("--exclude", help="Track ids to leave out, that say nothing about taste.")
    ] = None,
    familiarity: Annotated[
        float, typer.Option(min=0, max=1, help="From discovery, 0, to what everybody knows, 1.")
    ] = 0.5,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="From the best songs, however alike, to the most varied.")
    ] = 0.0,
    max_per_artist: Annotated[int | None, typer.Option(min=1, help="Songs of one artist, at most.")] = None,
    explicit: Annotated[bool, typer.Option(help="Whether songs marked explicit may be shown.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", help="A parquet file for the answer to --users.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend songs: for a user, for a list of songs, or for a file of users."""
    from dataclasses import replace

    from tunegraph_pipeline.recommend.recommender import Query, Recommender

    if sum(choice is not None for choice in (user, likes, users)) != 1:
        raise InputError("give one of --user ID, --likes ID,ID,… and --users FILE")
    if (users is None) != (output is None):
        raise InputError("--users FILE goes with --output FILE.parquet, and only with it")
    recommender = Recommender.open(_open(lake).serving)
    query = Query(
        k=k,
        dislikes=_ids(dislikes),
        exclude=_ids(exclude),
        familiarity=familiarity,
        diversity=diversity,
        max_per_artist=max_per_artist,
        explicit=explicit,
    )
    if users is not None and output is not None:
        check_writable(output)
        _recommend_for_file(recommender, users, output, query, user_column)
        return
    ids = _ids(likes)
    (answer,) = recommender.answer([replace(query, likes=ids, user_id=user)])
    if isinstance(answer, InputError):
        raise answer
    _show_recommendations(recommender, answer, ids if user is None else _liked_by(recommender, user), as_json)


@app.command()
def similar(
    track: Annotated[str, typer.Argument(help="A track id.")],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Songs near a song, and how likely somebody likes both."""
    from tunegraph_pipeline.recommend.recommender import Recommender

    recommender = Recommender.open(_open(lake).serving)
    found = recommender.similar(track, k)
    if as_json:
        _print_json([item._asdict() for item in found])
        return
    calibration = recommender.bundle.facts["calibration"]
    table = Table(
        "", "song", "artists", "cosine", "neighbours", title=f"near {escape(_name(recommender, track))}"
    )
    for rank, item in enumerate(found, 1):
        chance = "unknown" if item.probability is None else f"{item.probability:.1%}"
        song, artists = escape(item.name or item.track_id), escape(item.artists)
        table.add_row(str(rank), song, artists, f"{item.cosine:.3f}", chance)
    if calibration is not None:
        table.caption = (
            f"neighbours: how likely it is that of {calibration['panel_users']} listeners one likes both"
        )
    answers.print(table)


@app.command()
def evaluate(
    held_out: Annotated[Path, typer.Option("--held-out", help="User/track pairs that are not in the lake.")],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Judge popularity, co-likes and EASE beside it.")
    ] = False,
    user_column: Annotated[str | None, typer.Option(help="The column with the user.")] = None,
    track_column: Annotated[str | None, typer.Option(help="The column with the track.")] = None,
) -> None:
    """Judge the very ranking that is served by likes it has not seen; one line a metric, last."""
    from tunegraph_pipeline.evaluation.evaluate import comparison
    from tunegraph_pipeline.pipeline.evaluate import judge_held_out_file
    from tunegraph_pipeline.recommend.recommender import Recommender
    from tunegraph_pipeline.sources.files import read_files

    home = _open(lake)
    recommender = Recommender.open(home.serving)
    (batch,) = read_files([held_out], kind="likes", user_column=user_column, track_column=track_column)
    with _writing(home, "tunegraph evaluate"), _progress() as progress:
        judged = judge_held_out_file(
            home,
            recommender,
            batch.likes,
            held_out.name,
            k=k,
            with_baselines=baselines,
            run_id=uuid4().hex,
            progress=progress,
        )
    for what, count in batch.counts.items():
        notes.print(f"{held_out.name}: {count:,} {what}")
    for note in judged.notes:
        notes.print(note)
    if baselines:
        answers.print(_comparison_table(comparison(judged.evaluations)))
    for line in judged.served.lines():
        answers.print(line)


@app.command()
def compare(
    lake: LakeOption = MAIN_LAKE,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="weak, strong, temporal or cold; may be given several times. weak and strong unless given."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to compare: tunegraph, a baseline such as ease or same_artist, v1, v2 or v3_seed; "
            "all unless given."
        ),
    ] = None,
    tuned: Annotated[
        str | None, typer.Option(help="Take the values the baselines were tuned to on likes of that name.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out", help="Judge on user/track pairs that are not in the lake, not on a split."
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, max=1000, help="How many songs; 10 unless given.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Split and train that often, each time anew; once unless given.")
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Judge at most that many users; 10,000 unless given.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A markdown document to put the tables into.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="The section of the document; the name of the lake unless given.")
    ] = None,
    user_column: Annotated[str | None, typer.Option(help="The column of --held-out with the user.")] = None,
    track_column: Annotated[str | None, typer.Option(help="The column with the track.")] = None,
) -> None:
    """Train our model and the baselines anew on the lake's likes, and judge them side by side.

    Quality with intervals, training time, peak memory, time of a query. Takes minutes to hours; nothing that
    is trained here is served. The same lake, settings and seeds give the same figures.
    """
    from tunegraph_pipeline.pipeline.compare import (
        ComparisonSettings,
        compare_lake,
        keep_figures,
        write_section,
    )
    from tunegraph_pipeline.sources.files import read_files

    if held_out and protocol:
        raise InputError("--held-out FILE is a protocol of its own; give it without --protocol")
    home = _open(lake)
    if output is not None:
        check_writable(output)
    given = {
        "protocols": tuple(protocol or ()),
        "models": tuple(model or ()),
        "tuned": tuned,
        "k": k,
        "seeds": seeds,
        "users": users,
    }
    chosen = {name: value for name, value in given.items() if value}
    settings = home.section("comparison", ComparisonSettings).model_copy(update=chosen)
    pairs, origin = None, ""
    if held_out is not None:
        (batch,) = read_files([held_out], kind="likes", user_column=user_column, track_column=track_column)
        pairs, origin = batch.likes, held_out.name
    with _progress() as progress:
        found = compare_lake(home, settings, progress, held_out=pairs, origin=origin)
    with _writing(home, "tunegraph compare"):
        keep_figures(home, found, dataset=origin or home.root.name, run_id=uuid4().hex)
    if output is not None:
        write_section(output, title or home.root.resolve().name, _compare_command(settings, origin), found)
    answers.print(found.document(), markup=False, soft_wrap=True)


def _compare_command(settings: "ComparisonSettings", origin: str) -> str:
    """The command that compares like this, whatever the lake's settings are."""
    words = ["tunegraph", "compare"]
    words += ["--held-out", origin] if origin else [f"--protocol {name}" for name in settings.protocols]
    words += [f"--model {name}" for name in settings.models]
    words += [f"--tuned {settings.tuned}"] if settings.tuned else []
    words += [f"-k {settings.k}", f"--seeds {settings.seeds}", f"--users {settings.users}"]
    return " ".join(words)


# --- looking after the lake ---


@app.command()
def status(lake: LakeOption = MAIN_LAKE) -> None:
    """What the lake holds, and which version is live."""
    _show_status(_open(lake))


@app.command()
def verify(
    lake: LakeOption = MAIN_LAKE,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove what is damaged and can be made again; the next refresh makes it. What was received"
            " is never touched.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file of the lake, and say what is damaged and what repairs it.

    Ends with 0 where nothing is damaged, and with 2 otherwise. Notes, such as days that are not refreshed
    yet, are no damage.
    """
    from tunegraph_pipeline.pipeline.verify import verify as verify_lake

    with _progress() as progress:
        found = verify_lake(lake, progress, repair=repair)
    for note in found.notes:
        notes.print(f"note: {escape(note.line())}", soft_wrap=True)
    if as_json:
        _print_json(
            {
                "problems": [finding.facts() for finding in found.problems],
                "notes": [finding.facts() for finding in found.notes],
                "files": found.files,
                "bytes": found.bytes,
            }
        )
    else:
        for finding in found.problems:
            answers.print(escape(finding.line()), soft_wrap=True)
    read = f"{found.files:,} files, {found.bytes / 2**20:,.1f} MiB"
    if not found.problems:
        notes.print(f"nothing is damaged in {lake}: {read} were read", soft_wrap=True)
        return
    mended = sum(finding.mend is not None for finding in found.problems)
    left = len(found.problems) - mended
    if repair:
        advice = f"{mended} of them were repaired or removed; run {_refresh_of(lake)} now"
    else:
        advice = f"`tunegraph verify --repair --lake {lake}`, then {_refresh_of(lake)}, put {mended} right"
    if left:
        advice = (advice + ", and " if mended else "") + f"{left} need a person: their lines say what"
    elif repair:
        notes.print(advice, soft_wrap=True)
        return
    raise LakeError(f"{len(found.problems)} problems in {lake} ({read} were read): {advice}")


def _refresh_of(lake: Path) -> str:
    return f"`tunegraph refresh --source none --lake {lake}`"


@app.command()
def ui(
    lake: LakeOption = MAIN_LAKE,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 3000,
) -> None:
    """Open Dagster on the lake: assets, runs, schedules and backfills. Ends with Ctrl-C."""
    from tunegraph_pipeline.orchestration.in_process import dagster_home, project_file

    home = _open_or_create(lake)
    history = dagster_home(home)
    _close_dead_runs(history)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(history),
        "TUNEGRAPH_LAKE": str(home.root.resolve()),
    }
    dagster = str(Path(sys.executable).with_name("dagster"))
    notes.print(f"Dagster on http://127.0.0.1:{port} for {home.root}; Ctrl-C ends it")
    os.execve(  # noqa: S606  # this process becomes Dagster, so that Ctrl-C reaches it
        dagster,
        [dagster, "dev", "-w", str(project_file("workspace.yaml")), "-h", "127.0.0.1", "-p", str(port)],
        environment,
    )


def _close_dead_runs(history: Path) -> None:
    """Before the daemon begins: behind a run that only seems to go on, every other would queue for ever."""
    from dagster import DagsterInstance

    from tunegraph_pipeline.orchestration.dead_runs import close_dead_runs

    with DagsterInstance.from_config(str(history)) as instance:
        close_dead_runs(instance)


# --- opening a lake: here, for to import it is to import polars, which a service does not need ---


def _open(root: Path) -> "Lake":
    from tunegraph_pipeline.lake.lake import Lake

    return Lake.open(root)


def _open_or_create(root: Path) -> "Lake":
    from tunegraph_pipeline.lake.lake import Lake

    return Lake.open_or_create(root)


# --- how things are shown ---


class _Bar:
    """Draws the progress the assets report, one line a piece of work."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextmanager
def _progress() -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes) as progress:
        yield _Bar(progress)


@contextmanager
def _writing(lake: "Lake", purpose: str, wait: float = 0) -> Iterator["Lake"]:
    """Be the lake's one writer; yields the lake as it is then, after whoever was waited for."""

    def on_wait(holder: str) -> None:
        notes.print(f"[yellow]waiting for {escape(holder)}[/yellow]")

    with lake.writing(purpose, wait, on_wait) as warning:
        if warning:
            notes.print(f"[yellow]{warning}[/yellow]")
        yield _open(lake.root)


def _show_batch(info: "BatchInfo") -> None:
    parts = ", ".join(f"{rows:,} {part}" for part, rows in info.rows.items())
    notes.print(f"{escape(info.origin)}: {parts or 'nothing'}")
    for what, count in info.counts.items():
        notes.print(f"  {what}: {count:,}")


def _recommend_for_file(
    recommender: "Recommender", users: Path, output: Path, query: "Query", user_column: str | None
) -> None:
    from tunegraph_pipeline.pipeline.evaluate import recommend_for_users
    from tunegraph_pipeline.sources.user_ids import read_user_ids

    asked = read_user_ids(users, user_column)
    with _progress() as progress:
        unknown = recommend_for_users(recommender, asked, output, query, progress=progress)
    notes.print(f"{output}: {query.k} songs for each of {len(asked) - unknown:,} users")
    if unknown:
        notes.print(
            f"[yellow]{unknown:,} of {len(asked):,} users are not in the lake and have no rows[/yellow]"
        )


def _comparison_table(figures: "pl.DataFrame") -> Table:
    """A column a model, a row a metric: narrow enough for any terminal."""
    table = Table("", *figures["model"])
    for metric in figures.columns[1:]:
        table.add_row(metric, *(f"{value:,.4f}" for value in figures[metric]))
    return table


def _ids(given: str | None) -> list[str]:
    return [part.strip() for part in (given or "").split(",") if part.strip()]


def _liked_by(recommender: "Recommender", user: str) -> list[str]:
    position = recommender.bundle.users.position(user)
    return [recommender.bundle.tracks[int(idx)] for idx in recommender.bundle.user_list(position)]


def _show_recommendations(recommender: "Recommender", answer: Any, liked: list[str], as_json: bool) -> None:
    if as_json:
        items = [
            {**item._asdict(), "reasons": [reason._asdict() for reason in item.reasons]}
            for item in answer.items
        ]
        _print_json({"items": items, "unknown": answer.unknown, "degraded": answer.degraded})
        return
    known = [track for track in liked if track not in set(answer.unknown)]
    if known:
        shown = [_name(recommender, track) for track in known[:10]]
        more = f", and {len(known) - 10} more" if len(known) > 10 else ""
        answers.print(f"[bold]likes[/bold] {escape(', '.join(shown))}{more}\n", soft_wrap=True)
    if answer.unknown:
        notes.print(
            f"[yellow]{len(answer.unknown)} unknown songs: {escape(', '.join(answer.unknown[:5]))}[/yellow]"
        )
    if answer.degraded:
        notes.print(f"[yellow]not personal: {answer.degraded}[/yellow]")
    table = Table(
        "", "song", "artists", "because you like (listeners of both)", "score", title="recommendations"
    )
    for rank, item in enumerate(answer.items, 1):
        because = _because(item.reasons)
        song, artists = escape(item.name or item.track_id), escape(item.artists)
        table.add_row(str(rank), song, artists, escape(because), f"{item.score:.3f}")
    answers.print(table)


def _because(reasons: "Sequence[Reason]") -> str:
    """The liked songs that speak for a recommended one, and how many listeners like both."""
    return " and ".join(f"{reason.name or reason.track_id} ({reason.listeners:,})" for reason in reasons)


def _name(recommender: "Recommender", track: str) -> str:
    idx = recommender.bundle.tracks.position(track)
    name, artists = recommender.bundle.names[idx], recommender.bundle.artists[idx]
    return f"{name} ({artists})" if name and artists else name or track


def _show_status(lake: "Lake") -> None:
    from tunegraph_pipeline.pipeline.status import lake_status

    table = Table(show_header=False, title=str(lake.root), title_justify="left")
    for what, value in lake_status(lake).items():
        table.add_row(what, escape(value))
    answers.print(table)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))  # noqa: T201  # rich would wrap long lines


def _complain(line: str) -> None:
    notes.print(f"[red]tunegraph:[/red] {escape(' '.join(line.split()))}", soft_wrap=True)


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _day(as_of: datetime | None) -> date:
    from tunegraph_pipeline.lake.lake import FIRST_DAY

    today = datetime.now(UTC).date()
    day = _date(as_of) or today
    if not FIRST_DAY <= day <= today:
        raise InputError(f"--as-of {day} is outside of the days a lake has, {FIRST_DAY} to {today}")
    return day


def _span(first: date, last: date) -> str:
    return str(first) if first == last else f"{first} to {last}"
