"""Ranges of users cover everybody once, and are read in turn from files that are read once."""

from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.user_ranges import RangeReader, UserRange, user_ranges, whole_lists

names = st.lists(st.sampled_from("abcdefghij"), max_size=30).map(sorted)


def blocks_of(users: list[str], size: int) -> Iterator[pl.DataFrame]:
    rows = pl.DataFrame({"user_id": pl.Series(users, dtype=pl.String), "row": range(len(users))})
    for start in range(0, max(len(users), 1), size):
        yield rows[start : start + size]


def whole(_: str, day: str) -> pl.DataFrame:
    raise AssertionError(f"{day} is read whole")


@given(st.lists(names, max_size=4), st.integers(1, 12))
def test_ranges_follow_one_another_from_nobody_to_everybody(tables: list[list[str]], rows: int) -> None:
    counted = []
    for table in tables:
        lists = pl.Series("user_id", table, dtype=pl.String).value_counts().sort("user_id")
        counted.append((lists["user_id"], lists["count"]))
    ranges = user_ranges(counted, rows)
    assert (ranges[0].after, ranges[-1].until) == (None, None)
    cuts = [one.until for one in ranges[:-1]]
    assert cuts == [one.after for one in ranges[1:]]
    assert cuts == sorted(str(cut) for cut in {*cuts})
    everyone = pl.Series("user_id", sorted({user for table in tables for user in table}), dtype=pl.String)
    assert [user for one in ranges for user in one.among(everyone)] == everyone.to_list()


def test_ranges_are_as_long_as_they_may_be() -> None:
    users = pl.Series("user_id", [f"u{number:04d}" for number in range(1000)])
    ranges = user_ranges([(users, pl.repeat(10, 1000, eager=True))] * 2, 4000)
    sizes = [2 * 10 * len(one.among(users)) for one in ranges]
    assert 5 <= len(ranges) <= 6
    assert max(sizes) <= 4100


@given(names, names, st.integers(1, 7), st.sets(st.sampled_from("abcdefghij")))
def test_every_range_gets_its_rows_of_every_table(
    first: list[str], second: list[str], size: int, cuts: set[str]
) -> None:
    tables = {"first": first, "second": second}
    opened = []

    def blocks(table: str, day: str) -> Iterator[pl.DataFrame]:
        opened.append((table, day))
        return blocks_of(tables[table], size)

    read = RangeReader(blocks, lambda table, _: pl.concat(blocks_of(tables[table], 100)))
    bounds: list[str | None] = [None, *sorted(cuts), None]
    for number, users in enumerate(map(UserRange, bounds[:-1], bounds[1:])):
        read.begin(users)
        for table in ("first", "second") if number % 2 else ("first",):  # a table may be left out for a while
            expected = users.of(pl.concat(blocks_of(tables[table], 100)))
            assert read(table, "day").equals(expected)
            assert read(table, "day").equals(expected), "asked again"
    assert len(opened) == len(set(opened)), "a file is read once"
    assert bool(opened) == bool(cuts), "what is of everybody is read whole"


def test_many_short_tables_are_cut_as_one_long_one_is() -> None:
    users = [pl.Series("user_id", [f"u{number:04d}"]) for number in range(1000)]
    ranges = user_ranges([(one, pl.Series([10])) for one in users], 1000)
    sizes = [10 * len(one.among(pl.concat(users))) for one in ranges]
    assert len(ranges) >= 10
    assert max(sizes) <= 1100


def test_feedback_is_in_the_order_of_time() -> None:
    read = RangeReader(lambda *_: blocks_of([], 1), lambda *_: pl.concat(blocks_of(["c", "a", "b"], 9)))
    read.begin(UserRange("a", None))
    assert read("feedback", "2026-01-01")["user_id"].to_list() == ["c", "b"]


@given(names, st.integers(1, 7))
def test_nobody_is_in_two_blocks(users: list[str], size: int) -> None:
    blocks = list(whole_lists(blocks_of(users, size)))
    assert pl.concat(blocks).equals(pl.concat(blocks_of(users, 100)))
    met: list[str] = []
    for block in blocks:
        assert not set(met) & set(block["user_id"])
        met += block["user_id"].to_list()


@pytest.mark.parametrize("users", [["b", "a"], ["a", "c", "b", "d"]])
def test_rows_in_another_order_are_refused(users: list[str]) -> None:
    read = RangeReader(lambda *_: blocks_of(users, 2), whole)
    read.begin(UserRange(None, "z"))
    with pytest.raises(LakeError, match="the rows of likes of 2026-01-01 are not in the order of users"):
        read("likes", "2026-01-01")
