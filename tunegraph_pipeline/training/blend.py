"""The blend of the scoring rule, and the metrics it is chosen by.

Here: scoring early-stopping users by the rule that is served, AP@10 and nDCG@100 over the whole catalogue,
and a search over the weights of the parts. Not here: serving (`recommend`), judging on likes that chose
nothing (`evaluation`).

    score[j] = embedding * E[j].q + neighbour * n**-length_exponent * sum_{i in L} W[i, j] + prior[j]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.graph.csr import rows_of
from tunegraph_pipeline.models.blend import Blend

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_K = 10
_DEPTH = 100
_BLOCK_ENTRIES = 1 << 23  # scores held at once: three arrays of 32 MB
_RATIOS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LENGTH_EXPONENTS = (0.0, 0.25, 0.5)

EVEN = Blend(embedding=1.0, neighbour=1.0, length_exponent=0.0)
"""The blend where there are no likes to choose by: cosines and regression weights are both around 1."""

RESERVE = 0.2
"""How much closer a track nobody in training likes has to be, on the scale of a cosine, to be recommended."""
_RESERVES = (0.0, 0.1, 0.2, 0.4)
_MOST_SHOWN = 0.05  # share of all places for tracks nobody in training likes, unless likes ask for more

QUICK = tuple(replace(EVEN, neighbour=ratio) for ratio in (0.5, 1.0, 2.0))
"""The few blends that a model is judged by while it is trained."""


@dataclass(frozen=True)
class ScoreParts:
    """What the parts of a score are computed from: ``embeddings`` float32[N, d], ``pooling_weight``
    float32[N], and the neighbour ``weights`` W, csr float32[N, N]."""

    embeddings: NDArray[np.float32]
    pooling_weight: NDArray[np.float32]
    weights: "csr_matrix"

    def scorer(self, lists: "csr_matrix") -> Callable[[Blend, NDArray[np.float32]], NDArray[np.float32]]:
        """Return a function that scores ``lists``, csr m x N, by a blend and a prior: float32[m, N].

        The products are computed once for all blends.
        """
        cosine, neighbour = self.cosines(lists), self.neighbours(lists)
        lengths = np.diff(lists.indptr)[:, np.newaxis].astype(np.float32)

        def score(blend: Blend, prior: NDArray[np.float32]) -> NDArray[np.float32]:
            scores: NDArray[np.float32] = neighbour * (
                blend.neighbour * lengths ** np.float32(-blend.length_exponent)
            )
            scores += np.float32(blend.embedding) * cosine
            scores += prior
            return scores

        return score

    def cosines(self, lists: "csr_matrix") -> NDArray[np.float32]:
        """Return the cosine of each list's query with every track, float32[m, N]."""
        queries = pooled_queries(lists, self.embeddings, self.pooling_weight)
        return np.asarray(queries @ self.embeddings.T)

    def neighbours(self, lists: "csr_matrix") -> NDArray[np.float32]:
        """Return the neighbour weights of the tracks of each list, added up: float32[m, N]."""
        return np.asarray((lists @ self.weights).toarray().astype(np.float32))


Figure = Callable[[NDArray[np.int64], "csr_matrix"], NDArray[np.float64]]
"""A metric: float64[m] of the ranks of all targets, from 1, int64 in their order, and the ``targets``."""


def ap_at_10(ranks: NDArray[np.int64], targets: "csr_matrix") -> NDArray[np.float64]:
    """AP@10 of each row of ``targets``."""
    user = rows_of(targets)
    ranks = ranks[np.lexsort((ranks, user))]
    hits_so_far = np.arange(len(user)) - targets.indptr[user] + 1
    gain = np.where(ranks <= _K, hits_so_far / ranks, 0.0)
    total = np.bincount(user, gain, minlength=targets.shape[0])
    return np.asarray(total / np.minimum(np.diff(targets.indptr), _K))


