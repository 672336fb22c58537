"""Ask a web service under a request policy: one session for all threads of a crawl.

Here: the pace, waiting when told to, trying again, the answers of the day, and what of an answer is kept. Not
here: what is asked (`spotify`, `listenbrainz`, `reccobeats`), or whom a crawl visits (`crawl`).

`ApiSession` is a `requests.Session`, so that any client library that takes one, spotipy among them, follows
the policy without knowing of it. Every request has a timeout; a redirect or a link to another host is
not followed; what is stored of an answer is only what the tables need.
"""

import hashlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ConfigDict, Field
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,  # noqa: A004
    ContentDecodingError,
    RequestException,
    Timeout,
)
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import check_nesting
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import AskLater, BudgetSpent, Unanswered

Keep = Mapping[str, Any]
"""Which fields of an answer are kept: a name maps to True for a plain value, or to the fields below it.
A list is kept element by element; ``"*"`` names every field; what is not named is dropped."""

_REQUEST_TIMEOUT = (5.0, 20.0)  # to connect, between bytes
_RENEWALS = 3  # of a token for one request; one refused as often is not out of date
_LONGEST_SAID = 30 * 86_400.0  # seconds; a service that says more is taken to mean this
_MARGIN = 0.03  # of a window: what a request takes from here to where the service counts it is not even
_CATCH_UP = 5  # slots a late thread may make up for
_CUT, _REGAIN = 0.8, 0.02  # of the rate after a 429; of the ceiling a second after that


class RequestPolicy(BaseModel):
    """Rate, daily budget, waits and retries of requests; section ``crawl`` of `lake.json` sets it for every
    service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: float | None = Field(default=None, gt=0)
    """Ceiling of the rate, all threads together; None for the source's own careful one."""
    requests_per_day: int = Field(default=100_000, ge=1)
    """Requests a day may cost, retries included."""
    longest_wait: float = Field(default=60.0, ge=0)
    """Seconds a run waits when a service asks it to; for a longer wait it ends and says when to come back."""
    attempts: int = Field(default=8, ge=1)
    """How often a request is sent before its answer is given up."""
    threads: int = Field(default=8, ge=1, le=64)
    """Requests in flight at most."""


