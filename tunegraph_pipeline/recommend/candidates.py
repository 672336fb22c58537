"""Which tracks of a large catalogue may be among the best for a query, without scoring all of them.

Here: combining the tracks that the index finds with the cached neighbours of the liked tracks. Not here: the
index itself (`index`), what a query asks for and the exact scores of the candidates (`ranking`).

This is the threshold algorithm of Fagin, Lotem and Naor (2003) over two lists. The index has the score
without its neighbour part and returns tracks in descending order of that; the cached rows of the liked and
disliked tracks have all of the neighbour part. A track that is neither found nor in a row scores at most as
much as the last track found; one in a row, at most that plus what its neighbours add. So of the tracks in
rows only those are scored that could beat the k-th best, and if the k-th best is below the last one found,
the index is searched for more.

The index misses some tracks. For a track in no row, nothing can be done about that. For a track in a row, the
bound is relaxed: the track is assumed to be below not the last track found but one somewhat before the k-th.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.filters import Mask, Passing
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.list_search import Found

_EXTRA = 32  # tracks requested beyond k, because some will be liked already
_DOUBTED = 10  # ranks before the k-th to take the bound from, because the index may have missed better tracks
MOST_REQUESTED = 8192  # more than this costs as much as the exact ranking


class CandidateQuery(NamedTuple):
    """The tracks to find: those with the highest ``direction . E[j] + familiarity * popularity[j] +
    prior[j]`` plus the ``weights`` of their ``columns``; without the ``named`` tracks, and without explicit
    ones unless ``explicit``; of those ``passing``, if these are not all. ``lowered`` reduces a score by the
    possible rounding error of float32. ``found``: what the index finds first, if that is known."""

    direction: NDArray[np.float64]
    familiarity: float
    columns: NDArray[np.intp]
    weights: NDArray[np.float64]
    named: NDArray[np.int32]
    explicit: bool
    passing: Passing | None
    lowered: Callable[[float], float]
    found: Found | None = None


class TooFewError(Exception):
    """The index does not find enough candidates; the whole catalogue has to be ranked."""


def first_request(k: int, named: int) -> int:
    """How many tracks are requested of the index first for the best k of a query with so many ``named``
    tracks."""
    return k + _EXTRA + min(named // 2, _EXTRA)


class Scratch(threading.local):
    """An int32 and a bool per track for each thread, zero between uses; new arrays per query would be too
    slow."""

    def __init__(self, n_tracks: int) -> None:
        self.place = np.zeros(n_tracks, dtype=np.int32)
        self.marked = np.zeros(n_tracks, dtype=np.bool_)


class CandidateSearch:
    """Finds candidates in a bundle, among the ``allowed`` tracks, bool[N]. Threads may share it."""

    def __init__(
        self, bundle: Bundle, index: CandidateIndex, allowed: NDArray[np.bool_], scratch: Scratch
    ) -> None:
        self.index = index
        self._bundle = bundle
        self._allowed = allowed
        self._all_allowed = int(np.count_nonzero(allowed)) == index.size
        self._scratch = scratch

    def shortlist(
        self, query: CandidateQuery, probes: int, k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The candidates that may be among the best k, ascending, and what neighbours add to each.

        Raises TooFewError if the index does not find enough.
        """
        columns, place = query.columns, self._scratch.place
        order = np.arange(1, len(columns) + 1, dtype=np.int32)
        # Of equal columns the last assignment stays and represents all of them, so no sort is needed.
        place[columns] = order
        try:
            last = place[columns]
            # Added in input order, in float64: the same sums as in the exact ranking. Place 0 is for tracks
            # in no row.
            near = np.bincount(last, query.weights, minlength=len(columns) + 1).astype(np.float64, copy=False)
            fresh = last == order
            named = place[query.named]
            fresh[named[named > 0] - 1] = False
            place[query.named] = -1
            chosen = None
            if query.passing is not None:
                fresh &= query.passing.tracks[columns]
                chosen = query.passing.chosen_in(self.index)
            requested = first_request(k, len(query.named))
            while requested <= MOST_REQUESTED:
                found = query.found
                if found is None or found.asked != requested:
                    found = self.index.search(
                        query.direction, 1.0, query.familiarity, requested, probes, chosen
                    )
                tracks, products = found.tracks, found.products
                if not len(tracks):
                    break
                trusted = products[min(k - min(k // 2, _DOUBTED), len(tracks) - 1)]
                candidates = self._merged(query, tracks, place[tracks], trusted, near, fresh.copy(), k)
                bar = query.lowered(_kth(candidates.scores, k))
                if bar > found.bound or len(tracks) == self.index.size:
                    return candidates.best(bar)
                requested *= 4
        finally:
            place[columns] = 0
            place[query.named] = 0
        raise TooFewError

    def _merged(
        self,
        query: CandidateQuery,
        found: NDArray[np.int64],
        at: NDArray[np.int32],
        trusted: np.float32,
        near: NDArray[np.float64],
        fresh: NDArray[np.bool_],
        k: int,
    ) -> "_Scored":
        """The tracks found, and those in rows that could beat the k-th best, assuming that no missed track
        has more than ``trusted`` without its neighbours; scored.

        ``at``: the place of each found track in the rows, 0 if none, -1 if it is named; ``near``: what the
        rows add, by place; ``fresh``: the places whose track has not been scored yet.
        """
        fresh[at[at > 0] - 1] = False
        kept = at >= 0
        if query.passing is not None or not self._all_allowed or not query.explicit:
            kept &= self._may_be(found, query)
        candidates = self._scored(query, found[kept], near[at[kept]])
        sums = near[1:]
        # Those with the strongest neighbours first, because they raise the bar for the others.
        for most in (2 * k, len(sums)):
            bar = query.lowered(_kth(candidates.scores, k))
            (reach,) = (fresh & (sums >= bar - trusted)).nonzero()
            if len(reach) > 2 * most:
                reach = reach[np.argpartition(sums[reach], -most)[-most:]]
            if not len(reach):
                break
            fresh[reach] = False
            reach = reach[self._may_be(query.columns[reach], query)]
            more = self._scored(query, query.columns[reach], sums[reach])
            candidates = _Scored(
                np.concatenate([candidates.tracks, more.tracks]),
                np.concatenate([candidates.near, more.near]),
                np.concatenate([candidates.scores, more.scores]),
            )
        return candidates

    def _may_be(self, tracks: NDArray[Any], query: CandidateQuery) -> Mask:
        of_all = self._allowed if query.passing is None else query.passing.tracks
        allowed: Mask = of_all[tracks]
        if not query.explicit:
            allowed &= self._bundle.explicit[tracks] != 1
        return allowed

    def _scored(self, query: CandidateQuery, tracks: NDArray[Any], near: NDArray[np.float64]) -> "_Scored":
        bundle = self._bundle
        scores: NDArray[np.float32] = bundle.embeddings[tracks] @ query.direction.astype(np.float32)
        scores += near.astype(np.float32)
        scores += bundle.prior[tracks]
        if query.familiarity:
            scores += np.float32(query.familiarity) * bundle.screen[tracks, -1]
        return _Scored(tracks, near, scores)


class _Scored(NamedTuple):
    """Tracks, what neighbours add to each, and their scores with the rounding of float32."""

    tracks: NDArray[np.intp]
    near: NDArray[np.float64]
    scores: NDArray[np.float32]

    def best(self, bar: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The tracks that reach the bar, ascending."""
        reached = np.flatnonzero(self.scores >= np.float32(bar))
        reached = reached[self.tracks[reached].argsort()]
        return self.tracks[reached], self.near[reached]


def _kth(scores: NDArray[np.float32], k: int) -> float:
    """The k-th largest score, minus infinity if there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else -math.inf
