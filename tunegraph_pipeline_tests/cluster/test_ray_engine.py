"""Ray gives what the loop in this process gives, whatever dies, and says in one line what it cannot use."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from tunegraph_pipeline.engine.engine import ADDRESS_VARIABLE, ENGINE_VARIABLE, EngineSettings, Input
from tunegraph_pipeline.engine.local import LOCAL
from tunegraph_pipeline.engine.ray import RayEngine
from tunegraph_pipeline.engine.workspace import FolderWorkspace
from tunegraph_pipeline.errors import EngineError, InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.pipeline import co_like_matrix, current_likes, like_graph
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline_tests.cluster.blocks import (
    STUCK_VARIABLE,
    pools,
    refused,
    scaled,
    stuck,
    stuck_on_some_nodes,
)
from tunegraph_pipeline_tests.cluster.ray_cluster import RayCluster, RayNode, free_port, ray_cluster

__all__ = ["ray_cluster"]

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("blank_plots")]

USERS, TRACKS, MEAN = 9_000, 4_200, 15
DAYS = [date(2026, 3, 1) + timedelta(days=n) for n in range(3)]
STAGES = (
    "current_likes",
    "track_ids",
    "catalogue",
    "like_graph",
    "co_like_matrix",
    "trained_model",
    "serving_bundle",
    "user_recommendations",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "current_likes": {"cut_off": DAYS[-1].isoformat()},
    # Chance made the lists, and there is next to nothing to learn from them.
    "serving_bundle": {"override": "a test"},
}
VALUES = {"values": np.arange(5.0)}


@pytest.fixture(scope="module", autouse=True)
def small_tasks() -> Iterator[None]:
    """Ranges of users so small that this lake has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current_likes, "_FEWEST_ROWS_A_RANGE", 10_000)
        patch.setattr(like_graph, "_FEWEST_ROWS", 10_000)
        patch.setattr("tunegraph_pipeline.lake.parquet.GROUP_ROWS", 8_000)
        yield


@pytest.fixture
def engine(ray_cluster: RayCluster, tmp_path: Path) -> Iterator[RayEngine]:
    with RayEngine(settings(ray_cluster), FolderWorkspace.below(tmp_path / "staging")) as made:
        yield made


@pytest.fixture
def alone() -> Iterator[None]:
    """This process is in no cluster, before and afterwards."""
    import ray

    ray.shutdown()
    yield
    ray.shutdown()


def settings(cluster: RayCluster, **others: Any) -> EngineSettings:
    return EngineSettings(kind="ray", address=cluster.address, **others)


# --- any blocks ---


def test_results_come_in_the_order_of_the_blocks(engine: RayEngine) -> None:
    blocks = [3, 1, 2, *range(20)]
    expected = [found.array("values").tolist() for found in LOCAL.run(scaled, blocks, VALUES)]
    assert [found.array("values").tolist() for found in engine.run(scaled, blocks, VALUES)] == expected


def test_libraries_have_one_thread_in_a_task(engine: RayEngine) -> None:
    for parcel in engine.run(pools, range(2), {}):
        assert len(parcel.array("threads")) > 1
        assert parcel.array("threads").max() == 1


