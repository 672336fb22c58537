"""Which days a refresh fills and asks for: by hand, and by the schedule that catches up."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.day_fingerprints import day_fingerprint
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.pipeline.fill_days import DaysToFill, days_to_catch_up, days_to_fill

TODAY = date(2026, 3, 10)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def _receive(lake: Lake, day: date, user: str = "u") -> None:
    likes = pl.DataFrame(
        [{"user_id": user, "track_id": "t", "liked_at": None}], schema=empty_frame("likes").schema
    )
    write_batch(lake.raw, day, RawBatch("files", "test", likes=likes))


def _fill(lake: Lake, day: date) -> None:
    """Mark a day as filled from what was received on it."""
    for table in DAILY_TABLES:
        batches = lake.batches(day)
        lake.write(table, day.isoformat(), empty_table(table), day_fingerprint(batches, table))


def _of(lake: Lake, source: str) -> Lake:
    lake.admit_source(source, mix=True)
    return lake


def test_a_schedule_asks_a_live_source_for_today_alone_and_fills_what_was_missed(lake: Lake) -> None:
    _of(lake, "listenbrainz")
    _receive(lake, date(2026, 3, 1))
    _fill(lake, date(2026, 3, 1))
    found = days_to_catch_up(lake, today=TODAY)
    assert found == DaysToFill(date(2026, 3, 2), TODAY, (TODAY, TODAY))


def test_a_schedule_asks_the_simulated_world_for_every_missed_day(lake: Lake) -> None:
    _of(lake, "simulator")
    _fill(lake, date(2026, 3, 7))
    assert days_to_catch_up(lake, today=TODAY).asked == (date(2026, 3, 8), TODAY)
    _fill(lake, date(2026, 4, 20))  # by a clock that was ahead
    assert days_to_catch_up(lake, today=TODAY).asked == (date(2026, 3, 8), TODAY)


def test_a_schedule_begins_with_the_first_stale_day_and_the_first_feedback(lake: Lake) -> None:
    _of(lake, "listenbrainz")
    _fill(lake, date(2026, 3, 9))
    _receive(lake, date(2026, 2, 3))
    assert days_to_catch_up(lake, today=TODAY).first == date(2026, 2, 3)
    spool = lake.root / SPOOL / "2026-01-20"
    spool.mkdir(parents=True)
    (spool / "worker.jsonl").write_text("{}\n")
    found = days_to_catch_up(lake, today=TODAY)
    assert found == DaysToFill(date(2026, 1, 20), TODAY, (TODAY, TODAY))


def test_a_lake_of_imports_is_brought_to_today_and_asks_nobody(lake: Lake) -> None:
    with pytest.raises(InputError, match="received nothing yet"):
        days_to_catch_up(lake, today=TODAY)
    _of(lake, "files")
    _receive(lake, date(2026, 3, 5))
    assert days_to_catch_up(lake, today=TODAY) == DaysToFill(date(2026, 3, 5), TODAY)


def test_what_a_clock_that_was_set_back_left_in_the_future_waits_for_its_day(lake: Lake) -> None:
    tomorrow = TODAY + timedelta(days=1)
    _of(lake, "listenbrainz")
    _receive(lake, tomorrow)
    _fill(lake, tomorrow)
    _receive(lake, tomorrow, "late")
    assert days_to_catch_up(lake, today=TODAY) == DaysToFill(TODAY, TODAY, (TODAY, TODAY))
    assert days_to_fill(lake, "listenbrainz", today=TODAY).last == TODAY
    with pytest.raises(InputError, match=r"data on 2026-03-11, and today is 2026-03-10: check the clock"):
        days_to_fill(lake, "none", today=TODAY)


def test_by_hand_the_days_are_those_asked_for_with_the_stale_ones_around(lake: Lake) -> None:
    _receive(lake, date(2026, 2, 1))
    found = days_to_fill(lake, "simulator", date(2026, 3, 1), date(2026, 3, 2), today=TODAY)
    assert found == DaysToFill(date(2026, 2, 1), date(2026, 3, 2), (date(2026, 3, 1), date(2026, 3, 2)))
    open_end = DaysToFill(date(2026, 2, 1), TODAY, (date(2026, 3, 1), TODAY))
    assert days_to_fill(lake, "simulator", date(2026, 3, 1), today=TODAY) == open_end
    assert days_to_fill(lake, "none", date(2026, 3, 1), today=TODAY) == open_end
    with pytest.raises(InputError, match="--to 2026-03-01 needs a beginning"):
        days_to_fill(lake, "simulator", None, date(2026, 3, 1), today=TODAY)
    assert days_to_fill(lake, "none", today=TODAY) == DaysToFill(date(2026, 2, 1), date(2026, 2, 1))
    with pytest.raises(InputError, match="outside the days"):
        days_to_fill(lake, "simulator", TODAY + timedelta(days=1), today=TODAY)


def test_lists_of_long_ago_do_not_fill_every_day_since(lake: Lake) -> None:
    assert lake.first_day(TODAY) == TODAY
    _receive(lake, date(2012, 5, 1))
    _receive(lake, date(2025, 3, 1))
    _receive(lake, date(2025, 3, 5))
    assert lake.first_day(TODAY) == date(2012, 5, 1)
    days = days_to_fill(lake, "listenbrainz", today=TODAY)
    assert days == DaysToFill(date(2012, 5, 1), TODAY, (TODAY, TODAY))
    long_ago, last_year, today = days.stretches(lake)
    assert (long_ago.first, long_ago.last) == (date(2012, 5, 1), date(2012, 5, 1))
    assert (last_year.first, last_year.last) == (date(2025, 3, 1), date(2025, 3, 5))
    assert today == DaysToFill(TODAY, TODAY, (TODAY, TODAY))
    assert all(first > last for first, last in (one.asked for one in (long_ago, last_year) if one.asked))


def test_a_day_before_the_lake_cannot_be_invented(lake: Lake) -> None:
    _receive(lake, date(2026, 2, 1))
    with pytest.raises(InputError, match=r"2020-01-01 is outside the days .*2026-02-01 to 2026-03-10"):
        days_to_fill(lake, "none", date(2020, 1, 1), date(2020, 1, 1), today=TODAY)


def test_a_day_that_was_missed_is_in_no_gap(lake: Lake) -> None:
    _of(lake, "listenbrainz")
    _receive(lake, date(2026, 2, 1))
    _fill(lake, date(2026, 2, 1))
    days = days_to_catch_up(lake, today=TODAY)
    assert days.stretches(lake) == [days]
    _receive(lake, date(2026, 1, 5))
    again = days_to_catch_up(lake, today=TODAY)
    assert again.stretches(lake)[1:] == [days]


DAYS = st.integers(0, 300).map(lambda days: date(2026, 1, 1) + timedelta(days=days))


@given(
    st.lists(DAYS, min_size=4, max_size=4).map(sorted), st.integers(1, 60) | st.just(10**12), st.booleans()
)
def test_steps_cover_every_day_once_and_ask_for_the_same_days(
    bounds: list[date], step: int, asks: bool
) -> None:
    first, asked_first, asked_last, last = bounds
    days = DaysToFill(first, last, (asked_first, asked_last) if asks else None)
    steps = days.steps(step)
    filled = [day for one in steps for day in _span(one.first, one.last)]
    assert filled == _span(first, last)
    assert all(len(_span(one.first, one.last)) <= step for one in steps)
    asked = [day for one in steps if one.asked for day in _span(*one.asked)]
    assert asked == (_span(asked_first, asked_last) if asks else [])


def _span(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
