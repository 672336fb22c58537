"""Columns of ids in one Unicode form (`ids.composed`).

Here: composing the ids of rows, and asking whether a file has others, as those of earlier versions may. Not
here: single ids (`ids`), or when a file is written again (`raw`, `lake`, `daily`).
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.lake.parquet import read_rows

_IDS = ("user_id", "discovered_from", "track_id")


def composed_ids(ids: pl.Series) -> pl.Series:
    """A column of text with its ids composed; nulls stay."""
    written = ids.filter(ids.str.len_bytes() != ids.str.len_chars()).unique()  # beyond ASCII
    return ids.replace(written, written.str.normalize("NFC")) if len(written) else ids


def compose_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of raw or daily tables with their ids of users and tracks composed."""
    rows = rows.with_columns(composed_ids(rows[name]) for name in _IDS if name in rows.columns)
    if "shown" in rows.columns:
        rows = rows.with_columns(pl.col("shown").list.eval(pl.element().str.normalize("NFC")))
    return rows


def has_other_forms(path: Path, names: Sequence[str]) -> bool:
    """Whether a parquet file with the columns ``names`` has ids that are not composed. Raises
    `parquet.UNREADABLE`."""
    columns = [name for name in _IDS if name in names]
    if not columns:
        return False
    rows = read_rows(path, columns, lambda _schema: None)
    return not compose_ids(rows).equals(rows)
