"""Write a parquet file, and read it, or report in one way that it cannot be read, whatever the damage.

Here: a file's rows and metadata, and its seal (`seals`). Not here: which columns a file must have (`raw`,
`tables`).

A file of an earlier version has no seal. Its pages carry checksums, but its footer does not: a flipped bit
there may show as anything, such as a name that is not text, or a file without rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tunegraph_pipeline.lake.seals import check_footer, check_parquet, seal_parquet

UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)
"""What the functions here raise where a file cannot be read; invalid UTF-8 is a ValueError."""


def write_rows(table: pa.Table, path: Path) -> None:
    """Write a file, with its seal, that nobody reads yet."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
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
    plain = [(field.name, _plain(field.type)) for field in table.schema]
    frame = pl.from_arrow(table.cast(pa.schema(plain)))
    assert isinstance(frame, pl.DataFrame)
    return frame if columns is None else frame.select(columns)


def _plain(kind: Any) -> Any:
    """The type without names and metadata inside lists."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """The metadata a file was written with. Raises UNREADABLE."""
    check_footer(path)
    return dict(pq.read_schema(path).metadata or {})


def count_rows(path: Path) -> int:
    """How many rows a file declares. Raises UNREADABLE."""
    check_footer(path)
    return int(pq.read_metadata(path).num_rows)
