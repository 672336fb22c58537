"""The simulated world over HTTP on loopback: tokens, rate limits, latency and faults around its answers.

Here: the server, whom it lets in, how often, and what goes wrong on the way. Not here: what a request is
answered (`api`), or the world itself (`world`).

Spotify is served below ``/v1/`` (tokens at ``/api/token``, consent at ``/authorize``), ListenBrainz below
``/1/``, ReccoBeats below ``/reccobeats/v1/``. Each of the three has its own rate limit. ``/simulator`` says
what was asked so far, to whoever asks.

Whether a request goes wrong is a function of the seed, of its method, path and query, and of how often that
very request was asked before: so it does not depend on the order of threads, and asking again helps. What
depends on the clock (rate limits, expired tokens) does not count as asked.
"""

import argparse
import base64
import binascii
import json
import os
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from email.utils import formatdate
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import BaseModel, Field, ValidationError, model_validator

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.api import Answer, Answers, Mode, Question, StrayItems
from tunegraph_pipeline.simulator.bodies import PERSONAL_MARK, error_body, spotify_error
from tunegraph_pipeline.simulator.draws import unit
from tunegraph_pipeline.simulator.world import World, WorldConfig

__all__ = ["PERSONAL_MARK", "Asked", "Faults", "Mode", "SimulatorServer", "serve"]

_IN_A_ROW = 2  # a request goes wrong this often at most before it is answered
_MOST_BYTES = 65_536  # of a request's body
_ON_API = ("too_many", "server_error", "bad_gateway", "drop", "truncate", "bad_json", "empty")
_ON_TOKENS = ("server_error", "bad_gateway", "drop", "bad_json")
_NO_STATUS = 0  # of a request that was never answered


