"""Updating the co-like matrix B from the likes that changed, at a cost that grows with the change alone.

Here: what a change of A does to B, to the pruned form, and to the files; when an update pays; and merging
what was added into the base. Not here: building B from scratch, and reading it (`co_like.py`).

Let A' = A + C, with C the likes that came (1) and went (-1). Then

    B' = A'ᵀA' = AᵀA + (AᵀC + CᵀA'),

in whole numbers, so B' is the same however many updates lead to it. Only rows of users whose list changed
take part, each with the few entries of C. What is added is kept as a delta beside the base, whose files the
new version shares with the old one.

The pruned form keeps the cosine B[i, j] / sqrt(f_i f_j) of the strongest neighbours of each track. f is the
degree when the base was built, frozen, so that one like of a hit does not move a hundred thousand scores; a
track whose degree has since moved by more than a share of f gets its present degree. For these f the rows are
exact: entries that changed are examined one by one, all others keep their order, and any entry that was never
kept is known to be below the last one kept. A row that lost so many of its strongest neighbours that one of
the unknown entries could be among the k is recomputed from B.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import CO_LIKE, Block, CoLike, Rows, Strongest, stream_rows
from tunegraph_pipeline.graph.csr import found_in, offsets_of, rows_of
from tunegraph_pipeline.lake.array_spec import as_declared, optional
from tunegraph_pipeline.lake.arrays import write_arrays
from tunegraph_pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DRIFT = 0.2
"""A track gets its present degree once that is further from the frozen one than this share of it."""

_BASE_PARTS = ("indptr", "indices", "counts", "top_indptr", "top_indices", "top_scores", "top_complete")
_SMALL = 5e6  # pairs in all lists below which B is built in less than a second
_DEARER = 25  # what a changed pair costs in an update, on the scale of one in a build
_CHUNK = 1 << 16  # pairs looked up at a time: their arrays stay in the cache
_ENTRIES_A_BLOCK = 1 << 22  # of B held while rows are recomputed or merged

Ints = npt.NDArray[np.int64]


def update_co_like(
    before: CoLike,
    likes: "csr_matrix",
    change: "csr_matrix",
    folder: Path,
    *,
    drift: float = DRIFT,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the B of ``likes + change`` into ``folder`` for `CoLike.open`, given that of ``likes``.

    ``likes``: users x N of ones; ``change``: the same shape, 1 for a like that came, -1 for one that went and
    nothing else; users may be in any order, and those with nothing in ``change`` may be left out of both. N
    may have grown since ``before``. ``drift``: see `DRIFT`. ``facts`` are kept beside those of the matrix.
    Not atomic: the caller stages the folder.

    Raises LakeError where ``before`` has no exact counts to update.
    """
    if before.base is None:
        raise LakeError("a co-like matrix that is kept pruned cannot be updated; rebuild it")

    def step(number: int) -> None:
        if progress is not None:
            progress("updating co-likes", number, 5)

    n_tracks = likes.shape[1]
    added = added_counts(likes, change)
    step(1)
    delta = _sum(_grown(before.delta, n_tracks), added)
    degrees = _padded(before.degrees, n_tracks) + np.bincount(
        change.indices, weights=change.data, minlength=n_tracks
    ).astype(np.int32)
    old = _padded(before.frozen, n_tracks)
    adrift = np.abs(degrees - old) > drift * old
    frozen = np.where(adrift, degrees, old).astype(np.int32)
    pruned = _Pruned(before, old, frozen, delta, added)
    moved = _with_earlier(before, pruned.moved(np.flatnonzero(adrift), step))
    step(4)
    arrays: dict[str, npt.NDArray[Any]] = {
        "degrees": degrees,
        "frozen": frozen,
        **_rows_of_csr(delta).arrays("delta_", "counts"),
        "moved": moved.tracks,
        **moved.top.arrays("moved_"),
    }
    found = {**before.facts, **(facts or {}), "n_tracks": n_tracks}
    found["n_likes"] = int(before.facts["n_likes"] + change.data.sum())
    declared = before.parts.link(folder, _BASE_PARTS)
    write_arrays(folder, as_declared(optional(CO_LIKE), arrays), found, declared)
    step(5)


