"""Metrics of a full ranking against held-out likes.

Here: metrics of one user's list (recall, nDCG, MAP, hit rate, R-precision) and of all lists together
(coverage, Gini, popularity, novelty, intra-list distance). A new metric goes here. Not here: the rankings
(`baselines`, `recommend/`), holding out likes and mapping users (`evaluate`, `splits`), confidence intervals
(`bootstrap`).

Nothing is sampled: a list is the head of a ranking of the whole catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.graph.csr import found_in, rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ranked = NDArray[np.int32]
"""int32[m, k]: one row per user, best track first; a short list is padded with -1 at its end."""

USER_METRICS = ("recall", "ndcg", "map", "hit_rate")
"""The metrics with a value for every user; their mean is reported."""

CATALOGUE_METRICS = ("coverage", "gini", "mean_popularity")
"""The metrics of all lists together."""


def relevance(ranked: Ranked, held_out: csr_matrix) -> NDArray[np.bool_]:
    """Which places of the ranking hold a held-out track.

    ``ranked`` is int32[m, k] padded with -1, ``held_out`` is CSR (m users x N tracks) whose nonzeros are the
    held-out likes. Returns bool[m, k].
    """
    m, n_tracks = held_out.shape
    if ranked.shape[0] != m:
        raise ValueError(f"{ranked.shape[0]} ranked lists for {m} users")
    # One sorted column of (user, track) keys answers every place of every list by bisection.
    keys = np.sort(rows_of(held_out) * n_tracks + held_out.indices)
    asked = np.arange(m, dtype=np.int64)[:, None] * n_tracks + ranked
    return found_in(asked, keys) & (ranked >= 0)


def user_metrics(
    ranked: Ranked, held_out: csr_matrix, n_held_out: NDArray[np.int64], k: int
) -> dict[str, NDArray[np.float64]]:
    """The metrics of each user's list, in the order of `USER_METRICS`: float64[m] each.

    ``n_held_out`` int64[m] counts every held-out like of the user, including those of tracks outside the
    catalogue: no model could rank them, and they still count in the denominators.

    - ``recall``: hits in the first k, divided by ``n_held_out``;
    - ``ndcg``: binary gain, discount 1/log2(rank + 1), ideal at min(n_held_out, k) (Järvelin 2002);
    - ``map``: precision at the rank of every hit, summed, divided by min(n_held_out, k);
    - ``hit_rate``: 1 when there is a hit at all.

    Raises ValueError for lists shorter than k or a user with nothing held out, for whom no metric is defined.
    """
    if k < 1 or ranked.shape[1] < k:
        raise ValueError(f"lists of {ranked.shape[1]} cannot be judged at k = {k}")
    if n_held_out.size and n_held_out.min() < 1:
        raise ValueError("a user with nothing held out cannot be judged")
    hits = relevance(ranked[:, :k], held_out).astype(np.float64)
    ideal_hits = np.minimum(n_held_out, k)
    places = np.arange(1, k + 1)
    discount = 1.0 / np.log2(places + 1.0)
    found = hits.sum(axis=1)
    return {
        "recall": found / n_held_out,
        "ndcg": (hits @ discount) / np.cumsum(discount)[ideal_hits - 1],
        "map": (hits * np.cumsum(hits, axis=1) / places).sum(axis=1) / ideal_hits,
        "hit_rate": (found > 0).astype(np.float64),
    }


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of ``counts`` int64[n]: 0 when all are equal, (n - 1)/n when one has everything.

    Over the sorted counts x_1 <= ... <= x_n it is sum (2i - n - 1) x_i / (n sum x_i). NaN when all are zero.
    """
    total = counts.sum()
    if total == 0:
        return float("nan")
    n = counts.size
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / (n * float(total)))


