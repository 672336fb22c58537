"""Figures of merit of a full ranking against held-out likes.

Here: what one user's ranked list scores (recall, nDCG, MAP, hit rate) and what all lists together do to the
catalogue (coverage, Gini, mean popularity). A new figure of merit goes here. Not here: who ranks
(`baselines`, `recommend/`), which likes were held out and how users are mapped (`evaluate`).

Nothing is sampled: a list is the head of a ranking of the whole catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ranked = NDArray[np.int32]
"""int32[m, k]: one row a user, best track first; a list that is too short is padded with -1 at its end."""

USER_METRICS = ("recall", "ndcg", "map", "hit_rate")
"""The metrics that have a value for every user; the figure that is reported is their mean."""

CATALOGUE_METRICS = ("coverage", "gini", "mean_popularity")
"""The metrics that all lists have together."""


def relevance(ranked: Ranked, held_out: csr_matrix) -> NDArray[np.bool_]:
    """Which places of the ranking hold a held-out track.

    ``ranked`` is int32[m, k] padded with -1, ``held_out`` is CSR (m users x N tracks) whose nonzeros are the
    held-out likes. Returns bool[m, k].
    """
    m, n_tracks = held_out.shape
    if ranked.shape[0] != m:
        raise ValueError(f"{ranked.shape[0]} ranked lists for {m} users")
    # One sorted column of (user, track) keys answers every place of every list by bisection.
    rows = np.repeat(np.arange(m, dtype=np.int64), np.diff(held_out.indptr))
    keys = np.sort(rows * n_tracks + held_out.indices)
    asked = np.arange(m, dtype=np.int64)[:, None] * n_tracks + ranked
    found = np.zeros(ranked.shape, dtype=np.bool_)
    if keys.size:
        at = np.minimum(np.searchsorted(keys, asked), keys.size - 1)
        found = keys[at] == asked
    return found & (ranked >= 0)


def user_metrics(
    ranked: Ranked, held_out: csr_matrix, n_held_out: NDArray[np.int64], k: int
) -> dict[str, NDArray[np.float64]]:
    """What each user's list is worth, in the order of `USER_METRICS`: float64[m] each.

    ``n_held_out`` int64[m] counts every held-out like of the user, those of tracks the catalogue does not
    know included: nobody could have ranked them, and they stay in the denominators all the same.

    - ``recall``: hits in the first k, divided by ``n_held_out``;
    - ``ndcg``: binary gain, discount 1/log2(rank + 1), ideal at min(n_held_out, k) (Järvelin 2002);
    - ``map``: precision at the rank of every hit, summed, divided by min(n_held_out, k);
    - ``hit_rate``: 1 when there is a hit at all.

    Raises ValueError for lists shorter than k or a user with nothing held out, of whom no metric is defined.
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


def catalogue_metrics(ranked: Ranked, popularity: NDArray[np.int64], k: int) -> dict[str, float]:
    """What the lists together do to the catalogue, in the order of `CATALOGUE_METRICS`.

    ``popularity`` int64[N] is the likes of every track in training.

    - ``coverage``: share of the N tracks that are in somebody's first k;
    - ``gini``: inequality of how often each of the N tracks is recommended;
    - ``mean_popularity``: training likes of a recommended track, averaged over every place of every list.

    The last two are NaN when nothing was recommended to anybody.
    """
    shown = ranked[:, :k]
    shown = shown[shown >= 0]
    exposure = np.bincount(shown, minlength=popularity.size).astype(np.int64)
    return {
        "coverage": float(np.count_nonzero(exposure) / popularity.size),
        "gini": gini(exposure),
        "mean_popularity": float(popularity[shown].mean()) if shown.size else float("nan"),
    }
