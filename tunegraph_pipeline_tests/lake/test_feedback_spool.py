"""The feedback spool: what was answered for is on disk whole, whoever writes beside it or is killed."""

import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.feedback_spool import SPOOL, append, worker_name

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def spooled(lake: Path) -> list[dict[str, object]]:
    """Every line of the spool that can be read, by file and place."""
    files = sorted((lake / SPOOL).rglob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_a_line_says_who_said_what_of_which_song_and_when(tmp_path: Path) -> None:
    said = [("a", "like"), ("b", "skip")]
    assert append(tmp_path, "w", "ann", said, shown=["a", "b"], bundle_version="v1", at=NOON) == 2
    path = tmp_path / SPOOL / "2026-11-24" / "w.jsonl"
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "at": "2026-11-24T12:00:00.000000Z",
        "user_id": "ann",
        "track_id": "a",
        "action": "like",
        "shown": ["a", "b"],
        "bundle_version": "v1",
    }
    assert (second["track_id"], second["action"]) == ("b", "skip")
    assert second["at"] > first["at"]  # the order within a request is an order in time


def test_all_lines_of_a_request_are_of_the_day_it_was_received(tmp_path: Path) -> None:
    last = datetime(2026, 11, 24, 23, 59, 59, 999_999, tzinfo=UTC)
    append(tmp_path, "w", "ann", [("a", "like"), ("b", "like")], at=last)
    assert {line["at"] for line in spooled(tmp_path)} == {"2026-11-24T23:59:59.999999Z"}


@pytest.mark.parametrize(
    ("user", "events", "shown", "says"),
    [
        ("", [("a", "like")], [], "user_id is empty"),
        ("ann", [("a", "like"), ("", "like")], [], "track_id is empty"),
        ("ann", [("a", "love")], [], "'love' is not one of like, dislike, skip"),
        ("ann", [("\ud800", "like")], [], "track_id is not valid Unicode"),
        ("ann", [("a", "like")], ["\udfff"], "shown is not valid Unicode"),
        ("ann", [(7, "like")], [], "track_id has to be text, not int"),
    ],
)
def test_what_could_not_be_read_back_is_not_kept(
    tmp_path: Path, user: str, events: list[tuple[str, str]], shown: list[str], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        append(tmp_path, "w", user, events, shown=shown)
    assert spooled(tmp_path) == []


def test_half_a_line_of_a_killed_writer_does_not_swallow_the_next(tmp_path: Path) -> None:
    append(tmp_path, "w", "ann", [("a", "like")], at=NOON)
    path = tmp_path / SPOOL / "2026-11-24" / "w.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    append(tmp_path, "w", "bob", [("b", "like")], at=NOON)
    half, whole = path.read_text().splitlines()
    assert json.loads(whole)["user_id"] == "bob"
    with pytest.raises(json.JSONDecodeError):
        json.loads(half)


def test_a_full_disk_keeps_none_of_the_lines_and_says_so(tmp_path: Path) -> None:
    append(tmp_path, "w", "ann", [("a", "like")], at=NOON)
    path = tmp_path / SPOOL / "2026-11-24" / "w.jsonl"
    before = path.read_bytes()
    code = (
        "import signal, sys; from pathlib import Path; from datetime import *\n"
        "from tunegraph_pipeline.lake.feedback_spool import append\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "noon = datetime(2026, 11, 24, 12, tzinfo=UTC)\n"
        f"append(Path({str(tmp_path)!r}), 'w', 'bob', [('b', 'like')] * 9, at=noon)"
    )
    limit = len(before) + 100
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert f"{LakeError.__name__}: cannot write {path}" in done.stderr
    assert path.read_bytes() == before


def test_workers_that_share_a_name_do_not_mix_their_lines(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tunegraph_pipeline.lake.feedback_spool import append\n"
        "for n in range(15):\n"
        "    said = [(f'{n}-{i}' + 'x' * 3000, 'like') for i in range(3)]\n"
        "    append(Path(sys.argv[1]), 'w', sys.argv[2], said)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), user]) for user in ("ann", "bob", "eve")
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    lines = spooled(tmp_path)
    for user in ("ann", "bob", "eve"):
        said = [str(line["track_id"]).rstrip("x") for line in lines if line["user_id"] == user]
        assert said == [f"{n}-{i}" for n in range(15) for i in range(3)]


def test_every_process_has_a_name_of_its_own() -> None:
    assert worker_name() != worker_name()
    assert str(os.getpid()) in worker_name()


def test_appending_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import tunegraph_pipeline.lake.feedback_spool\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['tunegraph_pipeline']"
