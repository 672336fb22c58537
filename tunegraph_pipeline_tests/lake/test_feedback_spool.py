"""The feedback spool: what was answered for is on disk whole and reaches the lake once, whoever writes beside
it or is killed."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake import feedback_spool
from tunegraph_pipeline.lake.feedback_spool import append, collect, waiting_lines, worker_name
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline_tests.conftest import THOROUGH

TODAY = date(2026, 11, 24)
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
    assert (second["track_id"], second["action"], second["shown"]) == ("b", "skip", [])
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
        ("ann", [(7, "like")], [], "track_id must be text, not int"),
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


# --- collecting ---


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def received(lake: Lake) -> list[tuple[str, str, str]]:
    """User, track and action of every row of every raw batch, with its day; sorted, so that doubles show."""
    rows: list[tuple[str, str, str]] = []
    for day in lake.raw_days():
        for batch in lake.batches(day):
            assert batch.source == "feedback"
            frame = batch.read("feedback")
            assert {at.date() for at in frame["at"]} == {day}
            rows += frame.select("user_id", "track_id", "action").rows()
    return sorted(rows)


def leftovers(lake: Lake) -> list[Path]:
    return sorted(path for path in (lake.root / SPOOL).rglob("*") if path.is_file())


def test_what_was_spooled_becomes_a_batch_of_the_day_it_was_received(lake: Lake) -> None:
    append(lake.root, "w1", "ann", [("a", "like")], shown=["x", "a"], bundle_version="v1", at=NOON)
    append(lake.root, "w2", "bob", [("b", "dislike")], at=NOON.replace(day=23))
    assert waiting_lines(lake.root) == 2
    found = collect(lake, TODAY)
    assert [(batch.folder.parent.name, batch.rows) for batch in found.batches] == [
        ("dt=2026-11-23", {"feedback": 1}),
        ("dt=2026-11-24", {"feedback": 1}),
    ]
    assert found.sentences() == []
    row = found.batches[1].read("feedback").row(0, named=True)
    assert row == {
        "user_id": "ann",
        "track_id": "a",
        "action": "like",
        "at": NOON,
        "shown": ["x", "a"],
        "bundle_version": "v1",
    }
    assert waiting_lines(lake.root) == 0
    assert leftovers(lake) == []


def test_a_second_collection_of_a_day_adds_to_the_first(lake: Lake) -> None:
    append(lake.root, "w", "ann", [("a", "like")], at=NOON)
    collect(lake, TODAY)
    assert collect(lake, TODAY).batches == []
    append(lake.root, "w", "ann", [("b", "like")], at=NOON)
    collect(lake, TODAY)
    assert received(lake) == [("ann", "a", "like"), ("ann", "b", "like")]


LINE = (
    b'{"at": "2026-11-24T12:00:00Z", "user_id": "ann", "track_id": "a", "action": "like", "shown": [],'
    b' "bundle_version": ""}'
)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (LINE[:-9], "incomplete or not JSON"),
        (b"\xff\xfe", "incomplete or not JSON"),
        (b"[" * 100_000, "incomplete or not JSON"),
        (b"7", "not in the form of feedback"),
        (b"{}", "not in the form of feedback"),
        (LINE.replace(b'"like"', b'"love"'), "not in the form of feedback"),
        (LINE.replace(b'"like"', b'["like"]'), "not in the form of feedback"),
        (LINE.replace(b'"ann"', b'""'), "not in the form of feedback"),
        (LINE.replace(b'"ann"', b'["ann"]'), "not in the form of feedback"),
        (LINE.replace(b'"ann"', b'"\\ud800"'), "not in the form of feedback"),
        (LINE.replace(b"[]", b'"a"'), "not in the form of feedback"),
        (LINE.replace(b"[]", b"[1]"), "not in the form of feedback"),
        (LINE.replace(b"12:00:00Z", b"12:00:00"), "not in the form of feedback"),
        (LINE.replace(b'"2026-11-24T12:00:00Z"', b"1"), "not in the form of feedback"),
        (LINE.replace(b"2026-11-24T12:00:00Z", b"0001-01-01T00:00:00+23:00"), "not in the form of feedback"),
        (LINE.replace(b"-24T", b"-23T"), "with the time of another day"),
    ],
)
def test_a_line_that_cannot_be_used_is_counted_and_put_aside(lake: Lake, line: bytes, why: str) -> None:
    append(lake.root, "w", "bob", [("b", "like")], at=NOON)
    path = lake.root / SPOOL / "2026-11-24" / "w.jsonl"
    path.write_bytes(path.read_bytes() + line)
    append(lake.root, "w", "eve", [("c", "skip")], at=NOON)
    found = collect(lake, TODAY)
    assert found.rejected == {why: 1}
    assert found.batches[0].counts == {why: 1}
    assert received(lake) == [("bob", "b", "like"), ("eve", "c", "skip")]
    (kept,) = leftovers(lake)
    assert kept.parent.name == "rejected"
    assert kept.read_bytes() == line + b"\n"
    assert found.sentences() == [f"feedback not used, {why}: 1; kept in feedback_spool/rejected/"]


def test_lines_of_which_none_can_be_used_make_no_batch(lake: Lake) -> None:
    append(lake.root, "w", "bob", [("b", "like")], at=NOON)
    (lake.root / SPOOL / "2026-11-24" / "w.jsonl").write_bytes(b"nonsense\n")
    assert collect(lake, TODAY).rejected == {"incomplete or not JSON": 1}
    assert lake.raw_days() == []
    assert collect(lake, TODAY).rejected == {}


def test_days_a_lake_does_not_have_are_left_lying(lake: Lake) -> None:
    for at in (datetime(1970, 1, 1, tzinfo=UTC), NOON.replace(day=25), NOON):
        append(lake.root, "w", "ann", [("a", "like")], at=at)
    found = collect(lake, TODAY)
    assert [line.split()[2] for line in found.left] == ["1970-01-01", "2026-11-25"]
    assert len(found.batches) == 1
    assert waiting_lines(lake.root) == 2


def test_the_folder_of_a_day_that_is_over_goes_and_that_of_today_stays(lake: Lake) -> None:
    for day in (23, 24):
        append(lake.root, "w", "ann", [("a", "like")], at=NOON.replace(day=day))
    collect(lake, TODAY)
    assert [path.name for path in (lake.root / SPOOL).iterdir()] == ["2026-11-24"]
    append(lake.root, "w", "ann", [("b", "like")], at=NOON.replace(day=23))
    assert waiting_lines(lake.root) == 1


def test_a_writer_that_hangs_holds_up_its_own_file_alone(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_spool, "_WRITER_SECONDS", 0.05)
    for worker in ("hangs", "works"):
        append(lake.root, worker, worker, [("a", "like")], at=NOON)
    path = lake.root / SPOOL / "2026-11-24" / "hangs.jsonl"
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = collect(lake, TODAY)
    assert [str(path) in line for line in found.left] == [True]
    assert received(lake) == [("works", "a", "like")]
    collect(lake, TODAY)
    assert received(lake) == [("hangs", "a", "like"), ("works", "a", "like")]


_KILLED_AT = """
import os, shutil, signal, sys
from datetime import date
from pathlib import Path
from tunegraph_pipeline.lake import raw, storage
from tunegraph_pipeline.lake.feedback_spool import collect
from tunegraph_pipeline.lake.lake import Lake

