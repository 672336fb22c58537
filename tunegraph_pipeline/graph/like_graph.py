"""The like graph A: users on one side, tracks on the other, an edge for each current like.

Here: turning the table of current likes into a CSR with the fold of every like, replacing the lists that
changed, and the subsets that training, early stopping, the gate and calibration see. Not here: how the folds
are drawn (`split.py`), which ids are one recording (`recordings.py`), which tracks are neighbours
(`co_like.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from tunegraph_pipeline.engine.engine import Input, Outputs, Parcel
from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.graph.csr import column_counts, offsets_of
from tunegraph_pipeline.graph.recordings import all_apart
from tunegraph_pipeline.graph.split import (
    EARLY_STOPPING,
    TRAIN,
    calibration_judges,
    calibration_users,
    id_hashes,
    mix,
    pair_folds,
)
from tunegraph_pipeline.lake.array_spec import as_declared, checked_arrays, offsets, specs_of, stored
from tunegraph_pipeline.lake.arrays import (
    ArrayFolder,
    Bool,
    GrowingArray,
    GrowingStrings,
    Int8,
    Int32,
    Int64,
    StringColumn,
)
from tunegraph_pipeline.lake.tables import TableFiles
from tunegraph_pipeline.lake.text_columns import as_column, as_series
from tunegraph_pipeline.lake.user_ranges import AnyRange, UserRange

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_PAIR = ["user_id", "track_id"]
_LIKES_A_BLOCK = 1 << 20
_USERS_A_BLOCK = 1 << 16
_MOST_USERS = 2**31 - 1
"""The row of a user is an int32 in a bundle."""


@dataclass(frozen=True)
class LikeGraph:
    """A, as a CSR of U users x N tracks with a fold for each like, and its arrays as they are stored.

    Only users with a like are in it, and only canonical tracks have likes. ``fold`` is TRAIN, EARLY_STOPPING
    or GATE. ``n_tracks``: N, the length of the id map, which includes tracks that nobody likes.
    """

    user_ids: Annotated[StringColumn, stored("users", "the id of each user, ascending")]
    indptr: Annotated[Int64, offsets("users", "likes", "where the likes of each user begin")]
    indices: Annotated[Int32, stored("likes", "the liked tracks, ascending within a user")]
    fold: Annotated[Int8, stored("likes", "the part of the split each like is in")]
    calibration: Annotated[Bool, stored("users", "whether a user is set aside for calibration")]
    judge: Annotated[Bool, stored("users", "whether calibration is judged on that user, not fitted")]
    n_tracks: Annotated[int, stored("1", "the length of the id map", ends_at="tracks")]
    canonical: Annotated[Int32, stored("tracks", "the track that stands for the recording of each track")]

    @property
    def n_users(self) -> int:
        return len(self.indptr) - 1

    def matrix(self, dtype: npt.DTypeLike = np.float32) -> "csr_matrix":
        """Return all likes as ones of this dtype, U x N."""
        return self._ones(self.indices, self.indptr, dtype)

    def fold_matrix(self, fold: int) -> "csr_matrix":
        """Return the likes of one fold as float32 ones, U x N."""
        return self._matrix(self.fold == fold)

    def training_matrix(self, min_likes: int = 1, max_likes: int | None = None) -> "csr_matrix":
        """Return the likes a model may learn from as float32 ones, U x N.

        These are the likes of the TRAIN fold of users who are not set aside for calibration and whose whole
        list has at least ``min_likes`` likes; for a user with more than ``max_likes`` of them, a fixed
        pseudo-random choice of that many, which changes little as the list grows. Every user keeps a row,
        empty where they are left out, so that rows match those of the graph's other matrices.

        Raises InputError unless min_likes and max_likes are at least 1.
        """
        for option, value in (("min_likes", min_likes), ("max_likes", max_likes)):
            if value is not None and value < 1:
                raise InputError(f"{option} is {value}; it has to be at least 1")
        lengths = np.diff(self.indptr)
        keep = (self.fold == TRAIN) & np.repeat(~self.calibration & (lengths >= min_likes), lengths)
        if max_likes is not None:
            keep &= self._within_cap(keep, max_likes)
        return self._matrix(keep)

    @property
    def early_stopping_users(self) -> npt.NDArray[np.int64]:
        """The rows of the users whose likes decide when training stops."""
        held_out = np.diff(self.fold_matrix(EARLY_STOPPING).indptr) > 0
        return np.flatnonzero(held_out & ~self.calibration)

    @property
    def teaches(self) -> bool:
        """Whether there is anything to train on: a user with two likes, and a track that two users like."""
        longest, listeners = 0, np.zeros(self.n_tracks, dtype=np.int64)
        for first in range(0, self.n_users, _USERS_A_BLOCK):
            users = slice(first, min(first + _USERS_A_BLOCK, self.n_users))
            starts = self.indptr[users.start : users.stop + 1]
            likes = slice(int(starts[0]), int(starts[-1]))
            keep = (self.fold[likes] == TRAIN) & np.repeat(~self.calibration[users], np.diff(starts))
            kept_before = np.concatenate(([0], np.cumsum(keep)))
            longest = max(longest, int(np.diff(kept_before[starts - starts[0]]).max(initial=0)))
            listeners += np.bincount(self.indices[likes][keep], minlength=self.n_tracks)
            if longest > 1 and listeners.max() > 1:
                return True
        return False

    def track_degrees(self) -> npt.NDArray[np.int32]:
        """Return the number of users who like each track, int32[N]."""
        return column_counts(self.indices, self.n_tracks).astype(np.int32)

    def shortened(self, longest_list: int | None) -> "LikeGraph":
        """Return the graph with at most ``longest_list`` likes of each user, all of them where it is None: of
        a longer list a fixed pseudo-random choice, which changes little as the list grows."""
        lengths = np.diff(self.indptr)
        if longest_list is None or lengths.max(initial=0) <= longest_list:
            return self
        kept = self._within_cap(np.ones(len(self.indices), dtype=np.bool_), longest_list)
        return replace(
            self,
            indptr=offsets_of(np.minimum(lengths, longest_list)),
            indices=self.indices[kept],
            fold=self.fold[kept],
        )

    def arrays(self) -> dict[str, npt.NDArray[Any] | StringColumn]:
        """Return the parts to save with `lake.arrays.write_arrays`."""
        return as_declared(LIKE_GRAPH, {**vars(self), "n_tracks": [self.n_tracks]})

    @classmethod
    def from_arrays(cls, folder: ArrayFolder) -> Self:
        """Return the graph over the mapped parts that :meth:`arrays` saved. Raises BundleError."""
        arrays, sizes = checked_arrays(folder, LIKE_GRAPH, "a like graph")
        return cls(**{**arrays, "n_tracks": sizes["tracks"]})

    def _matrix(self, keep: npt.NDArray[np.bool_]) -> "csr_matrix":
        kept_before = np.concatenate(([0], np.cumsum(keep)))
        return self._ones(self.indices[keep], kept_before[self.indptr])

    def _ones(
        self,
        indices: npt.NDArray[np.int32],
        indptr: npt.NDArray[np.int64],
        dtype: npt.DTypeLike = np.float32,
    ) -> "csr_matrix":
        from scipy.sparse import csr_matrix

        ones = np.ones(len(indices), dtype=dtype)
        return csr_matrix((ones, indices, indptr), shape=(self.n_users, self.n_tracks))

    def _within_cap(self, keep: npt.NDArray[np.bool_], cap: int) -> npt.NDArray[np.bool_]:
        """Return bool[nnz]: false for the kept likes of a user beyond the first ``cap`` in hash order."""
        kept_before = np.concatenate(([0], np.cumsum(keep)))
        within = np.ones(len(keep), dtype=np.bool_)
        long = np.flatnonzero(np.diff(kept_before[self.indptr]) > cap)
        # By user id, not by row number: a new user must not reshuffle the choice of others.
        salts = id_hashes((self.user_ids[int(user)] for user in long), "cut of long lists")
        for user, salt in zip(long, salts, strict=True):
            start, end = self.indptr[user], self.indptr[user + 1]
            likes = start + np.flatnonzero(keep[start:end])
            order = np.argsort(mix(self.indices[likes].astype(np.uint64) ^ salt))
            within[likes[order[cap:]]] = False
        return within


LIKE_GRAPH = specs_of(LikeGraph)


def build_like_graph(
    current_likes: pl.DataFrame | Iterable[pl.DataFrame],
    track_ids: pl.Series,
    *,
    split_key: str,
    held_out: float,
    calibration_share: float,
    canonical: npt.NDArray[np.int32] | None = None,
) -> LikeGraph:
    """Build the like graph from the columns user_id and track_id of ``current_likes``: all rows in any order,
    or the rows of ranges of users that follow one another, of which one is in memory at a time.

    ``track_ids`` is the id map: the position of an id is its track_idx. ``canonical`` int32[N] says which
    track a like of each track goes to, as `find_recordings` returns it; a user who likes a recording under
    several ids likes it once, in the fold of the canonical pair. None: every track keeps its own likes.

    Raises LakeError for a like without a user or track, of a track the id map lacks, or listed twice, and
    where ranges overlap.
    """
    if canonical is None:
        canonical = all_apart(len(track_ids)).canonical
    ranges = [current_likes] if isinstance(current_likes, pl.DataFrame) else current_likes
    shared = Parcel(what_parts_share(track_ids, canonical, split_key))
    parts = (Parcel(part_of_graph(shared, rows, held_out)) for rows in ranges)
    return joined_graph(parts, canonical, calibration_share)


def what_parts_share(
    track_ids: pl.Series, canonical: npt.NDArray[np.int32], split_key: str
) -> dict[str, Input]:
    """What :func:`part_of_graph` needs beside the likes; arguments as of :func:`build_like_graph`."""
    ids = track_ids.cast(pl.String).alias("track_id").to_frame()
    return {"track_ids": ids, "canonical": canonical, "split_key": split_key}


def part_of_graph(inputs: Parcel, current_likes: pl.DataFrame, held_out: float) -> Outputs:
    """The part of a graph that the likes of a range of users make: the ``users``, ascending, their likes as a
    CSR, ``indptr`` and ``indices``, the ``fold`` of each like, and the ``hashes`` of the users, uint64.

    ``inputs`` are :func:`what_parts_share`. Raises LakeError as :func:`build_like_graph`.
    """
    ids, split_key = inputs.frame("track_ids"), inputs.text("split_key")
    tracks = inputs.once("tracks", lambda: ids.with_row_index("track"))
    track_hash = inputs.once("track hashes", lambda: np.zeros(len(ids), dtype=np.uint64))
    is_hashed = inputs.once("hashed tracks", lambda: np.zeros(len(ids), dtype=np.bool_))
    users, indptr, indices = _lists_of(current_likes, tracks, inputs.array("canonical"))
    user_hash = id_hashes(users, split_key)
    # Of tracks only those that are liked: an update looks at few.
    met = np.unique(indices)
    fresh = met[~is_hashed[met]]
    track_hash[fresh], is_hashed[fresh] = id_hashes(ids["track_id"].gather(fresh), split_key), True
    fold = pair_folds(np.repeat(user_hash, np.diff(indptr)), track_hash[indices], held_out)
    return {
        "users": as_column(users),
        "indptr": indptr,
        "indices": indices,
        "fold": fold,
        "hashes": user_hash,
    }


class RangeOfGraph(NamedTuple):
    """A block of the graph: the likes of the users of a range, of the lists as of ``cut_off``."""

    users: UserRange
    cut_off: str
    held_out: float


def graph_of_range(inputs: Parcel, block: RangeOfGraph) -> Outputs:
    """The part of the graph that the users of a range make, as of :func:`part_of_graph`. Raises
    LakeError."""
    tables = TableFiles(inputs.folder("lake"))
    ranges = inputs.once(
        "reader",
        lambda: AnyRange(
            lambda table, day, after: tables.read_in_blocks(table, day, _PAIR, after=after),
            lambda table, day: tables.read(table, day, _PAIR),
        ),
    )
    rows = ranges.at(block.users)("current_likes", block.cut_off)
    return part_of_graph(inputs, rows, block.held_out)


def joined_graph(
    parts: Iterable[Parcel], canonical: npt.NDArray[np.int32], calibration_share: float
) -> LikeGraph:
    """The graph of parts whose ranges of users follow one another. Raises LakeError where they overlap, or
    are of more users than a graph may have."""
    user_ids = GrowingStrings()
    ends, hashes = GrowingArray(np.int64), GrowingArray(np.uint64)
    indices, fold = GrowingArray(np.int32), GrowingArray(np.int8)
    ends.append(np.zeros(1, np.int64))
    last: str | None = None
    for part in parts:
        users = part.strings("users")
        if not len(users):
            continue
        if last is not None and users[0] <= last:
            raise LakeError("the current likes are not in the order of users; materialise the table again")
        last = users[len(users) - 1]
        user_ids.append(users)
        ends.append(part.array("indptr")[1:] + len(indices))
        hashes.append(part.array("hashes"))
        indices.append(part.array("indices"))
        fold.append(part.array("fold"))
    if len(hashes) > _MOST_USERS:
        raise LakeError(f"a like graph holds at most {_MOST_USERS:,} users, and there are {len(hashes):,}")
    user_hash = hashes.whole()
    calibration = calibration_users(user_hash, calibration_share)
    return LikeGraph(
        user_ids=user_ids.whole(),
        indptr=ends.whole(),
        indices=indices.whole(),
        fold=fold.whole(),
        calibration=calibration,
        judge=calibration & calibration_judges(user_hash),
        canonical=canonical.astype(np.int32, copy=False),
        n_tracks=len(canonical),
    )


def _lists_of(
    current_likes: pl.DataFrame, tracks: pl.DataFrame, canonical: npt.NDArray[np.int32]
) -> tuple[pl.Series, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The users of some likes, ascending, and their tracks as a CSR: indptr, indices."""
    from scipy.sparse import csr_matrix

    pairs = current_likes.select(pl.col("user_id", "track_id").cast(pl.String))
    if pairs.null_count().sum_horizontal().item():
        raise LakeError("the current likes hold rows without a user or a track; materialise the table again")
    users = pairs.select(pl.col("user_id").unique().sort()).with_row_index("user")
    codes = pairs.join(users, on="user_id", how="left").join(tracks, on="track_id", how="left")
    if unmapped := codes["track"].null_count():
        raise LakeError(
            f"{unmapped} current like(s) are of tracks the track id map lacks; materialise the id map again"
        )
    user, track = codes["user"].to_numpy(), codes["track"].to_numpy()
    shape = (len(users), len(tracks))
    counts = csr_matrix((np.ones(len(codes), dtype=np.int8), (user, track)), shape=shape)
    counts.sum_duplicates()
    if counts.nnz != len(codes):
        raise LakeError(
            f"{len(codes) - counts.nnz} current like(s) are there twice; materialise the table again"
        )
    merged = csr_matrix((counts.data, canonical[counts.indices], counts.indptr), shape=shape)
    merged.sum_duplicates()
    return users["user_id"], merged.indptr.astype(np.int64), merged.indices.astype(np.int32)


