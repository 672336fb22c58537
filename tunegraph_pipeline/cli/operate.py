"""Commands that look after a lake: `status`, `verify`, `forget`, `rollback`, and `login` to Spotify.

Here: the commands and what they print. Not here: the work itself, which is in `pipeline/`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tunegraph_pipeline.cli.lake_access import (
    open_lake,
    run_with_bars,
    writing,
)
from tunegraph_pipeline.cli.options import MAIN_LAKE, JsonOption, LakeOption
from tunegraph_pipeline.cli.show import (
    answers,
    notes,
    print_json,
    progress_bars,
    show_status,
)
from tunegraph_pipeline.errors import InputError, LakeError

if TYPE_CHECKING:
    pass


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
    """Delete users from the lake for good, and publish without them.

    They go from raw batches, tables, crawls, feedback, matrices, bundles and recommendations; a keyed hash of
    their id keeps a later import or crawl from bringing them back. The weights of the model go at the next
    full retrain. Without USER and --file it works off the requests that wait. The same job as `forget` in the
    Dagster UI, which takes its users from files in `forget_requests/`; no id is in Dagster's history.
    """
    from tunegraph_pipeline.pipeline.deletion_requests import pending_requests, read_user_ids, request

    home = open_lake(lake)
    ids = [*(users or []), *(read_user_ids(file) if file is not None else [])]
    if ids:
        request(home, ids)
    elif not pending_requests(home):
        raise InputError(
            "nobody to forget: give a USER or --file FILE with one a line; no request waits in the lake"
        )
    try:
        with writing(home, "tunegraph forget"):
            with progress_bars() as progress:
                run_with_bars(home, "forget", progress, ops={})
            home = open_lake(home.root)
            home.refresh_views()
    except BaseException:
        if pending_requests(home):
            notes.print(
                "[yellow]the request is kept: `tunegraph forget` without a USER, or the next refresh, goes on"
                " with it[/yellow]"
            )
        raise
    show_status(home)


def rollback(
    version: Annotated[
        str | None, typer.Argument(help="The bundle to go back to; the one live before this unless given.")
    ] = None,
    lake: LakeOption = MAIN_LAKE,
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
) -> None:
    """Make an earlier bundle live again: the previous one, or the one you name.

    Services change over within a second. It lasts until a refresh publishes: fresh likes with the model gone
    back to, or a model that the gate accepts against it.
    """
    from tunegraph_pipeline.pipeline.rollback import roll_back
    from tunegraph_pipeline.recommend.publication import live_version

    home = open_lake(lake)
    with writing(home, "tunegraph rollback") as home:
        before = live_version(home.serving) or "nothing that can be read"
        bundle = roll_back(home, version, reason)
    answers.print(
        f"live was {before}, is {bundle.version}: model {bundle.model_version}, likes up to"
        f" {bundle.facts.get('cut_off', 'a day that is not known')}",
        soft_wrap=True,
        markup=False,
    )


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
    from tunegraph_pipeline.sources.spotify import TERMS
    from tunegraph_pipeline.sources.spotify_login import authorise, token_folder
    from tunegraph_pipeline.sources.spotify_settings import SpotifySettings

    settings = open_lake(lake).section("spotify", SpotifySettings) if lake.exists() else SpotifySettings()
    notes.print(f"[yellow]{TERMS}[/yellow]")
    user = authorise(settings, open_browser=browser)
    answers.print(f"{escape(user)} authorised the app; the token is in {token_folder()}")


def status(lake: LakeOption = MAIN_LAKE) -> None:
    """Show what the lake holds, and which version is live."""
    show_status(open_lake(lake))


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
    from tunegraph_pipeline.pipeline.verify.run import verify as verify_lake

    with progress_bars() as progress:
        found = verify_lake(lake, progress, repair=repair)
    for note in found.notes:
        notes.print(f"note: {escape(note.line())}", soft_wrap=True)
    if as_json:
        print_json(
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
