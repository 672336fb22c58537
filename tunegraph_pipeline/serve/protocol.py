"""HTTP as the service reads it: uvicorn's parser, with a limit on the head of a request.

Here: what is answered to a request that never reaches the application, because its head is too long or is no
HTTP. Not here: the limit of a body, and everything else about a request (`middleware`).
"""

from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tunegraph_pipeline.serve.limits import MOST_HEAD_BYTES
from tunegraph_pipeline.serve.middleware import RequestMiddleware
from tunegraph_pipeline.serve.problem_details import Problem

_LINGER_SECONDS = 1.0
"""Time for a client to finish sending and read why it was refused; closing at once could cut it off."""


class Protocol(HttpToolsProtocol):
    """A connection. It is closed after a request that cannot be read."""

    _head = 0  # bytes of the head so far that the parser has not told of
    _in_head = False
    _refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._head += len(data)
            if self._head > MOST_HEAD_BYTES:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._in_head = 0, True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._head > MOST_HEAD_BYTES:
            raise ValueError("the head is too long")  # the parser stops, and `send_400_response` is called
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        response = cast(RequestMiddleware, self.app).unread(self._problem())
        status = HTTPStatus(response.status_code)
        lines = [f"HTTP/1.1 {int(status)} {status.phrase}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._refused = True
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _problem(self) -> Problem:
        if self._head <= MOST_HEAD_BYTES:
            return Problem(HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1.1", name="not-http")
        most = f"at most {MOST_HEAD_BYTES:,} bytes"
        if len(self.url) > MOST_HEAD_BYTES // 2:
            detail = f"an address may have {most} with the headers; send fewer ids, or a body"
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, detail, name="address-too-long")
        return Problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the headers of a request may have {most} with its address",
            name="headers-too-long",
        )
