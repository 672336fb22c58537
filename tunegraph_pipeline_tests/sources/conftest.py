"""Fixtures of the sources' tests: a frontier, and a server that answers exactly what a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

import pytest

from tunegraph_pipeline.sources.frontier import Frontier

DAY = date(2026, 6, 1)


@dataclass(frozen=True)
class Request:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is sent back. ``drop`` closes the connection instead, ``cut`` after half of the body."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    cut: bool = False


class Stub:
    """A server on loopback whose replies a test sets, and which keeps every request it got.

    ``replies`` are given one after the other, the last one for ever; ``respond`` may be replaced by a
    function of the request.
    """

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply()]
        self.respond: Callable[[Request], Reply] = self._next
        self.asked: list[Request] = []
        self._lock = threading.Lock()
        self._http = ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.origin = ("http", f"127.0.0.1:{self._http.server_address[1]}")
        self.url = "://".join(self.origin)

    def say(self, *values: Any, status: int = 200, **headers: str) -> None:
        """Answer these values, one after the other: bytes as they are, a `Reply`, anything else as JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies = [
            value
            if isinstance(value, Reply)
            else Reply(value if isinstance(value, bytes) else json.dumps(value).encode(), status, named)
            for value in values
        ]

    def _next(self, request: Request) -> Reply:
        return self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers.items()), body)
                with stub._lock:
                    stub.asked.append(request)
                    reply = stub.respond(request)
                if reply.drop:
                    self.close_connection = True
                    return
                content = reply.body
                headers = {"Content-Length": str(len(content)), **reply.headers}
                head = [
                    f"HTTP/1.1 {reply.status} said",
                    *(f"{name}: {value}" for name, value in headers.items()),
                ]
                if reply.cut:
                    self.close_connection = True
                    content = content[: len(content) // 2]
                self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + content)

            do_GET = do_POST = _handle  # noqa: N815  # names the base class looks for

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
                """Say nothing: a test reads ``asked``."""

        return Handler


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def make_stub() -> Iterator[Callable[[], Stub]]:
    """Further servers of this kind, closed when the test is done."""
    with ExitStack() as running:

        def start() -> Stub:
            stub = Stub()
            running.callback(stub.close)
            return stub

        yield start


@pytest.fixture
def stub(make_stub: Callable[[], Stub]) -> Stub:
    return make_stub()


@pytest.fixture
def make_frontier(tmp_path: Path) -> Iterator[Callable[..., Frontier]]:
    """Opens the frontier of this test, for whatever day; all are closed when the test is done."""
    with ExitStack() as opened:
        yield lambda day=DAY: opened.enter_context(Frontier(tmp_path / "frontier.sqlite", day))


@pytest.fixture
def frontier(make_frontier: Callable[..., Frontier]) -> Frontier:
    return make_frontier()


@pytest.fixture
def kept_bytes() -> Callable[[Path], bytes]:
    """Everything a frontier's file holds, answers and journal unpacked."""
    import sqlite3
    import zlib

    def read(path: Path) -> bytes:
        parts = [file.read_bytes() for file in path.parent.glob(f"{path.name}*")]
        with sqlite3.connect(path) as db:
            for column, table in (("body", "answers"), ("rows", "journal")):
                rows = db.execute(f"SELECT {column} FROM {table}").fetchall()
                parts += [zlib.decompress(row[0]) for row in rows]
        return b"\n".join(parts)

    return read
