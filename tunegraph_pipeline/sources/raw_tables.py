"""Cut a file into a table of cells: delimited text, spreadsheets, parquet, and JSON of rows or columns.

Here: separators, headers, the lines above a header, and reading only the columns that are needed. Not here:
what a column means (`columns`), or which service wrote the table (`formats`).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import count_known
from tunegraph_pipeline.sources.content import parse_json

SAMPLE_ROWS = 500
MAX_COLUMNS = 2_000
"""A table of more columns is no list of likes."""
_SAMPLE_BYTES = 1 << 18
_SEPARATORS = ("\t", ";", "|", ",", " ")
_TOO_FEW, _TOO_MANY = "rows with too few columns", "rows with too many columns"
_PREAMBLE_LINES = 30
_LONG_TEXT = 1 << 24
_SEPARATOR_NAMES = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", " ": "blanks"}


@dataclass
class RawTable:
    """A table whose columns have no meaning yet.

    ``names`` are its columns, no two the same; without a ``header`` they are numbered from "1". ``sample``
    holds the first rows. ``load`` reads all rows of some columns, those of a second list as categories where
    that saves memory. ``shape`` says in words how it was cut, and
    ``counts`` what was skipped so far.
    """

    shape: str
    names: list[str]
    header: bool
    sample: pl.DataFrame
    load: Callable[[Sequence[str], Collection[str]], pl.DataFrame]
    counts: Counter[str] = field(default_factory=Counter)

    def sample_of(self, name: str) -> list[str]:
        """The first cells of a column that are not blank, as text."""
        cells = self.sample[name].drop_nulls()
        if cells.dtype.is_nested():
            return []
        texts = (str(cell).strip() for cell in cells.to_list())
        return [text for text in texts if text]


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns without blanks around them; of two of one name, the second is called ``name (2)``."""
    seen: Counter[str] = Counter()
    distinct = []
    for written in names:
        name = re.sub(r"\s+", " ", written).strip().strip('"').strip()
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


# --- delimited text ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """How delimited text is cut: at ``separator``, after ``skipped`` lines above the header or first row."""

    separator: str
    header: bool
    names: list[str]
    skipped: int = 0


def sample_lines(data: bytes) -> list[str]:
    """The first lines of a text, whole; blank ones too."""
    sample = data[:_SAMPLE_BYTES]
    if len(data) > _SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n")]
    # Not splitlines(), which also splits at characters that names may contain.
    return re.split(r"\r\n|\r|\n", sample.decode(errors="replace"))[: SAMPLE_ROWS + _PREAMBLE_LINES]