def compact_co_like(before: CoLike, folder: Path, *, facts: Mapping[str, Any] | None = None) -> None:
    """Write ``before`` into ``folder`` with its delta merged into its base.

    B, the pruned form and the frozen degrees do not change. Memory is bounded; not atomic.
    """
    if before.base is None:
        raise LakeError("a co-like matrix that is kept pruned has nothing to merge")
    folder.mkdir(parents=True, exist_ok=True)
    indptr = stream_rows(_merged_blocks(before), folder, "indices", "counts", np.int32)
    arrays: dict[str, npt.NDArray[Any]] = {
        "degrees": before.degrees,
        "frozen": before.frozen,
        "indptr": indptr,
        **_all_top(before).arrays("top_"),
        "delta_indptr": np.zeros(before.n_tracks + 1),
        "delta_indices": np.zeros(0),
        "delta_counts": np.zeros(0),
        "moved": np.zeros(0),
        **_no_neighbours(0).arrays("moved_"),
    }
    found = {**before.facts, **(facts or {}), "nnz": int(indptr[-1])}
    write_arrays(folder, as_declared(optional(CO_LIKE), arrays), found)


def update_pays(everything: "csr_matrix", likes: "csr_matrix", change: "csr_matrix") -> bool:
    """Whether an update of B is faster than a rebuild, by measurements of both (`benchmarks/incremental.py`).

    ``everything`` are the likes of today; the others as in :func:`update_co_like`. A rebuild adds up the
    pairs of all lists; an update only those with a changed like, at a higher cost for each.
    """
    lengths = np.diff(everything.indptr).astype(np.float64)
    pairs = float((lengths * lengths).sum())
    changed = np.diff(change.indptr).astype(np.float64)
    moved = float((changed * (2 * np.diff(likes.indptr) + changed)).sum())
    return pairs >= _SMALL and moved * _DEARER < pairs


def added_counts(likes: "csr_matrix", change: "csr_matrix") -> "csr_matrix":
    """Return what ``change`` adds to B, int32 N x N: AᵀC + CᵀA' with A' = A + C, without diagonal and zeros,
    columns ascending. Arguments as in :func:`update_co_like`."""
    from scipy.sparse import csr_matrix

    users = np.flatnonzero(np.diff(change.indptr))
    C = csr_matrix(change[users], dtype=np.int32)
    A = csr_matrix(likes[users], dtype=np.int32)
    # B' - B is symmetric, and AᵀC + CᵀA' is the sum of X = AᵀC and its transpose but for CᵀC.
    X = (A.T.tocsr() @ C).tocsr()
    added = csr_matrix(X + X.T + C.T.tocsr() @ C)
    added.setdiag(0)
    added.eliminate_zeros()
    added.sort_indices()
    return added


