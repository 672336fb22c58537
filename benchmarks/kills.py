"""kill -9 at random moments of a refresh, again and again, while a reader queries what is live.

    python benchmarks/kills.py [--kills 100] [--users 300] [--tracks 400] [--seed N] [--folder DIR]

Two lakes receive the same lists and the same feedback. One is refreshed after each day, undisturbed. In the
other every refresh is killed with its whole process group at a random moment of its run, and the next starts
from what it left behind; a new day arrives after every tenth kill. A reader, in a process of its own, opens
the live bundle and queries it without a pause, and now and then reads every byte of it. At the end one
refresh runs to completion. Then `tunegraph verify` must find no problem, and the two lakes must be equal:
daily tables bit by bit, lists, like graph, co-likes and the bundle's popularity by track id, and where both
published the same sequence of bundles, also models and bundle bit by bit.

Prints the stage that each kill hit, what the reader did, and what was compared. Exits 1 when the reader ever
failed, verify finds a problem, or anything differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.graph.co_like import CoLike
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current
from tunegraph_pipeline.recommend.publication import publications
from tunegraph_pipeline.recommend.recommender import Recommender

FIRST = date(2026, 2, 1)
KILLS_A_DAY = 10
TUNEGRAPH = (sys.executable, "-m", "tunegraph_pipeline")
_READ_WHOLE = 25  # the reader compares all checksums every so often


@dataclass(frozen=True)
class World:
    """The lists that are received: scenes of songs, and users who like those of one scene."""

    users: int
    tracks: int
    seed: int
    training: Mapping[str, object] = field(default_factory=lambda: {"dimension": 16, "epochs": 3})

    def batch(self, day: int) -> RawBatch:
        """Everyone on the first day; later a tenth of the users each day, with other lists and new songs."""
        dice = random.Random(f"{self.seed} {day}")
        seen = range(self.users) if day == 0 else sorted(dice.sample(range(self.users), self.users // 10))
        songs = self.tracks + 4 * day
        rows = []
        for user in seen:
            scene = user % 4
            liked = {dice.randrange(songs // 4) ** 2 // (songs // 4) * 4 + scene for _ in range(20)}
            rows += [{"user_id": f"user{user}", "track_id": f"song{one}"} for one in sorted(liked)]
        likes = pl.DataFrame(rows).with_columns(liked_at=pl.lit(None, pl.Datetime("us", "UTC")))
        described = [
            {"track_id": one, "name": f"Song {one}", "artists": [f"Band {int(one[4:]) % 37}"]}
            for one in likes["track_id"].unique().sort()
        ]
        tracks = pl.DataFrame(described, schema=empty_frame("tracks").schema)
        return RawBatch("files", f"day {day}.csv", likes=likes, tracks=tracks)

    def receive(self, lake: Lake, day: int) -> None:
        """Have the lake receive the lists of a day, and what a listener said on it."""
        when = FIRST + timedelta(days=day)
        with lake.writing("benchmarks/kills.py"):
            write_batch(lake.raw, when, self.batch(day))
        at = datetime(when.year, when.month, when.day, 12, tzinfo=UTC)
        append(lake.root, "service", f"user{day}", [("song1", "like"), ("song2", "dislike")], at=at)

    def lake(self, root: Path) -> Lake:
        lake = Lake.open_or_create(root)
        lake.admit_source("files")
        lake.set_section("training", dict(self.training))
        self.receive(lake, 0)
        return lake


@dataclass
class Outcome:
    """What became of it all. ``stages`` counts the kills by the stage they hit."""

    stages: Counter[str] = field(default_factory=Counter)
    ended_first: int = 0
    days: int = 0
    reader: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    seconds: float = 0.0


def torment(
    folder: Path,
    world: World,
    kills: int,
    seed: int,
    *,
    pause: float = 0.02,
    undisturbed: Callable[[Lake], object] | None = None,
    program: Sequence[str] = TUNEGRAPH,
) -> Outcome:
    """Kill ``kills`` refreshes of a lake below ``folder``; compare what is left with an undisturbed one.

    The reader waits ``pause`` seconds between two queries. ``undisturbed`` refreshes a lake that is not to be
    killed, by default in a process of its own. ``program`` is how `tunegraph` is started.
    """
    calmly = undisturbed or refresh
    started = time.perf_counter()
    outcome = Outcome()
    dice = random.Random(seed)
    calm = world.lake(folder / "calm")
    busy, idle = refresh(calm, program), 0.0
    lake = Lake.open(shutil.copytree(calm.root, folder / "killed"))
    world.receive(calm, 1)
    calmly(calm)
    world.receive(lake, 1)
    outcome.days = 1
    with Reader(lake.serving, outcome, pause):
        while (killed := outcome.stages.total()) < kills:
            if killed and killed % KILLS_A_DAY == 0 and killed // KILLS_A_DAY == outcome.days:
                outcome.days += 1
                world.receive(lake, outcome.days)
            behind = not _is_live(lake, FIRST + timedelta(days=outcome.days))
            if not behind and not idle:
                idle = refresh(calm, program)  # of a lake that has all: it keeps what is there
            stage = _kill_a_refresh(lake, program, dice.uniform(0, busy if behind else idle))
            if stage is None:
                outcome.ended_first += 1
            else:
                outcome.stages[stage] += 1
        calmly(lake)
    for day in range(2, outcome.days + 1):
        world.receive(calm, day)
        calmly(calm)
    _judge(calm, lake, outcome)
    outcome.seconds = time.perf_counter() - started
    return outcome


def refresh(lake: Lake, program: Sequence[str] = TUNEGRAPH) -> float:
    """Refresh undisturbed; the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run(
        _refresh_of(lake, program), capture_output=True, text=True, check=False, env=environment()
    )
    if done.returncode:
        raise SystemExit(f"a refresh that nobody disturbed failed: {done.stderr[-2000:]}")
    return time.perf_counter() - started