def spare_the_only(graph: LikeGraph) -> LikeGraph:
    """Give training what the split took, where the rest would teach nothing: first the users set aside for
    calibration, then the held-out likes as well. A graph that teaches nothing even then stays as it is.

    Only a lake of a handful of users is ever changed, and it is split as soon as it has others to learn from.
    """
    nobody = np.zeros(graph.n_users, dtype=np.bool_)
    with_users = replace(graph, calibration=nobody, judge=nobody)
    with_likes = replace(with_users, fold=np.full(len(graph.indices), TRAIN, dtype=np.int8))
    return next((one for one in (graph, with_users, with_likes) if one.teaches), graph)


def update_like_graph(before: LikeGraph, changed_users: pl.Series, now: LikeGraph) -> LikeGraph:
    """Return ``before`` with the lists of ``changed_users`` replaced by those that ``now`` has of them.

    ``now`` is the graph of their likes alone, over an id map that continues the one of ``before``, with the
    same settings and recordings; a changed user it lacks has no likes left. The result equals that of
    :func:`build_like_graph` over all likes, array by array. Neither graph may have been spared anything.
    """
    known = _users(before)
    staying = np.flatnonzero(~known.is_in(changed_users.cast(pl.String).implode()).to_numpy())
    ids = pl.concat([known.gather(staying), _users(now)])
    order = ids.arg_sort().to_numpy()
    lengths = np.concatenate([np.diff(before.indptr)[staying], np.diff(now.indptr)])[order]
    starts = np.concatenate([before.indptr[staying], now.indptr[:-1] + len(before.indices)])[order]
    indptr = offsets_of(lengths)

    return LikeGraph(
        user_ids=as_column(ids.gather(order)),
        indptr=indptr,
        indices=_rows_from(before.indices, now.indices, starts, indptr),
        fold=_rows_from(before.fold, now.fold, starts, indptr),
        calibration=np.concatenate([before.calibration[staying], now.calibration])[order],
        judge=np.concatenate([before.judge[staying], now.judge])[order],
        canonical=now.canonical,
        n_tracks=now.n_tracks,
    )


