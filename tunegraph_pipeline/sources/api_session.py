"""Send requests to a web service under a request policy: one session for all threads of a crawl.

Here: rate limits, waits, retries, stored answers of the day, and which fields of an answer are kept. Not
here: what is requested (`spotify`, `listenbrainz`, `reccobeats`), or whom a crawl visits (`crawl`).

`ApiSession` is a `requests.Session`, so that client libraries that accept one, such as spotipy, follow the
policy. Every request has a timeout. Redirects and links to other hosts are not followed. Of an answer, only
what the tables need is stored.
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
from tunegraph_pipeline.words import counted

Keep = Mapping[str, Any]
"""Which fields of an answer are kept: a name maps to True for a plain value, or to the fields below it. Lists
are kept element by element, ``"*"`` stands for every field, and fields not named are dropped."""

_REQUEST_TIMEOUT = (5.0, 20.0)  # to connect, between bytes
_RENEWALS = 3  # of a token for one request; one refused as often is not merely out of date
_LONGEST_WAIT = 30 * 86_400.0  # seconds; the most that is believed of a service
_MARGIN = 0.03  # of a window, since requests do not all take equally long to reach the service
_CATCH_UP = 5  # slots that a late thread may make up for
_CUT, _REGAIN = 0.8, 0.02  # the share of the rate kept after a 429, and of the ceiling regained per second


class RequestPolicy(BaseModel):
    """Rate, daily budget, waits and retries of requests; set in section ``crawl`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: float | None = Field(default=None, gt=0)
    """Maximum rate of all threads together; None for the source's default."""
    requests_per_day: int = Field(default=100_000, ge=1)
    """Maximum requests per day, retries included."""
    longest_wait: float = Field(default=60.0, ge=0)
    """Seconds that a run waits if a service asks for it; for a longer wait the run ends."""
    attempts: int = Field(default=8, ge=1)
    """How often a request is sent before it is given up."""
    threads: int = Field(default=8, ge=1, le=64)
    """Maximum requests in flight."""


class Limiter:
    """Spaces requests evenly below a ceiling; all threads share one.

    Slots are ``1 / rate`` seconds apart; a late thread may make up for a few. However late threads wake, no
    second (plus 3 %) has more requests than the ceiling allows. A 429 stops all threads for the time it says
    and cuts the rate by a fifth, at most once a second; 2 % of the ceiling is regained per second. Headers
    that say how many requests remain slow the pace in advance.
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
        """Stop all requests, for the first reason given; waiting threads return."""
        with self._lock:
            self.ended = self.ended or why
        self.closed.set()

    def stop_for(self, seconds: float) -> None:
        """A 429: pause all requests for that long, then continue at a lower rate."""
        with self._lock:
            now = self._clock()
            self._stopped_until = max(self._stopped_until, now + seconds)
            if now - self._cut_at >= 1:
                self._rate, self._cut_at, self._rate_at = self._rate * _CUT, now, now

    def update_quota(self, remaining: int, reset_in: float) -> None:
        """The service allows ``remaining`` more requests in the next ``reset_in`` seconds."""
        with self._lock:
            now = self._clock()
            if remaining <= 0:
                self._stopped_until = max(self._stopped_until, now + reset_in)
            elif reset_in > 0:
                # Spread what is left over the time left, but never below 1 % of the ceiling.
                allowed = remaining / reset_in
                if allowed < self._rate:
                    self._rate, self._rate_at = max(allowed, self._ceiling / 100), now


class _Retry(Exception):  # noqa: N818
    """The request has to be sent again, after ``wait`` seconds or the usual backoff."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class ApiSession(requests.Session):
    """A session for one service under a `RequestPolicy`.

    ``origins`` are the (scheme, host) pairs it may contact; ``api`` is the service's name in messages.
    ``frontier`` stores the day's answers and spending. ``renew`` replaces an Authorization header that the
    service refused; ``scope`` separates the answers of sessions with different users.

    Raises the refusals of `source` instead of what `requests` raises; answers with status 2xx and 4xx are
    returned. Bodies of GET are pruned to ``keep``; a 2xx whose body is not a JSON object counts as no answer.
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
        self.trust_env = False  # ignore .netrc and proxies of the environment
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=policy.threads + 4)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def check_not_before(self) -> None:
        """Raise AskLater if the service asked, in this or an earlier run, to wait longer than until now."""
        until = self._frontier.not_before(self.api)
        if until is not None and until > datetime.now(UTC):
            raise AskLater(self.api, until, "asked for in an earlier request")

    def close(self) -> None:
        """Stop waiting requests, so that every thread returns soon, and close the connections."""
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
            raise Unanswered(f"{self.api} gave an invalid address") from None
        if (parts.scheme, parts.netloc) not in self._origins:
            raise Unanswered(f"{self.api} gave an address on another host; it was not followed")
        key = hashlib.blake2b(f"{self._scope} {method} {target}".encode(), digest_size=16).digest()
        if method == "GET" and (kept := self._frontier.answer(key)) is not None:
            self._count("answers kept")
            return _response(target, *kept)
        retrying = Retrying(
            retry=retry_if_exception_type(_Retry),
            stop=stop_after_attempt(self._policy.attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._ask, method, target, key, options)
        except _Retry as error:
            raise Unanswered(f"{self.api}: {error}, {self._policy.attempts} times in a row") from None

    def _ask(self, method: str, target: str, key: bytes, options: dict[str, Any]) -> requests.Response:
        self._check_ended()
        most = self._policy.requests_per_day
        if not self._frontier.spend(f"requests to {self.api}", most):
            self.limiter.end(BudgetSpent(f"the daily budget of {most:,} requests to {self.api} is used up"))
            self._check_ended()
        sent = {name: value for name, value in options.items() if name not in ("params", "renewals")}
        self.limiter.acquire()
        self._check_ended()
        self._count("requests")
        try:
            response = super().request(method, target, **sent)
        except (Timeout, ConnectionError, ChunkedEncodingError, ContentDecodingError) as error:
            raise self._counted_retry("no answer", type(error).__name__) from error
        except RequestException as error:
            raise Unanswered(f"{self.api} could not be asked ({type(error).__name__})") from error
        return self._handle_response(response, method, key, options)

    def _check_ended(self) -> None:
        if self.limiter.ended is not None:
            raise self.limiter.ended

    def _handle_response(
        self, response: requests.Response, method: str, key: bytes, options: dict[str, Any]
    ) -> requests.Response:
        status = response.status_code
        self._apply_quota_headers(response)
        if status == 429:
            self._count("429")
            self._pause_or_end(response)
            raise _Retry("too many requests (429)", 0.0)
        if status >= 500 or status == 408 or 300 <= status < 400:
            raise self._counted_retry(f"status {status}", f"status {status}")
        if status == 401:
            self._renew_token(options)
        body = self._pruned(response.content) if status < 300 else b'{"error": {"status": %d}}' % status
        if method != "GET":
            return response
        if status != 401:  # the one answer that another token may change
            self._frontier.keep_answer(key, status, body)
        return _response(response.url, status, body)

    def _renew_token(self, options: dict[str, Any]) -> None:
        """Put a fresh token into the options of a refused request and send it again, a few times at most.

        Only a bearer token is renewed: requests for a token carry the app's own credentials.
        """
        headers = options.get("headers") or {}
        refused = str(headers.get("Authorization", ""))
        if self.renew and refused.startswith("Bearer ") and options["renewals"] < _RENEWALS:
            options["renewals"] += 1
            options["headers"] = {**headers, "Authorization": self.renew(refused)}
            raise _Retry("status 401", 0.0)

    def _pruned(self, body: bytes) -> bytes:
        """The fields of a JSON object that are kept; any other body means sending the request again."""
        try:
            check_nesting(body)
            value = json.loads(body)
        except ValueError:
            raise self._counted_retry("an answer that is no JSON", "broken body") from None
        if not isinstance(value, dict):
            raise self._counted_retry("an answer that is no JSON object", "broken body")
        # Half a surrogate pair is valid in JSON and in no text; it becomes a question mark.
        return json.dumps(prune(value, self._keep), ensure_ascii=False).encode(errors="replace")

    def _pause_or_end(self, response: requests.Response) -> None:
        wait = retry_after(response)
        if wait <= self._policy.longest_wait:
            self.limiter.stop_for(wait)
            return
        until = datetime.now(UTC) + timedelta(seconds=wait)
        self._frontier.keep_not_before(self.api, until)
        later = AskLater(self.api, until, f"it asked for a wait of {_duration(wait)}")
        self.limiter.end(later)
        raise later

    def _apply_quota_headers(self, response: requests.Response) -> None:
        try:
            remaining = int(response.headers.get("X-RateLimit-Remaining", ""))
            reset_in = min(float(response.headers.get("X-RateLimit-Reset-In", "")), _LONGEST_WAIT)
        except ValueError:
            return
        if remaining <= 0:
            # After the longest wait the next request is sent; if that is too early, the service says so.
            reset_in = min(reset_in, self._policy.longest_wait)
        self.limiter.update_quota(remaining, reset_in)

    def _counted_retry(self, why: str, counted: str) -> _Retry:
        self._count("retries")
        self._count(counted)
        return _Retry(why)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _Retry) and error.wait is not None:
            return error.wait
        return float(wait_random_exponential(multiplier=0.1, max=20)(state))

    def _sleep(self, seconds: float) -> None:
        self.limiter.closed.wait(seconds)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def fields(*plain: str, **below: Keep) -> Keep:
    """What to keep: these plain fields, and of the named objects the fields given.

    >>> fields("id", owner=fields("id"))
    {'id': True, 'owner': {'id': True}}
    """
    return {**dict.fromkeys(plain, True), **below}


def prune(value: Any, keep: Any) -> Any:
    """``value`` with only the fields that ``keep`` names; a plain value in place of an object stays.

    >>> prune({"id": 1, "owner": {"id": 2, "email": "x"}, "images": []}, {"id": True, "owner": {"id": True}})
    {'id': 1, 'owner': {'id': 2}}
    """
    if isinstance(value, list):
        return [prune(item, keep) for item in value]
    if isinstance(value, dict):
        if keep is True:
            return None  # an object in place of a plain value
        if "*" in keep:
            return {name: prune(field, keep["*"]) for name, field in value.items()}
        return {name: prune(value[name], fields) for name, fields in keep.items() if name in value}
    return value


def base_url(url: str, option: str) -> tuple[str, tuple[str, str]]:
    """A service's address without a trailing slash, and its origin. Raises InputError if it is not one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise InputError(f"{option} is {url!r}; it must be an address such as https://api.example.org/v1")
    return url.rstrip("/"), (parts.scheme, parts.netloc)


def _response(url: str, status: int, body: bytes) -> requests.Response:
    response = requests.Response()
    response.url = url
    response.status_code = status
    response._content = body
    response.encoding = "utf-8"
    return response


def retry_after(response: requests.Response) -> float:
    """Seconds to wait; a date is relative to the server's clock, which may differ from ours."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            now = parsedate_to_datetime(response.headers.get("Date", ""))
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return 1.0
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
