"""A folder of dumps over HTTP on loopback, as data.metabrainz.org serves it, with faults.

Here: listings of folders, files and ranges of them, and counts of all that was sent. Not here: what is in the
folder (`dumps`). Names that begin with a dot are neither listed nor served.

A fault is a function of the seed, the request and how often the same request was made before. The same
request fails at most twice in a row, so that a client which tries again comes through. ``replaced`` changes a
file's ETag and Last-Modified, once for each file, as if it had been made again; its bytes stay.
"""

import html
import os
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.parse import quote, unquote

from pydantic import BaseModel, Field, model_validator

from tunegraph_pipeline.simulator.faults import FaultDraws, check_shares
from tunegraph_pipeline.simulator.loopback import LoopbackServer

_ON_FILES = ("reset", "truncated", "stall", "unavailable")
_ON_FIRST_VERSIONS = ("replaced",)
_ON_RANGES = ("wrong_range", "not_satisfiable", "short_range")
_ON_CHECKSUMS = ("wrong_checksum",)
_ON_LISTINGS = ("unlisted", "reset", "unavailable")
_KINDS = tuple(dict.fromkeys((*_ON_FILES, *_ON_FIRST_VERSIONS, *_ON_RANGES, *_ON_CHECKSUMS, *_ON_LISTINGS)))
_HALFWAY = ("reset", "truncated", "stall")
_OTHER_DIGIT = bytes.maketrans(b"0123456789abcdef", b"123456789abcdef0")
_PIECE = 1 << 18  # bytes read at a time
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class DumpFaults(BaseModel, frozen=True, extra="forbid"):
    """The faults of a `DumpServer`. Shares are of requests, from 0 to 1."""

    seed: int = 0
    latency_ms: float = Field(default=0.0, ge=0, description="delay of every answer")
    bytes_per_second: float | None = Field(default=None, gt=0, description="of each answer")
    reset: float = Field(default=0.0, ge=0, le=1, description="the connection is reset halfway")
    truncated: float = Field(default=0.0, ge=0, le=1, description="the connection is closed halfway")
    stall: float = Field(default=0.0, ge=0, le=1, description="the answer stops halfway for stall_seconds")
    stall_seconds: float = Field(default=60.0, ge=0, description="then the connection is closed")
    unavailable: float = Field(default=0.0, ge=0, le=1, description="503 with Retry-After")
    retry_after_seconds: int = Field(default=1, ge=0)
    wrong_range: float = Field(default=0.0, ge=0, le=1, description="206 with other bytes than asked for")
    short_range: float = Field(default=0.0, ge=0, le=1, description="206 with the first half of the range")
    not_satisfiable: float = Field(default=0.0, ge=0, le=1, description="416 although the range is there")
    wrong_checksum: float = Field(default=0.0, ge=0, le=1, description="a .sha256 file with another checksum")
    replaced: float = Field(default=0.0, ge=0, le=1, description="the file has another ETag from now on")
    unlisted: float = Field(default=0.0, ge=0, le=1, description="a listing without the files of the folder")

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        check_shares(getattr(self, kind) for kind in _KINDS)
        return self


class Sent(NamedTuple):
    """Bytes of a file that went out: from ``start`` to before ``end``."""

    path: str
    start: int
    end: int


