"""How fast recommendations are served, on one core: ranking, starting, and answering over HTTP.

    python benchmarks/serving.py [--only exact variants …] [--requests N] [--lake DIR] [--world DIR]

Each part prints its ratios to a named peer of the same run first, and the exit code is 1 when a target is
missed. The catalogue of 22,481 songs is a simulated world with as many liked songs and likes as the first
project had (about 22,600 and 125,000), trained at d=128; those of 200,000 and 1,000,000 are made as
`ann.py` describes, where the approximate ranking is judged.

exact     the best 10 of the whole catalogue for stored users' lists, against ``E @ q`` in float32, the same
          plus ``argpartition``, and faiss's flat index. `ranked` is from track indices to track indices,
          with two reasons each; `answered` also has ids looked up, names, links, and the listeners of both.
variants  a query with options, such as filters, against the plain one for the same list. A filter is asked
          for again and again but for `new`, of which no query knows which songs pass.
start     a new process, from its start to its first recommendation, and its peak memory, beside a bare
          ``python -c "import numpy"``.
http      ``tunegraph serve`` on one core and the load on another: POST /recommendations with lists of real
          length, while a new version is published every second. Beside it `GET /health`, which is all but
          the query, and a bare uvicorn and granian (where installed) that answer two bytes. Processor time a
          request is that of the server alone while nothing is published, so it says what one core can do
          while other work runs, too.
lambda    the size of the function's zip with the live bundle, for which pip fetches a numpy. Its time and
          memory: ``benchmarks/lambda_function.py``.
large     `exact` for 200,000 and 1,000,000 songs, the approximate ranking of the latter, and its filters.
          Their worlds take five minutes and an hour to train; ``--world`` keeps them for the next run.
large-filters  filters and the mode continue alone, in the indexed bundle ``--bundle``, as `everyone.py` makes
          one in minutes. It takes two or three.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.load import Load, load, post
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current
from tunegraph_pipeline.recommend.filters import Filters, Passing
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.indexing import KS as INDEXED_KS
from tunegraph_pipeline.recommend.indexing import recall_of
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline.recommend.recommender import QueryOptions, Recommender

DIMENSION = 128
K = 10
EXACT_TARGET = 1.3  # times E @ q
VARIANT_TARGET = 1.5  # times the plain query
RECALL = 0.99
KS, JUDGED, ROUNDS = (10, 50, 100), 20, 4  # of filters in a large catalogue: lists whose recall is measured
START_TARGET_MS, START_TARGET_MB = 150.0, 80.0
HTTP_TARGET, P99_TARGET_MS = 2_500.0, 10.0
ZIP_TARGET_MB = 60.0
GROWTH_TARGET_MB = 16.0
SEED_MS = {"V2, the model run again": 410_000.0, "V3, the smallest Lambda, 300 candidates": 680.0}
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Figure(NamedTuple):
    """A measured value and what it has to be below, or above."""

    what: str
    value: float
    target: float | None = None
    at_least: bool = False
    unit: str = ""

    @property
    def missed(self) -> bool:
        if self.target is None:
            return False
        return self.value < self.target if self.at_least else self.value > self.target

    def line(self) -> str:
        text = f"{self.what:<58} {self.value:10,.2f} {self.unit}".rstrip()
        if self.target is None:
            return text
        wanted = f"at {'least' if self.at_least else 'most'} {self.target:,g}"
        return f"{text}   ({wanted}{': missed' if self.missed else ''})"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the catalogue of the seed's size ---


def seed_lake(folder: Path) -> Path:
    """A lake of a simulated world of the seed's size, refreshed once; kept if it is there already."""
    if (folder / "serving" / "CURRENT").exists():
        return folder
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.raw import write_batch
    from tunegraph_pipeline.simulator.world import World, WorldConfig

    say(f"making a lake of the seed's size in {folder}: a minute or two")
    batch = World(WorldConfig(n_users=2_950, n_tracks=28_700)).crawl(date(2026, 12, 31))
    lake = Lake.open_or_create(folder)
    with lake.writing("benchmarks/serving.py"):
        lake.admit_source("simulator", mix=False)
        lake.set_section("training", {"dimension": DIMENSION})
        write_batch(lake.raw, datetime.now(UTC).date(), batch)
    command = [
        sys.executable,
        "-m",
        "tunegraph_pipeline",
        "refresh",
        "--lake",
        str(folder),
        "--source",
        "none",
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder


# --- exact ---


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def exact(bundle: Bundle, rounds: int, target: float | None = EXACT_TARGET) -> list[Figure]:
    """Time the exact query and its peers in turn, so that all see the same neighbours on the machine."""
    import faiss

    recommender = Recommender(bundle)
    rng = np.random.default_rng(7)
    users = rng.integers(bundle.n_users, size=rounds).tolist()
    lists = [bundle.user_list(user) for user in users]
    ids = [[bundle.tracks[track] for track in likes.tolist()] for likes in lists]
    # Copied into memory, as after loading an array: a mapped page costs a little more.
    embeddings = np.array(bundle.embeddings)
    directions = embeddings[rng.integers(bundle.n_tracks, size=rounds)]
    flat = faiss.IndexFlatIP(bundle.dimension)
    flat.add(embeddings)
    faiss.omp_set_num_threads(1)
    names = ("ranked", "answered", "E @ q", "E @ q and argpartition", "faiss flat")
    took: dict[str, list[float]] = {name: [] for name in names}
    with threadpool_limits(1):
        for turn in range(-5, rounds):
            q, likes, given = directions[turn], lists[turn], ids[turn]
            calls: Sequence[Callable[[], object]] = (
                partial(recommender.ranker.answer, [QuerySpec(likes)], [K]),
                partial(recommender.recommend, given, K),
                partial(np.matmul, embeddings, q),
                lambda q=q: np.argpartition(embeddings @ q, -K)[-K:],  # type: ignore[misc]
                partial(flat.search, q[None], K),
            )
            for name, call in zip(names, calls, strict=True):
                spent = seconds(call)
                if turn >= 0:  # the first ones map the pages
                    took[name].append(spent)
    p50 = {name: float(np.median(times)) * 1e3 for name, times in took.items()}
    size = f"{bundle.n_tracks:,} songs"
    width, mean = bundle.screen.shape[1], np.mean([len(likes) for likes in lists])
    return [
        Figure(f"{size}: ranked / E @ q", p50["ranked"] / p50["E @ q"], target),
        Figure(f"{size}: answered / E @ q", p50["answered"] / p50["E @ q"]),
        Figure(f"{size}: answered / faiss flat", p50["answered"] / p50["faiss flat"]),
        *(Figure(f"  {name}, p50", value, unit="ms") for name, value in p50.items()),
        Figure("  answered, p99", float(np.percentile(took["answered"], 99)) * 1e3, unit="ms"),
        Figure(f"  likes a list, screen of {width} columns for d={bundle.dimension}", float(mean)),
    ]


# --- variants ---


def variants(bundle: Bundle, rounds: int, target: float = VARIANT_TARGET) -> list[Figure]:
    """Time the query with options of a few kinds in turn with the plain one, from ids to songs."""
    recommender = Recommender(bundle)
    recommender.ranker.prepare()  # as a service does
    rng = np.random.default_rng(7)
    users = rng.integers(bundle.n_users, size=rounds).tolist()
    lists = [[bundle.tracks[track] for track in bundle.user_list(user).tolist()] for user in users]
    genres = list(recommender.ranker.filter.genre_counts())
    sound = Filters(features={"tempo": (90, 120)}, moods=["calm"])
    year = Filters(years=(1990, None), unknown="allow")
    all_of_these = Filters(genres[:3], years=(1990, None), features={"tempo": (90, 120)}, moods=["calm"])
    kinds: dict[str, QueryOptions] = {
        "the largest genre": {"filters": Filters(genres=genres[:1])},
        "the smallest genre": {"filters": Filters(genres=genres[-1:])},
        "a year from 1990": {"filters": year},
        "a range of tempo and a mood": {"filters": sound},
        "all of these": {"filters": all_of_these},
        "what comes next, the order of the list counting": {"mode": "continue"},
    }
    new = "a range of tempo and a mood, new"
    took: dict[str, list[float]] = {name: [] for name in ("plain", *kinds, new)}
    with threadpool_limits(1):
        for turn in range(-5, rounds):
            # A bound that was not asked for before, but leaves as many songs.
            tempo = (90, 120 + rng.random() / 100)
            fresh: QueryOptions = {"filters": Filters(features={"tempo": tempo}, moods=["calm"])}
            for name, options in {"plain": QueryOptions(), **kinds, new: fresh}.items():
                spent = seconds(partial(recommender.recommend, lists[turn], K, **options))
                if turn >= 0:
                    took[name].append(spent)
    p50 = {name: float(np.median(times)) * 1e3 for name, times in took.items()}
    figures = [Figure(f"{bundle.n_tracks:,} songs: plain, p50", p50["plain"], unit="ms")]
    for name in (*kinds, new):
        filters = kinds[name].get("filters") if name in kinds else sound
        passing = recommender.passing(filters)
        share = "" if passing is None else f" ({passing.n_tracks / len(bundle.popular_order):.0%} pass)"
        figures.append(Figure(f"  {name}{share} / plain", p50[name] / p50["plain"], target))
    return figures


def large_filters(bundle: Bundle, users: int = 40, target: float = VARIANT_TARGET) -> Iterator[Figure]:
    """Filters and the mode continue in a catalogue with an index: processor time beside the plain query by
    turns, the recall of the exact best, and the first query with a filter. Songs are chosen at random, around
    some song, and far from a list."""
    ranker, exact = Ranker(bundle, index=CandidateIndex.open(bundle)), Ranker(bundle)
    ranker.prepare()
    rng = np.random.default_rng(7)
    lists = [bundle.user_list(user) for user in rng.integers(bundle.n_users, size=users).tolist()]
    plain = [QuerySpec(liked) for liked in lists]

    def passing(chosen: NDArray[np.bool_]) -> Passing:
        tracks = chosen & bundle.recommendable
        return Passing(tracks, int(np.count_nonzero(tracks)))

    def nearest(direction: NDArray[np.float32], share: float) -> Passing:
        likeness = bundle.embeddings @ direction
        return passing(likeness >= np.quantile(likeness, 1 - share))

    def all_with(one: Passing) -> list[QuerySpec]:
        return [spec._replace(passing=one) for spec in plain]

    some_song = bundle.embeddings[int(rng.integers(bundle.n_tracks))]
    kinds: dict[str, Callable[[], list[QuerySpec]]] = {
        "continue": lambda: [
            spec._replace(ages=rng.permutation(len(spec.liked)).astype(np.int32)) for spec in plain
        ]
    }
    for share in (0.99, 0.5, 0.35, 0.2, 0.1, 0.05, 0.01):
        kinds[f"{share:.0%} at random"] = lambda share=share: all_with(  # type: ignore[misc]
            passing(rng.random(bundle.n_tracks) < share)
        )
    for share in (0.5, 0.2):
        kinds[f"{share:.0%} around some song"] = lambda share=share: all_with(  # type: ignore[misc]
            nearest(some_song, share)
        )
    kinds["20% least like the list"] = lambda: [
        spec._replace(passing=nearest(-bundle.embeddings[spec.liked].mean(axis=0), 0.2)) for spec in plain[:8]
    ]
    with threadpool_limits(1):
        for name, made in kinds.items():
            say(f"filters: {name}")
            specs = made()
            first = processor_seconds(partial(ranker.answer, specs[:1], [K]))
            yield Figure(f"{name}, the first query", first * 1e3, unit="ms")
            judged = specs[:JUDGED]
            # What the best of more begin with, so one exact ranking does for all.
            truth = [exact.answer([spec], [max(KS)], explain=False)[0].indices for spec in judged]
            for k in KS:
                took: dict[bool, list[float]] = {True: [], False: []}
                for turn in range(ROUNDS):
                    for spec, other in zip(specs, plain, strict=False):
                        for which, one in ((True, spec), (False, other)):
                            spent = processor_seconds(partial(ranker.answer, [one], [k]))
                            if turn:  # the first round maps pages, and makes what is kept
                                took[which].append(spent)
                timed = {which: float(np.median(times)) * 1e3 for which, times in took.items()}
                yield Figure(f"  best {k} / plain", timed[True] / timed[False], target)
                yield Figure("  plain", timed[False], unit="ms")
                found = [ranker.answer([spec], [k], explain=False)[0].indices for spec in judged]
                recall = recall_of(found, [best[:k] for best in truth])
                wanted = 100 * RECALL if k <= max(INDEXED_KS) else None  # an index is measured with these
                yield Figure("  recall of the exact ranking, %", 100 * recall, wanted, at_least=True)


def processor_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# --- start ---

_FIRST = """
import sys
from pathlib import Path
from tunegraph_pipeline.recommend.recommender import Recommender
answer = Recommender.open(Path(sys.argv[1])).recommend(sys.argv[2].split(","))
assert len(answer.items) == 10 and answer.degraded is None
"""
# What the process had at its highest; the counter of the system includes what its parent had before it.
_PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def start(lake: Path, rounds: int = 21) -> list[Figure]:
    """A new interpreter up to its first answer, in turn with one that imports numpy and is done."""
    bundle = Bundle.open(read_current(lake / "serving"))
    likes = ",".join(bundle.tracks[track] for track in bundle.user_list(0).tolist())
    programs = {
        "first recommendation": [sys.executable, "-c", _FIRST + _PEAK, str(lake / "serving"), likes],
        "import numpy": [sys.executable, "-c", "import numpy" + _PEAK],
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for turn in range(rounds + 2):
        for name, command in programs.items():
            began = time.perf_counter()
            done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True)
            spent = time.perf_counter() - began
            if turn >= 2:  # the first ones read the files from the disk
                took[name].append((spent, int(done.stdout) * 1024 / 1e6))
    wall = {name: float(np.median([one[0] for one in times])) * 1e3 for name, times in took.items()}
    memory = {name: float(np.median([one[1] for one in times])) for name, times in took.items()}
    first, bare = programs
    return [
        Figure("new process to first recommendation / import numpy", wall[first] / wall[bare]),
        Figure("  new process to first recommendation", wall[first], START_TARGET_MS, unit="ms"),
        Figure("  its peak memory", memory[first], START_TARGET_MB, unit="MB"),
        Figure("  import numpy", wall[bare], unit="ms"),
        Figure("  its peak memory", memory[bare], unit="MB"),
    ]


# --- http ---


@dataclass
class Running:
    """A service in a process of its own, on the first core; this process then keeps to the others."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def memory_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) / 1e3
        raise SystemExit("this system does not say what a process has of memory")

    @property
    def processor_seconds(self) -> float:
        """What the process and its descendants have used, of the system too."""
        ticks, waiting = 0, [self.process.pid]
        while waiting:
            pid = waiting.pop()
            used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(used[11]) + int(used[12])
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)


def serve(lake: Path, core: int, log: Path) -> Running:
    """Start ``tunegraph serve`` on one core, and wait until it is ready."""
    import requests

    port = free_port()
    command = [sys.executable, "-m", "tunegraph_pipeline", "serve", "--lake", str(lake), "--port", str(port)]
    running = start_on(core, command, port, log)
    for _ in range(200):
        with suppress(requests.ConnectionError):
            if requests.get(f"http://127.0.0.1:{port}/ready", timeout=5).ok:
                return running
        time.sleep(0.05)
    raise SystemExit("the service does not become ready")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def start_on(core: int, command: Sequence[str], port: int, log: Path) -> Running:
    """Start a server on one core, and wait until it listens."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **ONE_THREAD},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  # no threads run yet
    )
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{command[:4]} ended: {log.read_text()}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return Running(process, port)
        time.sleep(0.05)
    raise SystemExit(f"{command[:4]} does not listen")


