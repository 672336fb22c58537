"""Fetching dumps, killed at random moments and from a mirror with faults.

    python benchmarks/dump_faults.py [--kills 50] [--seeds 2] [--share 0.05] [--users 200] [--seed N]

A small ListenBrainz is invented and served: a full export and three incremental dumps. One lake fetches them
undisturbed and makes the tables of their days, the likes from plays and the current lists.

**Kills.** The same in another process, which is killed with -9 at a random moment of each step, one after the
other, from the walk of the index to the current lists, and started again each time; then anew in another
lake, until there were enough kills. At the end of each lake its tables are equal to the undisturbed
ones, and by the count of the server no byte of an archive went out twice but those in flight at a kill: the
last two pieces that were sent.

**Faults.** Each fault of the mirror alone and all of them together, and dumps that are replaced while they
are read, cut in half, damaged or without their checksum. Where a fetch ends with an error, that is one line,
and it is begun again. What came of it: equal tables, or where the mirror stays damaged the same line again
and nothing of that dump.

Prints both as tables. Exits 1 where anything else came of it.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import dump_days
from tunegraph_pipeline.pipeline.dump_days import SECTION, fetch_day, received
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.simulator.dump_server import DumpFaults, DumpServer
from tunegraph_pipeline.simulator.dumps.archives import MIRROR_FOLDER, publish
from tunegraph_pipeline.simulator.dumps.listens import ListensConfig, ListenWorld
from tunegraph_pipeline.sources.dumps import fetch
from tunegraph_pipeline.sources.dumps.archive import Archive
from tunegraph_pipeline.sources.dumps.listens import Listens
from tunegraph_pipeline.words import counted

FULL = date(2026, 9, 1)
DAYS = [FULL + timedelta(days=number) for number in range(4)]
_BYTES_PER_SECOND = 4e6  # so that a kill finds few bytes in flight
_IN_FLIGHT = 2  # pieces: one on its way, one not yet written
_MOST_RUNS = 12
_FEW = {"wrong_checksum": 0.5, "unlisted": 0.2}
"""Shares of the faults that can meet only a few of the requests."""
_STEPS: tuple[tuple[str, object, str], ...] = (
    ("index", Archive, "members"),
    ("window", fetch, "members_since"),
    ("fetching", Archive, "download"),
    ("counting", Listens, "count"),
    ("merging", Listens, "merge"),
    ("raw batch", dump_days, "write_files"),
)
"""The steps of fetching a dump, and the function that begins each."""
_LISTS = ("likes_from_plays", "current_likes")

Tables = dict[str, pl.DataFrame]


def make_world(users: int, seed: int = 7) -> ListenWorld:
    """Two months of listens of so many users before the full export, in files of 20,000."""
    return ListenWorld(
        ListensConfig(
            seed=seed,
            n_users=users,
            n_songs=6 * users,
            start=FULL - timedelta(days=62),
            first_full=FULL,
            listens_a_day=12 * users,
            history=20 * users,
            bots=1,
            shared_accounts=1,
            member_rows=20_000,
            row_group_rows=8_000,
        )
    )


def a_lake(root: Path, server: DumpServer, timeout: float = 20.0) -> Lake:
    """A new lake that takes two months of the dumps of ``server``."""
    lake = Lake.open_or_create(root)
    mirror = f"{server.url}/{MIRROR_FOLDER}"
    lake.set_section(SECTION, {"mirror": mirror, "months": 2, "timeout": timeout, "memory_gb": 0.5})
    lake.set_section("crawl", {"attempts": 8, "longest_wait": 5.0})
    return lake


def fill(lake: Lake, tell: Callable[[str], object] = lambda _: None) -> None:
    """What a refresh does with the dumps up to the current lists. ``tell`` hears the stages."""
    with lake.writing("benchmarks/dump_faults.py"):
        for day in DAYS:
            fetch_day(lake, day, lambda _: None, today=DAYS[-1])
        for stage in STAGES:
            if stage.daily:
                tell("tables of days")
                for day in DAYS:
                    stage.run(lake, day=day)
            elif stage.name in _LISTS:
                tell(stage.name)
                stage.run(lake)


def tables_of(lake: Lake) -> Tables:
    """The rows of the lake that come of its dumps, in an order of their own."""
    key = lake.current_version("current_likes")
    found = {f"plays {day}": lake.read("plays", day) for day in lake.partitions("plays")}
    # Whether a list has changed is since the cut-off before.
    found |= {table: lake.read(table, key).drop("changed", strict=False) for table in _LISTS}
    return {name: rows.sort(rows.columns) for name, rows in found.items()}


def differences(expected: Tables, found: Tables) -> list[str]:
    """The names of the tables that differ."""
    names = sorted(expected.keys() | found.keys())
    return [
        name
        for name in names
        if name not in expected or name not in found or not expected[name].equals(found[name])
    ]


# --- kills ---


@dataclass
class Killed:
    """What came of the kills. ``steps`` counts them by the step that they hit."""

    steps: Counter[str] = field(default_factory=Counter)
    lakes: int = 0
    again: int = 0
    in_flight: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class _Step:
    name: str
    seconds: float


class _Child:
    """Another process that fills a lake and says which step it begins; the environment is that of this
    one."""

    def __init__(self, lake: Lake) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--fill", str(lake.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def steps(self) -> Iterator[str]:
        """The steps as they begin."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.strip()

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def complaint(self) -> str:
        """Wait for its end; what it says of an error, "" where there is none."""
        _, said = self._process.communicate()
        return said.strip()[-500:] if self._process.returncode else ""