def test_what_a_block_raises_is_raised_here_and_nothing_is_left(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    with (
        pytest.raises(InputError, match=r"^block 1 of 5 values is refused$"),
        RayEngine(settings(ray_cluster), FolderWorkspace.below(tmp_path)) as engine,
    ):
        list(engine.run(refused, range(4), VALUES))
    assert not [*tmp_path.iterdir()]


def test_tasks_of_a_node_that_dies_run_elsewhere(
    ray_cluster: RayCluster, engine: RayEngine, tmp_path: Path
) -> None:
    doomed = ray_cluster.add_worker(environment={STUCK_VARIABLE: "1"})
    killer = when_marked(tmp_path, doomed.kill)
    shared: dict[str, Input] = {**VALUES, "marks": str(tmp_path)}
    found = [one.array("values").tolist() for one in engine.run(stuck_on_some_nodes, range(12), shared)]
    killer.join()
    assert found == [one.array("values").tolist() for one in LOCAL.run(scaled, range(12), VALUES)]
    assert doomed.process.poll() is not None


def test_a_task_that_is_lost_too_often_is_told_in_a_line(ray_cluster: RayCluster, tmp_path: Path) -> None:
    def kill_it() -> None:
        psutil.Process(int(next(tmp_path.glob("[0-9]*")).name)).kill()

    killer = when_marked(tmp_path, kill_it)
    with (
        pytest.raises(EngineError, match="lost with its node or process") as raised,
        RayEngine(settings(ray_cluster, retries=0), FolderWorkspace.below(tmp_path / "s")) as engine,
    ):
        list(engine.run(stuck, [0], {"marks": str(tmp_path)}))
    killer.join()
    assert "\n" not in str(raised.value)


def test_an_interrupt_ends_the_tasks_and_leaves_nothing(ray_cluster: RayCluster, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    killer = when_marked(tmp_path, lambda: os.kill(os.getpid(), signal.SIGINT))
    with (
        pytest.raises(KeyboardInterrupt),
        RayEngine(settings(ray_cluster), FolderWorkspace.below(tmp_path / "staging")) as engine,
    ):
        list(engine.run(stuck, range(8), {"marks": str(tmp_path)}))
    killer.join()
    pids = [int(mark.name) for mark in tmp_path.glob("[0-9]*")]
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), f"processes {pids} of cancelled tasks run on")
    assert not [*(tmp_path / "staging").iterdir()]
    assert signal.getsignal(signal.SIGTERM) is before


# --- the stages ---