def two_versions(lake: Path, folder: Path) -> Path:
    """A lake with the live bundle twice, under two versions."""
    live = read_current(lake / "serving")
    for version in ("first", "second"):
        shutil.copytree(live, folder / "serving" / version)
        manifest = folder / "serving" / version / "manifest.json"
        facts = read_json(manifest.read_bytes())
        facts["facts"]["bundle_version"] = version
        manifest.write_text(sealed_json(json.dumps(facts)))
    shutil.copy(lake / "lake.json", folder / "lake.json")
    make_current(folder, "first")
    return folder


def make_current(lake: Path, version: str) -> None:
    draft = lake / "serving" / ".draft"
    draft.write_text(version + "\n")
    draft.replace(lake / "serving" / "CURRENT")


def http(lake: Path, scratch: Path, total: int, connections: int) -> list[Figure]:
    """Load the service from another core while its bundle changes every second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("the load needs a core of its own")
    served = two_versions(lake, scratch / "served")
    bundle = Bundle.open(read_current(lake / "serving"))
    rng = np.random.default_rng(5)
    bodies = []
    for user in rng.integers(bundle.n_users, size=2_000).tolist():
        likes = [bundle.tracks[track] for track in bundle.user_list(user)[:30].tolist()]
        bodies.append(json.dumps({"likes": likes, "k": K}).encode())
    requests = [post("/recommendations", body) for body in bodies]
    running = serve(served, cores[0], scratch / "service.log")
    over = threading.Event()
    changes: list[str] = []

    def publish_every_second() -> None:
        while not over.wait(1.0):
            version = "first" if current_version(served / "serving") == "second" else "second"
            make_current(served, version)
            changes.append(version)

    publisher = threading.Thread(target=publish_every_second, daemon=True)
    os.sched_setaffinity(0, set(cores[1:]))
    try:
        load(running.port, requests, total=2_000, connections=connections)  # warms both sides up
        publisher.start()
        early = load(running.port, requests, total=total // 10, connections=connections)
        after_a_tenth = running.memory_mb

        def progress(sent: int) -> None:
            if sent % 10_000 == 0:
                say(f"{sent:,} of {total - total // 10:,} requests")

        rest = load(
            running.port, requests, total=total - total // 10, connections=connections, progress=progress
        )
        growth = running.memory_mb - after_a_tenth
        alone = load(running.port, requests, total=2_000, connections=1)
        over.set()
        publisher.join()
        ours = processor_us(running, requests, connections)[1]
        without_query = processor_us(running, [_HEALTH], connections)[1]
    finally:
        over.set()
        running.stop()
        os.sched_setaffinity(0, set(cores))
    seen = Load(early.statuses + rest.statuses, early.lost + rest.lost, early.seconds + rest.seconds)
    seen.took = early.took + rest.took
    figures = [
        Figure("  requests a second", seen.per_second, HTTP_TARGET, at_least=True),
        Figure("  requests a second of processor time", 1e6 / ours, HTTP_TARGET, at_least=True),
        Figure(f"  p50 of {connections} connections", seen.percentile(50), unit="ms"),
        Figure(f"  p99 of {connections} connections", seen.percentile(99), P99_TARGET_MS, unit="ms"),
        Figure("  p50 of one connection", alone.percentile(50), unit="ms"),
        Figure("  requests", float(len(seen.seconds))),
        Figure("  errors and lost requests", float(seen.errors), 0.0),
        Figure("  versions published meanwhile", float(len(changes))),
        Figure("  growth of memory over the last 90 %", growth, GROWTH_TARGET_MB, unit="MB"),
        Figure("  processor time a request", ours, unit="us"),
        Figure("  processor time of GET /health, all but the query", without_query, unit="us"),
    ]
    for name, command in bare_servers(scratch).items():
        port = free_port()
        server = start_on(cores[0], [*command, str(port)], port, scratch / "bare.log")
        os.sched_setaffinity(0, set(cores[1:]))
        try:
            bare, bare_us = processor_us(server, requests, connections)
        finally:
            server.stop()
            os.sched_setaffinity(0, set(cores))
        figures += [
            Figure(f"requests a second / those of a bare {name}", seen.per_second / bare.per_second),
            Figure(f"  bare {name}, requests a second", bare.per_second),
            Figure(f"  bare {name}, processor time a request", bare_us, unit="us"),
        ]
    return figures


_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def processor_us(
    server: Running, requests: Sequence[bytes], connections: int, total: int = 10_000
) -> tuple[Load, float]:
    """A load, and the processor time a request in microseconds."""
    load(server.port, requests, total=1_000, connections=connections)
    used = server.processor_seconds
    found = load(server.port, requests, total=total, connections=connections)
    return found, (server.processor_seconds - used) / total * 1e6


_BARE = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
"""