def dies(step):
    def stepping(*args, **options):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return step(*args, **options)
    return stepping

# A child a line, "STEP ROOT": what it imports is imported once, here.
for line in sys.stdin:
    step, root = line.rstrip().split(" ", 1)
    child = os.fork()
    if not child:
        lake, left = Lake.open(Path(root)), int(step)
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "fsync"):
            setattr(os, name, dies(getattr(os, name)))
        with lake.writing("test"):
            collect(lake, date(2026, 11, 24))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.kill
@pytest.mark.slow
def test_a_collection_killed_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    said = [("ann", "a", "like"), ("ann", "b", "skip"), ("bob", "a", "dislike"), ("eve", "c", "like")]
    command = [sys.executable, "-c", _KILLED_AT]

    def killed_at(step: int, collector: subprocess.Popen[str]) -> int:
        assert collector.stdin is not None
        assert collector.stdout is not None
        lake = Lake.open_or_create(tmp_path / str(step))
        for user, track, action in said[:3]:
            append(lake.root, user, user, [(track, action)], at=NOON)
        path = lake.root / SPOOL / "2026-11-24" / "bob.jsonl"
        path.write_bytes(path.read_bytes() + LINE[:-9])
        collector.stdin.write(f"{step} {lake.root}\n")
        collector.stdin.flush()
        code = int(collector.stdout.readline())
        append(lake.root, "eve", "eve", [("c", "like")], at=NOON)
        with lake.writing("test"):
            collect(lake, TODAY)
        assert received(lake) == said, step
        assert waiting_lines(lake.root) == 0
        (kept,) = leftovers(lake)
        assert kept.read_bytes() == LINE[:-9] + b"\n"
        return code

    step = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as collector:
        while (code := killed_at(step, collector)) == -signal.SIGKILL:
            step += 1 if THOROUGH else 2
        collector.communicate()
    assert code == 0
    assert step > 10


