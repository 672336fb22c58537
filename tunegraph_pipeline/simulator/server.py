"""The simulated world over HTTP on loopback, with tokens, rate limits, latency and faults.

Here: the server, the path of a request, and counts of all requests. Not here: answers (`api`), tokens
(`tokens`), which requests fail (`faults`), or the world itself (`world`).

Spotify is served below ``/v1/`` (tokens at ``/api/token``, consent at ``/authorize``), ListenBrainz below
``/1/``, ReccoBeats below ``/reccobeats/v1/``; each has its own rate limit. ``/simulator`` gives the counts so
far, to any client. Requests refused for their rate or token do not count as repeats when a fault is drawn,
since these refusals depend on the clock.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl

from pydantic import ValidationError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.api import Answers, Mode, Question
from tunegraph_pipeline.simulator.bodies import PERSONAL_MARK, Answer, refusal
from tunegraph_pipeline.simulator.faults import (
    ON_API,
    ON_TOKENS,
    UNREAD,
    FaultDraws,
    Faults,
    RateLimit,
    spoil,
    too_many,
)
from tunegraph_pipeline.simulator.loopback import LoopbackServer
from tunegraph_pipeline.simulator.tokens import Tokens
from tunegraph_pipeline.simulator.world import World, WorldConfig

__all__ = ["PERSONAL_MARK", "Asked", "Faults", "Mode", "SimulatorServer", "serve"]

_MOST_BYTES = 65_536  # of a request's body
_NO_STATUS = 0  # of a request that was never answered


class Asked(NamedTuple):
    """A request in the log. ``status`` is 0 if none was sent; ``at`` is a monotonic time."""

    key: str
    status: int
    fault: str | None
    at: float


class SimulatorServer:
    """Serves a world from threads of this process, inside a ``with`` block.

    ``day`` may be set while it runs. ``refresh_token`` belongs to the first start user; ``refresh_tokens``
    maps others to their users. ``requests`` counts answers by route and status (0: none was sent),
    ``faults_made`` counts faults by kind. With ``log``, ``asked`` keeps every request.

    Raises InputError for a day before the world begins and for a port in use.
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
        self.refresh_token = refresh_token
        starting = world.start_users()
        self.tokens = Tokens(
            seed=world.config.seed,
            client_id=client_id,
            client_secret=client_secret,
            refresh_token=refresh_token,
            consents=dict(zip([refresh_token], starting, strict=False)) | dict(refresh_tokens or {}),
            lifetime=faults.token_seconds,
        )
        self._answers = Answers(
            world,
            mode=mode,
            audio_features=audio_features,
            stray=faults,
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
            service: RateLimit(allowed, faults.window_seconds, fixed=service == "listenbrainz")
            for service in ("spotify", "listenbrainz", "reccobeats")
        }
        self._fault_draws = FaultDraws(faults.seed, {kind: getattr(faults, kind) for kind in ON_API})
        self._http = _HTTPServer(port, _Handler)
        self._http.served = self
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to answer, first the connections that already wait."""
        self._http.start()

    def close(self) -> None:
        """Stop listening and close every connection. A second call does nothing."""
        self._http.close()

    def summary(self) -> dict[str, Any]:
        """Counts of the requests so far; ``seconds`` is the time from the first API request to the last."""
        with self._lock:
            return {
                "requests": sum(self.requests.values()),
                "answered_429": sum(n for (_, status), n in self.requests.items() if status == 429),
                "by_route": {f"{route} {status}": n for (route, status), n in sorted(self.requests.items())},
                "faults": dict(self.faults_made),
                "seconds": 0.0 if self._first_at is None else self._last_at - self._first_at,
            }

    # Called by the handler's threads:

    def respond(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> "_Reply":
        """The answer to a request, with its fault if it gets one."""
        now = time.monotonic()
        path, _, query = target.partition("?")
        key = f"{method} {target}"
        if path == "/simulator":
            return _Reply("/simulator", key, Answer(200, json.dumps(self.summary())), None, now)
        if path == "/authorize":
            return _Reply(path, key, self.tokens.authorize(dict(parse_qsl(query))), None, now)
        fault: str | None = None
        if path == "/api/token":
            route = path
            form = dict(parse_qsl(body.decode("utf-8", "replace")))
            # Not the whole body: the log must not hold refresh tokens.
            key = f"{key} {form.get('grant_type', '')}"
            fault = self._fault_draws.draw(key, ON_TOKENS)
            answer = Answer(200, "") if fault else self.tokens.issue(method, headers, form)
        else:
            route, parts = self._answers.route(path)
            service = {"1": "listenbrainz", "reccobeats": "reccobeats"}.get(parts[0], "spotify")
            refused, limits = self._rate_limit(service, path, now)
            user: str | None = None
            if refused is None and method != "GET":
                refused = refusal(path, 405, "Method not allowed")
            elif refused is None and service == "spotify":
                refused, user = self.tokens.check(headers)
            if refused is not None:
                answer = refused
            else:
                fault = self._fault_draws.draw(key, ON_API)
                question = Question(route, path, parts, dict(parse_qsl(query)), self.url, user)
                answer = Answer(200, "") if fault in UNREAD else self._answers.answer(question, self.day)
            answer = replace(answer, headers=(*answer.headers, *limits))
        answer = spoil(answer, path, fault, self.faults.retry_after_seconds)
        return _Reply(route, key, answer, fault, now)

    def record(self, reply: "_Reply", status: int) -> None:
        """Count a finished request."""
        with self._lock:
            self.requests[reply.route, status] += 1
            if reply.fault is not None:
                self.faults_made[reply.fault] += 1
            if self._log:
                self.asked.append(Asked(reply.key, status, reply.fault, reply.at))

    def _rate_limit(
        self, service: str, path: str, now: float
    ) -> tuple[Answer | None, tuple[tuple[str, str], ...]]:
        """A 429 if the service's rate or quota is used up, else None; and headers for all its answers."""
        faults, meter = self.faults, self._meters[service]
        with self._lock:
            self._first_at = now if self._first_at is None else self._first_at
            self._last_at = now
            admitted = meter.admit(now)
            used_up = faults.long_wait_after is not None and meter.asked > faults.long_wait_after
            limits = meter.headers(now) if service == "listenbrainz" else ()
        if used_up:
            message = "Quota exceeded; please retry later"
            return refusal(path, 429, message, "QUOTA_EXCEEDED", faults.long_wait_seconds), limits
        return (None if admitted else too_many(path, faults.retry_after_seconds)), limits


