"""Cut delimited text into a table of cells.

Here: separators, headers, the lines above a header, quotation marks, and reading only the columns that are
needed. Not here: other containers (`raw_tables`, `spreadsheets`), text that is no table (`text_shapes`), or
what a column means (`columns`).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import count_known
from tunegraph_pipeline.sources.limits import limits, longest_line
from tunegraph_pipeline.sources.raw_tables import PREAMBLE_LINES, SAMPLE_ROWS, RawTable, distinct_names
from tunegraph_pipeline.spreadsheet_cells import MARKED

_SAMPLE_BYTES = 1 << 18
_LONG_TEXT = 1 << 24
"""From so many bytes on, ids are read as categories."""
_SHORTEST_BLOCK = 1 << 24
_SEPARATOR_NAMES = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", " ": "blanks"}
_OURS = {"rank", "track_id", "score"}
"""Columns of the lists that TuneGraph writes, whose cells may be marked (`spreadsheet_cells`)."""
_TOO_FEW, _TOO_MANY = "rows with too few columns", "rows with too many columns"

_QUOTED_LINE = re.compile(r'"[^"]*[,;\t][^"]*"')
_SINGLE_QUOTED_CELLS = re.compile(r"'[^']*'([,;\t|]'[^']*')+")
_MARKDOWN_RULE = re.compile(r"[|\s:-]*-[|\s:-]*")
_LINE_BREAK = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Cut:
    """How to cut a text: at ``separator``, into the columns ``names``. ``skipped`` lines are above the header
    or the first row."""

    separator: str
    header: bool
    names: list[str]
    skipped: int = 0


Scored = tuple[tuple[float, int], Cut]
"""A cut, with the share of rows that agree in width and the number of known names in the header."""


def sample_lines(data: bytes) -> list[str]:
    """The first whole lines of a text, blank ones included."""
    sample = data[:_SAMPLE_BYTES]
    if len(data) > _SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n")]
    # Not splitlines(), which also splits at characters that names may contain.
    return re.split(r"\r\n|\r|\n", sample.decode(errors="replace"))[: SAMPLE_ROWS + PREAMBLE_LINES]


def cut_lines(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The lines that are not blank, as rows of cells. With the separator " ", runs of blanks are one."""
    return [row for _, row in _numbered_rows(lines, separator)]


