"""HTTP as the service reads it: uvicorn's parser, with limits on how much and how slowly a client sends.

Here: the limits of the head of a request, of trailers and of what stands between the parts of a body, of
requests that wait on one connection; the deadlines of a connection; and what is answered to a request that
never reaches the application. Not here: the limit of a body and everything else about a request
(`middleware`), or how many connections there may be (`connections`).
"""

import asyncio
from functools import lru_cache, partial
from http import HTTPStatus
from math import inf
from typing import cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from tunegraph_pipeline.serve.middleware import BODY_ARRIVED, WRITE_WHOLE, RequestMiddleware, takes_file
from tunegraph_pipeline.serve.problem_details import Problem, unavailable
from tunegraph_pipeline.serve.rate_limit import client_of

_LINGER_SECONDS = 1.0
"""Time for a client to finish sending and read why it was refused; closing at once could cut it off."""
_GRACE_SECONDS = 1.0
"""After the deadline of a body, for the application to answer that it has passed."""
_MOST_DISCARDED = 2**19
"""Bytes read of a client that goes on sending after it was refused."""


class Protocol(HttpToolsProtocol):
    """A connection. It is closed after a request that cannot be read.

    ``_surplus`` counts the bytes of an unfinished head; in a body, those since its last byte, which are sizes
    of chunks, their extensions, and trailers.
    """

    _surplus = 0
    _held = 0  # bytes that arrived of an unfinished request
    _begun = 0  # heads that began in what was received last
    _in_head = _in_body = False
    _takes_file = False  # its body is written to disk as it arrives
    _advanced = False  # whether it finished a head, or had a part of a body
    _found: Problem | None = None
    _refused = False
    _discarded = 0
    _deadline = _write_deadline = inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._app = cast(RequestMiddleware, self.app)
        self._limits = self._app.limits
        self.client_name = client_of(self.client[0] if self.client else None, [], 0)
        self._deadline = self.loop.time() + self._limits.head_seconds
        self._app.connections.opened(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._app.connections.closed(self)
        self._deadline = self._write_deadline = inf
        super().connection_lost(exc)

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.transport.abort()
        else:
            unfinished = self._in_head or self._in_body
            self._begun, self._advanced = 0, False
            super().data_received(data)
            self._look_at(len(data), unfinished)

    def _look_at(self, size: int, was_unfinished: bool) -> None:
        """Compare with the limits what is unfinished after ``size`` bytes more."""
        if self._refused:
            return
        if self._in_head and (self._begun == 0 or (self._begun == 1 and not was_unfinished)):
            self._surplus += size  # otherwise it began behind other requests, and is shorter
        elif self._in_body:
            self._surplus = 0 if self._advanced else self._surplus + size
        if self._in_head or self._in_body:
            if self._surplus > self._limits.head_bytes:
                self._refuse(self._too_long())
            else:
                self._held = self._held + size if was_unfinished else size
                if self._in_body and self._takes_file and not self.pipeline:
                    self._held = len(self.cycle.body)
                self._app.connections.unfinished(self, self._held)
        elif self._is_answering():
            self._app.connections.busy(self)
        elif self._deadline is inf:  # empty lines before a request, which must not go on for ever
            self._app.connections.unfinished(self, 0)
            self._deadline = self.loop.time() + self._limits.head_seconds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._surplus, self._in_head = 0, True
        self._begun += 1
        self._deadline = self.loop.time() + self._limits.head_seconds

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are not used
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if length > self._limits.head_bytes:
            self._found = self._too_long()
        elif len(self.pipeline) >= self._limits.pipelined:
            detail = f"at most {self._limits.pipelined} requests may wait for an answer on one connection"
            self._found = Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, name="pipelined")
        if self._found is not None:
            raise ValueError(self._found.detail)  # the parser stops, and `send_400_response` is called
        self._in_head, self._in_body = False, True
        self._surplus, self._advanced = 0, True
        path = self.url.partition(b"?")[0].decode("latin-1")
        self._takes_file = takes_file(path, self.headers)
        seconds = self._limits.file_seconds if self._takes_file else self._limits.body_seconds
        self._deadline = self.loop.time() + seconds + _GRACE_SECONDS
        super().on_headers_complete()
        self.cycle.scope[WRITE_WHOLE] = partial(_write_whole, self.cycle)  # type: ignore[literal-required]

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._deadline = inf
        self.cycle.scope[BODY_ARRIVED] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def on_response_complete(self) -> None:
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if waiting or self.transport.is_closing():
            return
        if self._refused:
            self._send_refusal()
        elif not (self._in_head or self._in_body):
            self._app.connections.idle(self)

    # --- deadlines ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.time() + self._limits.write_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline = inf

    def end_if_late(self, now: float) -> bool:
        if now >= self._write_deadline:
            self._end("late")
            return True
        if self.transport.is_closing():  # it waits for the client to take the rest of an answer
            self._write_deadline = min(self._write_deadline, now + self._limits.write_seconds)
        elif now >= self._deadline and not self._refused:
            self._end_late()
            return True
        return False

    def _end_late(self) -> None:
        if self._in_head:
            detail = f"the headers of a request have to arrive within {self._limits.head_seconds:g} s"
            self._refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, detail, name="slow-headers"))
        else:
            # Nothing was asked; or the application has answered, without the body or because it was late.
            self._end("late")

    def make_room(self) -> None:
        self._end("room")

    def turn_away(self) -> None:
        self._refused = True
        self._write(unavailable("too many connections are open; try again in a second", retry_after=1))
        self.transport.close()

    def _end(self, reason: str) -> None:
        """End the connection without an answer: there is no time or nobody for one."""
        self._refused = True
        self._app.metrics.connection_ended(reason)
        self.transport.abort()

    # --- refusing ---

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            self._found
            or Problem(HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1.1", name="not-http")
        )

    def _refuse(self, problem: Problem) -> None:
        """Read nothing more, and answer with the problem after the answers to earlier requests."""
        self._refused, self._found = True, problem
        if not self._in_body:
            if not self._is_answering():
                self._send_refusal()
        elif self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()  # the application does not have it yet
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._send_refusal()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _send_refusal(self) -> None:
        assert self._found is not None
        self._unset_keepalive_if_required()
        self._app.connections.unfinished(self, 0)
        if self._write(self._found) is not self._found.status:
            self.transport.close()  # the client is over its rate, and nothing is spent on it
        else:
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _write(self, problem: Problem) -> HTTPStatus:
        headers = self.headers or []
        response = self._app.unread(problem, self.client[0] if self.client else None, headers)
        status = HTTPStatus(response.status_code)
        lines = [f"HTTP/1.1 {int(status)} {status.phrase}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        return status

    def _too_long(self) -> Problem:
        most = f"at most {self._limits.head_bytes:,} bytes"
        if self._in_body:
            detail = f"trailers, and what stands between the parts of a body, may have {most}"
        elif len(self.url) > self._limits.head_bytes // 2:
            detail = f"an address may have {most} with the headers; send fewer ids, or a body"
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, detail, name="address-too-long")
        else:
            detail = f"the headers of a request may have {most} with its address"
        return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, name="headers-too-long")