def _refresh_of(lake: Lake, program: Sequence[str]) -> list[str]:
    return [*program, "refresh", "--source", "none", "--lake", str(lake.root)]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}


def _kill_a_refresh(lake: Lake, program: Sequence[str], after: float) -> str | None:
    """Start a refresh and kill its process group after so many seconds; the stage that was hit, None where it
    had ended before."""
    process = subprocess.Popen(
        _refresh_of(lake, program),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    try:
        _, said = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return _stage(lake, process.pid)
    if process.returncode:
        raise SystemExit(f"a refresh after a kill failed: {said[-2000:]}")
    return None


def _stage(lake: Lake, pid: int) -> str:
    """What the killed process was at, by Dagster's history of its run."""
    from dagster import DagsterInstance

    from tunegraph_pipeline.orchestration.dead_runs import process_of

    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        for run in instance.get_runs(limit=1):
            if process_of(run).split(" ")[1:2] != [str(pid)]:
                continue
            at = "beginning of the run"
            for entry in instance.all_logs(run.run_id):
                event = entry.dagster_event
                if event is None or event.step_key is None:
                    continue
                if event.is_step_start:
                    at = event.step_key
                elif event.is_step_success or event.is_step_failure:
                    at = f"after {event.step_key}"
            return at
    return "before the run"


def _is_live(lake: Lake, day: date) -> bool:
    return bool(Bundle.open(read_current(lake.serving)).facts["cut_off"] == day.isoformat())


# --- the reader ---


class Reader:
    """Has another process query the live bundle until the block ends, and takes down what it says."""

    def __init__(self, serving: Path, outcome: Outcome, pause: float = 0.02) -> None:
        self._command = [sys.executable, __file__, "--read", str(serving), "--pause", str(pause)]
        self._outcome = outcome

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __exit__(self, *_: object) -> None:
        said = self._process.communicate("", timeout=120)[0]  # its input ends, and so does it
        found = json.loads(said)
        self._outcome.failures += [f"the reader failed: {why}" for why in found.pop("complaints")]
        self._outcome.reader = found


def read_until_told(serving: Path, pause: float) -> dict[str, object]:
    """Reopen the live bundle and query it every ``pause`` seconds until standard input ends."""
    import threading

    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    versions: set[str] = set()
    complaints: list[str] = []
    queries = whole = 0
    told = False
    while True:
        try:
            recommender = Recommender.open(serving)
            if queries % _READ_WHOLE == 0:
                recommender.bundle.verify()
                whole += 1
            versions.add(recommender.bundle.version)
            if not recommender.recommend(["song1", "song5"], 5).items:
                complaints.append("no song was recommended")
        except (TuneGraphError, OSError, ValueError) as error:
            complaints.append(repr(error))
        queries += 1
        if told:  # and what is live at the end was read
            break
        told = ended.wait(pause)
    return {"queries": queries, "read whole": whole, "bundles seen": len(versions), "complaints": complaints}


# --- what is compared ---


def _judge(calm: Lake, lake: Lake, outcome: Outcome) -> None:
    found = verify(lake.root)
    outcome.failures += [f"verify: {finding.line()}" for finding in found.problems + found.notes]
    outcome.compared.append(f"verify read {found.files:,} files, {found.bytes / 2**20:.1f} MiB")
    for what, same in comparisons(calm, lake):
        outcome.compared.append(what)
        if not same:
            outcome.failures.append(f"differs from the undisturbed lake: {what}")


def comparisons(calm: Lake, lake: Lake) -> Iterator[tuple[str, bool]]:
    """What of two lakes is compared, and whether it is the same."""
    both = (calm, lake)
    batches = [sorted(path.name for path in one.raw.glob("dt=*/*")) for one in both]
    yield (
        f"names of {len(batches[0])} raw batches, which are hashes of their content",
        batches[0] == batches[1],
    )
    days = [{table: one.partitions(table) for table in DAILY_TABLES} for one in both]
    same = days[0] == days[1] and all(
        calm.table_path(table, day).read_bytes() == lake.table_path(table, day).read_bytes()
        for table, keys in days[0].items()
        for day in keys
    )
    yield f"bytes of {sum(map(len, days[0].values()))} daily partitions", same
    for table in ("current_likes", "current_dislikes"):
        rows = [one.read(table, one.current_version("current_likes")) for one in both]
        # Whether a list has changed is since the cut-off before, which a killed refresh may have skipped.
        rows = [frame.drop("changed", strict=False) for frame in rows]
        yield f"{len(rows[0]):,} rows of {table}", rows[0].equals(rows[1])
    ids = [one.read("track_ids")["track_id"] for one in both]
    yield f"{len(ids[0])} track ids, whatever their order", set(ids[0]) == set(ids[1])
    graphs = [_likes_by_id(one, names) for one, names in zip(both, ids, strict=True)]
    yield f"{len(graphs[0]):,} likes of the graph with their folds, by track id", graphs[0].equals(graphs[1])
    matrices = [_co_likes_by_id(one, names) for one, names in zip(both, ids, strict=True)]
    yield f"{len(matrices[0]):,} entries of B, by track id", matrices[0].equals(matrices[1])
    popular = [_popularity_by_id(one) for one in both]
    yield "popularity in the live bundle, by track id", popular[0] == popular[1]

    courses = [_course(one) for one in both]
    if courses[0] != courses[1]:
        at = next(n for n, pair in enumerate(zip(*courses, strict=False)) if pair[0] != pair[1])
        yield f"(another course from publication {at + 1} on: models are not compared bit by bit)", True
        return
    yield f"the course of {len(courses[0])} published bundles", True
    for kind in ("models", "serving"):
        folders = [one.root / kind / (one.root / kind / "CURRENT").read_text().strip() for one in both]
        names = sorted(path.name for path in folders[0].iterdir() if path.suffix in {".npy", ".safetensors"})
        same = all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)
        yield f"bytes of {len(names)} arrays of {kind}", same
    told = [one.read("user_recommendations", current_version(one.serving)) for one in both]
    yield f"{len(told[0]):,} recommendations", told[0].equals(told[1])


