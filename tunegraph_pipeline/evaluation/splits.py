"""The splits of a comparison: which likes of a lake are held out, for each question about a model.

Here: pure functions from likes to a `Split`: what a model may learn from, the known likes of each judged
user, and the likes to be found. Not here: ranking and judging (`evaluate`, `compare`), the permanent split of
a refresh (`graph.split`).

| split | question |
|---|---|
| `weak_generalisation` | other songs of users the model was trained on |
| `strong_generalisation` | songs of users it has never seen, some of whose likes are given at query time |
| `temporal` | what users came to like after a moment, given what they liked before |
| `continuation` | the newest songs of lists whose order is known, given the others in their order |
| `cold_start_tracks` | songs nobody in training likes, known by their features and artists alone |

One definition of relevance for all: exactly the tracks whose likes were held out are relevant to a user, and
known likes are left out of the ranking. A ranking is over the whole catalogue; with cold tracks it is cut to
them, so that it measures whether a model distinguishes cold tracks, not whether it ranks them above others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.evaluate import HeldOut, Rank
from tunegraph_pipeline.evaluation.metrics import Ranked
from tunegraph_pipeline.graph.csr import only, rows_of, shuffled_rows
from tunegraph_pipeline.graph.like_ages import ages_within
from tunegraph_pipeline.lake.arrays import UInt16

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK_ENTRIES = 1 << 24
SECONDS_PER_DAY = 86_400


class Ranks(Protocol):
    """A model that ranks tracks for lists of likes, as `evaluate.Rank` says."""

    def rank(self, likes: csr_matrix, k: int) -> Ranked: ...


@runtime_checkable
class RanksKnown(Protocol):
    """A model that knows its training users: ``users`` int64[m] is the training row of each, or -1."""

    def rank_known(self, users: NDArray[np.int64], likes: csr_matrix, k: int) -> Ranked: ...


@runtime_checkable
class RanksOrdered(Protocol):
    """A model that takes lists in their order, CSR (m x N), whose values are 1 + the age of each like."""

    def rank_ordered(self, lists: csr_matrix, k: int) -> Ranked: ...


@dataclass(frozen=True)
class Split:
    """Training likes and judged users.

    ``name`` of the protocol; ``train``: CSR (U x N) float32 ones, all that a model may learn from; ``users``:
    int64[m], the row in ``train`` of each judged user, -1 for one without a row; ``held_out``: the known
    likes of each and the likes to be found; ``cold``: bool[N], tracks without a training like by design;
    ``ages``: float64[nnz], the days from each like of ``train``, in its order, to the moment of a split by
    time, NaN where unknown; None where the split is not by time; ``order``: uint16[nnz], how many likes of
    the same user in ``train`` are newer, in its order; None where lists are sets. The order of the known
    likes is that of ``held_out``.

    Raises ValueError where a held-out like is in ``train`` or known, a cold track is in either, or the ages
    or the order are not those of ``train``.
    """

    name: str
    train: csr_matrix
    users: NDArray[np.int64]
    held_out: HeldOut
    cold: NDArray[np.bool_]
    ages: NDArray[np.float64] | None = None
    order: UInt16 | None = None

    def __post_init__(self) -> None:
        known = np.flatnonzero(self.users >= 0)
        if self.train[self.users[known]].multiply(self.held_out.relevant[known]).nnz:
            raise ValueError(f"{self.name}: a held-out like is among the training likes")
        for likes in (self.train, self.held_out.likes):
            if self.cold[likes.indices].any():
                raise ValueError(f"{self.name}: a like of a cold track is not held out")
        if self.ages is not None and self.ages.shape != self.train.indices.shape:
            raise ValueError(f"{self.name}: the ages of {len(self.ages)}, not {self.train.nnz}, likes")
        if self.order is not None and self.order.shape != self.train.indices.shape:
            raise ValueError(f"{self.name}: the order of {len(self.order)}, not {self.train.nnz}, likes")

    def ranking(self, model: Ranks) -> Rank:
        """The ranking by ``model`` for the judged users, in their order.

        A model that takes ordered lists gets these where the order is known. One that knows users gets their
        training rows. With cold tracks it ranks the whole catalogue, a block of users at a time, and its
        lists are cut to them in their order.
        """

        order = self.held_out.order

        def rank(likes: csr_matrix, k: int, start: int = 0) -> Ranked:
            if order is not None and isinstance(model, RanksOrdered):
                return model.rank_ordered(order[start : start + likes.shape[0]], k)
            if isinstance(model, RanksKnown):
                return model.rank_known(self.users[start : start + likes.shape[0]], likes, k)
            return model.rank(likes, k)

        def among_cold(likes: csr_matrix, k: int) -> Ranked:
            m, n_tracks = likes.shape
            ranked = np.full((m, k), -1, dtype=np.int32)
            block = max(1, _BLOCK_ENTRIES // n_tracks)
            for start in range(0, m, block):
                every = rank(likes[start : start + block], n_tracks, start)
                row, place = np.nonzero((every >= 0) & self.cold[every])
                nth = np.arange(len(row)) - np.searchsorted(row, row)
                kept = nth < k
                ranked[start + row[kept], nth[kept]] = every[row[kept], place[kept]]
            return ranked

        return among_cold if self.cold.any() else rank


def weak_generalisation(
    likes: csr_matrix, *, share: float = 0.2, users: int | None = None, seed: int = 0
) -> Split:
    """Hold out ``share`` of the likes of known users, at least one of each and never all.

    ``likes`` is CSR (U x N) of ones. The judged users are those with two likes or more, or ``users`` of them,
    drawn without replacement. Raises InputError where there is none.
    """
    _check_share(share)
    rng = np.random.default_rng(seed)
    judged = _draw(np.flatnonzero(np.diff(likes.indptr) >= 2), users, rng, "two likes or more")
    drawn = _draw_of_each(likes, judged, share, rng)
    train = only(likes, ~drawn)
    held_out = HeldOut.of(train[judged], only(likes, drawn)[judged])
    return Split("weak generalisation", train, judged, held_out, _none(likes))


def strong_generalisation(
    likes: csr_matrix, *, user_share: float = 0.1, share: float = 0.2, users: int | None = None, seed: int = 0
) -> Split:
    """Leave ``user_share`` of the users out of training, and hold out ``share`` of their likes.

    They are drawn from the users with two likes or more; their rows of ``train`` are empty, and they are
    judged as users without a row. At most ``users`` are left out. Raises InputError where there is none to
    draw or nobody would be left to learn from.
    """
    _check_share(share)
    _check_share(user_share)
    rng = np.random.default_rng(seed)
    able = np.flatnonzero(np.diff(likes.indptr) >= 2)
    n_drawn = max(1, round(user_share * len(able)))
    judged = _draw(able, min(n_drawn, users or n_drawn), rng, "two likes or more")
    unseen = np.zeros(likes.shape[0], dtype=np.bool_)
    unseen[judged] = True
    drawn = _draw_of_each(likes, judged, share, rng)
    train = only(likes, ~unseen[rows_of(likes)])
    if not train.nnz:
        raise InputError("no user is left to learn from; import more users")
    held_out = HeldOut.of(only(likes, ~drawn)[judged], only(likes, drawn)[judged])
    return Split("strong generalisation", train, np.full(len(judged), -1, np.int64), held_out, _none(likes))


def temporal(
    likes: csr_matrix,
    times: NDArray[np.float64],
    *,
    quantile: float = 0.8,
    users: int | None = None,
    seed: int = 0,
) -> Split:
    """Train on the likes up to a moment, and hold out those after it.

    ``times`` float64[nnz], when each like was made, in seconds and the order of ``likes.indices``; NaN where
    unknown, which counts as before. The moment is `moment_of` them. The judged users are those with likes on
    both sides, or ``users`` of them. Raises InputError where there is none.
    """
    if times.shape != likes.indices.shape:
        raise ValueError(f"{len(times)} times of {likes.nnz} likes")
    rng = np.random.default_rng(seed)
    moment = moment_of(times, quantile)
    after = times > moment  # false where unknown
    train, later = only(likes, ~after), only(likes, after)
    both = np.flatnonzero((np.diff(train.indptr) > 0) & (np.diff(later.indptr) > 0))
    judged = _draw(both, users, rng, "likes before and after the moment of the split")
    ages = (moment - times[~after]) / SECONDS_PER_DAY
    order = ages_within(train, -ages)
    held_out = _in_order(HeldOut.of(train[judged], later[judged]), train, order, judged)
    return Split("temporal", train, judged, held_out, _none(likes), ages, order)


def continuation(
    likes: csr_matrix,
    ages: UInt16,
    times: NDArray[np.float64] | None = None,
    *,
    share: float = 0.2,
    users: int | None = None,
    seed: int = 0,
) -> Split:
    """Hold out the newest ``share`` of the likes of each list with an order, at least one and never all.

    ``ages`` uint16[nnz], how many likes of the same user are newer, in the order of ``likes.indices``; of
    equal ones, those of the larger track are held out first. ``times`` float64[nnz], when each like was made,
    where that is known. The tails of all lists with an order are hidden; the judged users are theirs, or
    ``users`` of them. Raises InputError where there is none.
    """
    _check_share(share)
    if ages.shape != likes.indices.shape:
        raise ValueError(f"there are {likes.nnz} likes, but the length of their ages is {len(ages)}")
    rng = np.random.default_rng(seed)
    rows, lengths = rows_of(likes), np.diff(likes.indptr)
    ordered = np.bincount(rows[ages > 0], minlength=likes.shape[0]) > 0
    wanted = np.zeros(likes.shape[0], dtype=np.int64)
    wanted[ordered] = np.clip(np.round(share * lengths[ordered]), 1, lengths[ordered] - 1)
    newest_first = np.lexsort((-likes.indices.astype(np.int64), ages, rows))
    tail = np.zeros(likes.nnz, dtype=np.bool_)
    tail[newest_first] = np.arange(likes.nnz) - likes.indptr[rows] < wanted[rows]
    train, newest = only(likes, ~tail), only(likes, tail)
    judged = _draw(np.flatnonzero(ordered), users, rng, "a list with an order")
    order = ages_within(train, -ages[~tail].astype(np.float64))
    held_out = _in_order(HeldOut.of(train[judged], newest[judged]), train, order, judged)
    days = None
    if times is not None and np.isfinite(times[~tail]).any():
        days = (np.nanmax(times[~tail]) - times[~tail]) / SECONDS_PER_DAY
    return Split("continuation", train, judged, held_out, _none(likes), days, order)


def _in_order(held_out: HeldOut, train: csr_matrix, order: UInt16, judged: NDArray[np.int64]) -> HeldOut:
    """The same users, whose known likes are their rows of ``train``, with the order of these."""
    from scipy.sparse import csr_matrix

    ages = csr_matrix((1 + order.astype(np.float32), train.indices, train.indptr), shape=train.shape)
    return replace(held_out, order=csr_matrix(ages[judged]))


def moment_of(times: NDArray[np.float64], quantile: float = 0.8) -> float:
    """The moment that divides likes by time: the ``quantile`` of their known times, itself one of them, so
    that all likes of that moment are before. Raises InputError where no time is known."""
    _check_share(quantile)
    known = times[np.isfinite(times)]
    if not known.size:
        raise InputError("no like has a time, so nothing can be held out by time; import likes with times")
    return float(np.quantile(known, quantile, method="lower"))


def cold_start_tracks(
    likes: csr_matrix, *, share: float = 0.1, users: int | None = None, seed: int = 0
) -> Split:
    """Hold out all likes of ``share`` of the liked tracks, which makes these tracks cold.

    The judged users are those who like a cold track and another one, or ``users`` of them. Raises InputError
    where there is none.
    """
    _check_share(share)
    rng = np.random.default_rng(seed)
    liked = np.flatnonzero(np.bincount(likes.indices, minlength=likes.shape[1]))
    cold = _none(likes)
    if not len(liked):
        raise InputError("no track is liked, so none can be held out; import more likes")
    cold[rng.choice(liked, max(1, round(share * len(liked))), replace=False)] = True
    of_cold = cold[likes.indices]
    train, lost = only(likes, ~of_cold), only(likes, of_cold)
    both = np.flatnonzero((np.diff(train.indptr) > 0) & (np.diff(lost.indptr) > 0))
    judged = _draw(both, users, rng, "a like of a cold track and one of another")
    return Split("cold-start tracks", train, judged, HeldOut.of(train[judged], lost[judged]), cold)


def _none(likes: csr_matrix) -> NDArray[np.bool_]:
    return np.zeros(likes.shape[1], dtype=np.bool_)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"a share of {share} cannot be held out; it has to be above 0 and below 1")


def _draw(
    able: NDArray[np.int64], most: int | None, rng: np.random.Generator, what: str
) -> NDArray[np.int64]:
    """Draw ``most`` of the users ``able`` to be judged, ascending; all where that is None or larger."""
    if not len(able):
        raise InputError(f"no user has {what}, so nobody can be judged; import more likes")
    if most is None or most >= len(able):
        return able
    return np.sort(rng.choice(able, most, replace=False))


def _draw_of_each(
    likes: csr_matrix, users: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """bool[nnz]: ``share`` of the likes of each of ``users``, who have two or more: at least one, not all."""
    lengths = np.diff(likes.indptr)
    wanted = np.zeros(likes.shape[0], dtype=np.int64)
    wanted[users] = np.clip(np.round(share * lengths[users]), 1, lengths[users] - 1).astype(np.int64)
    order, place = shuffled_rows(likes, rng)
    drawn = np.zeros(likes.nnz, dtype=np.bool_)
    drawn[order] = place < wanted[rows_of(likes)]
    return drawn
