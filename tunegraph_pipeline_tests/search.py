"""A search of a whole lake for a text: what the tests of forgetting mean by "nothing is left"."""

import gzip
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq


def places_with(root: Path, text: str) -> list[str]:
    """Every file below ``root``, hidden ones included, that holds ``text`` in its name, its bytes, decoded
    parquet, or the values of an SQLite file, decompressed where they are compressed."""
    wanted = text.encode()
    found = []
    for path in sorted(root.rglob("*")):
        if wanted in path.name.encode() or (
            path.is_file() and any(wanted in said for said in _said_in(path))
        ):
            found.append(str(path.relative_to(root)))
    return found


def _said_in(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    yield from _decompressed(data)
    if path.suffix == ".parquet":
        table = pq.read_table(path, partitioning=None)
        for column in table.columns:
            if not pa.types.is_nested(column.type):
                yield "\n".join(str(value) for value in column.unique().to_pylist()).encode()
            else:
                yield repr(column.to_pylist()).encode()
        yield repr(table.schema.metadata).encode()
    if data.startswith(b"SQLite format 3\0"):
        yield from _values_of(path)


def _values_of(database: Path) -> Iterator[bytes]:
    # In a copy with its journal: one that was not closed is recovered when it is opened.
    with TemporaryDirectory() as folder:
        for path in database.parent.glob(f"{database.name}*"):
            copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / database.name)) as db:
            for (table_name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f'SELECT * FROM "{table_name}"'):
                    for value in row:
                        said = value if isinstance(value, bytes) else str(value).encode(errors="replace")
                        yield said
                        yield from _decompressed(said)


def _decompressed(data: bytes) -> Iterator[bytes]:
    with suppress(zlib.error):
        yield zlib.decompress(data)
    with suppress(OSError, EOFError, zlib.error):
        yield gzip.decompress(data)
    with suppress(OSError, pa.ArrowInvalid):
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            yield pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
