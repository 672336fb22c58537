"""What it takes to get from a served dump of ListenBrainz to everybody's likes: time, memory and disk.

    python benchmarks/dumps.py [--listens 30] [--keep FOLDER]

Invents full exports with a tenth, a third and all of ``--listens`` million listens in three months, and the
incremental dump of the day after: a listener for every 1,000 listens, a song for every 120, MBIDs on 74 %,
late imports, bots. ``--keep`` keeps them for the next run; making those of 30 million takes two minutes.

For each size, in a process of its own, a new lake is filled from a server on this machine by the stages of a
refresh: the full export is indexed, fetched, counted and merged into a raw batch; then come the daily tables,
the likes from plays, and everybody's list. Then the same for the day after.

Its peers are two queries of DuckDB over the same files on disk, with the same memory and threads, written as
parquet. ``plays`` groups listens by user, track and day, where a track is its MBID, else artist and title as
they are written. ``names`` finds the most frequent writing of each track. Beside them stands our counting
alone, from the same files on disk to the two files of a raw batch: it does the work of both, gives songs
without an MBID one id for all ways of writing it, and takes one file at a time, since each is removed before
the next is counted.

Targets, with 30 million: full export to lists in 5 minutes and 6 GB; the day after, with a million listens,
in 40 seconds; counting in twice the time of its peers. Exits 1 where one is missed. Growth is fitted as a
power of the listens, and written out to the 2.7 billion of all of ListenBrainz. With dumps that are there, it
computes for about eight minutes; ``--no-growth`` measures the largest export alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

FULL = date(2026, 9, 1)
MONTHS = 3
SINCE = datetime(2026, 6, 1, tzinfo=UTC)
MEMORY_GB = 4.0
ALL_LISTENS = 2.7e9
MOST_SECONDS, MOST_GB, MOST_SECONDS_A_DAY, MOST_RATIO = 300.0, 6.0, 40.0, 2.0
SIZES = (0.1, 1 / 3, 1.0)

TRACK = "coalesce(recording_mbid, artist_name || '/' || recording_name)"
PEERS = {
    "plays": f"SELECT user_id, {TRACK} AS track, listened_at::DATE AS played_on, count(*) AS plays"
    " FROM {listens} GROUP BY ALL",
    "names": "SELECT track, max(struct_pack(n, title, artist, mbids, album, release)) AS called FROM ("
    f"SELECT {TRACK} AS track, recording_name AS title, artist_name AS artist, artist_credit_mbids AS mbids,"
    " release_mbid AS album, release_name AS release, count(*) AS n"
    " FROM {listens} GROUP BY ALL) GROUP BY track",
}


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds by step, of the clock and of all cores, and peak memory and disk in GB."""

    wall: dict[str, float]
    cpu: dict[str, float]
    memory: float
    disk: float = 0.0
    listens: int = 0

    @property
    def seconds(self) -> float:
        return sum(self.wall.values())

    @property
    def busy(self) -> float:
        return sum(self.cpu.values())


class Steps:
    """Times the steps of this process."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began, busy = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = time.perf_counter() - began
        self.cpu[name] = time.process_time() - busy

    def say(self, listens: int = 0) -> None:
        """Print what `measured` reads."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"wall": self.wall, "cpu": self.cpu, "memory": peak, "listens": listens}))


# --- what is done in a process of its own ---


def make_dumps(folder: Path, listens: int) -> None:
    """Write the full export and the incremental dump of the day after, unless they are there."""
    from tunegraph_pipeline.simulator.dumps.archives import (
        FULL_FOLDER,
        INCREMENTAL_FOLDER,
        mirror_world,
        publish_full,
        publish_incremental,
    )
    from tunegraph_pipeline.simulator.dumps.listens import ListensConfig

    users = listens // 1000
    config = ListensConfig(
        n_users=users,
        n_songs=listens // 120,
        listens_a_day=28 * listens // 3000,
        history=listens // 100,
        bots=round(users / 10_000),
        shared_accounts=round(users / 3000),
        late_share=0.71,  # so that a day has one listen for 30 of three months
    )
    world = mirror_world(folder, config)
    if not list(folder.glob(f"{FULL_FOLDER}/*/*.tar")):
        publish_full(world, folder, FULL)
    if not list(folder.glob(f"{INCREMENTAL_FOLDER}/*/*.tar")):
        publish_incremental(world, folder, FULL + timedelta(days=1))


