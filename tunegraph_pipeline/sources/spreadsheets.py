"""Cut a spreadsheet into tables of cells.

Here: the sheets of an xlsx file that have a header of known names. Not here: other containers (`raw_tables`,
`delimited_text`), or what a column means (`columns`).
"""

import io
import re
import zipfile

import polars as pl
import pyarrow as pa

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import count_known
from tunegraph_pipeline.sources.limits import beyond, check_unpacked, limits
from tunegraph_pipeline.sources.raw_tables import PREAMBLE_LINES, RawTable, distinct_names, table_of_frame

_CELL_BYTES = 32
"""What a cell of a sheet takes in memory."""
_STEP = 1 << 20
_PLACE = re.compile(rb"\sr\s*=\s*[\"']([A-Za-z]{1,7})([0-9]{1,9})[\"']")
_INDEX = re.compile(rb"<(?:\w+:)?v(?:\s[^>]*)?>\s*([0-9]{1,9})\s*<")
_ROW = re.compile(rb"<(?:\w+:)?table-row\b")
_CELL = re.compile(rb"<(?:\w+:)?(?:covered-)?table-cell\b")
_ROWS_REPEATED = re.compile(rb"number-rows-repeated\s*=\s*[\"']\s*([0-9]+)")
_COLUMNS_REPEATED = re.compile(rb"number-columns-repeated\s*=\s*[\"']\s*([0-9]+)")
_DAMAGED = "{where} is a damaged spreadsheet, or has a password; save it again"


def sheets(data: bytes, where: str) -> list[tuple[str, RawTable]]:
    """Name and table of each sheet that has a header of known names; lines above the header are skipped.

    Raises InputError if the spreadsheet is damaged or no sheet has such a header.
    """
    import fastexcel  # slow to load, and few imports need it

    _check_size(data, where)
    try:
        book = fastexcel.read_excel(data)
        cells = [
            (name, book.load_sheet(name, header_row=None, dtypes="string").to_polars())
            for name in book.sheet_names
        ]
    except (fastexcel.FastExcelError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise InputError(_DAMAGED.format(where=where)) from error
    found = [(name, table) for name, sheet in cells if (table := _sheet_table(name, sheet)) is not None]
    if not found:
        named = ", ".join(name for name, _ in cells)
        raise InputError(
            f"{where} has no sheet whose columns name songs (its sheets: {named}); write track_id, or"
            " artist and title, above the columns"
        )
    return found


def _check_size(data: bytes, where: str) -> None:
    """Raise InputError for a spreadsheet that unpacks to more than the limits allow, or whose cells do. A
    sheet of two cells far apart is kept as the rectangle between them; numbers repeat texts and rows."""
    unpacked = cells = texts = 0
    shared: list[int] = []
    indices: list[int] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > limits().members:
            raise beyond(where, "members", "files")
        for entry in entries:
            part = _unpacked_part(archive, entry, where, len(data), unpacked)
            unpacked += len(part)
            cells += _rectangle(part)
            if b"<si" in part or b":si" in part:
                shared += [len(text) for text in re.split(rb"<(?:\w+:)?si\b", part)[1:]]
            else:
                indices += [int(index) for index in _INDEX.findall(part)]
            if b"table-row" in part:
                more, longer = _repeated(part)
                cells, texts = cells + more, texts + longer
    texts += sum(shared[index] for index in indices if index < len(shared))
    if cells * _CELL_BYTES + texts > limits().file_bytes:
        raise beyond(where, "file_bytes", "bytes as a table")


def _unpacked_part(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str, packed: int, before: int
) -> bytes:
    """A file of a spreadsheet, ``before`` bytes of others having been unpacked."""
    parts: list[bytes] = []
    size = before
    try:
        with archive.open(entry) as stream:
            while part := stream.read(_STEP):
                size += len(part)
                check_unpacked(where, packed, size)
                parts.append(part)
    except InputError:
        raise
    except Exception as error:  # whatever damage makes of it
        raise InputError(_DAMAGED.format(where=where)) from error
    return b"".join(parts)


def _rectangle(part: bytes) -> int:
    """How many cells the sheet of an xlsx file spans."""
    places = _PLACE.findall(part)
    width = max((_column_number(letters) for letters, _ in places), default=0)
    return width * max((int(row) for _, row in places), default=0)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - 64
    return number


def _repeated(part: bytes) -> tuple[int, int]:
    """How many cells the sheets of a LibreOffice file have, and their texts in bytes, with every repetition;
    blank rows, and blank cells at the end of a row, take nothing."""
    cells = texts = 0
    for row in _ROW.split(part)[1:]:
        filled = row.rfind(b"value-type")
        if filled >= 0:
            rows = _number_in(_ROWS_REPEATED, row)
            _, *entries = _CELL.split(row[:filled])
            if entries:
                entries[-1] += row[filled:]
            repeats = [_number_in(_COLUMNS_REPEATED, entry) for entry in entries]
            cells += rows * sum(repeats)
            texts += rows * sum(n * len(entry) for n, entry in zip(repeats, entries, strict=True))
    return cells, texts


def _number_in(pattern: re.Pattern[bytes], text: bytes) -> int:
    found = pattern.search(text)
    return int(found[1][:12]) if found else 1


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
