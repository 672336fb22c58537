"""The current lists as of a cut-off, and how a changed day changes them.

Here: rebuilding them from every day, and updating those of the last refresh, which costs as much as the users
that changed; both give the same result. Not here: the rule which list is current (`tables.current_lists`),
what feedback does to it (`feedback`), or files (`lake`).

The lists are a function of a :class:`Basis`: the days, with a fingerprint of each. Comparing two of them
tells which days changed: new ones, past ones that were filled again, and ones that are gone. These, and the
day on which each user was last seen, tell whose lists may have changed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Self

import numpy as np
import polars as pl

from tunegraph_pipeline.lake.arrays import UInt64
from tunegraph_pipeline.lake.feedback import settle
from tunegraph_pipeline.lake.schemas import EARLIEST
from tunegraph_pipeline.lake.tables import current_lists, empty_table

Read = Callable[[str, str], pl.DataFrame]
"""The rows of a daily table on a day: ``read("likes", "2026-11-24")``."""

_PAIR = ["source", "user_id"]


@dataclass(frozen=True)
class Basis:
    """What current lists are computed from.

    ``days``: the filled days up to the cut-off, each with a fingerprint of its lists; ``feedback``: the same
    for its feedback; ``batches``: the ids (`day_fingerprints.aliased_id`) of the raw batches with that
    feedback, without an entry for days whose batches are gone; ``recordings``: a fingerprint of which ids are
    one recording, "" where there is no feedback; ``plays``: one of the likes from plays, "" where there are
    none.
    """

    days: Mapping[str, str] = field(default_factory=dict)
    feedback: Mapping[str, str] = field(default_factory=dict)
    batches: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)
    recordings: str = ""
    plays: str = ""

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | None) -> Self | None:
        """Read what :meth:`to_json` wrote; None for any other text."""
        try:
            parts = json.loads(text or "")
            batches = {day: list(ids) for day, ids in parts["batches"].items()}
            plays = str(parts.get("plays", ""))  # lists of earlier versions know of none
            return cls(dict(parts["days"]), dict(parts["feedback"]), batches, str(parts["recordings"]), plays)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def changed_days(self, other: "Basis") -> set[str]:
        """The days whose lists differ."""
        return {day for day in {*self.days, *other.days} if self.days.get(day) != other.days.get(day)}

    def changed_feedback_days(self, earlier: "Basis") -> set[str] | None:
        """The days whose feedback differs from ``earlier``; None where feedback may have been removed, since
        the users who gave it are then unknown."""
        for day in {day for day, said in earlier.feedback.items() if self.feedback.get(day) != said}:
            was, now = earlier.batches.get(day), self.batches.get(day)
            if was is None or now is None or not set(was) <= set(now):
                return None
        return {day for day, said in self.feedback.items() if earlier.feedback.get(day) != said}


@dataclass(frozen=True)
class CurrentLists:
    """``likes``: as `current_likes`, sorted; ``dislikes``: user_id, track_id, disliked_at, sorted;
    ``observed``: source, user_id, seen, list_hash, the day on which each user's list was last seen whole,
    sorted."""

    likes: pl.DataFrame
    dislikes: pl.DataFrame
    observed: pl.DataFrame


@dataclass(frozen=True)
class Played:
    """``likes``: the likes from plays, with the columns of `current_likes`; ``fingerprint``: theirs, "" where
    there are none. ``changed``: the users whose likes differ from those with the fingerprint ``before``; None
    where that is unknown."""

    likes: pl.DataFrame = field(default_factory=lambda: empty_table("current_likes"))
    fingerprint: str = ""
    before: str = ""
    changed: pl.Series | None = None

    def changed_since(self, earlier: str) -> pl.Series | None:
        """The users whose likes differ from those with this fingerprint; None where that is unknown."""
        if earlier == self.fingerprint:
            return pl.Series("user_id", [], dtype=pl.String)
        return self.changed if earlier and earlier == self.before else self._everybody(earlier)

    def _everybody(self, earlier: str) -> pl.Series | None:
        return None if earlier else self.likes["user_id"].unique()


NO_PLAYS = Played()


def rebuilt_lists(
    read: Read,
    basis: Basis,
    said: pl.DataFrame,
    recordings: pl.DataFrame | None,
    played: Played = NO_PLAYS,
) -> CurrentLists:
    """The current lists, from every day of ``basis``: whole lists, likes from plays, and what feedback does
    to both. ``said`` and ``recordings`` as in `feedback.settle`."""
    newest_first = sorted(basis.days, reverse=True)
    known = empty_table("last_observations")
    for day in newest_first:
        known = pl.concat([known, _observations(read, day).join(known, on=_PAIR, how="anti")])
    lists = current_lists((read("observations", day), read("likes", day)) for day in newest_first)
    settled = settle(united(lists, played.likes), said, _seen(read, basis), recordings)
    return CurrentLists(settled.likes, settled.dislikes, known.sort("user_id", "source"))


def updated_lists(
    before: CurrentLists,
    earlier: Basis,
    read: Read,
    basis: Basis,
    said: pl.DataFrame,
    recordings: pl.DataFrame | None,
    played: Played = NO_PLAYS,
) -> tuple[CurrentLists, pl.Series] | None:
    """Update ``before``, the lists of ``earlier``, to what :func:`rebuilt_lists` gives for ``basis``.

    Returns the lists and the users whose list may have changed. Arguments as there. Reads only the changed
    days, and the days from which the lists of these users come. None where it is unknown what changed, so
    the lists have to be rebuilt.
    """
    changed_days = basis.changed_days(earlier)
    said_days = basis.changed_feedback_days(earlier)
    replayed = played.changed_since(earlier.plays)
    if said_days is None or replayed is None:
        return None
    stale, latest = _seen_last(before.observed, changed_days, read, basis)
    both = stale.join(latest, on=_PAIR, how="full", coalesce=True, suffix=" now")
    touched = pl.concat(
        [
            both.filter(pl.col("list_hash").ne_missing(pl.col("list_hash now")))["user_id"],
            *(read("feedback", day)["user_id"] for day in sorted(said_days)),
            *_resettled_users(read, basis, earlier, said["user_id"].unique()),
            replayed,
        ]
    ).unique()

    observed = pl.concat([before.observed.join(both, on=_PAIR, how="anti"), latest])
    theirs = observed.filter(pl.col("user_id").is_in(touched.implode()))
    of_touched = pl.col("user_id").is_in(touched.implode())
    lists = united(_lists(theirs, read), played.likes.filter(of_touched))
    settled = settle(lists, said.filter(of_touched), _seen(read, basis), recordings)
    return (
        CurrentLists(
            _replaced(before.likes, touched, settled.likes),
            _replaced(before.dislikes, touched, settled.dislikes),
            observed.sort("user_id", "source"),
        ),
        touched,
    )


def _resettled_users(read: Read, basis: Basis, earlier: Basis, speakers: pl.Series) -> Iterator[pl.Series]:
    """Yield the users whose feedback has to be settled again, as lists seen since may change which of
    it counts. ``speakers``: all users with feedback."""
    changed_days = basis.changed_days(earlier)
    if not len(speakers):
        return
    if basis.recordings != earlier.recordings or changed_days & earlier.days.keys():
        yield speakers  # who was seen on a day before it was filled again is no longer known
        return
    for day in sorted(changed_days):
        users = read("observations", day)["user_id"]
        yield users.filter(users.is_in(speakers.implode()))


def moved_pairs(
    before: pl.DataFrame, after: pl.DataFrame, touched: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The likes of the users ``touched`` that were removed and those that were added between two tables of
    likes: both user_id, track_id."""
    pair = ["user_id", "track_id"]
    of_touched = pl.col("user_id").is_in(touched.implode())
    old, new = (likes.filter(of_touched).select(pair) for likes in (before, after))
    return old.join(new, on=pair, how="anti"), new.join(old, on=pair, how="anti")


