"""Flip random bits in every file of a small lake, one at a time, and look for a wrong answer or a traceback.

    python benchmarks/flipped_bits.py [--bits 10] [--refreshes 1] [--seed N] [--only PATTERN]

The lake has three days, two of them refreshed and one that waits. For every file and each of its bits:

- `verify` names the file, or the flip does no harm;
- a recommendation, `status` and SQL over every table give the answer of the undamaged lake, or refuse in one
  line;
- for the first ``--refreshes`` bits of a file, a refresh of the day that waits gives the lists, co-likes and
  popularity that it gives undamaged, or stops with one line. Where `verify --repair` can mend it, the same
  holds after the repair, and the refresh may not stop, unless the advice leaves a decision to a person.

Files that only people and other programs write into are `OF_OTHERS`: a flip there cannot be told from what
was meant, so it may change an answer if `verify` names it; nothing may end in a traceback.

Prints what became of the flips of each kind of file. Exits 1 if there was a wrong answer or a traceback.
"""

import argparse
import fnmatch
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.kills import World
from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.graph.co_like import CoLike
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.feedback_spool import collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stages import STAGES, Stage
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.verify.inspection import Report
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.recommender import Recommender

OF_OTHERS = ("lake.json", "feedback_spool/*", "forget_requests/*", ".gitignore", ".lock*")
"""Patterns of files without a checksum that counts: edited by people, or added to line by line."""
_QUICK = {"dimension": 8, "epochs": 1, "encoder": "none"}
Answer = tuple[str, ...]
Result = TypeVar("Result")


# --- the lake, and what is asked of it ---


def small_lake(root: Path) -> Lake:
    """A lake of two refreshed days and a third that was only received, with an alias and a tombstone."""
    world = World(24, 30, 1, _QUICK)
    lake = world.lake(root)
    refresh(lake)
    Aliases({"user23": "user22"}).write(lake.root)
    Tombstones().with_users(["somebody"]).write(lake.root)
    world.receive(lake, 1)
    refresh(lake)
    world.receive(lake, 2)
    return lake


def refresh(lake: Lake) -> None:
    """What the job `refresh` does for the days that are not filled, without Dagster."""
    collect(lake)
    days = lake.stale_days()
    for one in STAGES:
        if one.daily:
            for day in days:
                one.run(lake, day=day)
        elif one.in_refresh and _run(one, lake).ends:
            break
    lake.refresh_views()


def _run(one: Stage, lake: Lake) -> StageResult:
    if one.name in ("forgotten_users", "retention"):
        return one.run(lake, today=datetime.now(UTC).date())
    return one.run(lake, run_id="flips") if one.name == "evaluation" else one.run(lake)


def recommended(lake: Lake) -> Answer:
    recommender = Recommender.verified(lake.serving)
    found = [recommender.recommend_user("user3", k=5), recommender.recommend(["song1", "song5"], 5)]
    return tuple(f"{item.song.track_id} {item.score:.6f}" for answer in found for item in answer.items)


def status(lake: Lake) -> Answer:
    return tuple(f"{name}: {line}" for name, line in lake_status(lake).items())


def rows(lake: Lake) -> Answer:
    with lake.connect() as connection:
        return tuple(
            f"{table}: {sorted(map(repr, connection.execute(f'FROM tunegraph.{table}').fetchall()))}"
            for table in TABLES
        )


def refreshed(lake: Lake) -> Answer:
    """What a refresh makes of the day that waits."""
    with lake.writing("benchmarks/flipped_bits.py"):
        refresh(lake)
    ids = lake.read("track_ids")["track_id"].to_list()
    likes = lake.read("current_likes", lake.current_version("current_likes"), ["user_id", "track_id"])
    co_like, bundle = CoLike.open(lake.current_folder("co_like")), Bundle.open(read_current(lake.serving))
    together = [
        (ids[one], ids[other], int(users))
        for one in range(len(ids))
        for other, users in zip(*co_like.neighbours(one)[:2], strict=True)
    ]
    popular = sorted(zip(bundle.tracks.ids.tolist(), bundle.popularity.tolist(), strict=True))
    # Ids may be numbered anew.
    return tuple(map(str, [sorted(likes.rows()), sorted(together), popular]))


def _refreshed(root: Path) -> Answer:
    return refreshed(Lake.open(root))


# --- one flip ---


