"""Ray on a lake in an object store: nodes that share no folder exchange parcels through the store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.kills import World, comparisons
from tunegraph_pipeline.engine.engine import ADDRESS_VARIABLE, ENGINE_VARIABLE, EngineSettings, Files
from tunegraph_pipeline.engine.ray import RayEngine
from tunegraph_pipeline.engine.store_workspace import StoreWorkspace
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import build_co_like
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.object_store import Address, ObjectStore
from tunegraph_pipeline.lake.snapshots import WORK, Node, check, send
from tunegraph_pipeline.pipeline import co_like_matrix, current_likes, like_graph
from tunegraph_pipeline_tests.cluster import object_store as stores
from tunegraph_pipeline_tests.cluster.blocks import read_there
from tunegraph_pipeline_tests.cluster.ray_cluster import RayCluster
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = pytest.mark.cluster


@pytest.fixture
def address(object_store: stores.ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    for name, value in {**object_store.variables, "TUNEGRAPH_CACHE": str(tmp_path / "driver")}.items():
        monkeypatch.setenv(name, value)
    return Address.of(object_store.url())


def node(store: stores.ObjectStore, cache: Path) -> dict[str, str]:
    """The environment of a node whose cache nobody else has."""
    return {**store.variables, "TUNEGRAPH_CACHE": str(cache)}


@pytest.fixture(scope="module")
def apart(
    object_store: stores.ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RayCluster, list[Path]]]:
    """A head and a worker that share no folder, and their caches."""
    caches = [tmp_path_factory.mktemp(name) for name in ("head", "worker")]
    cluster = RayCluster(environment=node(object_store, caches[0]))
    try:
        cluster.add_worker(environment=node(object_store, caches[1]))
        yield cluster, caches
    finally:
        cluster.end()


def in_cache(cache: Path) -> list[Path]:
    """What is left of parcels in the cache of a machine."""
    return [path for path in cache.glob(f"*/{WORK}/**/*") if path.is_file()]


def test_nodes_without_a_common_folder_work_through_the_store(
    apart: tuple[RayCluster, list[Path]], address: Address, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    pairs = np.unique(rng.integers(0, 400 * 90, 4000))
    likes = csr_matrix((np.ones(len(pairs), np.float32), (pairs // 90, pairs % 90)), shape=(400, 90))
    build_co_like(likes, tmp_path / "here")
    (tmp_path / "files" / "a").mkdir(parents=True)
    names = [f"a/{number}" for number in range(12)]
    for name in names:
        (tmp_path / "files" / name).write_text(f"content of {name}")
    cluster, caches = apart
    settings = EngineSettings(kind="ray", address=cluster.address)
    with RayEngine(settings, StoreWorkspace.at(address)) as engine:
        files = {"files": Files(tmp_path / "files", tuple(names))}
        found = list(engine.run(read_there, names, files))
        build_co_like(likes, tmp_path / "there", engine=engine)
    assert [one.array("content").tobytes().decode() for one in found] == [
        f"content of {name}" for name in names
    ]
    assert {one.strings("where")[0] for one in found} <= set(map(str, caches))
    for path in (tmp_path / "here").glob("*.npy"):
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
    assert not [key for key in ObjectStore(address).listing() if key.startswith(WORK)]
    assert not [left for cache in (*caches, tmp_path / "driver") for left in in_cache(cache)]


def test_what_a_killed_engine_left_is_removed_by_the_next(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = StoreWorkspace.at(address), tmp_path / "other"
    killed.prepare()
    killed.put("parcel", {"array": np.arange(3)})
    monkeypatch.setenv("TUNEGRAPH_CACHE", str(other))
    array = killed.get("parcel")["array"]
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [0, 1, 2]
    assert in_cache(other)
    following = StoreWorkspace.at(address)
    following.prepare()
    assert not ObjectStore(address).listing(f"{WORK}/")
    following.put("parcel", {"array": np.arange(4)})
    following.get("parcel")
    assert not [path for path in in_cache(other) if killed.room in path.parts]
    with pytest.raises(FileNotFoundError):
        killed.get("parcel")


def test_a_parcel_that_was_damaged_in_the_store_is_refused(
    object_store: stores.ObjectStore, address: Address
) -> None:
    import obstore

    workspace = StoreWorkspace.at(address)
    workspace.put("parcel", {"array": np.arange(3)})
    key = next(key for key in ObjectStore(address).listing(f"{WORK}/") if key.endswith("array.npy"))
    data = bytearray(ObjectStore(address).read(key)[0])
    data[-1] ^= 1
    obstore.put(object_store.client(), f"{address.prefix}/{key}", bytes(data))
    with pytest.raises(LakeError, match="does not match its checksum"):
        workspace.get("parcel")
    assert not in_cache(Node.at(address).base.parent)


@pytest.mark.usefixtures("blank_plots")
def test_a_refresh_whose_head_dies_is_finished_on_the_next_cluster_as_in_a_folder(
    object_store: stores.ObjectStore,
    on_node: Callable[[str, str], Path],
    apart: tuple[RayCluster, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(current_likes, "_FEWEST_ROWS_A_RANGE", 100)
    monkeypatch.setattr(like_graph, "_FEWEST_ROWS", 100)
    monkeypatch.setattr("tunegraph_pipeline.lake.parquet.GROUP_ROWS", 100)
    world = World(40, 50, 1, {"dimension": 4, "epochs": 1, "encoder": "none"})
    url, folder = object_store.url(), world.lake(tmp_path / "folder")
    refresh = ("refresh", "--source", "none", "--lake")
    assert tunegraph(*refresh, folder.root).returncode == 0
    root = on_node(url, "driver")
    world.lake(root).set_section("engine", {"blocks": 3})
    send(root)
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    doomed = RayCluster(environment=node(object_store, tmp_path / "head"))
    try:
        monkeypatch.setenv(ADDRESS_VARIABLE, doomed.address)
        with monkeypatch.context() as patch:
            patch.setattr(co_like_matrix, "report_progress", lambda *_: doomed.head.kill())
            line = complaint(tunegraph(*refresh, url))
        assert f"the head of the Ray cluster at {doomed.address} is lost" in line
    finally:
        doomed.end()
    lake = Lake.open(on_node(url, "reader"))
    assert lake.has_current("like_graph")
    assert not lake.has_current("co_like")
    assert not (lake.root / "co_like").exists()
    assert check(lake.root)[0] == []

    on_node(url, "driver")
    cluster, caches = apart
    monkeypatch.setenv(ADDRESS_VARIABLE, cluster.address)
    done = tunegraph(*refresh, url)
    assert done.returncode == 0, done.stderr
    lake = Lake.open(on_node(url, "reader"))
    compared = dict(comparisons(folder, lake))
    assert [what for what, same in compared.items() if not same] == []
    assert any("arrays of serving" in what for what in compared)
    assert not [key for key in ObjectStore(Address.of(url)).listing() if key.startswith(WORK)]
    assert not [left for cache in (*caches, tmp_path / "driver") for left in in_cache(cache)]
    assert tunegraph("verify", "--lake", url).returncode == 0
