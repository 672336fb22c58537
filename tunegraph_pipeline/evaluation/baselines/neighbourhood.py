"""Tables of neighbours: ItemKNN and RP3β.

Here: the similarity of two tracks by who likes both, cut to the strongest k. Not here: `CoLike`, which keeps
every neighbour (`closed_form`), and the neighbour weights that are served (`training.neighbour_weights`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.baselines.common import (
    BaselineConfig,
    Progress,
    likes_per_track,
    rank_in_blocks,
    top_k,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked


class ItemKnn:
    """Item-based nearest neighbours by shrunk cosine (Sarwar 2001; shrinkage as in Bell and Koren 2007).

    s_ij = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrink), U_i the users who like i; a user's row x scores candidate
    j with the sum of s_ij over the liked i that are among the k tracks most similar to j.
    """

    name = "item_knn"

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]
        self.weights: csr_matrix
        """csr float32, N x N, row = liked track, column = candidate; set by ``fit``."""

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        from scipy.sparse import csr_matrix

        self._popularity = likes_per_track(train)
        root = np.sqrt(self._popularity)

        def similarity(counts: NDArray[np.float32], rows: slice) -> None:
            # A row without a like has no co-likes either, so what it is divided by does not matter.
            counts /= np.maximum(np.outer(root[rows], root) + np.float32(self._config.item_knn_shrink), 1e-12)

        of_candidates = _strongest(
            csr_matrix(train.T), train, similarity, self._config.item_knn_k, self._config, "ItemKNN", progress
        )
        self.weights = csr_matrix(of_candidates.T)

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        return _rank_by(self.weights, likes, k, self._popularity, self._config)


class Rp3Beta:
    """RP3β (Paudel 2017): three steps of a random walk from user to track, popular ends held back.

    w_ij = Σ_u (1/|U_i|)^α (1/|L_u|)^α / |U_j|^β over the users u who like both i and j, cut to the k
    largest of each liked track i; L_u is what u likes. A user's row x scores j with the sum of w_ij.
    """

    name = "rp3beta"

    def __init__(self, config: BaselineConfig) -> None:
        self._config = config
        self._popularity: NDArray[np.float32]
        self.weights: csr_matrix
        """csr float32, N x N, row = liked track, column = candidate; set by ``fit``."""

    def fit(self, train: csr_matrix, progress: Progress | None = None) -> None:
        from scipy.sparse import csr_matrix, diags_array

        config = self._config
        self._popularity = likes_per_track(train)
        alpha = config.rp3beta_alpha
        from_track = diags_array(np.maximum(self._popularity, 1) ** -alpha)
        from_user = diags_array(np.maximum(np.diff(train.indptr), 1).astype(np.float32) ** -alpha)
        held_back = (np.maximum(self._popularity, 1) ** -config.rp3beta_beta).astype(np.float32)

        def penalise(walks: NDArray[np.float32], _: slice) -> None:
            walks *= held_back

        self.weights = _strongest(
            csr_matrix(from_track @ train.T, dtype=np.float32),
            csr_matrix(from_user @ train, dtype=np.float32),
            penalise,
            config.rp3beta_k,
            config,
            "RP3β",
            progress,
        )

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        return _rank_by(self.weights, likes, k, self._popularity, self._config)


def _strongest(
    left: csr_matrix,
    right: csr_matrix,
    rescale: Callable[[NDArray[np.float32], slice], None],
    k: int,
    config: BaselineConfig,
    what: str,
    progress: Progress | None,
) -> csr_matrix:
    """The k largest positive entries of each row of ``left @ right``, diagonal left out, as CSR N x N.

    ``rescale`` is given a dense block of rows and which rows they are, and changes it in place. Ties go to
    the smaller column.
    """
    from scipy.sparse import csr_matrix

    n = left.shape[0]
    block = max(1, config.score_bytes // (16 * max(1, n)))
    columns, values, lengths = [], [], []
    for start in range(0, n, block):
        rows = slice(start, min(n, start + block))
        scores = (left[rows] @ right).toarray().astype(np.float32, copy=False)
        rescale(scores, rows)
        scores[np.arange(scores.shape[0]), np.arange(rows.start, rows.stop)] = 0
        scores[scores <= 0] = -np.inf
        best = top_k(scores, min(k, n))
        kept = best >= 0
        lengths.append(kept.sum(axis=1))
        columns.append(best[kept])
        values.append(np.take_along_axis(scores, np.maximum(best, 0), axis=1)[kept])
        if progress:
            progress(f"{what}: neighbours", rows.stop, n)
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(lengths or [np.zeros(0, dtype=np.int64)]))))
    matrix = csr_matrix((np.concatenate(values), np.concatenate(columns), indptr), shape=(n, n))
    matrix.sort_indices()
    return matrix


def _rank_by(
    weights: csr_matrix,
    likes: csr_matrix,
    k: int,
    popularity: NDArray[np.float32],
    config: BaselineConfig,
) -> Ranked:
    def score(rows: csr_matrix) -> NDArray[np.float32]:
        return np.asarray((rows @ weights).toarray(), dtype=np.float32)

    return rank_in_blocks(score, likes, k, popularity, config.score_bytes)
