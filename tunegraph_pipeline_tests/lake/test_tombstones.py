"""Tombstones: who was forgotten is recognised wherever ids enter, and the file names nobody."""

import stat
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.feedback_spool import append, collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import LEFT_OUT, RawBatch, empty_frame, read_batches, write_batch
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline.lake.tombstones import TOMBSTONES, Tombstones
from tunegraph_pipeline.sources.frontier import LEFT_ALONE, Due, Frontier

DAY = date(2026, 3, 1)
GONE = "forget-me-0b5c"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake that has forgotten GONE."""
    lake = Lake.open_or_create(tmp_path / "lake")
    Tombstones().with_users([GONE]).write(lake.root)
    return lake


def frame(part: str, *rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=empty_frame(part).schema)


def like(user: str, track: str = "a") -> dict[str, object]:
    return {"user_id": user, "track_id": track, "liked_at": None}


def user(user_id: str, discovered_from: str | None = None) -> dict[str, object]:
    return {"user_id": user_id, "discovered_from": discovered_from, "depth": 1, "state": "listed"}


@given(st.lists(st.text()), st.lists(st.text() | st.none()))
def test_exactly_the_forgotten_are_buried(forgotten: list[str], asked: list[str | None]) -> None:
    tombstones = Tombstones().with_users(forgotten)
    found = tombstones.buries(pl.Series(asked, dtype=pl.String)).to_list()
    assert found == [one is not None and one in forgotten for one in asked]
    assert [one is not None and tombstones.buries_one(one) for one in asked] == found
    assert len(tombstones) == len(set(forgotten))


def test_the_file_names_nobody_and_is_its_owners_alone(lake: Lake) -> None:
    path = lake.root / TOMBSTONES
    assert GONE not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Tombstones.of(lake.root).buries_one(GONE)
    assert not Tombstones.of(lake.root.parent).buries_one(GONE)
    # Two lakes have two keys: one does not tell who the other forgot.
    assert Tombstones().with_users([GONE]).hashes != Tombstones.of(lake.root).hashes


def test_more_are_added_and_who_is_there_is_not_added_again(lake: Lake) -> None:
    before = Tombstones.of(lake.root)
    assert before.with_users([GONE]) is before
    more = before.with_users(["another", GONE])
    assert len(more) == 2
    assert more.key == before.key


@pytest.mark.parametrize("damage", ["", "{", '{"key": "zz", "users": []}', "[]"])
def test_a_damaged_file_stops_whoever_would_let_them_back_in(lake: Lake, damage: str) -> None:
    (lake.root / TOMBSTONES).write_text(damage)
    with pytest.raises(LakeError, match=r"tombstones\.json.*restore it"):
        write_batch(lake.raw, DAY, RawBatch("files", "x", likes=frame("likes", like("u"))))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'{{"a": [{{"id": "{GONE}"}}]}}', True),
        (f'{{"{GONE}": 1}}', True),
        (f'{{"href": "https://api.example.org/v1/users/{GONE}/playlists?limit=50"}}', True),
        ('{"name": "forget%2Dme%2D0b5c"}', True),
        (f"<a href='/user/{GONE}'>", True),
        (f'{{"id": "{GONE}x"}}', False),
        ('{"id": "somebody"}', False),
    ],
)
def test_a_text_that_names_them_is_noticed(lake: Lake, text: str, names: bool) -> None:
    assert Tombstones.of(lake.root).named_in(text.encode()) == names


def test_a_batch_is_kept_without_them_as_if_they_had_not_been_in_it(lake: Lake) -> None:
    others = {"users": [user("u"), user("v")], "likes": [like("u"), like("v", "b")]}
    said: dict[str, Any] = {
        "users": frame("users", user("u", GONE), user(GONE, "u"), user("v")),
        "likes": frame("likes", like("u"), like(GONE), like(GONE, "z"), like("v", "b")),
    }
    info = write_batch(lake.raw, DAY, RawBatch("files", "x", **said, counts={"skipped": 2}))
    assert info.counts == {"skipped": 2, LEFT_OUT: 4}
    (kept,) = read_batches(lake.raw, DAY)
    assert all(kept.read(part).equals(frame(part, *rows)) for part, rows in others.items())
    assert kept.counts == info.counts


def test_a_batch_of_nobody_else_is_not_kept_and_says_what_was_left_out(lake: Lake) -> None:
    theirs: dict[str, Any] = {
        "likes": frame("likes", like(GONE)),
        "tracks": frame("tracks", {"track_id": "a"}),
    }
    info = write_batch(lake.raw, DAY, RawBatch("files", "x", **theirs))
    assert (info.rows, info.counts) == ({}, {LEFT_OUT: 1})
    assert read_batches(lake.raw, DAY) == []
    assert not list(lake.staging.iterdir())
    # A list of tracks alone is nobody's, and what a crawl says of tracks it says of the catalogue.
    write_batch(lake.raw, DAY, RawBatch("files", "x", tracks=frame("tracks", {"track_id": "b"})))
    write_batch(lake.raw, DAY, RawBatch("spotify", "x", **theirs))
    assert [batch.rows for batch in read_batches(lake.raw, DAY)] == [{"tracks": 1}, {"tracks": 1}]


def test_the_name_of_a_file_does_not_bring_them_back(lake: Lake) -> None:
    write_batch(lake.raw, DAY, RawBatch("files", f"{GONE}.csv", likes=frame("likes", like("u"))))
    (kept,) = read_batches(lake.raw, DAY)
    assert GONE not in kept.origin


def test_feedback_of_theirs_is_taken_in_nowhere(lake: Lake) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    append(lake.root, "w", GONE, [("a", "like"), ("b", "like")], at=noon)
    append(lake.root, "w", "u", [("a", "like")], at=noon)
    path = lake.root / SPOOL / "2026-03-01" / "w.jsonl"
    path.write_bytes(path.read_bytes() + f'{{"user_id": "{GONE}"}}\nnonsense\n'.encode())
    found = collect(lake)
    assert [batch.rows for batch in found.batches] == [{"feedback": 1}]
    assert found.forgotten == 3
    assert "feedback of forgotten users, not used: 3" in found.sentences()
    assert [p.read_text() for p in (lake.root / SPOOL / "rejected").iterdir()] == ["nonsense\n"]
    # Of somebody who says nothing else there is no batch at all.
    append(lake.root, "w", GONE, [("c", "like")], at=noon)
    assert collect(lake).batches == []


def test_a_crawl_meets_them_and_goes_on_without_them(lake: Lake) -> None:
    with Frontier(lake.frontier_path("x"), DAY, Tombstones.of(lake.root)) as frontier:
        frontier.add_start_users(["u", GONE], "x")
        frontier.finish_user(Due("u", None, 0, 0), "listed", ["v", GONE], [], source="x")
        assert frontier.states() == {"found": 1, "listed": 1}
        for name, body in ((b"1", f'{{"id": "{GONE}"}}'), (b"2", '{"id": "v"}')):
            frontier.keep_answer(name, 200, body.encode())
        assert frontier.answer(b"1") is None
        assert frontier.answer(b"2") is not None
        written: list[object] = []
        frontier.empty_journal(lambda *said: written.append(said[2:]))
    assert written == [({"users": [["u", None, 0, "found"], ["v", "u", 1, "found"]]}, {LEFT_ALONE: 2})]


def test_the_dates_of_a_lake_that_never_forgot_are_none(tmp_path: Path) -> None:
    assert Tombstones.of(tmp_path).last is None
    assert not Tombstones.of(tmp_path).named_in(b"anything")
    made = Tombstones().with_users(["u"])
    made.write(tmp_path)
    assert read_json((tmp_path / TOMBSTONES).read_bytes()).keys() == {"key", "last", "users"}
