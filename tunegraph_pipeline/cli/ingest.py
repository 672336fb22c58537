"""`tunegraph import`: add files to the lake.

Here: the command and its options. Not here: reading files (`sources/`),
storing batches (`pipeline/inbox.py`).
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunegraph_pipeline.cli.lake_access import (
    open_or_create_lake,
    warn_of_future_days,
    writing,
)
from tunegraph_pipeline.cli.options import MAIN_LAKE, LakeOption, WaitOption, as_date
from tunegraph_pipeline.cli.show import (
    notes,
    show_batch,
)
from tunegraph_pipeline.errors import InputError

if TYPE_CHECKING:
    pass


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
        str, typer.Option("--format", help="The file format. Detected by default.")
    ] = "auto",
    kind: Annotated[str, typer.Option(help="likes, tracks or features. Detected by default.")] = "auto",
    user_column: Annotated[
        str | None, typer.Option(help="The user column, if its name is not recognised.")
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
    home = open_or_create_lake(lake)
    with writing(home, "tunegraph import", wait) as home:
        for info in home.receive_files(day, batches, mix=mix_sources):
            show_batch(info)
    warn_of_future_days(home)
    notes.print(f"received {day} in {home.root}; next: [bold]tunegraph refresh --lake {home.root}[/bold]")


def _day(as_of: datetime | None) -> date:
    from tunegraph_pipeline.lake.lake import FIRST_DAY

    today = datetime.now(UTC).date()
    day = as_date(as_of) or today
    if not FIRST_DAY <= day <= today:
        raise InputError(f"--as-of {day} is outside of the days a lake has, {FIRST_DAY} to {today}")
    return day