def catalogue_metrics(
    ranked: Ranked, popularity: NDArray[np.int64], k: int, own: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """The metrics of all lists together, in the order of `CATALOGUE_METRICS`.

    ``popularity`` int64[N] is the likes of every track in training; ``own`` bool[N] the canonical tracks, all
    where None: further ids of a recording are not part of the catalogue.

    - ``coverage``: share of these tracks that are in anybody's first k;
    - ``gini``: inequality of how often each of these tracks is recommended;
    - ``mean_popularity``: training likes of a recommended track, averaged over every place of every list.

    The last two are NaN when nothing was recommended.
    """
    shown = ranked[:, :k]
    shown = shown[shown >= 0]
    exposure = np.bincount(shown, minlength=popularity.size).astype(np.int64)
    exposure = exposure if own is None else exposure[own]
    return {
        "coverage": float(np.count_nonzero(exposure) / exposure.size),
        "gini": gini(exposure),
        "mean_popularity": float(popularity[shown].mean()) if shown.size else float("nan"),
    }


def novelty(ranked: Ranked, popularity: NDArray[np.int64], k: int) -> float:
    """-log2 of a recommended track's share of all training likes, averaged over every place of every first k.

    In bits (the self-information of Zhou 2010); ``popularity`` int64[N]; a track without likes counts as one
    with a single like. NaN when nothing was recommended.
    """
    shown = ranked[:, :k]
    shown = shown[shown >= 0]
    if not shown.size:
        return float("nan")
    return float(-np.log2(np.maximum(popularity[shown], 1) / max(1, int(popularity.sum()))).mean())


def r_precision(ranked: Ranked, held_out: csr_matrix, n_held_out: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of a user's first R places that hold a held-out like, where R is their number: float64[m].

    Needs no k, but lists as long as the largest R; in a shorter list of L places the first min(R, L) count,
    divided by the same. Arguments as for `user_metrics`. Raises ValueError for a user with nothing held out.
    """
    if n_held_out.size and n_held_out.min() < 1:
        raise ValueError("a user with nothing held out cannot be judged")
    places = np.minimum(n_held_out, ranked.shape[1])
    within = np.arange(ranked.shape[1]) < places[:, np.newaxis]
    found: NDArray[np.float64] = (relevance(ranked, held_out) & within).sum(axis=1) / places
    return found


def intra_list_distance(ranked: Ranked, vectors: csr_matrix, k: int) -> float:
    """Mean of 1 - cosine over the pairs of tracks in a user's first k, then over users (Ziegler 2005).

    ``vectors`` is CSR (N x d), a row per track, of any length; with the transposed likes (the row of a track
    is the users who like it) the cosine is that of co-likes, independent of the judged model. A track with an
    empty row is at distance 1 from every other. Lists of fewer than two tracks are left out; NaN where there
    is no other.
    """
    from scipy.sparse import csr_matrix, diags_array

    # Many users may share a list, as with popularity, and the order within a list does not matter.
    lists, times = np.unique(np.sort(ranked[:, :k], axis=1), axis=0, return_counts=True)
    lengths = (lists >= 0).sum(axis=1)
    several = lengths >= 2
    lists, times, lengths = lists[several], times[several], lengths[several]
    if not times.size:
        return float("nan")
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1, dtype=np.float64)).ravel())
    unit = csr_matrix(diags_array(1 / np.where(norms > 0, norms, 1.0)) @ vectors)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    members = csr_matrix((np.ones(indptr[-1]), lists[lists >= 0], indptr), shape=(len(lists), unit.shape[0]))
    # |sum of unit vectors|² is the sum of the cosines of all ordered pairs, a track with itself included.
    cosines = np.empty(len(lists))
    block = 512
    for start in range(0, len(lists), block):
        sums = members[start : start + block] @ unit
        cosines[start : start + block] = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    cosines -= members @ (norms > 0).astype(np.float64)
    return float(times @ (1 - cosines / (lengths * (lengths - 1))) / times.sum())


BANDS = ("tail", "middle", "head")
"""Thirds of all likes, from those of the least liked tracks to those of the most liked."""


def popularity_bands(popularity: NDArray[np.int64]) -> NDArray[np.int8]:
    """Band of each track, as its index in `BANDS`: int8[N].

    ``popularity`` int64[N], likes in training. In order of rising popularity (ties by index), a track is in
    the band that contains the middle of its likes, so each band holds about a third of all likes: few tracks
    make up the head, many the tail. Without any like, every track is in the tail.
    """
    order = np.argsort(popularity, kind="stable")
    middle = np.cumsum(popularity[order]) - popularity[order] / 2
    bands = np.zeros(popularity.size, dtype=np.int8)
    total = popularity.sum()
    if total:
        bands[order] = np.minimum(middle * len(BANDS) / total, len(BANDS) - 1).astype(np.int8)
    return bands
