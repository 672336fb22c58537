"""What lists, like graph and co-likes cost as a lake grows: processor time, memory and disk by stage.

    python benchmarks/scale.py --likes 1e6 1e7 1e8 --folder FOLDER

For each number of likes it writes four days of lists that a source might have given, of a tenth as many users
and at most a million tracks, and runs the stages, each in a process of its own. The first one makes the daily
tables of the last day, a quarter of all lists, from a raw batch in no order. The last one writes a bundle of
an invented model of eight dimensions without neighbours, so that its texts and lists are what counts. Beside
them stand what bounds them on the same machine: Arrow reading the same files, and numpy adding up as many
pairs as B has. Exits 1 where 100 million likes take more than 16 GiB in a stage, or 40 minutes of processor
time from lists to B. The lakes in FOLDER are removed, unless --keep is given. Not here: training, which grows
with the tracks.

--graph-only begins with the current lists and ends with B, and is for more likes than four days of lists
leave room for on a disk; 1e9 take 19 GiB and an hour of processor time, and 5 GiB of disk.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, write_batch
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.bundle import bundle_content
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.recommend.bundle import write_bundle

FIRST = date(2026, 1, 1)
DAYS = 4
LAST = FIRST + timedelta(days=DAYS - 1)
MEAN = 10
"""Likes of a user, on average."""
RECEIVED = "received"
"""The folder of the lake that has the last day as a raw batch alone."""
STAGES = ("daily_tables", "current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix", "bundle")
GRAPH_STAGES = ("track_ids", "catalogue", "like_graph", "co_like_matrix")
MOST, GRAPH_MOST = [(10**8, 16.0, 40.0)], [(10**9, 20.0, 180.0)]
"""What so many likes may take: GiB, and minutes of processor time."""
_USERS_A_BLOCK = 1 << 18


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--likes", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument(
        "--keep", action="store_true", help="leave the lakes in the folder, and use them again"
    )
    parser.add_argument(
        "--graph-only",
        action="store_true",
        help="begin with the current lists: A and B alone, of which 1e9 likes take 19 GiB and an hour"
        " of processor time",
    )
    parser.add_argument("--stage", nargs=2, metavar=("LAKE", "STAGE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(run_stage(Path(arguments.stage[0]), arguments.stage[1])))
        return 0
    missed, rows = False, []
    stages = GRAPH_STAGES if arguments.graph_only else STAGES
    for likes in map(int, arguments.likes):
        root = arguments.folder / (f"{likes:_}" + "-graph" * arguments.graph_only)
        if not (root / "lake.json").exists():
            if arguments.graph_only:
                invent_current(root, likes)
            else:
                invent(root, likes)
                receive(root)
        costs = {name: in_process(arguments.folder, root, name) for name in stages}
        rows += [row(likes, name, cost) for name, cost in costs.items()]
        rows += [row(likes, *bound) for bound in bounds(root)]
        peak = max(cost["gib"] for cost in costs.values())
        minutes = sum(cost["cpu"] for cost in costs.values()) / 60
        print(f"{likes:,} likes: at most {peak:.1f} GiB, {minutes:.1f} minutes of processor time", flush=True)
        most = GRAPH_MOST if arguments.graph_only else MOST
        missed |= any(
            likes >= size and (peak > gib or minutes > most_minutes) for size, gib, most_minutes in most
        )
        if not arguments.keep:
            shutil.rmtree(root)
    head = ["likes", "stage", "seconds", "processor seconds", "ns a like", "GiB at most", "bytes a like"]
    print("\n" + markdown_table(head, rows, words=2))
    return int(missed)


def row(likes: int, name: str, cost: dict[str, float]) -> list[str]:
    """A line of the table."""
    return [
        f"{likes:,}",
        name,
        f"{cost['wall']:.1f}",
        f"{cost['cpu']:.1f}",
        f"{cost['cpu'] / likes * 1e9:,.0f}",
        f"{cost['gib']:.2f}",
        f"{cost['gib'] * 2**30 / likes:,.0f}",
    ]


def in_process(folder: Path, lake: Path, name: str) -> dict[str, float]:
    """The cost of a stage in a process of its own: seconds, processor seconds and the most memory."""
    command = [sys.executable, __file__, "--folder", str(folder), "--stage", str(lake), name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name}: {found}", file=sys.stderr, flush=True)
    return found


def run_stage(root: Path, name: str) -> dict[str, float]:
    start = time.perf_counter()
    if name == "daily_tables":
        fill_day(Lake.open(root / RECEIVED), LAST)
    elif name == "bundle":
        lake = Lake.open(root)
        content = bundle_content(lake, invented_model(lake), read_catalogue(lake), "invented")
        write_bundle(lake.serving / "invented", content)
    else:
        stage(name).run(Lake.open(root), **({"cut_off": LAST.isoformat()} if name == "current_likes" else {}))
    return measured(start)


def invented_model(lake: Lake, neighbours: Mapping[str, Any] | None = None) -> ArrayFolder:
    """A model of eight dimensions, with the rows of ``neighbours`` (indptr, indices, data), if any."""
    n, folder = len(known_track_ids(lake)), lake.root / "invented model"
    shutil.rmtree(folder, ignore_errors=True)
    arrays: dict[str, Any] = {
        "embeddings": np.eye(8, dtype=np.float32)[np.arange(n) % 8],
        "pooling_weight": np.ones(n, np.float32),
        "prior": np.zeros(n, np.float32),
        "neighbour_indptr": np.zeros(n + 1, np.int64),
        "neighbour_indices": np.zeros(0, np.int32),
        "neighbour_weight": np.zeros(0, np.float32),
    }
    if neighbours is not None:
        arrays["neighbour_indptr"] = neighbours["indptr"].astype(np.int64)
        arrays["neighbour_indices"] = neighbours["indices"].astype(np.int32)
        arrays["neighbour_weight"] = neighbours["data"].astype(np.float32)
    blend = {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.5}
    write_arrays(folder, arrays, {"version": "invented", "blend": blend, "calibration": None})
    return ArrayFolder.open(folder)


def measured(start: float) -> dict[str, float]:
    # The peak of resource.getrusage begins with that of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return {"wall": time.perf_counter() - start, "cpu": time.process_time(), "gib": peak / 2**20}


def bounds(root: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """What reading the daily lists takes at least, and adding up all pairs."""
    lake = Lake.open(root)
    start, before = time.perf_counter(), time.process_time()
    for day in lake.partitions("likes"):
        for _ in pq.ParquetFile(lake.table_path("likes", day)).iter_batches(1 << 16):
            pass
    reading = {"wall": time.perf_counter() - start, "cpu": time.process_time() - before, "gib": 0.0}
    yield "(Arrow reads the daily lists)", reading
    indptr = np.load(lake.current_folder("like_graph") / "indptr.npy", mmap_mode="r")
    pairs = int((np.diff(indptr).astype(np.float64) ** 2).sum())
    block = np.random.default_rng(0).integers(0, 1 << 16, 1 << 22)
    start, before = time.perf_counter(), time.process_time()
    np.bincount(block, minlength=1 << 16)
    share = pairs / len(block)
    adding = {"wall": share * (time.perf_counter() - start), "cpu": share * (time.process_time() - before)}
    yield f"(numpy adds up {pairs:,} pairs in cache)", {**adding, "gib": 0.0}


def invent(root: Path, likes: int) -> None:
    """A lake with four days of lists; on each a quarter of the users are seen, with all that they like."""
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    n_users, tracks = max(100, likes // MEAN), invented_tracks(likes)
    with lake.writing("invented lists"):
        for day in range(DAYS):
            key = (FIRST + timedelta(days=day)).isoformat()
            with lake.draft("likes", key) as lists, lake.draft("observations", key) as seen:
                for start in range(0, n_users, _USERS_A_BLOCK):
                    stop = min(start + _USERS_A_BLOCK, n_users)
                    append_lists(lists, seen, tracks, np.arange(start + (day - start) % DAYS, stop, DAYS))
        lake.write("tracks", key, described(tracks))
        for table in ("audio_features", "redirects", "feedback", "users"):
            lake.write(table, key, empty_table(table))


def invent_current(root: Path, likes: int) -> None:
    """A lake with the current lists alone, as of the last day."""
    lake = Lake.open_or_create(root)
    n_users, tracks, key = max(100, likes // MEAN), invented_tracks(likes), LAST.isoformat()
    with lake.writing("invented lists"):
        with lake.draft("current_likes", key) as lists:
            for start in range(0, n_users, _USERS_A_BLOCK):
                frame, _ = invented_lists(tracks, np.arange(start, min(start + _USERS_A_BLOCK, n_users)))
                lists.append(frame.select(empty_table("current_likes").columns))
        lake.set_current("current_likes", key)
        lake.write("tracks", key, described(tracks))
        for table in ("audio_features", "redirects", "feedback", "users"):
            lake.write(table, key, empty_table(table))


def receive(root: Path) -> None:
    """A lake that received the lists of the last day in no order, and has no tables yet."""
    lists = Lake.open(root).read("likes", LAST.isoformat(), ["user_id", "track_id", "liked_at"])
    lake = Lake.open_or_create(root / RECEIVED)
    with lake.writing("received lists"):
        batch = RawBatch("files", "invented", likes=lists.sample(fraction=1, shuffle=True, seed=1))
        write_batch(lake.raw, LAST, batch)


def invented_tracks(likes: int) -> pl.Series:
    """The ids of the tracks of so many likes."""
    n_tracks = int(min(1_000_000, max(1000, likes // 20)))
    return pl.Series("track_id", [f"t{number:07d}" for number in range(n_tracks)])


def append_lists(lists: Any, seen: Any, tracks: pl.Series, users: Any) -> None:
    """Append what ``users`` like to the drafts of a day."""
    frame, observed = invented_lists(tracks, users)
    lists.append(frame.select(empty_table("likes").columns))
    seen.append(observed.select(empty_table("observations").columns))


def invented_lists(tracks: pl.Series, users: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What ``users`` like, most of it of one of many scenes, and the observations of their lists."""
    rng = np.random.default_rng([7, int(users[0]) if len(users) else 0])
    lengths = rng.geometric(1 / MEAN, len(users))
    of = np.repeat(np.arange(len(users)), lengths)
    n, scenes = len(tracks), max(1, len(tracks) // 500)
    scene = rng.integers(0, scenes, len(users))[of]
    place = (500 * rng.random(len(of)) ** 2.5).astype(np.int64)
    anywhere = (n * rng.random(len(of)) ** 4).astype(np.int64)
    track = np.where(rng.random(len(of)) < 0.8, np.minimum(place * scenes + scene, n - 1), anywhere)
    keys = np.sort(of * n + track)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    of, track = keys // n, keys % n
    ids = pl.Series("user_id", users).cast(pl.String).str.zfill(9)
    ids = "u" + ids
    frame = pl.DataFrame({"user_id": ids.gather(of), "track_id": tracks.gather(track)})
    frame = frame.with_columns(
        liked_at=pl.lit(None, pl.Datetime("us", "UTC")),
        position=pl.lit(None, pl.Int32),
        source=pl.lit("files"),
    )
    counts = np.bincount(of, minlength=len(users))
    hashes = pl.Series([f"{value:016x}" for value in (users * 31 + counts).tolist()])
    observed = pl.DataFrame({"user_id": ids, "n_likes": counts.astype(np.int32), "list_hash": hashes})
    return frame, observed.with_columns(source=pl.lit("files"))


def described(tracks: pl.Series) -> pl.DataFrame:
    """Rows of the table of tracks, with a title and an artist each."""
    rows = pl.DataFrame(
        {
            "track_id": tracks,
            "name": "Song " + tracks,
            "artists": [[f"Artist {number // 12}"] for number in range(len(tracks))],
            "source": "files",
        }
    )
    return pl.concat([empty_table("tracks"), rows], how="diagonal_relaxed").select(
        empty_table("tracks").columns
    )


if __name__ == "__main__":
    sys.exit(main())