class Limiter:
    """Spaces requests evenly below a ceiling; all threads share one.

    Slots lie ``1 / rate`` seconds apart, and who comes late may make up for a few. However late threads wake,
    no more requests leave in any second (and 3 % more) than the ceiling allows. A 429 stops everyone for as
    long as it says and cuts the rate by a fifth, at most once a second; it is regained at 2 % of the ceiling
    a second. What a service says of its remaining requests slows the pace before it comes to that.
    """

    def __init__(
        self,
        ceiling: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.closed = threading.Event()
        self.ended: AskLater | BudgetSpent | None = None
        self._ceiling = self._rate = ceiling
        window = max(1, round(ceiling))
        self._left: deque[float] = deque(maxlen=window)  # when the last requests left
        self._span = window / ceiling * (1 + _MARGIN)
        self._rate_at = self._slot = clock()
        self._cut_at = self._rate_at - 1
        self._stopped_until = self._rate_at
        self._lock = threading.Lock()
        self._clock = clock
        self._pause = pause or self.closed.wait

    def acquire(self) -> None:
        """Wait until a request may leave; not at all once the limiter is closed."""
        with self._lock:
            now = self._clock()
            self._rate = min(self._ceiling, self._rate + self._ceiling * _REGAIN * (now - self._rate_at))
            self._rate_at = now
            slot = max(self._slot, now - _CATCH_UP / self._rate)
            self._slot = slot + 1 / self._rate
        while not self.closed.is_set():
            wait = slot - self._clock()
            if wait > 0:
                self._pause(wait)
            with self._lock:
                now = self._clock()
                full = len(self._left) == self._left.maxlen
                slot = max(self._stopped_until, self._left[0] + self._span if full else now)
                if slot <= now:
                    self._left.append(now)
                    return

    def end(self, why: AskLater | BudgetSpent) -> None:
        """Nobody asks any more, for the reason of whoever said so first; who waits comes back."""
        with self._lock:
            self.ended = self.ended or why
        self.closed.set()

    def stop_for(self, seconds: float) -> None:
        """A 429: nobody asks for that long, and more slowly after."""
        with self._lock:
            now = self._clock()
            self._stopped_until = max(self._stopped_until, now + seconds)
            if now - self._cut_at >= 1:
                self._rate, self._cut_at, self._rate_at = self._rate * _CUT, now, now

    def told(self, remaining: int, reset_in: float) -> None:
        """The service allows ``remaining`` more requests in the next ``reset_in`` seconds."""
        with self._lock:
            now = self._clock()
            if remaining <= 0:
                self._stopped_until = max(self._stopped_until, now + reset_in)
            elif reset_in > 0:
                # Never below what is left spread over the time left; small rests are left to the reset.
                allowed = remaining / reset_in
                if allowed < self._rate:
                    self._rate, self._rate_at = max(allowed, self._ceiling / 100), now


class _Again(Exception):  # noqa: N818
    """The request is to be sent again: ``wait`` seconds from now, or after the usual backoff."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class ApiSession(requests.Session):
    """A session that asks one service under a `RequestPolicy`.

    ``origins`` are the (scheme, host) it may talk to; ``api`` names the service to people. ``frontier``
    keeps the answers of the day and what it cost. ``renew`` gives an Authorization header for one that the
    service no longer takes; ``scope`` tells apart sessions whose answers depend on who asks.

    Raises the refusals of `source` in place of what `requests` raises; answers with status 2xx and 4xx are
    returned. Bodies of GET are pruned to ``keep``; a 2xx whose body is no JSON object counts as no answer.
    """

    def __init__(
        self,
        api: str,
        origins: set[tuple[str, str]],
        frontier: Frontier,
        policy: RequestPolicy,
        keep: Keep,
        ceiling: float,
        limiter: Limiter | None = None,
        scope: str = "",
    ) -> None:
        super().__init__()
        self.api = api
        self.renew: Callable[[str], str] | None = None
        self.counts: Counter[str] = Counter()
        self._origins = origins
        self._frontier = frontier
        self._policy = policy
        self._keep = keep
        self._scope = scope
        self.limiter = limiter or Limiter(policy.requests_per_second or ceiling)
        self._lock = threading.Lock()
        self.trust_env = False  # no .netrc, no proxy that the user did not name to us
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=policy.threads + 4)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def check_not_before(self) -> None:
        """Raise AskLater where the service asked, in this run or an earlier one, not to be asked yet."""
        until = self._frontier.not_before(self.api)
        if until is not None and until > datetime.now(UTC):
            raise AskLater(self.api, until, "asked for in an earlier request")

    def close(self) -> None:
        """End what waits, so that every thread comes back soon, and let go of the connections."""
        self.limiter.end(BudgetSpent(f"the session with {self.api} was closed"))
        super().close()

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send a request, as `requests` does, under the policy."""
        options["timeout"] = _REQUEST_TIMEOUT
        options["allow_redirects"] = False
        options["renewals"] = 0
        try:
            prepared = requests.Request(method, url, params=options.get("params")).prepare()
            target = str(prepared.url)
            parts = urlsplit(target)
        except (RequestException, ValueError):
            raise Unanswered(f"{self.api} named an address that is none") from None
        if (parts.scheme, parts.netloc) not in self._origins:
            raise Unanswered(f"{self.api} named an address on another host; it was not followed")
        key = hashlib.blake2b(f"{self._scope} {method} {target}".encode(), digest_size=16).digest()
        if method == "GET" and (kept := self._frontier.answer(key)) is not None:
            self._count("answers kept")
            return _response(target, *kept)
        retrying = Retrying(
            retry=retry_if_exception_type(_Again),
            stop=stop_after_attempt(self._policy.attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._ask, method, target, key, options)
        except _Again as error:
            raise Unanswered(f"{self.api}: {error}, {self._policy.attempts} times in a row") from None

    def _ask(self, method: str, target: str, key: bytes, options: dict[str, Any]) -> requests.Response:
        self._check_ended()
        most = self._policy.requests_per_day
        if not self._frontier.spend(f"requests to {self.api}", most):
            self.limiter.end(BudgetSpent(f"the {most:,} requests to {self.api} a day may cost are used up"))
            self._check_ended()
        sent = {name: value for name, value in options.items() if name not in ("params", "renewals")}
        self.limiter.acquire()
        self._check_ended()
        self._count("requests")
        try:
            response = super().request(method, target, **sent)
        except (Timeout, ConnectionError, ChunkedEncodingError, ContentDecodingError) as error:
            raise self._again("no answer", type(error).__name__) from error
        except RequestException as error:
            raise Unanswered(f"{self.api} could not be asked ({type(error).__name__})") from error
        return self._judge(response, method, key, options)

    def _check_ended(self) -> None:
        if self.limiter.ended is not None:
            raise self.limiter.ended

    def _judge(
        self, response: requests.Response, method: str, key: bytes, options: dict[str, Any]
    ) -> requests.Response:
        status = response.status_code
        self._heed_headers(response)
        if status == 429:
            self._count("429")
            self._stop(response)
            raise _Again("too many requests (429)", 0.0)
        if status >= 500 or status == 408 or 300 <= status < 400:
            raise self._again(f"status {status}", f"status {status}")
        headers = options.get("headers") or {}
        refused = str(headers.get("Authorization", ""))
        # A token alone is renewed: what asks for one shows the app's own credentials.
        bearer = refused.startswith("Bearer ") and options["renewals"] < _RENEWALS
        if status == 401 and self.renew is not None and bearer:
            options["renewals"] += 1
            options["headers"] = {**headers, "Authorization": self.renew(refused)}
            raise _Again("status 401", 0.0)
        body = response.content
        if status < 300:
            try:
                check_nesting(body)
                value = json.loads(body)
                if not isinstance(value, dict):
                    raise self._again("an answer that is no JSON object", "broken body")
                if method == "GET":
                    # Half a surrogate pair is legal in JSON and in no text: it becomes a question mark here.
                    body = json.dumps(prune(value, self._keep), ensure_ascii=False).encode(errors="replace")
            except ValueError:
                raise self._again("an answer that is no JSON", "broken body") from None
        elif method == "GET":
            body = b'{"error": {"status": %d}}' % status
        if method != "GET":
            return response
        if status != 401:  # the one answer that another token may change
            self._frontier.keep_answer(key, status, body)
        return _response(response.url, status, body)

    def _stop(self, response: requests.Response) -> None:
        wait = _retry_after(response)
        if wait <= self._policy.longest_wait:
            self.limiter.stop_for(wait)
            return
        until = datetime.now(UTC) + timedelta(seconds=wait)
        self._frontier.keep_not_before(self.api, until)
        later = AskLater(self.api, until, f"it asked for a wait of {_duration(wait)}")
        self.limiter.end(later)
        raise later

    def _heed_headers(self, response: requests.Response) -> None:
        try:
            remaining = int(response.headers.get("X-RateLimit-Remaining", ""))
            reset_in = min(float(response.headers.get("X-RateLimit-Reset-In", "")), _LONGEST_SAID)
        except ValueError:
            return
        if remaining <= 0:
            # After the longest wait of a run the service is asked, and says itself if that was too early.
            reset_in = min(reset_in, self._policy.longest_wait)
        self.limiter.told(remaining, reset_in)

    def _again(self, why: str, counted: str) -> _Again:
        self._count("retries")
        self._count(counted)
        return _Again(why)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _Again) and error.wait is not None:
            return error.wait
        return float(wait_random_exponential(multiplier=0.1, max=20)(state))

    def _sleep(self, seconds: float) -> None:
        self.limiter.closed.wait(seconds)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def prune(value: Any, keep: Any) -> Any:
    """``value`` with only the fields that ``keep`` names; a plain value where an object was expected stays.

    >>> prune({"id": 1, "owner": {"id": 2, "email": "x"}, "images": []}, {"id": True, "owner": {"id": True}})
    {'id': 1, 'owner': {'id': 2}}
    """
    if isinstance(value, list):
        return [prune(item, keep) for item in value]
    if isinstance(value, dict):
        if keep is True:
            return None  # an object where a plain value belongs: nothing of it was asked for
        if "*" in keep:
            return {name: prune(field, keep["*"]) for name, field in value.items()}
        return {name: prune(value[name], fields) for name, fields in keep.items() if name in value}
    return value


def base_url(url: str, option: str) -> tuple[str, tuple[str, str]]:
    """A service's address without a trailing slash, and its origin. Raises InputError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise InputError(f"{option} is {url!r}; it has to be an address such as https://api.example.org/v1")
    return url.rstrip("/"), (parts.scheme, parts.netloc)


def _response(url: str, status: int, body: bytes) -> requests.Response:
    response = requests.Response()
    response.url = url
    response.status_code = status
    response._content = body
    response.encoding = "utf-8"
    return response


def _retry_after(response: requests.Response) -> float:
    """Seconds to wait; a date is taken relative to the server's own clock, which may not agree with ours."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return min(max(0.0, float(value)), _LONGEST_SAID)
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
        now = parsedate_to_datetime(response.headers.get("Date", ""))
        seconds = (then - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 1.0
    return min(max(0.0, seconds), _LONGEST_SAID)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
