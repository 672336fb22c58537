"""Small operations on the stored entries of CSR matrices.

Here: what several rooms do with the entries of a matrix, row after row. Not here: what a matrix means.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ENTRIES_A_BLOCK = 1 << 22
_MOST_INT32 = 2**31 - 1


def rows_of(matrix: "csr_matrix") -> NDArray[np.int64]:
    """The row of each entry, int64[nnz]."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def column_counts(columns: NDArray[np.int32], n_columns: int) -> NDArray[np.int64]:
    """How often each column is among ``columns``, int64[n_columns]. Memory does not grow with these."""
    counts = np.zeros(n_columns, dtype=np.int64)
    for start in range(0, len(columns), _ENTRIES_A_BLOCK):
        counts += np.bincount(columns[start : start + _ENTRIES_A_BLOCK], minlength=n_columns)
    return counts


def index_type(matrix: "csr_matrix") -> "np.dtype[Any]":
    """The dtype for the indices of a matrix and of products with it: int32 as long as it counts all entries,
    since that is faster, else int64."""
    return np.dtype(np.int32 if matrix.nnz <= _MOST_INT32 else np.int64)


def lists_of(matrix: "csr_matrix") -> list[NDArray[np.int32]]:
    """The columns of the entries of each row."""
    return [matrix.indices[start:end] for start, end in pairwise(matrix.indptr.tolist())]


def only(matrix: "csr_matrix", keep: NDArray[np.bool_]) -> "csr_matrix":
    """A new matrix of the same shape with the entries for which ``keep`` bool[nnz] is true."""
    from scipy.sparse import csr_matrix

    indptr = np.concatenate(([0], np.cumsum(keep)))[matrix.indptr]
    return csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def over_columns(matrix: "csr_matrix", columns: NDArray[np.int64]) -> "csr_matrix":
    """The same entries in a matrix of ``columns`` alone, ascending, among which all of theirs are."""
    from scipy.sparse import csr_matrix

    places = np.searchsorted(columns, matrix.indices)
    return csr_matrix((matrix.data, places, matrix.indptr), shape=(matrix.shape[0], len(columns)))


def shuffled_rows(
    matrix: "csr_matrix", rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The entries row after row, shuffled within each row, int64[nnz], and the place each then has in its
    row, int64[nnz] from 0: the entries at a place below n are a random choice of n from each row."""
    rows = rows_of(matrix)
    return np.lexsort((rng.random(matrix.nnz), rows)), np.arange(matrix.nnz) - matrix.indptr[rows]


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows of these lengths begin, end to end, and where the last one ends: int64[n+1]."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)))


def found_in(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``values`` are among ``ascending``, of the shape of ``values``; by bisection."""
    if not len(ascending):
        return np.zeros(values.shape, dtype=np.bool_)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found
