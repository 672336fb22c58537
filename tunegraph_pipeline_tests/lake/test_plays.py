"""The table of plays of a day, and the rule by which plays make likes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.daily import Preview, fill_day, filter_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import (
    DayOfPlays,
    PlaysSettings,
    bounded_duckdb,
    liked_by_playing,
    rows_of_file,
)
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, prune_day, write_batch, write_files
from tunegraph_pipeline.lake.schemas import DUMPS, RAW_SCHEMAS
from tunegraph_pipeline.lake.tables import empty_table

DAY = date(2026, 9, 6)
Row = tuple[str, str, int | None, int]
"""User, track, day of September 2026 and plays."""


def plays_of(rows: Sequence[Row]) -> pl.DataFrame:
    dated = [
        (user, track, None if day is None else date(2026, 9, 1) + timedelta(day - 1), plays)
        for user, track, day, plays in rows
    ]
    return pl.DataFrame(dated, empty_frame("plays").schema, orient="row")


def import_plays(lake: Lake, rows: Sequence[Row], day: date = DAY, origin: str = "history.csv") -> None:
    write_batch(lake.raw, day, RawBatch("files", origin, plays=plays_of(rows)))


def dump(lake: Lake, rows: Sequence[Row], day: date = DAY, *, whole: bool = False, name: str = "d1") -> None:
    file = lake.root.parent / "plays.parquet"
    plays_of(rows).write_parquet(file)
    write_files(lake.raw, day, DUMPS, name, name, {"plays": file}, {}, whole)


def table_of(lake: Lake, day: date = DAY) -> list[tuple[Any, ...]]:
    columns = ["user_id", "track_id", pl.col("played_on").dt.day(), "plays", "source", "is_whole"]
    return lake.read("plays", day.isoformat()).select(columns).rows()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


# --- the table of a day ---


def test_of_files_the_largest_number_counts_and_dumps_add_up(lake: Lake) -> None:
    import_plays(lake, [("u", "a", 1, 2), ("u", "b", None, 9)])
    import_plays(lake, [("u", "a", 1, 3), ("u", "b", None, 4)])
    dump(lake, [("v", "a", 1, 2)], name="d1")
    dump(lake, [("v", "a", 1, 5)], name="d2")
    dump(lake, [("v", "a", 1, 100)], name="d3", whole=True)
    assert not fill_day(lake, DAY)
    assert table_of(lake) == [
        ("u", "a", 1, 3, "files", False),
        ("u", "b", None, 9, "files", False),
        ("v", "a", 1, 7, DUMPS, False),
        ("v", "a", 1, 100, DUMPS, True),
    ]
    assert lake.plays_of(DAY.isoformat()).whole == {DUMPS}


def test_a_day_filled_again_is_the_same_file_and_is_not_filled_twice(lake: Lake) -> None:
    rows: list[Row] = [(f"u{n % 7}", f"t{n % 11}", 1 + n % 5, 1 + n) for n in range(0, 300, 7)]
    import_plays(lake, sorted({row[:3]: row for row in rows}.values()))
    import_plays(lake, [("u", "a", 1, 2)])
    fill_day(lake, DAY)
    path = lake.table_path("plays", DAY.isoformat())
    first = path.read_bytes()
    assert fill_day(lake, DAY)
    lake.drop_partition("plays", DAY.isoformat())
    assert not fill_day(lake, DAY)
    assert path.read_bytes() == first


def test_a_day_without_plays_has_no_table_of_them_and_is_not_stale(lake: Lake) -> None:
    likes = pl.DataFrame([("u", "a", None, None)], empty_frame("likes").schema, orient="row")
    write_batch(lake.raw, DAY, RawBatch("files", "likes.csv", likes=likes))
    fill_day(lake, DAY)
    assert lake.partitions("plays") == []
    assert lake.stale_days() == []


def test_plays_change_neither_lists_nor_feedback_of_their_day(lake: Lake) -> None:
    likes = pl.DataFrame([("u", "a", None, None)], empty_frame("likes").schema, orient="row")
    write_batch(lake.raw, DAY, RawBatch("files", "likes.csv", likes=likes))
    fill_day(lake, DAY)
    import_plays(lake, [("u", "b", 1, 2)])
    dump(lake, [("v", "b", 1, 2)])
    assert lake.stale_tables(DAY, ["users", "likes", "observations", "feedback", "plays"], Aliases()) == [
        "users",
        "plays",
    ]
    fill_day(lake, DAY)
    met = lake.read("users", DAY.isoformat()).select("user_id", "source", "state").rows()
    assert met == [("u", "files", "listed"), ("v", DUMPS, "found")]


def test_the_plays_of_an_alias_are_the_users(lake: Lake) -> None:
    import_plays(lake, [("old", "a", 1, 2), ("u", "a", 1, 5), ("old", "b", 2, 1)])
    fill_day(lake, DAY)
    Aliases({"old": "u"}).write(lake.root)
    assert lake.stale_days() == [DAY]
    preview = Preview(lake, DAY)
    assert preview.read("plays", DAY.isoformat()).sort("track_id").select("user_id", "plays").rows() == [
        ("u", 5),
        ("u", 1),
    ]
    fill_day(lake, DAY)
    assert table_of(lake) == [("u", "a", 1, 5, "files", False), ("u", "b", 2, 1, "files", False)]
    assert preview.inputs_of("plays", DAY.isoformat()) == lake.inputs_of("plays", DAY.isoformat())


def test_plays_of_a_pruned_day_are_renamed_and_filtered(lake: Lake) -> None:
    import_plays(lake, [("old", "a", 1, 2), ("u", "a", 1, 5), ("gone", "b", 2, 1)])
    dump(lake, [("v", "b", 1, 2)], whole=True)
    fill_day(lake, DAY)
    prune_day(lake.raw, DAY)
    Aliases({"old": "u"}).write(lake.root)
    assert not fill_day(lake, DAY)
    assert fill_day(lake, DAY)
    before = lake.inputs_of("plays", DAY.isoformat())

    def without(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("user_id") != "gone") if "user_id" in rows.columns else rows

    assert filter_day(lake, DAY, without) == 2  # a user met, and plays
    assert lake.inputs_of("plays", DAY.isoformat()) != before
    assert table_of(lake) == [("u", "a", 1, 5, "files", False), ("v", "b", 1, 2, DUMPS, True)]
    assert lake.plays_of(DAY.isoformat()).whole == {DUMPS}
    assert filter_day(lake, DAY, lambda rows: rows) == 0


def test_a_damaged_batch_is_one_line(lake: Lake) -> None:
    dump(lake, [("v", "b", 1, 2)])
    (info,) = lake.batches(DAY)
    path = info.path("plays")
    path.write_bytes(path.read_bytes()[:-9] + b"012345678")
    with pytest.raises(LakeError, match=r"plays.parquet cannot be read .* remove"):
        fill_day(lake, DAY)


def test_the_declared_columns_are_those_that_are_written(lake: Lake) -> None:
    import_plays(lake, [("u", "a", 1, 2)])
    fill_day(lake, DAY)
    assert lake.read("plays", DAY.isoformat()).schema == empty_table("plays").schema
    assert RAW_SCHEMAS["plays"].names == empty_table("plays").columns[:4]


# --- the rule ---


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Any]:
    with bounded_duckdb(tmp_path, 1) as opened:
        yield opened


class Judge:
    """Judges plays received on days of September, from files unless ``source`` says otherwise."""

    def __init__(self, connection: Any, folder: Path) -> None:
        self._connection, self._folder = connection, folder

    def liked(
        self,
        received: Mapping[int, Sequence[Row]],
        *,
        source: str = "files",
        whole: Sequence[int] = (),
        cut_off: int = 30,
        users: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[tuple[str, str], tuple[int | None, int, int]]:
        """By user and track: the day in September on which the rule held first, plays and days."""
        days = {}
        for day, rows in received.items():
            file = self._folder / f"{day}.parquet"
            labels = {"source": pl.lit(source), "is_whole": pl.lit(day in whole)}
            plays_of(rows).with_columns(**labels).write_parquet(file)
            days[f"2026-09-{day:02d}"] = DayOfPlays(
                rows_of_file(file), frozenset({source} if day in whole else ())
            )
        chosen = None if users is None else pl.Series("user_id", users, dtype=pl.String)
        end = date(2026, 9, cut_off)
        found = liked_by_playing(self._connection, days, end, PlaysSettings(**settings), chosen)
        self.facts = found.facts
        assert found.likes.schema == empty_table("likes_from_plays").schema
        return {
            (user, track): (None if at is None else at.day, plays, n_days)
            for user, track, at, plays, n_days in found.likes.iter_rows()
        }


@pytest.fixture
def judge(connection: Any, tmp_path: Path) -> Judge:
    return Judge(connection, tmp_path)


def test_three_plays_on_two_days_make_a_like_from_the_day_on_which_that_held(judge: Judge) -> None:
    rows: list[Row] = [
        ("u", "liked", 1, 1),
        ("u", "liked", 3, 2),
        ("u", "liked", 4, 1),
        ("u", "one day", 1, 9),
        ("u", "two plays", 1, 1),
        ("u", "two plays", 2, 1),
        ("u", "total", None, 3),
        ("u", "less", None, 2),
    ]
    assert judge.liked({6: rows}) == {("u", "liked"): (3, 4, 2 + 1), ("u", "total"): (None, 3, 0)}
    assert judge.liked({6: rows}, min_days=1)["u", "one day"] == (1, 9, 1)
    assert judge.facts["users with plays"] == 1


def test_the_window_ends_with_the_users_own_last_play(judge: Judge) -> None:
    rows: list[Row] = [
        ("idle", "a", 1, 2),
        ("idle", "a", 2, 2),
        ("active", "a", 1, 2),
        ("active", "a", 2, 2),
        ("active", "b", 12, 1),
    ]
    assert judge.liked({12: rows}, window_days=10) == {("idle", "a"): (2, 4, 2)}
    assert set(judge.liked({12: rows}, window_days=12)) == {("idle", "a"), ("active", "a")}


def test_plays_after_the_cut_off_do_not_count(judge: Judge) -> None:
    rows: list[Row] = [("u", "a", 1, 2), ("u", "a", 2, 2), ("u", "a", 9, 5)]
    assert judge.liked({1: rows}, cut_off=2) == {("u", "a"): (2, 4, 2)}
    assert judge.liked({1: rows}, cut_off=1) == {}


def test_an_export_imported_again_does_not_double_and_dumps_add_up(judge: Judge) -> None:
    again: dict[int, list[Row]] = {5: [("u", "a", 1, 1), ("u", "a", 2, 1)], 6: [("u", "a", 1, 1)]}
    assert judge.liked(again) == {}
    assert judge.liked(again, source=DUMPS) == {("u", "a"): (2, 3, 2)}


def test_a_whole_export_replaces_what_its_source_said_before(judge: Judge) -> None:
    received: dict[int, list[Row]] = {
        5: [("u", "deleted", 1, 9), ("u", "deleted", 2, 9)],
        6: [("u", "a", 1, 1), ("u", "a", 2, 1)],
        7: [("u", "a", 3, 1)],
    }
    assert judge.liked(received, source=DUMPS, whole=[6]) == {("u", "a"): (3, 3, 3)}
    assert set(judge.liked(received, source=DUMPS)) == {("u", "a"), ("u", "deleted")}


def test_a_user_with_a_day_of_too_many_plays_likes_nothing_and_is_counted(judge: Judge) -> None:
    rows: list[Row] = [
        *[("bot", f"t{n}", day, 6) for n in range(10) for day in (1, 2)],
        ("u", "t1", 1, 30),
        ("u", "t1", 2, 30),
    ]
    assert set(judge.liked({6: rows}, most_plays_a_day=59)) == {("u", "t1")}
    assert judge.facts["bots and shared accounts"] == 1
    assert judge.facts["plays of bots and shared accounts"] == 120
    assert len(judge.liked({6: rows}, most_plays_a_day=60)) == 11


def test_the_most_played_songs_are_liked_up_to_the_cap_then_the_latest_then_by_id(judge: Judge) -> None:
    rows: list[Row] = [
        ("u", track, day, plays)
        for track, last, plays in (("d", 9, 5), ("c", 8, 2), ("b", 9, 2), ("a", 9, 2))
        for day in (1, last)
    ]
    for most, liked in ((1, {"d"}), (3, {"d", "a", "b"}), (9, {"a", "b", "c", "d"})):
        assert {track for _, track in judge.liked({9: rows}, most_likes=most)} == liked


def test_a_share_of_the_users_plays_may_decide_instead(judge: Judge) -> None:
    rows: list[Row] = [
        *[("u", "often", day, 8) for day in (1, 2)],
        *[("u", "seldom", day, 2) for day in (1, 2)],
        ("u", "total", None, 1),
    ]
    assert set(judge.liked({6: rows}, share=0.25)) == {("u", "often"), ("u", "total")}
    assert len(judge.liked({6: rows}, share=0.2)) == 3


def test_chosen_users_are_judged_as_among_all(judge: Judge) -> None:
    rows: list[Row] = [(user, "a", day, 2) for user in "uvw" for day in (1, 2)]
    everybody = judge.liked({6: rows})
    assert judge.liked({6: rows}, users=["v", "nobody"]) == {("v", "a"): everybody["v", "a"]}
    assert judge.liked({6: rows}, users=[]) == {}
    assert judge.liked({}) == {}


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="memory_gb"), bounded_duckdb(tmp_path, 0.001) as opened:
        opened.execute("SELECT list(i ORDER BY i) FROM range(10000000) t(i)").fetchall()


def test_liked_at_is_the_start_of_a_day_in_utc(connection: Any, tmp_path: Path) -> None:
    rows = plays_of([("u", "a", 1, 2), ("u", "a", 2, 2)])
    rows.with_columns(source=pl.lit("files"), is_whole=pl.lit(value=False)).write_parquet(tmp_path / "p")
    days = {"2026-09-06": DayOfPlays(rows_of_file(tmp_path / "p"))}
    found = liked_by_playing(connection, days, DAY, PlaysSettings())
    assert found.likes["liked_at"].to_list() == [datetime(2026, 9, 2, tzinfo=UTC)]