def test_a_writer_whose_file_is_taken_away_while_it_waits_opens_a_new_one(lake: Lake) -> None:
    append(lake.root, "w", "ann", [("a", "like")], at=NOON)
    path = lake.root / SPOOL / "2026-11-24" / "w.jsonl"
    taken = path.with_name("taken")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = f":{path.stat().st_ino} "
        writer = threading.Thread(
            target=append, args=(lake.root, "w", "bob", [("b", "like")]), kwargs={"at": NOON}
        )
        writer.start()
        while not any(
            "->" in line and waiting in line for line in Path("/proc/locks").read_text().splitlines()
        ):
            time.sleep(0.01)
        path.rename(taken)
    writer.join()
    assert [json.loads(line)["user_id"] for line in taken.read_text().splitlines()] == ["ann"]
    assert [json.loads(line)["user_id"] for line in path.read_text().splitlines()] == ["bob"]


def test_lines_appended_during_collections_all_arrive_once(lake: Lake) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import *\n"
        "from tunegraph_pipeline.lake.feedback_spool import append\n"
        "lake, noon, n = Path(sys.argv[1]), datetime(2026, 11, 24, 12, tzinfo=UTC), 0\n"
        "while not (lake / 'enough').exists():\n"
        "    append(lake, 'shared', sys.argv[2], [(str(n), 'like')], at=noon)\n"
        "    n += 1\n"
        "print(n)"
    )
    writers = {
        user: subprocess.Popen(
            [sys.executable, "-c", code, str(lake.root), user], stdout=subprocess.PIPE, text=True
        )
        for user in ("ann", "bob")
    }
    batches = 0
    while batches < 8:
        batches += len(collect(lake, TODAY).batches)
    (lake.root / "enough").touch()
    appended = {user: int(writer.communicate()[0]) for user, writer in writers.items()}
    collect(lake, TODAY)
    assert received(lake) == sorted(
        (user, str(n), "like") for user in appended for n in range(appended[user])
    )


def test_text_takes_no_more_room_than_it_has(tmp_path: Path) -> None:
    emoji = "\U0001f600" * 200
    append(tmp_path, "w", "zoë", [("a", "like")] * 500, shown=[emoji] * 265, at=NOON)
    written = (tmp_path / SPOOL / "2026-11-24" / "w.jsonl").read_bytes()
    assert len(written) < 265 * 200 * 4 + 500 * 200
    assert "zoë".encode() in written


def test_lines_of_earlier_versions_are_read(lake: Lake) -> None:
    old = {
        "at": "2026-11-24T12:00:00.000000Z",
        "user_id": "zoë",
        "track_id": "a",
        "action": "like",
        "shown": ["ä", "b"],
        "bundle_version": "v1",
    }
    folder = lake.spool / "2026-11-24"
    folder.mkdir(parents=True)
    folder.joinpath("w.jsonl").write_text("".join(json.dumps({**old, "track_id": t}) + "\n" for t in "ab"))
    (batch,) = collect(lake, TODAY).batches
    rows = batch.read("feedback")
    assert rows["user_id"].to_list() == ["zoë"] * 2
    assert rows["shown"].to_list() == [["ä", "b"]] * 2


def test_much_feedback_becomes_batches_of_a_bounded_size_and_the_same_ones_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback_spool, "_BATCH_BYTES", 2_000)
    for user in range(40):
        append(lake.root, "w", f"user {user}", [("a", "like"), ("b", "skip")], at=NOON)
    spooled_lines = (lake.spool / "2026-11-24" / "w.jsonl").read_bytes()
    found = collect(lake, TODAY)
    assert len(found.batches) > 3
    assert sum(batch.rows["feedback"] for batch in found.batches) == 80
    # As after a kill between the last batch and the end.
    taken = lake.spool / "2026-11-24" / ".taken-1"
    taken.mkdir(parents=True)
    (taken / "w.jsonl").write_bytes(spooled_lines)
    again = collect(lake, TODAY)
    assert [batch.folder for batch in again.batches] == [batch.folder for batch in found.batches]


def test_a_spool_that_fills_up_is_said(lake: Lake) -> None:
    lake.set_section("feedback", {"spool_mib": 1})
    append(lake.root, "w", "ann", [("a", "like")], shown=["x" * 900_000], at=NOON)
    assert any("settings.feedback.spool_mib" in line for line in collect(lake, TODAY).sentences())
    assert collect(lake, TODAY).sentences() == []
