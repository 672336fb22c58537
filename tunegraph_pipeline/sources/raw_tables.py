"""A table of cells whose columns have no meaning yet, and how parquet and JSON become one.

Here: `RawTable`, and tables from parquet, JSON lines, and records or columns in memory. Not here: delimited
text (`delimited_text`), spreadsheets (`spreadsheets`), or what a column means (`columns`).
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import NestingError, check_nesting
from tunegraph_pipeline.sources.content import parse_json
from tunegraph_pipeline.sources.limits import beyond, check_lines, check_unpacked, limits

SAMPLE_ROWS = 500
PREAMBLE_LINES = 30
"""A header is looked for in so many of the first lines."""


@dataclass
class RawTable:
    """A table whose columns have no meaning yet.

    ``names`` are its distinct columns; without a ``header`` they are numbered from "1". ``sample`` holds the
    first rows. ``load(names, ids)`` reads all rows of the columns ``names``; those also in ``ids`` may be
    categories, to save memory. ``shape`` says in words how the file was cut, and ``counts`` which rows
    loading skipped.
    """

    shape: str
    names: list[str]
    header: bool
    sample: pl.DataFrame
    load: Callable[[Sequence[str], Collection[str]], pl.DataFrame]
    counts: Counter[str] = field(default_factory=Counter)

    def sample_of(self, name: str) -> list[str]:
        """The sample's cells of a column as text, without blank ones; none for a column of lists."""
        cells = self.sample[name].drop_nulls()
        if cells.dtype.is_nested():
            return []
        texts = (str(cell).strip() for cell in cells.to_list())
        return [text for text in texts if text]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Column names without blanks or quotes around them; the second ``name`` becomes ``name (2)``."""
    seen: Counter[str] = Counter()
    distinct = []
    for written in names:
        name = re.sub(r"\s+", " ", written).strip().strip('"').strip()
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def table_of_frame(rows: pl.DataFrame, shape: str) -> RawTable:
    """A table of rows that are in memory already."""
    return RawTable(shape, rows.columns, True, rows[:SAMPLE_ROWS], lambda names, _ids: rows.select(names))


_DAMAGED = (
    OSError,
    ValueError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)
_VALUE_BYTES = 16
"""What a value of parquet takes in memory, at least."""
_PACKED_VALUE_BYTES = 4
"""What a value is taken to be unpacked, to judge how tightly a file is packed."""


def parquet_table(data: bytes, where: str) -> RawTable:
    """The table of a parquet file. Raises InputError if it is damaged, or beyond the limits by what it claims
    or by what is read of it."""
    _check_claims(data, where)

    def read(names: Sequence[str] | None, rows: int | None) -> pl.DataFrame:
        try:
            # By Arrow, since polars panics over a damaged file, and a panic prints a traceback.
            frame = _frame(pq.ParquetFile(io.BytesIO(data)), names, rows)
        except _DAMAGED as error:
            raise InputError(f"{where} is a truncated or damaged parquet file; fetch it again") from error
        _check_cells(frame, where)
        return frame

    sample = read(None, SAMPLE_ROWS)
    return RawTable(
        "parquet", sample.columns, True, sample, lambda names, _ids: read(names, None).select(names)
    )


def _frame(file: pq.ParquetFile, names: Sequence[str] | None, rows: int | None) -> pl.DataFrame:
    """The columns ``names``, or all, of a file: the first ``rows``, or all."""
    columns = None if names is None else list(names)
    if rows is None:
        table = file.read(columns)
    else:
        batches = [*islice(file.iter_batches(rows, columns=columns), 1)]
        table = pa.Table.from_batches(batches, None if batches else file.schema_arrow)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_claims(data: bytes, where: str) -> None:
    """Raise InputError for a parquet file whose footer claims more than the limits allow: a run or a
    dictionary makes a million rows of a few bytes."""
    try:
        footer = pq.read_metadata(io.BytesIO(data))
        chunks = [
            footer.row_group(group).column(column)
            for group in range(footer.num_row_groups)
            for column in range(footer.num_columns if footer.num_columns <= limits().columns else 0)
        ]
        values = sum(chunk.num_values for chunk in chunks)
        unpacked = max(sum(chunk.total_uncompressed_size for chunk in chunks), _PACKED_VALUE_BYTES * values)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{where} is a truncated or damaged parquet file; fetch it again") from error
    if footer.num_columns > limits().columns:
        raise beyond(where, "columns", "columns")
    if footer.num_rows > limits().rows:
        raise beyond(where, "rows", "rows")
    check_unpacked(where, len(data), unpacked)
    if values * _VALUE_BYTES > limits().file_bytes:
        raise beyond(where, "file_bytes", "bytes as a table")


def _check_cells(frame: pl.DataFrame, where: str) -> None:
    """Raise InputError for texts that are longer, or more in all, than the limits allow: rows may share one
    text in a file, and each gets its own when it is cleaned."""
    total = 0
    for column in frame.iter_columns():
        flat = column.explode() if isinstance(column.dtype, pl.List | pl.Array) else column
        if flat.dtype == pl.String:
            lengths = flat.str.len_bytes()
            total += int(lengths.sum())
            if (lengths > limits().line_bytes).any():
                raise beyond(where, "line_bytes", "bytes in one cell")
    if total > limits().file_bytes:
        raise beyond(where, "file_bytes", "bytes as a table")


def lines_of_json(data: bytes, where: str) -> RawTable:
    """The table of one JSON object per line.

    Raises InputError for a line that is no object, a column whose type changes, or more than the limits
    allow.
    """
    check_lines(data, where)
    try:
        check_nesting(data, limits().levels)
    except NestingError as error:
        raise _bad_line(data, where, error) from error
    try:
        sample = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None, n_rows=SAMPLE_ROWS)
    except pl.exceptions.PolarsError as error:
        raise _bad_line(data, where, error) from error
    if sample.width > limits().columns:
        raise beyond(where, "columns", "columns")

    def load(names: Sequence[str], _ids: Collection[str]) -> pl.DataFrame:
        # An id may be a number on one line and text on the next; read as text, each stays as written.
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


class TooWideError(Exception):
    """Records with more names than a table may have columns."""


def table_of_records(records: Sequence[Mapping[str, Any]], shape: str) -> RawTable:
    """A table of parsed objects. Cells are text or lists of text; other nested values become null. Raises
    TooWideError."""
    columns: dict[str, list[Any]] = {}
    for number, record in enumerate(records):
        for name, value in record.items():
            if name not in columns and len(columns) == limits().columns:
                raise TooWideError
            columns.setdefault(str(name), [None] * len(records))[number] = _cell(value)
    frame = pl.DataFrame({name: _series(name, values) for name, values in columns.items()})
    return table_of_frame(frame, shape)


def table_of_columns(columns: Mapping[str, Sequence[Any]], shape: str) -> RawTable:
    """A table of one list per column, all of one length. Cells are text, as in `table_of_records`."""
    frame = {name: _series("", [_cell(value) for value in values]) for name, values in columns.items()}
    return table_of_frame(pl.DataFrame(frame), shape)


def _cell(value: object) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    return None if value is None or isinstance(value, dict | list) else str(value)


def _series(name: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        return pl.Series(name, lists, dtype=pl.List(pl.String))
    return pl.Series(name, values, dtype=pl.String)
