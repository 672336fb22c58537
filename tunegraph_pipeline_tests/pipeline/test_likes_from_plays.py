"""Likes from plays, and the lists they are part of: brought up to date, they are those made at once."""

import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.feedback_spool import append, collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, remove_batch, write_batch, write_files
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.pipeline.current_likes import read_current_lists, update_current_lists
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.user_list import list_in_lake
from tunegraph_pipeline_tests.conftest import examples

pytestmark = pytest.mark.slow

FIRST = date(2026, 2, 1)
Play = tuple[str, str, int | None, int]
"""User, track, day after the first and plays."""


def received(day: int) -> date:
    return FIRST + timedelta(day)


def frame_of(plays: Sequence[Play]) -> pl.DataFrame:
    rows = [(user, track, None if on is None else received(on), times) for user, track, on, times in plays]
    return pl.DataFrame(rows, empty_frame("plays").schema, orient="row")


def import_plays(lake: Lake, day: int, plays: Sequence[Play]) -> None:
    write_batch(lake.raw, received(day), RawBatch("files", "history", plays=frame_of(plays)))


def import_list(lake: Lake, day: int, user: str, tracks: Sequence[str]) -> None:
    likes = pl.DataFrame({"user_id": [user] * len(tracks), "track_id": tracks})
    likes = likes.with_columns(liked_at=pl.lit(None), position=pl.lit(None)).cast(
        pl.Schema(empty_frame("likes").schema)
    )
    seen = pl.DataFrame([(user, None, 0, "listed")], empty_frame("users").schema, orient="row")
    write_batch(lake.raw, received(day), RawBatch("files", "list", users=seen, likes=likes))


def dump(lake: Lake, day: int, plays: Sequence[Play], name: str, *, whole: bool = False) -> None:
    file = lake.root.parent / "plays.parquet"
    frame_of(plays).write_parquet(file)
    write_files(lake.raw, received(day), DUMPS, name, name, {"plays": file}, {}, whole)


def refresh(lake: Lake, cut_off: int | None = None) -> str:
    """Fill the stale days, bring the lists to the cut-off, and say how the likes from plays were made."""
    collect(lake)
    for day in lake.stale_days():
        fill_day(lake, day)
    asked = "" if cut_off is None else received(cut_off).isoformat()
    how = stage("likes_from_plays").run(lake, cut_off=asked).how
    stage("current_likes").run(lake, cut_off=asked)
    return str(how)


def lists_of(lake: Lake) -> dict[str, set[str]]:
    likes = lake.read("current_likes", lake.current_version("current_likes"))
    return {user: {*tracks} for user, tracks in likes.group_by("user_id").agg("track_id").iter_rows()}


def rebuilt(lake: Lake, folder: Path, cut_off: int | None = None) -> Lake:
    other = Lake.open_or_create(folder)
    other.file = lake.file
    other.save()
    shutil.copytree(lake.raw, other.raw)
    Aliases.of(lake.root).write(other.root)
    refresh(other, cut_off)
    return other


def same_lists(lake: Lake, other: Lake) -> None:
    key = lake.current_version("current_likes")
    for table in ("current_likes", "current_dislikes"):
        assert_frame_equal(lake.read(table, key), other.read(table, key))
    if key in lake.partitions("likes_from_plays"):
        assert_frame_equal(lake.read("likes_from_plays", key), other.read("likes_from_plays", key))
    assert lake.inputs_of("current_likes", key) == other.inputs_of("current_likes", key)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


OFTEN: list[Play] = [("u", "played", 0, 2), ("u", "played", 1, 2)]


def test_lists_and_plays_unite_and_a_dislike_overrides_plays(lake: Lake) -> None:
    import_list(lake, 1, "u", ["listed"])
    import_plays(lake, 1, [*OFTEN, ("u", "disliked", 0, 2), ("u", "disliked", 1, 9), ("v", "a", 0, 1)])
    append(lake.root, "w", "u", [("disliked", "dislike")], at=datetime(2026, 2, 2, 9, tzinfo=UTC))
    refresh(lake)
    assert lists_of(lake) == {"u": {"listed", "played"}}
    likes = lake.read("current_likes", received(1).isoformat()).filter(track_id="played")
    assert likes["liked_at"].to_list() == [datetime(2026, 2, 2, tzinfo=UTC)]
    import_list(lake, 2, "u", [])
    import_plays(lake, 2, [("u", "disliked", 2, 9)])
    assert refresh(lake) == "updated"
    assert lists_of(lake) == {"u": {"played"}}


def test_only_users_who_listened_are_judged_again(lake: Lake) -> None:
    import_plays(
        lake, 0, [("idle", "a", -300, 2), ("idle", "a", -299, 2), ("u", "a", -1, 2), ("u", "a", 0, 2)]
    )
    assert refresh(lake) == "rebuilt"
    for day, plays in ((1, [("u", "b", 1, 9)]), (200, [("u", "b", 200, 9)])):
        import_plays(lake, day, plays)
        assert refresh(lake) == "updated"
        result = stage("likes_from_plays").run(lake)
        assert result.how == "reused"
    assert lists_of(lake) == {"idle": {"a"}, "u": {"a", "b"}}
    import_plays(lake, 500, [("u", "c", 500, 9)])
    refresh(lake)
    assert lists_of(lake) == {"idle": {"a"}}


