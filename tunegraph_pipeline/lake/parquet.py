"""Write a parquet file, and read it, or report in one way that it cannot be read, whatever the damage.

Here: a file's rows and metadata, and its seal (`seals`). Not here: which columns a file must have (`raw`,
`tables`).

A file of an earlier version has no seal. Its pages carry checksums, but its footer does not: a flipped bit
there may show as anything, such as a name that is not text, or a file without rows.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tunegraph_pipeline.lake.seals import check_footer, check_parquet, seal_parquet

UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)
"""What the functions here raise where a file cannot be read; invalid UTF-8 is a ValueError."""
_ARROW_SCHEMA = b"ARROW:schema"
"""The key of Arrow's own metadata, beside that of a file."""
BLOCK_ROWS = 1_000_000
"""How many rows are in memory at a time where a file is read or copied in blocks."""
GROUP_ROWS = 1 << 17
"""How many rows are in a row group, of which a reader that wants some users skips those before them."""


def write_rows(table: pa.Table, path: Path) -> None:
    """Write a file, with its seal, that nobody reads yet."""
    pq.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd", write_page_checksum=True)
    seal_parquet(path)


class RowWriter:
    """Writes a file of this ``schema`` a block of rows at a time, with its seal; use it in a ``with`` block.
    ``facts`` may be set until its end."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.facts: dict[str, str] = {}
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)

    def append(self, rows: pa.Table) -> None:
        if len(rows):
            self._writer.write_table(rows, row_group_size=GROUP_ROWS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            self._writer.add_key_value_metadata(self.facts)
        self._writer.close()
        if failed is None:
            seal_parquet(self._path)


def read_rows(path: Path, columns: list[str] | None, check: Callable[[pa.Schema], None]) -> pl.DataFrame:
    """The rows of a file, of all columns or of ``columns``. ``check`` is called with the schema of the whole
    file first, and raises where it is wrong. Raises UNREADABLE."""
    check_parquet(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        check(file.schema_arrow)
        table = file.read(columns=columns)
        if len(table) != file.metadata.num_rows:
            raise ValueError(f"it holds {len(table):,} rows and declares {file.metadata.num_rows:,}")
    frame = as_frame(table)
    return frame if columns is None else frame.select(columns)


def read_with_added(
    path: Path,
    empty: pl.DataFrame,
    added: Collection[str],
    columns: list[str] | None,
    check: Callable[[pa.Schema], None],
) -> pl.DataFrame:
    """The same of a file that may lack the columns ``added``, which are null then; ``empty`` has all columns.
    Raises UNREADABLE."""
    # Which of the added columns a file has is not known before it is opened.
    asked = None if columns is None or not set(columns).isdisjoint(added) else columns
    rows = read_rows(path, asked, check)
    if not added or asked is not None:
        return rows
    return pl.concat([empty, rows], how="diagonal").select(columns or empty.columns)


def as_frame(table: pa.Table) -> pl.DataFrame:
    """The same rows for polars, which panics over a field whose metadata is not text."""
    frame = pl.from_arrow(table.cast(pa.schema(_columns(table.schema))))
    assert isinstance(frame, pl.DataFrame)
    return frame


def read_blocks(
    path: Path, columns: list[str] | None = None, rows: int = BLOCK_ROWS, after: tuple[str, str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a file, of all columns or of ``columns``, a block at a time. Raises UNREADABLE.

    ``after``, a column by which the file is sorted and a value, leaves out row groups up to that value. Then
    the seal, which is that of the whole file, is not compared; the checksums of its pages are.
    """
    if after is None:
        check_parquet(path)
    # Without a buffer, Arrow reads all of a row group at once.
    buffer = 0 if rows >= BLOCK_ROWS else 1 << 16
    with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=buffer) as file:
        groups = [*range(file.metadata.num_row_groups)]
        if after is not None:
            groups = groups[_groups_up_to(file, *after) :]
        for block in file.iter_batches(rows, row_groups=groups, columns=columns):
            yield pa.Table.from_batches([block])


