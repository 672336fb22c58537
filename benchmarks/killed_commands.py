"""kill -9 at random moments of the other commands that change a lake, while a reader queries what is live.

    python benchmarks/killed_commands.py [--kind import] [--kills 10] [--users 300] [--tracks 400] [--seed N]

The kinds are import, inbox, forget, rollback and repair (`tunegraph verify --repair`); by default each of
them. As in `benchmarks/kills.py`, there are two lakes of the same lists. Each gets the same command with
something new to do. In one it runs undisturbed; in the other it is killed with its process group at a random
moment after it has taken the lake's lock, or before it if it takes none, and is then run again. A damage that
nobody has repaired yet apart, `tunegraph verify` finds no problem between the two.

At the end both lakes are refreshed, and must be equal as in `benchmarks/kills.py`; who was forgotten is in
neither. Exits 1 when the reader was ever refused, a command failed, verify found a problem, or the lakes
differ.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.kills import (
    FIRST,
    TUNEGRAPH,
    Outcome,
    Reader,
    World,
    comparisons,
    environment,
    refresh,
    show,
)
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.bundle import current_version

_DAY = FIRST + timedelta(days=1)
"""What is imported arrives on this day, which both lakes have refreshed before."""
_INBOX = """
import sys
from datetime import date
from pathlib import Path
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import inbox
from tunegraph_pipeline.pipeline.settings import InboxSettings
lake, settings = Lake.open(Path(sys.argv[1])), InboxSettings(settle_seconds=0)
with lake.writing("the inbox"):
    complete = inbox.wait_for_complete(lake, settings)
    done = inbox.import_complete(lake, settings, complete, today=date.fromisoformat(sys.argv[2]))
sys.exit(done.failed)
"""
"""What the job `import_inbox` does, with a day that is the same in both lakes."""


@dataclass(frozen=True)
class Kind:
    """A command: ``prepare`` gives it something to do for the n-th time, with the world, in a lake, and
    returns how it is called. ``leaves_damage``: what it has to do is a damage."""

    prepare: Callable[[World, Lake, int], Sequence[str]]
    leaves_damage: bool = False


def _a_file(world: World, folder: Path, n: int) -> Path:
    """A file of the lists that the world has on its n-th day."""
    path = folder / f"lists {n}.csv"
    if not path.exists():
        draft = folder.parent / f"{path.name}.draft"
        world.batch(n).likes.select("user_id", "track_id").write_csv(draft)
        draft.replace(path)
    return path


def _import(world: World, lake: Lake, n: int) -> Sequence[str]:
    file = _a_file(world, lake.root.parent, 10 + n)
    return (*TUNEGRAPH, "import", str(file), "--as-of", str(_DAY), "--lake", str(lake.root))


def _import_inbox(world: World, lake: Lake, n: int) -> Sequence[str]:
    folder = lake.root.parent / "inbox"  # both lakes lie beside it
    folder.mkdir(exist_ok=True)
    for more in (100 + 2 * n, 101 + 2 * n):
        _a_file(world, folder, more)
    return (sys.executable, "-c", _INBOX, str(lake.root), str(_DAY))


def _forget(world: World, lake: Lake, n: int) -> Sequence[str]:
    return (*TUNEGRAPH, "forget", f"user{n}", "--yes", "--lake", str(lake.root))


def _roll_back(world: World, lake: Lake, n: int) -> Sequence[str]:
    live = current_version(lake.serving)
    other = next(one for one in lake.versions("serving") if one != live)
    return (*TUNEGRAPH, "rollback", other, "--reason", f"time {n}", "--lake", str(lake.root))


def _repair(world: World, lake: Lake, n: int) -> Sequence[str]:
    days = lake.partitions("likes")
    targets = [lake.table_path(table, day) for day in days for table in DAILY_TABLES]
    targets += [min(lake.current_folder(kind).glob("*.npy")) for kind in ("co_like", "like_graph")]
    for path in (targets[n % len(targets)], targets[(n + len(DAILY_TABLES)) % len(targets)]):
        if path.exists():
            content = path.read_bytes()
            draft = path.with_name("damaged")
            draft.write_bytes(content[: len(content) // 2])
            draft.replace(path)
    return (*TUNEGRAPH, "verify", "--repair", "--lake", str(lake.root))


KINDS = {
    "import": Kind(_import),
    "inbox": Kind(_import_inbox),
    "forget": Kind(_forget),
    "rollback": Kind(_roll_back),
    "repair": Kind(_repair, leaves_damage=True),
}


def two_days(world: World, root: Path, undisturbed: Callable[[Lake], object] = refresh) -> Lake:
    """A lake that was refreshed on each of two days."""
    lake = world.lake(root)
    undisturbed(lake)
    world.receive(lake, 1)
    undisturbed(lake)
    return lake


def torment(
    start: Lake,
    folder: Path,
    world: World,
    kind: str,
    kills: int,
    seed: int,
    *,
    pause: float = 0.02,
    undisturbed: Callable[[Lake], object] = refresh,
) -> Outcome:
    """Kill the command ``kind`` so often in a copy of the lake ``start`` below ``folder``, and finish it each
    time; compare what is left with a copy that is not disturbed.

    The reader waits ``pause`` seconds between two queries. ``undisturbed`` refreshes a lake, by default in a
    process of its own.
    """
    started = time.perf_counter()
    outcome, dice = Outcome(), random.Random(f"{kind} {seed}")
    calm, lake = (Lake.open(shutil.copytree(start.root, folder / name)) for name in ("calm", "killed"))
    with Reader(lake.serving, outcome, pause):
        n = 0
        while outcome.stages.total() < kills:
            if n and KINDS[kind].leaves_damage:  # a refresh builds again what a repair removed
                for one in (calm, lake):
                    undisturbed(one)
            n += 1
            seconds = _run(KINDS[kind].prepare(world, calm, n), calm, outcome)
            command = KINDS[kind].prepare(world, lake, n)
            moment = _kill(command, lake, dice.uniform(0, 1), seconds)
            if moment is None:
                outcome.ended_first += 1
                continue
            outcome.stages[f"{kind}, {moment}"] += 1
            if not KINDS[kind].leaves_damage:
                found = verify(lake.root).problems
                outcome.failures += [f"verify after kill {n}: {one.line()}" for one in found]
            _finish(kind, command, lake, outcome)
            live = [current_version(one.serving) for one in (calm, lake)]
            if kind == "rollback" and live[0] != live[1]:
                outcome.failures.append(f"after kill {n}, {live[1]} is live, not {live[0]}")
    for one in (calm, lake):
        undisturbed(one)
    _judge(kind, calm, lake, n, outcome)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _run(command: Sequence[str], lake: Lake, outcome: Outcome) -> tuple[float, float]:
    """Run a command undisturbed; the seconds before it took the lock, and after."""
    began, started = time.time(), time.perf_counter()
    process = _start(command)
    before = _wait_for_lock(process, lake, began)
    _, said = process.communicate()
    if process.returncode:
        outcome.failures.append(f"{' '.join(command[2:4])} failed: {said[-500:]}")
    whole = time.perf_counter() - started
    return before, whole - before


def _start(command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )


def _wait_for_lock(process: "subprocess.Popen[str]", lake: Lake, began: float) -> float:
    """Wait until the process holds the lake's lock or ends; the seconds since ``began``."""
    note = lake.root / ".lock.holder.json"
    while process.poll() is None:
        try:
            if note.stat().st_mtime >= began:
                break
        except FileNotFoundError:
            pass
        time.sleep(0.002)
    return time.time() - began