def fill_and_say(root: Path) -> None:
    """Fill a lake, and print every step as it begins."""

    def say(step: str) -> None:
        os.write(1, f"{step}\n".encode())

    def telling(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: object, **options: object) -> Any:
            say(step)
            return function(*args, **options)

        return called

    with ExitStack() as patches:
        for step, owner, name in _STEPS:
            patches.enter_context(mock.patch.object(owner, name, telling(step, getattr(owner, name))))
        fill(Lake.open(root), say)


def undisturbed(folder: Path, root: Path) -> tuple[Tables, list[_Step]]:
    """The tables of a lake that another process fills undisturbed, and how long its steps took."""
    with DumpServer(folder, faults=DumpFaults(bytes_per_second=_BYTES_PER_SECOND)) as server:
        lake = a_lake(root, server)
        child = _Child(lake)
        begun = [(name, time.perf_counter()) for name in child.steps()]
        if said := child.complaint():
            raise SystemExit(f"what nobody disturbed failed: {said}")
        ends = [at for _, at in begun[1:]] + [time.perf_counter()]
        return tables_of(lake), [_Step(name, end - at) for (name, at), end in zip(begun, ends, strict=True)]


def wait_for_silence(server: DumpServer) -> None:
    """Wait until nothing more goes out: a killed process still gets what its connections were sending."""
    while True:
        before = len(server.sent)
        time.sleep(0.5)  # a piece takes a seventh of that
        if len(server.sent) == before:
            return


def torment(folder: Path, scratch: Path, kills: int, seed: int) -> Killed:
    """Kill so many processes that fill lakes below ``scratch`` from the dumps in ``folder``."""
    outcome, dice = Killed(), random.Random(seed)
    expected, steps = undisturbed(folder, scratch / "calm")
    while outcome.steps.total() < kills:
        outcome.lakes += 1
        with DumpServer(folder, faults=DumpFaults(bytes_per_second=_BYTES_PER_SECOND)) as server:
            lake = a_lake(scratch / f"killed-{outcome.lakes}", server)
            in_flight = 0
            for step in dict.fromkeys(one.name for one in steps):
                before = len(server.sent)
                if outcome.steps.total() == kills or not _kill_one(lake, step, steps, dice, outcome):
                    break
                outcome.steps[step] += 1
                wait_for_silence(server)
                sent = [one for one in server.sent[before:] if one.path.endswith(".tar")]
                in_flight += sum(one.end - one.start for one in sent[-_IN_FLIGHT:])
            if said := _Child(lake).complaint():
                outcome.failures.append(f"lake {outcome.lakes}: {said}")
            again = sum(n for path, n in server.bytes_sent_again().items() if path.endswith(".tar"))
            outcome.bytes += sum(n for path, n in server.bytes_sent().items() if path.endswith(".tar"))
        outcome.again += again
        outcome.in_flight += in_flight
        if again > in_flight:
            outcome.failures.append(f"lake {outcome.lakes}: {again:,} bytes twice, {in_flight:,} in flight")
        outcome.failures += [
            f"lake {outcome.lakes}: {name} differs" for name in differences(expected, tables_of(lake))
        ]
        shutil.rmtree(lake.root)
    return outcome


