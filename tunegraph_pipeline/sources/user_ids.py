"""Read a file of user ids: a column of a table, or one id per line.

Here: finding that column and keeping its type, so that recommendations carry the caller's own ids. Not here:
files of likes (`files`).
"""

import io
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, letters, shown
from tunegraph_pipeline.sources.formats import read_content

_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"


def read_user_ids(path: Path, user_column: str | None = None) -> pl.Series:
    """The distinct ids of the file in their order, as ``user_id``; integers if it holds integers.

    Parquet, or text with or without a header, gzip or not; of several columns the one named like a user, or
    by ``user_column``. Raises InputError if the file is unreadable or the column unclear.
    """
    data = read_content(path)
    try:
        if data.startswith(b"PAR1"):
            table = pl.read_parquet(io.BytesIO(data))
        else:
            first = data.split(b"\n", 1)[0].decode()
            separator = next((mark for mark in "\t;," if mark in first), ",")
            header = _user_column(first.strip().split(separator), user_column) is not None
            table = pl.read_csv(data, separator=separator, has_header=header, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a table of user ids ({error}); give parquet, CSV or TSV") from error
    name = _user_column(table.columns, user_column)
    if name is None and (table.width > 1 or user_column is not None):
        raise InputError(
            f"{path} has columns {shown(table.columns)}, none known to hold users; name it with --user-column"
        )
    ids = table[name or table.columns[0]].drop_nulls().unique(maintain_order=True).alias("user_id")
    if ids.dtype == pl.String and ids.str.contains(_WHOLE_NUMBER).all():
        numbers = ids.cast(pl.Int64, strict=False)
        ids = ids if numbers.has_nulls() else numbers  # longer than 64 bits: they stay text
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise InputError(f"{path}: column {name} holds {ids.dtype}, and ids are text or whole numbers")
    return ids


def _user_column(columns: list[str], named: str | None) -> str | None:
    if named is not None:
        return named if named in columns else None
    known = {letters(column): column for column in columns}
    return next((known[name] for name in COLUMN_NAMES["user_id"] if name in known), None)