class DumpServer:
    """Serves a folder from threads of this process, inside a ``with`` block.

    ``url`` has no slash at the end. ``requests`` counts answers by method, path and status (0: none was
    sent); ``sent`` lists what was sent of files; ``faults_made`` counts faults by kind.

    Raises InputError for a port in use.
    """

    def __init__(self, folder: Path, *, port: int = 0, faults: DumpFaults | None = None) -> None:
        self.folder = folder
        self.faults = faults or DumpFaults()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.sent: list[Sent] = []
        self.faults_made: Counter[str] = Counter()
        self._draws = FaultDraws(self.faults.seed, {kind: getattr(self.faults, kind) for kind in _KINDS})
        self._replaced: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _HTTPServer(port, _Handler)
        self._http.served = self
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and close every connection. A second call does nothing."""
        self._closing.set()
        self._http.close()

    def replace(self, path: str) -> None:
        """Give the file at ``path``, which begins with a slash, another ETag and a later Last-Modified."""
        with self._lock:
            self._replaced[path] += 1

    def bytes_sent(self) -> Counter[str]:
        """How many bytes of each file were sent in all."""
        found: Counter[str] = Counter()
        with self._lock:
            for path, start, end in self.sent:
                found[path] += end - start
        return found

    def bytes_sent_again(self) -> Counter[str]:
        """How many bytes of each file were sent that had been sent before; files without any are left out."""
        ranges: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        with self._lock:
            for path, start, end in self.sent:
                ranges[path].append((start, end))
        found: Counter[str] = Counter()
        for path, parts in ranges.items():
            reached = 0
            for start, end in sorted(parts):
                if again := max(min(reached, end) - start, 0):
                    found[path] += again
                reached = max(reached, end)
        return found

    # Called by the handler's threads:

    def draw(self, key: str, kinds: tuple[str, ...]) -> str | None:
        """The fault of a request, None for none."""
        fault = self._draws.draw(key, kinds)
        if fault is not None:
            with self._lock:
                self.faults_made[fault] += 1
        return fault

    def version(self, path: str, status: os.stat_result) -> tuple[str, str]:
        """ETag and Last-Modified of a file with that status."""
        changed = int(status.st_mtime) + self._replaced[path]
        return f'"{changed:x}-{status.st_size:x}"', formatdate(changed, usegmt=True)

    def has_replaced(self, path: str) -> bool:
        """Whether a file already has another version."""
        with self._lock:
            return self._replaced[path] > 0

    def count(self, method: str, path: str, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.requests[method, path, status] += 1

    def count_sent(self, path: str, start: int, end: int) -> None:
        """Count the bytes of a file that go out."""
        with self._lock:
            self.sent.append(Sent(path, start, end))

    def wait(self, seconds: float) -> None:
        """Wait, but not after the server is closed."""
        self._closing.wait(seconds)


class _HTTPServer(LoopbackServer):
    served: DumpServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def _handle(self) -> None:
        served = self.server.served
        path = unquote(self.path.partition("?")[0])
        parts = path.split("/")[1:]
        if served.faults.latency_ms:
            served.wait(served.faults.latency_ms / 1000)
        target = served.folder.joinpath(*parts)
        if any(part.startswith(".") for part in parts) or "" in parts[:-1] or not target.exists():
            self._answer(path, HTTPStatus.NOT_FOUND, b"404 Not Found\n", {"Content-Type": "text/plain"})
        elif target.is_dir():
            if parts[-1]:
                where = {"Location": f"{quote(path)}/"}
                self._answer(path, HTTPStatus.MOVED_PERMANENTLY, b"", where)
            else:
                self._listing(path, target)
        elif not parts[-1]:
            self._answer(path, HTTPStatus.NOT_FOUND, b"404 Not Found\n", {"Content-Type": "text/plain"})
        else:
            self._file(path, target)

    do_GET = do_HEAD = _handle  # noqa: N815  # names the base class looks for

    def _listing(self, path: str, folder: Path) -> None:
        served = self.server.served
        fault = served.draw(f"{self.command} {path}", _ON_LISTINGS)
        rows = ['<a href="../">../</a>'] if path != "/" else []
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(".") or (fault == "unlisted" and entry.is_file()):
                continue
            status = entry.stat()
            name = entry.name + "/" * entry.is_dir()
            when = time.strftime("%d-%b-%Y %H:%M", time.gmtime(status.st_mtime))
            size = str(status.st_size) if entry.is_file() else "-"
            label = html.escape(name)
            rows.append(f'<a href="{quote(name)}">{label}</a>{" " * max(1, 70 - len(name))}{when} {size:>20}')
        title = html.escape(f"Index of {path}")
        text = f"<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1><hr><pre>"
        content = (text + "\n".join(rows) + "\n</pre><hr></body>\n</html>\n").encode()
        if fault == "unavailable":
            self._unavailable(path)
        elif fault == "reset":
            served.count(self.command, path, 0)
            self._reset()
        else:
            self._answer(path, HTTPStatus.OK, content, {"Content-Type": "text/html; charset=utf-8"})

    def _file(self, path: str, target: Path) -> None:
        served = self.server.served
        with target.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            asked = self._asked(size)
            kinds: tuple[str, ...] = _ON_FILES
            kinds += () if served.has_replaced(path) else _ON_FIRST_VERSIONS
            kinds += _ON_RANGES if asked else _ON_CHECKSUMS if path.endswith(".sha256") else ()
            fault = served.draw(f"{self.command} {path} {self.headers.get('Range', '')}", kinds)
            if fault == "unavailable":
                self._unavailable(path)
                return
            if fault == "replaced":
                served.replace(path)
            tag, changed = served.version(path, status)
            head = {
                "Content-Type": "application/octet-stream",
                "Accept-Ranges": "bytes",
                "ETag": tag,
                "Last-Modified": changed,
            }
            if self.headers.get("If-Match", tag) not in {tag, "*"}:
                self._answer(path, HTTPStatus.PRECONDITION_FAILED, b"", head)
                return
            if self.headers.get("If-Range", tag) not in {tag, changed}:
                asked = None
            if asked and (fault == "not_satisfiable" or asked[0] >= asked[1]):
                refused = head | {"Content-Range": f"bytes */{size}"}
                self._answer(path, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", refused)
                return
            start, end = _spoilt(asked, size, fault) if asked else (0, size)
            head["Content-Length"] = str(end - start)
            if asked:
                head["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            self._head(path, HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK, head)
            if self.command == "GET":
                self._body(path, file, start, end, fault)

    def _body(self, path: str, file: BinaryIO, start: int, end: int, fault: str | None) -> None:
        """Send bytes of a file, all or half of them."""
        served = self.server.served
        halfway = fault in _HALFWAY
        stop = start + (end - start) // 2 if halfway else end
        file.seek(start)
        while (at := file.tell()) < stop:
            content = file.read(min(stop - at, _PIECE))
            if fault == "wrong_checksum" and at == 0:
                content = content[:1].translate(_OTHER_DIGIT) + content[1:]
            self._send(path, at, content)
        if halfway:
            self.close_connection = True
        if fault == "stall":
            served.wait(served.faults.stall_seconds)
        elif fault == "reset":
            self._reset()

    def _asked(self, size: int) -> tuple[int, int] | None:
        """The range that is asked for, as first byte and the one after the last; None for the whole file. A
        range outside of the file is empty."""
        found = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if found is None or found[0] == "bytes=-":
            return None
        first, last = found.groups()
        if not first:
            return max(size - int(last), 0), size
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1, size) if last else size

    def _unavailable(self, path: str) -> None:
        wait = {"Retry-After": str(self.server.served.faults.retry_after_seconds)}
        self._answer(path, HTTPStatus.SERVICE_UNAVAILABLE, b"503 Service Unavailable\n", wait)

    def _answer(self, path: str, status: HTTPStatus, content: bytes, head: dict[str, str]) -> None:
        self._head(path, status, head | {"Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _head(self, path: str, status: HTTPStatus, head: dict[str, str]) -> None:
        # Counted before it is sent, so that a client with the answer finds it counted.
        self.server.served.count(self.command, path, status.value)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in head.items()),
        ]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def _send(self, path: str, start: int, content: bytes) -> None:
        served = self.server.served
        if served.faults.bytes_per_second:
            served.wait(len(content) / served.faults.bytes_per_second)
        served.count_sent(path, start, start + len(content))
        self.wfile.write(content)

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing; the server counts its requests."""


def _spoilt(asked: tuple[int, int], size: int, fault: str | None) -> tuple[int, int]:
    """The range that is sent for the one ``asked`` for."""
    start, end = asked
    if fault == "short_range":
        return start, start + max((end - start) // 2, 1)
    if fault == "wrong_range":
        return (start - 1, end - 1) if start else (1, min(end + 1, size))
    return asked