def refresh(root: Path, day: date) -> None:
    """What a refresh does with the dump of a day, up to everybody's lists."""
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.schemas import DUMPS
    from tunegraph_pipeline.pipeline.crawl_day import crawl_day
    from tunegraph_pipeline.pipeline.stages import STAGES

    lake, steps = Lake.open(root), Steps()
    with steps.step("fetch, count, merge"):
        crawl_day(lake, DUMPS, day, today=day)
    for one in STAGES:
        if one.daily:
            with steps.step(one.name if one.name in ("plays", "tracks") else "other tables"):
                one.run(lake, day=day)
        if one.name in ("likes_from_plays", "current_likes"):
            with steps.step(one.name):
                one.run(lake)
    steps.say(sum(batch.counts.get("listens", 0) for batch in lake.batches(day)))


def count(files: Sequence[Path], folder: Path) -> None:
    """Our counting of files on disk, up to the files of a raw batch."""
    from tunegraph_pipeline.sources.dumps.listens import Listens, Parts, Span

    steps = Steps()
    until = datetime(FULL.year, FULL.month, FULL.day, 0, 1, tzinfo=UTC)
    parts = [Parts.of(folder, f"{file.stem}-") for file in files]
    with Listens(MEMORY_GB, folder / "scratch") as listens:
        with steps.step("count"):
            for file, part in zip(files, parts, strict=True):
                listens.count(file, Span(until, SINCE), part)
        with steps.step("merge"):
            listens.merge(parts, Parts.of(folder))
    steps.say()


def scan(files: Sequence[Path], folder: Path) -> None:
    """The peers' queries."""
    import duckdb

    steps = Steps()
    named = ", ".join(f"'{file}'" for file in files)
    listens = f"(SELECT * FROM read_parquet([{named}]) WHERE listened_at >= TIMESTAMP '{SINCE:%Y-%m-%d}')"
    options = {"memory_limit": f"{MEMORY_GB}GB", "temp_directory": str(folder / "scratch")}
    with duckdb.connect(config={**options, "preserve_insertion_order": False}) as db:
        for name, query in PEERS.items():
            with steps.step(name):
                target = f"'{folder / name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
                db.execute(f"COPY ({query.format(listens=listens)}) TO {target}")
    steps.say()


# --- measuring ---


def measured(what: str, *arguments: object, watched: Path | None = None) -> Cost:
    """The cost of a step in a process of its own; ``watched`` is a folder whose size is looked at."""
    command = [sys.executable, __file__, "--measure", what, *map(str, arguments)]
    disk = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            disk = max(disk, _size(watched) if watched else 0)
            time.sleep(0.2)
        assert process.stdout is not None
        said = process.stdout.read().strip()
    if process.returncode:
        raise SystemExit(f"{what} failed with exit code {process.returncode}")
    return Cost(**json.loads(said.rpartition("\n")[2]), disk=disk / 1e9)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # moved or removed meanwhile
            continue
    return total


def counting(dumps: Path, folder: Path) -> tuple[Cost, Cost]:
    """Our counting and its peers, on the files of the window."""
    import duckdb

    from tunegraph_pipeline.simulator.dumps.archives import FULL_FOLDER

    (archive,) = dumps.glob(f"{FULL_FOLDER}/*/*.tar")
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".parquet"):
                member.name = Path(member.name).name
                tar.extract(member, folder, filter="data")
    latest = "SELECT max(listened_at) >= ? FROM read_parquet(?)"
    since = SINCE.replace(tzinfo=None)
    files = [
        file
        for file in sorted(folder.glob("*.parquet"), key=lambda file: int(file.stem))
        if (found := duckdb.execute(latest, [since, str(file)]).fetchone()) and found[0]
    ]
    costs = []
    for what in ("count", "scan"):
        out = folder / what
        out.mkdir()
        costs.append(measured(what, out, *files))
    return costs[0], costs[1]


