"""What every baseline shares: its settings, and ranking by scores a block of users at a time.

Here: `BaselineConfig`, the base class `Baseline`, top-k with settled ties. Not here: any one scorer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.graph.csr import rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.progress import Progress


class BaselineConfig(BaseModel):
    """Settings of the baselines. Values tuned for a set of likes are in `tuned.json`: see `tuned`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decayed_popularity_half_life: float = Field(default=30.0, gt=0)
    """Days after which a like counts half."""
    ease_lambda: float = Field(default=200.0, gt=0)
    """L2 penalty of EASE; in likes, like the diagonal of AᵀA it is added to."""
    ease_recency: float = Field(default=0.5, ge=0)
    """How much more newer likes count in a list whose order is known: (1 + age)^-this."""
    co_like_recency: float = Field(default=0.5, ge=0)
    """As for EASE."""
    als_recency: float = Field(default=0.5, ge=0)
    """As for EASE: newer likes are more certain."""
    ease_max_tracks: int = Field(default=25_000, ge=1)
    """Above this many tracks EASE is left out: its dense matrix is 4 N² bytes (2.5 GB at 25,000)."""
    item_knn_k: int = Field(default=100, ge=1)
    """Most similar tracks a candidate is compared with."""
    item_knn_recency: float = Field(default=0.5, ge=0)
    """As for EASE."""
    item_knn_shrink: float = Field(default=10.0, ge=0)
    """Added to the denominator of the cosine, so that similarities based on few likes are small."""
    rp3beta_alpha: float = Field(default=1.0, gt=0)
    """Exponent of the transition probabilities."""
    rp3beta_beta: float = Field(default=0.5, ge=0)
    """A candidate's score is divided by its likes to this power."""
    rp3beta_recency: float = Field(default=0.5, ge=0)
    """As for EASE."""
    rp3beta_k: int = Field(default=100, ge=1)
    """Candidates kept per liked track."""
    als_factors: int = Field(default=128, ge=1)
    """Length of the vectors of implicit ALS."""
    als_regularisation: float = Field(default=1.0, ge=0)
    """L2 penalty on them."""
    als_alpha: float = Field(default=10.0, gt=0)
    """Confidence in a like; that in its absence is 1."""
    als_iterations: int = Field(default=15, ge=1)
    """Alternations between users and tracks."""
    lightgcn_dimension: int = Field(default=64, ge=1)
    """Length of the embeddings of LightGCN."""
    lightgcn_layers: int = Field(default=2, ge=1)
    """Its propagation layers."""
    lightgcn_epochs: int = Field(default=20, ge=1)
    """Passes over the likes."""
    lightgcn_learning_rate: float = Field(default=0.01, gt=0)
    """Of Adam."""
    lightgcn_regularisation: float = Field(default=1e-4, ge=0)
    """L2 penalty on the embeddings of a batch."""
    lightgcn_batch: int = Field(default=8192, ge=1)
    """Likes per step, each against one track that is not liked."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""
    score_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Approximate memory of a block of scores."""


class ScoreRanking(ABC):
    """Ranks the catalogue by a score for every track; users without likes get the most popular tracks."""

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]
        """float32[N], likes of each track in training; set by ``fit``."""

    @abstractmethod
    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        """The score of every track for each row of ``likes`` CSR (m x N): a new array, float32[m, N]."""

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best tracks of each row of ``likes`` that are not in the row; padded with -1."""
        return rank_in_blocks(self._scores, likes, k, self._popularity, self._config.score_bytes)


class Baseline(ScoreRanking):
    """A ranking that is fitted to likes.

    >>> baseline.fit(train)                   # CSR (users x tracks), nonzeros are likes, all ones
    >>> baseline.rank(likes, 10)              # CSR (m x tracks): what each of m users likes -> int32[m, 10]

    A baseline that learns something about each user also has a method ``rank_known(users, likes, k)``, with
    users int64[m] the row of each in ``train``, or -1 for a user who has none.
    """

    name: ClassVar[str]
    """What it is called in the evaluation table."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.recency: float | None = getattr(config, f"{self.name}_recency", None)
        """How much more newer likes count in a list whose order is known; None: all lists are sets."""

    def rank_ordered(self, lists: csr_matrix, k: int) -> Ranked:
        """As ``rank``, for lists in their order, CSR (m x N), whose values are 1 + the age of each like: a
        like counts (1 + age)^-recency of the newest."""
        weighed = lists.astype(np.float32)
        weighed.data **= -np.float32(self.recency or 0.0)
        return self.rank(weighed, k)

    def fit(
        self,
        train: csr_matrix,
        progress: Progress | None = None,
        ages: NDArray[np.float64] | None = None,
    ) -> None:
        """Learn from ``train``: float32 CSR (users x tracks) of ones. ``ages``: float64[nnz], how many days
        ago each like was made, in the order of ``train``, NaN where unknown; most baselines ignore it.

        Raises InputError where the baseline needs what is not known.
        """
        self._popularity, self._ages = likes_per_track(train), ages
        self._learn(train, progress)

    @abstractmethod
    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        """What ``fit`` does once the popularity is counted."""


def top_k(scores: NDArray[np.float32], k: int) -> Ranked:
    """The k best columns of each row, best first, ties to the smaller column: int32[m, k].

    Columns at -inf are never chosen; a row with fewer than k others is padded with -1.
    """
    m, n = scores.shape
    ranked = np.full((m, k), -1, dtype=np.int32)
    kept = min(k, n)
    if m == 0 or kept == 0:
        return ranked
    # Only the values that reach the k-th best are sorted.
    threshold = np.partition(scores, n - kept, axis=1)[:, n - kept]
    rows, columns = np.nonzero((scores >= threshold[:, None]) & (scores > -np.inf))
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(rows.size) - np.searchsorted(rows, rows)
    inside = place < k
    ranked[rows[inside], place[inside]] = columns[inside]
    return ranked


def rank_in_blocks(
    score: Callable[[csr_matrix], NDArray[np.float32]],
    likes: csr_matrix,
    k: int,
    popularity: NDArray[np.float32],
    score_bytes: int,
) -> Ranked:
    """Rank ``likes`` a block of rows at a time, what a user likes left out; empty rows by popularity."""
    m, n_tracks = likes.shape
    # A block takes about three times its size: the scores, their partitioned copy, the mask and its matches.
    block = max(1, score_bytes // (12 * max(1, n_tracks)))
    ranked = np.full((m, k), -1, dtype=np.int32)
    for start in range(0, m, block):
        rows = likes[start : start + block]
        scores = score(rows)
        scores[np.diff(rows.indptr) == 0] = popularity
        scores[rows_of(rows), rows.indices] = -np.inf
        ranked[start : start + block] = top_k(scores, k)
    return ranked


def likes_per_track(train: csr_matrix) -> NDArray[np.float32]:
    """How many users like each track: float32[N], whole numbers."""
    return np.bincount(train.indices, minlength=train.shape[1]).astype(np.float32)


def inverse_root(degrees: NDArray[np.float32]) -> NDArray[np.float32]:
    """1/√degree, and 0 where there is no like."""
    return np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0).astype(np.float32)
