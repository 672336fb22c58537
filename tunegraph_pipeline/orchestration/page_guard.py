"""What is checked of a request before Dagster's page sees it.

Here: the ASGI middleware, its settings, and the form to sign in with. Not here: starting the page with it
(`dagster_page`), or the service's own checks (`serve/`). It knows no Dagster.

Dagster's webserver asks nobody who they are. It runs mutations sent by GET, and takes a POST of any content
type, so a foreign web page open in the same browser could launch and delete runs. The guard lets a browser in
only from the page itself, under a host name that is known, and, where a token is set, only who has it.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qs, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunegraph_pipeline.errors import InputError

HOSTS_VARIABLE = "TUNEGRAPH_UI_HOSTS"
"""Further host names of the page, with spaces between them."""
TOKEN_VARIABLE = "TUNEGRAPH_UI_TOKEN"  # noqa: S105  # the name of the variable
_MIN_TOKEN_CHARACTERS = 16
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_NETLOC = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = frozenset({None, "80", "443"})
_COOKIE = "tunegraph_ui"
_FORM_TYPE = "application/x-www-form-urlencoded"
_MOST_FORM_BYTES = 4096
_SECURITY_HEADERS = {
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SIGN_IN = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title>
<meta name="viewport" content="width=device-width"></head>
<body><form method="post"><p><label for="token">The token of this page, {TOKEN_VARIABLE}</label></p>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button></p>%s</form></body></html>
"""
_SIGN_IN_POLICY = "default-src 'none'; form-action 'self'; base-uri 'none'"


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Under which names the page answers besides those of loopback, and the token it asks for."""

    hosts: frozenset[str] = frozenset()
    """As browsers show them: `NAME`, or `NAME:PORT` where the port is not that of http or https."""
    token: str | None = None

    @classmethod
    def of_environment(cls) -> Self:
        """Raises InputError for a name that cannot be one, and for a token that could be guessed."""
        return cls(known_hosts(os.environ.get(HOSTS_VARIABLE, "").split()), _token_of_environment())


def known_hosts(names: Iterable[str]) -> frozenset[str]:
    """The names in the form in which they are compared. Raises InputError for what cannot be a host name."""
    known = set()
    for name in names:
        host = _normal(name)
        if host is None:
            raise InputError(
                f"--allow-host {name}: a host is a name, with its port if that is not 443, as in"
                " dagster.example.org or dagster.example.org:8443"
            )
        known.add(host)
    return frozenset(known)


def _token_of_environment() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return None
    if len(token) < _MIN_TOKEN_CHARACTERS or not (
        token.isascii() and token.isprintable() and " " not in token
    ):
        raise InputError(
            f"{TOKEN_VARIABLE} must be at least {_MIN_TOKEN_CHARACTERS} printable characters without spaces;"
            " `openssl rand -hex 32` makes one"
        )
    return token


class PageGuard:
    """Wraps an ASGI application, and passes on what none of the checks refuses."""

    def __init__(self, app: ASGIApp, settings: PageSettings) -> None:
        self._app = app
        self._hosts = settings.hosts
        self._host_names = _LOOPBACK | {_name(host) for host in settings.hosts}
        self._token = settings.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        refusal = self._refusal(connection)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("content-security-policy", "frame-ancestors 'self'")
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refusal is None and self._signs_in(connection):
            refusal = await self._sign_in(Request(scope, receive))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        """The answer to a request that Dagster must not see; None for one that it may."""
        hosts = connection.headers.getlist("host")
        host = _normal(hosts[0]) if len(hosts) == 1 else None
        if host is None or _name(host) not in self._host_names:
            return _refused(
                "this page does not answer under that host name; `tunegraph ui --allow-host NAME` adds one"
            )
        if not self._is_own(connection, host):
            return _refused("this page takes no requests from other web pages")
        if connection.scope["type"] == "http":
            refusal = self._of_method(connection, connection.scope["method"])
            if refusal is not None:
                return refusal
        if self._token is None or self._signs_in(connection) or self._has_token(connection):
            return None
        return _asks_for_token(connection, wrong=False)

    def _is_own(self, connection: HTTPConnection, host: str) -> bool:
        """Whether no foreign page makes the browser ask; a link from one may be followed."""
        headers = connection.headers
        for origin in headers.getlist("origin"):
            scheme, _, netloc = origin.partition("://")
            asked_from = _normal(netloc)
            if scheme.lower() not in {"http", "https"} or asked_from not in {host, *self._hosts}:
                return False
        # A websocket has an Origin always.
        if connection.scope["type"] == "websocket" or not (
            {"same-site", "cross-site"} & set(headers.getlist("sec-fetch-site"))
        ):
            return True
        return (
            connection.scope["method"] in {"GET", "HEAD"}
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )

    def _of_method(self, connection: HTTPConnection, method: str) -> Response | None:
        if method == "POST":
            expected = {"application/json"} if self._token is None else {"application/json", _FORM_TYPE}
            if _content_type(connection) not in expected:
                return PlainTextResponse(
                    "send a body of the Content-Type application/json\n", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
                )
            return None
        # GET from a browser's address bar shows GraphiQL, which runs nothing until somebody says so.
        executes = connection.scope["path"].rstrip("/").endswith("/graphql") and (
            "text/html" not in connection.headers.get("accept", "")
        )
        if method not in {"GET", "HEAD"} or executes:
            return PlainTextResponse(
                "GraphQL is answered to POST alone\n"
                if executes
                else "this page answers GET and POST alone\n",
                HTTPStatus.METHOD_NOT_ALLOWED,
                {"allow": "POST" if executes else "GET, HEAD, POST"},
            )
        return None

    def _signs_in(self, connection: HTTPConnection) -> bool:
        """Whether it is the form: every other POST is JSON."""
        return (
            self._token is not None
            and connection.scope["type"] == "http"
            and connection.scope["method"] == "POST"
            and _content_type(connection) == _FORM_TYPE
        )

    async def _sign_in(self, request: Request) -> Response:
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > _MOST_FORM_BYTES:
                    return _asks_for_token(request, wrong=True)
        except ClientDisconnect:
            return _asks_for_token(request, wrong=True)
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        assert self._token is not None
        if not _equal(given, self._token):
            return _asks_for_token(request, wrong=True)
        # Back to the page that was asked for, and never to another host: // and \ would name one.
        asked = (
            "/" + quote(request.url.path.lstrip("/")) + (f"?{request.url.query}" if request.url.query else "")
        )
        answer = RedirectResponse(asked, HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            _COOKIE,
            _cookie_of(self._token),
            httponly=True,
            samesite="lax",
            secure=request.headers.get("origin", "").startswith("https://"),
        )
        return answer

    def _has_token(self, connection: HTTPConnection) -> bool:
        assert self._token is not None
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(bearer.strip(), self._token):
            return True
        return _equal(connection.cookies.get(_COOKIE, ""), _cookie_of(self._token))


def _asks_for_token(connection: HTTPConnection, *, wrong: bool) -> Response:
    headers = {"www-authenticate": 'Bearer realm="tunegraph ui"', "cache-control": "no-store"}
    if "text/html" not in connection.headers.get("accept", ""):
        line = f"this page needs its token, {TOKEN_VARIABLE}, as `Authorization: Bearer TOKEN`\n"
        return PlainTextResponse(line, HTTPStatus.UNAUTHORIZED, headers)
    page = _SIGN_IN % ("<p>That is not the token.</p>" if wrong else "")
    policy = {"content-security-policy": _SIGN_IN_POLICY}
    return HTMLResponse(page, HTTPStatus.UNAUTHORIZED, {**headers, **policy})


def _refused(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", HTTPStatus.FORBIDDEN)


def _content_type(connection: HTTPConnection) -> str:
    return connection.headers.get("content-type", "").partition(";")[0].strip().lower()


def _normal(netloc: str) -> str | None:
    """Name and port in small letters, without a port that browsers leave out; None where it is neither."""
    found = _NETLOC.fullmatch(netloc)
    if found is None:
        return None
    name, port = found["name"].lower(), found["port"]
    return name if port in _DEFAULT_PORTS else f"{name}:{port}"


def _name(host: str) -> str:
    found = _NETLOC.fullmatch(host)
    assert found is not None
    return found["name"]


def _cookie_of(token: str) -> str:
    """What the browser keeps: shows who signed in, and does not give the token away."""
    return hmac.new(token.encode(), b"the cookie of tunegraph ui", hashlib.sha256).hexdigest()


def _equal(given: str, expected: str) -> bool:
    """In a time that reveals neither content nor length."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected)]
    return hmac.compare_digest(*digests)
