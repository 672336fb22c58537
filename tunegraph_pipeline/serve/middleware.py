"""The middleware around the whole application: every request and every response passes through it.

Here: request ids, the rate limit, the limits of a body, the Host under which a service on loopback is asked,
security headers, the metrics and the access log of each request, and the response when the application fails.
Not here: access to stored users (`access`), the endpoints (`routes`), or the head of a request (`protocol`).
Plain ASGI for speed, because this runs for every request.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from secrets import token_hex
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunegraph_pipeline.serve.access import is_own_host
from tunegraph_pipeline.serve.access_log import AccessLog
from tunegraph_pipeline.serve.connections import OpenConnections
from tunegraph_pipeline.serve.metrics import ServiceMetrics
from tunegraph_pipeline.serve.problem_details import (
    ERROR_WRITER,
    REQUEST_ID,
    ErrorWriter,
    Problem,
    internal_error,
)
from tunegraph_pipeline.serve.rate_limit import RateLimiter, client_of
from tunegraph_pipeline.serve.settings import Limits

_VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_UNLIMITED_PATHS = frozenset({"/health", "/ready", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_NO_ROUTE = "none"
_BODY_DISCARDED = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.TOO_MANY_REQUESTS})
_BYTES_OF_A_REQUEST = 16_384  # a body this long counts as one more request
FILE_TYPE = b"application/octet-stream"
CHARGE = "tunegraph.charge"
"""The key of the scope of a function that counts a request as so many more, for the rate limit."""
BODY_ARRIVED = "tunegraph.body_arrived"
"""The key of the scope by which the server says that the whole body is there, and nobody waits for it."""
WRITE_WHOLE = "tunegraph.write_whole"
"""The key of the scope of a function of the server that writes a whole response at once, given its two
messages. False if it does not, so that they have to be sent."""
_MOST_DISCARDED = 16 * 2**20  # bytes of a body that is too long, read so that its sender reads the answer
_MOST_FILE_DISCARDED = 512 * 2**20  # the same of a file
_FILES_PATH = "/matches"

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    # Where the page saves playlists, and whose players it embeds, when a listener asks for it.
    "connect-src 'self' https://api.listenbrainz.org https://api.spotify.com; "
    "frame-src https://open.spotify.com https://widget.deezer.com https://www.youtube-nocookie.com; "
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
_Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMiddleware:
    """Wraps an ASGI application. ``routes`` give the route template of a request rejected before routing.
    ``own_hosts``: the further names in the Host of a request, None if it may be any."""

    app: ASGIApp
    cors: CORSMiddleware | None
    routes: Iterable[BaseRoute]
    metrics: ServiceMetrics
    log: AccessLog
    limiter: RateLimiter | None
    proxies: int
    own_hosts: frozenset[str] | None
    limits: Limits
    connections: OpenConnections
    error_writer: Callable[[str], ErrorWriter | None] | None = None
    """What writes the errors of a path, None for problem details; None if all paths have those."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        read = _Read.of(scope["headers"])
        method: str = scope["method"]
        # HEAD is handled as GET; the server, which keeps its own scope, drops the body.
        scope = {**scope, REQUEST_ID: read.request_id, "method": "GET" if method == "HEAD" else method}
        if self.error_writer is not None:
            scope[ERROR_WRITER] = self.error_writer(scope["path"])
        write_whole: Callable[[Message, Message], bool] | None = scope.get(WRITE_WHOLE)
        status = 0
        begun: Message | None = None
        finished = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, finished, begun
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message["headers"])
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                headers.extend(_SECURITY_HEADERS)
                headers.append((b"x-request-id", read.request_id.encode()))
                if write_whole is not None:
                    begun = message  # most bodies follow at once
                    return
            else:
                finished = not message.get("more_body", False)
                start, begun = begun, None
                if start is not None:
                    if finished and write_whole is not None and write_whole(start, message):
                        return
                    await send(start)
            await send(message)

        try:
            rejection = self._rejection(scope, started, read)
            if rejection is not None:
                if rejection.status in _BODY_DISCARDED:
                    await self._discard_body(scope, receive)
                if rejection.status == HTTPStatus.TOO_MANY_REQUESTS:
                    # Who asks again at once is held up, and the next request is not read meanwhile.
                    await asyncio.sleep(self.limits.refused_seconds)
                    started += self.limits.refused_seconds
                await self._own_response(rejection.response(scope), scope)(scope, receive, send_with_headers)
            else:
                # The declared length was compared with the limit; that of a chunked body is not known yet.
                unlimited = not read.chunked and (not read.length or BODY_ARRIVED in scope)
                limited = receive if unlimited else self._limit_body(scope, receive)
                await self.app(scope, limited, send_with_headers)
        except Exception as error:  # noqa: BLE001  # logged, and answered with a 500
            self.log.fault(error, self._route_of(scope), read.request_id)
            if not status:
                response = self._own_response(internal_error(scope), scope)
                await response(scope, receive, send_with_headers)
        finally:
            seconds = perf_counter() - started
            route = self._route_of(scope)
            shown = method if method in _METHODS else "OTHER"
            # 499: the client disconnected before the response was complete.
            code = status if finished else 499
            self.metrics.request(shown, route, code, seconds)
            self.log.request(shown, route, code, seconds * 1e3, read.request_id)

    def unread(self, problem: Problem, peer: str | None, headers: _Headers) -> Response:
        """The response to a request that could not be read, of which these headers were; counted by the rate
        limit, and logged like the others. The connection has to be closed after it."""
        headers = list(headers)
        problem = self._over_rate(peer, _Read.of(headers), perf_counter()) or problem
        request_id = token_hex(8)
        response = problem.response({REQUEST_ID: request_id})
        response.raw_headers += [*self._cors_headers(headers), _NO_STORE, *_SECURITY_HEADERS]
        response.raw_headers += [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        self.metrics.request("OTHER", _NO_ROUTE, response.status_code, 0.0)
        self.log.request("OTHER", _NO_ROUTE, response.status_code, 0.0, request_id)
        return response

    def _rejection(self, scope: Scope, now: float, read: "_Read") -> Problem | None:
        if self.own_hosts is not None and not all(is_own_host(host, self.own_hosts) for host in read.hosts):
            return Problem(
                HTTPStatus.FORBIDDEN,
                "this service listens on loopback, and is asked as localhost or 127.0.0.1 only; its operator"
                " can add this name with --allowed-host",
                name="foreign-host",
            )
        if (
            self.limiter is not None
            and scope["path"] not in _UNLIMITED_PATHS
            and not self._is_preflight(scope)
        ):
            peer = scope["client"][0] if scope.get("client") else None
            over = self._over_rate(peer, read, now)
            if over is not None:
                return over
            client = client_of(peer, read.forwarded_for, self.proxies)
            scope[CHARGE] = partial(self.limiter.charge, client)
        return self._body_too_large(scope) if read.length > self._most_bytes(scope) else None

    def _most_bytes(self, scope: Scope) -> int:
        return (
            self.limits.file_bytes if takes_file(scope["path"], scope["headers"]) else self.limits.body_bytes
        )

    def _most_seconds(self, scope: Scope) -> float:
        is_file = takes_file(scope["path"], scope["headers"])
        return self.limits.file_seconds if is_file else self.limits.body_seconds

    def _is_preflight(self, scope: Scope) -> bool:
        """Whether a browser asks if a page may send a request. If that were refused, the page would not learn
        why; the answer costs nothing, and the request that follows is counted."""
        return (
            self.cors is not None
            and scope["method"] == "OPTIONS"
            and any(name == b"access-control-request-method" for name, _ in scope["headers"])
        )

    def _over_rate(self, peer: str | None, read: "_Read", now: float) -> Problem | None:
        if self.limiter is None:
            return None
        cost = 1.0 + min(read.length, self.limits.body_bytes) / _BYTES_OF_A_REQUEST
        wait = self.limiter.wait_of(client_of(peer, read.forwarded_for, self.proxies), now, cost)
        if not wait:
            return None
        return Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"this client is over the rate limit of the service; try again in {wait} s",
            name="rate-limit",
            headers={"Retry-After": str(wait)},
        )

    def _own_response(self, response: Response, scope: Scope) -> Response:
        """A response that does not come from the application, with the CORS headers that those have."""
        response.raw_headers += self._cors_headers(scope["headers"])
        return response

    def _cors_headers(self, headers: _Headers) -> _Headers:
        origin = next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)
        found = MutableHeaders(raw=[])
        if self.cors is not None and origin is not None:
            found.update(self.cors.simple_headers)
            if not self.cors.allow_all_origins and self.cors.is_allowed_origin(origin):
                self.cors.allow_explicit_origin(found, origin)
        return found.raw

    def _route_of(self, scope: Scope) -> str:
        """The template of the requested route, for the log and the metrics; never the path itself."""
        route = scope.get("route")
        if route is None:
            for candidate in self.routes:
                if candidate.matches(scope)[0] is not Match.NONE:
                    route = candidate
                    break
        return str(getattr(route, "path_format", _NO_ROUTE))

    def _limit_body(self, scope: Scope, receive: Receive) -> Receive:
        """``receive``, but it raises Problem once the body is over the limit or its deadline."""
        received, most = 0, self._most_bytes(scope)
        until = asyncio.get_running_loop().time() + self._most_seconds(scope)

        async def receive_limited() -> Message:
            nonlocal received
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise self._body_too_slow(scope) from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > most:
                    if message.get("more_body", False):
                        await self._discard_body(scope, receive)
                    raise self._body_too_large(scope)
            return message

        return receive_limited

    async def _discard_body(self, scope: Scope, receive: Receive) -> None:
        """Read what is left of a body and forget it: most clients read the answer only when they have sent
        everything, and find a connection that was closed before that broken. Up to a limit, for as long as a
        body may take, and not where the client asks first whether to send a body."""
        most = _MOST_FILE_DISCARDED if takes_file(scope["path"], scope["headers"]) else _MOST_DISCARDED
        left = 0 if any(name == b"expect" for name, _ in scope["headers"]) else most
        with suppress(TimeoutError):
            async with asyncio.timeout(self._most_seconds(scope)):
                while left > 0:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))

    def _body_too_large(self, scope: Scope) -> Problem:
        if takes_file(scope["path"], scope["headers"]):
            most = f"a file may have at most {self.limits.file_bytes:,} bytes; split it, or send a part of it"
        else:
            most = f"a body may have at most {self.limits.body_bytes:,} bytes; send fewer ids"
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            most,
            name="body-too-large",
            headers={"Connection": "close"},
        )

    def _body_too_slow(self, scope: Scope) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"a body has to arrive within {self._most_seconds(scope):g} s",
            name="slow-body",
            headers={"Connection": "close"},
        )


def takes_file(path: str, headers: _Headers) -> bool:
    """Whether the body of a request is a file of songs, which is written to disk and may be longer than
    others."""
    return path == _FILES_PATH and any(
        name == b"content-type" and value.strip().lower().startswith(FILE_TYPE) for name, value in headers
    )


@dataclass(slots=True)
class _Read:
    """What is read of the headers of a request."""

    request_id: str
    length: int = 0
    """The declared length of the body."""
    chunked: bool = False
    forwarded_for: list[bytes] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, headers: _Headers) -> "_Read":
        read = cls("")
        for name, value in headers:
            if name == b"content-length":
                # The server has checked that it is a number; one of 16 digits is over any limit.
                read.length = int(value) if len(value) < 16 else 2**53
            elif name == b"transfer-encoding":
                read.chunked = True
            elif name == b"x-request-id":
                read.request_id = value.decode() if _VALID_REQUEST_ID.fullmatch(value) else ""
            elif name == b"x-forwarded-for":
                read.forwarded_for.append(value)
            elif name == b"host":
                read.hosts.append(value.decode("latin-1"))
        read.request_id = read.request_id or token_hex(8)
        return read
