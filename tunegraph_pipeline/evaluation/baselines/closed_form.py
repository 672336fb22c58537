"""Scorers with a closed form: popularity, time-decayed popularity, normalised co-likes, EASE.

Here: what needs one pass or one inverse. Not here: tables of neighbours (`neighbourhood`), latent vectors
(`factors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import Baseline, BaselineConfig, inverse_root

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.progress import Progress


class Popularity(Baseline):
    """The same list for everybody: the most liked tracks."""

    name = "popularity"

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        """Nothing beyond the popularity."""

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        return np.tile(self._popularity, (likes.shape[0], 1))


class DecayedPopularity(Popularity):
    """The same, a like of h days ago counting half of one of today.

    score(j) = Σ 2^(-age / h) over the likes of j, the strong simple baseline wherever a split is by time
    (Yambda, Ploshkin et al. 2025). A like without a time is taken to be as old as the oldest one that has
    one. Of tracks with equal scores, the more liked one comes first. Raises InputError where no age is known.
    """

    name = "decayed_popularity"

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        ages = self._ages
        if ages is None or not np.isfinite(ages).any():
            raise InputError("it ranks by when songs were liked, which only a split by time says")
        halvings = np.where(np.isfinite(ages), ages, np.nanmax(ages))
        halvings = (halvings - halvings.min()) / self._config.decayed_popularity_half_life
        decayed = np.bincount(train.indices, np.exp2(-halvings), minlength=train.shape[1])
        # Places instead of scores, which may differ by more than a float32 can say.
        order = np.lexsort((-np.arange(len(decayed)), self._popularity, decayed))
        self._popularity[order] = np.arange(len(order))


class CoLike(Baseline):
    """Normalised co-likes with every neighbour kept: scores = x D_i^-½ Aᵀ D_u^-½ A D_i^-½ for a user's row x.

    D_i and D_u are the likes of tracks and of users, so that a track everybody likes and a user who likes
    everything both count for little. The product is taken from the left, through the users who share a like,
    and AᵀA itself is never computed: memory stays that of a block.
    """

    name = "co_like"
    _to_users: csr_matrix
    _to_tracks: csr_matrix

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        from scipy.sparse import csr_matrix, diags_array

        track_scale = inverse_root(self._popularity)
        user_scale = inverse_root(np.diff(train.indptr).astype(np.float32))
        self._to_tracks = csr_matrix(train @ diags_array(track_scale))
        self._to_users = csr_matrix(self._to_tracks.T @ diags_array(user_scale))

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        return np.asarray((likes @ self._to_users @ self._to_tracks).toarray(), dtype=np.float32)


class Ease(Baseline):
    """EASE (Steck 2019): the item-item matrix with zero diagonal that best reproduces A, in closed form.

    P = (AᵀA + λI)^-1 and B_ij = -P_ij / P_jj, so a user's row x scores track j with -(xP)_j / P_jj. The
    diagonal of B matters only to tracks the user likes, and those are left out. P is computed in place in one
    float32 matrix, so memory is 4 N² bytes and a block.
    """

    name = "ease"
    precision: NDArray[np.float32]
    """float32[N, N], P, symmetric; set by ``fit``."""

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        n = train.shape[1]
        if n > self._config.ease_max_tracks:
            raise ValueError(f"EASE over {n} tracks; {self._config.ease_max_tracks} are allowed")
        self.precision = _inverse_in_place(_penalised_gram(train, self._config, progress), progress)

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        return np.asarray((likes @ self.precision) * (-1.0 / np.diagonal(self.precision)), dtype=np.float32)


def _penalised_gram(
    train: csr_matrix, config: BaselineConfig, progress: Progress | None
) -> NDArray[np.float32]:
    """AᵀA + λI as float32[N, N], C order, filled a block of rows at a time."""
    n = train.shape[1]
    gram = np.empty((n, n), dtype=np.float32)
    transposed = train.T.tocsr()
    block = max(1, config.score_bytes // (12 * max(1, n)))
    for start in range(0, n, block):
        (transposed[start : start + block] @ train).toarray(out=gram[start : start + block])
        if progress:
            progress("EASE: co-likes", min(start + block, n), n)
    gram[np.diag_indices(n)] += np.float32(config.ease_lambda)
    return gram


def _inverse_in_place(matrix: NDArray[np.float32], progress: Progress | None) -> NDArray[np.float32]:
    """Inverse of a symmetric positive definite float32[n, n] in C order, computed in the same memory.

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
