"""Rows of a CSR matrix, gathered at once.

Here: where their entries are. Not here: what a matrix means. numpy alone, for the query.
"""

import numpy as np
from numpy.typing import NDArray


def row_places(
    indptr: NDArray[np.int64], rows: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of the entries of these rows, concatenated, and the length of each row: int64.

    Gathering all at once costs less than one slice per row.
    """
    starts = indptr[rows]
    lengths = indptr[rows + 1] - starts
    ends = lengths.cumsum()
    places = np.arange(ends[-1] if ends.size else 0)
    places += (starts - ends + lengths).repeat(lengths)
    return places, lengths
