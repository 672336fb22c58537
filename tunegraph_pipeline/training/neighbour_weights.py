"""The neighbour weights W: how much a like of a track says for its neighbours, the sparse part of a score.

Here: EASE (Steck 2019) solved where it matters. EASE regresses every track on all others,

    min_w |x_j - X w|^2 + lambda |w|^2,   w_j = 0,   X = D_u^-a A,

which takes one dense inverse of N x N. Most of its weights are close to zero, so each track is regressed on
its strongest co-like neighbours alone: N small ridge systems (G_NN + lambda I) w = G_Nj that need memory for
a block of G = XᵀX only. The weights are then optimal on their support, unlike those of a full solution that
is cut afterwards. Not here: weighing W against the embedding (`blend.py`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix


_BATCH = 256  # systems solved at once: enough for the library, 10 MB at 100 neighbours


def local_ridge(
    likes: "csr_matrix",
    neighbours: "csr_matrix",
    *,
    regularisation: float,
    content: "csr_matrix | None" = None,
    user_exponent: float = 0.25,
    memory_mib: int = 2048,
    progress: Progress | None = None,
) -> "csr_matrix":
    """Return W as csr float32[N, N]: row = liked track, column = candidate; zero diagonal.

    ``likes`` is users x N of ones; ``content`` T x N, further rows of X, unscaled; ``neighbours`` N x N: the
    columns stored in row j are the tracks that may have a weight for track j, its values are not read. Rows
    of ``likes`` are scaled by (likes of the user) ** -``user_exponent``, so that long lists do not drown
    short ones. With all other tracks as neighbours this is EASE itself.

    ``memory_mib`` bounds the block of G in memory: where the whole catalogue fits (4 N^2 bytes) there is one
    block, else one for each group of related tracks, halved until the union of their neighbours fits.
    """
    from scipy.sparse import csc_matrix, csr_matrix, diags_array, vstack

    n_tracks = likes.shape[1]
    scale = np.maximum(np.diff(likes.indptr), 1.0) ** -user_exponent
    X = diags_array(scale) @ likes
    rows = csc_matrix(X if content is None else vstack([X, content]), dtype=np.float32)
    most = max(64, int(np.sqrt(memory_mib * 2**20 / 4)))
    done, n_with_neighbours = 0, int(np.count_nonzero(np.diff(neighbours.indptr)))
    liked, candidate, weight = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for targets, union in _groups(neighbours, most):
        gram = _gram(rows, union, memory_mib)
        place = np.zeros(n_tracks, dtype=np.int32)
        place[union] = np.arange(len(union), dtype=np.int32)
        for start in range(0, len(targets), _BATCH):
            batch = targets[start : start + _BATCH]
            support, solved = _solve(gram, place, neighbours, batch, regularisation)
            row, column = np.nonzero(solved)
            liked.append(support[row, column])
            candidate.append(batch[row].astype(np.int32))
            weight.append(solved[row, column])
            done += len(batch)
            if progress is not None:
                progress("neighbour weights", done, n_with_neighbours)
    entries = (np.concatenate(weight), (np.concatenate(liked), np.concatenate(candidate)))
    W: csr_matrix = csr_matrix(entries, shape=(n_tracks, n_tracks))
    W.sort_indices()
    return W


def _groups(neighbours: "csr_matrix", most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (targets, union of targets and their neighbours), each target once, unions of at most ``most``.

    A group is a track and those of its neighbours that are not done yet: related tracks share most of their
    neighbours, so their union stays small. A single track may exceed ``most``.
    """
    n_tracks = neighbours.shape[0]
    lengths = np.diff(neighbours.indptr)
    if n_tracks <= most:
        yield np.flatnonzero(lengths > 0), np.arange(n_tracks)
        return
    todo = lengths > 0
    for first in range(n_tracks):
        if not todo[first]:
            continue
        near = neighbours.indices[neighbours.indptr[first] : neighbours.indptr[first + 1]]
        group = np.concatenate(([first], near[todo[near]])).astype(np.int64)
        union = _union(neighbours, group)
        while len(union) > most and len(group) > 1:
            group = group[: len(group) // 2]
            union = _union(neighbours, group)
        todo[group] = False
        yield group, union


def _union(neighbours: "csr_matrix", group: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.union1d(group, neighbours[group].indices).astype(np.int64)


def _gram(rows: "csc_matrix", union: NDArray[np.int64], memory_mib: int) -> NDArray[np.float32]:
    """Return XᵀX of the columns in ``union``, dense float32; sparse products of some rows at a time."""
    whole = len(union) == rows.shape[1]
    columns = (rows if whole else rows[:, union]).tocsr()
    transposed = columns.T.tocsr()
    gram = np.empty((len(union), len(union)), dtype=np.float32)
    # A sparse block costs up to three times its dense form.
    step = max(1, memory_mib * 2**20 // 16 // (12 * len(union)))
    for start in range(0, len(union), step):
        gram[start : start + step] = (transposed[start : start + step] @ columns).toarray()
    return gram


def _solve(
    gram: NDArray[np.float32],
    place: NDArray[np.int32],
    neighbours: "csr_matrix",
    targets: NDArray[np.int64],
    regularisation: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Solve the ridge systems of ``targets``: their neighbours and weights, [len(targets), m], 0-padded."""
    import torch

    starts = neighbours.indptr[targets]
    lengths = neighbours.indptr[targets + 1] - starts
    m = int(lengths.max())
    real = np.arange(m) < lengths[:, np.newaxis]
    support = np.zeros((len(targets), m), dtype=np.int32)
    support[real] = np.concatenate(
        [neighbours.indices[a : a + n] for a, n in zip(starts, lengths, strict=True)]
    )
    at = place[support]
    systems = gram[at[:, :, np.newaxis], at[:, np.newaxis, :]]
    if not real.all():  # padding solves 1 * w = 0
        systems *= real[:, :, np.newaxis] & real[:, np.newaxis, :]
        systems[:, np.arange(m), np.arange(m)] += ~real
    systems[:, np.arange(m), np.arange(m)] += np.float32(regularisation)
    right = gram[place[targets][:, np.newaxis], at] * real
    factor = torch.linalg.cholesky(torch.from_numpy(systems))
    solved = torch.cholesky_solve(torch.from_numpy(right)[..., None], factor)[..., 0]
    return support, solved.numpy()