class Faults(BaseModel, frozen=True, extra="forbid"):
    """What goes wrong, and how slow and how patient the server is. Shares are of requests, from 0 to 1."""

    seed: int = 0
    latency_ms: float = Field(default=0.0, ge=0, description="every answer takes this much longer")
    requests_per_second: float | None = Field(default=None, gt=0, description="allowed, for each service")
    window_seconds: float = Field(default=1.0, gt=0, description="over which that is counted")
    too_many: float = Field(default=0.0, ge=0, le=1, description="429 although within the rate")
    retry_after_seconds: int = Field(default=1, ge=0, description="Retry-After of a short 429")
    long_wait_after: int | None = Field(
        default=None, ge=0, description="requests of a service after which its quota is used up"
    )
    long_wait_seconds: int = Field(default=86_400, ge=0, description="Retry-After from then on")
    server_error: float = Field(default=0.0, ge=0, le=1, description="500")
    bad_gateway: float = Field(default=0.0, ge=0, le=1, description="502, with a page of HTML")
    drop: float = Field(default=0.0, ge=0, le=1, description="the connection is closed without an answer")
    truncate: float = Field(default=0.0, ge=0, le=1, description="the connection is closed half way")
    bad_json: float = Field(default=0.0, ge=0, le=1, description="200 with something that is no JSON")
    empty: float = Field(default=0.0, ge=0, le=1, description="200 with nothing in it")
    null_tracks: float = Field(
        default=0.0, ge=0, le=1, description="null tracks a track, listed in addition; so the next two"
    )
    local_files: float = Field(default=0.0, ge=0, le=1, description="local files without id a track")
    episodes: float = Field(default=0.0, ge=0, le=1, description="podcast episodes a track")
    token_seconds: float = Field(
        default=3_600.0, gt=0, description="an access token dies then; a short life is not announced"
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if sum(getattr(self, kind) for kind in _ON_API) > 1:
            raise ValueError("the shares of requests that go wrong add up to more than 1")
        return self


class Asked(NamedTuple):
    """A request as the log keeps it. ``status`` is 0 where none was sent; ``at`` is a monotonic clock's."""

    key: str
    status: int
    fault: str | None
    at: float


@dataclass
class _Meter:
    """The rate limit of one service; not safe for threads by itself."""

    allowed: int | None
    window: float
    fixed: bool  # whether windows follow one another, or the last ``window`` seconds count at any time
    asked: int = 0
    passed: deque[float] = field(default_factory=deque)

    def admit(self, now: float) -> bool:
        self.asked += 1
        if self.allowed is None:
            return True
        if self.fixed and self.passed and now - self.passed[0] >= self.window:
            self.passed.clear()
        while not self.fixed and self.passed and now - self.passed[0] >= self.window:
            self.passed.popleft()
        if len(self.passed) >= self.allowed:
            return False
        self.passed.append(now)
        return True

    def headers(self, now: float) -> tuple[tuple[str, str], ...]:
        """As ListenBrainz says it."""
        allowed = self.allowed or 1_000_000
        reset = self.window - (now - self.passed[0]) if self.passed else self.window
        return (
            ("X-RateLimit-Limit", str(allowed)),
            ("X-RateLimit-Remaining", str(allowed - len(self.passed))),
            ("X-RateLimit-Reset-In", str(max(ceil(reset), 1))),
        )


class SimulatorServer:
    """Serves a world from threads of this process, between ``with`` and the end of its block.

    ``day`` may be set while it runs. Refresh tokens name the users who gave their consent: ``refresh_token``
    the first start user, ``refresh_tokens`` whom you like; `revoke` lets one die. ``requests`` counts answers
    by route and status (0: none was sent), ``faults_made`` what went wrong by kind; with ``log`` every
    request is kept in ``asked``.

    Raises InputError for a day before the world begins and for a port that is taken.
    """

    def __init__(
        self,
        world: World,
        day: date,
        *,
        port: int = 0,
        mode: Mode = Mode.EXTENDED,
        audio_features: bool = True,
        faults: Faults | None = None,
        client_id: str = "simulator",
        client_secret: str = "simulator",  # noqa: S107  # of a made-up world
        refresh_token: str = "simulator-refresh-token",  # noqa: S107
        refresh_tokens: Mapping[str, str] | None = None,
        reccobeats_knows: float = 0.5,
        covers: bool = False,
        log: bool = False,
    ) -> None:
        self.world = world
        self.day = day
        self.mode = mode
        self.faults = faults = faults or Faults()
        self.client_id = client_id
        self.client_secret = client_secret
        self.refresh_token = refresh_token
        starting = world.start_users()
        self._consents = dict(zip([refresh_token], starting, strict=False)) | dict(refresh_tokens or {})
        self._answers = Answers(
            world,
            mode=mode,
            audio_features=audio_features,
            stray=StrayItems(faults.null_tracks, faults.local_files, faults.episodes),
            reccobeats_knows=reccobeats_knows,
            covers=covers,
        )
        self._answers.warm_up(day)
        self.requests: Counter[tuple[str, int]] = Counter()
        self.faults_made: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self._log = log
        self._lock = threading.Lock()
        self._first_at: float | None = None
        self._last_at = 0.0
        rate = faults.requests_per_second
        allowed = None if rate is None else max(int(rate * faults.window_seconds), 1)
        self._meters = {
            service: _Meter(allowed, faults.window_seconds, fixed=service == "listenbrainz")
            for service in ("spotify", "listenbrainz", "reccobeats")
        }
        self._tokens: dict[str, tuple[str | None, float]] = {}
        self._times_asked: dict[bytes, tuple[int, int]] = {}
        self._any_share = any(getattr(faults, kind) for kind in _ON_API)
        try:
            self._http = _HTTPServer(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"the simulator cannot listen on port {port} ({error}); choose another with --port, or 0 for "
                "any that is free"
            ) from error
        self._http.served = self
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to answer; connections made before wait."""
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="simulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close every connection. Closing twice is as good as once."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._http.close_connections()

    def revoke(self, refresh_token: str) -> None:
        """Make a refresh token one that has died."""
        self._consents.pop(refresh_token, None)

    @property
    def requests_answered_429(self) -> int:
        """How many requests were answered 429, whatever for."""
        with self._lock:
            return sum(count for (_, status), count in self.requests.items() if status == 429)

    def summary(self) -> dict[str, Any]:
        """What was asked so far, for people and benchmarks; seconds are from the first request of an API to
        the last."""
        with self._lock:
            return {
                "requests": sum(self.requests.values()),
                "answered_429": sum(n for (_, status), n in self.requests.items() if status == 429),
                "by_route": {f"{route} {status}": n for (route, status), n in sorted(self.requests.items())},
                "faults": dict(self.faults_made),
                "seconds": 0.0 if self._first_at is None else self._last_at - self._first_at,
            }

    # What one request goes through; called by the handler's threads.

    def respond(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> "_Reply":
        """What a request is answered, and what goes wrong with the answer."""
        now = time.monotonic()
        path, _, query = target.partition("?")
        key = f"{method} {target}"
        if path == "/simulator":
            return _Reply("/simulator", key, Answer(200, json.dumps(self.summary())), None, now)
        route, parts = self._answers.route(path)
        fault: str | None = None
        if path in {"/api/token", "/authorize"}:
            route = path
            if path == "/authorize":
                answer = self._authorize(dict(parse_qsl(query)))
            else:
                form = dict(parse_qsl(body.decode("utf-8", "replace")))
                # Not the whole body: a refresh token's text is no business of the log.
                key = f"{key} {form.get('grant_type', '')}"
                fault = self._fault(key, _ON_TOKENS)
                answer = Answer(200, "") if fault else self._token(method, headers, form)
        else:
            service = {"1": "listenbrainz", "reccobeats": "reccobeats"}.get(parts[0], "spotify")
            refusal, said = self._turned_away(service, path, now)
            if refusal is not None:
                answer = refusal
            elif method != "GET":
                answer = Answer(405, error_body(path, 405, "Method not allowed"))
            else:
                refusal, user = self._let_in(service, headers)
                if refusal is not None:
                    answer = refusal
                else:
                    fault = self._fault(key, _ON_API)
                    question = Question(route, path, parts, dict(parse_qsl(query)), self.url, user)
                    refuses = fault in {"too_many", "server_error", "bad_gateway", "drop", "empty"}
                    answer = Answer(200, "") if refuses else self._answers.answer(question, self.day)
            answer = Answer(answer.status, answer.body, (*answer.headers, *said))
        return _Reply(route, key, self._spoil(answer, path, fault), fault, now)

    def record(self, reply: "_Reply", status: int) -> None:
        """Count a request that has been dealt with."""
        with self._lock:
            self.requests[reply.route, status] += 1
            if reply.fault is not None:
                self.faults_made[reply.fault] += 1
            if self._log:
                self.asked.append(Asked(reply.key, status, reply.fault, reply.at))

    def _turned_away(
        self, service: str, path: str, now: float
    ) -> tuple[Answer | None, tuple[tuple[str, str], ...]]:
        """A 429 where the service's rate or quota is used up, and the headers every answer of it has."""
        faults, meter = self.faults, self._meters[service]
        with self._lock:
            self._first_at = now if self._first_at is None else self._first_at
            self._last_at = now
            admitted = meter.admit(now)
            used_up = faults.long_wait_after is not None and meter.asked > faults.long_wait_after
            said = meter.headers(now) if service == "listenbrainz" else ()
        if used_up:
            message = "Quota exceeded; please retry later"
            body = error_body(path, 429, message, "QUOTA_EXCEEDED")
            return Answer(429, body, (("Retry-After", str(faults.long_wait_seconds)),)), said
        if not admitted:
            return self._too_many(path), said
        return None, said

    def _too_many(self, path: str) -> Answer:
        body = error_body(path, 429, "API rate limit exceeded")
        return Answer(429, body, (("Retry-After", str(self.faults.retry_after_seconds)),))

    def _let_in(self, service: str, headers: Mapping[str, str]) -> tuple[Answer | None, str | None]:
        """The user whose token a request to Spotify carries, or why it is not let in."""
        if service != "spotify":
            return None, None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            return Answer(401, spotify_error(401, "No token provided")), None
        if scheme.lower() != "bearer":
            return Answer(400, spotify_error(400, "Only valid bearer authentication supported")), None
        with self._lock:
            known = self._tokens.get(token.strip())
        if known is None:
            return Answer(401, spotify_error(401, "Invalid access token")), None
        user, dies_at = known
        if time.monotonic() >= dies_at:
            return Answer(401, spotify_error(401, "The access token expired")), None
        return None, user

    def _token(self, method: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
        if method != "POST":
            return _refused_token(405, "invalid_request", "POST only")
        grant = form.get("grant_type")
        client, secret = _credentials(headers, form)
        # Without a secret: an app on somebody's own machine, which proves itself otherwise.
        open_client = secret is None and grant in {"refresh_token", "authorization_code"}
        if client != self.client_id:
            return _refused_token(400, "invalid_client", "Invalid client")
        if secret != self.client_secret and not open_client:
            return _refused_token(400, "invalid_client", "Invalid client secret")
        user: str | None = None
        said: dict[str, Any] = {}
        if grant == "refresh_token":
            user = self._consents.get(form.get("refresh_token", ""))
            if user is None:
                return _refused_token(400, "invalid_grant", "Refresh token revoked")
        elif grant == "authorization_code":
            if form.get("code") != self._code() or self.refresh_token not in self._consents:
                return _refused_token(400, "invalid_grant", "Invalid authorization code")
            user = self._consents[self.refresh_token]
            said = {"refresh_token": self.refresh_token}
        elif grant != "client_credentials":
            message = "grant_type parameter is missing" if grant is None else "grant_type must be known"
            return _refused_token(400, "unsupported_grant_type", message)
        lives = self.faults.token_seconds
        with self._lock:
            number = len(self._tokens)
            digest = blake2b(f"{self.world.config.seed}|{user}|{number}".encode(), digest_size=63).digest()
            token = "BQ" + base64.urlsafe_b64encode(digest).decode()
            self._tokens[token] = (user, time.monotonic() + lives)
        said |= {"access_token": token, "token_type": "Bearer", "expires_in": max(int(lives), 3_600)}
        if user is not None:
            said["scope"] = "user-library-read playlist-read-private"
        return Answer(200, json.dumps(said))

    def _authorize(self, query: Mapping[str, str]) -> Answer:
        """The page on which a person agrees, without the page: whoever comes is the first start user."""
        back = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id:
            return Answer(400, "INVALID_CLIENT: Invalid client")
        if urlsplit(back).hostname not in {"127.0.0.1", "localhost", "::1"}:
            return Answer(400, "INVALID_CLIENT: Invalid redirect URI")
        given = {"code": self._code()} | ({"state": query["state"]} if "state" in query else {})
        return Answer(302, "", (("Location", f"{back}{'&' if '?' in back else '?'}{urlencode(given)}"),))

    def _code(self) -> str:
        return "AQ" + blake2b(f"{self.world.config.seed}|code".encode(), digest_size=40).hexdigest()

    def _fault(self, key: str, kinds: tuple[str, ...]) -> str | None:
        """What goes wrong with a request this time."""
        if not self._any_share:
            return None
        short = blake2b(key.encode(), digest_size=12).digest()
        with self._lock:
            times, in_a_row = self._times_asked.get(short, (0, 0))
            found: str | None = None
            if in_a_row < _IN_A_ROW:
                at = unit(self.faults.seed, key, times)
                for kind in kinds:
                    at -= getattr(self.faults, kind)
                    if at < 0:
                        found = kind
                        break
            self._times_asked[short] = (times + 1, in_a_row + 1 if found else 0)
        return found

    def _spoil(self, answer: Answer, path: str, fault: str | None) -> Answer:
        if fault == "too_many":
            answer = self._too_many(path)
        elif fault == "server_error":
            answer = Answer(500, error_body(path, 500, "Server error"))
        elif fault == "bad_gateway":
            answer = Answer(502, "<html><body><h1>502 Bad Gateway</h1></body></html>")
        elif fault == "bad_json":
            cut = answer.body[: len(answer.body) // 2]
            answer = Answer(200, cut if cut and len(cut) % 2 else f"<html>{cut}", answer.headers)
        elif fault == "empty":
            answer = Answer(200, "", answer.headers)
        return answer


class _Reply(NamedTuple):
    route: str
    key: str
    answer: Answer
    fault: str | None
    at: float


def _refused_token(status: int, error: str, description: str) -> Answer:
    return Answer(status, json.dumps({"error": error, "error_description": description}))


def _credentials(headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Client id and secret of a token request, from its header or its form."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, None
        return client, secret
    return form.get("client_id"), form.get("client_secret")


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    served: SimulatorServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The base class asks the resolver for this machine's name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def close_connections(self) -> None:
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was first

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def _handle(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit() and int(length) <= _MOST_BYTES):
            self.close_connection = True
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        served = self.server.served
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = served.respond(self.command, self.path, headers, body)
        if served.faults.latency_ms:
            time.sleep(served.faults.latency_ms / 1000)
        if reply.fault == "drop":
            self.close_connection = True
            served.record(reply, _NO_STATUS)
            return
        answer = reply.answer
        content = answer.body.encode()
        kind = "text/html" if content.startswith(b"<") else "application/json; charset=utf-8"
        head = [
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        if reply.fault == "truncate":
            self.close_connection = True
            content = content[: len(content) // 2]
        # Counted before it is sent, so that whoever has the answer finds it counted.
        served.record(reply, answer.status)
        # In one piece: two sends would have the second wait for the other side's delayed acknowledgement.
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + content)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815  # names the base class looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing: the server counts what it is asked."""


def serve(
    world: World,
    day: date,
    *,
    port: int = 0,
    mode: Mode = Mode.EXTENDED,
    audio_features: bool = True,
    faults: Faults | None = None,
    covers: bool = False,
    until_stdin_closes: bool = False,
    announce: Callable[[SimulatorServer], None],
) -> None:
    """Serve until Ctrl-C (which is passed on) or, if asked to, until standard input ends.

    ``announce`` is called once, when requests are answered. With ``until_stdin_closes`` a parent that holds
    the other end of a pipe takes the server along when it dies, however it dies.
    """
    server = SimulatorServer(
        world, day, port=port, mode=mode, audio_features=audio_features, faults=faults, covers=covers
    )
    with server:
        announce(server)
        if until_stdin_closes:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        else:
            threading.Event().wait()


def main(arguments: list[str] | None = None) -> int:
    """Serve a world from a process of its own; the first line of standard output is the URL.

    Returns the exit status: 2 with one line on standard error where an argument cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m tunegraph_pipeline.simulator.server")
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free")
    parser.add_argument("--world", default="{}", help="a WorldConfig as JSON")
    parser.add_argument("--day", help="the day served, YYYY-MM-DD; the world's first by default")
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.EXTENDED)
    parser.add_argument("--no-audio-features", action="store_true", help="answer 403 for them")
    parser.add_argument("--covers", action="store_true", help="albums have images")
    parser.add_argument("--faults", default="{}", help="Faults as JSON")
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args(arguments)

    def announce(server: SimulatorServer) -> None:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()

    try:
        config = WorldConfig.model_validate_json(given.world)
        serve(
            World(config),
            date.fromisoformat(given.day) if given.day else config.start,
            port=given.port,
            mode=given.mode,
            audio_features=not given.no_audio_features,
            faults=Faults.model_validate_json(given.faults),
            covers=given.covers,
            until_stdin_closes=given.until_stdin_closes,
            announce=announce,
        )
    except (ValidationError, ValueError, InputError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
