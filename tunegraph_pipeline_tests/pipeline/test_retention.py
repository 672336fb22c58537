"""How long a lake keeps what: raw batches, sources with a time-to-live, cut-offs and versions."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.feedback_spool import append, collect
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, is_pruned, write_batch
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.pipeline.retention import prune_raw, remove_expired
from tunegraph_pipeline.pipeline.stale_versions import finish_expired, has_expired_versions, prune_cut_offs
from tunegraph_pipeline.sources.frontier import Due, Frontier
from tunegraph_pipeline_tests.search import places_with

DAY = date(2026, 3, 1)
TODAY = DAY + timedelta(10)


def batch(source: str, *users: str) -> RawBatch:
    likes: list[dict[str, Any]] = [{"user_id": user, "track_id": "a"} for user in users]
    tracks = [{"track_id": f"by {source}"}]
    return RawBatch(
        source,
        "x",
        likes=pl.DataFrame(likes, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(tracks, schema=empty_frame("tracks").schema),
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two sources on each of three days, the days filled."""
    lake = Lake.open_or_create(tmp_path / "lake")
    for day in range(3):
        write_batch(lake.raw, DAY + timedelta(day), batch("files", "u", f"u{day}"))
        write_batch(lake.raw, DAY + timedelta(day), batch("spotify", "s", f"s{day}"))
        fill_day(lake, DAY + timedelta(day))
    return lake


def tables(lake: Lake) -> dict[tuple[str, str], list[Any]]:
    return {(t, day): lake.read(t, day).rows() for t in DAILY_TABLES for day in lake.partitions(t)}


def keep(lake: Lake, **settings: Any) -> None:
    lake.set_section("retention", settings)


def test_everything_raw_stays_unless_the_settings_say_otherwise(lake: Lake) -> None:
    assert prune_raw(lake, TODAY) == 0
    assert remove_expired(lake, TODAY) == {}
    assert not has_expired_versions(lake)
    assert lake.section("retention", RetentionSettings).versions == 3
    keep(lake, raw_days=0)
    with pytest.raises(LakeError, match="raw_days"):
        prune_raw(lake, TODAY)
    keep(lake, ttl_days={"spotify": -30})  # by which what is received tomorrow would be too old
    with pytest.raises(LakeError, match=r"ttl_days\.spotify"):
        remove_expired(lake, TODAY)


def test_raw_batches_of_old_days_go_and_their_tables_stay(lake: Lake) -> None:
    before = tables(lake)
    keep(lake, raw_days=9)
    assert prune_raw(lake, TODAY) == 2
    assert [is_pruned(lake.raw, day) for day in lake.raw_days()] == [True, False, False]
    assert lake.batches(DAY) == []
    assert lake.stale_days() == []
    # Filling the day again keeps what there is; it does not empty it.
    assert fill_day(lake, DAY)
    assert tables(lake) == before
    assert prune_raw(lake, TODAY) == 0


def test_a_day_whose_tables_are_not_written_keeps_its_raw_batches(lake: Lake) -> None:
    write_batch(lake.raw, DAY, batch("files", "late"))
    keep(lake, raw_days=9)
    assert prune_raw(lake, TODAY) == 0
    fill_day(lake, DAY)
    assert prune_raw(lake, TODAY) == 3


def test_nothing_can_be_added_to_a_pruned_day_and_nothing_is_lost(lake: Lake) -> None:
    keep(lake, raw_days=9)
    prune_raw(lake, TODAY)
    with pytest.raises(LakeError, match="as of a later day"):
        write_batch(lake.raw, DAY, batch("files", "late"))
    append(lake.root, "w", "u", [("a", "like")], at=datetime(2026, 3, 1, 12, tzinfo=UTC))
    (left,) = collect(lake, TODAY).sentences()
    assert "left in" in left
    assert (lake.root / SPOOL / "2026-03-01" / "w.jsonl").exists()


def test_a_pruned_day_without_its_tables_is_not_taken_for_an_empty_one(lake: Lake) -> None:
    keep(lake, raw_days=9)
    prune_raw(lake, TODAY)
    lake.drop_partition("likes", DAY.isoformat())
    with pytest.raises(LakeError, match="does not exist"):
        fill_day(lake, DAY)


def test_pruning_that_was_killed_goes_on(lake: Lake) -> None:
    keep(lake, raw_days=9)
    (lake.raw / f"dt={DAY}" / "pruned.json").write_text("{}")  # as written before the batches went
    assert fill_day(lake, DAY)
    assert prune_raw(lake, TODAY) == 2
    assert [path.name for path in (lake.raw / f"dt={DAY}").iterdir()] == ["pruned.json"]