def test_plays_dated_after_a_cut_off_count_once_it_comes(lake: Lake, tmp_path: Path) -> None:
    import_plays(lake, 0, [("u", "a", 0, 2), ("u", "a", 3, 2), ("v", "b", 0, 2), ("v", "b", -1, 2)])
    refresh(lake)
    assert lists_of(lake) == {"v": {"b"}}
    import_list(lake, 4, "w", ["c"])
    assert refresh(lake) == "updated"
    assert lists_of(lake) == {"u": {"a"}, "v": {"b"}, "w": {"c"}}
    same_lists(lake, rebuilt(lake, tmp_path / "twin"))
    refresh(lake, cut_off=0)
    assert lists_of(lake) == {"v": {"b"}}


def test_a_full_export_drops_listens_that_were_deleted(lake: Lake, tmp_path: Path) -> None:
    dump(lake, 1, [("d1", "a", 0, 2), ("d1", "a", 1, 2), ("d2", "a", 0, 4)], "d1", whole=True)
    refresh(lake)
    assert lists_of(lake) == {"d1": {"a"}}
    dump(lake, 2, [("d2", "a", 2, 1)], "d2")
    assert refresh(lake) == "updated"
    assert lists_of(lake) == {"d1": {"a"}, "d2": {"a"}}
    dump(lake, 3, [("d2", "a", 0, 4), ("d2", "a", 2, 1)], "d3", whole=True)
    assert refresh(lake) == "rebuilt"
    assert lists_of(lake) == {"d2": {"a"}}
    same_lists(lake, rebuilt(lake, tmp_path / "twin"))


def test_another_rule_judges_everybody_again(lake: Lake) -> None:
    import_plays(lake, 1, [("u", "a", 0, 1), ("u", "a", 1, 1)])
    refresh(lake)
    assert lists_of(lake) == {}
    lake.set_section("plays", {"min_plays": 2})
    assert refresh(lake) == "rebuilt"
    assert lists_of(lake) == {"u": {"a"}}
    lake.set_section("plays", {"min_plays": 2, "memory_gb": 1})
    assert refresh(lake) == "reused"


def test_lists_from_before_there_were_plays_are_updated(lake: Lake) -> None:
    import_list(lake, 0, "u", ["a"])
    import_list(lake, 0, "v", ["a"])
    refresh(lake)
    assert lake.partitions("likes_from_plays") == []
    import_plays(lake, 1, [("u", "b", 0, 2), ("u", "b", 1, 2)])
    refresh(lake)
    update = update_current_lists(lake, received(1), merge_recordings=True)
    assert (update.how, lists_of(lake)) == ("reused", {"u": {"a", "b"}, "v": {"a"}})
    changed = lake.read("changed_users", received(1).isoformat())["user_id"].to_list()
    assert changed == ["u"]


def test_a_user_who_was_not_refreshed_yet_is_served_by_their_plays(lake: Lake) -> None:
    import_plays(lake, 1, [*OFTEN, ("v", "x", 0, 9)])
    assert [song.track_id for song in list_in_lake(lake, "u").likes] == ["played"]
    with pytest.raises(InputError, match="'v' played no song often enough"):
        list_in_lake(lake, "v")
    with pytest.raises(InputError, match="'w' is not in"):
        list_in_lake(lake, "w")
    assert read_current_lists(lake, received(1)).likes.is_empty()  # nothing is filled yet
    refresh(lake)
    assert [song.track_id for song in list_in_lake(lake, "u").likes] == ["played"]
    lists = read_current_lists(lake, received(1))
    assert_frame_equal(lists.likes, lake.read("current_likes", received(1).isoformat()))


@pytest.mark.parametrize("seed", range(examples(24)))
def test_whatever_is_received_the_likes_are_those_made_at_once(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("plays", {"window_days": 6, "most_likes": 3, "most_plays_a_day": 12})
    last = None
    for step in range(6):
        day = int(rng.integers(0, 6))
        plays = {
            (
                f"u{rng.integers(5)}",
                f"t{rng.integers(4)}",
                int(on) if (on := rng.integers(-4, 8)) < 7 else None,
            )
            for _ in range(rng.integers(0, 14))
        }
        rows: list[Play] = [(*key, int(rng.integers(1, 5))) for key in sorted(plays, key=str)]
        kind = rng.random()
        if kind < 0.5:
            import_plays(lake, day, rows)
        elif kind < 0.9:
            dump(lake, day, [(f"d{user}", *rest) for user, *rest in rows], f"d{step}", whole=kind > 0.75)  # type: ignore[misc]
        elif lake.raw_days() and (batches := lake.batches(lake.raw_days()[0])):
            remove_batch(batches[0])
        if rng.random() < 0.3:
            import_list(lake, day, f"u{rng.integers(5)}", [f"t{rng.integers(4)}"])
        if rng.random() < 0.2:
            at = datetime(2026, 2, 1 + int(rng.integers(6)), 9, tzinfo=UTC)
            append(lake.root, "w", f"u{rng.integers(5)}", [(f"t{rng.integers(4)}", "dislike")], at=at)
        if rng.random() < 0.2:
            Aliases({f"u{rng.integers(1, 5)}": "u0"}).write(lake.root)
        if not lake.raw_days():
            continue
        last = int(rng.integers(0, 6)) if rng.random() < 0.3 else 6
        refresh(lake, last)
    if last is not None:
        same_lists(lake, rebuilt(lake, tmp_path / "twin", last))
