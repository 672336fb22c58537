"""Tables of neighbours: ItemKNN and RP3β.

Here: the similarity of two tracks by who likes both, cut to the strongest k. Not here: `CoLike`, which keeps
every neighbour (`closed_form`), and the neighbour weights that are served (`training.neighbour_weights`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.baselines.common import Baseline
from tunegraph_pipeline.graph.csr import rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.progress import Progress

Rescale = Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]], NDArray[np.float32]]


class _Neighbours(Baseline):
    """Scores a track with the sum of the weights that the liked tracks have for it."""

    weights: csr_matrix
    """csr float32, N x N, row = liked track, column = candidate; set by ``fit``."""

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        return np.asarray((likes @ self.weights).toarray(), dtype=np.float32)

    def _strongest(
        self, left: csr_matrix, right: csr_matrix, rescale: Rescale, k: int, progress: Progress | None
    ) -> csr_matrix:
        """The k largest positive entries of each row of ``left @ right``, diagonal left out, as CSR N x N.

        ``rescale`` gets entries of the product with their rows and columns, and returns their new values.
        Ties go to the smaller column.
        """
        from scipy.sparse import csr_matrix

        n = left.shape[0]
        block = max(1, self._config.score_bytes // (16 * max(1, n)))
        columns: list[NDArray[np.int32]] = []
        values: list[NDArray[np.float32]] = []
        for start in range(0, n, block):
            product = csr_matrix(left[start : start + block] @ right)
            product.sort_indices()
            rows = start + rows_of(product)
            product.data = rescale(product.data, rows, product.indices).astype(np.float32, copy=False)
            product.data[rows == product.indices] = 0
            for begin, end in pairwise(product.indptr.tolist()):
                kept = begin + _largest(product.data[begin:end], k)
                columns.append(product.indices[kept])
                values.append(product.data[kept])
            if progress:
                progress(f"{self.name}: neighbours", min(n, start + block), n)
        indptr = np.concatenate(([0], np.cumsum([len(row) for row in columns])))
        return csr_matrix((np.concatenate(values), np.concatenate(columns), indptr), shape=(n, n))


class ItemKnn(_Neighbours):
    """Item-based nearest neighbours by shrunk cosine (Sarwar 2001; shrinkage as in Bell and Koren 2007).

    s_ij = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrink), U_i the users who like i; a user's row x scores candidate
    j with the sum of s_ij over the liked i that are among the k tracks most similar to j.
    """

    name = "item_knn"

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        from scipy.sparse import csr_matrix

        root = np.sqrt(self._popularity)

        def similarity(
            counts: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int32]
        ) -> NDArray[np.float32]:
            size = root[rows] * root[columns] + np.float32(self._config.item_knn_shrink)
            return np.divide(counts, size, dtype=np.float32)

        k = self._config.item_knn_k
        of_candidates = self._strongest(csr_matrix(train.T), train, similarity, k, progress)
        self.weights = csr_matrix(of_candidates.T)


class Rp3Beta(_Neighbours):
    """RP3β (Paudel 2017): three steps of a random walk from user to track, popular ends held back.

    w_ij = Σ_u (1/|U_i|)^α (1/|L_u|)^α / |U_j|^β over the users u who like both i and j, cut to the k
    largest of each liked track i; L_u is what u likes. A user's row x scores j with the sum of w_ij.
    """

    name = "rp3beta"

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        from scipy.sparse import csr_matrix, diags_array

        config = self._config
        alpha = config.rp3beta_alpha
        from_track = diags_array(np.maximum(self._popularity, 1) ** -alpha)
        from_user = diags_array(np.maximum(np.diff(train.indptr), 1).astype(np.float32) ** -alpha)
        held_back = (np.maximum(self._popularity, 1) ** -config.rp3beta_beta).astype(np.float32)

        def penalise(
            walks: NDArray[np.float32], _: NDArray[np.int64], columns: NDArray[np.int32]
        ) -> NDArray[np.float32]:
            return walks * held_back[columns]

        self.weights = self._strongest(
            csr_matrix(from_track @ train.T, dtype=np.float32),
            csr_matrix(from_user @ train, dtype=np.float32),
            penalise,
            config.rp3beta_k,
            progress,
        )


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places, ascending, of the k largest of ``values`` that are above 0; of equal ones the first."""
    if len(values) <= k:
        return np.flatnonzero(values > 0)
    bar = max(np.partition(values, len(values) - k)[len(values) - k], np.float32(0))
    above = np.flatnonzero(values > bar)
    level = np.flatnonzero(values == bar)[: k - len(above)] if bar > 0 else above[:0]
    return np.sort(np.concatenate([above, level]))