@pytest.fixture(scope="module")
def empty_of_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three days of lists."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("received") / "lake")
    lake.admit_source("files")
    rng = np.random.default_rng(5)
    lake.set_section("training", {"dimension": 16, "epochs": 1, "memory_mib": 64, "ridge_neighbours": 10})
    lake.set_section("engine", {"blocks": 6})
    for number, day in enumerate(DAYS):
        users = np.arange(number, USERS, len(DAYS))
        of = np.repeat(users, rng.geometric(1 / MEAN, len(users)))
        pairs = np.unique(of * TRACKS + (TRACKS * rng.random(len(of)) ** 2).astype(np.int64))
        write_day(lake, day.isoformat(), users, pairs // TRACKS, pairs % TRACKS)
    return lake.root


def write_day(lake: Lake, day: str, users: Any, of: Any, liked: Any) -> None:
    ids = pl.Series("user_id", [f"u{user:06d}" for user in range(USERS)])
    tracks = pl.Series("track_id", [f"t{track:05d}" for track in range(TRACKS)])
    at = pl.lit(None, pl.Datetime("us", "UTC"))
    likes = pl.DataFrame([ids.gather(of), tracks.gather(liked)])
    place = pl.lit(None, pl.Int32)
    likes = likes.with_columns(liked_at=at, position=place, source=pl.lit("files"))
    lake.write("likes", day, likes.select(empty_table("likes").columns))
    lengths = np.bincount(of, minlength=USERS)[users].astype(np.int32)
    hashes = pl.Series([f"{user:016x}" for user in users.tolist()])
    seen = pl.DataFrame({"user_id": ids.gather(users), "n_likes": lengths, "list_hash": hashes})
    seen = seen.with_columns(source=pl.lit("files"))
    lake.write("observations", day, seen.select(empty_table("observations").columns))
    described = pl.DataFrame({"track_id": tracks, "name": "Song " + tracks, "source": "files"})
    lake.write(
        "tracks",
        day,
        pl.concat([empty_table("tracks"), described], how="diagonal_relaxed").select(
            empty_table("tracks").columns
        ),
    )
    for table in ("audio_features", "redirects", "feedback", "users"):
        lake.write(table, day, empty_table(table))


def refreshed(source: Path, root: Path, stages: Sequence[str] = STAGES) -> Path:
    """The lake, copied to ``root``, after these stages: all that run blocks and those between them."""
    shutil.copytree(source, root)
    for name in stages:
        stage(name).run(Lake.open(root), **OPTIONS.get(name, {}))
    return root


@pytest.fixture(scope="module")
def local(empty_of_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refreshed(empty_of_results, tmp_path_factory.mktemp("local") / "lake")


def on_ray(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv(ADDRESS_VARIABLE, cluster.address)


def test_a_refresh_on_ray_leaves_the_lake_of_one_machine(
    ray_cluster: RayCluster,
    empty_of_results: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_ray(ray_cluster, monkeypatch)
    assert differences(refreshed(empty_of_results, tmp_path / "lake"), local) == []


def test_a_node_killed_in_the_middle_of_a_stage_changes_nothing(
    ray_cluster: RayCluster,
    empty_of_results: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_ray(ray_cluster, monkeypatch)
    doomed = ray_cluster.add_worker()
    monkeypatch.setattr(co_like_matrix, "report_progress", killing(doomed))
    root = refreshed(empty_of_results, tmp_path / "lake", STAGES[:5])
    assert differences(root, local, ("current_likes", "like_graph", "co_like")) == []
    assert doomed.process.poll() is not None


def killing(node: RayNode) -> Callable[[str, int, int], None]:
    return lambda *_: node.kill() if node.process.poll() is None else None


def differences(root: Path, other: Path, folders: Sequence[str] | None = None) -> list[str]:
    """The arrays of two lakes that are not the same to the byte, and the tables with other rows; of these
    folders of the lake alone, if any are given."""
    mine, theirs = Lake.open(root), Lake.open(other)
    found = []
    below = [other] if folders is None else [other / folder for folder in folders]
    arrays = [path.relative_to(other) for folder in below for path in folder.rglob("*.npy")]
    assert len(arrays) > 10
    for path in arrays:
        there = root / path
        if not there.exists() or there.read_bytes() != (other / path).read_bytes():
            found.append(str(path))
    for table in TABLES:
        if folders is not None and table not in folders:
            continue
        for key in theirs.partitions(table):
            if key not in mine.partitions(table) or not mine.read(table, key).equals(theirs.read(table, key)):
                found.append(f"{table} {key}")
            elif mine.inputs_of(table, key) != theirs.inputs_of(table, key):
                found.append(f"inputs of {table} {key}")
    return found


# --- what cannot be used ---


@pytest.mark.usefixtures("alone")
def test_a_cluster_that_is_not_there_is_told_in_a_line(
    empty_of_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(empty_of_results, tmp_path / "lake")
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv(ADDRESS_VARIABLE, f"127.0.0.1:{free_port()}")
    with pytest.raises(EngineError, match="no Ray cluster at 127") as raised:
        stage("current_likes").run(Lake.open(tmp_path / "lake"), **OPTIONS["current_likes"])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lake" / "current_likes").exists()
    assert not [*(tmp_path / "lake" / ".staging").glob("*")]


@pytest.mark.usefixtures("alone")
def test_a_cluster_of_another_version_is_told_in_a_line(
    ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.__version__", "1.2.3")
    says(EngineError, "of another version", ray_cluster, tmp_path)


@pytest.mark.usefixtures("alone")
def test_a_node_without_the_package_is_told_in_a_line(
    ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # Ray lets tasks import from the working directory of the driver, too
    bare = tmp_path / "bare" / "tunegraph_pipeline"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'tunegraph_pipeline'\")")
    node = ray_cluster.add_worker(environment={"PYTHONPATH": str(bare.parent)})
    try:
        says(EngineError, f"the Ray node {node.ip} lacks tunegraph-pipeline", ray_cluster, tmp_path)
    finally:
        node.kill()


def says(kind: type[Exception], what: str, cluster: RayCluster, folder: Path) -> None:
    """Check that a step fails with one line, and that nothing is left below ``folder``."""
    staging = folder / "staging"
    with (
        pytest.raises(kind, match=what) as raised,
        RayEngine(settings(cluster), FolderWorkspace.below(staging)) as engine,
    ):
        list(engine.run(scaled, range(3), VALUES))
    assert "\n" not in str(raised.value)
    assert not staging.exists()


# --- waiting ---


def when_marked(folder: Path, act: Callable[[], object]) -> threading.Thread:
    """A thread that acts as soon as a block has left a mark in ``folder``."""

    def watch() -> None:
        wait_until(lambda: any(folder.glob("[0-9]*")), "no block began")
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.1)
