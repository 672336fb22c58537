"""One writer at a time, named to the second, and a dead one is noticed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import lock
from tunegraph_pipeline.lake.lock import write_lock

_HOLD = """
import sys, time
from contextlib import suppress
from pathlib import Path
from tunegraph_pipeline.lake.lock import write_lock
with write_lock(Path(sys.argv[1]), "the other refresh"):
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(root: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_holds_the_lake(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    try:
        said = f"the other refresh \\(process {holder.pid} on "
        with pytest.raises(LakeError, match=said), write_lock(tmp_path, "mine"):
            pass
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.kill
def test_the_lock_of_a_killed_holder_is_taken_and_its_death_is_said(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with write_lock(tmp_path, "mine", wait_seconds=5) as warning:
        assert warning is not None
        assert f"process {holder.pid}" in warning
    with write_lock(tmp_path, "mine") as warning:
        assert warning is None


def test_the_holder_may_take_the_lock_again_and_frees_it_once(tmp_path: Path) -> None:
    with write_lock(tmp_path, "outer"):
        with write_lock(tmp_path, "inner"):
            pass
        assert (tmp_path / ".lock.holder.json").exists()
    holder = _holder(tmp_path)  # only possible when the lock is free
    holder.kill()
    holder.communicate()


@pytest.mark.kill
def test_who_waits_hears_who_holds_the_lake_and_goes_on_when_that_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAITED_SECONDS", 0.3)
    holder = _holder(tmp_path)
    heard: list[str] = []

    def hear(who: str) -> None:
        heard.append(who)
        if len(heard) == 3:
            holder.kill()

    with write_lock(tmp_path, "mine", 60, hear) as warning:
        assert warning is not None
        assert f"process {holder.pid}" in warning
        assert holder.wait() == -signal.SIGKILL
    assert len(heard) >= 3
    assert all(f"the other refresh (process {holder.pid} on " in who for who in heard)
    assert holder.stdout is not None
    holder.stdout.close()


def test_a_waiter_gives_up_in_time_and_names_the_holder(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    heard: list[str] = []
    began = time.monotonic()
    try:
        with (
            pytest.raises(LakeError, match=f"process {holder.pid} on "),
            write_lock(tmp_path, "mine", 0.5, heard.append),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert 0.5 <= time.monotonic() - began < 20
    assert len(heard) == 1


def test_the_note_of_the_holder_is_whole_or_not_there(tmp_path: Path) -> None:
    note = tmp_path / ".lock.holder.json"
    done = threading.Event()

    def take() -> None:
        for _ in range(300):
            with write_lock(tmp_path, "mine"):
                pass
        done.set()

    taker = threading.Thread(target=take)
    taker.start()
    seen = set()
    while not done.is_set():
        with suppress(FileNotFoundError):
            seen.add(note.read_bytes())
    taker.join()
    assert all(json.loads(content)["purpose"] == "mine" for content in seen)
