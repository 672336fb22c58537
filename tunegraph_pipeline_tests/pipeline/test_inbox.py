"""The inbox: what is complete, what is new, and that every content is imported once, whatever happens."""

import errno
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch
from tunegraph_pipeline.pipeline import inbox
from tunegraph_pipeline.pipeline.inbox import (
    Imported,
    import_complete,
    inbox_status,
    look,
    wait_for_complete,
)
from tunegraph_pipeline.pipeline.settings import InboxSettings
from tunegraph_pipeline.sources import files
from tunegraph_pipeline.sources.read_file import read_file
from tunegraph_pipeline.sources.reading import Given, Reading

TODAY = datetime.now(UTC).date()
SETTINGS = InboxSettings(settle_seconds=10)
LIKES = "user_id,track_id\nu,a\nu,b\n"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    (tmp_path / "inbox").mkdir()
    return Lake.open_or_create(tmp_path / "lake")


def _drop(lake: Lake, name: str, content: str | bytes = LIKES) -> Path:
    path = lake.root.parent / "inbox" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _import(lake: Lake, day: date = TODAY) -> Imported:
    """Import all that is there, as if it had settled."""
    now = datetime.now(UTC).timestamp()
    seen = look(lake, SETTINGS, look(lake, SETTINGS, None, now=now).cursor, now=now + 10)
    return import_complete(lake, SETTINGS, seen.complete, today=day)


def _batches(lake: Lake) -> list[str]:
    return [info.folder.name for day in lake.raw_days() for info in lake.batches(day)]


# --- complete ---


def test_a_file_that_grows_is_left_alone_until_it_stays_as_it_is(lake: Lake) -> None:
    _drop(lake, "likes.csv", LIKES[:20])
    first = look(lake, SETTINGS, None, now=1_000.0)
    assert (first.complete, first.growing) == ([], 1)
    _drop(lake, "likes.csv")
    grown = look(lake, SETTINGS, first.cursor, now=1_020.0)
    assert (grown.complete, grown.growing) == ([], 1)
    early = look(lake, SETTINGS, grown.cursor, now=1_029.0)
    assert not early.complete
    settled = look(lake, SETTINGS, early.cursor, now=1_030.0)
    assert len(settled.complete) == 1
    assert import_complete(lake, SETTINGS, settled.complete).imported == 1


def test_a_file_that_changed_since_it_was_seen_is_not_imported(lake: Lake) -> None:
    _drop(lake, "likes.csv", LIKES[:20])
    seen = look(lake, SETTINGS, look(lake, SETTINGS, None, now=0.0).cursor, now=10.0)
    _drop(lake, "likes.csv")
    done = import_complete(lake, SETTINGS, seen.complete)
    assert done.imported == done.failed == 0
    assert not lake.raw_days()


def test_a_clock_that_is_set_back_does_not_stop_it(lake: Lake) -> None:
    _drop(lake, "likes.csv")
    before = look(lake, SETTINGS, None, now=90_000.0)
    back = look(lake, SETTINGS, before.cursor, now=3_600.0)
    assert look(lake, SETTINGS, back.cursor, now=3_611.0).complete


def test_hidden_and_unfinished_files_and_folders_are_not_looked_at(lake: Lake) -> None:
    for name in (".likes.csv", "likes.csv.part", "likes.csv.tmp", "likes.csv.crdownload"):
        _drop(lake, name)
    (lake.root.parent / "inbox" / "folder").mkdir()
    seen = look(lake, SETTINGS, None)
    assert (seen.complete, seen.growing) == ([], 0)


def test_by_hand_the_folder_is_watched_for_as_long_as_it_takes(lake: Lake) -> None:
    _drop(lake, "likes.csv")
    settings = InboxSettings(settle_seconds=0.1)
    assert import_complete(lake, settings, wait_for_complete(lake, settings)).imported == 1


# --- once ---


def test_the_same_content_is_imported_once_under_any_name_and_when_touched(lake: Lake) -> None:
    path = _drop(lake, "likes.csv")
    _drop(lake, "copy.csv")
    done = _import(lake)
    assert (done.imported, done.known) == (1, 1)
    os.utime(path, (1, 1))
    assert _import(lake, TODAY + timedelta(days=1)).known == 1
    assert _import(lake).known == 0  # the touched file is known as it is now
    assert len(_batches(lake)) == 1