def _groups_up_to(file: pq.ParquetFile, column: str, value: str) -> int:
    """How many of the first row groups have no row after ``value``."""
    largest = group_maxima(file.metadata, column)
    return next((number for number, last in enumerate(largest) if last is None or last > value), len(largest))


def group_maxima(footer: pq.FileMetaData, column: str) -> list[str | None]:
    """The largest value of a column in each row group that has rows, None where the file does not say."""
    place = footer.schema.names.index(column)
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    chunks = (group.column(place).statistics for group in groups)
    return [chunk.max if chunk is not None and chunk.has_min_max else None for chunk in chunks]


def copy_rows(
    source: Path,
    target: Path,
    kept: Callable[[pa.Table], pa.Table],
    facts: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write those rows of a file that ``kept`` leaves of a block of them into ``target``, a block at a time,
    without a seal; with the metadata ``facts`` in place of that of the file. Raises UNREADABLE."""
    schema = pq.read_schema(source).with_metadata(dict(read_metadata(source) if facts is None else facts))
    with pq.ParquetWriter(target, schema, compression="zstd", write_page_checksum=True) as writer:
        for block in read_blocks(source):
            writer.write_table(kept(block).cast(schema), row_group_size=BLOCK_ROWS)


def count_values(path: Path, column: str) -> Counter[str]:
    """How often each value of a column of text is in a file, nulls left out. Raises UNREADABLE."""
    found: Counter[str] = Counter()
    for block in read_blocks(path, [column]):
        values = pl.Series(block.column(0)).drop_nulls().value_counts()
        found.update(dict(values.iter_rows()))
    return found


def check_columns(path: Path, declared: pa.Schema, added: Collection[str] = ()) -> int:
    """Compare the footer of a file with the columns it must have, but for ``added`` that it may lack; returns
    how many rows it declares.

    A writer such as DuckDB marks every column as nullable: what counts is that no null was written. Raises
    ValueError where a name or type differs, or a column that must not has nulls, and UNREADABLE.
    """
    with pq.ParquetFile(path) as file:
        schema, footer = file.schema_arrow, file.metadata
        declared = without_missing(declared, added, schema)
        if not same_columns(schema, declared):
            raise ValueError(f"its columns are {_in_words(schema)}; they must be {_in_words(declared)}")
        for index, column in enumerate(declared):
            if column.nullable:
                continue
            groups = map(footer.row_group, range(footer.num_row_groups))
            chunks = [group.column(index) for group in groups if group.num_rows]
            if any(chunk.statistics is None or chunk.statistics.null_count != 0 for chunk in chunks):
                raise ValueError(f"its column {column.name} has nulls, or does not say that it has none")
    return int(footer.num_rows)


def without_missing(declared: pa.Schema, added: Collection[str], schema: pa.Schema) -> pa.Schema:
    """The declared columns without those of ``added`` that ``schema`` lacks."""
    return pa.schema([one for one in declared if one.name not in added or one.name in schema.names])


def same_columns(schema: pa.Schema, declared: pa.Schema) -> bool:
    """Whether two schemas have the same names and types, whatever they say of nulls."""
    return _columns(schema) == _columns(declared)


def _columns(schema: pa.Schema) -> list[tuple[str, Any]]:
    return [(field.name, _plain(field.type)) for field in schema]


def _in_words(schema: pa.Schema) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in _columns(schema))


def _plain(kind: Any) -> Any:
    """The type without names and metadata inside lists; polars writes large ones, which hold the same."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """The metadata a file was written with. Raises UNREADABLE."""
    facts = read_footer(path).metadata or {}
    return {key: value for key, value in facts.items() if key != _ARROW_SCHEMA}


def count_rows(path: Path) -> int:
    """How many rows a file declares. Raises UNREADABLE."""
    return int(read_footer(path).num_rows)


def read_footer(path: Path) -> pq.FileMetaData:
    """What a file says of its rows. Raises UNREADABLE."""
    check_footer(path)
    return pq.read_metadata(path)