def _course(lake: Lake) -> list[tuple[str, str]]:
    """The bundles and models that were published, one after the other."""
    course: list[tuple[str, str]] = []
    for one in publications(lake.serving):
        if not course or course[-1] != (one.bundle, one.model):
            course.append((one.bundle, one.model))
    return course


def _likes_by_id(lake: Lake, ids: pl.Series) -> pl.DataFrame:
    graph = LikeGraph.from_arrays(ArrayFolder.open(lake.current_folder("like_graph")))
    users = pl.Series(graph.user_ids.tolist()).gather(
        np.repeat(np.arange(graph.n_users), np.diff(graph.indptr))
    )
    rows = pl.DataFrame({"user": users, "track": ids.gather(graph.indices), "fold": pl.Series(graph.fold)})
    return rows.sort("user", "track")


def _co_likes_by_id(lake: Lake, ids: pl.Series) -> pl.DataFrame:
    co_like = CoLike.open(lake.current_folder("co_like"))
    rows = [(track, *co_like.neighbours(track)) for track in range(len(ids))]
    first = np.repeat(np.arange(len(ids)), [len(row[1]) for row in rows])
    second = np.concatenate([row[1] for row in rows])
    counts = np.concatenate([row[2] for row in rows])
    found = pl.DataFrame({"one": ids.gather(first), "other": ids.gather(second), "users": pl.Series(counts)})
    return found.sort("one", "other")


def _popularity_by_id(lake: Lake) -> dict[str, int]:
    bundle = Bundle.open(read_current(lake.serving))
    return dict(zip(bundle.tracks.ids.tolist(), bundle.popularity.tolist(), strict=True))


def show(outcome: Outcome) -> None:
    """Print it all as tables."""
    print(f"\n{'stage that was hit':<45}{'kills':>6}")
    for stage, count in outcome.stages.most_common():
        print(f"{stage:<45}{count:>6}")
    print(f"{'in all':<45}{outcome.stages.total():>6}")
    print(
        f"\nrefreshes that ended before their kill: {outcome.ended_first}; days received: {outcome.days + 1}"
    )
    print("reader: " + ", ".join(f"{value:,} {what}" for what, value in outcome.reader.items()))
    print("\ncompared with the undisturbed lake:")
    for what in outcome.compared:
        print(f"  {what}")
    print(f"\n{outcome.seconds:,.0f} seconds; {len(outcome.failures)} failures")
    for failure in outcome.failures:
        print(f"FAILED {failure}")


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of a refresh")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--tracks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="where to keep the lakes")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pause", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_until_told(options.read, options.pause)))
        return 0
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        outcome = torment(folder, World(options.users, options.tracks, 1), options.kills, options.seed)
    show(outcome)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
