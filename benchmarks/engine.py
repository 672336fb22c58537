"""What Ray costs beside the loop in one process, and what a second node brings: stage by stage.

    python benchmarks/engine.py --folder FOLDER [--likes 5e6] [--rounds 3]

It makes the lake of `benchmarks/scale.py`, and runs lists, like graph, co-likes, the neighbour weights of
its most liked tracks and the recommendations of its first users: here, on one node of a Ray cluster, on two,
and on two of which one is killed (-9) in the middle of the co-likes. It compares the results byte by byte
(tables row by row), and the processor time, with that of all processes of the cluster. Last, tasks of more
than a second on one node and on two.

Each of the ways is run in every round, and of a stage its least cost counts: the rest is other work of the
machine. Libraries have one thread in each process, as in tasks: a second one mostly waits busily. `start` is
to join the cluster and to start a process on each node, which costs the same at any number of likes.

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
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from benchmarks.scale import LAST, invent, invented_model
from tunegraph_pipeline.engine.engine import (
    ADDRESS_VARIABLE,
    ENGINE_VARIABLE,
    EngineSettings,
    Files,
    engine_of,
)
from tunegraph_pipeline.engine.ray import RayEngine
from tunegraph_pipeline.engine.workspace import FolderWorkspace
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.graph.csr import offsets_of
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.bundle import bundle_content
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.user_recommendations import RangeOfUsers, recommendations_of_range
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.recommend.bundle import write_bundle
from tunegraph_pipeline.training.neighbour_weights import local_ridge
from tunegraph_pipeline_tests.cluster.blocks import busy, waiting
from tunegraph_pipeline_tests.cluster.ray_cluster import RayCluster, running_cluster

STEPS = (
    *("start", "current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix"),
    *("weights", "bundle", "recommendations"),
)
RESULTS: dict[str, tuple[str, ...]] = {
    "start": (),
    "current_likes": ("current_likes", "last_observations"),
    "like_graph": ("like_graph",),
    "co_like_matrix": ("co_like",),
    "weights": ("weights",),
    "recommendations": ("recommended",),
}
"""The steps that are reported, and the folders of the lake that have what each made."""
MOST_OVERHEAD, LEAST_SPEEDUP = 0.15, 1.7
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
_WEIGHED_TRACKS = 40_000
"""Of how many tracks the weights are solved: enough for many groups."""
_RANKED, _USERS_A_TASK = 4_096, 256
"""For how many users songs are ranked."""
_LONG_TASKS = 16


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--likes", type=float, default=5e6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--nodes", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lake:
        print(json.dumps(run_stages(arguments.lake, arguments.nodes, kill=arguments.kill)))
        return 0
    source = arguments.folder / "received"
    if not (source / "lake.json").exists():
        invent(source, int(arguments.likes))
    rounds = [one_round(arguments.folder, source) for _ in range(arguments.rounds)]
    found = {way: least([one[way] for one in rounds]) for way in rounds[0]}
    with running_cluster(workers=0) as cluster:  # in one go, as the machine may have other work
        one = long_tasks(cluster, arguments.folder)
        cluster.add_worker()
        two = long_tasks(cluster, arguments.folder)
    return report(found, {name: one[name] / two[name] for name in one})


# --- stages ---


def one_round(folder: Path, source: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The costs of all stages by each way."""
    found = {"here": all_stages(folder, source, "here", None)}
    for way, workers, killed in (("one node", 0, False), ("two nodes", 1, False), ("a node killed", 1, True)):
        with running_cluster(workers=workers) as cluster:
            found[way] = all_stages(folder, source, way, cluster, killed=killed)
    return found


