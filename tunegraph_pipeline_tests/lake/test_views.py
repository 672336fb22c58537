"""The SQL views: what is current, the history beside it, and the file that keeps them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import views
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


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the second day Ann no longer likes "Two", and "One" is described again under another name."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("views") / "lake")
    with lake.writing("test"):
        receive(lake, MONDAY, [("ann", "1"), ("ann", "2"), ("ben", "1")], {"1": "Won", "2": "Two"})
        receive(lake, TUESDAY, [("ann", "1")], {"1": "One"})
        lake.refresh_views()
    return lake.root


@pytest.fixture
def lake(two_days: Path, tmp_path: Path) -> Lake:
    """A copy of the lake of two days, to be changed."""
    return Lake.open(shutil.copytree(two_days, tmp_path / "it's a lake"))


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


# --- the file ---

LIKES = "SELECT user_id, track_id FROM tunegraph.current_likes ORDER BY ALL"


def session(lake: Lake, then: str, sql: str = "SELECT 1") -> "subprocess.Popen[str]":
    """Another program with `lake.duckdb` open, after it has run ``sql``; ``then`` is what it does next."""
    program = (
        "import duckdb, os, signal, sys, time\n"
        "database = duckdb.connect(sys.argv[1])\n"
        "database.execute(sys.argv[2])\n"
        f"print('open', flush=True); {then}"
    )
    command = [sys.executable, "-c", program, str(lake.views), sql]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def die_after(lake: Lake, sql: str) -> None:
    session(lake, "os.kill(os.getpid(), signal.SIGKILL)", sql).communicate()
    assert views.log_of(lake.views).exists()


@contextmanager
def held(lake: Lake) -> Iterator[None]:
    process = session(lake, "time.sleep(120)")
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def receive_more(lake: Lake) -> None:
    with lake.writing("test"):
        receive(lake, date(2026, 11, 26), [("zoe", "1"), ("zoe", "2")], {})
        lake.refresh_views()


@pytest.mark.parametrize("name", ["copy", "with blanks", "it's", "odd [a-z] *", "ÄÖ"])
def test_a_copied_lake_shows_its_own_rows(lake: Lake, tmp_path: Path, name: str) -> None:
    copy = Lake(Path(shutil.copytree(lake.root, tmp_path / name)), lake.file)
    receive_more(lake)
    assert query(copy, LIKES) == [("ann", "1"), ("ben", "1")]
    assert len(query(lake, LIKES)) == 4


def test_a_moved_lake_shows_its_rows_from_any_folder(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Lake(lake.root.rename(tmp_path / "moved"), lake.file)
    assert len(query(moved, LIKES)) == 2
    monkeypatch.chdir(moved.root)
    with duckdb.connect("lake.duckdb", read_only=True) as database:
        assert len(database.execute(LIKES).fetchall()) == 2


def test_where_the_folder_cannot_be_known_a_query_says_what_to_set(lake: Lake) -> None:
    def attached() -> duckdb.DuckDBPyConnection:
        database = duckdb.connect()
        database.execute(f"ATTACH '{str(lake.views).replace(chr(39), chr(39) * 2)}' AS lake (READ_ONLY)")
        return database

    likes = LIKES.replace("tunegraph.", "lake.tunegraph.")
    with attached() as database:
        with pytest.raises(duckdb.Error, match="SET VARIABLE tunegraph_lake = 'FOLDER'"):
            database.execute(likes)
        database.execute("SET VARIABLE tunegraph_lake = ?", [str(lake.root)])
        assert len(database.execute(likes).fetchall()) == 2


def test_a_refresh_keeps_what_a_person_made_in_the_file(lake: Lake) -> None:
    with duckdb.connect(str(lake.views)) as database:
        database.execute("CREATE VIEW tunegraph.mine AS SELECT track_id FROM tunegraph.current_likes")
        database.execute("CREATE TABLE notes AS SELECT 'a' AS word")
    receive_more(lake)
    views.update_file(lake.views, lake.root, anew=True)
    assert query(lake, "SELECT count(*) FROM tunegraph.mine") == [(4,)]
    assert query(lake, "FROM notes") == [("a",)]


def test_a_session_that_was_killed_leaves_a_file_that_opens_with_all_it_said(lake: Lake) -> None:
    die_after(lake, "CREATE VIEW tunegraph.mine AS SELECT 1")
    receive_more(lake)
    assert len(query(lake, LIKES)) == 4
    assert query(lake, "FROM tunegraph.mine") == [(1,)]


def test_views_that_are_right_are_not_written_again(lake: Lake) -> None:
    before = lake.views.stat().st_mtime_ns
    assert lake.refresh_views() is None
    assert lake.views.stat().st_mtime_ns == before


def test_a_file_that_is_open_elsewhere_stays_as_it_is(lake: Lake) -> None:
    with held(lake):
        assert "is open in another program" in str(lake.refresh_views())
        with pytest.raises(views.OpenElsewhereError):
            views.check_file(lake.views)
    assert len(query(lake, LIKES)) == 2


def as_an_earlier_version(lake: Lake, folder: Path) -> None:
    """Views as they used to be, which name a folder."""
    lake.views.unlink()
    with duckdb.connect(str(lake.views)) as database:
        database.execute("CREATE SCHEMA tunegraph")
        for name in ("current_likes", "track_ids"):
            file = next((lake.root / name).rglob("data.parquet"))
            named = str(folder / file.relative_to(lake.root)).replace("'", "''")
            database.execute(f"CREATE VIEW tunegraph.{name} AS SELECT * FROM read_parquet('{named}')")
        database.execute("CREATE VIEW main.mine AS SELECT 7")


def test_the_views_of_an_earlier_version_are_noticed_and_made_again(lake: Lake, tmp_path: Path) -> None:
    lake.write("track_ids", None, pl.DataFrame({"track_idx": [0], "track_id": ["1"]}))
    assert views.check_file(lake.views) is None
    as_an_earlier_version(lake, lake.root)
    assert str(views.check_file(lake.views)).startswith(str(lake.root))
    moved = Lake(lake.root.rename(tmp_path / "moved"), lake.file)
    moved.refresh_views()
    assert views.check_file(moved.views) is None
    assert len(query(moved, LIKES)) == 2
    assert query(moved, "FROM mine") == [(7,)]


def test_a_log_that_does_not_fit_the_file_is_set_aside_with_it(lake: Lake) -> None:
    """What earlier versions left, which moved a new file over that of a session that died."""
    lake.write("track_ids", None, pl.DataFrame({"track_idx": [0], "track_id": ["1"]}))
    die_after(lake, "CREATE VIEW mine AS SELECT 1")
    log = views.log_of(lake.views).read_bytes()
    views.log_of(lake.views).unlink()
    as_an_earlier_version(lake, lake.root)
    views.log_of(lake.views).write_bytes(log)
    with pytest.raises(LakeError, match="cannot be opened"):
        views.check_file(lake.views)
    assert "tunegraph verify" in str(lake.refresh_views())
    for _ in range(2):
        views.set_aside(lake.views)
        assert lake.refresh_views() is None
        assert len(query(lake, LIKES)) == 2
    kept = {path.name for path in lake.root.glob("lake.duckdb.*")}
    assert kept == {"lake.duckdb.unreadable", "lake.duckdb.unreadable.wal", "lake.duckdb.unreadable-2"}
