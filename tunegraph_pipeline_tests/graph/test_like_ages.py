from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph.like_ages import MOST_AGE, ages_of_lists, moments_of
from tunegraph_pipeline_tests.conftest import examples

SCHEMA: dict[str, Any] = {
    "user": pl.Int64,
    "track": pl.Int64,
    "liked_at": pl.Datetime("us", "UTC"),
    "position": pl.Int32,
}
START = datetime(2026, 1, 1, tzinfo=UTC)

Rows = list[tuple[int, int, int | None, int | None]]


def ages(rows: Rows) -> list[int]:
    """The ages of likes given as user, track, day and position."""
    dated = [
        (user, track, None if day is None else START + timedelta(days=day), place)
        for user, track, day, place in rows
    ]
    found: list[int] = ages_of_lists(pl.DataFrame(dated, SCHEMA, orient="row")).tolist()
    return found


def test_ages_follow_times_then_positions_and_what_has_neither_is_oldest() -> None:
    assert ages([]) == []
    assert ages([(0, 5, None, None), (0, 7, None, None), (1, 5, None, None)]) == [0, 0, 0]
    assert ages([(0, 1, None, 2), (0, 2, None, 0), (0, 3, None, 1)]) == [0, 2, 1]
    assert ages([(0, 1, 3, None), (0, 2, 9, 0), (0, 3, 9, 1), (0, 4, None, 8), (0, 5, None, None)]) == [
        2, 1, 0, 3, 4,
    ]  # fmt: skip
    # As new as each other: both have two newer ones.
    assert ages([(0, 1, 1, None), (0, 2, 1, None), (0, 3, 2, None), (0, 4, 3, None)]) == [2, 2, 1, 0]
    # Two ids of one recording: the earliest counts.
    assert ages([(0, 1, 5, None), (0, 1, 1, None), (0, 2, 3, None)]) == [1, 0]


def test_ages_stop_where_two_bytes_do() -> None:
    n = MOST_AGE + 10
    rows = pl.DataFrame({"user": 0, "track": np.arange(n), "liked_at": None, "position": np.arange(n)[::-1]})
    found = ages_of_lists(rows.cast(pl.Schema(SCHEMA)))
    assert (found[0], found[1], found[-1]) == (0, 1, MOST_AGE)


rows_of_lists = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 6),
        st.none() | st.integers(0, 3),
        st.none() | st.integers(0, 3),
    ),
    max_size=25,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=examples(100))
@given(rows=rows_of_lists)
def test_the_age_is_the_number_of_newer_likes(rows: Rows) -> None:
    def key(row: tuple[int, int, int | None, int | None]) -> tuple[int, int]:
        return tuple(-1 if one is None else one for one in row[2:])  # type: ignore[return-value]

    expected = [sum(other[0] == row[0] and key(other) > key(row) for other in rows) for row in sorted(rows)]
    assert ages(rows) == expected


def test_a_moment_is_what_was_known_before_a_held_out_like() -> None:
    # Of the list 4, 1, 3, 0, 2, oldest first, 3 and 2 are held out, and asked for.
    likes = csr_matrix(np.ones((1, 5), dtype=np.float32))
    age = np.array([1, 3, 0, 2, 4], dtype=np.uint16)
    held_out = np.array([False, False, True, True, False])
    found = moments_of(likes, age, held_out, held_out, 10)
    # Before 3 came 4 and 1, of which 1 is the newer; before 2 also 0.
    by_target = {int(found.targets[row].indices[0]): row for row in range(2)}
    assert found.context[by_target[3]].toarray().ravel().tolist() == [0, 1, 0, 0, 2]
    assert found.context[by_target[2]].toarray().ravel().tolist() == [1, 2, 0, 0, 3]
    assert sorted(found.others[by_target[3]].indices.tolist()) == [0, 2]
    assert found.others[by_target[2]].indices.tolist() == [3]


def test_there_is_no_moment_where_nothing_is_older_or_the_list_has_no_order() -> None:
    likes = csr_matrix(np.ones((2, 3), dtype=np.float32))
    every = np.ones(6, dtype=np.bool_)
    age = np.array([0, 0, 0, 2, 1, 0], dtype=np.uint16)
    assert moments_of(likes, age, every, ~every, 10).targets.indices.tolist() == [1, 2]
    assert moments_of(likes, age, every, ~every, 1).targets.shape == (1, 3)
    assert moments_of(likes, age * 0, every, ~every, 10).targets.shape == (0, 3)


def test_of_longer_contexts_up_to_a_fifth_of_the_newest_is_left_out() -> None:
    # The newest of 21 likes is asked for in each of 50 lists: of the 20 before it, 0 to 4 are left out.
    likes = csr_matrix(np.ones((50, 21), dtype=np.float32))
    age = np.tile(np.arange(21)[::-1], 50).astype(np.uint16)
    found = moments_of(likes, age, age == 0, age == 0)
    lengths = np.diff(found.context.indptr)
    assert np.bincount(20 - lengths).tolist() == [11, 10, 10, 10, 9]
    for row, length in enumerate(lengths.tolist()):
        assert found.context[row].data.tolist() == list(range(length, 0, -1))
        assert found.context[row].indices.tolist() == list(range(length))
        assert found.others[row].indices.tolist() == list(range(length, 20))
