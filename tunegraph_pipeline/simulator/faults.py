"""Rate limits of the simulated services, and faults in their answers.

Here: the settings, which fault a request gets, and the faulty answers. Not here: delays and broken
connections (`server`), or stray items in lists (`api`).

A fault is a function of the seed, the request's method, path and query, and how often the same request was
made before. So it does not depend on the order of threads, and a retry helps.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from typing import Self

from pydantic import BaseModel, Field, model_validator

from tunegraph_pipeline.simulator.bodies import Answer, refusal
from tunegraph_pipeline.simulator.draws import unit

ON_API = ("too_many", "server_error", "bad_gateway", "drop", "truncate", "bad_json", "empty")
"""The kinds of faults that a request of an API may get."""
UNREAD = {"too_many", "server_error", "bad_gateway", "drop", "empty"}
"""Those that replace the whole answer, so that it need not be computed."""
ON_TOKENS = ("server_error", "bad_gateway", "drop", "bad_json")
"""The kinds of faults that a request for a token may get."""
_IN_A_ROW = 2  # the same request fails at most this often in a row


def check_shares(shares: Iterable[float]) -> None:
    """Raise ValueError where shares of requests that fail add up to more than all."""
    if sum(shares) > 1:
        raise ValueError("the shares of faulty requests add up to more than 1")


class Faults(BaseModel, frozen=True, extra="forbid"):
    """The faults, latency and rate limits of a server. Shares are of requests, from 0 to 1."""

    seed: int = 0
    latency_ms: float = Field(default=0.0, ge=0, description="delay of every answer")
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
    truncate: float = Field(default=0.0, ge=0, le=1, description="the connection is closed halfway")
    bad_json: float = Field(default=0.0, ge=0, le=1, description="200 with invalid JSON")
    empty: float = Field(default=0.0, ge=0, le=1, description="200 with an empty body")
    null_tracks: float = Field(default=0.0, ge=0, le=1, description="extra null items per track")
    local_files: float = Field(default=0.0, ge=0, le=1, description="extra local files per track")
    episodes: float = Field(default=0.0, ge=0, le=1, description="extra podcast episodes per track")
    token_seconds: float = Field(default=3_600.0, gt=0, description="true lifetime of an access token")

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        check_shares(getattr(self, kind) for kind in ON_API)
        return self


@dataclass
class RateLimit:
    """The rate limit of one service; not safe for threads by itself."""

    allowed: int | None
    window: float
    fixed: bool  # windows follow one another; else the last ``window`` seconds count at any time
    asked: int = 0
    passed: deque[float] = field(default_factory=deque)

    def admit(self, now: float) -> bool:
        """Count a request; False if it is over the limit."""
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
        """The state of the limit, in ListenBrainz's headers."""
        allowed = self.allowed or 1_000_000
        reset = self.window - (now - self.passed[0]) if self.passed else self.window
        return (
            ("X-RateLimit-Limit", str(allowed)),
            ("X-RateLimit-Remaining", str(allowed - len(self.passed))),
            ("X-RateLimit-Reset-In", str(max(ceil(reset), 1))),
        )


class FaultDraws:
    """Draws the faults of requests, each kind with its share; threads may share it."""

    def __init__(self, seed: int, shares: Mapping[str, float]) -> None:
        self._seed = seed
        self._shares = shares
        self._times_asked: dict[bytes, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def draw(self, key: str, kinds: tuple[str, ...]) -> str | None:
        """Which of ``kinds`` happens to the request ``key`` this time, None for no fault."""
        if not any(self._shares.values()):
            return None
        short = blake2b(key.encode(), digest_size=12).digest()
        with self._lock:
            times, in_a_row = self._times_asked.get(short, (0, 0))
            found: str | None = None
            if in_a_row < _IN_A_ROW:
                at = unit(self._seed, key, times)
                for kind in kinds:
                    at -= self._shares[kind]
                    if at < 0:
                        found = kind
                        break
            self._times_asked[short] = (times + 1, in_a_row + 1 if found else 0)
        return found


def too_many(path: str, retry_after_seconds: int) -> Answer:
    """A 429 in the form of the service that ``path`` belongs to."""
    return refusal(path, 429, "API rate limit exceeded", retry_after=retry_after_seconds)


def spoil(answer: Answer, path: str, fault: str | None, retry_after_seconds: int) -> Answer:
    """The answer with ``fault`` in it; a fault of the connection does not change it."""
    if fault == "too_many":
        answer = too_many(path, retry_after_seconds)
    elif fault == "server_error":
        answer = refusal(path, 500, "Server error")
    elif fault == "bad_gateway":
        answer = Answer(502, "<html><body><h1>502 Bad Gateway</h1></body></html>")
    elif fault == "bad_json":
        cut = answer.body[: len(answer.body) // 2]
        answer = Answer(200, cut if cut and len(cut) % 2 else f"<html>{cut}", answer.headers)
    elif fault == "empty":
        answer = Answer(200, "", answer.headers)
    return answer
