"""The rankings that every model has to be seen beside: popularity, normalised co-like, EASE.

Here: simple, strong and well-known scorers, each a small class with ``fit`` and ``rank``. Not here: anything
that is served or trained by gradient descent, and the metrics.

All of them rank the whole catalogue, leave out what the user likes, and give ties to the smaller track index.
A user without a known like gets what is popular, as they do from what is served: a comparison is to show the
scorer, not how a newcomer is greeted. Scores are made a block of users at a time, so memory does not grow
with the number of users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked

Progress = Callable[[str, int, int], None]


class BaselineConfig(BaseModel):
    """What the baselines may be told."""

    model_config = ConfigDict(frozen=True)

    ease_lambda: float = Field(default=200.0, gt=0)
    """L2 penalty of EASE; in likes, like the diagonal of AᵀA it is added to."""
    ease_max_tracks: int = Field(default=25_000, ge=1)
    """Above this many tracks EASE is left out: its dense matrix is 4 N² bytes (2.5 GB at 25,000)."""
    score_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """Roughly how much memory a block of scores may take."""


class Baseline(Protocol):
    """A ranking that is fitted to likes in closed form.

    >>> baseline.fit(train)                   # CSR (users x tracks), nonzeros are likes, all ones
    >>> baseline.rank(likes, 10)              # CSR (m x tracks): what each of m users likes -> int32[m, 10]
    """

    @property
    def name(self) -> str:
        """What it is called in the evaluation table."""
        ...

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        """Learn from ``train``: float32 CSR (users x tracks) of ones."""
        ...

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best tracks of each row of ``likes`` that are not in the row; padded with -1."""
        ...


def top_k(scores: NDArray[np.float32], k: int) -> Ranked:
    """The k best columns of each row, best first, ties to the smaller column: int32[m, k].

    Columns at -inf are never chosen; a row with fewer than k others is padded with -1.
    """
    m, n = scores.shape
    ranked = np.full((m, k), -1, dtype=np.int32)
    kept = min(k, n)
    if m == 0 or kept == 0:
        return ranked
    # Whatever reaches the k-th best value may be in the list; only these few are sorted.
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
    # A block is held about three times: the scores, their partitioned copy, and the mask with its finds.
    block = max(1, score_bytes // (12 * max(1, n_tracks)))
    ranked = np.full((m, k), -1, dtype=np.int32)
    for start in range(0, m, block):
        rows = likes[start : start + block]
        scores = score(rows)
        scores[np.diff(rows.indptr) == 0] = popularity
        scores[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices] = -np.inf
        ranked[start : start + block] = top_k(scores, k)
    return ranked


class Popularity:
    """The same list for everybody: the most liked tracks."""

    name = "popularity"

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        self._popularity = likes_per_track(train)

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        def score(rows: csr_matrix) -> NDArray[np.float32]:
            return np.tile(self._popularity, (rows.shape[0], 1))

        return rank_in_blocks(score, likes, k, self._popularity, self._config.score_bytes)


class CoLike:
    """Normalised co-likes with every neighbour kept: scores = x D_i^-½ Aᵀ D_u^-½ A D_i^-½ for a user's row x.

    D_i and D_u are the likes of tracks and of users, so that a track everybody likes and a user who likes
    everything both say little. The product is taken from the left, through the users who share a like, and
    AᵀA itself is never made: memory stays that of a block.
    """

    name = "co_like"

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]
        self._to_users: csr_matrix
        self._to_tracks: csr_matrix

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        from scipy.sparse import csr_matrix, diags_array

        self._popularity = likes_per_track(train)
        track_scale = _inverse_root(self._popularity)
        user_scale = _inverse_root(np.diff(train.indptr).astype(np.float32))
        self._to_tracks = csr_matrix(train @ diags_array(track_scale))
        self._to_users = csr_matrix(self._to_tracks.T @ diags_array(user_scale))

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        def score(rows: csr_matrix) -> NDArray[np.float32]:
            return np.asarray((rows @ self._to_users @ self._to_tracks).toarray(), dtype=np.float32)

        return rank_in_blocks(score, likes, k, self._popularity, self._config.score_bytes)


