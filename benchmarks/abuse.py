"""What honest clients notice while others abuse the service.

    python benchmarks/abuse.py [--lake DIR] [--only NAME ...] [--seconds N] [--rounds N]

Starts `tunegraph serve` on all addresses of this machine, as a public service with a key. Eight honest
clients, each with an address of its own on loopback, ask /recommendations at a steady pace all the time, four
of them on a new connection each time. Each abuse runs in turn in a process of its own, from other addresses.
Rounds without and with the abuse alternate, so that what else the machine does meets both, and the medians
of their p99s are compared.

An abuser out in the world brings a machine of its own. Here all share one, and an abuser with equal rights
would slow the honest clients down by taking their core, whatever the service does. So it runs at the lowest
priority (SCHED_IDLE): it takes what the service and the honest clients leave, which on two quiet cores is
more than one. The second line of each abuse says what the abuser sends in a second, how many of its requests
are refused, and how much of a core the service uses without and with it.

For each it prints the p99 of the honest clients, by how much the private memory of the service grew, and how
many honest requests were lost. The exit code is 1 unless, for every abuse, memory grows by less than 64 MB,
the p99 is at most twice the calm one, and none is lost.

Without ``--lake`` it serves an invented bundle of 20,000 songs. Linux only, where all of 127.0.0.0/8 is
loopback.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

KEY = "a-key-for-the-benchmark-alone"
GROWTH_TARGET_MB, P99_TARGET = 64.0, 2.0
N_TRACKS, N_USERS, DIMENSION, N_NEIGHBOURS = 20_000, 2_000, 128, 50
HONEST, PAUSE_SECONDS = 8, 0.05
FLOOR_MS = 5.0  # below it a p99 is noise of the machine


# --- what is served ---


def invented_lake(folder: Path) -> Path:
    """A lake with a bundle of random songs and lists, as large as a small service's."""
    from tunegraph_pipeline.recommend.bundle import BundleContent, write_bundle
    from tunegraph_pipeline.recommend.publication import publish

    rng = np.random.default_rng(7)
    embeddings = rng.standard_normal((N_TRACKS, DIMENSION)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    lists = [np.sort(rng.choice(N_TRACKS, 40, replace=False)) for _ in range(N_USERS)]
    liked = np.concatenate(lists).astype(np.int32)
    content = BundleContent(
        track_ids=[track_id(track) for track in range(N_TRACKS)],
        embeddings=embeddings,
        pooling_weight=np.ones(N_TRACKS, dtype=np.float32),
        popularity=np.bincount(liked, minlength=N_TRACKS).astype(np.int32),
        recommendable=np.ones(N_TRACKS, dtype=np.bool_),
        prior=np.zeros(N_TRACKS, dtype=np.float32),
        neighbour_indptr=np.arange(N_TRACKS + 1, dtype=np.int64) * N_NEIGHBOURS,
        neighbour_indices=np.sort(
            rng.integers(N_TRACKS, size=(N_TRACKS, N_NEIGHBOURS), dtype=np.int32), axis=1
        ).ravel(),
        neighbour_weight=rng.random(N_TRACKS * N_NEIGHBOURS).astype(np.float32),
        user_ids=[f"listener-{user}" for user in range(N_USERS)],
        user_indptr=np.arange(N_USERS + 1, dtype=np.int64) * 40,
        user_tracks=liked,
        names=[f"Song {track}" for track in range(N_TRACKS)],
        artists=[f"Artist {track % 3_000}" for track in range(N_TRACKS)],
        image_urls=[""] * N_TRACKS,
        preview_urls=[""] * N_TRACKS,
        facts={
            "bundle_version": "v1",
            "model_version": "m1",
            "blend": {"embedding": 2.0, "neighbour": 1.0, "length_exponent": 0.5},
        },
    )
    description = {"format_version": 1, "created": "2026-06-01T00:00:00Z", "source": "files"}
    (folder / "lake.json").write_text(json.dumps(description))
    write_bundle(folder / "serving" / "v1", content)
    publish(folder / "serving", "v1")
    return folder


def track_id(track: int) -> str:
    return f"track{track:017d}"


# --- requests ---


def request(path: str, body: object = None, head: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}{head}\r\n".encode() + data


async def connect(port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer; its body is read and forgotten."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    return int(head[9:12])


# --- honest clients ---


@dataclass
class Honest:
    """Who asks politely: milliseconds from request to answer, and what was lost."""

    port: int
    took: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    async def ask(self, number: int, end: float) -> None:
        keeps = number % 2 == 0
        rng = random.Random(number)
        reader = writer = None
        await asyncio.sleep(PAUSE_SECONDS * number / HONEST)
        while time.perf_counter() < end:
            likes = [track_id(rng.randrange(N_TRACKS)) for _ in range(20)]
            started = time.perf_counter()
            try:
                async with asyncio.timeout(20):
                    if writer is None or not keeps:
                        reader, writer = await connect(self.port, f"127.0.1.{number + 1}")
                    assert reader is not None
                    writer.write(request("/recommendations", {"likes": likes}))
                    status = await answer(reader)
                if status != 200:
                    self.lost.append(str(status))
            except (OSError, EOFError, TimeoutError) as error:
                self.lost.append(type(error).__name__)
                status = 0
            took = time.perf_counter() - started
            self.took.append(took * 1e3)
            if writer is not None and (not keeps or not status):
                writer.close()
                writer = None
            await asyncio.sleep(max(0.0, PAUSE_SECONDS - took))
        if writer is not None:
            writer.close()


@dataclass
class Measured:
    """One round: milliseconds, what was lost, megabytes, and the share of a core that the service used."""

    p99: float
    n: int
    lost: list[str]
    grew_mb: float
    cpu: float


def private_bytes(process: psutil.Process) -> int:
    found = process.memory_info()
    return int(found.rss - found.shared)  # without the pages of the bundle, which are mapped


async def measure(port: int, process: psutil.Process, seconds: float, before: int) -> Measured:
    honest = Honest(port)
    started = time.perf_counter()
    end = started + seconds
    used = sum(process.cpu_times()[:2])
    largest = before

    async def watch() -> None:
        nonlocal largest
        while time.perf_counter() < end:
            largest = max(largest, private_bytes(process))
            await asyncio.sleep(0.1)

    await asyncio.gather(watch(), *(honest.ask(number, end) for number in range(HONEST)))
    cpu = (sum(process.cpu_times()[:2]) - used) / (time.perf_counter() - started)
    p99 = float(np.percentile(honest.took, 99))
    return Measured(p99, len(honest.took), honest.lost, (largest - before) / 2**20, cpu)


# --- abuses ---


@dataclass
class Connection:
    """A connection of an abuser, which counts in ``sent`` what it does: connections, requests or parts of
    them, bytes, answers, and refusals among these."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: "Counts"

    async def send(self, data: bytes) -> None:
        self.sent[1] += 1
        self.sent[2] += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> int:
        status = await answer(self.reader)
        self.sent[3] += 1
        self.sent[4] += status in (429, 503)
        return status


Counts = Any
"""A shared array of five numbers, see `Connection`."""
Step = Callable[[Connection, int], Awaitable[None]]


def address_of(client: int) -> str:
    return f"127.0.{2 + client // 200}.{1 + client % 200}"


async def over_and_over(port: int, client: int, step: Step, sent: Counts) -> None:
    """Do something for ever, on a new connection a little after the last one ended."""
    while True:
        writer = None
        with suppress(OSError, EOFError, ValueError, IndexError):
            reader, writer = await connect(port, address_of(client))
            sent[0] += 1
            await step(Connection(reader, writer, sent), client)
        if writer is not None:
            writer.close()
        await asyncio.sleep(0.5)


async def flood_headers(connection: Connection, _client: int) -> None:
    await connection.send(b"GET /version HTTP/1.1\r\n")
    while True:
        await connection.send(b"a: " + b"b" * 10_000 + b"\r\n")


async def send_headers_slowly(connection: Connection, _client: int) -> None:
    await connection.send(b"GET /version HTTP/1.1\r\nHost: localhost\r\n")
    while True:
        await connection.send(b"a: b\r\n")
        await asyncio.sleep(0.5)


async def send_a_body_slowly(connection: Connection, _client: int) -> None:
    await connection.send(request("/recommendations", b" " * 200_000)[:-200_000])
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.2)


async def hold_half_open(connection: Connection, _client: int) -> None:
    await connection.send(b"GET /ver")
    await connection.reader.read()


def asking(made: Callable[[int], bytes]) -> Step:
    """Ask the same again and again on one connection."""

    async def step(connection: Connection, client: int) -> None:
        asked = made(client)
        while True:
            await connection.send(asked)
            if await connection.answer() == 429:
                await asyncio.sleep(0.05)

    return step


def much_feedback(client: int) -> bytes:
    events = [{"track_id": track_id(track), "action": "like"} for track in range(500)]
    shown = ["\U0001f600" * 200] * 265
    content = {"user_id": f"user {client}", "events": events, "shown": shown}
    return request("/feedback", content, f"X-API-Key: {KEY}\r\n")


def dear_query(client: int) -> bytes:
    rng = random.Random(client)
    likes = [track_id(track) for track in rng.sample(range(N_TRACKS), 4_000)]
    options = {"k": 500, "diversity": 1.0, "max_per_artist": 1, "familiarity": 1.0}
    return request("/recommendations", {"likes": likes[:2_000], "dislikes": likes[2_000:], **options})


def huge_ids(_client: int) -> bytes:
    return request("/recommendations", {"likes": ["x" * 1_000 + str(number) for number in range(250)]})


def deep_json(_client: int) -> bytes:
    return request("/recommendations", b'{"likes":' * 25_000)


ABUSES: dict[str, tuple[int, Step]] = {
    "header flood": (20, flood_headers),
    "slow headers": (400, send_headers_slowly),
    "slow bodies": (400, send_a_body_slowly),
    "half-open connections": (3_000, hold_half_open),
    "feedback flood": (8, asking(much_feedback)),
    "dearest legal queries": (8, asking(dear_query)),
    "huge ids": (8, asking(huge_ids)),
    "deep JSON": (8, asking(deep_json)),
}
"""By name, connections at once and what each does."""
_PER_ADDRESS = 50


def abuse(port: int, name: str, sent: Counts) -> None:
    """Abuse the service until this process is ended, at the lowest priority."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    connections, step = ABUSES[name]
    per_address = _PER_ADDRESS if connections > 100 else connections

    async def run() -> None:
        await asyncio.gather(
            *(over_and_over(port, number // per_address, step, sent) for number in range(connections))
        )

    asyncio.run(run())


# --- all in turn ---


def serve(lake: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "tunegraph_pipeline", "serve", "--lake", str(lake), "--port", "0"]
    environment = {**os.environ, "TUNEGRAPH_API_KEY": KEY, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0", "--no-access-log"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "listening on" in line:
            with (lake / "service.log").open("w") as log:
                subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
            return process, int(line.rpartition(":")[2])
    raise SystemExit("the service did not start")


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--lake", type=Path, help="a lake with a live bundle; without it one is invented")
    options.add_argument("--only", nargs="+", choices=ABUSES, default=list(ABUSES))
    options.add_argument("--seconds", type=float, default=10.0, help="how long each round takes")
    options.add_argument("--rounds", type=int, default=3, help="how often each abuse is measured")
    given = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with tempfile.TemporaryDirectory() as folder:
        service, port = serve(given.lake or invented_lake(Path(folder)))
        try:
            return run_all(service, port, given.only, given.seconds, given.rounds)
        finally:
            service.terminate()
            service.wait()


def run_all(
    service: "subprocess.Popen[str]", port: int, names: list[str], seconds: float, rounds: int
) -> int:
    process = psutil.Process(service.pid)
    asyncio.run(measure(port, process, 3, 0))  # the first queries touch what later ones find in memory
    start = private_bytes(process)
    print(f"{'':<22} {'calm p99':>10} {'abused':>10} {'ratio':>6} {'memory':>10} {'asked':>7} {'lost':>5}")
    missed = False
    for name in names:
        calm: list[Measured] = []
        abused: list[Measured] = []
        sent: list[np.ndarray] = []
        for _ in range(rounds):
            calm.append(asyncio.run(measure(port, process, seconds, start)))
            counts = multiprocessing.Array("d", 5, lock=False)
            abuser = multiprocessing.Process(target=abuse, args=(port, name, counts), daemon=True)
            abuser.start()
            time.sleep(1)
            before, began = np.array(counts), time.perf_counter()
            abused.append(asyncio.run(measure(port, process, seconds, start)))
            sent.append((np.array(counts) - before) / (time.perf_counter() - began))
            abuser.kill()
            abuser.join()
            time.sleep(1)
        missed |= report(name, calm, abused, np.median(sent, axis=0))
    return int(missed)


def report(name: str, calm: list[Measured], abused: list[Measured], sent: np.ndarray) -> bool:
    """Print what an abuse did; whether it missed a target."""
    before, during = (float(np.median([one.p99 for one in rounds])) for rounds in (calm, abused))
    ratio = during / max(before, FLOOR_MS)
    grew = max(one.grew_mb for one in abused)
    lost = [status for one in (*calm, *abused) for status in one.lost]
    missed = ratio > P99_TARGET or grew >= GROWTH_TARGET_MB or bool(lost)
    print(
        f"{name:<22} {before:7.1f} ms {during:7.1f} ms {ratio:6.2f} {grew:+7.1f} MB"
        f" {sum(one.n for one in abused):7} {len(lost):5}{'   missed' if missed else ''}"
        f" {', '.join(sorted(set(lost)))}".rstrip()
    )
    used, busy = (float(np.median([one.cpu for one in rounds])) for rounds in (calm, abused))
    print(
        f"    a second {sent[0]:,.0f} connections, {sent[1]:,.0f} requests or parts of them,"
        f" {sent[2] / 1e6:,.1f} MB, {sent[3]:,.0f} answers, {sent[4]:,.0f} of them refusals;"
        f" the service uses {used:.0%} -> {busy:.0%} of a core",
        flush=True,
    )
    return missed


if __name__ == "__main__":
    sys.exit(main())