def bare_servers(scratch: Path) -> dict[str, list[str]]:
    """Servers of an application that reads the request and says two bytes, which is what HTTP alone costs:
    commands that a port completes."""
    (scratch / "bare.py").write_text(_BARE)
    run = [sys.executable, "-m"]
    where = ["--app-dir", str(scratch)]
    servers = {"uvicorn": [*run, "uvicorn", "bare:app", *where, "--log-level", "error", "--lifespan", "off"]}
    if find_spec("granian") is not None:
        granian = ["granian", "bare:app", "--working-dir", str(scratch), "--interface", "asginl"]
        servers["granian"] = [*run, *granian, "--no-ws", "--log-level", "error"]
    return {name: [*command, "--port"] for name, command in servers.items()}


# --- lambda ---


def lambda_zip(lake: Path, scratch: Path) -> list[Figure]:
    """The size of the function's zip with the live bundle."""
    zipped = scratch / "lambda.zip"
    command = [sys.executable, "-m", "tunegraph_pipeline.serve.aws_lambda.package"]
    subprocess.run([*command, "--lake", str(lake), "--output", str(zipped)], check=True, stdout=sys.stderr)
    return [Figure("zip of the Lambda function", zipped.stat().st_size / 1e6, ZIP_TARGET_MB, unit="MB")]