def _kill_one(lake: Lake, step: str, steps: list[_Step], dice: random.Random, outcome: Killed) -> bool:
    """Fill the lake in another process, and kill it at a random moment of the ``step``, in the first half of
    the times that this comes; whether it came."""
    child = _Child(lake)
    lasts = [one.seconds for one in steps if one.name == step]
    left = dice.randint(1, (len(lasts) + 1) // 2)
    for name in child.steps():
        left -= name == step
        if not left:
            time.sleep(dice.uniform(0, max(lasts)))
            child.kill()
            return True
    if said := child.complaint():
        outcome.failures.append(f"lake {outcome.lakes}: {said}")
    return False


# --- faults ---


@dataclass
class Case:
    """A mirror with faults. ``spoil`` changes its folder before; ``meanwhile`` is called with the bytes sent
    so far. ``stays``: the same line comes again. ``like``: the folder whose tables come of it, by default
    that of the undisturbed lake."""

    name: str
    faults: Mapping[str, float] = field(default_factory=dict)
    spoil: Callable[[Path], object] = lambda _: None
    meanwhile: Callable[[Path, int], object] | None = None
    like: str = "calm"
    stays: bool = False


@dataclass
class CaseOutcome:
    """What came of a case in all of its runs."""

    name: str
    stays: bool = False
    made: int = 0
    lakes: int = 0
    runs: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def archive_of(folder: Path, day: date) -> Path:
    """The archive of the dump of a day."""
    (found,) = folder.glob(f"{MIRROR_FOLDER}/*/*/*-{day:%Y%m%d}-*.tar")
    return found


def reseal(archive: Path) -> None:
    """Publish the checksum that an archive has now."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    archive.with_name(f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")


def _replace_by(other: Path, day: date, folder: Path) -> None:
    """Publish the dump that ``other`` has of a day in place of the one in ``folder``."""
    source, target = archive_of(other, day), archive_of(folder, day)
    for suffix in ("", ".sha256"):
        draft = target.with_name(f".new{suffix}")
        shutil.copyfile(f"{source}{suffix}", draft)
        draft.replace(f"{target}{suffix}")


def _rewrite(day: date, edit: Callable[[bytes], bytes], *, seal: bool = True) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        archive = archive_of(folder, day)
        archive.write_bytes(edit(archive.read_bytes()))
        if seal:
            reseal(archive)

    return spoil


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _damaged(content: bytes) -> bytes:
    at = content.rindex(b"PAR1") - 20_000  # in the pages of the last member
    return content[:at] + bytes(2_000) + content[at + 2_000 :]


def cases(share: float, others: Mapping[date, Path]) -> list[Case]:
    """All cases; ``others`` has by day a mirror of which the dump of that day is another."""
    kinds = [
        name
        for name in DumpFaults.model_fields
        if name not in ("seed", "latency_ms", "bytes_per_second", "stall_seconds", "retry_after_seconds")
    ]
    shares = {kind: max(share, _FEW.get(kind, 0.0)) for kind in kinds}

    def replaced(day: date, name: str) -> Case:
        done = False

        def meanwhile(folder: Path, sent: int) -> None:
            nonlocal done
            size = archive_of(folder, day).stat().st_size
            if not done and size // 3 < sent:
                done = True
                _replace_by(others[day], day, folder)

        return Case(f"{name} replaced while read", meanwhile=meanwhile, like=str(day))

    return [
        *(Case(kind, {kind: shares[kind]}) for kind in kinds),
        Case("all of these", dict.fromkeys(kinds, share)),
        replaced(FULL, "full export"),
        replaced(DAYS[1], "incremental dump"),
        Case("full export cut in half", spoil=_rewrite(FULL, _half), stays=True),
        Case("incremental dump cut in half", spoil=_rewrite(DAYS[1], _half), stays=True),
        Case("file of a full export damaged", spoil=_rewrite(FULL, _damaged), stays=True),
        Case("file of an incremental dump damaged", spoil=_rewrite(DAYS[1], _damaged), stays=True),
        Case(
            "incremental dump without its checksum",
            spoil=_rewrite(DAYS[1], _damaged, seal=False),
            stays=True,
        ),
    ]


@contextmanager
def _mirror(case: Case, folder: Path, scratch: Path, seed: int) -> Iterator[tuple[DumpServer, Path]]:
    """A server of a copy of ``folder`` with the faults of a case."""
    copy = scratch / "mirror"
    shutil.copytree(folder, copy)
    case.spoil(copy)
    faults = DumpFaults(seed=seed, stall_seconds=1.0, retry_after_seconds=0, **case.faults)
    try:
        with DumpServer(copy, faults=faults) as server:
            yield server, copy
    finally:
        shutil.rmtree(copy)


def run_case(case: Case, folder: Path, scratch: Path, seed: int, expected: Tables) -> CaseOutcome:
    """Fill a lake from a mirror with the faults of a case, until it is done or the line of an error comes
    again."""
    outcome = CaseOutcome(case.name, case.stays, lakes=1)
    with _mirror(case, folder, scratch, seed) as (server, copy):
        lake = a_lake(scratch / "lake", server, timeout=0.5)
        before: list[date] = []

        def watch(*_: object) -> None:
            if case.meanwhile is not None:
                case.meanwhile(copy, sum(server.bytes_sent().values()))

        while outcome.runs < _MOST_RUNS:
            outcome.runs += 1
            try:
                with watched_by(watch):
                    fill(lake)
            except TuneGraphError as error:
                line = str(error).replace(server.url, "").replace(str(lake.root), "")
                outcome.lines[line] += 1
                if "\n" in line:
                    outcome.failures.append(f"more than a line: {line!r}")
                before = [one.day for one in received(lake)]
                if case.stays and outcome.lines[line] > 1:
                    break
            else:
                if len(received(lake)) >= len(DAYS):
                    break
        outcome.made = server.faults_made.total()
    if case.stays:
        spoilt = DAYS[1] if "incremental" in case.name else FULL
        if spoilt in before or len(outcome.lines) != 1:
            outcome.failures.append(f"not one line, or something of a damaged dump: {dict(outcome.lines)}")
    else:
        outcome.failures += [f"{name} differs" for name in differences(expected, _tables_or_none(lake))]
    shutil.rmtree(lake.root)
    return outcome


def _tables_or_none(lake: Lake) -> Tables:
    return tables_of(lake) if lake.has_current("current_likes") else {}


def run_cases(folder: Path, scratch: Path, users: int, seeds: int, share: float) -> list[CaseOutcome]:
    """Every case, those with faults by chance with so many seeds."""
    other = scratch / "other"
    publish(make_world(users, seed=8), other, DAYS[-1])
    others: dict[date, Path] = {}
    expected: dict[str, Tables] = {}
    for day in DAYS[:2]:
        others[day] = scratch / f"other-{day}"
        shutil.copytree(folder, others[day])
        _replace_by(other, day, others[day])
    for name, served in (("calm", folder), *((str(day), served) for day, served in others.items())):
        with DumpServer(served) as server:
            lake = a_lake(scratch / "expected", server)
            fill(lake)
            expected[name] = tables_of(lake)
        shutil.rmtree(lake.root)
    outcomes = []
    for case in cases(share, others):
        total = CaseOutcome(case.name, case.stays)
        for seed in range(seeds if case.faults else 1):
            one = run_case(case, folder, scratch, seed, expected[case.like])
            total.made += one.made
            total.lakes += 1
            total.runs += one.runs
            total.lines += one.lines
            total.failures += [f"{case.name}, seed {seed}: {why}" for why in one.failures]
        outcomes.append(total)
        show_case(total)
    return outcomes


# --- what is printed ---


def show_killed(outcome: Killed) -> None:
    print(f"\n{'step that was hit':<30}{'kills':>6}")
    for step, count in outcome.steps.most_common():
        print(f"{step:<30}{count:>6}")
    print(f"{'in all':<30}{outcome.steps.total():>6}")
    print(
        f"\n{outcome.lakes} lakes; {outcome.bytes:,} bytes of archives sent, {outcome.again:,} of them again,"
        f" and {outcome.in_flight:,} were in flight at most"
    )


def show_case(one: CaseOutcome) -> None:
    came = "equal tables" if not one.stays else ""
    if one.failures:
        came = f"{counted(len(one.failures), 'failure')}"
    if one.lines:
        times = "" if one.stays else f", after {counted(one.lines.total(), 'line')}, such as: "
        came += times + next(iter(one.lines))
    print(f"{one.name:<40}{one.made:>7}{one.lakes:>7}{one.runs:>6}  {came}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="dumps, killed and with faults")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=2, help="lakes for each fault")
    parser.add_argument("--share", type=float, default=0.05, help="of requests that fail, for each fault")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill_and_say(options.fill)
        return 0
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        dumps = scratch / "dumps"
        publish(make_world(options.users), dumps, DAYS[-1])
        sizes = sum(path.stat().st_size for path in dumps.rglob("*.tar"))
        print(f"seed {options.seed}; archives of {sizes:,} bytes")
        if options.kills:
            killed = torment(dumps, scratch, options.kills, options.seed)
            show_killed(killed)
            failures += killed.failures
        if options.seeds:
            print(f"\n{'fault':<40}{'made':>7}{'lakes':>7}{'runs':>6}  what came of it")
            for one in run_cases(dumps, scratch, options.users, options.seeds, options.share):
                failures += one.failures
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
