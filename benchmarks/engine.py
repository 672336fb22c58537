"""What Ray costs beside the loop in one process, and what a second node brings: stage by stage.

    python benchmarks/engine.py --folder FOLDER [--likes 5e6]

It makes the lake of `benchmarks/scale.py`, and runs lists, like graph, co-likes and the neighbour weights of
its most liked tracks here, on one node of a Ray cluster, on two, and on two of which one is killed (-9) in
the middle of the co-likes. It compares the results byte by byte (tables row by row), and the processor time,
with that of all processes of the cluster. Last, tasks of more than a second on one node and on two.

Exits 1 where a result differs, Ray takes more than 15 % more processor time in all, or two nodes are less
than 1.7 times as fast as one. Needs two free cores.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.scale import DAYS, FIRST, invent
from tunegraph_pipeline.engine.engine import ADDRESS_VARIABLE, ENGINE_VARIABLE, EngineSettings, engine_of
from tunegraph_pipeline.engine.ray import RayEngine
from tunegraph_pipeline.engine.workspace import FolderWorkspace
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.training.neighbour_weights import local_ridge
from tunegraph_pipeline_tests.cluster.blocks import busy
from tunegraph_pipeline_tests.cluster.ray_cluster import RayCluster, running_cluster

STAGES = ("current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix", "weights")
ON_ENGINES = ("current_likes", "like_graph", "co_like_matrix", "weights")
RESULTS = {"current_likes": ("current_likes", "last_observations"), "weights": ("weights",)}
RESULTS |= {"like_graph": ("like_graph",), "co_like_matrix": ("co_like",)}
MOST_OVERHEAD, LEAST_SPEEDUP = 0.15, 1.7
_WEIGHED_TRACKS = 40_000
"""Of how many tracks the weights are solved: enough for many groups."""
_LONG_TASKS = 24


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--likes", type=float, default=5e6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stage", nargs=2, metavar=("LAKE", "STAGE"), help=argparse.SUPPRESS)
    parser.add_argument("--kill", type=int, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(Path(arguments.stage[0]), arguments.stage[1], arguments.kill or [])
        return 0
    source = arguments.folder / "received"
    if not (source / "lake.json").exists():
        invent(source, int(arguments.likes))
    found = {"here": all_stages(arguments.folder, source, "here", None)}
    for way, workers, killed in (("one node", 0, False), ("two nodes", 1, False), ("a node killed", 1, True)):
        with running_cluster(workers=workers) as cluster:
            found[way] = all_stages(arguments.folder, source, way, cluster, killed=killed)
            if way == "two nodes":
                two = long_tasks(cluster, arguments.folder)
            elif way == "one node":
                one = long_tasks(cluster, arguments.folder)
    return report(found, one / two)


# --- stages ---


def all_stages(
    folder: Path, source: Path, way: str, cluster: RayCluster | None, *, killed: bool = False
) -> dict[str, dict[str, Any]]:
    """Run the stages on a copy of the lake; of each the seconds, processor seconds and a hash."""
    root = folder / way.replace(" ", "-")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root)
    costs = {}
    for name in STAGES:
        environment = {ENGINE_VARIABLE: "local"}
        command = [sys.executable, __file__, "--folder", str(folder), "--stage", str(root), name]
        if cluster is not None:
            environment = {ENGINE_VARIABLE: "ray", ADDRESS_VARIABLE: cluster.address}
            if killed and name == "co_like_matrix":
                command += ["--kill", *(str(one.pid) for one in cluster.nodes[1].processes())]
        start = time.perf_counter()
        with sampled(cluster) as on_nodes:
            done = subprocess.run(
                command, check=True, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
            )
        wall = time.perf_counter() - start
        cpu = json.loads(done.stdout.splitlines()[-1])["cpu"] + sum(on_nodes.values())
        costs[name] = {"wall": wall, "cpu": cpu, "hash": hashed(root, name)}
        print(f"  {way}, {name}: {costs[name]}", file=sys.stderr, flush=True)
    shutil.rmtree(root)
    return costs


@contextmanager
def sampled(cluster: RayCluster | None) -> Iterator[dict[int, float]]:
    """The processor time that each process of a cluster takes in the block, known at its end. Sampled, since
    Ray's processes end with the driver, and nobody is told what they took."""
    before, taken, over = processor_seconds(cluster), dict[int, float](), threading.Event()

    def sample() -> None:
        while not over.wait(0.2):
            taken.update(
                (pid, seconds - before.get(pid, 0.0)) for pid, seconds in processor_seconds(cluster).items()
            )

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield taken
    finally:
        over.set()
        sampler.join()