def least(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of each stage its least costs, and all its hashes as one."""
    return {
        name: {
            "wall": min(one[name]["wall"] for one in rounds),
            "cpu": min(one[name]["cpu"] for one in rounds),
            "hash": "+".join(sorted({one[name]["hash"] for one in rounds})),
        }
        for name in rounds[0]
    }


def all_stages(
    folder: Path, source: Path, way: str, cluster: RayCluster | None, *, killed: bool = False
) -> dict[str, dict[str, Any]]:
    """Run the stages on a copy of the lake, in one process as a refresh does; of each the seconds, processor
    seconds and a hash."""
    root = folder / way.replace(" ", "-")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root)
    environment = {**_ONE_THREAD, ENGINE_VARIABLE: "local"}
    command = [sys.executable, __file__, "--folder", str(folder), "--lake", str(root)]
    if cluster is not None:
        environment |= {ENGINE_VARIABLE: "ray", ADDRESS_VARIABLE: cluster.address}
        command += ["--nodes", *(str(node.process.pid) for node in cluster.nodes)]
        command += ["--kill"] if killed else []
    done = subprocess.run(
        command, check=True, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    costs: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for name, cost in costs.items():
        cost["hash"] = hashed(root, name)
        print(f"  {way}, {name}: {cost}", file=sys.stderr, flush=True)
    shutil.rmtree(root)
    return costs


def run_stages(root: Path, nodes: list[int], *, kill: bool) -> dict[str, dict[str, float]]:
    """Run the stages in this process; of each the seconds and the processor seconds, with those of all
    processes of the ``nodes``. ``kill``: end the last node as soon as the co-likes report progress."""
    lake, costs = Lake.open(root), {}
    doomed = [nodes[-1]] if kill else []

    def watch(what: str, *_: object) -> None:
        if what == "co-likes" and doomed:
            node = psutil.Process(doomed.pop())
            for process in [node, *node.children(recursive=True)]:
                process.kill()

    for name in STEPS:
        start, before = time.perf_counter(), processor_seconds(nodes)
        with watched_by(watch):
            if name in NO_STAGES:
                NO_STAGES[name](lake)
            else:
                stage(name).run(lake, **({"cut_off": LAST.isoformat()} if name == "current_likes" else {}))
        after = processor_seconds(nodes)
        cpu = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
        costs[name] = {"wall": time.perf_counter() - start, "cpu": cpu}
    return costs


def processor_seconds(nodes: list[int]) -> dict[int, float]:
    """The processor time of this process, and of each process of the nodes, until now."""
    found = {os.getpid(): time.process_time()}
    for pid in nodes:
        with suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    found[process.pid] = sum(process.cpu_times()[:2])
    return found


def start(lake: Lake) -> None:
    """Join the cluster, if there is one, and start a process on each node, which imports what blocks need."""
    with engine_of(lake) as engine:
        for _ in engine.run(waiting, [0.1] * engine.blocks, {}):
            pass


def weights(lake: Lake) -> None:
    """Solve the neighbour weights of the most liked tracks, and keep them in the lake's folder."""
    graph = LikeGraph.from_arrays(ArrayFolder.open(lake.current_folder("like_graph")))
    degrees = graph.track_degrees()
    liked = np.sort(np.argsort(-degrees, kind="stable")[:_WEIGHED_TRACKS])
    likes = graph.matrix()[:, liked].tocsr()
    with engine_of(lake) as engine:
        near = strongest_neighbours(likes, 50, engine=engine)
        (W,) = local_ridge(likes, near, regularisations=(8.0,), memory_mib=512, engine=engine)
    lengths = np.zeros(graph.n_tracks, np.int64)
    lengths[liked] = np.diff(W.indptr)
    parts = {"indptr": offsets_of(lengths), "indices": liked[W.indices], "data": W.data}
    folder = lake.root / "weights"
    folder.mkdir()
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", part)


def bundle(lake: Lake) -> None:
    """Write a bundle of an invented model with those weights."""
    W = {part: np.load(lake.root / "weights" / f"{part}.npy") for part in ("indptr", "indices", "data")}
    model = invented_model(lake, neighbours=W)
    write_bundle(lake.serving / "invented", bundle_content(lake, model, read_catalogue(lake), "invented"))


def recommendations(lake: Lake) -> None:
    """Rank songs for the first users, some in a task, and keep them in the lake's folder."""
    files = Files.of(lake.serving / "invented", (lake.serving / "invented").iterdir())
    blocks = [RangeOfUsers(start, start + _USERS_A_TASK, 10) for start in range(0, _RANKED, _USERS_A_TASK)]
    with engine_of(lake) as engine:
        found = engine.run(recommendations_of_range, blocks, {"bundle": files})
        rows = pl.concat([ranked.frame("rows") for ranked in found])
    folder = lake.root / "recommended" / "invented=1"
    folder.mkdir(parents=True)
    np.save(folder / "rows.npy", rows.hash_rows(1).to_numpy())


NO_STAGES = {"start": start, "weights": weights, "bundle": bundle, "recommendations": recommendations}
"""Steps that are parts of stages, on a part of the tracks or users."""


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


def long_tasks(cluster: RayCluster, folder: Path) -> dict[str, float]:
    """The seconds that many tasks of 1.5 seconds each take, without those to start the processes: tasks that
    need a processor, and tasks that wait, which a machine with other work does not slow down."""
    import ray

    settings = EngineSettings(kind="ray", address=cluster.address)
    seconds = {}
    with RayEngine(settings, FolderWorkspace.below(folder)) as engine:
        for name, task in (("that calculate", busy), ("that wait", waiting)):
            list(engine.run(task, [0.2] * 6, {}))
            start = time.perf_counter()
            list(engine.run(task, [1.5] * _LONG_TASKS, {}))
            seconds[name] = time.perf_counter() - start
    ray.shutdown()
    return seconds


def report(found: dict[str, dict[str, dict[str, Any]]], speedups: dict[str, float]) -> int:
    """Print the table and the verdict; returns how this program exits."""
    ways = list(found)
    rows, wrong = [], []
    for name in RESULTS:
        costs = [found[way][name] for way in ways]
        same = len({cost["hash"] for cost in costs}) == 1
        wrong += [] if same else [f"{name} differs"]
        rows.append(
            [name]
            + [f"{cost['wall']:.1f}" for cost in costs]
            + [f"{cost['cpu']:.1f}" for cost in costs[:-1]]
            + ["equal" if same else "differs"]
        )
    heads = [f"seconds, {way}" for way in ways] + [f"processor seconds, {way}" for way in ways[:-1]]
    print("\n" + markdown_table(["stage", *heads, "results"], rows, words=1))
    total = {way: sum(found[way][name]["cpu"] for name in RESULTS) for way in ways}
    for way in ways[1:-1]:
        overhead = total[way] / total["here"] - 1
        later = (total[way] - found[way]["start"]["cpu"]) / total["here"] - 1
        print(f"{way}: {overhead:+.1%} processor time, {later:+.1%} without the start")
        wrong += [f"{way} costs too much"] if overhead > MOST_OVERHEAD else []
    for name, speedup in speedups.items():
        print(f"tasks of 1.5 seconds {name}: two nodes are {speedup:.2f} times as fast as one")
        wrong += [f"two nodes are too slow with tasks {name}"] if speedup < LEAST_SPEEDUP else []
    print("; ".join(wrong) or "all as asked")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