def _kill(command: Sequence[str], lake: Lake, share: float, seconds: tuple[float, float]) -> str | None:
    """Start a command and kill its process group when it has done this share of what it does with the lock,
    which takes about the second of ``seconds``; when that was, None if it had ended before."""
    began = time.time()
    process = _start(command)
    _wait_for_lock(process, lake, began)
    after = share * seconds[1]
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"after {int(10 * share)}0 % or more of its work"
    return None


def _finish(kind: str, command: Sequence[str], lake: Lake, outcome: Outcome) -> None:
    """Run a killed command again. If the bundle to roll back to is live, that was done when it was killed."""
    if kind == "rollback" and current_version(lake.serving) == command[4]:
        return
    _run(command, lake, outcome)


def _judge(kind: str, calm: Lake, lake: Lake, n: int, outcome: Outcome) -> None:
    for one in (calm, lake):
        found = verify(one.root)
        # That a bundle was rolled back to is a note.
        findings = found.problems + (found.notes if kind != "rollback" else [])
        outcome.failures += [f"verify at the end: {finding.line()}" for finding in findings]
    if kind == "forget":
        _judge_forgotten(lake, [f"user{one}" for one in range(1, n + 1)], outcome)
    for what, same in comparisons(calm, lake):
        outcome.compared.append(what)
        if not same:
            outcome.failures.append(f"differs from the undisturbed lake: {what}")


def _judge_forgotten(lake: Lake, gone: list[str], outcome: Outcome) -> None:
    tombstones = Tombstones.of(lake.root)
    outcome.compared.append(f"{len(tombstones)} tombstones")
    if len(tombstones) != len(gone) or not all(map(tombstones.buries_one, gone)):
        outcome.failures.append(f"{len(tombstones)} tombstones for {len(gone)} forgotten users")
    left = {
        str(batch.folder)
        for day in lake.raw_days()
        for batch in lake.batches(day)
        if not set(batch.read("likes")["user_id"]).isdisjoint(gone)
    }
    outcome.failures += [f"{folder} names somebody who was forgotten" for folder in sorted(left)]


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of commands that change a lake")
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: each of them")
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--tracks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    failures = Counter[str]()
    for kind in options.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            world = World(options.users, options.tracks, 1)
            start = two_days(world, Path(folder) / "start")
            outcome = torment(start, Path(folder), world, kind, options.kills, options.seed)
        show(outcome)
        failures[kind] += len(outcome.failures)
    return 1 if failures.total() else 0


if __name__ == "__main__":
    sys.exit(main())