def test_a_file_that_changes_adds_to_the_day(lake: Lake) -> None:
    _drop(lake, "likes.csv")
    _import(lake)
    _drop(lake, "likes.csv", LIKES + "v,c\n")
    assert _import(lake).imported == 1
    assert len(lake.batches(TODAY)) == 2


def test_what_cannot_be_read_is_said_once_and_does_not_stop_the_rest(lake: Lake) -> None:
    _drop(lake, "bad.bin", bytes(range(256)) * 10)
    _drop(lake, "cut.csv.gz", gzip.compress(LIKES.encode() * 50)[:-12])
    _drop(lake, "good.csv")
    done = _import(lake)
    assert (done.imported, done.failed) == (1, 2)
    assert _import(lake).failed == 0
    said = inbox_status(lake)
    assert said.startswith("1 file imported; bad.bin: ")
    assert "cut.csv.gz is a truncated or damaged gzip file; fetch it again" in said
    _drop(lake, "cut.csv.gz", gzip.compress(LIKES.encode() + b"w,z\n"))
    assert _import(lake).imported == 1
    assert "cut.csv.gz" not in inbox_status(lake)


def test_what_is_no_file_is_named_and_left_alone(lake: Lake) -> None:
    folder = lake.root.parent / "inbox"
    os.mkfifo(folder / "pipe.csv")
    (folder / "gone.csv").symlink_to("nowhere.csv")
    (folder / "a folder").mkdir()
    _drop(lake, "good.csv")
    assert _import(lake).imported == 1
    assert inbox_status(lake) == (
        "1 file imported; gone.csv is neither a file nor a folder, and ignored;"
        " pipe.csv is neither a file nor a folder, and ignored"
    )


def test_a_name_that_is_no_text_is_a_name_like_any_other(lake: Lake) -> None:
    _drop(lake, os.fsdecode(b"a caf\xe9.csv"))
    _drop(lake, os.fsdecode(b"bad caf\xe9.csv"), b"\x00\xff" * 99)
    _drop(lake, "more.csv", LIKES + "v,c\n")
    done = _import(lake)
    assert (done.imported, done.failed) == (2, 1)
    assert sorted(info.origin for info in lake.batches(TODAY)) == ["a caf\\xe9.csv", "more.csv"]
    assert "; bad caf\\xe9.csv: bad caf\\xe9.csv is a binary file" in inbox_status(lake)


