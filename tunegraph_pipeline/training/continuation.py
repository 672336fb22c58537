"""How lists are continued: the exponents of recency and the blend, chosen by what was liked next.

Here: scoring lists whose order counts by the rule that is served, and the search. Not here: what was liked
next (`graph.like_ages`), the blend of sets (`blend`), or serving (`recommend.ranking`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.graph.like_ages import OrderedRows
from tunegraph_pipeline.models.blend import USUAL_RECENCY, Blend, Continuation
from tunegraph_pipeline.training.blend import (
    ScoreParts,
    Validation,
    ap_at_10,
    clearly_best,
    pooled_queries,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_RECENCIES = (0.25, 0.5, 0.75, 1.0)
_VARIANTS: tuple[tuple[Mapping[str, float], ...], ...] = (
    tuple({"recency": one, "neighbour_recency": one} for one in _RECENCIES),
    tuple({"ratio": one} for one in (0.25, 0.5, 2.0, 4.0)),
    tuple({"recency": one} for one in _RECENCIES),
    tuple({"neighbour_recency": one} for one in _RECENCIES),
)
"""What is tried in turn, each with the best of those before."""
_MOST_SCORES = 1 << 26
"""Scores of a search at most: with more tracks, fewer moments are looked at."""


def choose_continuation(
    rows: OrderedRows | None,
    parts: ScoreParts,
    prior: NDArray[np.float32],
    recommendable: NDArray[np.bool_],
    blend: Blend,
) -> tuple[Continuation, NDArray[np.float64]]:
    """Return how lists are continued, and the AP@10 of each moment of ``rows``, float64[2, m]: as a set with
    the ``blend`` of sets, and continued.

    The usual way, the blend of sets and `USUAL_RECENCY`, stays unless beaten by a standard error of the
    paired difference: a choice near it in the grid costs little where it is wrong. Tried in turn are one
    exponent for both parts, ratios of the parts, and an exponent for each. Stored users are continued if that
    is better than their set by two standard errors. Without rows nothing is tried, and stored users are not
    continued.
    """
    usual = Continuation(blend, USUAL_RECENCY, USUAL_RECENCY)
    n_tracks = len(prior)
    if rows is None or not rows.targets.shape[0]:
        return usual, np.empty((2, 0))
    most = max(1, _MOST_SCORES // n_tracks)
    if rows.targets.shape[0] > most:
        rows = rows.at(np.linspace(0, rows.targets.shape[0] - 1, most).astype(np.int64))
    judge = _Judge(rows, parts, prior, recommendable)
    as_sets = Continuation(blend, 0.0, 0.0)
    tried = [usual, as_sets]
    figures = judge.figures(tried)
    best = usual
    for variants in _VARIANTS:
        fresh = [one for one in map(partial(_varied, best), variants) if one not in tried]
        tried += fresh
        figures = np.concatenate([figures, judge.figures(fresh)])
        best = tried[int(figures.mean(axis=1).argmax())]
    chosen = clearly_best(figures, 0, errors=1.0)
    better = clearly_best(figures[[1, chosen]], 0) == 1
    return replace(tried[chosen], for_users=better), figures[[1, chosen]]


def _varied(one: Continuation, changes: Mapping[str, float]) -> Continuation:
    """The same with other exponents; ``ratio`` multiplies the neighbour weight of its blend."""
    others: dict[str, Any] = dict(changes)
    ratio = others.pop("ratio", 1.0)
    return replace(one, blend=replace(one.blend, neighbour=ratio * one.blend.neighbour), **others)


class _Judge:
    """AP@10 of moments, by continuations."""

    def __init__(
        self,
        rows: OrderedRows,
        parts: ScoreParts,
        prior: NDArray[np.float32],
        recommendable: NDArray[np.bool_],
    ) -> None:
        self._parts, self._prior, self._others = parts, prior, rows.others
        self._validation = Validation(rows.context, rows.targets, recommendable)

    def figures(self, tried: Sequence[Continuation]) -> NDArray[np.float64]:
        """AP@10 of each continuation and moment: float64[len(tried), m]."""
        figures = np.zeros((len(tried), self._validation.n_users))
        for rows, context, targets in self._validation.blocks():
            score = self._scorer(context)
            others = self._others[rows].nonzero()
            for figure, one in zip(figures, tried, strict=True):
                scores = score(one)
                scores[others] = -np.inf
                figure[rows] = ap_at_10(self._validation.ranks(scores, context, targets), targets)
        return figures

    def _scorer(self, ages: "csr_matrix") -> Callable[[Continuation], NDArray[np.float32]]:
        """A function that scores lists in their order, whose values are 1 + the age of each like, by a
        continuation: float32[m, N]. The products of an exponent are computed once."""
        parts = self._parts
        lengths = np.diff(ages.indptr)[:, np.newaxis].astype(np.float32)

        @cache
        def faded(recency: float) -> "csr_matrix":
            weighed = ages.copy()
            weighed.data **= -np.float32(recency)
            return weighed

        @cache
        def cosine(recency: float) -> NDArray[np.float32]:
            return pooled_queries(faded(recency), parts.embeddings, parts.pooling_weight) @ parts.embeddings.T

        @cache
        def neighbour(recency: float) -> NDArray[np.float32]:
            return np.asarray((faded(recency) @ parts.weights).toarray(), dtype=np.float32)

        def score(one: Continuation) -> NDArray[np.float32]:
            blend = one.blend
            scores = neighbour(one.neighbour_recency) * (
                blend.neighbour * lengths ** np.float32(-blend.length_exponent)
            )
            scores += np.float32(blend.embedding) * cosine(one.recency)
            scores += self._prior
            return scores

        return score