class _Pruned:
    """The rows of the pruned form that a change moves.

    A score is compared by its key, count * w_j (1 - j * tie), with w = max(f, 1) ** -1/2: the factor w_i of
    the row changes no order, and the last one puts equal scores in the order of their index, as
    `co_like.strongest_neighbours` does.
    """

    def __init__(
        self,
        before: CoLike,
        old: npt.NDArray[np.int32],
        frozen: npt.NDArray[np.int32],
        delta: "csr_matrix",
        added: "csr_matrix",
    ) -> None:
        n_tracks = len(frozen)
        tie = 1 - 2.0**-26 / max(n_tracks, 1) * np.arange(n_tracks)
        self._before = before
        self._n = n_tracks
        self._kept = int(before.facts["kept"])
        self._k = int(before.facts["k"])
        self._old_weight = np.maximum(old, 1.0) ** -0.5
        self._weight = np.maximum(frozen, 1.0) ** -0.5
        self._old_key = self._old_weight * tie
        self._key = self._weight * tie
        self._delta, self._added = _rows_of_csr(delta), _rows_of_csr(added)

    def moved(self, adrift: Ints, step: Callable[[int], None]) -> "_Moved":
        """Return the tracks whose row has changed, and their rows.

        ``adrift``: the tracks whose frozen degree has changed; ``step`` counts the parts of the update.
        """
        row, column, count_before, count = self._changed_pairs(adrift)
        step(2)
        last, cut = self._last_keys(np.union1d(row, adrift))
        # Whether a pair is, or was, among the kept of its row.
        above = (count > 0) & (count * self._key[column] >= last[row])
        was_above = (count_before > 0) & (count_before * self._old_key[column] >= last[row])
        matters = above | was_above
        row, column, count = row[matters], column[matters], count[matters]
        rows = np.union1d(row, adrift)
        kept_row, kept_column, kept_count = self._kept_of(rows)
        # Entries that changed replace what was kept of them.
        stands = ~found_in(kept_row * self._n + kept_column, row * self._n + column)
        row = np.concatenate([kept_row[stands], row[count > 0]])
        column = np.concatenate([kept_column[stands], column[count > 0]])
        count = np.concatenate([kept_count[stands], count[count > 0]])
        # Only entries above the last one kept are known to be above all that are not kept.
        certain = count * self._key[column] >= last[row]
        row, column, count = row[certain], column[certain], count[certain]
        known = np.bincount(row, minlength=self._n)
        again = rows[cut[rows] & (known[rows] < self._k)]
        left = ~np.isin(row, again)
        cut[rows] |= known[rows] > self._kept
        cut[again] = False
        parts = [(row[left], column[left], count[left])]
        for block in self._rows_of_b(again):
            parts.append(block)
            length = np.bincount(block[0], minlength=self._n)
            cut[block[0]] = length[block[0]] >= self._kept
        row, column, count = (np.concatenate(part) for part in zip(*parts, strict=True))
        step(3)
        return _Moved(rows, self._best(rows, row, column, count, ~cut[rows]))

    def _changed_pairs(self, adrift: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Return row, column, count before and count now of every pair whose key may have changed."""
        n, before = self._n, self._before
        assert before.base is not None
        rows = np.repeat(np.arange(n), np.diff(self._added.indptr))
        pairs = [rows * n + self._added.indices]
        # The weight of a track adrift counts in the rows of all its neighbours.
        for part in (before.base, before.delta):
            own = adrift[adrift < len(part)]
            owner, place = _places(part.indptr, own)
            pairs.append(part.indices[place].astype(np.int64) * n + own[owner])
        keys = np.sort(np.concatenate(pairs))
        keys = keys[np.diff(keys, prepend=-1) > 0]
        row, column = keys // n, keys % n
        now = _counts_at(before.base, row, column) + _counts_at(self._delta, row, column)
        return row, column, now - _counts_at(self._added, row, column), now

    def _last_keys(self, rows: Ints) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return, float64[N], the old key of the last neighbour kept in each of ``rows``, -inf where all are
        kept; and, bool[N], whether there may be more neighbours than are kept."""
        last = np.full(self._n, -np.inf)
        for of, top, number in self._tops(rows):
            more = ~top.complete[number]
            track, end = of[more], top.indptr[number[more] + 1] - 1
            column = top.indices[end]
            count = np.rint(top.values[end] / (self._old_weight[track] * self._old_weight[column]))
            last[track] = count * self._old_key[column]
        return last, last > -np.inf

    def _kept_of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return row, column and count of all entries that were kept in ``rows``."""
        found = [(np.zeros(0, np.int64),) * 3]
        for of, top, number in self._tops(rows):
            owner, place = _places(top.indptr, number)
            row, column = of[owner], top.indices[place].astype(np.int64)
            weight = self._old_weight[row] * self._old_weight[column]
            found.append((row, column, np.rint(top.values[place] / weight).astype(np.int64)))
        row, column, count = (np.concatenate(part) for part in zip(*found, strict=True))
        return row, column, count

    def _tops(self, rows: Ints) -> Iterator[tuple[Ints, Strongest, Ints]]:
        """Yield where the rows of the pruned form are: which tracks, in which rows, at which number."""
        before = self._before
        place = np.searchsorted(before.moved, rows)
        is_moved = np.zeros(len(rows), dtype=np.bool_)
        inside = place < len(before.moved)
        is_moved[inside] = before.moved[place[inside]] == rows[inside]
        yield rows[is_moved], before.moved_top, place[is_moved]
        rest = rows[~is_moved]
        rest = rest[rest < len(before.top)]
        yield rest, before.top, rest

    def _rows_of_b(self, rows: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield row, column and count of whole rows of B now, some rows at a time, the best of each."""
        base = self._before.base
        assert base is not None
        for block in _blocks(base, rows):
            counts = _rows_now(base, self._delta, block, self._n)
            row = block[rows_of(counts)]
            best = _first_of_each(row, np.asarray(counts.data * self._key[counts.indices]), self._kept)
            yield row[best], counts.indices[best].astype(np.int64), counts.data[best].astype(np.int64)

    def _best(
        self, rows: Ints, row: Ints, column: Ints, count: Ints, complete: npt.NDArray[np.bool_]
    ) -> Strongest:
        """Return the best of the entries of each of ``rows``."""
        best = _first_of_each(row, np.asarray(count * self._key[column]), self._kept)
        row, column, count = row[best], column[best], count[best]
        lengths = np.bincount(row, minlength=self._n)[rows]
        scores = count * self._key[column] * self._weight[row]
        return Strongest(offsets_of(lengths), column.astype(np.int32), scores.astype(np.float32), complete)


class _Moved(NamedTuple):
    """``tracks``: int64[m] ascending; ``top``: their m rows of the pruned form."""

    tracks: Ints
    top: Strongest


def _with_earlier(before: CoLike, now: _Moved) -> _Moved:
    """Return the rows that moved before with those that moved now, the latter where both did."""
    earlier = np.flatnonzero(~np.isin(before.moved, now.tracks))
    tracks = np.concatenate([before.moved[earlier].astype(np.int64), now.tracks])
    order = np.argsort(tracks, kind="stable")
    parts = [(before.moved_top, earlier), (now.top, np.arange(len(now.tracks)))]
    return _Moved(tracks[order], _put_together(parts, order))


def _all_top(matrix: CoLike) -> Strongest:
    """Return the pruned rows of every track in one piece."""
    still = np.setdiff1d(np.arange(len(matrix.top)), matrix.moved)
    new = np.setdiff1d(np.arange(len(matrix.top), matrix.n_tracks), matrix.moved)  # nobody's neighbours
    order = np.argsort(np.concatenate([still, matrix.moved, new]), kind="stable")
    parts = [
        (matrix.top, still),
        (matrix.moved_top, np.arange(len(matrix.moved))),
        (_no_neighbours(len(new)), np.arange(len(new))),
    ]
    return _put_together(parts, order)


def _no_neighbours(n: int) -> Strongest:
    no_entry = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return Strongest(np.zeros(n + 1, np.int64), *no_entry, complete=np.ones(n, dtype=np.bool_))


def _put_together(parts: list[tuple[Strongest, Ints]], order: Ints) -> Strongest:
    """Return the rows of these numbers of several, one part after the other, in this order."""
    lengths = np.concatenate([part.indptr[n + 1] - part.indptr[n] for part, n in parts])
    places = [_places(part.indptr, number)[1] for part, number in parts]
    columns = np.concatenate([part.indices[at] for (part, _), at in zip(parts, places, strict=True)])
    scores = np.concatenate([part.values[at] for (part, _), at in zip(parts, places, strict=True)])
    complete = np.concatenate([part.complete[number] for part, number in parts])
    _, place = _places(offsets_of(lengths), order)
    return Strongest(offsets_of(lengths[order]), columns[place], scores[place], complete[order])


def _merged_blocks(matrix: CoLike) -> Iterator[Block]:
    """Yield B, base and delta in one, some rows at a time."""
    base = matrix.base
    assert base is not None
    for block in _blocks(base, np.arange(matrix.n_tracks)):
        counts = _rows_now(base, matrix.delta, block, matrix.n_tracks)
        yield np.diff(counts.indptr).astype(np.int64), counts.indices, counts.data


def _blocks(base: Rows[np.int32], rows: Ints) -> Iterator[Ints]:
    """Cut ``rows`` so that the base has at most `_ENTRIES_A_BLOCK` in each, or a single row."""
    length = np.zeros(len(rows), dtype=np.int64)
    inside = rows < len(base)
    length[inside] = base.indptr[rows[inside] + 1] - base.indptr[rows[inside]]
    group = np.maximum(np.cumsum(length) - 1, 0) // _ENTRIES_A_BLOCK
    bounds = np.flatnonzero(np.diff(group, prepend=-1))
    yield from np.split(rows, bounds[1:]) if len(rows) else ()


def _rows_now(base: Rows[np.int32], delta: Rows[np.int32], rows: Ints, n_tracks: int) -> "csr_matrix":
    """Return some rows of B, int32[len(rows), N], columns ascending, without zeros."""
    from scipy.sparse import csr_matrix

    parts = []
    for part in (base, delta):
        inside = rows < len(part)
        lengths = np.zeros(len(rows), dtype=np.int64)
        lengths[inside] = part.indptr[rows[inside] + 1] - part.indptr[rows[inside]]
        _, place = _places(part.indptr, rows[inside])
        parts.append(
            csr_matrix(
                (part.values[place], part.indices[place], offsets_of(lengths)), shape=(len(rows), n_tracks)
            )
        )
    return _sum(*parts)


def _rows_of_csr(matrix: "csr_matrix") -> Rows[np.int32]:
    return Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)


