"""The co-like matrix B = AᵀA: which tracks are neighbours, because at least one user likes both.

Here: B with its exact counts, its degree-normalised form cut to the strongest neighbours of each track, both
built block by block, by an engine, and kept as mapped CSR folders, so that the neighbours of a track are one
slice. Not here: which likes go in (`like_graph.py` selects them), updating B when likes change
(`co_like_update.py`), what is learnt from the neighbours (`training`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tunegraph_pipeline.engine.engine import Engine, Input, Outputs, Parcel
from tunegraph_pipeline.engine.local import LOCAL
from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.graph.csr import column_counts, index_type, offsets_of
from tunegraph_pipeline.lake.array_spec import ArraySpec, checked_arrays, optional
from tunegraph_pipeline.lake.arrays import ArrayAppender, ArrayFolder, write_arrays
from tunegraph_pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Block = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[Any]]
"""Some rows of a CSR: the entries of each row, and their columns and values end to end."""


def _row_specs(part: str, values: str, rows: str, entries: str, whose: str) -> Iterator[ArraySpec]:
    """The arrays of a CSR of counts or scores; ``rows`` and ``entries`` name their sizes."""
    if values == "scores":
        order, dtype, meaning = "the strongest first", "<f4", "their cosines"
    else:
        order, dtype, meaning = "ascending within a row", "<i4", "how many users like both"
    if part == "delta_":
        meaning = "how many more users like both than in the base"
    yield ArraySpec(f"{part}indptr", "<i8", (f"{rows}+1",), f"where {whose} begin", ends_at=entries)
    yield ArraySpec(f"{part}indices", "<i4", (entries,), f"those neighbours, {order}")
    yield ArraySpec(f"{part}{values}", dtype, (entries,), meaning)


_ALWAYS = (
    ArraySpec("degrees", "<i4", ("tracks",), "users who like each track"),
    *_row_specs("top_", "scores", "base tracks", "strongest neighbours", "each track's strongest neighbours"),
    ArraySpec("top_complete", "|b1", ("base tracks",), "whether those are all neighbours of the track"),
)
_COUNTS = tuple(_row_specs("", "counts", "base tracks", "pairs of the base", "each track's neighbours"))
_UPDATES = (
    ArraySpec("frozen", "<i4", ("tracks",), "the degrees by which cosines are normalised"),
    *_row_specs("delta_", "counts", "tracks", "changed pairs", "each track's changed neighbours"),
    ArraySpec("moved", "<i4", ("moved tracks",), "tracks whose strongest neighbours changed, ascending"),
    *_row_specs("moved_", "scores", "moved tracks", "moved neighbours", "their strongest neighbours"),
    ArraySpec("moved_complete", "|b1", ("moved tracks",), "whether those are all neighbours of the track"),
)
CO_LIKE = (*_ALWAYS, *optional(_COUNTS), *optional(_UPDATES))
"""The counts are there where the matrix is exact, the updates where it was updated."""

_SPARE = 8  # strongest neighbours kept beyond those shown, at least
_LIKES_A_BLOCK = 1 << 22  # looked at together, so that what is made of them stays small
_LIKES_A_TILE = 400_000_000  # of the columns of a pruned product: 12 bytes each
_ROWS_A_BLOCK = 16_384  # enough to keep the threads busy, few enough for the progress to move
_FINE = 1 << 30  # parts of a block that a row may be
_BYTES_A_CANDIDATE = 32  # of an exact block: index and count, and their copies while sorting and cutting
_BYTES_A_SUM = 12  # of a column, in each thread: its sum and its place in the list of touched columns
_BYTES_A_NEIGHBOUR = 64  # of a pruned block: the same with scores in double precision, per thread and joined

_Value = TypeVar("_Value", np.int32, np.float32)


@dataclass(frozen=True)
class Rows(Generic[_Value]):
    """A CSR: ``indptr`` int64[n+1], ``indices`` int32 and ``values`` end to end, row after row."""

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[_Value]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[_Value]]:
        """Return the columns and values of a row, as views."""
        place = slice(int(self.indptr[number]), int(self.indptr[number + 1]))
        return self.indices[place], self.values[place]

    def arrays(self, part: str, values: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to save, under their names in `CO_LIKE`."""
        return {f"{part}indptr": self.indptr, f"{part}indices": self.indices, f"{part}{values}": self.values}