@pytest.mark.parametrize("pruned", [False, True])
def test_what_a_source_may_not_keep_goes_from_raw_batches_and_tables(lake: Lake, pruned: bool) -> None:
    before = tables(lake)
    if pruned:
        keep(lake, raw_days=1)
        prune_raw(lake, TODAY)
    keep(lake, ttl_days={"spotify": 9})
    assert remove_expired(lake, TODAY) == ({"rows expired": 7} if pruned else {"raw batches expired": 1})
    assert has_expired_versions(lake)
    after = tables(lake)
    for (table, day), rows in before.items():
        gone = [row for row in rows if day == DAY.isoformat() and "spotify" in row]
        assert after[table, day] == [row for row in rows if row not in gone], (table, day)
    assert lake.stale_days() == []
    finish_expired(lake)
    assert remove_expired(lake, TODAY) == {}
    assert not has_expired_versions(lake)


def test_a_process_killed_between_raw_batches_and_tables_goes_on(lake: Lake) -> None:
    keep(lake, ttl_days={"spotify": 9})
    untouched = tables(lake)
    fill = "tunegraph_pipeline.pipeline.retention.fill_day"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fill, _interrupted)
        remove_expired(lake, TODAY)
    assert tables(lake) == untouched
    assert has_expired_versions(lake)
    remove_expired(lake, TODAY)
    assert "s0" not in set(lake.read("likes", DAY.isoformat())["user_id"])


def test_the_frontier_of_a_crawl_keeps_nobody_its_source_has_not_named_for_so_long(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    path = lake.frontier_path("spotify")
    ann, bob, cy, dee = (f"{name}-user-5af1" for name in ("ann", "bob", "cy", "dee"))
    with Frontier(path, DAY) as frontier:
        frontier.add_start_users([ann], "spotify")
        frontier.finish_user(Due(ann, None, 0, 0), "listed", [bob, cy], [], ["old-5af1"], source="spotify")
        frontier.keep_answer(b"r", 200, b"{}")
        frontier.empty_journal(lambda *_: None)
    with Frontier(path, DAY + timedelta(5)) as frontier:
        features: list[Any] = [["reccobeats", "features", [["new-5af1", 1.0]]]]
        frontier.finish_user(Due(bob, ann, 1, 0), "listed", [dee], features, ["new-5af1"], source="spotify")
        frontier.finish_user(Due(cy, ann, 1, 0), "failed", [], [], source="spotify")  # nothing was said
    keep(lake, ttl_days={"reccobeats": 1})
    assert remove_expired(lake, TODAY) == {"entries of crawls expired": 1}
    keep(lake, ttl_days={"spotify": 10})
    assert remove_expired(lake, TODAY) == {}
    keep(lake, ttl_days={"spotify": 9})
    assert remove_expired(lake, TODAY) == {"entries of crawls expired": 3}  # ann, cy, and the old track
    assert remove_expired(lake, TODAY) == {}
    assert (
        places_with(lake.root, ann) == places_with(lake.root, cy) == places_with(lake.root, "old-5af1") == []
    )
    with Frontier(path, TODAY) as frontier:
        (due,) = frontier.next_users(9, order="breadth_first", visited_before=DAY, max_failures=9)
        assert (due.user_id, due.discovered_from) == (dee, bob)
        assert frontier.states() == {"listed": 1, "found": 1}
        # Who is named again is kept, and who is found again is a new one.
        frontier.finish_user(due, "listed", [bob, ann], [], source="spotify")
    keep(lake, ttl_days={"spotify": 1})
    assert remove_expired(lake, TODAY) == {"entries of crawls expired": 2}  # a track, and what was journalled
    with Frontier(path, TODAY) as frontier:
        assert frontier.states() == {"listed": 2, "found": 1}


def test_what_the_frontier_of_an_older_version_holds_counts_as_named_today(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    path = lake.frontier_path("spotify")
    with Frontier(path, DAY) as frontier:
        frontier.finish_user(Due("ann", None, 0, 0), "listed", ["bob"], [], ["t"], source="spotify")
        frontier.empty_journal(lambda *_: None)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for table in ("users", "tracks"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN met")
    keep(lake, ttl_days={"spotify": 9})
    today = datetime.now(UTC).date()
    assert remove_expired(lake, today) == {}
    assert remove_expired(lake, today + timedelta(9)) == {}
    assert remove_expired(lake, today + timedelta(10)) == {"entries of crawls expired": 2}


def _interrupted(*_: object) -> bool:
    raise KeyboardInterrupt


def test_the_last_cut_offs_stay_and_the_current_one(lake: Lake) -> None:
    for day in range(5):
        for table in ("current_likes", "last_observations"):
            lake.write(table, (DAY + timedelta(day)).isoformat(), empty_table(table))
    keep(lake, cut_offs=2)
    assert prune_cut_offs(lake, "2026-03-02") == 4
    for table in ("current_likes", "last_observations"):
        assert lake.partitions(table) == ["2026-03-02", "2026-03-04", "2026-03-05"]


def test_as_many_versions_stay_as_the_settings_say(lake: Lake) -> None:
    keep(lake, versions=2)
    for version in "abcd":
        lake.write_version("co_like", version, lambda folder: (folder / "x").touch(), spare={"a"})
    assert {path.name for path in (lake.root / "co_like").iterdir() if path.is_dir()} == {"a", "c", "d"}
