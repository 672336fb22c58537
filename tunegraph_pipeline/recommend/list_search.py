"""Searching the lists of an index for many queries at once, and the tracks that a search returns.

Here: arithmetic on vectors whose products are exact whole numbers. Not here: the index, its lists and its
queries (`index`).

A query alone reads every vector of its lists. Of thousands of queries hundreds look into the same list, so
one product of matrices has all of their products with it. A query has to keep the best of tens of thousands.
The last of as many in its few nearest lists is a bar that all of them reach, so of the others little is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIRST = 4  # lists that give the bar
_PRODUCTS = 1 << 17  # at a time, so that they stay in the cache

ReadList = Callable[[int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""The vectors of a list, float32[n, width] in whole numbers, and their tracks, int64[n]."""


class Found(NamedTuple):
    """The tracks with the highest inner products, highest first, of equal ones the smaller track first:
    int64[n] and float32[n]. No track that was not found has a product above ``bound``, in the lists that were
    searched. ``asked``: how many were wanted."""

    tracks: NDArray[np.int64]
    products: NDArray[np.float32]
    bound: float
    asked: int


def best_of(tracks: NDArray[np.int64], products: NDArray[np.float32], m: int, stretch: float) -> Found:
    """The best m of these, which are all there are or the best m + 1 and maybe more, with their products
    times ``stretch``. Those of the same product as the next one are left out: which of them come first
    depends on the order of a search."""
    order = np.lexsort((tracks, -products))
    tracks, products = tracks[order], products[order]
    bound = products[min(m, len(products) - 1)] if len(products) else np.float32(-np.inf)
    if len(products) > m:
        kept = int(np.count_nonzero(products > bound))
        tracks, products = tracks[:kept], products[:kept]
    factor = np.float32(stretch)
    return Found(tracks, products * factor, float(bound * factor), m)


def lists_reached(near: NDArray[np.float32], probes: int) -> NDArray[np.bool_]:
    """Which lists are searched, given the product of a query with the centre of each: the ``probes`` nearest,
    and those as near as the last of them."""
    if probes >= len(near):
        return np.ones(len(near), dtype=np.bool_)
    reached: NDArray[np.bool_] = near >= np.partition(near, -probes)[-probes]
    return reached


def search_lists(
    queries: NDArray[np.float32],
    near: NDArray[np.float32],
    probes: Sequence[int],
    wanted: Sequence[int],
    sizes: NDArray[np.int64],
    read: ReadList,
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """For each query tracks and products, in no order, among which are the best ``wanted`` and one more of
    its ``probes`` nearest lists, or all if they have fewer.

    ``queries`` float32[q, width] and ``near`` float32[q, lists], their products with the centres, are whole.
    ``sizes`` int64[lists]: how many vectors each list has.
    """
    lists = np.stack([lists_reached(row, most) for row, most in zip(near, probes, strict=True)])
    nearest = lists & np.stack([lists_reached(row, _FIRST) for row in near])
    bars = _bars(queries, nearest, wanted, sizes, read)
    parts = []
    for asking, tracks, products in _products(queries, lists, read):
        hits = (products >= bars[asking, np.newaxis]).reshape(-1).nonzero()[0]  # faster flat than in two axes
        row, column = np.divmod(hits, len(tracks))
        parts.append((asking[row], tracks[column], products[row, column]))
    if not parts:
        return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
    asking, tracks, products = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(asking, kind="stable")
    cuts = np.searchsorted(asking[order], np.arange(1, len(queries)))
    return list(zip(np.split(tracks[order], cuts), np.split(products[order], cuts), strict=True))


def _bars(
    queries: NDArray[np.float32],
    lists: NDArray[np.bool_],
    wanted: Sequence[int],
    sizes: NDArray[np.int64],
    read: ReadList,
) -> NDArray[np.float32]:
    """For each query the product of the one after the best ``wanted`` in these lists; -inf if they have
    fewer."""
    ends = (lists @ sizes).cumsum()
    products = np.empty(ends[-1], dtype=np.float32)
    free = np.concatenate([[0], ends[:-1]])  # the first place of each query that is not filled yet
    for asking, tracks, found in _products(queries, lists, read):
        products[free[asking, np.newaxis] + np.arange(len(tracks))] = found
        free[asking] += len(tracks)
    bars = np.full(len(queries), -np.inf, dtype=np.float32)
    for query, (start, end, most) in enumerate(zip([0, *ends[:-1]], ends, wanted, strict=True)):
        if end - start > most:
            theirs = products[start:end]
            theirs.partition(len(theirs) - most - 1)
            bars[query] = theirs[-most - 1]
    return bars


def _products(
    queries: NDArray[np.float32], lists: NDArray[np.bool_], read: ReadList
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Queries int64[q], tracks int64[n] and their products [q, n]: all of the ``lists`` bool[queries, lists]
    of each query, a part of a list at a time."""
    numbers, asking = np.nonzero(lists.T)
    ends = np.searchsorted(numbers, np.arange(lists.shape[1] + 1)).tolist()
    for number, (start, end) in enumerate(pairwise(ends)):
        if start == end:
            continue
        vectors, tracks = read(number)
        step = max(1, _PRODUCTS // max(1, len(tracks)))
        for first in range(start, end, step):
            some = asking[first : min(first + step, end)]
            yield some, tracks, queries[some] @ vectors.T