@dataclass(frozen=True)
class Strongest(Rows[np.float32]):
    """The strongest neighbours of some tracks, the strongest first in a row, and their scores.

    ``complete``: bool[n], whether a row holds all neighbours of its track.
    """

    complete: npt.NDArray[np.bool_]

    def arrays(self, part: str, values: str = "scores") -> dict[str, npt.NDArray[Any]]:
        return super().arrays(part, values) | {f"{part}complete": self.complete}


@dataclass(frozen=True)
class CoLike:
    """B over N tracks, mapped from the folder that :func:`build_co_like` or `co_like_update` wrote.

    B is kept as a base and what was added to it since: ``B = base + delta``, both symmetric, without
    diagonal, columns ascending in a row. The base has the tracks that existed when it was built, the first
    ones.

    ``degrees``: int32[N], users who like each track, which is the diagonal B itself leaves out.
    ``frozen``: int32[N], the degrees by which the pruned form is normalised: those at the time the base was
    built, except for tracks whose degree has moved far since.
    ``base``: counts int32, None when the matrix was too large to be kept whole (``exact`` is false);
    ``delta``: counts int32 of either sign, with all N rows.
    ``top``: the strongest neighbours, for the rows of the base; ``moved``: int32[m] ascending, the tracks
    whose row has changed since, and ``moved_top``: their m rows. Rows hold more than the k that are shown, up
    to ``facts["kept"]``, so that a lost neighbour has a successor at hand.
    ``facts``: exact, n_tracks, n_likes, nnz (of the base; null when not kept), nnz_bound, max_exact_nnz, k,
    kept.
    """

    degrees: npt.NDArray[np.int32]
    frozen: npt.NDArray[np.int32]
    base: Rows[np.int32] | None
    delta: Rows[np.int32]
    top: Strongest
    moved: npt.NDArray[np.int32]
    moved_top: Strongest
    facts: dict[str, Any]
    parts: ArrayFolder

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the folder without reading the data. Raises BundleError where it is not as declared."""
        parts = ArrayFolder.open(folder)
        exact, updated = bool(parts.facts["exact"]), "moved" in parts
        specs = (*_ALWAYS, *(_COUNTS if exact else ()), *(_UPDATES if updated else optional(_UPDATES)))
        arrays, _ = checked_arrays(parts, specs, "a co-like matrix")

        def rows(part: str, *values: str) -> list[Any]:
            return [arrays[f"{part}{name}"] for name in ("indptr", "indices", *values)]

        return cls(
            degrees=arrays["degrees"],
            frozen=arrays["frozen" if updated else "degrees"],
            base=Rows(*rows("", "counts")) if exact else None,
            delta=Rows(*rows("delta_", "counts")),
            top=Strongest(*rows("top_", "scores", "complete")),
            moved=arrays["moved"],
            moved_top=Strongest(*rows("moved_", "scores", "complete")),
            facts=parts.facts,
            parts=parts,
        )

    @property
    def exact(self) -> bool:
        return self.base is not None

    @property
    def n_tracks(self) -> int:
        return len(self.degrees)

    def neighbours(self, track_idx: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return all neighbours of a track, ascending, and how many users like both: one slice, O(1), or the
        sum of two where the row has changed since the base was built.

        Raises LakeError when only the pruned form is kept, IndexError when there is no such track.
        """
        if self.base is None:
            raise LakeError(
                f"the co-like matrix has up to {self.facts['nnz_bound']} entries and is kept pruned;"
                " count those of one track in the likes (`neighbours_in`), or raise"
                " max_exact_nnz to keep every count"
            )
        changed, by = self.delta.row(self._track(track_idx))
        known, counts = self.base.row(track_idx) if track_idx < len(self.base) else self.delta.row(track_idx)
        if track_idx >= len(self.base) or not len(changed):
            return known, counts
        columns = np.union1d(known, changed)
        total = np.zeros(len(columns), dtype=np.int32)
        total[np.searchsorted(columns, known)] = counts
        total[np.searchsorted(columns, changed)] += by
        return columns[total != 0], total[total != 0]

    def strongest(self, track_idx: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return the at most k strongest neighbours of a track, best first, and their scores: O(log m).

        The score of i and j is their cosine, B[i, j] / sqrt(d_i d_j), of the ``frozen`` degrees. Raises
        IndexError when there is no such track.
        """
        k = self.facts["k"]
        track = self._track(track_idx)
        place = int(np.searchsorted(self.moved, track))
        if place < len(self.moved) and self.moved[place] == track:
            columns, scores = self.moved_top.row(place)
        elif track < len(self.top):
            columns, scores = self.top.row(track)
        else:
            columns, scores = self.top.indices[:0], self.top.values[:0]
        return columns[:k], scores[:k]

    def _track(self, track_idx: int) -> int:
        if not 0 <= track_idx < len(self.degrees):
            raise IndexError(track_idx)
        return track_idx


def build_co_like(
    likes: "csr_matrix",
    folder: Path,
    *,
    k: int = 100,
    memory_mib: int = 512,
    max_exact_nnz: int = 1_000_000_000,
    facts: Mapping[str, Any] | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> None:
    """Write B of ``likes`` (users x tracks; every stored entry is a like) into ``folder`` for `CoLike.open`.

    ``memory_mib`` bounds the memory of the build beside ``likes`` and its transpose, whatever the size of B,
    which is streamed to the folder. B is left out, and the facts say so, when it could have more than
    ``max_exact_nnz`` entries (8 bytes each); the pruned form, cosines, is always written. ``facts`` are kept
    beside those of the matrix. ``engine`` runs the blocks: each then has that memory, and B is the same. Not
    atomic: the caller stages the folder.

    Raises InputError for an option out of range.
    """
    _check_positive(k=k, memory_mib=memory_mib)
    folder.mkdir(parents=True, exist_ok=True)
    nnz_bound = co_like_bound(likes)
    exact = nnz_bound <= max_exact_nnz
    arrays: dict[str, npt.NDArray[Any]] = {
        "degrees": column_counts(likes.indices, likes.shape[1]).astype(np.int32)
    }
    if exact:
        blocks = co_like_blocks(likes, memory_mib=memory_mib, engine=engine, progress=progress)
        arrays["indptr"] = stream_rows(blocks, folder, "indices", "counts", np.int32)
    kept = k + max(_SPARE, k // 4)
    blocks = _strongest_blocks(likes, kept, 0.5, 0.0, memory_mib, engine, progress, folder)
    arrays["top_indptr"] = stream_rows(blocks, folder, "top_indices", "top_scores", np.float32)
    arrays["top_complete"] = np.diff(arrays["top_indptr"]) < kept
    found = {
        "exact": exact,
        "n_tracks": likes.shape[1],
        "n_likes": likes.nnz,
        "nnz": int(arrays["indptr"][-1]) if exact else None,
        "nnz_bound": nnz_bound,
        "max_exact_nnz": max_exact_nnz,
        "k": k,
        "kept": kept,
    }
    write_arrays(folder, arrays, {**(facts or {}), **found})


def what_is_wrong(co_like: CoLike, likes: "csr_matrix", tracks: int = 50) -> str | None:
    """Compare B with the likes it was built from, users x tracks, on an even sample of ``tracks``; return
    what is wrong as a phrase, or None."""
    n_tracks = likes.shape[1]
    if not np.array_equal(co_like.degrees, column_counts(likes.indices, n_tracks)):
        return "its degrees are not those of the like graph"
    sample = np.unique(np.linspace(0, n_tracks - 1, tracks).astype(np.int64)).tolist() if n_tracks else []
    listeners = likes[:, sample].T.tocsr()
    weight = np.maximum(co_like.frozen, 1.0) ** -0.5
    for place, track in enumerate(sample):
        counts = np.asarray((listeners[place] @ likes).todense()).ravel().astype(np.int64)
        counts[track] = 0
        if co_like.exact:
            neighbours, stored = co_like.neighbours(track)
            found = np.zeros(n_tracks, dtype=np.int64)
            found[neighbours] = stored
            if not np.array_equal(counts, found):
                return f"the counts of track {track} are not AᵀA"
        strongest, scores = co_like.strongest(track)
        expected = counts * weight * weight[track]
        length = min(co_like.facts["k"], int(np.count_nonzero(counts)))
        if (np.diff(scores) > 0).any() or len(set(strongest.tolist())) < len(strongest):
            return f"the strongest neighbours of track {track} are not in order"
        if len(strongest) != length or not np.allclose(scores, expected[strongest], rtol=1e-5, atol=0):
            return f"the scores of track {track} are not those of its counts"
        others = np.delete(expected, strongest)
        if length and others.max(initial=0.0) > scores[-1] * (1 + 1e-5):
            return f"a neighbour of track {track} is stronger than one of its strongest"
    return None


def strongest_neighbours(
    likes: "csr_matrix",
    k: int = 100,
    *,
    item_exponent: float = 0.5,
    user_exponent: float = 0.5,
    memory_mib: int = 512,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> "csr_matrix":
    """Return the k strongest neighbours of each track as a CSR, float32 N x N, the strongest first in a row.

    ``likes`` is users x tracks; every stored entry is a like. The score of two tracks i and j is

        S[i, j] = (d_i d_j) ** -item_exponent * sum over users u who like both of n_u ** -user_exponent

    with d the likes a track has and n those a user has: S = D_i^-a Aᵀ D_u^-b A D_i^-a without its diagonal.
    a = b = 0.5 is the default; a = 0.5, b = 0 is the cosine of co-likes, a = b = 0 the plain count. Scores
    equal to within a rounding of float32 are a tie, which goes to the smaller track_idx.

    ``memory_mib`` bounds the working memory beside ``likes``, its transpose and the result. Raises InputError
    for an option out of range.
    """
    from scipy.sparse import csr_matrix

    _check_positive(k=k, memory_mib=memory_mib)
    none = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    blocks = [none, *_strongest_blocks(likes, k, item_exponent, user_exponent, memory_mib, engine, progress)]
    lengths, indices, scores = (np.concatenate(part) for part in zip(*blocks, strict=True))
    n = likes.shape[1]
    return csr_matrix((scores, indices, offsets_of(lengths)), shape=(n, n))


def neighbours_in(likes: "csr_matrix", track_idx: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return all neighbours of a track, ascending, and how many users like both, counted in ``likes``, users
    x tracks, in place of B: a pass over the likes. Raises IndexError when there is no such track."""
    from scipy.sparse import csr_matrix

    listeners = csr_matrix(likes[:, [track_idx]].T)
    row = csr_matrix(listeners @ likes)
    row.sort_indices()
    others = row.indices != track_idx
    return row.indices[others], row.data[others].astype(np.int32)


def co_like_bound(likes: "csr_matrix") -> int:
    """Return an upper bound of the number of entries of B, from one pass over the likes.

    A track has at most as many neighbours as there are other likes in its lists, and other tracks.
    """
    others = _candidates(likes) - column_counts(likes.indices, likes.shape[1])
    return int(np.minimum(others, likes.shape[1] - 1).sum())


def co_like_blocks(
    likes: "csr_matrix", *, memory_mib: int = 512, engine: Engine = LOCAL, progress: Progress | None = None
) -> Iterator[Block]:
    """Yield B block by block, in order of rows: columns ascending in a row, counts int32, no diagonal.

    A block is cut so that its working memory stays within ``memory_mib``, unless a single row needs more.
    """
    n_tracks = likes.shape[1]
    kind = index_type(likes)
    shared = {
        "ones": np.ones(likes.nnz, dtype=np.int32),
        "tracks": likes.indices.astype(kind, copy=False),
        "tracks_from": likes.indptr.astype(kind, copy=False),
        **_by_track(likes),
    }
    work = _candidates(likes)
    size = np.minimum(work, n_tracks) * (_BYTES_A_CANDIDATE * kind.itemsize // 4)
    budget = memory_mib * 2**20
    threads = _threads(engine.cores, budget // 4, _BYTES_A_SUM * n_tracks)
    cuts = _finely_cut(size, budget - budget // 4, work, engine.blocks)
    blocks = (RowsOfB(start, stop, n_tracks, threads) for start, stop in cuts)
    done = 0
    for found in engine.run(counted_rows, blocks, shared):
        lengths, columns, counts = (found.array(name) for name in ("lengths", "columns", "counts"))
        yield lengths, columns, counts
        done += len(lengths)
        if progress is not None:
            progress("co-likes", done, n_tracks)


class RowsOfB(NamedTuple):
    """A block of B: the rows from ``start`` to ``stop``, of ``n_tracks``, added up by ``threads``."""

    start: int
    stop: int
    n_tracks: int
    threads: int


def counted_rows(inputs: Parcel, block: RowsOfB) -> Outputs:
    """Some rows of B: the ``lengths`` of the rows, their ``columns``, ascending in a row, and ``counts``.

    Parcel are A, by users (``tracks``, ``tracks_from`` and as many ``ones``) and by tracks (``users``,
    ``users_from``).
    """
    from scipy.sparse import csr_matrix
    from sparse_dot_topn import sp_matmul

    start, stop, n_tracks, threads = block
    ones, tracks, starts = (inputs.array(name) for name in ("ones", "tracks", "tracks_from"))
    n_users = len(starts) - 1
    by_user = inputs.once("by user", lambda: _csr(ones, tracks, starts, n_tracks))
    users_from = inputs.array("users_from")[start : stop + 1]
    users, indptr = inputs.array("users")[users_from[0] : users_from[-1]], users_from - users_from[0]
    rows = csr_matrix((np.ones(len(users), dtype=np.int32), users, indptr), shape=(stop - start, n_users))
    found = sp_matmul(_indexed(rows, tracks.dtype), by_user, n_threads=threads)
    nnz = int(found.indptr[-1])
    found.sort_indices()
    row = np.repeat(np.arange(stop - start, dtype=np.int32), np.diff(found.indptr))
    columns = found.indices[:nnz]
    off_diagonal = columns != row + start
    return {
        "lengths": np.bincount(row[off_diagonal], minlength=stop - start),
        "columns": columns[off_diagonal],
        "counts": found.data[:nnz][off_diagonal],
    }


def _strongest_blocks(
    likes: "csr_matrix",
    k: int,
    item_exponent: float,
    user_exponent: float,
    memory_mib: int,
    engine: Engine,
    progress: Progress | None,
    room: Path | None = None,
) -> Iterator[Block]:
    """Yield the rows of `strongest_neighbours` in order, scores float32.

    The product is computed by `sparse_dot_topn`, which keeps a heap of the best k+1 of a row (one more,
    because the diagonal is among them). Three measures make it fast and exact:

    - Internally, tracks are numbered by falling popularity. Most of a row's sums are then close together in
      the cache, and the heap, which gets the last-touched column first, sees the rare tracks first, whose
      score per like is highest, and rejects most of what follows.
    - The rows of a block are distributed by their work, since each thread gets one contiguous share of them.
    - Scores are summed in double precision and column j is shrunk by a factor 1 - j * tie, j its track_idx:
      too little to show in float32, enough to order equal scores by index.

    What the product needs by users takes 12 bytes a like. Where there are more than a tile may hold, the
    columns are cut into tiles, and what each tile finds waits in a folder below ``room``.
    """
    n_tracks = likes.shape[1]
    degrees = column_counts(likes.indices, n_tracks)
    by_popularity = np.argsort(-degrees, kind="stable").astype(np.int32)
    number = np.empty(n_tracks, dtype=np.int32)
    number[by_popularity] = np.arange(n_tracks, dtype=np.int32)

    item_weight = np.maximum(degrees, 1.0) ** -item_exponent
    tie = 2.0**-26 / max(n_tracks, 1)
    column_weight = item_weight * (1 - tie * np.arange(n_tracks))
    work = _candidates(likes)
    shared: dict[str, Input] = {
        "user_weight": np.maximum(np.diff(likes.indptr), 1.0) ** -user_exponent,
        "item_weight": item_weight,
        "by_popularity": by_popularity,
        "number": number,
        "work": work,
        **_by_track(likes),
    }
    budget = memory_mib * 2**20
    threads = _threads(engine.cores, budget // 2, _BYTES_A_SUM * n_tracks)
    rows_a_block = max(1, min(_ROWS_A_BLOCK, budget // 2 // (_BYTES_A_NEIGHBOUR * (k + 1))))
    cuts = [*_finely_cut(np.ones(n_tracks, dtype=np.int64), rows_a_block, work, engine.blocks)]
    tiles = [*_cut(degrees[by_popularity], _LIKES_A_TILE)]
    done = 0

    def rows_of_tile(first: int, end: int) -> Iterator[Block]:
        nonlocal done
        tile = _tile(likes, number, column_weight, degrees[by_popularity], first, end)
        blocks = (RowsOfStrongest(start, stop, k, threads, first, end) for start, stop in cuts)
        for found in engine.run(strongest_rows, blocks, {**shared, **tile}):
            lengths, columns, scores = (found.array(name) for name in ("lengths", "columns", "scores"))
            yield lengths, columns, scores
            done += len(lengths)
            if progress is not None:
                progress("strongest neighbours", done, n_tracks * len(tiles))

    if len(tiles) == 1:
        for lengths, columns, scores in rows_of_tile(*tiles[0]):
            yield lengths, columns, scores.astype(np.float32)
        return
    with TemporaryDirectory(dir=room) as drafts:
        found = []
        for first, end in tiles:
            draft = Path(drafts) / str(first)
            draft.mkdir()
            indptr = stream_rows(rows_of_tile(first, end), draft, "columns", "scores", np.float64)
            found.append((indptr, *(np.load(draft / f"{part}.npy", "r") for part in ("columns", "scores"))))
        for start, stop in cuts:
            yield _best_of_tiles(found, start, stop, k)


def _tile(
    likes: "csr_matrix",
    number: npt.NDArray[np.int32],
    column_weight: npt.NDArray[np.float64],
    degrees: npt.NDArray[np.int64],
    first: int,
    end: int,
) -> dict[str, Input]:
    """The likes of the tracks numbered from ``first`` to ``end``, by users, as a CSR over those alone:
    ``weights``, ``tracks``, ascending within a user, and ``tracks_from``. ``degrees`` are by number."""
    from scipy.sparse import csr_matrix

    kind, lengths, size, filled = index_type(likes), np.diff(likes.indptr), int(degrees[first:end].sum()), 0
    weights, tracks = np.empty(size), np.empty(size, kind)
    tracks_from = np.zeros(len(likes.indptr), kind)
    for start, stop in _cut(lengths, _LIKES_A_BLOCK):
        begin = likes.indptr[start]
        liked = likes.indices[begin : likes.indptr[stop]]
        numbers = number[liked]
        here = (numbers >= first) & (numbers < end)
        rows_from = np.concatenate(([0], np.cumsum(here)))[likes.indptr[start : stop + 1] - begin]
        values = column_weight[liked[here]]
        block = csr_matrix((values, numbers[here] - first, rows_from), shape=(stop - start, end - first))
        block.sort_indices()
        part = slice(filled, filled + block.nnz)
        weights[part], tracks[part] = block.data, block.indices
        tracks_from[start + 1 : stop + 1] = filled + rows_from[1:]
        filled += block.nnz
    return {"weights": weights, "tracks": tracks, "tracks_from": tracks_from}


def _best_of_tiles(
    tiles: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]],
    start: int,
    stop: int,
    k: int,
) -> Block:
    """The ``k`` strongest of the rows from ``start`` to ``stop``, of which every tile has its own: indptr,
    columns and scores."""
    rows = [np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1])) for indptr, *_ in tiles]
    parts = [slice(int(indptr[start]), int(indptr[stop])) for indptr, *_ in tiles]
    row = np.concatenate(rows)
    columns = np.concatenate([columns[part] for (_, columns, _), part in zip(tiles, parts, strict=True)])
    scores = np.concatenate([scores[part] for (*_, scores), part in zip(tiles, parts, strict=True)])
    order = np.lexsort((columns, -scores, row))
    lengths = np.bincount(row, minlength=stop - start)
    place = np.arange(len(row)) - np.repeat(offsets_of(lengths)[:-1], lengths)
    best = order[place < k]
    return np.minimum(lengths, k), columns[best], scores[best].astype(np.float32)


class RowsOfStrongest(NamedTuple):
    """A block of the pruned form: the ``k`` strongest neighbours of the tracks from ``start`` to ``stop``,
    among those numbered from ``first`` to ``end`` by falling popularity."""

    start: int
    stop: int
    k: int
    threads: int
    first: int
    end: int


def strongest_rows(inputs: Parcel, block: RowsOfStrongest) -> Outputs:
    """Some rows of `strongest_neighbours`: their ``lengths``, ``columns``, the strongest first in a row, and
    ``scores``, float64. The inputs are those that `_strongest_blocks` shares."""
    from scipy.sparse import csr_matrix
    from sparse_dot_topn import sp_matmul_topn

    start, stop, k, threads, first, end = block
    weights, tracks, starts = (inputs.array(name) for name in ("weights", "tracks", "tracks_from"))
    number, by_popularity, item_weight = (
        inputs.array(name) for name in ("number", "by_popularity", "item_weight")
    )
    by_user = inputs.once("by user", lambda: _csr(weights, tracks, starts, end - first))
    heaviest = np.argsort(-inputs.array("work")[start:stop], kind="stable")
    dealt = np.concatenate([heaviest[thread::threads] for thread in range(threads)])
    of_track, users_from = inputs.array("users"), inputs.array("users_from")
    begins, ends = users_from[start + dealt], users_from[start + dealt + 1]
    users = np.concatenate([of_track[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)])
    indptr = offsets_of(ends - begins)
    user_weight = inputs.array("user_weight")
    rows = csr_matrix((user_weight[users], users, indptr), shape=(stop - start, len(user_weight)))
    found = sp_matmul_topn(_indexed(rows, tracks.dtype), by_user, top_n=k + 1, sort=True, n_threads=threads)[
        np.argsort(dealt)
    ]
    lengths = np.diff(found.indptr)
    itself = np.flatnonzero(found.indices == np.repeat(number[start:stop] - first, lengths))
    without = np.ones(stop - start, dtype=np.bool_)
    without[np.searchsorted(found.indptr, itself, side="right") - 1] = False
    # A row of k+1 without the track itself has one too many: its last, the weakest.
    too_long = without & (lengths > k)
    keep = np.ones(len(found.indices), dtype=np.bool_)
    keep[itself] = False
    keep[found.indptr[1:][too_long] - 1] = False
    lengths = lengths - (~without | too_long)
    scores = found.data[keep] * np.repeat(item_weight[start:stop], lengths)
    return {
        "lengths": lengths,
        "columns": by_popularity[found.indices[keep] + first],
        "scores": scores,
    }


def stream_rows(
    blocks: Iterator[Block], folder: Path, columns: str, values: str, value_type: npt.DTypeLike
) -> npt.NDArray[np.int64]:
    """Append the columns and values of the blocks to two parts of ``folder`` and return the indptr."""
    lengths = [np.zeros(0, dtype=np.int64)]
    with (
        ArrayAppender(folder / f"{columns}.npy", np.int32) as column_part,
        ArrayAppender(folder / f"{values}.npy", value_type) as value_part,
    ):
        for block_lengths, block_columns, block_values in blocks:
            lengths.append(block_lengths)
            column_part.append(block_columns)
            value_part.append(block_values)
    return offsets_of(np.concatenate(lengths))


def _candidates(likes: "csr_matrix") -> npt.NDArray[np.int64]:
    """Return int64[N], the summed lengths of the lists each track is in: the additions its row takes."""
    lengths = np.diff(likes.indptr).astype(np.int64)
    total = np.zeros(likes.shape[1], dtype=np.int64)
    for start, stop in _cut(lengths, _LIKES_A_BLOCK):
        tracks = likes.indices[likes.indptr[start] : likes.indptr[stop]]
        of_like = np.repeat(lengths[start:stop], lengths[start:stop])
        total += np.bincount(tracks, weights=of_like, minlength=len(total)).astype(np.int64)
    return total


def _cut(size: npt.NDArray[np.int64], budget: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of successive runs of rows of at most ``budget`` in all, or of a single row."""
    total = np.cumsum(size)
    start = 0
    while start < len(size):
        spent = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, spent + budget, side="right")))
        yield start, stop
        start = stop


def _finely_cut(
    size: npt.NDArray[np.int64], budget: int, work: npt.NDArray[np.int64], least: int
) -> Iterator[tuple[int, int]]:
    """The same, in about ``least`` runs of equal ``work`` or more."""
    if least == 1:
        return _cut(size, budget)
    share = max(1, int(work.sum()) // least)
    both = np.maximum(size / budget, work / share)
    return _cut((both * _FINE).astype(np.int64), _FINE)


def _by_track(likes: "csr_matrix") -> dict[str, npt.NDArray[Any]]:
    """Return the ``users`` of each track, ascending, end to end, and where those of each begin,
    ``users_from``: Aᵀ, four bytes a like."""
    from scipy.sparse import csr_matrix

    ones = np.ones(likes.nnz, dtype=np.int8)
    by_track = csr_matrix((ones, likes.indices, likes.indptr), shape=likes.shape).T.tocsr()
    return {"users": by_track.indices, "users_from": by_track.indptr}


def _csr(
    values: npt.NDArray[Any], columns: npt.NDArray[Any], starts: npt.NDArray[Any], n_columns: int
) -> "csr_matrix":
    """Return the CSR over these arrays, which are not copied."""
    from scipy.sparse import csr_matrix

    return _indexed(csr_matrix((values, columns, starts), shape=(len(starts) - 1, n_columns)), columns.dtype)


def _indexed(matrix: "csr_matrix", kind: "np.dtype[Any]") -> "csr_matrix":
    """Return the matrix with indices of this dtype. `sparse_dot_topn` refuses two factors that differ, and
    scipy takes int32 for every matrix that it can, such as a few rows of a larger one."""
    matrix.indices = matrix.indices.astype(kind, copy=False)
    matrix.indptr = matrix.indptr.astype(kind, copy=False)
    return matrix


def _threads(cores: int, budget: int, bytes_a_thread: int) -> int:
    """Return how many threads to use: two a core, as far as their sums fit into ``budget`` bytes.

    Two, because every thread gets a fixed share of a block: when other work holds up a core, the other cores
    then take over some of its shares. Also on one core, as the code for a single thread is slower by a fifth.
    """
    return max(1, min(2 * cores, budget // max(bytes_a_thread, 1)))


def _check_positive(**options: int) -> None:
    for option, value in options.items():
        if value < 1:
            raise InputError(f"{option} is {value}; it has to be at least 1")
