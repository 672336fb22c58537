"""What a disk, a clock and a second refresh may do while a service answers: real commands on a real lake.

Whatever happens, the command that it happens to ends with 2 and one line, the service answers every request
throughout, nothing is lost, verify finds no damage that it was not given, and the next refresh works.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, write_batch
from tunegraph_pipeline_tests.lean_command import LEAN, NO_HISTORY
from tunegraph_pipeline_tests.serve.conftest import RunningService, start_service
from tunegraph_pipeline_tests.serve.test_live_bundle import Asking
from tunegraph_pipeline_tests.serve.test_run import unwritable
from tunegraph_pipeline_tests.test_cli import (
    Done,
    complaint,
    no_file_above,
    tunegraph,
    tunegraph_process,
    tunegraph_process_of,
    two_scenes,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

UNRECORDED = {**os.environ, NO_HISTORY: "1"}


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    lake = folder / "lake"
    assert tunegraph("import", two_scenes(folder / "likes.csv"), "--lake", lake).returncode == 0
    Lake.open(lake).set_section("training", {"dimension": 8, "epochs": 1, "encoder": "none"})
    assert tunegraph("refresh", "--lake", lake).returncode == 0
    return lake


@pytest.fixture
def lake(refreshed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(refreshed, tmp_path / "lake")


@pytest.fixture
def service(lake: Path) -> Iterator[RunningService]:
    """A service of the lake that is asked all the while: every answer has to be one."""
    running = start_service(lake, "--reload-seconds", "0.1")
    with Asking(running, n_threads=1, pause=0.2) as asking:
        yield running
    asked, failed = len(asking.answers), asking.failures
    assert running.stop() == 0
    assert failed == []
    assert asked > 0
    assert {status for status, _ in asking.answers} == {200}


def more_likes(path: Path) -> Path:
    """Another list for each of twenty users, of ids that cannot be compressed."""
    dice = random.Random(1)
    rows = [f"rock{row % 20},{dice.getrandbits(64):x}" for row in range(240)]
    path.write_text("user_id,track_id\n" + "\n".join(rows) + "\n")
    return path


def live(lake: Path) -> str:
    return (lake / "serving" / "CURRENT").read_text().strip()


def raw(lake: Path) -> dict[str, bytes]:
    return {str(path.relative_to(lake)): path.read_bytes() for path in lake.glob("raw/*/*/*")}


def recovers(lake: Path, service: RunningService) -> None:
    """Nothing is damaged, the next refresh works, and the service takes up what it published."""
    assert tunegraph("verify", "--lake", lake).returncode == 0
    done = tunegraph("refresh", "--source", "none", "--lake", lake)
    assert done.returncode == 0, done.stderr
    done = tunegraph("verify", "--lake", lake)
    assert done.returncode == 0, done.stdout
    assert "note:" not in done.stdout
    service.wait_for(lambda: service.get("/version").json()["bundle_version"] == live(lake))


# --- the disk is full ---


def test_a_disk_that_is_full_at_an_import(lake: Path, service: RunningService, tmp_path: Path) -> None:
    before, likes = raw(lake), more_likes(tmp_path / "more.csv")
    done = tunegraph_process("import", likes, "--lake", lake, preexec_fn=no_file_above(2_000))
    assert "cannot write" in complaint(done)
    assert raw(lake) == before
    assert tunegraph("import", likes, "--lake", lake).returncode == 0
    recovers(lake, service)


@pytest.mark.parametrize(
    "stage",
    # The later one is by then a process that has loaded what trains.
    ["crawled_users", pytest.param("track_embeddings", marks=pytest.mark.nightly)],
    ids=lambda stage: f"after {stage}",
)
def test_a_disk_that_fills_up_in_a_refresh(
    lake: Path, service: RunningService, tmp_path: Path, stage: str
) -> None:
    """From the moment a stage has left its mark, in the daily tables and before the bundle, no file of the
    refresh may grow beyond 4 kB."""
    assert tunegraph("import", more_likes(tmp_path / "more.csv"), "--lake", lake).returncode == 0
    received, was_live = raw(lake), live(lake)
    mark = {
        "crawled_users": next(lake.glob("users/*/data.parquet")),
        "track_embeddings": lake / "track_embeddings",
    }[stage]
    written = mark.stat().st_mtime_ns
    process = subprocess.Popen(
        [*LEAN, "refresh", "--lake", str(lake)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=UNRECORDED,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),  # noqa: PLW1509
    )
    while mark.stat().st_mtime_ns == written:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    out, err = process.communicate(timeout=120)
    assert "cannot" in complaint(Done(process.returncode, out, err))
    assert raw(lake) == received
    assert live(lake) == was_live
    recovers(lake, service)


# --- the lake is read-only ---


def test_a_lake_that_cannot_be_written_is_read_and_nothing_else(
    lake: Path, service: RunningService, tmp_path: Path
) -> None:
    likes = more_likes(tmp_path / "more.csv")
    refused = [["import", str(likes)], ["refresh"], ["rollback"], ["verify", "--repair"]]
    commands = [*refused, ["ui"], ["verify"], ["recommend", "--user", "rock3"]]
    asked = [[*command, "--lake", lake] for command in commands]
    try:
        *first, shown, verified, recommended = tunegraph_process_of(unwritable(lake), *asked)
        for done in first:
            assert "make the folder writable" in complaint(done)
        assert "cannot" in complaint(shown)
        assert verified.returncode == 0, verified.stdout
        assert "cannot be locked" in verified.stdout
        assert recommended.returncode == 0
    finally:
        lake.chmod(0o755)
    recovers(lake, service)


# --- a file is damaged ---


def garble(path: Path) -> None:
    """The middle of it, so that the beginning and the end still look like a table."""
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(
        content[:third] + bytes(byte ^ 0xFF for byte in content[third : 2 * third]) + content[2 * third :]
    )


def test_a_table_that_is_damaged_is_named_and_made_again(
    lake: Path, service: RunningService, tmp_path: Path
) -> None:
    (path,) = lake.glob("current_likes/*/data.parquet")
    sound = path.read_bytes()
    garble(path)
    found = tunegraph("verify", "--lake", lake)
    assert found.returncode == 2
    assert path.relative_to(lake).as_posix() in found.stdout
    # The current lists are rebuilt where those to update cannot be read.
    done = tunegraph("refresh", "--source", "none", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == sound
    recovers(lake, service)


def test_a_live_bundle_that_is_damaged_is_served_on_and_made_again(
    lake: Path, service: RunningService
) -> None:
    path = lake / "serving" / live(lake) / "user_tracks.npy"
    content = path.read_bytes()
    # Beside it and renamed, as a restore or a sync does: what a service has mapped stays what it was.
    spoilt = path.with_name("spoilt")
    spoilt.write_bytes(content[:-4] + b"\xff\xff\xff\x7f")
    spoilt.replace(path)
    said = complaint(tunegraph("refresh", "--source", "none", "--lake", lake))
    assert str(path) in said
    assert "tunegraph verify --repair" in said
    assert f"serving/{live(lake)}/user_tracks.npy" in tunegraph("verify", "--lake", lake).stdout
    assert tunegraph("verify", "--repair", "--lake", lake).returncode == 0
    assert service.get("/health").status_code == 200
    assert tunegraph("refresh", "--source", "none", "--lake", lake).returncode == 0
    assert path.read_bytes() == content
    recovers(lake, service)


# --- two at once ---


def test_of_two_refreshes_at_once_the_second_says_who_the_first_is(
    lake: Path, service: RunningService
) -> None:
    first = subprocess.Popen(
        [*LEAN, "refresh", "--source", "none", "--lake", str(lake)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=UNRECORDED,
    )
    while not (lake / ".lock.holder.json").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # or it might be done before the second one has looked
    said = complaint(tunegraph("refresh", "--source", "none", "--lake", lake))
    assert f"tunegraph refresh (process {first.pid} on" in said
    done = tunegraph("verify", "--lake", lake)
    assert done.returncode == 0
    assert f"(process {first.pid} on" in done.stdout
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    recovers(lake, service)


# --- the clock ---


def test_a_clock_that_was_set_back_loses_nothing(lake: Path, service: RunningService, tmp_path: Path) -> None:
    """By the clock the lake received lists tomorrow; seen from there, the clock was set back a day."""
    today = datetime.now(UTC).date()
    tomorrow = today + timedelta(days=1)
    row = pl.DataFrame({"user_id": ["rock1"], "track_id": ["rock-1"]})
    likes = row.with_columns(liked_at=pl.lit(None, pl.Datetime("us", "UTC")))
    write_batch(Lake.open(lake).raw, tomorrow, RawBatch("files", "tomorrow.csv", likes=likes))
    received = raw(lake)
    done = tunegraph("import", more_likes(tmp_path / "more.csv"), "--lake", lake)
    assert done.returncode == 0
    assert (
        f"the lake has received lists dated {tomorrow}, but this machine's clock says {today}" in done.stderr
    )
    done = tunegraph("refresh", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert f"the lake has received lists dated {tomorrow}" in done.stderr
    assert received.items() <= raw(lake).items()
    # What is received today is in the tables, and tomorrow's lists wait for their day.
    assert pl.read_parquet(lake / "likes" / f"dt={today}" / "data.parquet")["track_id"].n_unique() >= 240
    assert not (lake / "likes" / f"dt={tomorrow}").exists()
    assert tunegraph("verify", "--lake", lake).returncode == 0
    service.wait_for(lambda: service.get("/version").json()["bundle_version"] == live(lake))


def test_a_lake_of_days_to_come_alone_says_so(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    row = pl.DataFrame({"user_id": ["ana"], "track_id": ["song"]})
    likes = row.with_columns(liked_at=pl.lit(None, pl.Datetime("us", "UTC")))
    write_batch(lake.raw, tomorrow, RawBatch("files", "tomorrow.csv", likes=likes))
    said = complaint(tunegraph("refresh", "--lake", lake.root))
    assert f"received its data on {tomorrow}" in said
    assert "check the clock" in said
