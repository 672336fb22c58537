"""The neighbour weights W: how much a like of a track says for its neighbours, the sparse part of a score.

Here: EASE (Steck 2019) solved where it matters. EASE regresses every track on all others,

    min_w |x_j - X w|^2 + lambda |w|^2,   w_j = 0,   X = D_u^-a A,

which takes one dense inverse of N x N. Most of its weights are close to zero, so each track is regressed on
its strongest co-like neighbours alone: N small ridge systems (G_NN + lambda I) w = G_Nj that need memory for
a block of G = XᵀX only. The weights are then optimal on their support, unlike those of a full solution that
is cut afterwards. A has ones, or the play weights of likes. Not here: weighing W against the embedding
(`blend.py`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.engine.engine import Engine, Input, Outputs, Parcel
from tunegraph_pipeline.engine.local import LOCAL
from tunegraph_pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix


_BATCH = 256
"""Systems in a block, where there is one block of G."""


def local_ridge(
    likes: "csr_matrix",
    neighbours: "csr_matrix",
    *,
    regularisations: tuple[float, ...],
    content: "csr_matrix | None" = None,
    user_exponent: float = 0.25,
    memory_mib: int = 2048,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> "list[csr_matrix]":
    """Return W for each of the ``regularisations`` as csr float32[N, N]: row = liked track, column =
    candidate; zero diagonal. All have the same stored entries, and share G, which takes most of the time.

    ``likes`` is users x N: ones, or how much each like counts; ``content`` T x N, further rows of X,
    unscaled; ``neighbours`` N x N: the columns stored in row j are the tracks that may have a weight for
    track j, its values are not read. Rows of ``likes`` are scaled by (number of likes of the user) **
    -``user_exponent``, so that long lists do not drown short ones. With all other tracks as neighbours this
    is EASE itself.

    ``memory_mib`` bounds the block of G in memory: where the whole catalogue fits (4 N^2 bytes) there is one
    block, else one for each group of related tracks, halved until the union of their neighbours fits. It is
    that of each task of ``engine``, which solves the systems: of groups, or of batches of the one block.
    """
    from scipy.sparse import csc_matrix, csr_matrix, diags_array, vstack

    n_tracks = likes.shape[1]
    scale = np.maximum(np.diff(likes.indptr), 1.0) ** -user_exponent
    X = diags_array(scale) @ likes
    rows = csc_matrix(X if content is None else vstack([X, content]), dtype=np.float32)
    most = max(64, int(np.sqrt(memory_mib * 2**20 / 4)))
    targets = np.flatnonzero(np.diff(neighbours.indptr))
    shared: dict[str, Input] = {"neighbours": neighbours.indices, "neighbours_from": neighbours.indptr}
    if n_tracks <= most:
        shared["gram"] = _gram(rows, np.arange(n_tracks), memory_mib)
        batches = (
            Systems(targets[start : start + _BATCH], regularisations)
            for start in range(0, len(targets), _BATCH)
        )
        solved = engine.run(solved_in_whole, batches, shared)
    else:
        shared |= {"values": rows.data, "rows": rows.indices, "rows_from": rows.indptr}
        # By itself a group is enough for a report of progress, and too little for a task of a cluster.
        a_task = 1 if engine.blocks == 1 else -(-len(targets) // engine.blocks)
        groups = _packed(_groups(neighbours, most), a_task)
        n_rows = rows.shape[0]
        tasks = (GroupsOfSystems(one, n_rows, memory_mib, regularisations) for one in groups)
        solved = engine.run(solved_in_groups, tasks, shared)
    done = 0
    liked, candidate = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    weight = [np.zeros((len(regularisations), 0), np.float32)]
    for found in solved:
        liked.append(found.array("liked"))
        candidate.append(found.array("candidate"))
        weight.append(found.array("weight"))
        done += int(found.array("solved"))
        if progress is not None:
            progress("neighbour weights", done, len(targets))
    where = (np.concatenate(liked), np.concatenate(candidate))
    solutions: list[csr_matrix] = []
    for weights in np.concatenate(weight, axis=1):
        W = csr_matrix((weights, where), shape=(n_tracks, n_tracks))
        W.sort_indices()
        solutions.append(W)
    return solutions


class Systems(NamedTuple):
    """A block of W: the systems of these ``targets``, at most a batch."""

    targets: NDArray[np.int64]
    regularisations: tuple[float, ...]


class GroupsOfSystems(NamedTuple):
    """A block of W: the systems of groups of related targets, over ``n_rows`` rows of X."""

    groups: list[NDArray[np.int64]]
    n_rows: int
    memory_mib: int
    regularisations: tuple[float, ...]


def solved_in_whole(inputs: Parcel, block: Systems) -> Outputs:
    """The entries of W of some targets: ``liked``, ``candidate``, ``weight`` float32[regularisations, n], and
    how many were ``solved``.

    Inputs are the whole ``gram`` and the ``neighbours`` of each target, from ``neighbours_from`` on.
    """
    neighbours = _neighbours_of(inputs)
    place = inputs.once("place", lambda: np.arange(neighbours.n, dtype=np.int32))
    return _entries([_solved(inputs.array("gram"), place, neighbours, block.targets, block.regularisations)])


def solved_in_groups(inputs: Parcel, block: GroupsOfSystems) -> Outputs:
    """The same of groups, for each of which G is made. Inputs are X by columns (``values``, ``rows`` and
    ``rows_from``), and the neighbours."""
    from scipy.sparse import csc_matrix

    neighbours = _neighbours_of(inputs)
    rows = inputs.once(
        "X",
        lambda: csc_matrix(
            (inputs.array("values"), inputs.array("rows"), inputs.array("rows_from")),
            shape=(block.n_rows, neighbours.n),
        ),
    )
    place = inputs.once("place", lambda: np.zeros(neighbours.n, dtype=np.int32))
    solved = []
    for targets in block.groups:
        union = _union(neighbours, targets)
        gram = _gram(rows, union, block.memory_mib)
        place[union] = np.arange(len(union), dtype=np.int32)
        solved.append(_solved(gram, place, neighbours, targets, block.regularisations))
    return _entries(solved)


class _Neighbours(NamedTuple):
    """The neighbours of n tracks, end to end, and where those of each begin."""

    indices: NDArray[np.int32]
    indptr: NDArray[Any]

    @property
    def n(self) -> int:
        return len(self.indptr) - 1


def _neighbours_of(inputs: Parcel) -> _Neighbours:
    return _Neighbours(inputs.array("neighbours"), inputs.array("neighbours_from"))


_Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], int]
"""Of some entries of W the liked track, the candidate and the weight for each regularisation; and how many
systems they solve."""


def _entries(solved: list[_Entries]) -> Outputs:
    liked, candidate, weight, counts = zip(*solved, strict=True)
    return {
        "liked": np.concatenate(liked),
        "candidate": np.concatenate(candidate),
        "weight": np.concatenate(weight, axis=1),
        "solved": np.array(sum(counts)),
    }


def _packed(groups: Iterator[NDArray[np.int64]], targets: int) -> Iterator[list[NDArray[np.int64]]]:
    """The same groups, as many together as have ``targets`` targets."""
    pack: list[NDArray[np.int64]] = []
    inside = 0
    for group in groups:
        pack.append(group)
        inside += len(group)
        if inside >= targets:
            yield pack
            pack, inside = [], 0
    if pack:
        yield pack


def _groups(neighbours: "csr_matrix", most: int) -> Iterator[NDArray[np.int64]]:
    """Yield groups of targets, each target once, whose union with their neighbours is at most ``most``.

    A group is a track and those of its neighbours that are not done yet: related tracks share most of their
    neighbours, so their union stays small. A single track may exceed ``most``.
    """
    of = _Neighbours(neighbours.indices, neighbours.indptr)
    todo = np.diff(of.indptr) > 0
    for first in range(of.n):
        if not todo[first]:
            continue
        near = of.indices[of.indptr[first] : of.indptr[first + 1]]
        group = np.concatenate(([first], near[todo[near]])).astype(np.int64)
        while len(group) > 1 and len(_union(of, group)) > most:
            group = group[: len(group) // 2]
        todo[group] = False
        yield group


def _union(neighbours: _Neighbours, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The targets of a group and their neighbours, ascending."""
    indices, indptr = neighbours
    near = [indices[indptr[track] : indptr[track + 1]] for track in group.tolist()]
    return np.unique(np.concatenate([group, *near])).astype(np.int64)


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


