"""Feedback on its way to disk: kept whole and acknowledged, or a problem; what a line is, `lake` tests."""

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.serve.feedback_writer import FeedbackWriter
from tunegraph_pipeline.serve.problem_details import Problem


@pytest.fixture(autouse=True)
def lake_there(tmp_path: Path) -> None:
    (tmp_path / "lake.json").write_text("{}")


def lines(lake: Path) -> list[dict[str, Any]]:
    found = sorted(lake.glob("feedback_spool/*/*.jsonl"))
    return [json.loads(line) for path in found for line in path.read_bytes().split(b"\n") if line]


def add_all(lake: Path, *users: str, request_bytes: int = 2**18, spool_bytes: int = 2**20) -> list[Any]:
    """What comes of feedback that arrives at the same time."""

    async def add() -> list[Any]:
        writer = FeedbackWriter(lake, request_bytes=request_bytes, spool_bytes=spool_bytes)
        added = [
            writer.add(user, [("t1", "like"), ("t2", "skip")], ["t1", "t2", "t3"], "v1") for user in users
        ]
        found = await asyncio.gather(*added, return_exceptions=True)
        writer.close()
        return found

    return asyncio.run(add())


def test_all_that_is_said_at_once_is_kept_with_all_that_was_said(tmp_path: Path) -> None:
    users = [f"\u2028 ünïcode {user}" for user in range(40)]
    assert add_all(tmp_path, *users) == [None] * 40
    found = lines(tmp_path)
    assert [(line["user_id"], line["track_id"], line["action"]) for line in found] == [
        (user, *event) for user in users for event in (("t1", "like"), ("t2", "skip"))
    ]
    assert [line["shown"] for line in found] == [["t1", "t2", "t3"], []] * 40
    assert all(line["bundle_version"] == "v1" for line in found)


def test_nothing_is_written_where_the_disk_of_the_lake_should_be(tmp_path: Path) -> None:
    away = tmp_path / "mount point"
    away.mkdir()
    (refused,) = add_all(away, "me")
    assert isinstance(refused, Problem)
    assert (refused.status, refused.name) == (503, "feedback-unwritable")
    assert list(away.iterdir()) == []


def test_every_spool_writes_a_file_of_its_own(tmp_path: Path) -> None:
    add_all(tmp_path, "a")
    add_all(tmp_path, "b")
    assert len(list(tmp_path.glob("feedback_spool/*/*.jsonl"))) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_what_cannot_be_written_is_a_problem_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    def sync(_handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        (refused,) = add_all(tmp_path, "a")
    assert isinstance(refused, Problem)
    assert (refused.status, refused.name) == (503, "feedback-unwritable")
    assert str(tmp_path) not in refused.detail
    assert "feedback was not stored" in capfd.readouterr().err
    assert lines(tmp_path) == []
    assert add_all(tmp_path, "b") == [None]
    assert {line["user_id"] for line in lines(tmp_path)} == {"b"}


def test_more_than_the_disk_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunegraph_pipeline.serve.feedback_writer._MOST_WAITING", 2)
    found = add_all(tmp_path, "a", "b", "c", "d")
    assert [type(result).__name__ for result in found] == ["NoneType", "NoneType", "Problem", "Problem"]
    assert {line["user_id"] for line in lines(tmp_path)} == {"a", "b"}


def test_events_that_would_take_too_much_room_are_refused(tmp_path: Path) -> None:
    fitting, longer = add_all(tmp_path, "a", "a" * 200, request_bytes=500)
    assert fitting is None
    assert isinstance(longer, Problem)
    assert (longer.status, longer.name) == (413, "feedback-too-large")
    assert {line["user_id"] for line in lines(tmp_path)} == {"a"}


def test_above_the_size_of_the_spool_nothing_is_stored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = add_all(tmp_path, "a", "b", "c", "d", spool_bytes=700)
    assert [getattr(result, "name", "stored") for result in found] == ["stored"] * 2 + ["feedback-full"] * 2
    assert {line["user_id"] for line in lines(tmp_path)} == {"a", "b"}
    assert capfd.readouterr().err.count("feedback is refused") == 1
