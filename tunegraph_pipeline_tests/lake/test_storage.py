"""A write is there whole or not at all, also when the writer is killed or the disk is full."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError, ShortageError
from tunegraph_pipeline.lake import tables as tables_module
from tunegraph_pipeline.lake.storage import (
    check_writable,
    disk_errors,
    remove_folder,
    staged_file,
    staged_folder,
    write_text,
)
from tunegraph_pipeline.lake.tables import TableFiles


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    target, staging = tmp_path / "t" / "file", tmp_path / ".staging"
    write_text(target, "old", staging)
    with pytest.raises(ValueError, match="midway"), staged_file(target, staging) as draft:
        draft.write_text("half")
        raise ValueError("midway")
    assert target.read_text() == "old"
    assert list(staging.iterdir()) == []


def test_a_failed_folder_leaves_the_old_folder_and_no_draft(tmp_path: Path) -> None:
    target, staging = tmp_path / "v1", tmp_path / ".staging"
    with staged_folder(target, staging) as draft:
        (draft / "a").write_text("old")
    with pytest.raises(ValueError, match="midway"), staged_folder(target, staging) as draft:
        (draft / "a").write_text("new")
        raise ValueError("midway")
    assert (target / "a").read_text() == "old"
    assert list(staging.iterdir()) == []


def test_a_replaced_folder_holds_only_the_new_files(tmp_path: Path) -> None:
    target, staging = tmp_path / "v1", tmp_path / ".staging"
    for name in ("first", "second"):
        with staged_folder(target, staging) as draft:
            (draft / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]


def test_a_removed_folder_is_gone_before_it_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, staging = tmp_path / "v1", tmp_path / ".staging"
    target.mkdir()
    (target / "a").write_text("old")
    seen = []

    def killed(folder: Path) -> None:
        seen.append((target.exists(), [path.name for path in folder.iterdir()]))
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_folder(target, staging)
    assert seen == [(False, ["a"])]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_says_no_is_one_clear_line(tmp_path: Path, code: int) -> None:
    target = tmp_path / "file"
    with (
        pytest.raises(LakeError, match=f"cannot write {target}: "),
        staged_file(target, tmp_path / ".staging"),
    ):
        raise OSError(code, os.strerror(code))
    assert not target.exists()


def test_a_target_that_cannot_be_written_is_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LakeError, match="a part of the path is a file"):
        check_writable(tmp_path / "file" / "answer.parquet")
    with pytest.raises(LakeError, match="it is a folder"):
        check_writable(tmp_path)
    check_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_really_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write itself, in a process of its own."""
    target = tmp_path / "file"
    target.write_text("old")
    code = f"""
import resource, signal
from pathlib import Path
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.storage import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path({str(target)!r}), "x" * 5000, Path({str(tmp_path / ".staging")!r}))
except LakeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "larger than this system allows" in done.stdout
    assert target.read_text() == "old"


@pytest.mark.kill
def test_a_writer_killed_midway_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from tunegraph_pipeline.lake.storage import staged_file
with staged_file(Path({str(target)!r}), Path({str(tmp_path / ".staging")!r})) as draft:
    draft.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "more memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "more memory"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "ulimit"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "the machine can open no more"),
    ],
)
def test_a_shortage_is_neither_a_full_disk_nor_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    with pytest.raises(ShortageError, match=says) as short, disk_errors(tmp_path / "x"):
        raise error
    assert "disk" not in str(short.value)
    tables = TableFiles(tmp_path)
    tables.write("track_ids", None, pl.DataFrame({"track_idx": [0], "track_id": ["a"]}))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(tables_module, "read_with_added", refuse)
    with pytest.raises(ShortageError, match=r"cannot read .*track_ids"):
        tables.read("track_ids")
