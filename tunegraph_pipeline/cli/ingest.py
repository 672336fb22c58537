"""`tunegraph import`: add files to the lake, or say what they would add.

Here: the command, its options, and the summary of an import. Not here: reading files (`sources/`), comparing
them with the lake (`pipeline.import_changes`) or storing batches (`lake/`).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tunegraph_pipeline.cli.lake_access import (
    has_lake,
    import_limits,
    open_lake,
    open_or_create_lake,
    warn_of_future_days,
    writing,
)
from tunegraph_pipeline.cli.options import (
    MAIN_LAKE,
    LakeOption,
    TrackColumnOption,
    UserColumnOption,
    WaitOption,
    as_date,
)
from tunegraph_pipeline.cli.show import answers, notes, print_json, refresh_of, show_found, warn
from tunegraph_pipeline.errors import InputError, TuneGraphError
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.plays import PlaysSettings
    from tunegraph_pipeline.pipeline.import_changes import ListChanges
    from tunegraph_pipeline.recommend.matching import Matches
    from tunegraph_pipeline.sources.file_import import FileImport


def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Files or folders: exports of music services and programs, tables of likes, plays or"
            " ratings, data sets. See the docs, Importing your data.",
        ),
    ],
    lake: LakeOption = MAIN_LAKE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be imported; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    user_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose list it is, for files of one person. Default: me.")
    ] = None,
    min_plays: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Songs that a user played this often are likes. Default: the rule of the lake for one"
            " person's history; 1 in a table of many users.",
        ),
    ] = None,
    min_rating: Annotated[
        float | None,
        typer.Option(metavar="X", help="Ratings from this number on are likes. Default: 80 % of the scale."),
    ] = None,
    like_when: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE,…", help="The values of a column that are likes. Repeatable."),
    ] = None,
    ignore_column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column that is to decide nothing. Repeatable."),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="The format, if it is not recognised.")
    ] = "auto",
    kind: Annotated[str, typer.Option(metavar="KIND", help="auto, likes, tracks or features.")] = "auto",
    user_column: UserColumnOption = None,
    track_column: TrackColumnOption = None,
    time_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with the time of the like.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="The day of these lists. Default: today."
        ),
    ] = None,
    mix_sources: Annotated[bool, typer.Option(help="Allow real likes in a simulated lake.")] = False,
    wait: WaitOption = 0,
) -> None:
    """Add files of likes, dislikes, tracks or audio features.

    Each file becomes a raw batch of the day, from which `tunegraph refresh` makes tables, graph and model.
    A file imported twice on a day counts once. If several files of a day name a user, their likes are
    merged; a list imported on a later day replaces the earlier one. --dry-run shows how the files are read
    and what would change.
    """
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.plays import PlaysSettings
    from tunegraph_pipeline.lake.raw import LEFT_OUT
    from tunegraph_pipeline.pipeline.import_changes import liked_by_plays, list_changes
    from tunegraph_pipeline.pipeline.track_ids import songs_of
    from tunegraph_pipeline.sources import files
    from tunegraph_pipeline.sources.recording_archives import KnownSongs

    day = _day(as_of)
    known: Lake | None = open_lake(lake) if has_lake(lake) else None
    with notes.status("reading …"), import_limits(lake):
        imports = files.import_files(
            paths,
            format=file_format,
            kind=kind,
            user_column=user_column,
            track_column=track_column,
            time_column=time_column,
            user_id=user_id,
            min_plays=min_plays,
            min_rating=min_rating,
            like_when=_like_when(like_when or []),
            ignore=ignore_column or [],
            keep_plays=True,
            day=day,
            known_songs=lambda: KnownSongs() if known is None else songs_of(known),
        )
    batches = [one.batch for one in imports]
    rule = PlaysSettings() if known is None else known.section("plays", PlaysSettings)
    liked = len(liked_by_plays(batches, rule, day))
    changes = None if known is None else list_changes(known, batches, day)
    if not dry_run:
        home = open_or_create_lake(lake)
        with writing(home, "tunegraph import", wait) as home:
            infos = home.receive_files(day, batches, mix=mix_sources)
    if as_json:
        print_json({**_as_json(imports, changes, day, dry_run=dry_run), "likes_by_plays": liked})
    else:
        _show(imports, changes, answers if dry_run else notes)
        if any(len(batch.plays) for batch in batches):
            (answers if dry_run else notes).print(_in_words(rule, liked), soft_wrap=True)
    if dry_run:
        notes.print("nothing was imported; leave --dry-run out to import it")
        return
    for info in infos:
        if left_out := info.counts.get(LEFT_OUT):
            notes.print(f"{info.origin}: {LEFT_OUT}: {left_out:,}")
    warn_of_future_days(home)
    if (found := _found_in_model(home, imports)) is not None:
        show_found(found)
    notes.print(f"received {day} in {home.name}; next: {refresh_of(home.root)}", soft_wrap=True)


def _found_in_model(lake: "Lake", imports: "Sequence[FileImport]") -> "Matches | None":
    """How the songs that one person likes by these files are found in the live model; None without either."""
    from tunegraph_pipeline.pipeline.alone import open_live
    from tunegraph_pipeline.pipeline.user_list import list_in_lake
    from tunegraph_pipeline.recommend.matching import match

    people = {one.person for one in imports if one.person}
    if len(people) != 1 or not lake.has_current("serving"):
        return None
    try:
        return match(open_live(lake).bundle, list_in_lake(lake, people.pop()).likes)
    except InputError:
        return None  # the lake is too small for a model, or this person likes nothing yet
    except TuneGraphError as error:
        # The import is complete all the same.
        warn(f"how many of these songs the live model knows cannot be said: {error}")
        return None


def _in_words(rule: "PlaysSettings", liked: int) -> str:
    """What the plays of an import make somebody like."""
    enough = f"{rule.share:.2%} of the plays" if rule.share else counted(rule.min_plays, "play")
    days = counted(rule.min_days, "day")
    return (
        f"by their plays, {counted(liked, 'song is a like', 'songs are likes')}: {enough} or more on {days}"
        f" of the last {rule.window_days:,} (settings, section plays; or --min-plays)"
    )


def _day(as_of: datetime | None) -> date:
    from tunegraph_pipeline.lake.lake import FIRST_DAY

    today = datetime.now(UTC).date()
    day = as_date(as_of) or today
    if not FIRST_DAY <= day <= today:
        raise InputError(f"--as-of {day} must be between {FIRST_DAY} and {today}")
    return day


def _like_when(given: Sequence[str]) -> dict[str, frozenset[str]]:
    wanted: dict[str, frozenset[str]] = {}
    for one in given:
        column, equals, values = one.partition("=")
        listed = frozenset(value.strip() for value in values.split(",") if value.strip())
        if not equals or not column.strip() or not listed:
            raise InputError(
                f"--like-when {one} must be COLUMN=VALUE, or several values with commas between them"
            )
        wanted[column.strip()] = listed
    return wanted


def _totals(imports: "Sequence[FileImport]") -> dict[str, int]:
    """The figures of all files together: users and songs in several of them count once."""
    import polars as pl

    batches = [one.batch for one in imports]
    said = [rows for b in batches for rows in (b.likes, b.feedback, b.plays)]
    people = pl.concat([rows["user_id"] for rows in said])
    pairs = pl.concat([b.likes.select("user_id", "track_id") for b in batches]).unique()
    songs = pl.concat([rows["track_id"] for rows in said])
    tracks = pl.concat([b.tracks["track_id"] for b in batches])
    return {
        "users": people.n_unique(),
        "likes": len(pairs),
        "dislikes": sum(len(b.feedback) for b in batches),
        "plays": sum(int(b.plays["plays"].sum()) for b in batches),
        "tracks": songs.n_unique() if len(songs) else tracks.n_unique(),
        "described": tracks.n_unique(),
    }


def _as_json(
    imports: "Sequence[FileImport]", changes: "ListChanges | None", day: date, *, dry_run: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **_totals(imports),
        "day": str(day),
        "imported": not dry_run,
        "files": [
            {
                "file": one.origin,
                "format": one.format.name,
                "shape": one.shape,
                "columns": dict(one.columns),
                "unused_columns": list(one.unused),
                "rules": list(one.rules),
                "user": one.person or None,
                **one.figures(),
                "skipped": one.batch.counts,
                "examples": one.examples(),
            }
            for one in imports
        ],
        "changes": None if changes is None else asdict(changes),
    }


def _show(imports: "Sequence[FileImport]", changes: "ListChanges | None", out: "Console") -> None:
    for one in imports:
        figures = one.figures()
        whose = f" of {one.person}" if one.person else ""
        out.print(Text.assemble((one.origin, "bold"), f": {one.format.title}{whose}"), soft_wrap=True)
        parts: list[tuple[Any, ...]] = [
            (figures[f"{what}s"], what) for what in ("user", "like", "dislike", "play")
        ]
        parts += [
            (len(one.batch.tracks), "described song"),
            (len(one.batch.features), "song with audio features", "songs with audio features"),
            (len(one.batch.redirects), "redirected id"),
        ]
        sizes = ", ".join(counted(*part) for part in parts if part[0])
        out.print(f"  {sizes or 'no likes'}", soft_wrap=True)
        if one.columns:
            columns = ", ".join(f"{role} from {column}" for role, column in one.columns.items())
            out.print(f"  columns: {columns}", soft_wrap=True)
        if one.unused:
            out.print(f"  not used: {', '.join(one.unused)}", soft_wrap=True)
        for rule in one.rules:
            out.print(f"  {rule}", soft_wrap=True)
        for what, count in one.batch.counts.items():
            out.print(f"  {what}: {count:,}", soft_wrap=True)
        for example in one.examples():
            out.print(f"  {example}", soft_wrap=True)
    if changes is not None:
        _show_changes(changes, out)


def _show_changes(changes: "ListChanges", out: "Console") -> None:
    known = changes.users - changes.new
    if known:
        out.print(
            f"in the lake already: {known:,} of {counted(changes.users, 'user')}; {changes.unchanged:,}"
            f" unchanged, {counted(changes.added, 'song')} added, {changes.removed:,} removed"
        )
    for user, before, after in changes.shrunk:
        out.print(
            f"{user} had {counted(before, 'song')} and has {after:,} with this: a list of a"
            " later day replaces the earlier one. If this is another person, give --user-id; if it is a part,"
            " import all parts on one day."
        )
    for user, other, shared in changes.twins:
        out.print(
            f"{user} shares {counted(shared, 'song')} with {other}; if they are one"
            f" person, join them with: tunegraph users --alias {user}={other}",
            style="yellow",
            soft_wrap=True,
        )
