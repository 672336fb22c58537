"""The log: one JSON object per line, with nothing that identifies who asked or about whom.

Here: the lines about requests and errors. A request is logged as its method, the template of its route, its
status, its duration and its id; never the path, which may name a user, the query, an address or a body. An
error is logged as its type and traceback, without its message, which may quote any of these.
"""

import os
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns

import pydantic_core

_STDOUT, _STDERR = 1, 2


class AccessLog:
    """Writes requests to standard output and errors to standard error, each line in one write, so that the
    lines of several workers do not mix.

    If standard output is closed, requests are no longer logged; the service keeps running.
    """

    def __init__(self, *, requests: bool) -> None:
        self._requests = requests

    def request(self, method: str, route: str, status: int, milliseconds: float, request_id: str) -> None:
        if not self._requests:
            return
        # Nothing needs escaping: methods and ids have safe characters only, and the routes are our own.
        line = (
            f'{{"at":"{_now()}","method":"{method}","route":"{route}","status":{status},'
            f'"ms":{milliseconds:.2f},"request_id":"{request_id}"}}\n'
        )
        self._requests = _write(_STDOUT, line.encode())

    def fault(self, error: BaseException, route: str, request_id: str) -> None:
        frames = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        content = {
            "at": _now(),
            "fault": f"{type(error).__module__}.{type(error).__qualname__}",
            "route": route,
            "request_id": request_id,
            "trace": frames,
        }
        _write(_STDERR, pydantic_core.to_json(content) + b"\n")


def note(what: str) -> None:
    """Log a line about the service itself to standard error."""
    _write(_STDERR, pydantic_core.to_json({"at": _now(), "note": what}) + b"\n")


def _now() -> str:
    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return f"{_of_second(seconds)}.{rest // 1000:06}Z"


@lru_cache(1)
def _of_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _write(stream: int, line: bytes) -> bool:
    try:
        os.write(stream, line)
    except OSError:
        return False
    return True
