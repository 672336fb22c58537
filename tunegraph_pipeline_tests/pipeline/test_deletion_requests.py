"""Taking users out of a lake's own files: over random histories as if they had never been there, and the same
wherever the process is killed."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.lake import raw
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.feedback_spool import append, collect
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS
from tunegraph_pipeline.pipeline.deletion_requests import finish_requests, pending_requests, request
from tunegraph_pipeline.pipeline.forgetting import process_requests
from tunegraph_pipeline.sources.frontier import Due, Frontier
from tunegraph_pipeline_tests.conftest import THOROUGH, examples
from tunegraph_pipeline_tests.search import places_with

DAY = date(2026, 3, 1)
GONE = "forget-me-77aa"
Said = list[tuple[int, str, list[tuple[str, str, str]]]]
"""Batches: the day, the source, and rows of (part, user, track or who led to them)."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Lake.open_or_create(tmp_path_factory.mktemp("empty") / "lake").root


def frame(part: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=empty_frame(part).schema)


def batch_of(source: str, rows: list[tuple[str, str, str]], without: set[str]) -> RawBatch | None:
    """The batch of these rows, None where nothing of it is left ``without`` some users."""
    left = [row for row in rows if row[1] not in without]
    if not left:
        return None
    users = [
        {"user_id": user, "discovered_from": None if by in without else by, "depth": 1, "state": "found"}
        for part, user, by in left
        if part == "users"
    ]
    likes = [{"user_id": user, "track_id": track} for part, user, track in left if part == "likes"]
    feedback = [
        {
            "user_id": user,
            "track_id": track,
            "action": "like",
            "at": datetime(2026, 3, 1, tzinfo=UTC),
            "shown": [],
            "bundle_version": "",
        }
        for part, user, track in left
        if part == "feedback"
    ]
    return RawBatch(
        source,
        "x",
        users=frame("users", users),
        likes=frame("likes", likes),
        feedback=frame("feedback", feedback),
    )


def lake_of(root: Path, said: Said, without: set[str]) -> Lake:
    lake = Lake.open(root)
    for day, source, rows in said:
        if (batch := batch_of(source, rows, without)) is not None:
            write_batch(lake.raw, DAY + timedelta(day), batch)
    for day in range(3):
        fill_day(lake, DAY + timedelta(day))
    return lake


def tables(lake: Lake, without: str = "") -> dict[tuple[str, str], list[Any]]:
    return {
        (table, day): lake.read(table, day).drop(without, strict=False).rows()
        for table in DAILY_TABLES
        for day in lake.partitions(table)
    }


def content(lake: Lake) -> list[str]:
    days = [DAY + timedelta(day) for day in range(3)]
    found = [batch for day in days for batch in lake.batches(day)]
    said = [(b.folder.parent.name, b.source, [b.read(part).rows() for part in RAW_SCHEMAS]) for b in found]
    return sorted(set(map(repr, said)))


def users_in(lake: Lake) -> set[str]:
    """Every user whom a row of the lake names; whose raw batches are pruned, only the daily tables do."""
    days = [DAY + timedelta(day) for day in range(3)]
    frames = [batch.read(part) for day in days for batch in lake.batches(day) for part in RAW_SCHEMAS]
    frames += [lake.read(table, day) for table in DAILY_TABLES for day in lake.partitions(table)]
    columns = [
        frame[name] for frame in frames for name in ("user_id", "discovered_from") if name in frame.columns
    ]
    return {user for column in columns for user in column.drop_nulls()}


names = st.sampled_from(["ann", "bob", "cyd", "dan"])
rows = st.tuples(st.sampled_from(["users", "likes", "feedback"]), names, names)
histories = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["files", "spotify"]), st.lists(rows, max_size=6)),
    max_size=5,
)


