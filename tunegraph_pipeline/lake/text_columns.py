"""Columns of text between arrays and tables, without a Python string for each.

Here: `StringColumn` to and from polars. Not here: the column itself (`arrays`), which needs numpy alone.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tunegraph_pipeline.lake.arrays import StringColumn


def as_series(column: StringColumn, name: str = "") -> pl.Series:
    """The strings of a column."""
    offsets, data = (pa.py_buffer(np.ascontiguousarray(part).data) for part in (column.offsets, column.bytes))
    series = pl.from_arrow(pa.LargeStringArray.from_buffers(len(column), offsets, data))
    assert isinstance(series, pl.Series)
    return series.alias(name)


def as_column(series: pl.Series) -> StringColumn:
    """The column of the strings of a series. Raises ValueError where one is null."""
    if series.null_count():
        raise ValueError(f"{series.null_count()} of the strings of {series.name!r} are null")
    array: Any = series.cast(pl.String).rechunk().to_arrow().cast(pa.large_string())
    if not len(array):
        return StringColumn.from_strings([])
    _, offsets, data = (None if part is None else memoryview(part) for part in array.buffers())
    assert offsets is not None
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(b"" if data is None else data, dtype=np.uint8)[bounds[0] : bounds[-1]]
    return StringColumn(text, bounds - bounds[0])
