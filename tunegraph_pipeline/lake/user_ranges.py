"""Tables of users, read a range of users at a time, so that memory does not grow with the tables.

Here: where to cut, and the rows of one range after the other. Not here: what is made of them
(`pipeline.current_likes`, `graph.like_graph`).

Nothing that is known of a user depends on another one. Tables of users are sorted by their ids, byte by byte.
So ranges that follow one another read every file once, and what is written of them in turn is sorted too.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import polars as pl

from tunegraph_pipeline.errors import LakeError

_POINTS_A_RANGE = 64
"""How many users of one table, at even distances, are looked at to place the cuts of a range."""

Blocks = Callable[[str, str], Iterator[pl.DataFrame]]
"""The rows of a table on a day, a block at a time: ``blocks("likes", "2026-11-24")``; one block at least."""


class UserRange(NamedTuple):
    """The users after ``after``, up to and with ``until``; None where there is no bound."""

    after: str | None
    until: str | None

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of these users, in their order."""
        if self.after is not None:
            rows = rows.filter(pl.col("user_id") > self.after)
        return rows if self.until is None else rows.filter(pl.col("user_id") <= self.until)

    def among(self, users: pl.Series) -> pl.Series:
        """Those of ``users`` that are in the range."""
        return self.of(users.alias("user_id").to_frame())["user_id"]


EVERYBODY = UserRange(None, None)


def user_ranges(rows: Iterable[tuple[pl.Series, pl.Series]], rows_a_range: int) -> list[UserRange]:
    """Cut the users into ranges of about ``rows_a_range`` rows, one at least, in ascending order.

    ``rows`` gives ascending users and how many rows each has, int: of one table after the other, each maybe
    in several parts. A single user is never cut.
    """
    step = max(1, rows_a_range // _POINTS_A_RANGE)
    points: list[pl.DataFrame] = []
    over = 0  # rows since the last point, also where a table is shorter than a step
    for users, counts in rows:
        total = over + counts.cast(pl.Int64).cum_sum()
        steps = total // step
        crossed = steps - steps.shift(1, fill_value=0)
        points.append(pl.DataFrame({"user": users, "rows": crossed * step}).filter(pl.col("rows") > 0))
        over = (total[-1] if len(total) else over) % step
    if not points:
        return [EVERYBODY]
    by_user = pl.concat(points).group_by("user").sum().sort("user")
    number = by_user["rows"].cum_sum() // rows_a_range
    cuts = by_user["user"].filter(number > number.shift(1, fill_value=0)).to_list()
    return [UserRange(*pair) for pair in zip([None, *cuts], [*cuts, None], strict=True)]


def whole_lists(blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of ``blocks``, which are in the order of users, cut anew so that nobody's rows are in two."""
    left: pl.DataFrame | None = None
    for block in blocks:
        rows = block if left is None else pl.concat([left, block])
        goes_on = pl.col("user_id") == rows["user_id"][-1] if len(rows) else pl.lit(value=True)
        yield rows.filter(~goes_on)
        left = rows.filter(goes_on)
    if left is not None:
        yield left


class RangeReader:
    """Reads the daily tables of ranges that ascend: ``read("likes", day)`` gives the rows of the range that
    was last passed to :meth:`begin`. Every file is read once; one block of it is in memory, and the rows of
    the range are until the next one begins.

    Read whole each time are the tables of everybody, and feedback, which is in the order of time.
    """

    def __init__(self, blocks: Blocks, whole: Callable[[str, str], pl.DataFrame]) -> None:
        self._blocks, self._whole = blocks, whole
        self._range = EVERYBODY
        self._open: dict[tuple[str, str], _Rows] = {}
        self._read: dict[tuple[str, str], pl.DataFrame] = {}

    def begin(self, users: UserRange) -> None:
        """Go on to a range that is after the last one."""
        self._range = users
        self._read.clear()

    def __call__(self, table: str, day: str) -> pl.DataFrame:
        """The rows of a table on a day, or in another partition, of the users of the range. Raises LakeError
        where the file is missing or damaged, or its rows are not in the order of users."""
        key = (table, day)
        if table == "feedback" or self._range == EVERYBODY:
            return self._range.of(self._whole(table, day))
        if key not in self._read:
            if key not in self._open:
                self._open[key] = _Rows(self._blocks(table, day), f"{table} of {day}")
            self._read[key] = self._open[key].of(self._range)
        return self._read[key]


class AnyRange:
    """Readers of ranges in any order: one that follows the last is read on, for another the files are opened
    again, by ``blocks_after``, which may leave out rows up to the user it is given."""

    def __init__(
        self,
        blocks_after: Callable[[str, str, str | None], Iterator[pl.DataFrame]],
        whole: Callable[[str, str], pl.DataFrame],
    ) -> None:
        self._blocks_after, self._whole = blocks_after, whole
        self._reader: RangeReader | None = None
        self._until: str | None = None

    def at(self, users: UserRange) -> RangeReader:
        """The reader of the rows of a range."""
        if self._reader is None or self._until is None or self._until != users.after:

            def blocks(table: str, day: str) -> Iterator[pl.DataFrame]:
                return self._blocks_after(table, day, users.after)

            self._reader = RangeReader(blocks, self._whole)
        self._reader.begin(users)
        self._until = users.until
        return self._reader


class _Rows:
    """The rows of a file, of which the first ones were taken."""

    def __init__(self, blocks: Iterator[pl.DataFrame], what: str) -> None:
        self._blocks, self._what = blocks, what
        self._last: str | None = None
        self._left = self._in_order(next(blocks))

    def of(self, users: UserRange) -> pl.DataFrame:
        """Take the rows of the users of a range; those before it are skipped."""
        taken = [self._left.clear()]
        while True:
            ids = self._left["user_id"]
            # By bisection: the rows are in the order of users.
            first = 0 if users.after is None else int(ids.search_sorted(users.after, side="right"))
            end = len(ids) if users.until is None else int(ids.search_sorted(users.until, side="right"))
            taken.append(self._left.slice(first, end - first))
            if end < len(ids):
                self._left = self._left.slice(end)
                break
            following = next(self._blocks, None)
            if following is None:
                self._left = self._left.clear()
                break
            self._left = self._in_order(following)
        return pl.concat(taken)

    def _in_order(self, block: pl.DataFrame) -> pl.DataFrame:
        users = block["user_id"]
        first_is_after = self._last is None or not len(users) or users[0] >= self._last
        if not first_is_after or not users.is_sorted():
            raise LakeError(f"the rows of {self._what} are not in the order of users; fill that day again")
        self._last = users[-1] if len(users) else self._last
        return block
