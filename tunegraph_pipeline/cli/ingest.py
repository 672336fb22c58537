"""`tunegraph import`: add files to the lake.

Here: the command and its options. Not here: reading files (`sources/`) or storing batches (`pipeline/`).
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunegraph_pipeline.cli.lake_access import open_or_create_lake, warn_of_future_days, writing
from tunegraph_pipeline.cli.options import (
    MAIN_LAKE,
    LakeOption,
    TrackColumnOption,
    UserColumnOption,
    WaitOption,
    as_date,
)
from tunegraph_pipeline.cli.show import notes, show_batch
from tunegraph_pipeline.errors import InputError


def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders: tables of likes, Million Playlist slices, the seed project's files, or a"
            " Spotify account export (all its zips, or unpacked)."
        ),
    ],
    lake: LakeOption = MAIN_LAKE,
    file_format: Annotated[str, typer.Option("--format", help="The file format.")] = "auto",
    kind: Annotated[str, typer.Option(help="auto, likes, tracks or features.")] = "auto",
    user_column: UserColumnOption = None,
    track_column: TrackColumnOption = None,
    time_column: Annotated[str | None, typer.Option(help="The column with the time of the like.")] = None,
    user_id: Annotated[
        str | None,
        typer.Option(help="A name for the person of a Spotify account export. Default: me."),
    ] = None,
    min_plays: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Also count songs of a Spotify account export that were played this often as liked. Default:"
            " only its library, or 5 plays if it has none.",
        ),
    ] = None,
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day of these lists. Default: today.")
    ] = None,
    mix_sources: Annotated[bool, typer.Option(help="Allow real likes in a simulated lake.")] = False,
    wait: WaitOption = 0,
) -> None:
    """Add files of likes, tracks or audio features to the lake.

    Each file becomes a raw batch of the day, from which `tunegraph refresh` makes tables, graph and model.
    A file imported twice on a day counts once. If several files of a day name a user, their likes are
    merged; a list imported on a later day replaces the earlier one.
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
        raise InputError(f"--as-of {day} must be between {FIRST_DAY} and {today}")
    return day
