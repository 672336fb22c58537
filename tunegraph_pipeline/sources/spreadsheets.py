"""Cut a spreadsheet into tables of cells.

Here: the sheets of an xlsx file that have a header of known names. Not here: other containers (`raw_tables`,
`delimited_text`), or what a column means (`columns`).
"""

import polars as pl
import pyarrow as pa

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import count_known
from tunegraph_pipeline.sources.raw_tables import PREAMBLE_LINES, RawTable, distinct_names, table_of_frame


def sheets(data: bytes, where: str) -> list[tuple[str, RawTable]]:
    """Name and table of each sheet that has a header of known names; lines above the header are skipped.

    Raises InputError if the spreadsheet is damaged or no sheet has such a header.
    """
    import fastexcel  # slow to load, and few imports need it

    try:
        book = fastexcel.read_excel(data)
        cells = [
            (name, book.load_sheet(name, header_row=None, dtypes="string").to_polars())
            for name in book.sheet_names
        ]
    except (fastexcel.FastExcelError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise InputError(f"{where} is a damaged spreadsheet, or has a password; save it again") from error
    found = [(name, table) for name, sheet in cells if (table := _sheet_table(name, sheet)) is not None]
    if not found:
        named = ", ".join(name for name, _ in cells)
        raise InputError(
            f"{where} has no sheet whose columns name songs (its sheets: {named}); write track_id, or"
            " artist and title, above the columns"
        )
    return found


def _sheet_table(name: str, sheet: pl.DataFrame) -> RawTable | None:
    """The table below the first row that names a user, a song or an artist; columns without a name are left
    out."""
    for place, row in enumerate(sheet.head(PREAMBLE_LINES).iter_rows()):
        cells = [cell or "" for cell in row]
        if count_known(cells, ()):
            kept = [number for number, cell in enumerate(cells) if cell.strip()]
            names = distinct_names([cells[number] for number in kept])
            rows = sheet[place + 1 :].select(pl.nth(kept))
            rows.columns = names
            rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))
            return table_of_frame(rows, f"sheet {name}")
    return None
