"""One evaluation for every ranking: from what users like to a table of metrics.

Here: mapping held-out likes to the catalogue, running a ranking over those users, and the rows of the
``evaluation`` table. Not here: the formulas (`metrics`), and the rankings (`recommend/`, `baselines`).

Every held-out like stays in the denominator, including those of unknown tracks and users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.metrics import (
    CATALOGUE_METRICS,
    USER_METRICS,
    Ranked,
    catalogue_metrics,
    user_metrics,
)
from tunegraph_pipeline.graph.csr import lists_of, rows_of
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.progress import Progress
    from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker

Rank = Callable[["csr_matrix", int], Ranked]
"""(likes CSR m x N, k) -> int32[m, k]: the k best tracks of each row that are not in it, padded with -1."""


@dataclass(frozen=True)
class HeldOut:
    """The judged users, one row each: their known likes, and the likes to be found.

    ``likes``: CSR (m x N), what the ranking may know; ``relevant``: CSR (m x N), held-out likes of tracks in
    the catalogue, disjoint from ``likes``; ``n_held_out``: int64[m], at least 1, all held-out likes;
    ``unknown_users``: how many of the m the lake does not know; ``unknown_tracks``: how many held-out likes
    are of tracks it does not know; ``liked_already``: how many are of recordings the user is known to like
    under one of several ids, which no ranking repeats; ``own`` bool[N]: canonical tracks, the catalogue for
    coverage and Gini; None where all are.

    ``order``: CSR (m x N) of the nonzeros of ``likes``, whose values are 1 + their age, the number of likes
    of the user that are newer; None where lists are judged as sets. ``excluded``: CSR (m x N), tracks that
    are not to be ranked besides, None where there are none. ``users``: int64[m], whose row it is, where some
    users have several; their figures are means over their rows. None where each row is another user.
    """

    likes: csr_matrix
    relevant: csr_matrix
    n_held_out: NDArray[np.int64]
    unknown_users: int = 0
    unknown_tracks: int = 0
    liked_already: int = 0
    own: NDArray[np.bool_] | None = None
    order: csr_matrix | None = None
    excluded: csr_matrix | None = None
    users: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.order is not None and self.order.nnz != self.likes.nnz:
            raise ValueError(f"ages of {self.order.nnz} likes, and {self.likes.nnz} are known")
        if self.likes.multiply(self.relevant).nnz:
            raise ValueError("a held-out like is among the likes the ranking is shown")

    @classmethod
    def of(cls, likes: csr_matrix, relevant: csr_matrix) -> Self:
        """The users whose held-out likes are all in ``relevant``."""
        return cls(likes, relevant, np.diff(relevant.indptr).astype(np.int64))

    @property
    def n_users(self) -> int:
        return int((self.n_held_out if self.users is None else np.unique(self.users)).size)


def held_out_fold(likes: csr_matrix, fold: csr_matrix) -> HeldOut:
    """Judge on one fold of the lake's own likes; the ranking sees the rest of each user's likes.

    ``likes`` and ``fold`` are CSR (users x tracks) of ones; the nonzeros of ``fold`` are among those of
    ``likes``. Users with nothing in the fold are not judged. Raises InputError when nothing is held out.
    """
    rows = np.flatnonzero(np.diff(fold.indptr))
    if rows.size == 0:
        raise InputError("no like is held out, so there is nothing to evaluate; import more users or tracks")
    relevant = fold[rows]
    shown = likes[rows] - relevant
    shown.eliminate_zeros()
    return HeldOut.of(shown, relevant)


def held_out_pairs(
    pairs: pl.DataFrame,
    *,
    user_ids: Sequence[str],
    track_ids: Sequence[str],
    likes: csr_matrix,
    origin: str,
    canonical: NDArray[np.int32] | None = None,
) -> HeldOut:
    """Judge on pairs that were held out elsewhere.

    ``pairs`` has the text columns user_id and track_id, without nulls; a repeated pair counts once. ``likes``
    is CSR (users x tracks), row u for ``user_ids[u]``, column i for ``track_ids[i]``: the likes in the served
    bundle. ``origin`` names the file in messages. Users are judged in order of their id. ``canonical``
    int32[N] is the track that stands for each track's recording, None where that is always itself: two
    held-out ids of one recording count once, as that track, and a recording of several ids that the user is
    known to like counts as missed, as any one of its ids may be in the lake.

    Raises InputError when there is no pair, or a pair is in the lake: it would be left out of that user's
    ranking, and might have been trained on.
    """
    if pairs.is_empty():
        raise InputError(f"{origin} holds no user/track pair")
    users = pl.DataFrame({"user_id": user_ids}, {"user_id": pl.String}).with_row_index("row")
    if canonical is None:
        canonical = np.arange(len(track_ids), dtype=np.int32)
    tracks = pl.DataFrame(
        {"track_id": track_ids, "column": canonical}, {"track_id": pl.String, "column": pl.Int32}
    ).with_columns(several=pl.len().over("column") > 1)
    mapped = (
        pairs.select(pl.col("user_id", "track_id").cast(pl.String))
        .unique(maintain_order=True)
        .join(users, on="user_id", how="left", maintain_order="left")
        .join(tracks, on="track_id", how="left", maintain_order="left")
        .with_columns(unknown=pl.when(pl.col("column").is_null()).then("track_id"))
        .unique(["user_id", "column", "unknown"], keep="first", maintain_order=True)
    )
    mapped = mapped.with_columns(liked=_pairs_in(likes, mapped))
    if len(imported := mapped.filter(pl.col("liked") & ~pl.col("several"))):
        first = imported.row(0, named=True)
        raise InputError(
            f"{origin}: in the lake already are {len(imported):,} of {counted(len(mapped), 'held-out pair')},"
            f" the first of them user {_short(first['user_id'])}, track {_short(first['track_id'])}; "
            "evaluate on pairs that were not imported"
        )
    judged = mapped.group_by("user_id", "row").agg(pl.len().alias("n_held_out")).sort("user_id")
    judged = judged.with_row_index("judged")
    known = mapped.filter(pl.col("column").is_not_null() & ~pl.col("liked")).join(
        judged, on="user_id", how="left"
    )
    in_lake = judged.filter(pl.col("row").is_not_null())
    # One 1 per row selects that user's likes; a user the lake does not know keeps an empty row.
    shown = (_ones_at(in_lake["judged"], in_lake["row"], (len(judged), likes.shape[0])) @ likes).tocsr()
    shown.sort_indices()
    return HeldOut(
        likes=shown,
        relevant=_ones_at(known["judged"], known["column"], (len(judged), likes.shape[1])),
        n_held_out=judged["n_held_out"].cast(pl.Int64).to_numpy(),
        unknown_users=judged["row"].null_count(),
        unknown_tracks=mapped["column"].null_count(),
        liked_already=int(mapped["liked"].sum()),
        own=canonical == np.arange(len(track_ids)),
    )


def _ones_at(rows: pl.Series, columns: pl.Series, shape: tuple[int, int]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    ones = np.ones(len(rows), dtype=np.float32)
    return csr_matrix((ones, (rows.to_numpy(), columns.to_numpy())), shape=shape)


def _pairs_in(likes: csr_matrix, mapped: pl.DataFrame) -> pl.Series:
    """Which pairs of ``row`` and ``column`` are likes; false where either is null."""
    known = (mapped["row"].is_not_null() & mapped["column"].is_not_null()).to_numpy()
    row = mapped["row"].cast(pl.Int64).fill_null(0).to_numpy()
    column = mapped["column"].cast(pl.Int64).fill_null(0).to_numpy()
    liked = np.isin(row * likes.shape[1] + column, rows_of(likes) * likes.shape[1] + likes.indices)
    return pl.Series(known & liked)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


@dataclass(frozen=True)
class Evaluation:
    """The quality of one ranking.

    ``values``: one per metric, user metrics averaged over all judged users; ``per_user``: float64[users] for
    each user metric, in the order of the judged users; ``seconds``: the time to rank for all of them.
    """

    model: str
    k: int
    values: dict[str, float]
    per_user: dict[str, NDArray[np.float64]]
    seconds: float

    def lines(self) -> list[str]:
        """One line per metric, ``name value``: ``map@10 0.1234``."""
        return [f"{name}@{self.k} {value:.4f}" for name, value in self.values.items()]


def evaluate(model: str, rank: Rank, held_out: HeldOut, popularity: NDArray[np.int64], k: int) -> Evaluation:
    """Rank the whole catalogue for every judged user and judge the first k.

    ``popularity`` int64[N]: training likes of every track, for the mean popularity of what is recommended.
    Raises ValueError for a ranking of the wrong shape, one that repeats a track, or recommends what is liked.
    """
    started = perf_counter()
    ranked = rank(held_out.likes, k)
    seconds = perf_counter() - started
    check_ranking(model, ranked, held_out.likes, k)
    per_user = user_metrics(ranked, held_out.relevant, held_out.n_held_out, k)
    if held_out.users is not None:
        _, user, rows = np.unique(held_out.users, return_inverse=True, return_counts=True)
        per_user = {name: np.bincount(user, figures) / rows for name, figures in per_user.items()}
    values = {name: float(per_user[name].mean()) for name in USER_METRICS}
    values |= catalogue_metrics(ranked, popularity, k, held_out.own)
    return Evaluation(model, k, values, per_user, seconds)


def served(ranker: Ranker, progress: Progress | None = None, held_out: HeldOut | None = None) -> Rank:
    """The ranking that is served, as a function to evaluate; ``progress`` counts the ranked users.

    Lists are sets; where ``held_out`` is given they are its own, and have its order if the bundle continues
    the lists of stored users.
    """

    def rank(likes: csr_matrix, k: int) -> Ranked:
        if held_out is None:
            return ranker.rank(lists_of(likes), k, progress=progress).indices
        order = held_out.order if ranker.continuation.for_users else None
        specs = specs_of_lists(likes, order, held_out.excluded)
        return ranker.rank_specs(specs, k, progress=progress).indices

    return rank


def specs_of_lists(
    likes: csr_matrix, order: csr_matrix | None = None, excluded: csr_matrix | None = None
) -> list[QuerySpec]:
    """A query for each row of ``likes``; ``order`` and ``excluded`` as in `HeldOut`."""
    from tunegraph_pipeline.recommend.ranking import QuerySpec

    specs = []
    for row in range(likes.shape[0]):
        left_out = _nothing if excluded is None else _row(excluded, row)[0]
        if order is None:
            specs.append(QuerySpec(_row(likes, row)[0], excluded=left_out))
        else:
            tracks, ages = _row(order, row)
            specs.append(QuerySpec(tracks, excluded=left_out, ages=(ages - 1).astype(np.int32)))
    return specs


_nothing = np.zeros(0, dtype=np.int32)


def _row(matrix: csr_matrix, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[part].astype(np.int32, copy=False), matrix.data[part]


def check_ranking(model: str, ranked: Ranked, likes: csr_matrix, k: int) -> None:
    """Raise ValueError for an invalid ranking, which must not be scored."""
    m, n_tracks = likes.shape
    if ranked.shape != (m, k):
        raise ValueError(f"{model} ranked {ranked.shape}, not {(m, k)}")
    if ranked.size and not -1 <= ranked.min() <= ranked.max() < n_tracks:
        raise ValueError(f"{model} ranked a track outside 0..{n_tracks - 1}")
    places = np.sort(ranked, axis=1)
    if ((places[:, 1:] == places[:, :-1]) & (places[:, 1:] >= 0)).any():
        raise ValueError(f"{model} ranked a track twice for one user")
    rows = np.broadcast_to(np.arange(m, dtype=np.int64)[:, None], ranked.shape)[ranked >= 0]
    if np.isin(rows * n_tracks + ranked[ranked >= 0], rows_of(likes) * n_tracks + likes.indices).any():
        raise ValueError(f"{model} ranked a track the user likes already")


def evaluation_rows(
    evaluations: Sequence[Evaluation], *, dataset: str, split: str, run_id: str
) -> pl.DataFrame:
    """The rows of the ``evaluation`` table, one per model and metric, as `lake.schemas` declares them."""
    rows = [
        (one.model, dataset, split, metric, one.k, value, one.seconds, run_id)
        for one in evaluations
        for metric, value in one.values.items()
    ]
    return pl.DataFrame(rows, empty_table("evaluation").schema, orient="row")


def comparison(evaluations: Sequence[Evaluation]) -> pl.DataFrame:
    """The same values for display: a row per model, a column per metric (``map@10``), and the seconds."""
    return pl.DataFrame(
        [
            {"model": one.model}
            | {f"{name}@{one.k}": one.values[name] for name in (*USER_METRICS, *CATALOGUE_METRICS)}
            | {"seconds": one.seconds}
            for one in evaluations
        ]
    )
