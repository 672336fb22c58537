"""Aliases: which ids are one person, and what that does to the tables of a day."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.aliases import ALIASES, Aliases
from tunegraph_pipeline.lake.daily import Preview, fill_day
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, prune_day, write_batch

DAY = date(2026, 3, 1)
CHAIN = Aliases({"old": "mid", "mid": "new"})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def receive(lake: Lake, day: date, lists: Mapping[str, Iterable[str]], *, source: str = "files") -> None:
    likes = [{"user_id": user, "track_id": track} for user, tracks in lists.items() for track in tracks]
    frame = pl.DataFrame(likes, schema=empty_frame("likes").schema)
    write_batch(lake.raw, day, RawBatch(source, "test", likes=frame))


def say(lake: Lake, day: date, user_id: str, track_id: str, action: str) -> None:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    row = {"user_id": user_id, "track_id": track_id, "action": action, "at": at, "shown": []}
    frame = pl.DataFrame([{**row, "bundle_version": ""}], schema=empty_frame("feedback").schema)
    write_batch(lake.raw, day, RawBatch("feedback", "test", feedback=frame))


def tables(lake: Lake) -> dict[tuple[str, str], list[Any]]:
    return {
        (table, day): lake.read(table, day).rows() for table in DAILY_TABLES for day in lake.partitions(table)
    }


def test_a_chain_ends_at_the_user() -> None:
    assert CHAIN.user_id("old") == CHAIN.user_id("mid") == CHAIN.user_id("new") == "new"
    assert CHAIN.user_id("somebody else") == "somebody else"
    assert CHAIN.all_ids(["mid", "ana"]) == {"old", "mid", "new", "ana"}
    assert CHAIN.joined("old", "mid") is CHAIN
    assert CHAIN.joined("older", "old").user_id("older") == "new"


@pytest.mark.parametrize(
    ("alias", "user_id", "why"),
    [
        ("ana", "ana", "itself"),
        ("new", "old", "already counts as"),
        ("old", "ana", "is an alias of 'mid' already; add --unalias old"),
    ],
)
def test_what_cannot_be_joined(alias: str, user_id: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        CHAIN.joined(alias, user_id)


def test_without_an_id_no_link_names_it() -> None:
    assert CHAIN.without({"new"}).links == {"old": "mid"}
    assert CHAIN.without({"mid"}).links == {}
    assert CHAIN.without({"ana"}) is CHAIN


def test_the_file_is_private_and_a_damaged_one_is_reported(tmp_path: Path) -> None:
    assert Aliases.of(tmp_path) == Aliases()
    CHAIN.write(tmp_path)
    assert Aliases.of(tmp_path) == CHAIN
    assert (tmp_path / ALIASES).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"a": 1}', '{"a": "b", "b": "a"}', '{"a": " "}'])
def test_a_damaged_file_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / ALIASES).write_text(content)
    with pytest.raises(LakeError, match=r"aliases\.json .*; restore it from a backup"):
        Aliases.of(tmp_path)


def test_who_led_to_an_alias_and_who_an_alias_led_to() -> None:
    rows = pl.DataFrame({"user_id": ["new", "ana", "ben"], "discovered_from": ["old", "old", None]})
    assert CHAIN.renamed(rows).rows() == [("new", None), ("ana", "new"), ("ben", None)]


def test_lists_of_one_day_are_merged_and_raw_batches_stay(lake: Lake) -> None:
    receive(lake, DAY, {"old": "ab", "new": "bc", "ana": "a"})
    say(lake, DAY, "old", "d", "dislike")
    before = {path: path.read_bytes() for path in lake.raw.rglob("*.*")}
    fill_day(lake, DAY)
    plain = tables(lake)
    CHAIN.write(lake.root)

    assert lake.stale_days() == [DAY]
    assert not fill_day(lake, DAY)
    key = DAY.isoformat()
    assert lake.read("likes", key).select("user_id", "track_id").rows() == [
        ("ana", "a"),
        ("new", "a"),
        ("new", "b"),
        ("new", "c"),
    ]
    assert lake.read("observations", key).select("user_id", "n_likes").rows() == [("ana", 1), ("new", 3)]
    assert lake.read("users", key).select("user_id", "source").rows() == [
        ("ana", "files"),
        ("new", "feedback"),
        ("new", "files"),
    ]
    assert lake.read("feedback", key)["user_id"].to_list() == ["new"]
    assert {path: path.read_bytes() for path in lake.raw.rglob("*.*")} == before

    Aliases().write(lake.root)
    assert lake.stale_days() == [DAY]
    fill_day(lake, DAY)
    assert tables(lake) == plain


def test_only_days_and_tables_that_name_an_alias_are_stale(lake: Lake) -> None:
    receive(lake, DAY, {"old": "ab"})
    receive(lake, DAY + timedelta(1), {"new": "ab"})
    say(lake, DAY + timedelta(2), "mid", "a", "like")
    for day in lake.stale_days():
        fill_day(lake, day)
    CHAIN.write(lake.root)
    assert lake.stale_days() == [DAY, DAY + timedelta(2)]
    assert lake.stale_tables(DAY, DAILY_TABLES, CHAIN) == ["users", "observations", "likes"]
    assert lake.stale_tables(DAY + timedelta(2), DAILY_TABLES, CHAIN) == ["users", "feedback"]
    for day in lake.stale_days():
        fill_day(lake, day)
    longer = CHAIN.joined("new", "newest")
    assert lake.stale_tables(DAY, ["likes"], longer) == ["likes"]  # another id stands for the user now


def test_a_day_without_raw_batches_is_renamed_in_its_tables(lake: Lake) -> None:
    receive(lake, DAY, {"old": "ab", "new": "bc", "ana": "a"})
    say(lake, DAY, "old", "d", "dislike")
    CHAIN.write(lake.root)
    fill_day(lake, DAY)
    expected = tables(lake)
    (lake.root / ALIASES).unlink()
    fill_day(lake, DAY)
    prune_day(lake.raw, DAY)
    CHAIN.write(lake.root)

    assert lake.stale_days() == [DAY]
    assert tables(Preview(lake, DAY)) == expected
    assert not fill_day(lake, DAY, ["likes"])  # as where a run is killed after the first table
    assert lake.stale_days() == [DAY]
    fill_day(lake, DAY)
    assert tables(lake) == expected
    assert lake.stale_days() == []


def test_a_preview_is_what_a_refresh_fills_and_writes_nothing(lake: Lake) -> None:
    for day in range(3):
        receive(lake, DAY + timedelta(day), {"old": "abc"[day:], "ana": "a"})
    fill_day(lake, DAY)
    CHAIN.write(lake.root)
    before = tables(lake)
    preview = Preview(lake, DAY + timedelta(1))
    coming = tables(preview)
    made_of = {(table, day): preview.inputs_of(table, day) for table, day in coming}
    lengths = {(table, day): preview.row_count(table, day) for table, day in coming}
    assert tables(lake) == before
    fill_day(lake, DAY)
    fill_day(lake, DAY + timedelta(1))
    assert tables(lake) == coming
    assert made_of == {(table, day): lake.inputs_of(table, day) for table, day in coming}
    assert lengths == {place: len(rows) for place, rows in coming.items()}


def test_the_fingerprint_tells_no_id(lake: Lake) -> None:
    receive(lake, DAY, {"old": "ab"})
    CHAIN.write(lake.root)
    fill_day(lake, DAY)
    made_of = json.dumps([lake.inputs_of(table, DAY.isoformat()) for table in DAILY_TABLES])
    assert not any(user_id in made_of for user_id in ("old", "mid", "new"))