@dataclass
class Outcome:
    """What became of the flips, by kind of file and result, and what must not be."""

    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Flipper:
    """Flips bits of the files of ``lake``, and puts each back."""

    def __init__(self, lake: Lake, seed: int) -> None:
        self.root = lake.root
        self.outcome = Outcome()
        self._dice = random.Random(seed)
        self._expected = {ask: ask(lake) for ask in (recommended, status, rows)}
        with self._copy() as copy:
            self._refreshed = refreshed(copy)

    def files(self, pattern: str) -> list[Path]:
        names = sorted(path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return [name for name in names if fnmatch.fnmatch(name.as_posix(), pattern)]

    def flip(self, name: Path, bits: int, refreshes: int) -> None:
        """Flip ``bits`` random bits of a file, one after the other."""
        path = self.root / name
        size = path.stat().st_size * 8
        for number, bit in enumerate(self._dice.sample(range(size), min(bits, size))):
            whole = self._damage(path, bit)
            try:
                self._judge(name, bit)
            finally:
                _replace(path, whole)
            if number < refreshes:
                with self._copy() as copy:
                    self._damage(copy.root / name, bit)
                    self._judge_refresh(copy.root, name, bit)

    def _judge(self, name: Path, bit: int) -> None:
        where = f"{name} bit {bit}"
        named = self._guarded(where, partial(self._is_named, name))
        refused = False
        for ask, expected in self._expected.items():
            answer = self._guarded(where, partial(self._answer, ask))
            refused |= answer is None
            if (
                answer is not None
                and not _agrees(answer, expected, name)
                and not (named and _of_others(name))
            ):
                self.outcome.failures.append(f"{where}: {ask.__name__} gives another answer")
        result = "named by verify" if named else "refused, and not named" if refused else "harmless"
        self.outcome.results[_kind(name), result] += 1
        if refused and not named:
            self.outcome.failures.append(f"{where}: verify does not name what is refused")

    def _is_named(self, name: Path) -> bool:
        return _names(verify(self.root), name)

    def _answer(self, ask: Callable[[Lake], Answer]) -> Answer:
        return ask(Lake.open(self.root))

    def _judge_refresh(self, root: Path, name: Path, bit: int) -> None:
        where = f"{name} bit {bit}, refreshed"
        answer = self._guarded(where, partial(_refreshed, root))
        result = "refreshed alike"
        if answer is None:
            result = "refresh refused"
            found = self._guarded(where, partial(verify, root, repair=True))
            # Without the live model none can be judged, and a person decides whether the next one goes live.
            mended = found is not None and all(
                one.mend and "publish --override" not in one.repairs for one in found.problems
            )
            if mended:
                answer = self._guarded(f"{where} after the repair", partial(_refreshed, root))
                result = "refresh refused, then repaired"
                if answer is None:
                    self.outcome.failures.append(f"{where}: it is refused after the repair, too")
        self.outcome.results[_kind(name), result] += 1
        if answer is not None and answer != self._refreshed and not _of_others(name):
            self.outcome.failures.append(f"{where}: another result")

    def _guarded(self, where: str, act: Callable[[], Result]) -> Result | None:
        """The result, None for a refusal in one line; anything else is a failure."""
        try:
            return act()
        except TuneGraphError as error:
            if "\n" in str(error).strip():
                self.outcome.failures.append(f"{where}: refused in several lines: {error}")
        except Exception:  # noqa: BLE001
            self.outcome.failures.append(f"{where}: {traceback.format_exc()}")
        return None

    @contextmanager
    def _copy(self) -> Iterator[Lake]:
        with tempfile.TemporaryDirectory() as folder:
            yield Lake.open(shutil.copytree(self.root, Path(folder) / "lake"))

    def _damage(self, path: Path, bit: int) -> bytes:
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        _replace(path, bytes(broken))
        return whole


def _replace(path: Path, content: bytes) -> None:
    """Another content under the same times and mode, as a disk damages it; a new file, since no reader maps
    it then."""
    draft = path.with_name(f".{path.name}.flipped")
    draft.write_bytes(content)
    shutil.copystat(path, draft)
    draft.replace(path)


def _names(found: Report, name: Path) -> bool:
    """Whether a finding is of the file, of its folder, or of one beside it."""
    near = {name.as_posix(), *(one.as_posix() for one in name.parents[:-1])}
    beside = name.parent if len(name.parts) > 1 else None
    return any(one.file in near or Path(one.file).parent == beside for one in (*found.problems, *found.notes))


def _agrees(answer: Answer, expected: Answer, name: Path) -> bool:
    """Whether answers are equal. A line of `status` may say instead that a file cannot be read, and name days
    to fill again."""
    other = [line for line in answer if line not in expected]
    explained = ("verify", name.name, "not refreshed:")
    return answer == expected or (
        bool(other) and all(any(word in line for word in explained) for line in other)
    )


def _of_others(name: Path) -> bool:
    return any(fnmatch.fnmatch(name.as_posix(), pattern) for pattern in OF_OTHERS)


def _kind(name: Path) -> str:
    """The kind of a file: its folder at the top of the lake, and its own name."""
    if len(name.parts) == 1:
        return name.name
    return f"{name.parts[0]}/…/{name.name}" if name.suffix != ".npy" else f"{name.parts[0]}/…/*.npy"


def show(outcome: Outcome) -> None:
    for (kind, result), count in sorted(outcome.results.items()):
        print(f"{kind:<50}{result:<34}{count:>6}")
    for failure in outcome.failures:
        print(f"FAILED {failure}")
    print(f"{sum(outcome.results.values()):,} results, {len(outcome.failures)} failures")


def main() -> int:
    parser = argparse.ArgumentParser(description="flip random bits of a lake's files, one at a time")
    parser.add_argument("--bits", type=int, default=10, help="of each file")
    parser.add_argument("--refreshes", type=int, default=1, help="of each file")
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--only", default="*", help="a pattern of files, such as 'likes/*'")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        flipper = Flipper(small_lake(Path(folder) / "lake"), options.seed)
        files = flipper.files(options.only)
        for name in files:
            flipper.flip(name, options.bits, options.refreshes)
    show(flipper.outcome)
    print(f"{len(files)} files, {time.perf_counter() - started:,.0f} seconds")
    return 1 if flipper.outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
