"""Champion and challenger: two models judged on the same users, with the confidence of the difference.

Here: which held-out likes neither model learned from, ranking both over the same candidates, and pairing
their metrics; and whether a model ranks worse than the most popular songs. Not here: resampling users
(`bootstrap`), the rule that turns the metrics of two models into a verdict, and its enforcement
(`recommend.publication`), or where the models and the likes come from (`pipeline.gate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.evaluation.bootstrap import intervals
from tunegraph_pipeline.evaluation.evaluate import HeldOut, evaluate, served
from tunegraph_pipeline.graph.csr import only, rows_of
from tunegraph_pipeline.graph.like_ages import moments_of
from tunegraph_pipeline.graph.split import GATE, id_hashes, pair_folds
from tunegraph_pipeline.lake.arrays import UInt16
from tunegraph_pipeline.recommend.ranking import Ranker
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.graph.like_graph import LikeGraph
    from tunegraph_pipeline.progress import Progress
    from tunegraph_pipeline.recommend.bundle import Bundle


class GateSettings(BaseModel):
    """When a refreshed model may replace the live one, section ``gate`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Literal["map", "recall", "ndcg", "hit_rate"] = "map"
    """The metric that decides; recall is reported beside it."""
    k: int = Field(default=10, ge=1)
    """Length of the lists that are judged."""
    margin: float = Field(default=0.01, ge=0, lt=1)
    """How much worse than the live model a new one may be, as a share of the live model's value."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the interval of the difference."""
    samples: int = Field(default=2000, ge=100)
    """Bootstrap samples of the users."""
    min_users: int = Field(default=30, ge=1)
    """With fewer held-out users than this, no difference is significant and nothing is refused."""
    max_users: int = Field(default=20_000, ge=1)
    """Most users that are judged; of more users, a fixed draw."""
    seed: int = Field(default=0, ge=0)
    """Of the bootstrap and of that draw."""


@dataclass(frozen=True)
class PairedDifference:
    """Means of the same users under two models, and bounds of the interval of challenger - champion."""

    champion: float
    challenger: float
    low: float
    high: float


@dataclass(frozen=True)
class AgainstPopularity:
    """A model beside the most popular songs, on the early-stopping likes of ``users`` users: MAP@10 of both
    (None where no like is held out), and ``high``, the upper bound of the interval of the difference (None
    where it is not known)."""

    model: float | None
    popularity: float | None
    high: float | None
    users: int
    min_users: int

    @property
    def objection(self) -> str:
        """Why the model is refused: it is clearly worse. Else ""."""
        return self._figures if self._worse and not self._doubt else ""

    @property
    def warning(self) -> str:
        """What to know of a model that may be worse, though too little is held out to tell. Else ""."""
        return f"{self._figures}; {self._doubt}" if self._worse and self._doubt else ""

    @property
    def _worse(self) -> bool:
        return self.model is not None and self.popularity is not None and not self.model >= self.popularity

    @property
    def _doubt(self) -> str:
        if self.users >= self.min_users and (self.high is None or self.high < 0):
            return ""
        judges = counted(self.users, "user")
        return f"on {judges} with held-out likes that may be chance, so the gate lets it pass"

    @property
    def _figures(self) -> str:
        return (
            f"MAP@10 on validation is {self.model:.4f}, below the {self.popularity:.4f} of the most popular"
            " songs"
        )


@dataclass(frozen=True)
class TrainedOn:
    """What determines the likes a model never saw in training: ``held_out``, the share of pairs kept from it,
    and ``canonical`` int32[n], the track that stood for each track's recording at the time, -1 where that
    differs between the model and those it was warm started from."""

    held_out: float
    canonical: NDArray[np.int32]


def paired_bootstrap(
    champion: NDArray[np.float64],
    challenger: NDArray[np.float64],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """The interval of the mean difference between two models over users, by `bootstrap.intervals`.

    ``champion`` and ``challenger`` float64[m]: one value per user, the same user in the same row. Pairing
    removes what makes a user easy or hard for both (Efron and Tibshirani 1993, chapter 13).

    All four are NaN without users, and the bounds where a value is not finite. Raises ValueError unless both
    have one dimension and one length.
    """
    if champion.shape != challenger.shape or champion.ndim != 1:
        raise ValueError(f"figures of shape {champion.shape} and {challenger.shape} cannot be paired")
    if not champion.size:
        return PairedDifference(*[float("nan")] * 4)
    means = float(champion.mean()), float(challenger.mean())
    difference = challenger - champion
    if not np.isfinite(difference).all():
        return PairedDifference(*means, float("nan"), float("nan"))
    (found,) = intervals(difference[np.newaxis], level=confidence, resamples=samples, seed=seed)
    return PairedDifference(*means, found.low, found.high)


def unseen_gate_likes(
    graph: LikeGraph,
    track_ids: Sequence[str],
    *,
    split_key: str,
    held_out: float,
    models: Sequence[TrainedOn],
) -> csr_matrix:
    """The likes of the gate fold that none of the models can have been trained on: CSR (users x tracks).

    The fold of a pair never changes while the settings and the recordings stay the same, so on most days this
    is the whole gate fold. Left out are pairs that a model saw because it was trained when a smaller share
    than today's ``held_out`` was held out, and pairs of recordings that had another canonical track then (an
    ISRC became known since), and so another hash. Row and column order are the graph's.
    """
    gate = graph.fold_matrix(GATE)
    keep = np.ones(gate.nnz, dtype=np.bool_)
    smallest = min(model.held_out for model in models)
    if smallest < held_out:
        user_hash = id_hashes(graph.user_ids.tolist(), split_key)
        track_hash = id_hashes(track_ids, split_key)
        keep &= pair_folds(user_hash[rows_of(gate)], track_hash[gate.indices], smallest) == GATE
    for model in models:
        now = graph.canonical[: len(model.canonical)]
        other = np.zeros(graph.n_tracks, dtype=np.bool_)
        other[now[now != model.canonical]] = True
        keep &= ~other[gate.indices]
    return only(gate, keep)


def held_out_for_both(
    likes: csr_matrix, gate: csr_matrix, candidates: NDArray[np.bool_], *, max_users: int, seed: int
) -> HeldOut:
    """Both models' task: given a user's other likes, find their gate likes among ``candidates``.

    ``likes`` and ``gate`` CSR (users x tracks), ``candidates`` bool[tracks]. Gate likes of other tracks are
    ignored, and users without any left are not judged. Of more than ``max_users`` users a draw is judged, the
    same for the same users and seed. There may be no user at all.
    """
    asked = only(gate, candidates[gate.indices])
    rows = np.flatnonzero(np.diff(asked.indptr))
    if rows.size > max_users:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_users, replace=False))
    shown = likes[rows] - gate[rows]
    shown.eliminate_zeros()
    return HeldOut.of(shown, asked[rows])


def continued_for_both(
    likes: csr_matrix,
    gate: csr_matrix,
    candidates: NDArray[np.bool_],
    ages: UInt16,
    *,
    max_users: int,
) -> HeldOut:
    """Both models' task where lists have an order: given what was liked before a gate like, find it.

    ``ages`` uint16, how many likes of the user are newer, in the order of ``likes``; other arguments as of
    :func:`held_out_for_both`. Each gate like with older ones is judged, or ``max_users`` of them, evenly
    spaced; the figures of a user are means over theirs. Likes that are newer are known to the models, and so
    not ranked.
    """
    n_tracks = likes.shape[1]
    keys = rows_of(gate) * np.int64(n_tracks) + gate.indices
    in_gate = np.isin(rows_of(likes) * np.int64(n_tracks) + likes.indices, keys)
    found = moments_of(likes, ages, in_gate & candidates[likes.indices], in_gate, max_users)
    shown = found.context.copy()
    shown.data[:] = 1
    asked = HeldOut.of(shown, found.targets)
    return replace(asked, order=found.context, excluded=found.others, users=found.users)


def most_have_an_order(likes: csr_matrix, gate: csr_matrix, ages: UInt16) -> bool:
    """Whether at least half of the users with gate likes have a list with an order; arguments as of
    :func:`continued_for_both`."""
    asked = np.flatnonzero(np.diff(gate.indptr))
    ordered = np.bincount(rows_of(likes)[ages > 0], minlength=likes.shape[0]) > 0
    return bool(asked.size and 2 * np.count_nonzero(ordered[asked]) >= asked.size)


def compare_bundles(
    champion: Bundle,
    challenger: Bundle,
    held_out: HeldOut,
    settings: GateSettings,
    progress: Progress | None = None,
) -> dict[str, PairedDifference]:
    """Rank with both bundles, each by its own weights, and pair the metrics: metric name -> difference.

    The bundles have the same tracks as ``held_out``. The candidates are the tracks that both may recommend,
    so that neither is judged by songs the other cannot know.
    """
    others = np.flatnonzero(~common_candidates(champion, challenger)).astype(np.int32)
    popularity = challenger.popularity.astype(np.int64)
    figures = []
    for name, bundle in (("the live model", champion), ("the new model", challenger)):

        def tell(_: str, done: int, total: int, name: str = name) -> None:
            if progress is not None:
                progress(f"judge {name}", done, total)

        rank = served(Ranker(bundle, others), tell, held_out)
        figures.append(evaluate(name, rank, held_out, popularity, settings.k))
    return {
        name: paired_bootstrap(
            figures[0].per_user[name],
            figures[1].per_user[name],
            samples=settings.samples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        for name in dict.fromkeys((settings.metric, "recall"))
    }


def common_candidates(champion: Bundle, challenger: Bundle) -> NDArray[np.bool_]:
    """The tracks that both may recommend, bool[N]."""
    return champion.recommendable & challenger.recommendable