def _rows_from(
    before: npt.NDArray[Any],
    now: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    """The rows of a CSR with these offsets. A row begins at its place of ``starts`` in ``before`` and
    ``now``, end to end. Beside the result there is a block of it in memory."""
    rows = np.empty(indptr[-1], dtype=before.dtype)
    cuts = np.searchsorted(indptr, np.arange(0, len(rows), _LIKES_A_BLOCK), side="right") - 1
    for first, last in pairwise(np.unique([*cuts, len(starts)]).tolist()):
        offsets_here = indptr[first : last + 1]
        place = np.repeat(starts[first:last] - offsets_here[:-1], np.diff(offsets_here))
        place += np.arange(offsets_here[0], offsets_here[-1])
        block, is_old = rows[offsets_here[0] : offsets_here[-1]], place < len(before)
        block[is_old] = before[place[is_old]]
        block[~is_old] = now[place[~is_old] - len(before)]
    return rows


def changed_likes(before: LikeGraph, after: LikeGraph) -> tuple["csr_matrix", "csr_matrix"]:
    """Return the likes of ``before`` and the changes since, csr users x N: float32 ones, and int8 with 1 for
    a new like and -1 for a removed one.

    The rows are the users of both graphs whose lists differ. N is that of ``after``, whose id map continues
    the one of ``before``.
    """
    from scipy.sparse import csr_matrix

    users = pl.DataFrame({"user_id": pl.concat([_users(before), _users(after)]).unique().sort()})
    users = users.with_row_index("row")

    def over_all(graph: LikeGraph) -> csr_matrix:
        row = pl.DataFrame({"user_id": _users(graph)}).join(users, on="user_id", how="left")["row"].to_numpy()
        lengths = np.zeros(len(users) + 1, dtype=np.int64)
        lengths[row + 1] = np.diff(graph.indptr)  # both are ordered by id
        ones = np.ones(len(graph.indices), dtype=np.int8)
        return csr_matrix((ones, graph.indices, np.cumsum(lengths)), shape=(len(users), after.n_tracks))

    old = over_all(before)
    change = over_all(after) - old
    change.eliminate_zeros()
    rows = np.flatnonzero(np.diff(change.indptr))
    return csr_matrix(old[rows], dtype=np.float32), change[rows]


def _users(graph: LikeGraph) -> pl.Series:
    return as_series(graph.user_ids, "user_id")
