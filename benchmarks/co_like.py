"""Top-100 co-like neighbours of every track against scipy and implicit, on the same generated likes.

    python benchmarks/co_like.py [--sizes 1,5,20] [--rounds N]

The task: the 100 nearest tracks of each track by the cosine of their co-likes, from a CSR in memory to a CSR
in memory. The peers: scipy's full product followed by the best 100 of each row, and implicit's
CosineRecommender. The contenders take turns, each in its own process, so that peak memory (the whole process,
interpreter included) is measured separately and a busy machine slows all alike; the best round counts.

Targets: at least as fast as the fastest peer at every size; at 20 million likes under 2.5 GB. Exits 1 when
one is missed or the contenders disagree about the neighbours.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

K = 100
MEMORY_TARGET_GB = 2.5  # at 20 million likes


def tunegraph(likes: "csr_matrix") -> "csr_matrix":
    from tunegraph_pipeline.graph.co_like import strongest_neighbours

    return strongest_neighbours(likes, K, item_exponent=0.5, user_exponent=0.0)


def scipy(likes: "csr_matrix") -> "csr_matrix":
    import numpy as np
    from scipy.sparse import csr_matrix, diags

    degrees = np.maximum(np.bincount(likes.indices, minlength=likes.shape[1]), 1)
    unit = (likes @ diags(degrees.astype(np.float32) ** -0.5)).tocsr()
    full = (unit.T @ unit).tocsr()
    indptr, columns, scores = [0], [], []
    for track in range(full.shape[0]):
        row = slice(full.indptr[track], full.indptr[track + 1])
        column, score = full.indices[row], full.data[row]
        other = column != track
        column, score = column[other], score[other]
        if len(score) > K:
            best = np.argpartition(-score, K - 1)[:K]
            column, score = column[best], score[best]
        columns.append(column)
        scores.append(score)
        indptr.append(indptr[-1] + len(column))
    return csr_matrix((np.concatenate(scores), np.concatenate(columns), indptr), shape=full.shape)


def implicit(likes: "csr_matrix") -> "csr_matrix":
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=K + 1)  # it counts a track among its own neighbours
    model.fit(likes, show_progress=False)
    similarity: csr_matrix = model.similarity
    similarity.setdiag(0)
    similarity.eliminate_zeros()
    return similarity


CONTENDERS: dict[str, Callable[["csr_matrix"], "csr_matrix"]] = {
    "tunegraph": tunegraph,
    "implicit": implicit,
    "scipy": scipy,
}


def run_contender(name: str, folder: Path) -> dict[str, Any]:
    """Run in the child: time one contender; peak memory is that of this process up to its answer."""
    import numpy as np
    from scipy.sparse import csr_matrix

    indptr, indices, shape = (np.load(folder / f"{part}.npy") for part in ("indptr", "indices", "shape"))
    likes = csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=tuple(shape))
    CONTENDERS[name](csr_matrix(np.ones((2, 2), dtype=np.float32)))  # imports are not timed
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        found = CONTENDERS[name](likes)
    except MemoryError:
        return {"failed": "out of memory"}
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_gb": peak / 1e9,
        "nnz": found.nnz,
        "sum": float(found.data.sum(dtype=float)),
    }


def in_child(script: Path, *arguments: str, memory_gib: float | None = None) -> dict[str, Any]:
    def limit() -> None:
        if memory_gib is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(memory_gib * 2**30),) * 2)

    answer = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # implicit asks for it; no contender uses BLAS
    )
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def compare(millions: float, rounds: int | None, memory_gib: float) -> list[str]:
    """Run every contender at one size, print the comparison, return the targets missed."""
    best: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        in_child(Path(__file__).with_name("likes.py"), str(int(millions * 1e6)), folder)
        for _ in range(rounds or max(2, round(5 / millions))):
            for name in CONTENDERS:
                if "failed" in best.get(name, {}):
                    continue
                run = in_child(Path(__file__), "--contender", name, "--folder", folder, memory_gib=memory_gib)
                if "failed" in run or run["seconds"] < best.get(name, run | {"seconds": 1e9})["seconds"]:
                    best[name] = run
    ours = best["tunegraph"]
    peers = {name: run for name, run in best.items() if name != "tunegraph" and "failed" not in run}
    fastest = min(peers, key=lambda name: float(peers[name]["seconds"]))
    ratio = peers[fastest]["seconds"] / ours["seconds"]
    print(f"{ratio:.2f}x as fast as {fastest}, the fastest peer, at {millions:g} million likes")
    for name, run in best.items():
        took = (
            run.get("failed")
            or f"{run['seconds']:8.2f} s   cpu {run['cpu_seconds']:8.2f} s   peak {run['peak_gb']:5.2f} GB"
        )
        print(f"    {name:10} {took}{f' within {memory_gib:g} GiB' if 'failed' in run else ''}")
    missed = []
    if ratio < 1:
        missed.append(f"slower than {fastest} at {millions:g} million likes")
    if millions >= 20 and ours["peak_gb"] >= MEMORY_TARGET_GB:
        missed.append(f"{ours['peak_gb']:.2f} GB at {millions:g} million likes; {MEMORY_TARGET_GB} allowed")
    for name, run in peers.items():
        if run["nnz"] != ours["nnz"] or abs(run["sum"] / ours["sum"] - 1) > 1e-5:
            missed.append(f"{name} found other neighbours at {millions:g} million likes")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1,5,20", help="millions of likes, comma separated")
    parser.add_argument("--rounds", type=int, help="runs of each contender; 5 at a million likes, 2 beyond")
    parser.add_argument("--memory-gib", type=float, default=8.0, help="address space a contender may use")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(run_contender(options.contender, options.folder)))
        return 0
    missed = [
        target
        for size in options.sizes.split(",")
        for target in compare(float(size), options.rounds, options.memory_gib)
    ]
    for target in missed:
        print(f"MISSED: {target}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