def pairs_fingerprint(likes: pl.DataFrame) -> str:
    """A fingerprint of who likes what, whatever the order of the rows: 32 hex digits.

    The sum of two 64-bit hashes of every pair, so that the removed and added pairs are enough to update it,
    see :func:`added_fingerprint`. Hashes are those of the installed polars: with another version the same
    lists have another fingerprint, and what is built from them is rebuilt.
    """
    return _hex(pairs_sums(likes))


def added_fingerprint(fingerprint: str, sums: UInt64) -> str:
    """The fingerprint after adding those of :func:`pairs_sums`: of added pairs less those of removed ones."""
    known = np.array([int(fingerprint[:16], 16), int(fingerprint[16:], 16)], dtype=np.uint64)
    return _hex(known + sums)


def pairs_sums(likes: pl.DataFrame) -> UInt64:
    """The two sums that make a fingerprint, uint64[2]; those of several parts are added."""
    user, track = likes["user_id"], likes["track_id"]
    sums = []
    for seed in (1, 2):
        mixed = user.hash(seed).to_numpy() * np.uint64(0x9E3779B97F4A7C15) ^ track.hash(seed + 2).to_numpy()
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        sums.append((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))
    return np.array(sums, dtype=np.uint64)


def _hex(sums: UInt64) -> str:
    return "".join(f"{int(value):016x}" for value in sums)


