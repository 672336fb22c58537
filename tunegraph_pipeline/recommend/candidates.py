"""Which tracks of a large catalogue may be among the best for a query, without looking at all of them.

Here: putting together what the index finds and what is cached near the liked tracks. Not here: the index
itself (`index`), what a query asks with and the exact scores of the candidates (`ranking`).

The threshold algorithm of Fagin, Lotem and Naor (2003), of two lists. The index knows all of a score but its
neighbour part, and names tracks by that in falling order; the cached rows of the liked and disliked tracks
hold all of the neighbour part. A track that is neither found nor in a row scores no more than the last one
found, and one that is in a row no more than that and what its neighbours add. So of the rows only the tracks
that could pass the k-th best are scored, and where the k-th best lies below the last one found, the index is
asked for more.

The index overlooks some. Of a track in no row that cannot be helped, but of one in a row it can: there it is
not taken at its word that whatever it did not find is less than the last it found, only that it is less than
one somewhat before the k-th.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.index import CandidateIndex

_ASKED = 32  # tracks asked of an index beyond those wanted, because some will be liked already
_DOUBTED = 10  # of those, how many it may have found wrongly, because it overlooked better ones
_MOST_ASKED = 8192  # more than this costs what the exact ranking does


class CandidateQuery(NamedTuple):
    """Which tracks to find: the highest ``direction . E[j] + familiarity * popularity[j] + prior[j]`` plus
    what ``columns`` and ``weights`` add to a track, end to end; without the ``named`` tracks, and without
    those marked explicit unless ``explicit``. ``lowered`` takes a score down by as much as float32 may be
    off."""

    direction: NDArray[np.float64]
    familiarity: float
    columns: NDArray[np.intp]
    weights: NDArray[np.float64]
    named: NDArray[np.int32]
    explicit: bool
    lowered: Callable[[float], float]


class TooFewError(Exception):
    """The index cannot name as many candidates as it takes; the whole catalogue has to be looked at."""


class Scratch(threading.local):
    """An int32 a track, zero between uses, of each thread its own: a new array for every query would cost
    more than what it is used for."""

    def __init__(self, n_tracks: int) -> None:
        self.place = np.zeros(n_tracks, dtype=np.int32)


class CandidateSearch:
    """Finds candidates in a bundle. ``allowed`` bool[N]: the tracks that may be. Threads may share it."""

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

        Raises TooFewError where the index does not know enough.
        """
        columns, place = query.columns, self._scratch.place
        order = np.arange(1, len(columns) + 1, dtype=np.int32)
        # Of equal columns the last one stays, and stands for all of them: no sort is needed.
        place[columns] = order
        try:
            last = place[columns]
            # In the order of the input, in float64: the very sums of the exact ranking. Place 0 is of tracks
            # that are in no row.
            near = np.bincount(last, query.weights, minlength=len(columns) + 1).astype(np.float64, copy=False)
            fresh = last == order
            named = place[query.named]
            fresh[named[named > 0] - 1] = False
            place[query.named] = -1
            asked = k + _ASKED + min(len(query.named) // 2, _ASKED)
            while asked <= _MOST_ASKED:
                found, products = self.index.search(query.direction, 1.0, query.familiarity, asked, probes)
                if not len(found):
                    break
                trusted = products[min(k - min(k // 2, _DOUBTED), len(found) - 1)]
                candidates = self._merged(query, found, place[found], trusted, near, fresh.copy(), k)
                bar = query.lowered(_kth(candidates.scores, k))
                if bar > products[-1] or len(found) == self.index.size:
                    return candidates.best(bar)
                asked *= 4
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
        """The tracks found, and those of the rows that could pass if none that was overlooked has more than
        ``trusted`` without its neighbours; scored.

        ``at``: where in the rows each found track is, 0 nowhere, -1 for one that is named; ``near`` what the
        rows add, by place; ``fresh``: the places that stand for a track not looked at yet.
        """
        fresh[at[at > 0] - 1] = False
        kept = at >= 0
        if not self._all_allowed or not query.explicit:
            kept &= self._may_be(found, query.explicit)
        candidates = self._scored(query, found[kept], near[at[kept]])
        sums = near[1:]
        # Those of the strongest neighbours first: they raise the bar for the others.
        for most in (2 * k, len(sums)):
            bar = query.lowered(_kth(candidates.scores, k))
            (reach,) = (fresh & (sums >= bar - trusted)).nonzero()
            if len(reach) > 2 * most:
                reach = reach[np.argpartition(sums[reach], -most)[-most:]]
            if not len(reach):
                break
            fresh[reach] = False
            reach = reach[self._may_be(query.columns[reach], query.explicit)]
            candidates = candidates.and_also(self._scored(query, query.columns[reach], sums[reach]))
        return candidates

    def _may_be(self, tracks: NDArray[Any], explicit: bool) -> NDArray[np.bool_]:
        allowed: NDArray[np.bool_] = self._allowed[tracks]
        if not explicit:
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
    """Tracks, what neighbours add to each, and their scores, off by what float32 is."""

    tracks: NDArray[np.intp]
    near: NDArray[np.float64]
    scores: NDArray[np.float32]

    def and_also(self, others: "_Scored") -> "_Scored":
        return _Scored(
            np.concatenate([self.tracks, others.tracks]),
            np.concatenate([self.near, others.near]),
            np.concatenate([self.scores, others.scores]),
        )

    def best(self, bar: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Those that reach the bar, ascending."""
        reached = np.flatnonzero(self.scores >= np.float32(bar))
        reached = reached[self.tracks[reached].argsort()]
        return self.tracks[reached], self.near[reached]


def _kth(scores: NDArray[np.float32], k: int) -> float:
    """The k-th largest, minus infinity where there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else -math.inf
