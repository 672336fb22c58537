"""HTTP requests as fast as they are answered, from one process: the load of `serving.py`.

Here: keep-alive connections that each send the next request when the last one is answered, and the results.
Not here: the service, or the choice of requests.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np


@dataclass
class Load:
    """The answers: how many of each status, and seconds from request to answer, in order of arrival."""

    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    seconds: list[float] = field(default_factory=list)
    took: float = 0.0

    @property
    def errors(self) -> int:
        return self.lost + sum(n for status, n in self.statuses.items() if status != 200)

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share, from 0 to 100, of the requests was answered."""
        return float(np.percentile(self.seconds, share)) * 1e3


class _Connection(asyncio.Protocol):
    """One request at a time, the next as soon as the last is answered, until there are none."""

    def __init__(self, requests: "_Requests", load: Load, ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._load = load
        self._ended = ended
        self._buffer = bytearray()
        self._start = 0.0
        self._waiting = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own is no subclass of it
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        header = bytes(self._buffer[:head]).lower()
        length = int(header.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self._buffer) < head + 4 + length:
            return
        self._load.seconds.append(time.perf_counter() - self._start)
        self._load.statuses[int(header[9:12])] += 1
        self._buffer.clear()
        self._waiting = False
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._load.lost += 1
        if not self._ended.done():
            self._ended.set_result(None)

    def _next(self) -> None:
        assert self._transport is not None
        request = self._requests.next()
        if request is None:
            self._transport.close()
            return
        self._waiting = True
        self._start = time.perf_counter()
        self._transport.write(request)


class _Requests:
    def __init__(self, requests: Sequence[bytes], total: int, progress: Callable[[int], None]) -> None:
        self._requests = requests
        self._total = total
        self._sent = 0
        self._progress = progress

    def next(self) -> bytes | None:
        if self._sent == self._total:
            return None
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        if self._sent % 1000 == 0:
            self._progress(self._sent)
        return request


def post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def load(
    port: int,
    requests: Sequence[bytes],
    *,
    total: int,
    connections: int,
    progress: Callable[[int], None] = lambda sent: None,
) -> Load:
    """Send ``total`` requests, the given ones over and over, through so many connections to loopback."""

    async def run() -> Load:
        found = Load()
        loop = asyncio.get_running_loop()
        source = _Requests(requests, total, progress)
        ends = [loop.create_future() for _ in range(connections)]
        start = time.perf_counter()
        for ended in ends:
            await loop.create_connection(
                lambda ended=ended: _Connection(source, found, ended),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
        await asyncio.gather(*ends)
        found.took = time.perf_counter() - start
        return found

    import uvloop

    return uvloop.run(run())