def test_what_could_not_be_opened_is_tried_again_though_it_did_not_change(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drop(lake, "likes.csv")

    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as closed:
        closed.setattr(inbox, "_sha256", refuse)
        assert _import(lake).failed == 1
        assert "likes.csv: it cannot be read (Permission denied)" in inbox_status(lake)
    assert _import(lake).imported == 1
    assert inbox_status(lake) == "1 file imported"


def test_the_status_is_told_where_the_folder_may_not_be_read(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drop(lake, "likes.csv")
    _import(lake)

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert inbox_status(lake) == "1 file imported"


def test_what_is_one_table_in_two_files_is_read_when_both_are_there(lake: Lake) -> None:
    _drop(lake, "id_map.json", '{"a": 0}')
    assert _import(lake).failed == 1
    _drop(lake, "id_map.csv", ",".join(["0.5"] * 11) + "\n")
    assert _import(lake).imported == 2
    assert inbox_status(lake) == "2 files imported"


def test_files_are_never_touched(lake: Lake) -> None:
    paths = [_drop(lake, "likes.csv"), _drop(lake, "bad.bin", b"\x00\xff" * 99)]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    _import(lake)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before


KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import inbox
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch
from tunegraph_pipeline.pipeline.settings import InboxSettings
from tunegraph_pipeline.sources import files
from tunegraph_pipeline.sources.read_file import read_file
from tunegraph_pipeline.sources.reading import Given, Reading

receive = Lake.receive_files

def receive_and_die(*arguments, **options):
    receive(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

Lake.receive_files = receive_and_die
lake = Lake.open(Path(sys.argv[1]))
settings = InboxSettings(settle_seconds=0)
today = date.fromisoformat(sys.argv[2])
inbox.import_complete(lake, settings, inbox.wait_for_complete(lake, settings), today=today)
"""


@pytest.mark.kill
def test_a_run_killed_before_it_remembered_doubles_nothing_even_over_midnight(lake: Lake) -> None:
    _drop(lake, "likes.csv")
    killed = subprocess.run([sys.executable, "-c", KILLED, lake.root, str(TODAY)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(_batches(lake)) == 1
    assert _import(lake, TODAY + timedelta(days=1)).imported == 1
    assert lake.raw_days() == [TODAY]
    assert len(_batches(lake)) == 1
    assert _import(lake, TODAY + timedelta(days=2)).imported == 0


# --- what a person has to mend ---


def test_a_missing_folder_and_a_damaged_memory_are_said(lake: Lake) -> None:
    _drop(lake, "likes.csv")
    (lake.root / "inbox.json").write_text("{")
    with pytest.raises(LakeError, match=r"inbox.json is damaged; restore it, or remove it"):
        look(lake, SETTINGS, None)
    (lake.root / "inbox.json").unlink()
    with pytest.raises(InputError, match=r"there is no inbox at .*; make the folder"):
        look(lake, InboxSettings(folder="../elsewhere"), None)


def test_no_name_of_a_file_is_kept_and_the_status_still_says_which_it_was(lake: Lake) -> None:
    path = _drop(lake, "ana-maria.csv.gz", gzip.compress(LIKES.encode())[:20])
    _drop(lake, "likes of ana-maria.csv")
    assert _import(lake).failed == 1
    assert b"ana-maria" not in (lake.root / "inbox.json").read_bytes()
    assert "ana-maria.csv.gz: " in inbox_status(lake)
    assert "{file}" not in inbox_status(lake)
    path.unlink()
    assert "a file that is gone: " in inbox_status(lake)


# --- whatever a file is ---


def _nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", _nested(1_500)),
        ("a.ndjson", b'{"user_id":"u","track_id":"t"}\n' + _nested(99_999)),
        ("a.csv.gz", gzip.compress(bytes(1 << 20))[:-9]),
        ("a.parquet", b"PAR1" + bytes(200) + b"PAR1"),
        ("a.xlsx", b"PK\x03\x04" + bytes(200)),
    ],
)
def test_a_file_that_cannot_be_read_is_remembered_and_the_others_are_imported(
    lake: Lake, name: str, content: bytes
) -> None:
    _drop(lake, name, content)
    _drop(lake, "good.csv")
    done = _import(lake)
    assert (done.imported, done.failed) == (1, 1)
    assert name in inbox_status(lake)
    assert not look(lake, SETTINGS, None).growing  # it is not tried again


@pytest.mark.parametrize("error", [RecursionError("x"), MemoryError(), KeyError("x"), SystemError("x")])
@pytest.mark.parametrize("where", ["read", "kept"])
def test_whatever_a_file_raises_is_the_error_of_that_file(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    _drop(lake, "bad.csv", "user_id,track_id\nbad,a\n")
    _drop(lake, "good.csv")
    read, keep = read_file, Lake.receive_files

    def read_or_raise(path: Path, given: Given) -> list[Reading]:
        if where == "read" and path.name == "bad.csv":
            raise error
        return read(path, given)

    def keep_or_raise(lake: Lake, day: date, batches: list[RawBatch]) -> list[BatchInfo]:
        if where == "kept" and "bad" in batches[0].likes["user_id"].to_list():
            raise error
        return keep(lake, day, batches)

    monkeypatch.setattr(files, "read_file", read_or_raise)
    monkeypatch.setattr(Lake, "receive_files", keep_or_raise)
    done = _import(lake)
    assert (done.imported, done.failed) == (1, 1)
    assert "bad.csv" in inbox_status(lake)


def test_the_limits_of_the_lake_are_those_of_its_inbox(lake: Lake) -> None:
    lake.set_section("imports", {"rows": 2})
    _drop(lake, "likes.csv")
    assert _import(lake).failed == 1
    assert "imports.rows" in inbox_status(lake)
