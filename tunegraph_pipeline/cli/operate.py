"""Commands that look after a lake: `status`, `verify`, `lock`, `forget`, `rollback`, and `login` to Spotify.

Here: the commands and what they print. Not here: the work itself (`pipeline/`).
"""

import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunegraph_pipeline.cli.lake_access import has_lake, open_lake, run_with_bars, writing
from tunegraph_pipeline.cli.options import MAIN_LAKE, JsonOption, LakeOption
from tunegraph_pipeline.cli.show import (
    answers,
    notes,
    print_json,
    progress_bars,
    refresh_of,
    show_status,
    warn,
)
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.pipeline.verify.inspection import Report


def forget(
    users: Annotated[
        list[str] | None,
        typer.Argument(metavar="USER", help="Ids of the users to forget, as the source gives them."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file of ids, one per line; - for standard input. Keeps them out of the shell's history"
            " and the list of processes.",
        ),
    ] = None,
    lake: LakeOption = MAIN_LAKE,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask about ids that the lake does not know.")
    ] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Let these ids come in again. What was deleted does not come back."),
    ] = False,
) -> None:
    """Delete users from the lake for good, and publish without them.

    Removes them from raw batches, tables, crawls, feedback, matrices, bundles and recommendations. A keyed
    hash of the id keeps later imports and crawls from adding them again. All ids of a person, if some are
    aliases (`tunegraph users`), are forgotten with any of them. The model's weights go at the next
    full retrain. Without USER and --file, processes the pending requests. The same job as `forget` in the
    Dagster UI, which reads `forget_requests/`. Ids never appear in Dagster's history.

    Asks before it keeps out an id that the lake does not know, since that may be a typo. After a typo, --undo
    takes the id out of requests that wait, or lets it come in again.
    """
    from tunegraph_pipeline.pipeline.deletion_requests import pending_requests, request

    home = open_lake(lake)
    listed = _listed_ids(file) if file is not None else []
    ids = [*(users or []), *listed]
    if undo:
        _undo_forgetting(home, ids)
        return
    if ids:
        if not yes:
            _ask_about_unknown(home, users or [], listed)
        request(home, ids)
    elif not pending_requests(home):
        raise InputError(
            "nobody to forget: give a USER or --file FILE with one per line; the lake has no pending request"
        )
    try:
        with writing(home, "tunegraph forget"):
            run_with_bars(home, "forget", ops={})
            home = open_lake(home.root)
    except BaseException:
        if pending_requests(home):
            warn(_when_finished(home))
        raise
    show_status(home)


def _listed_ids(file: Path) -> list[str]:
    """The ids of a file, or of standard input where it is called -."""
    from tunegraph_pipeline.pipeline.deletion_requests import read_user_ids, user_ids_in

    return user_ids_in(sys.stdin.buffer.read(), "standard input") if str(file) == "-" else read_user_ids(file)


def _when_finished(home: "Lake") -> str:
    """When a request that waits will be worked off, in a sentence."""
    from tunegraph_pipeline.pipeline.settings import ScheduleSettings

    daily = home.section("schedules", ScheduleSettings)
    when = f"by cron `{daily.daily}`, UTC" if daily.on else "if its schedule is switched on"
    again = shlex.join(["tunegraph", "forget", "--lake", home.name])
    return (
        f"the request is kept: the next refresh works it off ({when}), or `{again}` does as soon as nothing"
        " else writes the lake"
    )


def _ask_about_unknown(home: "Lake", typed: list[str], listed: list[str]) -> None:
    """Raise InputError if the lake does not know some ids, and nobody at the terminal wants them kept out.
    Ids of a file are not shown, only their places in it."""
    from tunegraph_pipeline.pipeline.users import unknown_users

    unknown = unknown_users(home, [*typed, *listed], datetime.now(UTC).date())
    names = [
        repr(user_id) + (f" (did you mean {unknown[user_id]!r}?)" if unknown[user_id] else "")
        for user_id in dict.fromkeys(typed)
        if user_id in unknown
    ]
    names += [f"id {place} of the file" for place, user_id in enumerate(listed, 1) if user_id in unknown]
    if not names:
        return
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    sentence = f"the lake does not know {', '.join(names[:5])}{more}"
    if not sys.stdin.isatty():
        raise InputError(
            f"{sentence}; nobody was forgotten: correct this, or give --yes to keep them out anyway"
        )
    if not typer.confirm(f"{sentence}\nKeep them out anyway, should they ever appear?", err=True):
        raise InputError("nobody was forgotten")


def _undo_forgetting(home: "Lake", ids: list[str]) -> None:
    from tunegraph_pipeline.pipeline.deletion_requests import withdraw

    if not ids:
        raise InputError("whom to let in again? give a USER, or --file FILE with one per line")
    with writing(home, "tunegraph forget --undo") as locked:
        waited = withdraw(locked, ids)
    if waited:
        answers.print(f"{counted(waited, 'id')} will not be forgotten: the request had not begun")
    if lifted := len(set(ids)) - waited:
        answers.print(
            f"{counted(lifted, 'id')} may come in again; what was deleted has to be imported or crawled"
            " again",
            soft_wrap=True,
        )