def cut_lines(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The lines that are not blank as rows of cells; runs of blanks are one separator."""
    return [row for _, row in _numbered_rows(lines, separator)]


def _numbered_rows(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line, from 0."""
    if separator == " ":
        return [(number, row) for number, line in enumerate(lines) if (row := line.split())]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t")
    rows, number = [], 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((number, row))
            number = reader.line_num
    except csv.Error:  # a cell longer than the module allows, so no table of this separator
        return []
    return rows


def usual_width(rows: Sequence[Sequence[str]]) -> tuple[int, float]:
    """The commonest number of cells, and the share of rows that have it; (0, 0) without rows."""
    if not rows:
        return 0, 0.0
    width, n = Counter(map(len, rows)).most_common(1)[0]
    return width, n / len(rows)


def find_cut(data: bytes, named: Collection[str], separators: Sequence[str] = _SEPARATORS) -> Cut | None:
    """How to cut a text into a table of two columns at least; None if its rows agree on nothing.

    A header is a line of known names (`column_names`), or of names in ``named``; lines above it, such as
    comments or facts about a playlist, are skipped. Of the separators, the one wins by which most rows have
    as many cells as the header, or as each other where there is none; a blank only where nothing else does,
    since names hold blanks.
    """
    lines = sample_lines(data)
    found = [cut for separator in separators if (cut := _cut_at(lines, separator, named)) is not None]
    # Headers first: rows without one agree by chance. The first of equals wins.
    best = max(found, key=lambda one: (one[1].separator != " ", one[1].header, one[0]), default=None)
    return None if best is None else best[1]


def _cut_at(
    lines: Sequence[str], separator: str, named: Collection[str]
) -> tuple[tuple[float, int], Cut] | None:
    """How well this separator cuts, as the share of rows that agree and the number of known names, and the
    cut; None for no table."""
    rows = _numbered_rows(lines, separator)
    misfit: tuple[tuple[float, int], Cut] | None = None
    for position, (place, row) in enumerate(rows[:_PREAMBLE_LINES]):
        cells = [cell.strip().lstrip("#% ") if number == 0 else cell for number, cell in enumerate(row)]
        known = count_known(cells, named)
        if not known or not 2 <= len(cells) <= MAX_COLUMNS or (separator == " " and "-" in cells):
            continue
        below = [len(other) for _, other in rows[position + 1 :]]
        cells += _unnamed(cells, [other for _, other in rows[position + 1 :]])
        agree = below.count(len(cells)) / len(below) if below else 1.0
        found = (agree, known), Cut(separator, True, _distinct(cells), place)
        if agree >= 0.5:
            return found
        if known >= 2 and misfit is None:
            misfit = found
    if misfit is not None:
        return misfit
    if any(not name.isdigit() for name in named):
        return None
    first = next((position for position, (_, row) in enumerate(rows) if not row[0].startswith("#")), 0)
    width, share = usual_width([row for _, row in rows[first:]])
    if not 2 <= width <= MAX_COLUMNS or share < (0.9 if separator == " " else 0.5):
        return None
    return (share, 0), Cut(separator, False, [str(number + 1) for number in range(width)], rows[first][0])


def _unnamed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for blank cells that rows have at their end, beyond the header."""
    width, _ = usual_width(rows)
    beyond = [row[len(header) :] for row in rows if len(row) == width]
    if width <= len(header) or any(cell.strip() for cells in beyond for cell in cells):
        return []
    return [f"(blank {number})" for number in range(1, width - len(header) + 1)]


def as_plain_rows(data: bytes) -> bytes:
    """Text without what wraps its rows: quotation marks around whole lines, single quotes around cells, and
    the bars and dashes of a Markdown table."""
    lines = [line.strip() for line in sample_lines(data) if line.strip()]
    if len(lines) > 1 and all(re.fullmatch(r'"[^"]*[,;\t][^"]*"', line) for line in lines):
        return b"\n".join(line.strip().strip(b'"') for line in data.splitlines())
    if len(lines) > 1 and all(re.fullmatch(r"'[^']*'([,;\t|]'[^']*')+", line) for line in lines):
        return data.replace(b"'", b'"')
    if (
        len(lines) > 2
        and re.fullmatch(r"[|\s:-]*-[|\s:-]*", lines[1])
        and all(line.startswith("|") for line in lines)
    ):
        rows = [line.strip().strip(b"|") for line in data.splitlines() if line.strip()]
        return b"\n".join(
            b"|".join(cell.strip() for cell in row.split(b"|")) for row in rows if row.strip(b"|:- ")
        )
    return data


def text_table(data: bytes, where: str, cut: Cut, *, literal: bool = False) -> RawTable:
    """The table that ``cut`` makes of a text. ``literal``: quotation marks are letters like any other.

    Raises InputError for a quotation mark that is never closed."""
    if cut.skipped:
        data = _without_lines(data, cut.skipped)
    blank = sum(name.startswith("(blank ") for name in cut.names)
    if blank:  # rows have blank cells at their end that the header lacks
        end = data.find(b"\n") if b"\n" in data else len(data)
        data = data[:end].rstrip(b"\r") + cut.separator.encode() * blank + data[end:]
    if cut.separator == " ":
        data = b"\n".join(b" ".join(line.split()) for line in data.splitlines())
    # In text with tabs a lone quote is a letter like any other; Last.fm-1K has thousands of them.
    quotes = data.count(b'"')
    quoted = quotes > 0 and not literal and not (cut.separator == "\t" and quotes % 2 == 1)
    if quoted and quotes % 2 == 1:
        _check_quotes(data, cut.separator, where)
    if quoted and _blank_after(cut, data):
        mark = cut.separator.encode()
        data = re.sub(re.escape(mark) + rb' +"', mark + b'"', data)
    counts: Counter[str] = Counter()

    def load(names: Sequence[str], ids: Collection[str]) -> pl.DataFrame:
        counts.clear()
        return _cells(
            data, where, cut, names, counts, quoted=quoted, ids=ids if len(data) > _LONG_TEXT else ()
        )

    sample = _cells(_first_rows(data), where, cut, cut.names, Counter(), quoted=quoted)
    shape = f"text cut at {_SEPARATOR_NAMES[cut.separator]}" + ("" if cut.header else ", without a header")
    return RawTable(shape, cut.names, cut.header, sample[:SAMPLE_ROWS], load, counts)


def _blank_after(cut: Cut, data: bytes) -> bool:
    """Whether a blank follows every separator of the header, so that quotation marks come after blanks
    too."""
    first = sample_lines(data)[0]
    return (
        cut.header and cut.separator not in "\t " and first.count(cut.separator + " ") == len(cut.names) - 1
    )


def _without_lines(data: bytes, skipped: int) -> bytes:
    breaks = re.compile(rb"\r\n|\r|\n")
    start = 0
    for _ in range(skipped):
        found = breaks.search(data, start)
        if found is None:
            break
        start = found.end()
    return data[start:]


def _first_rows(data: bytes) -> bytes:
    """The first rows of a text; a quoted cell may end in the middle of the last one."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    sample = data[:_SAMPLE_BYTES]
    sample = sample[: sample.rindex(b"\n") + 1] if b"\n" in sample else sample
    return sample if sample.count(b'"') % 2 == 0 else sample[: sample.rindex(b'"')] + b'"'


def _cells(
    data: bytes,
    where: str,
    cut: Cut,
    names: Sequence[str],
    counts: Counter[str],
    *,
    quoted: bool,
    ids: Collection[str] = (),
) -> pl.DataFrame:
    """Some columns of a text, as text, ``ids`` as categories; blank cells are null, and rows of another width
    are counted."""

    def misshapen(row: pyarrow.csv.InvalidRow) -> Literal["skip"]:
        if row.text is None or row.text.strip(f"{cut.separator} \t\r\n"):
            counts[_TOO_FEW if row.actual_columns < row.expected_columns else _TOO_MANY] += 1
        return "skip"

    columns = [f"c{number}" for number in range(len(cut.names))]
    wanted = [columns[cut.names.index(name)] for name in names]
    longest = 1 << 24 if len(data) < 1 << 24 else max(1 << 24, max(map(len, data.split(b"\n"))) + 1)
    categories = pa.dictionary(pa.int32(), pa.large_string())
    kinds = {
        column: categories if name in ids else pa.large_string()
        for column, name in zip(wanted, names, strict=True)
    }
    try:
        stream = pyarrow.csv.open_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(column_names=columns, block_size=longest, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=cut.separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=misshapen,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(columns, pa.large_string()) | kinds,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        parts = [pl.DataFrame(pl.from_arrow(part)) for part in stream]
    except pa.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where} cannot be cut into columns: {reason}") from error
    frame = pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    return frame[int(cut.header) :].rename(dict(zip(frame.columns, names, strict=True)))


def _check_quotes(data: bytes, separator: str, where: str) -> None:
    """Raise InputError for a quotation mark that is never closed: the rows after it would become one cell."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator, strict=True)
    row = 1
    try:
        for _ in reader:
            row = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where}: a quotation mark in row {row} is never closed; close it") from error


# --- parquet, spreadsheets, JSON ---------------------------------------------------------------------------


def parquet_table(data: bytes, where: str) -> RawTable:
    """The table of a parquet file. Raises InputError where it is damaged."""

    def read(names: Sequence[str] | None, rows: int | None) -> pl.DataFrame:
        try:
            return pl.read_parquet(
                io.BytesIO(data), columns=None if names is None else list(names), n_rows=rows
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise InputError(f"{where} is a truncated or damaged parquet file; fetch it again") from error

    sample = read(None, SAMPLE_ROWS)
    return RawTable(
        "parquet", sample.columns, True, sample, lambda names, _ids: read(names, None).select(names)
    )


def sheets(data: bytes, where: str) -> list[tuple[str, RawTable]]:
    """The sheets of a spreadsheet that have a header of known names, each with its name; lines above the
    header are skipped. Raises InputError where it is damaged, or no sheet has one."""
    import fastexcel

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
            f" artist and"
            " title, above the columns"
        )
    return found


def _sheet_table(name: str, sheet: pl.DataFrame) -> RawTable | None:
    for place, row in enumerate(sheet.head(_PREAMBLE_LINES).iter_rows()):
        cells = [cell or "" for cell in row]
        if count_known(cells, ()):
            kept = [number for number, cell in enumerate(cells) if cell.strip()]
            names = _distinct([cells[number] for number in kept])
            rows = sheet[place + 1 :].select(pl.nth(kept))
            rows.columns = names
            rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))
            return _of_frame(f"sheet {name}", rows)
    return None


def _of_frame(shape: str, rows: pl.DataFrame) -> RawTable:
    return RawTable(shape, rows.columns, True, rows[:SAMPLE_ROWS], lambda names, _ids: rows.select(names))


def lines_of_json(data: bytes, where: str) -> RawTable:
    """A table of one JSON object a line. Raises InputError for a line that is none."""
    try:
        sample = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None, n_rows=SAMPLE_ROWS)
    except pl.exceptions.PolarsError as error:
        raise _bad_line(data, where, error) from error

    def load(names: Sequence[str], _ids: Collection[str]) -> pl.DataFrame:
        # An id may be a number in one line and text in the next; as text, each stays as it was written.
        kinds = {name: kind if (kind := sample.schema[name]).is_nested() else pl.String() for name in names}
        try:
            return pl.read_ndjson(io.BytesIO(data), schema=kinds).select(names)
        except pl.exceptions.PolarsError as error:
            raise _bad_line(data, where, error) from error

    return RawTable("one JSON object a line", sample.columns, True, sample, load)


def _bad_line(data: bytes, where: str, error: Exception) -> InputError:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip() and not isinstance(parse_json(line, f"{where}, line {number}"), dict):
            return InputError(f"{where}, line {number} is no JSON object; write one object per line")
    reason = str(error).partition("\n")[0]
    return InputError(f"{where}: a column changes its type from line to line ({reason})")


def table_of_records(records: Sequence[Mapping[str, Any]], shape: str) -> RawTable:
    """A table of objects that were read already, nested values dropped but for lists of text."""
    columns: dict[str, list[Any]] = {}
    for number, record in enumerate(records):
        for name, value in record.items():
            columns.setdefault(str(name), [None] * len(records))[number] = _cell(value)
    frame = pl.DataFrame({name: _series(name, values) for name, values in columns.items()})
    return _of_frame(shape, frame)


def table_of_columns(columns: Mapping[str, Sequence[Any]], shape: str) -> RawTable:
    """A table from one list for each column, all of one length."""
    frame = {name: _series(name, [_cell(value) for value in values]) for name, values in columns.items()}
    return _of_frame(shape, pl.DataFrame(frame))


def _cell(value: object) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # JSON may hold half a surrogate pair
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return [one.encode("utf-8", "replace").decode() for one in value]
    return None if value is None or isinstance(value, dict | list) else str(value)


def _series(name: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        return pl.Series(name, lists, dtype=pl.List(pl.String))
    return pl.Series(name, values, dtype=pl.String)
