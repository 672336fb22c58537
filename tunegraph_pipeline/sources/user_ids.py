"""The users that a file lists, for commands that ask about many at once.

Here: one column of ids. Not here: files of likes (`files`), or what a column of users is called (`columns`).
"""

from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import COLUMN_NAMES
from tunegraph_pipeline.sources.content import as_utf8, read_content
from tunegraph_pipeline.sources.limits import check_lines
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.raw_tables import parquet_table

_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"


def read_user_ids(path: Path, user_column: str | None = None) -> pl.Series:
    """The distinct ids of a file in their order, as ``user_id``: integers if all are, else text.

    The file is parquet, or text with or without a header, compressed or not. Of several columns it is the one
    named ``user_column``, or else like a user. Raises InputError if the file is unreadable or the column
    unclear.
    """
    table = _read_table(path, user_column)
    name = _user_column(table.columns, user_column)
    if name is None and (table.width > 1 or user_column is not None):
        raise InputError(
            f"{path} has columns {shown(table.columns)}, none known to hold users; name it with --user-column"
        )
    ids = table[name or table.columns[0]].drop_nulls().unique(maintain_order=True).alias("user_id")
    if ids.dtype == pl.String and ids.str.contains(_WHOLE_NUMBER).all():
        numbers = ids.cast(pl.Int64, strict=False)
        ids = ids if numbers.has_nulls() else numbers  # ids beyond 64 bits stay text
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise InputError(f"{path}: column {name} holds {ids.dtype}, and ids are text or whole numbers")
    return ids


def _read_table(path: Path, user_column: str | None) -> pl.DataFrame:
    data = read_content(path).data
    is_parquet = data.startswith(b"PAR1")
    data = data if is_parquet else as_utf8(data, str(path)).data
    if is_parquet:
        table = parquet_table(data, str(path))
        return table.load(table.names, ())
    check_lines(data, str(path))
    try:
        first = data.split(b"\n", 1)[0].decode()
        separator = next((mark for mark in "\t;," if mark in first), ",")
        header = _user_column(first.strip().split(separator), user_column) is not None
        return pl.read_csv(data, separator=separator, has_header=header, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a table of user ids ({error}); give parquet, CSV or TSV") from error


def _user_column(columns: list[str], named: str | None) -> str | None:
    if named is not None:
        return named if named in columns else None
    known = {letters(column): column for column in columns}
    return next((known[name] for name in COLUMN_NAMES["user_id"] if name in known), None)