@pytest.mark.slow
@given(said=histories, gone=st.sets(names, min_size=1, max_size=3), pruned=st.booleans())
@settings(max_examples=examples(15), phases=[Phase.generate])  # each takes a while: none is made smaller
def test_what_remains_is_what_a_lake_that_never_saw_them_has(
    said: Said, gone: set[str], pruned: bool, empty: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("purge")
    lake = lake_of(shutil.copytree(empty, folder / "lake"), said, set())
    if pruned:
        for day in lake.raw_days():
            raw.prune_day(lake.raw, day)
    held = users_in(lake)
    request(lake, gone)
    done = process_requests(lake)
    never = lake_of(shutil.copytree(empty, folder / "never"), said, gone)
    if pruned:  # who else led to somebody is not known without raw batches
        assert tables(lake, without="discovered_from") == tables(never, without="discovered_from")
    else:
        assert tables(lake) == tables(never)
        assert content(lake) == content(never)
        assert lake.stale_days() == []
    assert done is not None
    assert done.users == len(gone)
    assert done.known == len(gone & held)
    assert done.unfinished == bool(done.known)


# --- killed anywhere ---


class Killed(BaseException):
    """What no code expects, as it does not expect a kill."""


@contextmanager
def killed_at(step: int) -> Iterator[list[int]]:
    """Raise at one of the changes to the disk, before it is made; yields how many were tried."""
    tried = [0]

    def stopping(change: Any) -> Any:
        def changed(*args: Any, **options: Any) -> Any:
            tried[0] += 1
            if tried[0] == step:
                raise Killed
            if tried[0] > step > 0:
                return None  # dead: whatever would clean up does not
            return change(*args, **options)

        return changed

    with (
        mock.patch.object(Path, "rename", stopping(Path.rename)),
        mock.patch.object(Path, "replace", stopping(Path.replace)),
        mock.patch.object(Path, "unlink", stopping(Path.unlink)),
        mock.patch.object(shutil, "rmtree", stopping(shutil.rmtree)),
    ):
        yield tried


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the user in raw batches, tables, one day of which has no raw batches any more, a crawl,
    feedback, start users and things built."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("kill") / "lake")
    lake.set_section("spotify", {"start_users": [GONE, "ann"]})
    pairs = [("likes", user, track) for user in (GONE, "ann") for track in "abc"]
    for day in range(2):
        said = batch_of("files" if day else "spotify", [*pairs[2 * day :], ("users", "led", GONE)], set())
        assert said is not None
        write_batch(lake.raw, DAY + timedelta(day), said)
        alone = batch_of("files", [("likes", GONE, "z")], set())
        assert alone is not None
        write_batch(lake.raw, DAY + timedelta(day), alone)
    append(lake.root, "w", GONE, [("a", "like")], at=datetime(2026, 3, 2, tzinfo=UTC))
    collect(lake)
    for day in range(2):
        fill_day(lake, DAY + timedelta(day))
    raw.prune_day(lake.raw, DAY)
    append(lake.root, "w", GONE, [("b", "like")], at=datetime(2026, 3, 2, tzinfo=UTC))
    append(lake.root, "w", "ann", [("b", "like")], at=datetime(2026, 3, 2, tzinfo=UTC))
    with Frontier(lake.frontier_path("spotify"), DAY) as frontier:
        frontier.add_start_users([GONE, "ann"], "spotify")
        frontier.finish_user(Due("ann", None, 0, 0), "listed", ["new", GONE], [], source="spotify")
        frontier.keep_answer(b"r", 200, GONE.encode())
    for kind in ("like_graph", "co_like"):
        lake.write_version(kind, "v", _names_them)
    request(lake, [GONE])
    return lake.root


def _names_them(folder: Path) -> None:
    (folder / "x").write_text(GONE)


def test_the_draft_of_a_request_that_was_killed_is_removed_and_one_being_written_is_not(
    tmp_path: Path,
) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    folder = request(lake, [GONE]).parent
    drafts = [folder / ".dead", folder / ".alive"]
    for draft, age in zip(drafts, (4000, 40), strict=True):
        draft.write_text(GONE)
        os.utime(draft, (time.time() - age,) * 2)
    process_requests(lake)
    assert [draft.exists() for draft in drafts] == [False, True]


@pytest.mark.slow
def test_a_process_that_dies_at_any_change_leaves_it_to_the_next(everywhere: Path, tmp_path: Path) -> None:
    undisturbed = Lake.open(shutil.copytree(everywhere, tmp_path / "undisturbed"))
    with killed_at(0) as tried:
        process_requests(undisturbed)
        finish_requests(undisturbed)
    assert places_with(undisturbed.root, GONE) == []
    expected, received = tables(undisturbed), content(undisturbed)
    waiting = undisturbed.root / "feedback_spool" / "2026-03-02" / "w.jsonl"
    assert len(waiting.read_text().splitlines()) == 1
    assert tried[0] > 30
    for step in range(1, tried[0] + 1, 1 if THOROUGH else 3):
        lake = Lake.open(shutil.copytree(everywhere, tmp_path / "killed"))
        with pytest.raises(Killed), killed_at(step):
            process_requests(lake)
            finish_requests(lake)
        lake = Lake.open(lake.root)  # as the next process finds it
        done = process_requests(lake)
        finish_requests(lake)
        assert places_with(lake.root, GONE) == [], step
        assert tables(lake) == expected, step
        assert content(lake) == received, step
        assert not (lake.root / "like_graph").exists(), step
        assert pending_requests(lake) == 0
        assert done is None or done.users in (0, 1)
        shutil.rmtree(lake.root)
