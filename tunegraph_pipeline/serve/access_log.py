"""The log: one JSON object a line, and nothing in it that says who asked or about whom.

Here: what is written about a request, and about a fault. A request is its method, the template of its route,
its status, how long it took and its id: never the path, which may name a user, never the query, an address or
a body. A fault is its type and where it happened, without its message, which may quote any of these.
"""

import os
import traceback
from datetime import UTC, datetime

import pydantic_core

_STDOUT, _STDERR = 1, 2


class AccessLog:
    """Writes to standard output, a line at a time, so that those of several workers do not mix.

    A log that nobody reads any more must not end the service: then it falls silent.
    """

    def __init__(self, *, requests: bool) -> None:
        self._requests = requests

    def request(self, method: str, route: str, status: int, milliseconds: float, request_id: str) -> None:
        if not self._requests:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # Nothing in it needs escaping: methods and ids are of safe characters, routes are our own.
        line = (
            f'{{"at":"{now}","method":"{method}","route":"{route}","status":{status},'
            f'"ms":{milliseconds:.2f},"request_id":"{request_id}"}}\n'
        )
        self._requests = _write(_STDOUT, line.encode())

    def fault(self, error: BaseException, route: str, request_id: str) -> None:
        places = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        content = {
            "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "fault": f"{type(error).__module__}.{type(error).__qualname__}",
            "route": route,
            "request_id": request_id,
            "trace": places,
        }
        _write(_STDERR, pydantic_core.to_json(content) + b"\n")


def note(what: str) -> None:
    """A line about the service itself, to standard error."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    _write(_STDERR, pydantic_core.to_json({"at": now, "note": what}) + b"\n")


def _write(stream: int, line: bytes) -> bool:
    try:
        os.write(stream, line)
    except OSError:
        return False
    return True
