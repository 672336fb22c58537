"""Options that several commands share.

Here: their types, names and help. Not here: options of one command.
"""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

LakeOption = Annotated[Path, typer.Option("--lake", envvar="TUNEGRAPH_LAKE", help="The lake's folder.")]
WaitOption = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for another writer.")]
CountOption = Annotated[int, typer.Option("-k", min=1, max=1000, help="How many songs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
UserColumnOption = Annotated[str | None, typer.Option(help="The user column, if not recognised.")]
TrackColumnOption = Annotated[str | None, typer.Option(help="The track column, if not recognised.")]
MAIN_LAKE = Path("data_lake/main")


def as_date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None
