"""The operations on entries of a matrix agree with what numpy says of the dense one."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph import csr
from tunegraph_pipeline.graph.csr import column_counts, found_in, offsets_of, only, rows_of, shuffled_rows

MATRIX = csr_matrix(np.array([[0, 2, 3], [0, 0, 0], [4, 0, 5], [6, 7, 8]], dtype=np.float32))


def test_entries_keep_their_place_and_rows_theirs() -> None:
    rows, columns = MATRIX.toarray().nonzero()
    assert rows_of(MATRIX).tolist() == rows.tolist()
    even = only(MATRIX, MATRIX.data % 2 == 0)
    expected = np.where(MATRIX.toarray() % 2 == 0, MATRIX.toarray(), 0)
    assert np.array_equal(even.toarray(), expected)
    assert (even.nnz, even.shape, even.dtype) == (4, MATRIX.shape, MATRIX.dtype)
    assert MATRIX.nnz == len(columns) == 7


def test_columns_are_counted_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 3, 100):
        monkeypatch.setattr(csr, "_ENTRIES_A_BLOCK", size)
        assert column_counts(MATRIX.indices, 4).tolist() == [2, 2, 3, 0]


def test_every_row_is_shuffled_by_itself() -> None:
    seen = set()
    for seed in range(400):
        order, place = shuffled_rows(MATRIX, np.random.default_rng(seed))
        assert rows_of(MATRIX)[order].tolist() == rows_of(MATRIX).tolist()
        assert place.tolist() == [0, 1, 0, 1, 0, 1, 2]
        seen.add(tuple(order.tolist()))
    assert len(seen) == 2 * 2 * 6


def test_offsets_begin_at_0_and_end_at_the_total() -> None:
    assert offsets_of(np.array([2, 0, 2, 3])).tolist() == MATRIX.indptr.tolist()
    assert offsets_of(np.zeros(0, dtype=np.int64)).tolist() == [0]


def test_what_is_among_others_is_found_in_any_shape() -> None:
    values = np.array([[1, 5], [9, 0]])
    assert found_in(values, np.array([0, 1, 4, 6])).tolist() == [[True, False], [False, True]]
    assert not found_in(values, np.zeros(0, dtype=np.int64)).any()
