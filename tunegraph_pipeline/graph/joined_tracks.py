"""Tracks joined into groups, of which none holds two lengths that cannot be one recording.

Here: the groups, and how sets of tracks that share a key are joined. Not here: what the keys are
(`recordings`).

What is joined depends on the sets and lengths alone, never on the order of the tracks, so the days on which
they arrived do not matter.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

LENGTH_TOLERANCE_MS = 10_000
"""Ids whose lengths differ by more than this are two recordings, whatever else they share."""


class Span(NamedTuple):
    """A group and the shortest and longest length in it, in ms; inf and -inf where none is known."""

    low: float
    high: float
    group: int

    @property
    def known(self) -> bool:
        return self.high >= self.low


class JoinedTracks:
    """``label`` int32[N] is the smallest track of each track's group; at first every track is alone.

    ``lengths`` float64[N] are those of the tracks in ms, NaN where unknown.
    """

    def __init__(self, lengths: npt.NDArray[np.float64]) -> None:
        self.label = np.arange(len(lengths), dtype=np.int32)
        known = ~np.isnan(lengths)
        self._low = np.where(known, lengths, np.inf)
        self._high = np.where(known, lengths, -np.inf)

    def spans(self, groups: Iterable[int]) -> list[Span]:
        """The spans of these groups, which are labels."""
        return [Span(float(self._low[group]), float(self._high[group]), group) for group in groups]

    def join(self, keys: pl.DataFrame) -> int:
        """Join the tracks of each key: columns track, key (without nulls).

        Where the lengths of a key differ too much, its groups are joined as :func:`by_length` says. Returns
        the number of keys of which something stayed apart.
        """
        members = self._members(keys)
        lengths = (
            pl.DataFrame({"low": self._low, "high": self._high})
            .with_row_index("group")
            .cast({"group": pl.Int32})
        )
        spread = (
            members.join(lengths, on="group", how="left")
            .with_columns(spread=pl.col("high").max().over("key") - pl.col("low").min().over("key"))
            .sort("key", "group")
        )
        fits = pl.col("spread") <= LENGTH_TOLERANCE_MS
        alike, unlike = spread.filter(fits), spread.filter(~fits)
        sets = alike.select("group", set=pl.col("key").rle_id().cast(pl.Int64))
        parts, apart = self._parts(unlike, first=len(sets))
        return apart + self._join_sets(pl.concat([sets, parts]))

    @staticmethod
    def _parts(unlike: pl.DataFrame, first: int) -> tuple[pl.DataFrame, int]:
        """The sets, numbered from ``first``, into which keys of several lengths fall, and how many keys these
        are. ``unlike`` has key, low, high and group, sorted by key."""
        groups: list[int] = []
        sets: list[int] = []
        apart = 0
        for _, rows in groupby(unlike.select("key", "low", "high", "group").iter_rows(), itemgetter(0)):
            apart += 1
            for together in by_length([Span(*row[1:]) for row in rows]):
                groups += [one.group for one in together]
                sets += [first] * len(together)
                first += 1
        return pl.DataFrame({"group": groups, "set": sets}, {"group": pl.Int32, "set": pl.Int64}), apart

    def _members(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The groups of each key with several: group, key."""
        groups = pl.Series("group", self.label[keys["track"].to_numpy()])
        members = keys.select("key").with_columns(groups).filter(pl.col("key").is_duplicated()).unique()
        return members.filter(pl.col("key").is_duplicated())

    def _join_sets(self, sets: pl.DataFrame) -> int:
        """Join the groups of each set: group, set. Each set fits in length, but sets may share groups."""
        if sets.is_empty():
            return 0
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        groups, at = np.unique(sets["group"].to_numpy(), return_inverse=True)
        _, of = np.unique(sets["set"].to_numpy(), return_inverse=True)
        size = len(groups) + int(of.max()) + 1
        edges = coo_array((np.ones(len(at), np.int8), (at, of + len(groups))), shape=(size, size))
        part = connected_components(edges, directed=False)[1][: len(groups)]
        low = np.full(size, np.inf)
        high = np.full(size, -np.inf)
        np.minimum.at(low, part, self._low[groups])
        np.maximum.at(high, part, self._high[groups])
        with np.errstate(invalid="ignore"):
            fits = ~(high - low > LENGTH_TOLERANCE_MS)[part]
        smallest = np.full(size, len(self.label), dtype=np.int64)
        np.minimum.at(smallest, part, groups)
        target = groups.astype(np.int32)
        target[fits] = smallest[part[fits]]
        chained = sets.filter(pl.Series(~fits[at]))
        self._relabel(groups, target)
        return self._join_chained(chained)

    def _relabel(self, groups: npt.NDArray[np.int32], target: npt.NDArray[np.int32]) -> None:
        """Let each of ``groups`` have the label of ``target``, the smallest of the groups it joins."""
        to = np.arange(len(self.label), dtype=np.int32)
        to[groups] = target
        self.label = to[self.label]
        np.minimum.at(self._low, target, self._low[groups])
        np.maximum.at(self._high, target, self._high[groups])

    def _join_chained(self, sets: pl.DataFrame) -> int:
        """Join sets that share groups and are not of one length together, one after another."""
        apart = 0
        for _, rows in groupby(sets.sort("set").select("set", "group").iter_rows(), itemgetter(0)):
            now = np.unique(self.label[[group for _, group in rows]])
            spans = self.spans(now.tolist())
            joined = by_length(spans) if is_spread(spans) else [spans]
            apart += is_spread(spans)
            for together in joined:
                members = np.array(sorted(one.group for one in together), dtype=np.int32)
                self._relabel(members, np.full(len(members), members[0], dtype=np.int32))
        return apart


def is_spread(spans: Sequence[Span]) -> bool:
    """Whether the lengths of these groups differ by too much for one recording."""
    known = [one for one in spans if one.known]
    return (
        bool(known) and max(one.high for one in known) - min(one.low for one in known) > LENGTH_TOLERANCE_MS
    )


def by_length(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield the groups that are of one length: those within the tolerance of the shortest, then of the
    shortest of the others, and so on. A group of unknown length could be any of them, and is left out."""
    together: list[Span] = []
    for span in sorted(one for one in spans if one.known):
        if together and span.high - together[0].low > LENGTH_TOLERANCE_MS:
            yield together
            together = []
        together.append(span)
    if together:
        yield together
