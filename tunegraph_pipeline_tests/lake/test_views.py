"""The SQL views: what is current, and the history beside it."""

from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.current_likes import update_current_lists

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
MOST_LIKED = """
    SELECT name, count(*) FROM tunegraph.current_likes JOIN tunegraph.tracks USING (track_id)
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5
"""


def receive(lake: Lake, day: date, likes: list[tuple[str, str]], names: dict[str, str | None]) -> None:
    """Receive lists and track names on a day, fill it, and bring the current lists to it."""
    rows = pl.DataFrame(
        {"user_id": [user for user, _ in likes], "track_id": [track for _, track in likes]},
        schema={"user_id": pl.String, "track_id": pl.String},
    )
    tracks = empty_frame("tracks")
    described = pl.DataFrame({"track_id": list(names), "name": list(names.values())})
    batch = RawBatch(
        "files",
        "likes.csv",
        likes=pl.concat([empty_frame("likes"), rows], how="diagonal"),
        tracks=pl.concat([tracks, described], how="diagonal_relaxed").select(tracks.columns),
    )
    write_batch(lake.raw, day, batch)
    fill_day(lake, day)
    update_current_lists(lake, day, merge_recordings=True)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two days: on the second Ann no longer likes "Two", and "One" is described again under another name."""
    lake = Lake.open_or_create(tmp_path / "it's a lake")
    with lake.writing("test"):
        receive(lake, MONDAY, [("ann", "1"), ("ann", "2"), ("ben", "1")], {"1": "Won", "2": "Two"})
        receive(lake, TUESDAY, [("ann", "1")], {"1": "One"})
        lake.refresh_views()
    return lake


def query(lake: Lake, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(lake.root / "lake.duckdb"), read_only=True) as database:
        return database.execute(sql).fetchall()


def test_the_most_liked_songs_are_counted_once_after_two_refreshes(lake: Lake) -> None:
    assert query(lake, MOST_LIKED) == [("One", 2)]


def test_views_show_what_is_current_and_histories_show_every_partition(lake: Lake) -> None:
    assert query(lake, "SELECT user_id, track_id FROM tunegraph.current_likes ORDER BY ALL") == [
        ("ann", "1"),
        ("ben", "1"),
    ]
    cut_offs = "SELECT cut_off, count(*) FROM tunegraph.current_likes_history GROUP BY 1 ORDER BY 1"
    assert query(lake, cut_offs) == [(MONDAY, 3), (TUESDAY, 2)]
    assert query(lake, "SELECT user_id, track_id FROM tunegraph.likes ORDER BY ALL") == [
        ("ann", "1"),
        ("ben", "1"),
    ]
    assert query(lake, "SELECT count(*) FROM tunegraph.likes_history") == [(4,)]
    assert query(lake, "SELECT user_id, dt FROM tunegraph.observations ORDER BY 1") == [
        ("ann", TUESDAY),
        ("ben", MONDAY),
    ]


def test_a_view_follows_the_current_cut_off_without_being_made_again(lake: Lake) -> None:
    lake.set_current("current_likes", MONDAY.isoformat())
    assert query(lake, "SELECT count(*) FROM tunegraph.current_likes") == [(3,)]


def test_a_track_has_the_newest_known_value_of_every_column(lake: Lake) -> None:
    with lake.writing("test"):
        receive(lake, date(2026, 11, 25), [], {"1": None})
        lake.refresh_views()
    assert query(lake, "SELECT track_id, name FROM tunegraph.tracks ORDER BY 1") == [
        ("1", "One"),
        ("2", "Two"),
    ]


def test_views_of_a_new_lake_are_empty_and_typed(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    assert query(lake, "SELECT * FROM tunegraph.current_likes") == []
    assert query(lake, MOST_LIKED) == []
    assert query(
        lake,
        "SELECT sum(rank), max(cut_off) FROM tunegraph.user_recommendations, tunegraph.likes, "
        "tunegraph.current_likes",
    ) == [(None, None)]