def measure_size(listens: int, dumps: Path) -> tuple[Cost, Cost, float]:
    """Measure and show what one size takes; returns the full export, the day after, and how many times the
    seconds of its peers counting takes."""
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.pipeline.dump_days import SECTION
    from tunegraph_pipeline.simulator.dump_server import DumpServer
    from tunegraph_pipeline.simulator.dumps.archives import MIRROR_FOLDER

    say(f"{listens / 1e6:g} million: dumps in {dumps}")
    measured("make", dumps, listens)
    with tempfile.TemporaryDirectory(dir=dumps.parent) as scratch:
        root = Path(scratch) / "lake"
        lake = Lake.open_or_create(root)
        with DumpServer(dumps) as server:
            lake.set_section(SECTION, {"mirror": f"{server.url}/{MIRROR_FOLDER}", "months": MONTHS})
            say("full export")
            full = measured("refresh", root, FULL, watched=root)
            show("full export to lists", full)
            say("the day after")
            after = measured("refresh", root, FULL + timedelta(days=1), watched=root)
            show("the day after", after)
    with tempfile.TemporaryDirectory(dir=dumps.parent) as scratch:
        say("counting alone, and its peers")
        ours, peers = counting(dumps, Path(scratch))
    show("counting alone", ours)
    show("its peers", peers)
    ratio = ours.seconds / peers.seconds
    print(
        f"  counting takes {ratio:.2f} times its peers ({ours.busy / peers.busy:.2f} of computing),"
        f" {ours.seconds / peers.wall['plays']:.2f} times the plays alone"
        f" ({ours.busy / peers.cpu['plays']:.2f})",
        flush=True,
    )
    return full, after, ratio


def say(progress: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {progress}", file=sys.stderr, flush=True)


# --- what is printed ---


def show(name: str, cost: Cost) -> None:
    listens = f", {cost.listens / 1e6:.2f} million listens" if cost.listens else ""
    disk = f", {cost.disk:.2f} GB of disk" if cost.disk else ""
    print(
        f"  {name}{listens}: {cost.seconds:.1f} s, {cost.busy:.1f} s of computing,"
        f" {cost.memory:.1f} GB of memory{disk}",
        flush=True,
    )
    for step, seconds in cost.wall.items():
        print(f"    {step}: {seconds:.1f} s, {cost.cpu[step]:.1f} s of computing", flush=True)


def show_growth(costs: Sequence[Cost]) -> None:
    """Fit each figure as a power of the listens, and write it out from the largest export on. Time and disk
    grow at least in proportion there: what is the same for all sizes makes the small ones look dear."""
    import numpy as np

    sizes = [cost.listens for cost in costs]
    print(f"growth, written out to {ALL_LISTENS / 1e9:g} billion listens:")
    figures: dict[str, tuple[list[float], float]] = {
        "s": ([cost.seconds for cost in costs], 1.0),
        "s of computing": ([cost.busy for cost in costs], 1.0),
        "GB of memory": ([cost.memory for cost in costs], 0.0),
        "GB of disk": ([cost.disk for cost in costs], 1.0),
    }
    for unit, (values, least) in figures.items():
        fitted = np.polyfit(np.log(sizes), np.log(values), 1)[0]
        far = values[-1] * (ALL_LISTENS / sizes[-1]) ** max(fitted, least)
        shown = f"{far / 3600:,.1f} hours" if unit.startswith("s") else f"{far:,.0f} GB"
        print(f"  {', '.join(f'{value:,.1f}' for value in values)} {unit}: listens^{fitted:.2f}, {shown}")
    print(
        f"  of memory, DuckDB takes {MEMORY_GB:g} GB at most, and spills; the rest, likes and lists, grows"
        " with the users, here one for 1,000 listens"
    )


def judged(found: dict[str, tuple[float, float]]) -> bool:
    """Print each figure beside the most it may be; returns whether one is missed."""
    for what, (value, most) in found.items():
        print(f"{'MISSED' if value > most else 'met'}: {what} {value:.1f}, at most {most:g}")
    return any(value > most for value, most in found.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listens", type=float, default=30, help="million listens of the largest export")
    parser.add_argument("--keep", type=Path, help="a folder for the dumps, which are kept")
    parser.add_argument("--no-growth", action="store_true", help="measure the largest export alone")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        run_measured(*options.measure)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        kept = (options.keep or Path(temporary)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        fulls = []
        for share in SIZES[-1:] if options.no_growth else SIZES:
            listens = round(options.listens * 1e6 * share)
            full, after, ratio = measure_size(listens, kept / f"{listens}")
            fulls.append(full)
        if len(fulls) > 1:
            show_growth(fulls)
    missed = judged(
        {
            "seconds from the full export to lists": (full.seconds, MOST_SECONDS),
            "GB of memory": (max(full.memory, after.memory), MOST_GB),
            "seconds of the day after": (after.seconds, MOST_SECONDS_A_DAY),
            "times the peers": (ratio, MOST_RATIO),
        }
    )
    return int(missed)


def run_measured(what: str, *arguments: Any) -> None:
    if what == "make":
        make_dumps(Path(arguments[0]), int(arguments[1]))
        Steps().say()
    elif what == "refresh":
        refresh(Path(arguments[0]), date.fromisoformat(arguments[1]))
    else:
        (count if what == "count" else scan)([Path(one) for one in arguments[1:]], Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main())