def _seen_last(
    observed: pl.DataFrame, changed_days: set[str], read: Read, basis: Basis
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """When each user of the changed days was last seen: before, and now. Both source, user_id, seen,
    list_hash; a user who was never seen has no row."""
    gone = observed.filter(pl.col("seen").cast(pl.String).is_in(list(changed_days)))
    again = [_observations(read, day) for day in sorted(changed_days & basis.days.keys(), reverse=True)]
    found = pl.concat([empty_table("last_observations"), *again]).unique(
        _PAIR, keep="first", maintain_order=True
    )
    concerned = pl.concat([gone.select(_PAIR), found.select(_PAIR)]).unique()
    before = observed.join(concerned, on=_PAIR, how="semi")
    standing = before.join(gone, on=_PAIR, how="anti")
    latest = _newest(pl.concat([standing, found]))
    # A user may be gone from the day on which they were last seen: then an earlier day counts.
    unsettled = gone.join(standing, on=_PAIR, how="anti").select(_PAIR)
    for day in sorted(basis.days.keys() - changed_days, reverse=True):
        settled = latest.filter(pl.col("seen") > date.fromisoformat(day))
        unsettled = unsettled.join(settled, on=_PAIR, how="anti")
        if unsettled.is_empty():
            break
        there = _observations(read, day).join(unsettled, on=_PAIR, how="semi")
        latest = _newest(pl.concat([latest, there]))
    return before, latest


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("seen", descending=True).unique(_PAIR, keep="first", maintain_order=True)


def _observations(read: Read, day: str) -> pl.DataFrame:
    rows = read("observations", day)
    return rows.select(*_PAIR, pl.lit(date.fromisoformat(day), pl.Date).alias("seen"), "list_hash")


def _lists(observed: pl.DataFrame, read: Read) -> pl.DataFrame:
    """The lists of the users in ``observed``, each as of the day given there."""
    days = [
        (of_day, read("likes", of_day["seen"][0].isoformat()).join(of_day, on=_PAIR, how="semi"))
        for of_day in observed.partition_by("seen")
    ]
    return current_lists(days)


def united(lists: pl.DataFrame, played: pl.DataFrame) -> pl.DataFrame:
    """Whole lists and likes from plays, with the earliest time known of a like."""
    if played.is_empty():
        return lists
    both = pl.concat([lists, played], how="diagonal")
    return both.sort("user_id", "track_id", *EARLIEST, nulls_last=True).unique(
        ["user_id", "track_id"], keep="first", maintain_order=True
    )


def _seen(read: Read, basis: Basis) -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
    """The day, observations and likes of every day, read one by one."""
    for day in sorted(basis.days, reverse=True):
        yield date.fromisoformat(day), read("observations", day), read("likes", day)


def _replaced(rows: pl.DataFrame, users: pl.Series, by: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with those of ``users`` replaced ``by`` others. Both are sorted, and so is the result, since
    no user has rows in both parts."""
    kept = rows.filter(~pl.col("user_id").is_in(users.implode()))
    return kept.merge_sorted(by.select(kept.columns), key="user_id")
