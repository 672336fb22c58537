"""Options that several commands share.

Here: their types, names and help. Not here: options of one command.
"""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer


def _lake(given: str | Path) -> Path:
    """The folder of a lake, or the cache of one in an object store. Raises InputError."""
    from tunegraph_pipeline.lake.snapshots import lake_path

    return lake_path(str(given))


LakeOption = Annotated[
    Path,
    typer.Option(
        "--lake",
        metavar="FOLDER",
        envvar="TUNEGRAPH_LAKE",
        parser=_lake,
        help="The lake's folder, or s3://bucket/prefix.",
    ),
]
WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another writer.")
]
CountOption = Annotated[int, typer.Option("-k", metavar="N", min=1, max=1000, help="How many songs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IdsOption = Annotated[bool, typer.Option("--ids", help="Show the id of each song.")]
UserColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The user column, if not recognised.")
]
TrackColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The track column, if not recognised.")
]
MAIN_LAKE = Path("data_lake/main")


def as_date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None
