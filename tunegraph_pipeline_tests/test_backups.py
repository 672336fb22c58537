"""`tunegraph lock`, and a back-up that is taken with it while a lake is refreshed again and again."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.bundle import current_version
from tunegraph_pipeline_tests.conftest import THOROUGH
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.test_cli import TUNEGRAPH, complaint, tunegraph, tunegraph_process, two_scenes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

DAY = date(2026, 8, 3)
COPIES = 2 if THOROUGH else 1
WRITER = """
import sys, time
from datetime import date
from pathlib import Path
import polars as pl
from tunegraph_pipeline.evaluation import plots
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline_tests.run_stages import run_stages

plots._picture = lambda *_: b"PNG"
root, day, round = Path(sys.argv[1]), date.fromisoformat(sys.argv[2]), 0
while not (root.parent / "stop").exists():
    round += 1
    row = {"user_id": f"new{round}", "track_id": f"rock-{round % 24}", "liked_at": None}
    likes = pl.DataFrame([row], schema=empty_frame("likes").schema)
    lake = Lake.open(root)
    with lake.writing("the writer of the test"):
        lake.receive_files(day, [RawBatch("files", "test", likes=likes)])
        run_stages(lake, "refresh", day, day)
    (root.parent / "rounds").write_text(str(round))
    time.sleep(1.5)
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake that another process refreshes in a loop, each time with a new listener."""
    folder = tmp_path_factory.mktemp("busy")
    root = folder / "lake"
    likes = two_scenes(folder / "likes.csv")
    assert tunegraph("import", likes, "--as-of", DAY, "--lake", root).returncode == 0
    lake = Lake.open(root)
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    run_stages(lake, "refresh", DAY, DAY)
    with (folder / "log").open("w") as log:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, root, str(DAY)], stdout=log, stderr=log)
        try:
            yield root
        finally:
            (folder / "stop").touch()
            assert writer.wait(120) == 0, (folder / "log").read_text()


@pytest.fixture
def still(tmp_path: Path) -> Path:
    return Lake.open_or_create(tmp_path / "lake").root


def test_the_command_runs_while_the_lock_is_held_and_gives_its_code(still: Path) -> None:
    asked = ("lock", "--lake", still, "--", sys.executable, "-c")
    assert tunegraph(*asked, "import sys; sys.exit(7)").returncode == 7
    assert tunegraph(*asked, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == 137
    inner = ("lock", "--lake", still, "--wait", 0, "--", "true")
    second = complaint(tunegraph_process("lock", "--lake", still, "--", *TUNEGRAPH, *inner))
    assert "is being written by tunegraph lock, which runs" in second


def test_it_waits_for_a_writer_only_as_long_as_asked(still: Path, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom tunegraph_pipeline.lake.lock import write_lock\n"
            "with write_lock(Path(sys.argv[1]), 'a refresh'):\n print('held', flush=True)\n sys.stdin.read()",
            still,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    mark = tmp_path / "mark"
    try:
        refused = tunegraph("lock", "--lake", still, "--wait", 0, "--", "touch", mark)
        assert "is being written by a refresh" in complaint(refused)
        assert not mark.exists()
        threading.Timer(0.5, lambda: holder.stdin and holder.stdin.close()).start()
        assert tunegraph("lock", "--lake", still, "--", "touch", mark).returncode == 0
        assert mark.exists()
    finally:
        holder.kill()
        holder.wait()


def test_what_is_no_program_or_no_lake_is_a_line(still: Path, tmp_path: Path) -> None:
    unknown = complaint(tunegraph("lock", "--lake", still, "--", "rsink", "-a"))
    assert "there is no program 'rsink' to run" in unknown
    assert "there is no lake at" in complaint(tunegraph("lock", "--lake", tmp_path / "no", "--", "true"))


def rounds(lake: Path) -> int:
    told = lake.parent / "rounds"
    return int(told.read_text()) if told.exists() else 0


def test_a_lake_copied_under_the_lock_while_it_is_refreshed_is_whole(busy: Path, tmp_path: Path) -> None:
    seen = []
    for number in range(COPIES):
        before = rounds(busy)
        until = time.monotonic() + 120
        while rounds(busy) == before:
            assert time.monotonic() < until, (busy.parent / "log").read_text()
            time.sleep(0.05)
        time.sleep(1.6)  # into the middle of a refresh
        copy = tmp_path / f"copy {number}"
        done = tunegraph("lock", "--lake", busy, "--", "cp", "-a", busy, copy)
        assert done.returncode == 0, done.stderr
        (copy / ".lock.holder.json").unlink()  # as `rsync --exclude` leaves it out
        verified = tunegraph("verify", "--lake", copy)
        assert verified.stdout.startswith("nothing is damaged"), verified.stdout
        lake = Lake.open(copy)
        live = current_version(lake.serving)
        made = run_stages(lake, "refresh", DAY, DAY)
        assert {made[one].how for one in ("like_graph", "co_like_matrix", "trained_model")} == {"reused"}
        assert current_version(lake.serving) == live
        seen.append(live)
    assert len(set(seen)) == COPIES