def processor_seconds(cluster: RayCluster | None) -> dict[int, float]:
    """The processor time of each process of a cluster until now."""
    found = {}
    for node in cluster.nodes if cluster else []:
        for process in node.processes():
            with suppress(psutil.NoSuchProcess):
                found[process.pid] = sum(process.cpu_times()[:2])
    return found


def run_stage(root: Path, name: str, doomed: list[int]) -> None:
    """Run a stage in this process, and kill ``doomed`` as soon as it reports progress; prints its cost."""

    def watch(*_: object) -> None:
        for pid in doomed:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
        doomed.clear()

    start = time.process_time()
    lake = Lake.open(root)
    with watched_by(watch):
        if name == "weights":
            weights(lake)
        else:
            last = (FIRST + (DAYS - 1) * (FIRST.resolution)).isoformat()
            stage(name).run(lake, **({"cut_off": last} if name == "current_likes" else {}))
    print(json.dumps({"cpu": time.process_time() - start}))


def weights(lake: Lake) -> None:
    """Solve the neighbour weights of the most liked tracks, and keep them in the lake's folder."""
    graph = LikeGraph.from_arrays(ArrayFolder.open(lake.current_folder("like_graph")))
    degrees = graph.track_degrees()
    liked = np.sort(np.argsort(-degrees, kind="stable")[:_WEIGHED_TRACKS])
    likes = graph.matrix()[:, liked].tocsr()
    with engine_of(lake) as engine:
        near = strongest_neighbours(likes, 50, engine=engine)
        W = local_ridge(likes, near, regularisation=8.0, memory_mib=512, engine=engine)
    folder = lake.root / "weights"
    folder.mkdir()
    for part in ("indptr", "indices", "data"):
        np.save(folder / f"{part}.npy", getattr(W, part))


def hashed(root: Path, name: str) -> str:
    """A hash of what a stage wrote: arrays by their bytes, tables by their rows."""
    digest, lake = hashlib.sha256(), Lake.open(root)
    for folder in RESULTS.get(name, ()):
        for path in sorted((root / folder).rglob("*.npy")):
            digest.update(path.read_bytes())
        for path in sorted((root / folder).rglob("*.parquet")):
            key = path.parent.name.partition("=")[2]
            for block in lake.read_in_blocks(folder, key):
                digest.update(np.ascontiguousarray(block.hash_rows(1).to_numpy()).data)
    return digest.hexdigest()[:12]


# --- tasks of a second and more ---


def long_tasks(cluster: RayCluster, folder: Path) -> float:
    """The seconds that many products of a second each take, without those to start the processes."""
    import ray

    settings = EngineSettings(kind="ray", address=cluster.address)
    with RayEngine(settings, FolderWorkspace.below(folder)) as engine:
        list(engine.run(busy, [0.2] * 6, {}))
        start = time.perf_counter()
        list(engine.run(busy, [1.5] * _LONG_TASKS, {}))
        seconds = time.perf_counter() - start
    ray.shutdown()
    return seconds


def report(found: dict[str, dict[str, dict[str, Any]]], speedup: float) -> int:
    """Print the table and the verdict; returns how this program exits."""
    ways = list(found)
    rows, wrong = [], []
    for name in ON_ENGINES:
        costs = [found[way][name] for way in ways]
        same = len({cost["hash"] for cost in costs}) == 1
        wrong += [] if same else [f"{name} differs"]
        rows.append(
            [name]
            + [f"{cost['wall']:.1f}" for cost in costs]
            + [f"{cost['cpu']:.1f}" for cost in costs]
            + ["equal" if same else "differs"]
        )
    heads = [f"seconds, {way}" for way in ways] + [f"processor seconds, {way}" for way in ways]
    print("\n" + markdown_table(["stage", *heads, "results"], rows, words=1))
    total = {way: sum(found[way][name]["cpu"] for name in ON_ENGINES) for way in ways}
    for way in ways[1:-1]:
        overhead = total[way] / total["here"] - 1
        print(f"{way}: {overhead:+.1%} processor time")
        wrong += [f"{way} costs too much"] if overhead > MOST_OVERHEAD else []
    print(f"tasks of 1.5 seconds: two nodes are {speedup:.2f} times as fast as one")
    wrong += ["two nodes are too slow"] if speedup < LEAST_SPEEDUP else []
    print("; ".join(wrong) or "all as asked")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