class Ease:
    """EASE (Steck 2019): the item-item matrix with zero diagonal that best reproduces A, in closed form.

    P = (AᵀA + λI)^-1 and B_ij = -P_ij / P_jj, so a user's row x scores track j with -(xP)_j / P_jj. The
    diagonal of B matters to tracks the user likes alone, and those are left out. P is made in place in one
    float32 matrix: 4 N² bytes and a block are all the memory it takes.
    """

    name = "ease"

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]
        self.precision: NDArray[np.float32]
        """float32[N, N], P, symmetric; set by ``fit``."""

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        n = train.shape[1]
        if n > self._config.ease_max_tracks:
            raise ValueError(f"EASE over {n} tracks; {self._config.ease_max_tracks} are allowed")
        self._popularity = likes_per_track(train)
        self.precision = _inverse_in_place(_penalised_gram(train, self._config, progress), progress)

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        scale = -1.0 / np.diagonal(self.precision)

        def score(rows: csr_matrix) -> NDArray[np.float32]:
            return np.asarray((rows @ self.precision) * scale, dtype=np.float32)

        return rank_in_blocks(score, likes, k, self._popularity, self._config.score_bytes)


def baselines(n_tracks: int, config: BaselineConfig) -> tuple[list[Baseline], dict[str, str]]:
    """The baselines a catalogue of ``n_tracks`` allows, unfitted, and why each of the others was left out.

    Fit, judge and drop them one after the other: EASE holds 4 N² bytes for as long as it is kept.
    """
    chosen: list[Baseline] = [Popularity(config), CoLike(config)]
    left_out: dict[str, str] = {}
    if n_tracks <= config.ease_max_tracks:
        chosen.append(Ease(config))
    else:
        left_out[Ease.name] = (
            f"{n_tracks:,} tracks are more than the {config.ease_max_tracks:,} its dense matrix is made for"
        )
    return chosen, left_out


def likes_per_track(train: csr_matrix) -> NDArray[np.float32]:
    """How many users like each track: float32[N], whole numbers."""
    return np.bincount(train.indices, minlength=train.shape[1]).astype(np.float32)


def _inverse_root(degrees: NDArray[np.float32]) -> NDArray[np.float32]:
    """1/√degree, and 0 where there is no like."""
    return np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0).astype(np.float32)


def _penalised_gram(
    train: csr_matrix, config: BaselineConfig, progress: Progress | None
) -> NDArray[np.float32]:
    """AᵀA + λI as float32[N, N], C order, filled a block of rows at a time."""
    n = train.shape[1]
    gram = np.empty((n, n), dtype=np.float32)
    transposed = train.T.tocsr()
    block = max(1, config.score_bytes // (12 * max(1, n)))
    for start in range(0, n, block):
        if progress:
            progress("EASE: co-likes", start, n)
        (transposed[start : start + block] @ train).toarray(out=gram[start : start + block])
    gram[np.diag_indices(n)] += np.float32(config.ease_lambda)
    return gram


def _inverse_in_place(matrix: NDArray[np.float32], progress: Progress | None) -> NDArray[np.float32]:
    """Inverse of a symmetric positive definite float32[n, n] in C order, in the very memory it came in.

    Cholesky (spotrf) and the inverse from its factor (spotri) work on one triangle; it is then mirrored.
    """
    from scipy.linalg import lapack

    n = matrix.shape[0]
    if progress:
        progress("EASE: inverse", 0, 2)
    # LAPACK counts columns first: the transposed view of a C matrix is what it takes without a copy.
    factor, info = lapack.spotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    if progress:
        progress("EASE: inverse", 1, 2)
    if info == 0:
        factor, info = lapack.spotri(factor, lower=1, overwrite_c=1)
    if info != 0:
        raise np.linalg.LinAlgError(f"AᵀA + λI could not be inverted (LAPACK info {info}): λ is too small")
    # Lower in LAPACK's view is upper in ours; mirrored in square tiles, which stay in cache.
    inverse: NDArray[np.float32] = factor.T
    tile = 2048
    for start in range(0, n, tile):
        stop = min(n, start + tile)
        square = inverse[start:stop, start:stop]
        square[:] = np.triu(square) + np.triu(square, 1).T
        for other in range(stop, n, tile):
            inverse[other : other + tile, start:stop] = inverse[start:stop, other : other + tile].T
    if progress:
        progress("EASE: inverse", 2, 2)
    return inverse