def _solved(
    gram: NDArray[np.float32],
    place: NDArray[np.int32],
    neighbours: _Neighbours,
    targets: NDArray[np.int64],
    regularisations: tuple[float, ...],
) -> _Entries:
    """Solve the ridge systems of ``targets``, one after the other; ``place`` is that of each track in
    ``gram``. Raises LinAlgError where one has no solution."""
    from scipy.linalg.lapack import sposv  # for small systems much faster than a batch in torch

    n_entries = int((neighbours.indptr[targets + 1] - neighbours.indptr[targets]).sum())
    liked, candidate = np.zeros((2, n_entries), np.int32)
    weight = np.zeros((len(regularisations), n_entries), np.float32)
    end = 0
    for target in targets.tolist():
        near = neighbours.indices[neighbours.indptr[target] : neighbours.indptr[target + 1]]
        start, end = end, end + len(near)
        candidate[start:end], liked[start:end] = target, near
        at = place[near]
        system = gram[at[:, np.newaxis], at]
        for solution, regularisation in zip(weight, regularisations, strict=True):
            regular = system.copy()
            regular.flat[:: len(near) + 1] += np.float32(regularisation)
            # The transposed is the same matrix, in the order of LAPACK.
            _, found, failed = sposv(
                regular.T, gram[place[target], at], lower=1, overwrite_a=1, overwrite_b=1
            )
            if failed:
                raise np.linalg.LinAlgError(
                    f"the neighbours of track {target} have no weights: sposv {failed}"
                )
            solution[start:end] = found
    some = np.flatnonzero(weight.any(axis=0))
    return liked[some], candidate[some], weight[:, some], len(targets)
