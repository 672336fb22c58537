"""Filling days: the files of a day depend on what was received on it, whenever and in whatever order."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline_tests.run_stages import run_stages

FIRST, LAST = date(2026, 2, 1), date(2026, 2, 3)


def lake_of_two_days(root: Path) -> Lake:
    """A lake that received one list on each of two days, with a day without anything between them."""
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    for day, tracks in ((FIRST, "abc"), (LAST, "ab")):
        rows = [{"user_id": user, "track_id": track, "liked_at": None} for user in "uv" for track in tracks]
        likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
        write_batch(lake.raw, day, RawBatch("files", "test", likes=likes))
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of_two_days(tmp_path / "lake")


def _files(lake: Lake) -> dict[str, bytes]:
    paths = [path for name in DAILY_TABLES for path in sorted((lake.root / name).rglob("*.parquet"))]
    return {str(path.relative_to(lake.root)): path.read_bytes() for path in paths}


def test_days_give_the_same_files_in_any_order_and_when_filled_again(lake: Lake) -> None:
    run_stages(lake, "daily_tables", FIRST, LAST)
    at_once = _files(lake)
    for name in DAILY_TABLES:
        for key in lake.partitions(name):
            lake.table_path(name, key).unlink()
    for day in (LAST, FIRST, date(2026, 2, 2), LAST):
        run_stages(lake, "daily_tables", day, day)
    assert _files(lake) == at_once


def test_a_later_batch_makes_its_day_stale_and_is_added(lake: Lake) -> None:
    run_stages(lake, "daily_tables", FIRST, LAST)
    row = {"user_id": "w", "track_id": "z", "liked_at": None}
    late = pl.DataFrame([row], schema=empty_frame("likes").schema)
    write_batch(lake.raw, FIRST, RawBatch("files", "late", likes=late))
    assert lake.stale_days() == [FIRST]
    run_stages(lake, "daily_tables", FIRST, FIRST)
    assert len(lake.read("likes", FIRST.isoformat())) == 7


@pytest.mark.slow
def test_a_hole_in_the_past_that_is_filled_later_and_twice_changes_that_day_alone(lake: Lake) -> None:
    run_stages(lake, "daily_tables", FIRST, LAST)
    before = _files(lake)
    row = {"user_id": "w", "track_id": "z", "liked_at": None}
    hole, missed = date(2026, 2, 2), pl.DataFrame([row], schema=empty_frame("likes").schema)
    write_batch(lake.raw, hole, RawBatch("files", "found again", likes=missed))
    assert lake.stale_days() == [hole]
    for _ in range(2):
        run_stages(lake, "daily_tables", hole, hole)
    after = _files(lake)
    assert {path for path in before if before[path] != after[path]} <= {
        path for path in before if f"dt={hole}" in path
    }
    for name in DAILY_TABLES:
        for key in lake.partitions(name):
            lake.table_path(name, key).unlink()
    run_stages(lake, "daily_tables", FIRST, LAST)  # as if it had been there from the start
    assert _files(lake) == after


def test_a_day_of_a_live_run_is_crawled_once(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("simulator", {"n_users": 20, "n_tracks": 60})
    for _ in range(2):
        run_stages(lake, "daily_tables", FIRST, FIRST, {"crawled_users": {"source": "simulator"}})
    assert len(lake.batches(FIRST)) == 1
    assert Lake.open(lake.root).file.source == "simulator"
    assert len(lake.read("audio_features", FIRST.isoformat())) > 0


def test_an_empty_lake_has_nothing_to_refresh(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    with pytest.raises(LakeError, match="has no filled day yet"):
        run_stages(lake, "refresh", FIRST, FIRST)
