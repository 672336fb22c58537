"""The middleware around the whole application: every request and every response passes through it.

Here: request ids, the rate limit, the body size limit, security headers, the metrics and the access log of
each request, and the response when the application fails. Not here: access to stored users (`access`), or the
endpoints (`routes`). Plain ASGI for speed, because this runs for every request.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from secrets import token_hex
from time import perf_counter

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunegraph_pipeline.serve.access_log import AccessLog
from tunegraph_pipeline.serve.limits import MOST_BODY_BYTES
from tunegraph_pipeline.serve.metrics import ServiceMetrics
from tunegraph_pipeline.serve.problem_details import REQUEST_ID, Problem, internal_error
from tunegraph_pipeline.serve.rate_limit import RateLimiter, client_of

_VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_UNLIMITED_PATHS = frozenset({"/health", "/ready", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_NO_ROUTE = "none"
_MOST_DISCARDED = 16 * 2**20  # bytes of a body that is too long, read so that its sender reads the answer

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' https: data:; media-src https: data:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", _PAGE_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
_NO_STORE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMiddleware:
    """Wraps an ASGI application. ``routes`` give the route template of a request rejected before routing."""

    app: ASGIApp
    routes: Iterable[BaseRoute]
    metrics: ServiceMetrics
    log: AccessLog
    limiter: RateLimiter | None
    proxies: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        request_id, length, chunked, forwarded_for = _read_headers(scope["headers"])
        method: str = scope["method"]
        # HEAD is handled as GET; the server, which keeps its own scope, drops the body.
        scope = {**scope, REQUEST_ID: request_id, "method": "GET" if method == "HEAD" else method}
        status = 0
        finished = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, finished
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message["headers"])
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                headers.extend(_SECURITY_HEADERS)
                headers.append((b"x-request-id", request_id.encode()))
            elif not message.get("more_body", False):
                finished = True
            await send(message)

        try:
            rejection = self._rejection(scope, started, length, forwarded_for)
            if rejection is not None:
                if rejection.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    await _discard_body(scope, receive)
                await rejection.response(scope)(scope, receive, send_with_headers)
            else:
                limited = _limit_body(scope, receive) if chunked else receive
                await self.app(scope, limited, send_with_headers)
        except Exception as error:  # noqa: BLE001  # logged, and answered with a 500
            self.log.fault(error, self._route_of(scope), request_id)
            if not status:
                await internal_error(scope)(scope, receive, send_with_headers)
        finally:
            seconds = perf_counter() - started
            route = self._route_of(scope)
            shown = method if method in _METHODS else "OTHER"
            # 499: the client disconnected before the response was complete.
            code = status if finished else 499
            self.metrics.request(shown, route, code, seconds)
            self.log.request(shown, route, code, seconds * 1e3, request_id)

    def unread(self, problem: Problem) -> Response:
        """The response to a request that could not be read, logged and counted like the others. The
        connection has to be closed after it."""
        request_id = token_hex(8)
        response = problem.response({REQUEST_ID: request_id})
        response.raw_headers += [_NO_STORE, *_SECURITY_HEADERS]
        response.raw_headers += [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        self.metrics.request("OTHER", _NO_ROUTE, response.status_code, 0.0)
        self.log.request("OTHER", _NO_ROUTE, response.status_code, 0.0, request_id)
        return response

    def _rejection(self, scope: Scope, now: float, length: int, forwarded_for: list[bytes]) -> Problem | None:
        if self.limiter is not None and scope["path"] not in _UNLIMITED_PATHS:
            peer = scope["client"][0] if scope.get("client") else None
            wait = self.limiter.wait_of(client_of(peer, forwarded_for, self.proxies), now)
            if wait:
                return Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"this client is over the rate limit of the service; try again in {wait} s",
                    name="rate-limit",
                    headers={"Retry-After": str(wait)},
                )
        return _body_too_large() if length > MOST_BODY_BYTES else None

    def _route_of(self, scope: Scope) -> str:
        """The template of the requested route, for the log and the metrics; never the path itself."""
        route = scope.get("route")
        if route is None:
            for candidate in self.routes:
                if candidate.matches(scope)[0] is not Match.NONE:
                    route = candidate
                    break
        return str(getattr(route, "path_format", _NO_ROUTE))


def _read_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int, bool, list[bytes]]:
    """The request id, the declared body length, whether the body is chunked, and X-Forwarded-For."""
    request_id = ""
    length, chunked = 0, False
    forwarded_for: list[bytes] = []
    for name, value in headers:
        if name == b"content-length":
            # The server has checked that it is a number; one of 16 digits is over the limit anyway.
            length = int(value) if len(value) < 16 else MOST_BODY_BYTES + 1
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"x-request-id":
            request_id = value.decode() if _VALID_REQUEST_ID.fullmatch(value) else ""
        elif name == b"x-forwarded-for":
            forwarded_for.append(value)
    return request_id or token_hex(8), length, chunked, forwarded_for


async def _discard_body(scope: Scope, receive: Receive) -> None:
    """Read what is left of a body and forget it: most clients read the answer only when they have sent
    everything, and find a connection that was closed before that broken. Up to a limit, and not where the
    client asks first whether to send a body."""
    left = 0 if any(name == b"expect" for name, _ in scope["headers"]) else _MOST_DISCARDED
    while left > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))


def _limit_body(scope: Scope, receive: Receive) -> Receive:
    """``receive``, but it raises Problem once the body is over the limit."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MOST_BODY_BYTES:
                if message.get("more_body", False):
                    await _discard_body(scope, receive)
                raise _body_too_large()
        return message

    return receive_limited


def _body_too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"a body may have at most {MOST_BODY_BYTES:,} bytes; send fewer ids",
        name="body-too-large",
        headers={"Connection": "close"},
    )