def rollback(
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="The bundle to go back to. Default: the previous live one."),
    ] = None,
    lake: LakeOption = MAIN_LAKE,
    reason: Annotated[str, typer.Option(metavar="WHY", help="Why. Recorded with the rollback.")] = "",
) -> None:
    """Make an earlier bundle live again, by default the previous one.

    Services switch within a second. It stays live until a refresh publishes: fresh likes with this model, or
    a new model that passes the gate against it.
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
    )


def login(
    lake: LakeOption = MAIN_LAKE,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser, or print its address.")] = True,
) -> None:
    """Let your Spotify app read a user's library.

    For apps in development mode. Needs SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET, and SPOTIPY_REDIRECT_URI
    unless it is http://127.0.0.1:8888/callback. The token is stored in your configuration folder, readable
    only by you.
    """
    from tunegraph_pipeline.sources.spotify import TERMS
    from tunegraph_pipeline.sources.spotify_login import SpotifySettings, authorise, token_folder

    settings = open_lake(lake).section("spotify", SpotifySettings) if has_lake(lake) else SpotifySettings()
    warn(TERMS)
    user = authorise(settings, open_browser=browser)
    answers.print(f"{user} authorised the app; the token is in {token_folder()}")


def status(lake: LakeOption = MAIN_LAKE) -> None:
    """Show what the lake holds, and which version is live."""
    show_status(open_lake(lake))


def verify(
    lake: LakeOption = MAIN_LAKE,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove damaged files that the next refresh can rebuild. Received data is never touched.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file of the lake, and repair what can be repaired.

    Reports what is damaged and what to do, on standard output. Exits with 0 if nothing is damaged, or all of
    it was repaired, else with 2. Notes, such as days not refreshed yet, are not damage.
    """
    from tunegraph_pipeline.pipeline.verify.run import verify as verify_lake

    with progress_bars() as progress:
        found = verify_lake(lake, progress, repair=repair)
    verdict = _verdict(found, lake, repair=repair)
    if as_json:
        problems, remarks = ([item.facts() for item in items] for items in (found.problems, found.notes))
        print_json({"problems": problems, "notes": remarks, "files": found.files, "bytes": found.bytes})
        notes.print(verdict, soft_wrap=True)
    else:
        lines = [*(f"note: {note.line()}" for note in found.notes), *(item.line() for item in found.problems)]
        for line in (*lines, verdict):
            answers.print(line, soft_wrap=True)
    if any(finding.mend is None or not repair for finding in found.problems):
        raise typer.Exit(2)


def _verdict(found: "Report", lake: Path, *, repair: bool) -> str:
    """What `verify` found, in a sentence, and what to do now."""
    from tunegraph_pipeline.lake.snapshots import shown

    name = shown(lake)
    read = f"{counted(found.files, 'file')}, {found.bytes / 2**20:,.1f} MiB read"
    if not found.problems:
        return f"nothing is damaged in {name}: {read}"
    mended = sum(finding.mend is not None for finding in found.problems)
    left = len(found.problems) - mended
    if repair:
        advice = f"repaired or removed: {mended}; run {_refresh_of(lake)} now"
    else:
        verify_of = shlex.join(["tunegraph", "verify", "--repair", "--lake", name])
        advice = f"`{verify_of}`, then {_refresh_of(lake)}, repair {mended}"
    if left:
        person = f"{counted(left, 'needs', 'need')} a person: their lines say what"
        advice = f"{advice}, and {person}" if mended else person
    return f"{counted(len(found.problems), 'problem')} in {name} ({read}): {advice}"


def _refresh_of(lake: Path) -> str:
    return f"`{refresh_of(lake, '--source', 'none')}`"


def lock(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="What to run, with its arguments, after `--`.")
    ],
    lake: LakeOption = MAIN_LAKE,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long to wait for a refresh or another writer."),
    ] = 3600,
) -> None:
    """Run a command, such as a back-up, while nothing writes.

    Waits for a refresh that runs, holds the lake's lock until the command ends, and exits with its code. A
    refresh that starts meanwhile waits, or says who holds the lock. Services go on answering, and keep
    feedback.
    """
    home = open_lake(lake)
    program, *arguments = command
    found = shutil.which(program)
    if found is None:
        raise InputError(f"there is no program {program!r} to run; correct its name, or install it")
    with writing(home, f"tunegraph lock, which runs {program}", wait):
        # Where a lake in an object store is on this machine; what the command changes there is committed.
        there = {**os.environ, "TUNEGRAPH_LAKE_FOLDER": str(home.root.absolute())}
        code = subprocess.run([found, *arguments], check=False, env=there).returncode  # noqa: S603
    raise typer.Exit(code if code >= 0 else 128 - code)