def _numbered_rows(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line (from 0)."""
    if separator == " ":
        return [(number, row) for number, line in enumerate(lines) if (row := line.split())]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t")
    rows, number = [], 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((number, row))
            number = reader.line_num
    except csv.Error:  # a cell is longer than the module allows: no table with this separator
        return []
    return rows


def usual_width(rows: Sequence[Sequence[str]]) -> tuple[int, float]:
    """The most common number of cells, and the share of rows that have it; (0, 0) without rows."""
    if not rows:
        return 0, 0.0
    width, n = Counter(map(len, rows)).most_common(1)[0]
    return width, n / len(rows)


def find_cut(data: bytes, named: Collection[str], separators: Sequence[str]) -> Cut | None:
    """How to cut a text into a table of at least two columns; None if its rows agree on no width.

    A header is a line of known names (`columns.count_known`), or of names in ``named``; lines above it, such
    as comments or facts about a playlist, are skipped. The best separator is the one by which most rows have
    as many cells as the header or, without a header, as each other. Blanks are the last resort, since names
    hold blanks.
    """
    lines = sample_lines(data)
    found = [cut for separator in separators if (cut := _cut_at(lines, separator, named)) is not None]
    # Headers first: rows without one agree by chance. The first of equals wins.
    best = max(found, key=lambda one: (one[1].separator != " ", one[1].header, one[0]), default=None)
    return None if best is None else best[1]


def _cut_at(lines: Sequence[str], separator: str, named: Collection[str]) -> Scored | None:
    """The cut at ``separator``, with its score; None if that makes no table."""
    rows = _numbered_rows(lines, separator)
    headed = _cut_with_header(rows, separator, named)
    if headed is not None:
        return headed
    if any(not name.isdigit() for name in named):  # an option names a column, so there must be a header
        return None
    return _cut_without_header(rows, separator)


def _cut_with_header(
    rows: Sequence[tuple[int, list[str]]], separator: str, named: Collection[str]
) -> Scored | None:
    """The first header that half of the rows below agree with, or else the first of two known names."""
    misfit: Scored | None = None
    for position, (place, row) in enumerate(rows[:PREAMBLE_LINES]):
        cells = [cell.strip().lstrip("#% ") if number == 0 else cell for number, cell in enumerate(row)]
        known = count_known(cells, named)
        if not known or not 2 <= len(cells) <= limits().columns or (separator == " " and "-" in cells):
            continue
        below = [other for _, other in rows[position + 1 :]]
        cells += _unnamed(cells, below)
        agree = sum(len(other) == len(cells) for other in below) / len(below) if below else 1.0
        found = (agree, known), Cut(separator, True, distinct_names(cells), place)
        if agree >= 0.5:
            return found
        if known >= 2 and misfit is None:
            misfit = found
    return misfit


def _cut_without_header(rows: Sequence[tuple[int, list[str]]], separator: str) -> Scored | None:
    """The cut of rows that agree on a width, after the comments above them."""
    first = next((position for position, (_, row) in enumerate(rows) if not row[0].startswith("#")), 0)
    width, share = usual_width([row for _, row in rows[first:]])
    if not 2 <= width <= limits().columns or share < (0.9 if separator == " " else 0.5):
        return None
    return (share, 0), Cut(separator, False, [str(number + 1) for number in range(width)], rows[first][0])


def _unnamed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for the blank cells that rows have at their end, beyond the header."""
    width, _ = usual_width(rows)
    beyond = [row[len(header) :] for row in rows if len(row) == width]
    if width <= len(header) or any(cell.strip() for cells in beyond for cell in cells):
        return []
    return [f"(blank {number})" for number in range(1, width - len(header) + 1)]


def as_plain_rows(data: bytes) -> bytes:
    """Text without what wraps its rows: quotation marks around whole lines, single quotes around cells, or
    the bars and dashes of a Markdown table."""
    lines = [line.strip() for line in sample_lines(data) if line.strip()]
    if len(lines) > 1 and all(map(_QUOTED_LINE.fullmatch, lines)):
        return b"\n".join(line.strip().strip(b'"') for line in data.splitlines())
    if len(lines) > 1 and all(map(_SINGLE_QUOTED_CELLS.fullmatch, lines)):
        return data.replace(b"'", b'"')
    if len(lines) > 2 and _MARKDOWN_RULE.fullmatch(lines[1]) and all(line[0] == "|" for line in lines):
        return _without_markdown(data)
    return data


def _without_markdown(data: bytes) -> bytes:
    rows = [line.strip().strip(b"|") for line in data.splitlines() if line.strip()]
    cells = [[cell.strip() for cell in row.split(b"|")] for row in rows if row.strip(b"|:- ")]
    return b"\n".join(b"|".join(row) for row in cells)


def text_table(data: bytes, where: str, cut: Cut, *, literal: bool = False) -> RawTable:
    """The table that ``cut`` makes of a text. ``literal``: quotation marks are ordinary characters.

    Raises InputError if a quotation mark is never closed.
    """
    data = _without_lines(data, cut.skipped)
    data = _with_whole_header(data, cut)
    if cut.separator == " ":
        data = b"\n".join(b" ".join(line.split()) for line in data.splitlines())
    # In text with tabs a lone quote is an ordinary character; Last.fm-1K has thousands of them.
    quotes = data.count(b'"')
    quoted = quotes > 0 and not literal and not (cut.separator == "\t" and quotes % 2 == 1)
    if quoted and quotes % 2 == 1:
        _check_quotes(data, cut.separator, where)
    if quoted and _blank_after_separators(data, cut):
        mark = cut.separator.encode()
        data = re.sub(re.escape(mark) + rb' +"', mark + b'"', data)
    counts: Counter[str] = Counter()

    def load(names: Sequence[str], ids: Collection[str]) -> pl.DataFrame:
        counts.clear()
        categories = ids if len(data) > _LONG_TEXT and not _is_ours(cut) else ()
        return _read_cells(data, where, cut, names, counts, quoted=quoted, ids=categories)

    sample = _read_cells(_first_rows(data), where, cut, cut.names, Counter(), quoted=quoted)
    shape = f"text cut at {_SEPARATOR_NAMES[cut.separator]}" + ("" if cut.header else ", without a header")
    return RawTable(shape, cut.names, cut.header, sample[:SAMPLE_ROWS], load, counts)


def _with_whole_header(data: bytes, cut: Cut) -> bytes:
    """Text whose header has as many cells as its rows, where those end with blank cells that it lacks."""
    blank = sum(name.startswith("(blank ") for name in cut.names)
    if not blank:
        return data
    end = data.find(b"\n") if b"\n" in data else len(data)
    return data[:end].rstrip(b"\r") + cut.separator.encode() * blank + data[end:]


def _blank_after_separators(data: bytes, cut: Cut) -> bool:
    """Whether a blank follows each separator of the header. Then quotation marks follow blanks too."""
    if not cut.header or cut.separator in "\t ":
        return False
    return sample_lines(data)[0].count(cut.separator + " ") == len(cut.names) - 1


def _without_lines(data: bytes, skipped: int) -> bytes:
    start = 0
    for _ in range(skipped):
        found = _LINE_BREAK.search(data, start)
        if found is None:
            break
        start = found.end()
    return data[start:]


def _first_rows(data: bytes) -> bytes:
    """The first rows of a text. If they end inside a quoted cell, that is closed early."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    sample = data[:_SAMPLE_BYTES]
    sample = sample[: sample.rindex(b"\n") + 1] if b"\n" in sample else sample
    return sample if sample.count(b'"') % 2 == 0 else sample[: sample.rindex(b'"')] + b'"'


def _read_cells(
    data: bytes,
    where: str,
    cut: Cut,
    names: Sequence[str],
    counts: Counter[str],
    *,
    quoted: bool,
    ids: Collection[str] = (),
) -> pl.DataFrame:
    """The columns ``names`` as text, those in ``ids`` as categories. Empty cells are null; rows of another
    width are skipped, and counted in ``counts``.

    Raises InputError if the text cannot be cut.
    """

    def misshapen(row: pyarrow.csv.InvalidRow) -> Literal["skip"]:
        if row.text is None or row.text.strip(f"{cut.separator} \t\r\n"):
            counts[_TOO_FEW if row.actual_columns < row.expected_columns else _TOO_MANY] += 1
        return "skip"

    columns = [f"c{number}" for number in range(len(cut.names))]
    wanted = [columns[cut.names.index(name)] for name in names]
    # A block must hold the longest row.
    block = _SHORTEST_BLOCK
    if len(data) >= block:
        block = max(block, longest_line(data) + 1)
    categories = pa.dictionary(pa.int32(), pa.large_string())
    kinds = {
        column: categories if name in ids else pa.large_string()
        for column, name in zip(wanted, names, strict=True)
    }
    try:
        stream = pyarrow.csv.open_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(column_names=columns, block_size=block, use_threads=False),
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
    if _is_ours(cut):
        frame = frame.with_columns(pl.col(pl.String).str.replace(MARKED, "${1}"))
    return frame[int(cut.header) :].rename(dict(zip(frame.columns, names, strict=True)))


def _is_ours(cut: Cut) -> bool:
    return set(cut.names) >= _OURS


def _check_quotes(data: bytes, separator: str, where: str) -> None:
    """Raise InputError if a quotation mark is never closed: all rows after it would become one cell."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator, strict=True)
    row = 1
    try:
        for _ in reader:
            row = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where}: a quotation mark in row {row} is never closed; close it") from error
