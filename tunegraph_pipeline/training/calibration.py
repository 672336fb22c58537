"""The probability that two songs are neighbours, given the cosine of their embeddings: fitted, and judged.

Here: the panels and the pairs, the fit, and the judgement. Not here: the formula as it is served
(`recommend.calibration` evaluates it from the coefficients with numpy alone), the plot (`evaluation.plots`).

**The question.** A panel is a number of users no model was trained on. Two tracks are neighbours in a panel
when at least one of its users likes both. The population is every unordered pair of distinct tracks in the
panel's lists, so the probability answers: of two songs that somebody in such a panel likes, how likely is it
that somebody likes both? It grows with the panel, so the panel's size is part of the answer, and both panels
are cut to the same number of users. A list longer than ``MAX_LIST`` is represented by a uniform draw of that
many: the pairs of a list grow with its square, and one collector is not a panel.

**Base rates.** Neighbours are rare, about 1 pair in 100 on real playlists. A panel of more than
``MAX_TRACKS`` tracks is represented by a uniform draw of them, which changes no rate. All pairs of these
tracks are used, so predictions are judged at the natural base rate, unweighted. The fit uses all neighbours
and a uniform draw of the others, weighted up to their true number.

**The formula.** Logistic regression: P = 1 / (1 + exp(-Σ coefficient * term)), with c the cosine and
l = log(1 + likes) of the two tracks, over the terms ``intercept`` 1, ``cosine`` c, ``cosine_squared`` c²,
``cosine_cubed`` c³, ``log_popularity`` l_i + l_j, ``log_popularity_product`` l_i l_j.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.graph.csr import rows_of, shuffled_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]

POPULARITY_TERMS = ("intercept", "log_popularity", "log_popularity_product")
COSINE_TERMS = ("intercept", "cosine", "cosine_squared", "cosine_cubed")
REFERENCE = "popularity"
"""The predictor that has to be beaten: it knows the popularity of both tracks and nothing else."""
CANDIDATES = {"cosine": COSINE_TERMS, "cosine_and_popularity": (*COSINE_TERMS, *POPULARITY_TERMS[1:])}

MAX_LIST = 100
"""Likes of one user that count in a panel."""
MAX_TRACKS = 2_000
"""Tracks of a panel whose pairs are used: 2 million pairs, a few hundred MB while they are judged."""
MAX_OTHERS = 300_000
"""Pairs that are not neighbours, drawn for the fit."""
MIN_PAIRS = 200
"""Neighbours, and other pairs, needed in either panel; a tenth of it to choose between candidates."""
SKILL_MARGIN = 0.002
AUC_MARGIN = 0.005
"""The gain required over popularity alone: more than the noise of meaningless coefficients."""


@dataclass(frozen=True)
class ReliabilityPoint:
    """A bin of pairs with similar probabilities: their mean, and the share that were neighbours."""

    predicted: float
    observed: float
    n_pairs: int


@dataclass(frozen=True)
class Judgement:
    """A predictor on the panel it was not fitted on.

    ``brier``: mean squared error; ``skill``: 1 - brier / brier of the panel's own base rate, at most 0 for a
    constant; ``auc``: chance that a neighbour is ranked above another pair; ``calibration_error``: mean over
    pairs of |predicted - observed| of their bin.
    """

    brier: float
    skill: float
    auc: float
    calibration_error: float


@dataclass(frozen=True)
class Band:
    """The third of the judged pairs of least, middle or greatest popularity, by the sum of log likes.

    ``predicted`` is the mean probability, ``observed`` the share of neighbours, errors as in `Judgement`;
    ``judgements`` of what is served and of the reference, on the pairs of the band alone, by their names;
    empty where all of them are neighbours, or none.
    """

    name: str
    predicted: float
    observed: float
    calibration_error: float
    reliability: tuple[ReliabilityPoint, ...]
    judgements: dict[str, Judgement]


@dataclass(frozen=True)
class Calibration:
    """The neighbour probability that is served, and its quality. All values are plain: ``asdict`` is JSON.

    ``status``: "fitted", or why it was not, and then ``coefficients`` and the figures are empty;
    ``panel_users``: users of either panel; ``fit_neighbours``, ``judged_neighbours``, ``judged_pairs``: pairs
    of theirs; ``served``: which of `CANDIDATES` it is; ``judgements``: of the reference and every candidate;
    ``passes``: whether the served one beats popularity alone, by Brier skill and by AUC.
    """

    status: str
    panel_users: int
    fit_neighbours: int
    judged_neighbours: int
    judged_pairs: int
    served: str = ""
    coefficients: dict[str, float] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    reliability: tuple[ReliabilityPoint, ...] = ()
    bands: tuple[Band, ...] = ()
    passes: bool = False

    def facts(self) -> dict[str, Any] | None:
        """What a bundle needs to serve it; None where it was not fitted or does not beat popularity."""
        if not self.passes:
            return None
        return {"kind": "logistic", "coefficients": self.coefficients, "panel_users": self.panel_users}


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a panel: cosine and both tracks' log(1 + likes) float32[n]; ``neighbours`` bool[n]."""

    cosine: NDArray[np.float32]
    log_i: NDArray[np.float32]
    log_j: NDArray[np.float32]
    neighbours: NDArray[np.bool_]

    @property
    def n_neighbours(self) -> int:
        return int(np.count_nonzero(self.neighbours))

    def take(self, rows: NDArray[np.intp]) -> _Pairs:
        return _Pairs(self.cosine[rows], self.log_i[rows], self.log_j[rows], self.neighbours[rows])

    def has(self, least: int) -> bool:
        """Whether there are at least this many neighbours and as many others."""
        return min(self.n_neighbours, self.neighbours.size - self.n_neighbours) >= least

    def term(self, name: str) -> Floats:
        c, log_i, log_j = (x.astype(np.float64) for x in (self.cosine, self.log_i, self.log_j))
        return _TERMS[name](c, log_i, log_j)