def beside_the_seed(answered_ms: float) -> list[Figure]:
    return [
        *(Figure(f"  {name} (another machine)", value, unit="ms") for name, value in SEED_MS.items()),
        Figure("  ours, all songs, in words and with reasons", answered_ms, unit="ms"),
    ]


def show(title: str, figures: Iterable[Figure]) -> bool:
    """Print each figure when it is there. Returns whether any missed its target."""
    print(f"\n{title}")
    missed = False
    for figure in figures:
        print(figure.line(), flush=True)
        missed |= figure.missed
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("exact", "variants", "start", "http", "lambda", "large")
    choices = [*parts, "large-filters"]
    parser.add_argument("--only", nargs="+", choices=choices, default=parts, help="which parts to run")
    parser.add_argument("--bundle", type=Path, help="an indexed bundle for large-filters")
    parser.add_argument("--lake", type=Path, help="a lake of the seed's size, made there unless it is there")
    parser.add_argument("--world", type=Path, help="where the large worlds are kept")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=500, help="queries timed at the seed's size")
    options = parser.parse_args()
    if "large-filters" in options.only and options.bundle is None:
        parser.error("large-filters needs --bundle")
    missed = False
    if "large-filters" in options.only:
        missed |= show(f"filters in {options.bundle.name}", large_filters(Bundle.open(options.bundle)))
    if options.only == ["large-filters"]:
        return int(missed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        lake = seed_lake(options.lake or scratch / "lake")
        bundle = Bundle.open(read_current(lake / "serving"))
        if "exact" in options.only:
            figures = exact(bundle, options.rounds)
            missed |= show("exact", figures)
            answered = next(figure for figure in figures if figure.what.endswith("answered, p50"))
            show("beside the first project", beside_the_seed(answered.value))
        if "variants" in options.only:
            missed |= show("variants", variants(bundle, options.rounds))
        if "start" in options.only:
            missed |= show("start", start(lake))
        if "http" in options.only:
            missed |= show("http", http(lake, scratch, options.requests, options.connections))
        if "lambda" in options.only:
            missed |= show("lambda", lambda_zip(lake, scratch))
        if "large" in options.only:
            from benchmarks import ann

            worlds = options.world or scratch
            for n_tracks, rounds in ((200_000, 100), (1_000_000, 40)):
                missed |= show(f"exact, {n_tracks:,} songs", exact(ann.world(worlds, n_tracks), rounds))
            missed |= show("approximate, 1,000,000 songs", ann.approximate(worlds, 1_000_000))
            indexed = ann.indexed_bundle(worlds, ann.world(worlds, 1_000_000))
            missed |= show("filters, 1,000,000 songs", large_filters(indexed))
    print(
        f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
