"""The order of lists: for each like of the like graph, how many likes of the same user are newer.

Here: ages from times and positions, and which held-out likes were added after others that are known. Not
here: the likes themselves (`like_graph`), or reading them from a lake (`pipeline.like_ages`).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.graph.csr import rows_of
from tunegraph_pipeline.lake.arrays import UInt16
from tunegraph_pipeline.lake.schemas import EARLIEST

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_AGE = 2**16 - 1
_GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 are spread evenly
MOST_MOMENTS = 4096
"""So many moments are enough to choose by, and take seconds."""


def ages_of_lists(likes: pl.DataFrame) -> UInt16:
    """The age of each like, in the order of ``user`` and ``track``, integers: uint16[distinct pairs].

    ``likes`` have user, track, liked_at and position, whole lists of users. A like is newer than another of
    the same user if its time is later; of equal times, if its position is larger. One without a time is older
    than all with one, and so for positions. So in a list without either all are of age 0. Of several rows of
    a pair the earliest counts. Ages stop at `MOST_AGE`.
    """
    rows = likes.sort("user", "track", *EARLIEST, nulls_last=True).unique(
        ["user", "track"], keep="first", maintain_order=True
    )
    least = np.iinfo(np.int64).min
    keys = (rows[name].to_physical().cast(pl.Int64).fill_null(least).to_numpy() for name in EARLIEST)
    return _ages(rows["user"].to_numpy(), *keys)


def ages_within(likes: "csr_matrix", newness: NDArray[np.float64]) -> UInt16:
    """The age of each of some likes, csr U x N, among those of the same user: how many have a larger
    ``newness``, float64[nnz] in their order; NaN is below all numbers."""
    return _ages(rows_of(likes), np.nan_to_num(newness, nan=-np.inf))


def _ages(users: NDArray[Any], *keys: NDArray[Any]) -> UInt16:
    """For each entry, how many of the same user are larger, by the first key and then by the next."""
    if not len(users):
        return np.zeros(0, dtype=np.uint16)
    order = np.lexsort((*keys[::-1], users))
    other_user, *others = (one[order][1:] != one[order][:-1] for one in (users, *keys))
    ages = np.empty(len(order), dtype=np.int64)
    ages[order] = _ends(other_user) - _ends(np.logical_or.reduce([other_user, *others]))
    return np.minimum(ages, MOST_AGE).astype(np.uint16)


def _ends(changes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each of n entries, where its group ends, given the n - 1 places at which one follows another."""
    ends = np.append(np.flatnonzero(changes) + 1, len(changes) + 1)
    return np.repeat(ends, np.diff(ends, prepend=0))


class OrderedRows(NamedTuple):
    """Moments in lists whose order is known: what was liked before, and what was liked next.

    ``context``: csr float32, m x N, whose values are 1 + the age of each like at that moment; ``targets``:
    csr float32 ones, m x N; ``others``: csr, m x N, the other likes of the user, which are not to be ranked;
    ``users``: int64[m], whose list it is, ascending.
    """

    context: "csr_matrix"
    targets: "csr_matrix"
    others: "csr_matrix"
    users: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64]) -> "OrderedRows":
        """The moments of these rows alone."""
        return OrderedRows(self.context[rows], self.targets[rows], self.others[rows], self.users[rows])


def moments_of(
    likes: "csr_matrix",
    ages: UInt16,
    asked: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    most: int = MOST_MOMENTS,
) -> OrderedRows:
    """At most ``most`` moments, evenly spaced: one for each like that is ``asked`` for and has older ones.

    ``likes`` csr U x N; ``ages`` uint16, ``asked`` and ``hidden`` bool, each of its length, in its order. The
    context of a like are those of the same user that are older, without ``hidden`` ones; and without a few of
    the newest, up to a fifth, spread evenly over the moments: what comes next are the next songs, as where
    the last fifth of a list is to be found, and not the next one alone. The others are all other likes.
    """
    from scipy.sparse import csr_matrix

    users, starts = rows_of(likes), likes.indptr
    oldest = np.zeros(likes.shape[0], dtype=np.int64)
    open_likes = np.where(hidden, -1, ages.astype(np.int64))
    np.maximum.at(oldest, users, open_likes)
    places = np.flatnonzero(asked & (ages < oldest[users]))
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).astype(np.int64)]
    parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
    rest: list[NDArray[np.int32]] = []
    for number, place in enumerate(places.tolist()):
        whole = slice(starts[users[place]], starts[users[place] + 1])
        of_list, tracks = ages[whole].astype(np.int64), likes.indices[whole]
        older = np.flatnonzero((of_list > ages[place]) & ~hidden[whole])
        newest_first = older[np.argsort(of_list[older], kind="stable")]
        context = np.sort(newest_first[int(number * _GOLDEN % 1 * (len(older) // 5 + 1)) :])
        known = np.sort(of_list[context])
        parts.append((tracks[context], (1 + np.searchsorted(known, of_list[context])).astype(np.float32)))
        others = np.ones(len(tracks), dtype=np.bool_)
        others[context] = False
        rest.append(tracks[others & (tracks != likes.indices[place])])
    shape = (len(places), likes.shape[1])

    def matrix(columns: list[NDArray[np.int32]], values: list[NDArray[np.float32]]) -> "csr_matrix":
        indptr = np.cumsum([0, *map(len, columns)])
        joined = np.concatenate([np.zeros(0, np.int32), *columns])
        return csr_matrix((np.concatenate([np.zeros(0, np.float32), *values]), joined, indptr), shape=shape)

    targets = [likes.indices[place : place + 1] for place in places.tolist()]
    return OrderedRows(
        matrix([columns for columns, _ in parts], [values for _, values in parts]),
        matrix(targets, [np.ones(1, dtype=np.float32)] * len(targets)),
        matrix(rest, [np.ones(len(one), dtype=np.float32) for one in rest]),
        users[places].astype(np.int64),
    )