_OWN_HEADERS = frozenset({b"connection", b"transfer-encoding"})  # what uvicorn has more to do for


def _write_whole(cycle: RequestResponseCycle, start: Message, body: Message) -> bool:
    """Write a whole response at once, as `RequestResponseCycle.send` does in two calls, in which it checks
    every header anew. False if it is another one than most, for which `send` is."""
    *headers, its_id = start["headers"]
    content = body.get("body", b"")
    length = b"content-length", b"%d" % len(content)
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
        return False
    if cycle.scope["method"] == "HEAD" or length not in headers:
        return False
    # Most responses have the same headers, but for the length and, at the end, the id of the request.
    at = headers.index(length)
    before, after = _kept_lines(tuple(headers[:at])), _kept_lines(tuple(headers[at + 1 :]))
    if before is None or after is None:
        return False
    closing = b"" if cycle.keep_alive else b"connection: close\r\n"
    head = STATUS_LINE[start["status"]], before, _line(*length), after, _line(*its_id), closing, b"\r\n"
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    # It refers to the cycle, which refers to its scope: a circle that only garbage collection would free.
    del cycle.scope[WRITE_WHOLE]  # type: ignore[misc]
    cycle.transport.write(b"".join([*head, content]))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _line(name: bytes, value: bytes) -> bytes:
    """A header as it is written. Raises RuntimeError if it could be taken for more than one."""
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError(f"invalid header {name!r}")
    return name.lower() + b": " + value + b"\r\n"


@lru_cache(256)
def _kept_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """Headers as they are written; None if one is among those that uvicorn has more to do for."""
    if any(name in _OWN_HEADERS for name, _ in headers):
        return None
    return b"".join([_line(name, value) for name, value in headers])
