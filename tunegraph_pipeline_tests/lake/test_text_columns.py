"""Text goes between arrays and tables as it is."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.lake.text_columns import as_column, as_series


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(0, 5))
def test_text_comes_back_from_a_column_and_from_a_part_of_one(texts: list[str], start: int) -> None:
    series = pl.Series("id", texts, dtype=pl.String)
    column = as_column(series)
    expected = StringColumn.from_strings(texts)
    assert column.bytes.tobytes() == expected.bytes.tobytes()
    assert column.offsets.tolist() == expected.offsets.tolist()
    assert as_series(column, "id").equals(series)
    assert as_column(series[start:]).tolist() == texts[start:]
    assert as_column(pl.concat([series, series], rechunk=False)).tolist() == texts * 2


def test_what_is_missing_is_no_text() -> None:
    with pytest.raises(ValueError, match="1 of the strings of 'id' are null"):
        as_column(pl.Series("id", ["a", None]))