class _Reply(NamedTuple):
    route: str
    key: str
    answer: Answer
    fault: str | None
    at: float


class _HTTPServer(LoopbackServer):
    served: SimulatorServer


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
        # Counted before it is sent, so that a client with the answer finds it counted.
        served.record(reply, answer.status)
        # One send, since a second would wait for the client's delayed acknowledgement.
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + content)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815  # names the base class looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing; the server counts its requests."""


def serve(
    server: AbstractContextManager[object], announce: Callable[[], None], *, until_stdin_closes: bool = False
) -> None:
    """Serve until Ctrl-C, which is raised to the caller, or until standard input ends.

    ``announce`` is called once the server is ready. With ``until_stdin_closes`` it stops when the parent
    process that holds the other end of the pipe ends, for whatever reason.
    """
    with server:
        announce()
        if until_stdin_closes:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        else:
            threading.Event().wait()


def main(arguments: list[str] | None = None) -> int:
    """Serve a world from a process of its own; the first line of standard output is the URL.

    Returns the exit status: 2, with one line on standard error, for an unusable argument.
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

    try:
        config = WorldConfig.model_validate_json(given.world)
        server = SimulatorServer(
            World(config),
            date.fromisoformat(given.day) if given.day else config.start,
            port=given.port,
            mode=given.mode,
            audio_features=not given.no_audio_features,
            faults=Faults.model_validate_json(given.faults),
            covers=given.covers,
        )
        announce = partial(print, server.url, flush=True)
        serve(server, announce, until_stdin_closes=given.until_stdin_closes)
    except (ValidationError, ValueError, InputError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