def ndcg_at_100(ranks: NDArray[np.int64], targets: "csr_matrix") -> NDArray[np.float64]:
    """nDCG@100 of each row of ``targets``."""
    gain = np.where(ranks <= _DEPTH, 1 / np.log2(ranks + 1.0), 0.0)
    total = np.bincount(rows_of(targets), gain, minlength=targets.shape[0])
    ideal = np.cumsum(1 / np.log2(np.arange(2, _DEPTH + 2)))
    return np.asarray(total / ideal[np.minimum(np.diff(targets.indptr), _DEPTH) - 1])


@dataclass(frozen=True)
class Validation:
    """Users with something held out, to judge a scoring rule by.

    ``context`` and ``targets``: csr m x N, what the user likes in training and what was held out, rows alike;
    ``recommendable``: bool[N].
    """

    context: "csr_matrix"
    targets: "csr_matrix"
    recommendable: NDArray[np.bool_]

    @classmethod
    def draw(
        cls, context: "csr_matrix", targets: "csr_matrix", recommendable: NDArray[np.bool_], most: int
    ) -> "Validation":
        """Keep at most ``most`` of the users who have both context and targets, evenly spaced."""
        usable = np.flatnonzero((np.diff(context.indptr) > 0) & (np.diff(targets.indptr) > 0))
        usable = _evenly(usable, most)
        return cls(context[usable].tocsr(), targets[usable].tocsr(), recommendable)

    @property
    def n_users(self) -> int:
        return int(self.context.shape[0])

    def of_blends(
        self,
        blends: Sequence[Blend],
        parts: ScoreParts,
        prior: NDArray[np.float32],
        figure: Figure = ap_at_10,
    ) -> NDArray[np.float64]:
        """Return the ``figure`` of each blend and user, float64[len(blends), m]. The mean of AP@10 is
        MAP@10."""
        figures = np.zeros((len(blends), self.n_users))
        for rows, context, targets in self.blocks():
            score = parts.scorer(context)
            for i, blend in enumerate(blends):
                figures[i, rows] = figure(self.ranks(score(blend, prior), context, targets), targets)
        return figures

    def of_scores(self, score: "Callable[[csr_matrix], NDArray[np.float32]]") -> NDArray[np.float64]:
        """Return AP@10 of each user, float64[m], for a scorer of lists: csr m x N to float32[m, N]."""
        figures = np.zeros(self.n_users)
        for rows, context, targets in self.blocks():
            figures[rows] = ap_at_10(self.ranks(score(context), context, targets), targets)
        return figures

    def of_popularity(self, popularity: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return AP@10 of each user, float64[m], for recommending the most popular tracks to everyone."""
        row = popularity.astype(np.float32)
        return self.of_scores(lambda context: np.tile(row, (context.shape[0], 1)))

    def blocks(self) -> "Iterator[tuple[slice, csr_matrix, csr_matrix]]":
        """Yield some users at a time: their rows, context and targets."""
        for rows in _blocks(self.context):
            yield rows, self.context[rows], self.targets[rows]

    def ranks(
        self, scores: NDArray[np.float32], context: "csr_matrix", targets: "csr_matrix"
    ) -> NDArray[np.int64]:
        """The rank of each target, from 1, int64 in their order; overwrites ``scores``. Ties go to the
        smaller track_idx. What may not be recommended ranks behind the whole catalogue."""
        n_tracks = scores.shape[1]
        scores[:, ~self.recommendable] = -np.inf
        scores[rows_of(context), context.indices] = -np.inf
        user = rows_of(targets)
        own = scores[user, targets.indices]
        ranks = np.empty(len(user), dtype=np.int64)
        for i, (u, track) in enumerate(zip(user, targets.indices, strict=True)):
            row = scores[u]
            ranks[i] = (
                1 + np.count_nonzero(row > own[i]) + np.count_nonzero(row[:track] == own[i])
                if own[i] > -np.inf
                else n_tracks + 1
            )
        return ranks


def pooled_queries(
    lists: "csr_matrix", embeddings: NDArray[np.float32], pooling_weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return q = normalise(sum of pooling_weight[i] E[i] over each list), float32[m, d]; a like counts as
    many times as its value in ``lists`` says, 1 in a set."""
    from scipy.sparse import csr_matrix

    weights = pooling_weight[lists.indices] * lists.data
    weighed = csr_matrix((weights, lists.indices, lists.indptr), shape=lists.shape)
    pooled = weighed @ embeddings
    queries: NDArray[np.float32] = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return queries


def prior_of(
    level: NDArray[np.float32], warm: NDArray[np.bool_], reserve: float = RESERVE
) -> NDArray[np.float32]:
    """Return the prior, float32[N]: ``level``, less ``reserve`` for a track nobody in training likes.

    ``level`` float32[N] is how much a track is liked regardless of a person's other likes, on the scale of a
    cosine. The softmax teaches every liked track to keep away from users who do not like it. A track placed
    by content alone never learned that, and would come up for everyone who likes its artist.
    """
    return np.where(warm, level, level - np.float32(reserve)).astype(np.float32)


class Tuned(NamedTuple):
    """What to serve: which of the ``parts``, and their ``blend`` and ``prior``; ``figures`` float64[m]: the
    AP@10 of each validation user with them."""

    parts: int
    blend: Blend
    prior: NDArray[np.float32]
    figures: NDArray[np.float64]


def tune_blend(
    validation: Validation,
    parts: Sequence[ScoreParts],
    level: NDArray[np.float32],
    warm: NDArray[np.bool_],
    lists: "csr_matrix",
    around: Blend | None = None,
) -> Tuned:
    """Return what to serve: the parts, which differ in W alone, their blend and the prior.

    Tries a grid of ratios and length exponents with each of the ``parts``, either part alone included, then
    one step of sqrt(2) to both sides of the best, then the reserve for tracks nobody in training likes
    (``warm`` is false for them; `fair_reserve` sets it by ``lists``, csr m x N). The first of the parts,
    `EVEN` and that reserve stay unless beaten by two standard errors of the paired difference: a few hundred
    users cannot distinguish the points of a grid, and the best would win by luck. Parts and blend are chosen
    by nDCG@100, by which the better of two shows with fewer users than by AP@10, which sees ten places only.
    Only smaller reserves are tried: held-out likes are mostly of tracks that others like too, and judged by
    those alone, tracks without likes would never be shown.

    With ``around``, the blend of an earlier model, only its neighbours in the grid are tried, and it stays
    unless beaten: little can have changed, and a grid takes time.
    """
    usual = EVEN if around is None else around
    prior = prior_of(level, warm)
    if validation.n_users == 0:
        return Tuned(0, usual, prior, np.empty(0))

    def judged(blends: Sequence[Blend], which: int, figure: Figure = ndcg_at_100) -> NDArray[np.float64]:
        return validation.of_blends(blends, parts[which], prior, figure)

    blends = whole_grid() if around is None else _next_to(around)
    grid = [(which, blend) for which in range(len(parts)) for blend in blends]
    figures = np.concatenate([judged(blends, which) for which in range(len(parts))])
    which, blend = grid[int(figures.mean(axis=1).argmax())]
    if around is None and blend.neighbour and blend.embedding:
        finer = [replace(blend, neighbour=blend.neighbour * step) for step in (0.5**0.5, 2**0.5)]
        figures = np.concatenate([figures, judged(finer, which)])
        grid += [(which, one) for one in finer]
    which, blend = grid[clearly_best(figures, grid.index((0, usual)))]
    value = judged([blend], which, ap_at_10)[0]
    if not warm.all():
        fair = fair_reserve(lists, validation.recommendable, blend, parts[which], level, warm)
        reserves = (fair, *(reserve for reserve in _RESERVES if reserve < fair))
        priors = [prior_of(level, warm, reserve) for reserve in reserves]
        figures = np.concatenate([validation.of_blends([blend], parts[which], one) for one in priors])
        chosen = clearly_best(figures, 0)
        prior, value = priors[chosen], figures[chosen]
    return Tuned(which, blend, prior, value)


def whole_grid() -> list[Blend]:
    """The blends that are tried where there is no earlier one, `EVEN` among them."""
    grid = [
        replace(EVEN, neighbour=ratio, length_exponent=exponent)
        for ratio in _RATIOS
        for exponent in (_LENGTH_EXPONENTS if ratio else _LENGTH_EXPONENTS[:1])
    ]
    return [*grid, replace(EVEN, embedding=0.0)]


def _next_to(blend: Blend) -> list[Blend]:
    """The blend, half a step of the grid to both sides, and the length exponents next to its own."""
    if not (blend.neighbour and blend.embedding):
        return [blend, EVEN]  # one part alone: see whether both are better by now
    place = _LENGTH_EXPONENTS.index(blend.length_exponent)
    exponents = [_LENGTH_EXPONENTS[at] for at in (place - 1, place + 1) if 0 <= at < len(_LENGTH_EXPONENTS)]
    return [
        blend,
        *(replace(blend, neighbour=blend.neighbour * step) for step in (0.5**0.5, 2**0.5)),
        *(replace(blend, length_exponent=exponent) for exponent in exponents),
    ]


def evenly(lists: "csr_matrix", most: int) -> "csr_matrix":
    """At most so many of the ``lists`` that are not empty, evenly spaced."""
    return lists[_evenly(np.flatnonzero(np.diff(lists.indptr)), most)]


def _evenly(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def fair_reserve(
    lists: "csr_matrix",
    candidates: NDArray[np.bool_],
    blend: Blend,
    parts: ScoreParts,
    level: NDArray[np.float32],
    warm: NDArray[np.bool_],
) -> float:
    """The reserve at which tracks nobody in training likes are shown as often as all others, on average over
    ``lists``, csr m x N. ``candidates`` bool[N]: the tracks that may be recommended.

    The lists should be everyone's, or drawn evenly from them. Early-stopping users have longer lists than
    most, and a long list shows fewer such tracks: the neighbour weights of its songs add up, and most of
    these speak for tracks with likes.

    Their share of the first ten places then equals their share of the catalogue, up to `_MOST_SHOWN`: a
    catalogue may describe far more tracks than anybody likes. So they are neither hidden from everyone nor
    shown to everyone. `RESERVE` where the catalogue has only one of the two kinds.
    """
    n_cold, n_all = int(np.count_nonzero(candidates & ~warm)), int(np.count_nonzero(candidates))
    if n_cold in (0, n_all):
        return RESERVE
    # Column i - 1: by how much the i-th best track without likes leads the (11 - i)-th best of the others.
    # With a reserve of r, as many of the ten places go to tracks without likes as there are leads above r.
    leads = np.empty((lists.shape[0], _K), dtype=np.float32)
    for rows in _blocks(lists):
        scores = parts.scorer(lists[rows])(blend, level)
        scores[lists[rows].nonzero()] = -np.inf
        cold, liked = (_best(scores[:, candidates & side]) for side in (~warm, warm))
        there = cold > -np.inf
        leads[rows] = np.where(there, cold - np.where(there, liked[:, ::-1], 0), -np.inf)
    share = min(n_cold / n_all, _MOST_SHOWN)
    # Bounded like the cosines it is set against, for catalogues of a few tracks.
    return float(np.clip(np.quantile(leads, 1 - share, method="higher"), -1, 1))


def _blocks(lists: "csr_matrix") -> Iterator[slice]:
    """The rows of ``lists`` whose scores are held at once."""
    step = max(1, _BLOCK_ENTRIES // lists.shape[1])
    for start in range(0, lists.shape[0], step):
        yield slice(start, min(start + step, lists.shape[0]))


def _best(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The ten largest of each row, the largest first, padded with -inf: float32[m, 10]."""
    best = np.full((len(scores), _K), -np.inf, dtype=np.float32)
    kept = min(_K, scores.shape[1])
    if kept:
        largest = np.partition(scores, scores.shape[1] - kept, axis=1)[:, -kept:]
        best[:, :kept] = np.sort(largest, axis=1)[:, ::-1]
    return best


def clearly_best(figures: NDArray[np.float64], usual: int, errors: float = 2.0) -> int:
    """The row of highest mean, or ``usual`` unless that is beaten by so many standard errors."""
    best = int(figures.mean(axis=1).argmax())
    gain = figures[best] - figures[usual]
    return best if gain.mean() > errors * gain.std() / np.sqrt(len(gain)) else usual
