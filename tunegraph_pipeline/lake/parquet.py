"""Write a parquet file, and read it, or report in one way that it cannot be read, whatever the damage.

Here: a file's rows and metadata, and its seal (`seals`). Not here: which columns a file must have (`raw`,
`tables`).

A file of an earlier version has no seal. Its pages carry checksums, but its footer does not: a flipped bit
there may show as anything, such as a name that is not text, or a file without rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tunegraph_pipeline.lake.seals import check_footer, check_parquet, seal_parquet

UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)
"""What the functions here raise where a file cannot be read; invalid UTF-8 is a ValueError."""
BLOCK_ROWS = 1_000_000
"""How many rows are in memory at a time where a file is read or copied in blocks."""


def write_rows(table: pa.Table, path: Path) -> None:
    """Write a file, with its seal, that nobody reads yet."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    seal_parquet(path)


def write_row_groups(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """The same of several tables of this schema, each a row group or more, one in memory at a time."""
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=BLOCK_ROWS)
    seal_parquet(path)


def read_rows(path: Path, columns: list[str] | None, check: Callable[[pa.Schema], None]) -> pl.DataFrame:
    """The rows of a file, of all columns or of ``columns``. ``check`` is called with the schema of the whole
    file first, and raises where it is wrong. Raises UNREADABLE."""
    check_parquet(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        check(file.schema_arrow)
        table = file.read(columns=columns)
        if len(table) != file.metadata.num_rows:
            raise ValueError(f"it holds {len(table):,} rows and declares {file.metadata.num_rows:,}")
    # Polars panics over a field whose metadata is not text.
    frame = pl.from_arrow(table.cast(pa.schema(_columns(table.schema))))
    assert isinstance(frame, pl.DataFrame)
    return frame if columns is None else frame.select(columns)


def read_blocks(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a file, of all columns or of ``columns``, a block at a time. Raises UNREADABLE."""
    check_parquet(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for block in file.iter_batches(BLOCK_ROWS, columns=columns):
            yield pa.Table.from_batches([block])


def copy_rows(
    source: Path,
    target: Path,
    kept: Callable[[pa.Table], pa.Table],
    facts: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write those rows of a file that ``kept`` leaves of a block of them into ``target``, a block at a time,
    without a seal; with the metadata ``facts`` in place of that of the file. Raises UNREADABLE."""
    schema = pq.read_schema(source)
    if facts is not None:
        schema = schema.with_metadata(dict(facts))
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


def check_columns(path: Path, declared: pa.Schema) -> int:
    """Compare the footer of a file with the columns it must have; returns how many rows it declares.

    A writer such as DuckDB marks every column as nullable: what counts is that no null was written. Raises
    ValueError where a name or type differs, or a column that must not has nulls, and UNREADABLE.
    """
    with pq.ParquetFile(path) as file:
        schema, footer = file.schema_arrow, file.metadata
        if not same_columns(schema, declared):
            raise ValueError(f"its columns are {_in_words(schema)}; they must be {_in_words(declared)}")
        for index, column in enumerate(declared):
            if column.nullable:
                continue
            groups = [footer.row_group(group).column(index) for group in range(footer.num_row_groups)]
            if any(chunk.statistics is None or chunk.statistics.null_count != 0 for chunk in groups):
                raise ValueError(f"its column {column.name} has nulls, or does not say that it has none")
    return int(footer.num_rows)


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
    check_footer(path)
    return dict(pq.read_schema(path).metadata or {})


def count_rows(path: Path) -> int:
    """How many rows a file declares. Raises UNREADABLE."""
    check_footer(path)
    return int(pq.read_metadata(path).num_rows)
