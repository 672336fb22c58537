"""The initial id vectors: the leading singular vectors of the like graph.

Here: a truncated SVD of the normalised likes. Not here: learning by gradient.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def spectral_start(likes: "csr_matrix", dimension: int, *, seed: int, rounds: int = 4) -> NDArray[np.float32]:
    """Return V sqrt(sigma), float32[N, dimension], of D_u^-1/2 A D_i^-1/2 ~ U sigma Vᵀ, mean row length 1.

    ``likes`` is A, users x N. Subspace iteration (Halko, Martinsson and Tropp 2011) from a seeded start, with
    ``rounds`` products with AᵀA. Where the matrix has fewer than ``dimension`` directions, the remaining
    columns are small noise, so that training can use them.
    """
    from scipy.sparse import csr_matrix, diags_array

    rng = np.random.default_rng(seed)
    n_users, n_tracks = likes.shape
    degrees = np.bincount(likes.indices, minlength=n_tracks)
    by_user = diags_array(np.maximum(np.diff(likes.indptr), 1.0) ** -0.5)
    by_track = diags_array(np.maximum(degrees, 1.0) ** -0.5)
    A = csr_matrix(by_user @ likes @ by_track, dtype=np.float32)
    rank = min(dimension, n_users, n_tracks)
    Y = rng.standard_normal((n_tracks, min(rank + 16, n_users, n_tracks))).astype(np.float32)
    for _ in range(rounds):
        Y, _ = np.linalg.qr(A.T @ (A @ Y))
    projected = A @ Y
    squares, rotation = np.linalg.eigh((projected.T @ projected).astype(np.float64))
    leading = np.argsort(-squares, kind="stable")[:rank]
    # sigma is the root of an eigenvalue, so its own root is the fourth one.
    scale = np.maximum(squares[leading], 0.0) ** 0.25
    start = np.zeros((n_tracks, dimension), dtype=np.float32)
    start[:, :rank] = (Y @ rotation[:, leading].astype(np.float32)) * scale.astype(np.float32)
    length = np.linalg.norm(start, axis=1).mean()
    start /= np.float32(max(float(length), 1e-12))
    noise = rng.standard_normal((n_tracks, dimension - rank)).astype(np.float32)
    start[:, rank:] = 0.01 * noise
    return start