def _sum(left: "csr_matrix", right: "csr_matrix") -> "csr_matrix":
    """The sum of two, columns ascending, without zeros."""
    total: csr_matrix = (left + right).tocsr()
    total.eliminate_zeros()
    total.sort_indices()
    return total


def _grown(rows: Rows[np.int32], n_tracks: int) -> "csr_matrix":
    """Return rows as a square matrix of ``n_tracks``, with empty rows at the end."""
    from scipy.sparse import csr_matrix

    indptr = np.concatenate([rows.indptr, np.repeat(rows.indptr[-1:], n_tracks - len(rows))])
    return csr_matrix((rows.values, rows.indices, indptr), shape=(n_tracks, n_tracks))


def _padded(values: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int32]:
    return np.concatenate([values, np.zeros(n - len(values), dtype=np.int32)])


def _places(indptr: npt.NDArray[Any], rows: Ints) -> tuple[Ints, Ints]:
    """Return, for every entry of ``rows`` of a CSR, row after row: its row, as a place in ``rows``, and its
    place among all entries."""
    start = np.asarray(indptr[rows], dtype=np.int64)
    lengths = np.asarray(indptr[rows + 1], dtype=np.int64) - start
    owner = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return owner, start[owner] + within


def _counts_at(rows: Rows[np.int32], row: Ints, column: Ints) -> Ints:
    """Return the value at each (row, column), 0 where none is stored: int64[m].

    Binary search in all rows at once, some pairs at a time.
    """
    found = np.zeros(len(row), dtype=np.int64)
    for start in range(0, len(row), _CHUNK):
        at = slice(start, start + _CHUNK)
        i = np.minimum(row[at], len(rows) - 1)
        low = rows.indptr[i].astype(np.int64)
        size = np.where(row[at] < len(rows), rows.indptr[i + 1] - low, 0)
        there = np.flatnonzero(size > 0)
        low, size, sought = low[there], size[there], column[at][there]
        while len(size) and size.max() > 1:
            half = size >> 1
            low += np.where(rows.indices[low + half] <= sought, half, 0)
            size -= half
        hit = rows.indices[low] == sought
        found[start + there[hit]] = rows.values[low[hit]]
    return found


def _first_of_each(row: Ints, key: npt.NDArray[np.float64], most: int) -> Ints:
    """Return the entries with the ``most`` largest keys of each row: rows ascending, the largest first."""
    order = np.lexsort((-key, row))
    ordered = row[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    place = np.arange(len(ordered)) - np.repeat(begins, np.diff(begins, append=len(ordered)))
    return order[place < most]