_TERMS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "intercept": lambda c, log_i, log_j: np.ones_like(c),
    "cosine": lambda c, log_i, log_j: c,
    "cosine_squared": lambda c, log_i, log_j: c**2,
    "cosine_cubed": lambda c, log_i, log_j: c**3,
    "log_popularity": lambda c, log_i, log_j: log_i + log_j,
    "log_popularity_product": lambda c, log_i, log_j: log_i * log_j,
}


def calibrate(
    embeddings: NDArray[np.float32],
    popularity: NDArray[np.integer],
    fit_lists: csr_matrix,
    judge_lists: csr_matrix,
    *,
    seed: int = 0,
) -> Calibration:
    """Fit the neighbour probability on one panel and judge it on the other.

    ``embeddings`` float32[N, d], rows of unit length; ``popularity`` int[N], training likes of each track;
    ``fit_lists`` and ``judge_lists``: CSR (users x N) of what the users of either panel like, none of it ever
    trained on. Which of `CANDIDATES` is served is chosen inside the fit panel, one half of its users against
    the other, by Brier score. The same seed gives the same result.

    With fewer than `MIN_PAIRS` neighbours in a panel nothing is fitted, and ``status`` says so.
    """
    rng = np.random.default_rng(seed)
    n_users = min(fit_lists.shape[0], judge_lists.shape[0])
    fit_panel, judge_panel = _panel(fit_lists, n_users, rng), _panel(judge_lists, n_users, rng)
    log_popularity = np.log1p(popularity.astype(np.float32))
    fit = _pairs(fit_panel, embeddings, log_popularity, rng)
    judge = _pairs(judge_panel, embeddings, log_popularity, rng)
    sizes = (n_users, fit.n_neighbours, judge.n_neighbours, judge.neighbours.size)

    def not_fitted(needed: int, where: str) -> Calibration:
        status = (
            f"not fitted: too few users are set aside; their two panels of {n_users} hold "
            f"{fit.n_neighbours:,} neighbours among {fit.neighbours.size:,} pairs "
            f"and {judge.n_neighbours:,} among {judge.neighbours.size:,}, and "
            f"{needed} neighbours and as many others are needed in {where}"
        )
        return Calibration(status, *sizes)

    if not (fit.has(MIN_PAIRS) and judge.has(MIN_PAIRS)):
        return not_fitted(MIN_PAIRS, "each")
    one, other = np.array_split(rng.permutation(n_users), 2)
    inner_fit = _pairs(fit_panel[one], embeddings, log_popularity, rng)
    inner_judge = _pairs(fit_panel[other], embeddings, log_popularity, rng)
    if not (inner_fit.has(MIN_PAIRS // 10) and inner_judge.has(MIN_PAIRS // 10)):
        return not_fitted(MIN_PAIRS // 10, "each half of the first")
    brier = {
        name: _brier(_probability(inner_judge, _fit(inner_fit, terms, rng)), inner_judge.neighbours)
        for name, terms in CANDIDATES.items()
    }
    served = min(brier, key=lambda name: brier[name])
    fitted = {
        name: _fit(fit, terms, rng) for name, terms in {REFERENCE: POPULARITY_TERMS, **CANDIDATES}.items()
    }
    predicted = {name: _probability(judge, coefficients) for name, coefficients in fitted.items()}
    judgements = {name: _judge(probability, judge.neighbours) for name, probability in predicted.items()}
    best, reference = judgements[served], judgements[REFERENCE]
    return Calibration(
        "fitted",
        *sizes,
        served=served,
        coefficients=fitted[served],
        judgements=judgements,
        reliability=_reliability(predicted[served], judge.neighbours),
        bands=_bands({name: predicted[name] for name in (served, REFERENCE)}, judge),
        passes=best.skill > max(0.0, reference.skill) + SKILL_MARGIN
        and best.auc > reference.auc + AUC_MARGIN,
    )


def _panel(lists: csr_matrix, n_users: int, rng: np.random.Generator) -> csr_matrix:
    """``n_users`` of the users, drawn uniformly, with long lists cut."""
    from scipy.sparse import csr_matrix

    panel = lists[np.sort(rng.choice(lists.shape[0], n_users, replace=False))]
    order, place = shuffled_rows(panel, rng)
    kept = order[place < MAX_LIST]
    return csr_matrix(
        (np.ones(kept.size, dtype=np.float32), (rows_of(panel)[kept], panel.indices[kept])), shape=panel.shape
    )


def _pairs(
    panel: csr_matrix,
    embeddings: NDArray[np.float32],
    log_popularity: NDArray[np.float32],
    rng: np.random.Generator,
) -> _Pairs:
    """The population of a panel, see the top of the module."""
    tracks = np.unique(panel.indices)
    if tracks.size > MAX_TRACKS:
        tracks = np.sort(rng.choice(tracks, MAX_TRACKS, replace=False))
    likes = panel[:, tracks]
    i, j = np.triu_indices(tracks.size, 1)
    return _Pairs(
        cosine=(embeddings[tracks] @ embeddings[tracks].T)[i, j],
        log_i=log_popularity[tracks[i]],
        log_j=log_popularity[tracks[j]],
        neighbours=(likes.T @ likes).toarray()[i, j] > 0,
    )


def _fit(pairs: _Pairs, names: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    """Weighted logistic regression of being neighbours on the named terms, the first the intercept."""
    from sklearn.linear_model import LogisticRegression

    others = np.flatnonzero(~pairs.neighbours)
    drawn = others if others.size <= MAX_OTHERS else rng.choice(others, MAX_OTHERS, replace=False)
    rows = np.concatenate([np.flatnonzero(pairs.neighbours), drawn])
    sample = pairs.take(rows)
    weight = np.where(sample.neighbours, 1.0, others.size / drawn.size)
    terms = np.stack([sample.term(name) for name in names[1:]], axis=1)
    # Standardised for the solver, undone below; a constant term carries no information and gets 0.
    mean, scale = terms.mean(axis=0), terms.std(axis=0)
    varies = scale > 1e-9
    scale[~varies] = 1.0
    solved = LogisticRegression(C=1e4, solver="newton-cholesky", max_iter=100).fit(
        (terms - mean) / scale, sample.neighbours, sample_weight=weight
    )
    slopes = np.where(varies, solved.coef_[0] / scale, 0.0)
    intercept = float(solved.intercept_[0] - slopes @ mean)
    return {names[0]: intercept, **dict(zip(names[1:], slopes.tolist(), strict=True))}


def _probability(pairs: _Pairs, coefficients: dict[str, float]) -> Floats:
    logit = np.zeros(pairs.neighbours.size)
    for name, coefficient in coefficients.items():
        logit += coefficient * pairs.term(name)
    # The same as 1/(1 + exp(-logit)), without overflow.
    probability: Floats = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return probability


def _brier(probability: Floats, neighbours: NDArray[np.bool_]) -> float:
    return float(np.mean((probability - neighbours) ** 2))


def _judge(probability: Floats, neighbours: NDArray[np.bool_]) -> Judgement:
    from sklearn.metrics import roc_auc_score

    brier = _brier(probability, neighbours)
    base_rate = float(neighbours.mean())
    return Judgement(
        brier=brier,
        skill=1.0 - brier / (base_rate * (1.0 - base_rate)),
        auc=float(roc_auc_score(neighbours, probability)),
        calibration_error=_calibration_error(_reliability(probability, neighbours)),
    )


def _reliability(
    probability: Floats, neighbours: NDArray[np.bool_], n_bins: int = 15
) -> tuple[ReliabilityPoint, ...]:
    """Bins of rising probability that each hold an equal share of the expected neighbours.

    With equal numbers of pairs, nearly all bins would lie where there are almost no neighbours.
    """
    order = np.argsort(probability, kind="stable")
    expected = np.cumsum(probability[order])
    bins = np.minimum((expected / expected[-1] * n_bins).astype(np.int64), n_bins - 1)
    sizes = np.bincount(bins, minlength=n_bins)
    predicted = np.bincount(bins, probability[order], n_bins)
    observed = np.bincount(bins, neighbours[order], n_bins)
    return tuple(
        ReliabilityPoint(float(predicted[b] / sizes[b]), float(observed[b] / sizes[b]), int(sizes[b]))
        for b in range(n_bins)
        if sizes[b]
    )


def _calibration_error(points: tuple[ReliabilityPoint, ...]) -> float:
    """Expected calibration error (Naeini, Cooper and Hauskrecht 2015) over the bins of `_reliability`."""
    total = sum(point.n_pairs for point in points)
    return sum(point.n_pairs * abs(point.predicted - point.observed) for point in points) / total


def _bands(predicted: dict[str, Floats], pairs: _Pairs) -> tuple[Band, ...]:
    """The bands of the first predictor, judged beside the others."""
    probability = next(iter(predicted.values()))
    popularity = pairs.term("log_popularity")
    band = np.searchsorted(np.quantile(popularity, [1 / 3, 2 / 3]), popularity)
    bands = []
    for number, name in enumerate(("least popular third", "middle third", "most popular third")):
        inside = band == number
        if not inside.any():  # popularity may be the same for more than a third of the pairs
            continue
        neighbours = pairs.neighbours[inside]
        points = _reliability(probability[inside], neighbours, n_bins=10)
        bands.append(
            Band(
                name=name,
                predicted=float(probability[inside].mean()),
                observed=float(neighbours.mean()),
                calibration_error=_calibration_error(points),
                reliability=points,
                judgements={name: _judge(one[inside], neighbours) for name, one in predicted.items()}
                if 0 < np.count_nonzero(neighbours) < neighbours.size
                else {},
            )
        )
    return tuple(bands)
