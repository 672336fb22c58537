"""The policy: pace, retries, waiting, budgets, the answers of the day, and what is never stored or sent."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources import api_session as session_module
from tunegraph_pipeline.sources.api_session import ApiSession, Keep, Limiter, RequestPolicy, base_url, prune
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import AskLater, BudgetSpent, Unanswered

KEEP: Keep = {"name": True, "next": True}
Open = Callable[..., ApiSession]
OpenFrontier = Callable[..., Frontier]


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.on_wait: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.on_wait()
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(10, clock, clock.wait)


def times(limiter: Limiter, clock: Clock, count: int) -> list[float]:
    """When ``count`` requests in a row may go out, in seconds from now."""
    begun, given = clock.now, []
    for _ in range(count):
        limiter.acquire()
        given.append(clock.now - begun)
    return given


def pace(limiter: Limiter, clock: Clock) -> float:
    """Requests a second, once nobody has anything to catch up with."""
    given = times(limiter, clock, 41)
    return 20 / (given[40] - given[20])


@pytest.fixture
def open_session(stub: Any, frontier: Frontier) -> Iterator[Open]:
    with ExitStack() as opened:

        def start(
            *, frontier: Frontier = frontier, origins: Any = None, keep: Keep = KEEP, **options: Any
        ) -> ApiSession:
            policy = {"requests_per_second": 10_000, "attempts": 4, **options.pop("policy", {})}
            session = ApiSession(
                "Example",
                origins or {stub.origin},
                frontier,
                RequestPolicy(**policy),
                keep,
                1.0,
                **options,
            )
            opened.callback(session.close)
            return session

        yield start


# --- pace ---


def test_limiter_spaces_requests_evenly_and_lets_a_late_one_catch_up_a_little(
    limiter: Limiter, clock: Clock
) -> None:
    assert times(limiter, clock, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    clock.now += 60
    # Less than a second's worth to make up for, not the six hundred that went by.
    assert times(limiter, clock, 11)[-1] >= 1
    assert pace(limiter, clock) == pytest.approx(10, rel=0.05)


def test_limiter_shared_by_threads_gives_each_slot_once(clock: Clock) -> None:
    lock, waits = threading.Lock(), 0.0

    def wait(seconds: float) -> None:
        nonlocal waits
        with lock:
            waits = max(waits, clock.now + seconds)
            clock.now = waits

    limiter = Limiter(10, clock, wait)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: limiter.acquire(), range(101)))
    assert clock.now - 100 >= 10 - 1e-6


def test_limiter_never_lets_more_than_the_ceiling_leave_within_a_second(
    limiter: Limiter, clock: Clock
) -> None:
    left: list[float] = []
    for idle in (0, 0, 7, 0.05, 0.3, 30, 0) * 20:
        clock.now += idle
        limiter.acquire()
        left.append(clock.now)
    assert all(later - one >= 1 for one, later in zip(left, left[10:], strict=False))


def test_stop_holds_everyone_and_cuts_the_rate_once_a_second(limiter: Limiter, clock: Clock) -> None:
    limiter.acquire()
    for _ in range(5):  # answers to requests that were in flight together
        limiter.stop_for(3)
    assert times(limiter, clock, 1)[0] == pytest.approx(3)
    cut_once = times(limiter, clock, 31)[-1]
    for _ in range(5):
        clock.now += 1
        limiter.stop_for(0)
    assert times(limiter, clock, 31)[-1] > 1.3 * cut_once


def test_rate_is_regained_and_never_beyond_the_ceiling(limiter: Limiter, clock: Clock) -> None:
    for _ in range(20):
        limiter.stop_for(0)
        clock.now += 1
    assert times(limiter, clock, 41)[-1] > 6
    clock.now += 100
    assert pace(limiter, clock) == pytest.approx(10, rel=0.05)


def test_a_stop_reaches_who_is_already_waiting(limiter: Limiter, clock: Clock) -> None:
    limiter.acquire()

    def stop_once() -> None:
        clock.on_wait = lambda: None
        limiter.stop_for(5)

    clock.on_wait = stop_once
    begun = clock.now
    limiter.acquire()
    assert clock.now - begun >= 5


def test_what_the_service_says_it_allows_slows_the_pace_before_a_429(limiter: Limiter, clock: Clock) -> None:
    limiter.update_quota(1_000_000, 1.0)  # plenty: nothing slows down
    assert pace(limiter, clock) == pytest.approx(10, rel=0.05)
    limiter.update_quota(4, 2.0)  # two a second are left
    given = times(limiter, clock, 21)
    assert given[20] - given[10] > 2.5
    limiter.update_quota(0, 7.0)
    assert times(limiter, clock, 1)[0] >= 7.0


# --- trying again ---


def broken(kind: str, reply: Any) -> Any:
    return {
        "500": reply(b"oh", 500),
        "502": reply(b"<html>", 502),
        "408": reply(b"{}", 408),
        "drop": reply(drop=True),
        "truncate": reply(b'{"name": "one"}', cut=True),
        "bad JSON": reply(b'{"name": '),
        "HTML": reply(b"<html>hello</html>"),
        "empty": reply(b""),
        "a list": reply(b'[{"name": "one"}]'),
        "no UTF-8": reply(b'{"name": "\xff\xfe"}'),
        "false gzip": reply(b'{"name": "one"}', headers={"Content-Encoding": "gzip"}),
        "number without end": reply(b'{"name": ' + b"9" * 6_000 + b"}"),
        "nested without end": reply(b'{"name": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        "nested deep": reply(b'{"name": ' + b"[" * 700 + b"]" * 700 + b"}"),
    }[kind]


BROKEN = [
    *("500", "502", "408", "drop", "truncate", "bad JSON", "HTML", "empty", "a list", "no UTF-8"),
    *("false gzip", "number without end", "nested without end", "nested deep"),
]


@pytest.mark.parametrize(("depth", "accepted"), [(100, True), (101, False)])
def test_nesting_is_bounded_whatever_the_interpreter_allows(
    depth: int, accepted: bool, stub: Any, reply: Any, open_session: Open
) -> None:
    arrays = depth - 1  # within the object
    text = json.dumps('\\"' + "[{" * 500).encode()  # brackets in a string do not nest
    body = b'{"text": ' + text + b', "name": ' + b"[" * arrays + b"]" * arrays + b"}"
    stub.say(reply(body))
    session = open_session(policy={"attempts": 1})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        if accepted:
            assert session.get(f"{stub.url}/thing").status_code == 200
        else:
            with pytest.raises(Unanswered):
                session.get(f"{stub.url}/thing")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_answers_are_asked_for_again(kind: str, stub: Any, reply: Any, open_session: Open) -> None:
    stub.say(broken(kind, reply), broken(kind, reply), {"name": "whole"})
    session = open_session()
    response = session.get(f"{stub.url}/thing")
    assert response.json() == {"name": "whole"}
    assert len(stub.asked) == 3
    assert session.counts["retries"] == 2


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_that_stays_broken_is_given_up(
    kind: str, stub: Any, reply: Any, open_session: Open, frontier: Frontier
) -> None:
    stub.say(broken(kind, reply))
    session = open_session(policy={"attempts": 2})
    with pytest.raises(Unanswered, match="2 times in a row"):
        session.get(f"{stub.url}/thing")
    assert len(stub.asked) == 2
    stub.say({"name": "whole"})  # and was not kept
    assert session.get(f"{stub.url}/thing").json() == {"name": "whole"}


def test_a_server_that_says_nothing_times_out(
    stub: Any, reply: Any, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_REQUEST_TIMEOUT", (0.3, 0.3))
    release = threading.Event()
    first = threading.Event()

    def slow_once(_: Any) -> Any:
        if not first.is_set():
            first.set()
            release.wait(1.0)
        return reply(b'{"name": "late"}')

    stub.respond = slow_once
    session = open_session()
    try:
        assert session.get(f"{stub.url}/thing", timeout=None).json() == {"name": "late"}
    finally:
        release.set()
    assert session.counts["ReadTimeout"] >= 1


def test_nobody_at_the_address_is_no_answer(stub: Any, open_session: Open) -> None:
    stub.close()
    with pytest.raises(Unanswered, match="Example: no answer, 2 times in a row"):
        open_session(policy={"attempts": 2}).get(f"{stub.url}/thing")


@pytest.mark.parametrize("status", [400, 403, 404, 410, 422])
def test_a_refusal_is_an_answer_and_its_text_is_not_kept(
    status: int, stub: Any, open_session: Open, frontier: Frontier, kept_bytes: Callable[[Path], bytes]
) -> None:
    stub.say({"error": {"status": status, "message": "no, someone@example.invalid"}}, status=status)
    session = open_session()
    for _ in range(2):
        response = session.get(f"{stub.url}/thing")
        assert response.status_code == status
        with pytest.raises(requests.HTTPError):
            response.raise_for_status()
    assert len(stub.asked) == 1
    assert b"example.invalid" not in kept_bytes(frontier.path)


# --- 429 ---


def test_short_429_waits_and_goes_on(stub: Any, reply: Any, open_session: Open) -> None:
    stub.say(reply(b"{}", 429, {"Retry-After": "0"}), reply(b"{}", 429, {"Retry-After": "2"}), {"name": "x"})
    clock = Clock()
    session = open_session(limiter=Limiter(1_000, clock, clock.wait))
    assert session.get(f"{stub.url}/thing").json() == {"name": "x"}
    assert clock.now >= 102
    assert session.counts["429"] == 2


def test_long_429_ends_the_run_and_the_next_one_does_not_ask(
    stub: Any, reply: Any, open_session: Open, make_frontier: OpenFrontier
) -> None:
    stub.say(reply(b'{"error": {"reason": "QUOTA_EXCEEDED"}}', 429, {"Retry-After": "86400"}))
    session = open_session()
    before = datetime.now(UTC)
    with pytest.raises(
        AskLater, match=r"Example asks not to be asked again before \d{4}-.* UTC \(.*24 hours"
    ):
        session.get(f"{stub.url}/thing")
    assert len(stub.asked) == 1
    with pytest.raises(AskLater):
        session.get(f"{stub.url}/other")
    assert len(stub.asked) == 1

    later = make_frontier(date(2026, 6, 2))
    until = later.not_before("Example")
    assert until is not None
    assert before + timedelta(hours=24) <= until <= datetime.now(UTC) + timedelta(hours=24)
    with pytest.raises(AskLater) as refused:
        open_session(frontier=later).check_not_before()
    assert refused.value.until == until
    later.keep_not_before("Example", datetime.now(UTC) - timedelta(seconds=1))
    open_session(frontier=later).check_not_before()


def test_long_429_ends_every_session_of_the_pace_and_wakes_who_waits(
    stub: Any, reply: Any, open_session: Open
) -> None:
    limiter = Limiter(1_000)
    one, two = open_session(limiter=limiter), open_session(limiter=limiter, scope="two")
    limiter.stop_for(300)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.get, f"{stub.url}/thing")
        limiter.end(AskLater("Example", datetime(2027, 1, 1, tzinfo=UTC), "said so"))
        with pytest.raises(AskLater):
            waiting.result(timeout=30)
    with pytest.raises(AskLater):
        one.get(f"{stub.url}/thing")
    assert stub.asked == []


@pytest.mark.parametrize("skew", [timedelta(hours=-3), timedelta(0), timedelta(hours=3)])
def test_a_date_to_come_back_is_read_by_the_clock_of_the_server(
    skew: timedelta, stub: Any, reply: Any, open_session: Open
) -> None:
    theirs = datetime.now(UTC).replace(microsecond=0) + skew

    def dated(seconds: int) -> Any:
        said = format_datetime(theirs + timedelta(seconds=seconds), usegmt=True)
        return reply(b"{}", 429, {"Date": format_datetime(theirs, usegmt=True), "Retry-After": said})

    clock = Clock()
    stub.say(dated(7), {"name": "x"})
    session = open_session(limiter=Limiter(1_000, clock, clock.wait))
    assert session.get(f"{stub.url}/thing").json() == {"name": "x"}
    assert clock.now == pytest.approx(107, abs=0.1)

    stub.say(dated(7_200))
    with pytest.raises(AskLater) as refused:
        session.get(f"{stub.url}/other")
    assert (refused.value.until - datetime.now(UTC)).total_seconds() == pytest.approx(7_200, abs=60)


@pytest.mark.parametrize(
    "said", ["", "soon", "-5", "nan", "1e400", "Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "\xb2"]
)
def test_a_wait_nobody_can_read_is_a_short_one_or_ends_the_run(
    said: str, stub: Any, reply: Any, open_session: Open
) -> None:
    clock = Clock()
    stub.say(reply(b"{}", 429, {"Retry-After": said}), {"name": "x"})
    session = open_session(limiter=Limiter(1_000, clock, clock.wait))
    if said == "1e400":
        with pytest.raises(AskLater) as refused:
            session.get(f"{stub.url}/thing")
        assert refused.value.until < datetime.now(UTC) + timedelta(days=31)
    else:
        assert session.get(f"{stub.url}/thing").json() == {"name": "x"}
        assert clock.now < 102


@pytest.mark.parametrize(
    ("remaining", "reset_in"),
    [
        ("0", "1e400"),
        ("0", "9" * 400),
        ("\xb2", "\xb2"),
        ("9" * 5_000, "1"),
        ("-1", "5"),
        ("", ""),
        ("5", "nan"),
    ],
)
def test_rate_headers_of_any_kind_never_hold_a_run_longer_than_its_longest_wait(
    remaining: str, reset_in: str, stub: Any, reply: Any, open_session: Open
) -> None:
    clock = Clock()
    said = {"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset-In": reset_in}
    stub.say(reply(b'{"name": "x"}', 200, said))
    session = open_session(limiter=Limiter(1_000, clock, clock.wait), policy={"longest_wait": 30})
    for path in "ab":
        assert session.get(f"{stub.url}/{path}").json() == {"name": "x"}
    assert clock.now <= 131


# --- what is never followed ---


def test_addresses_on_another_host_are_not_asked(stub: Any, make_stub: Any, open_session: Open) -> None:
    other = make_stub()
    session = open_session()
    bearer = {"Authorization": "Bearer secret"}
    host = stub.origin[1]
    for url in (
        f"{other.url}/next",
        f"http://{host}@{other.origin[1]}/next",
        f"http://{other.origin[1]}#@{host}/",
        f"http://{other.origin[1]}\\@{host}/",
        f"https://{host}/next",
        "http://[::1",
        "http://",
        "http://exa mple:99999999/",
        "file:///etc/passwd",
        f"//{other.origin[1]}/next",
    ):
        with pytest.raises(Unanswered):
            session.get(url, headers=bearer)
    assert other.asked == []
    assert stub.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    status: int, stub: Any, make_stub: Any, reply: Any, open_session: Open
) -> None:
    other = make_stub()
    stub.say(reply(b"", status, {"Location": f"{other.url}/next"}))
    session = open_session(policy={"attempts": 2})
    with pytest.raises(Unanswered, match=str(status)):
        session.get(f"{stub.url}/thing", headers={"Authorization": "Bearer secret"}, allow_redirects=True)
    assert other.asked == []
    assert [request.path for request in stub.asked] == ["/thing"] * 2


# --- tokens ---


def test_a_refused_token_is_renewed_and_one_that_stays_refused_is_an_answer(
    stub: Any, reply: Any, open_session: Open
) -> None:
    session = open_session(policy={"attempts": 8})
    session.renew = lambda refused: f"{refused}+"
    stub.respond = lambda request: (
        reply(b'{"name": "x"}') if request.headers["Authorization"] == "Bearer a+" else reply(b"{}", 401)
    )
    first = session.get(f"{stub.url}/thing", headers={"Authorization": "Bearer a"})
    assert first.json() == {"name": "x"}
    refused = session.get(f"{stub.url}/other", headers={"Authorization": "Bearer b"})
    assert refused.status_code == 401
    assert len(stub.asked) <= 2 + 4
    # Another token may change that answer, so it is asked for again.
    assert session.get(f"{stub.url}/other", headers={"Authorization": "Bearer a"}).status_code == 200


# --- the answers of the day ---


def test_same_request_is_sent_once_a_day(
    stub: Any, open_session: Open, make_frontier: OpenFrontier, frontier: Frontier
) -> None:
    stub.say({"name": "today"})
    session = open_session()
    for _ in range(3):
        assert session.get(f"{stub.url}/thing", params={"a": 1}).json() == {"name": "today"}
    assert len(stub.asked) == 1
    session.get(f"{stub.url}/thing", params={"a": 2})
    assert len(stub.asked) == 2
    # A run that begins again has them too.
    again = open_session(frontier=make_frontier())
    assert again.get(f"{stub.url}/thing", params={"a": 1}).json() == {"name": "today"}
    assert again.counts == {"answers kept": 1}
    assert len(stub.asked) == 2

    stub.say({"name": "tomorrow"})
    next_day = open_session(frontier=make_frontier(date(2026, 6, 2)))
    assert next_day.get(f"{stub.url}/thing", params={"a": 1}).json() == {"name": "tomorrow"}


def test_answers_to_one_who_asks_are_not_given_to_another(stub: Any, reply: Any, open_session: Open) -> None:
    stub.respond = lambda request: reply(json.dumps({"name": request.headers["Authorization"]}).encode())
    for who in ("anna", "ben", "anna"):
        session = open_session(scope=who)
        answer = session.get(f"{stub.url}/me", headers={"Authorization": who})
        assert answer.json() == {"name": who}
    assert len(stub.asked) == 2


def test_posts_are_never_kept(
    stub: Any, open_session: Open, frontier: Frontier, kept_bytes: Callable[[Path], bytes]
) -> None:
    stub.say({"access_token": "example.invalid"})
    session = open_session()
    for _ in range(2):
        answer = session.post(f"{stub.url}/token", data={"secret": "hidden.invalid"})
        assert answer.json() == {"access_token": "example.invalid"}
    assert len(stub.asked) == 2
    assert b".invalid" not in kept_bytes(frontier.path)


def test_only_the_fields_that_are_needed_are_kept(
    stub: Any, open_session: Open, frontier: Frontier, kept_bytes: Callable[[Path], bytes]
) -> None:
    stub.say(
        {
            "name": "song",
            "email": "anna@example.invalid",
            "items": [{"id": 1, "owner": {"id": "anna", "display_name": "example.invalid"}}, None, 5],
            "owner": "example.invalid",
            "id": {"example.invalid": 1},
            "next": "half \ud83d",
        }
    )
    keep: Keep = {"name": True, "next": True, "id": True, "items": {"id": True, "owner": {"id": True}}}
    answer = open_session(keep=keep).get(f"{stub.url}/thing").json()
    items = [{"id": 1, "owner": {"id": "anna"}}, None, 5]
    assert answer == {"name": "song", "next": "half ?", "id": None, "items": items}
    assert b"example.invalid" not in kept_bytes(frontier.path)


def test_prune_takes_every_field_under_a_star() -> None:
    assert prune({"a": {"x": 1, "y": 2}, "b": 3}, {"*": {"x": True}}) == {"a": {"x": 1}, "b": 3}


# --- budgets and the end ---


def test_budget_of_the_day_counts_retries_and_earlier_runs(
    stub: Any, reply: Any, open_session: Open, make_frontier: OpenFrontier
) -> None:
    stub.say(reply(b"", 500), {"name": "x"})
    policy = {"requests_per_day": 3}
    session = open_session(policy=policy)
    session.get(f"{stub.url}/1")
    again = open_session(policy=policy, frontier=make_frontier())
    again.get(f"{stub.url}/1")  # kept, and so free
    again.get(f"{stub.url}/2")
    with pytest.raises(BudgetSpent, match="the daily budget of 3 requests to Example is used up"):
        again.get(f"{stub.url}/3")
    assert again.get(f"{stub.url}/2").json() == {"name": "x"}
    assert len(stub.asked) == 3
    next_day = open_session(policy=policy, frontier=make_frontier(date(2026, 6, 2)))
    next_day.get(f"{stub.url}/3")
    assert len(stub.asked) == 4


@pytest.mark.parametrize("asleep_in", ["pace", "retry"])
def test_close_wakes_who_waits(asleep_in: str, stub: Any, reply: Any, open_session: Open) -> None:
    waiting = threading.Event()

    class Watched(Limiter):
        def acquire(self) -> None:
            waiting.set()
            super().acquire()

    stub.say(reply(b"", 500))
    limiter = Watched(1_000)
    session = open_session(limiter=limiter, policy={"attempts": 10_000})
    if asleep_in == "pace":
        limiter.stop_for(600)
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(session.get, f"{stub.url}/{n}") for n in range(2)]
        assert waiting.wait(30)
        session.close()
        for one in asking:
            with pytest.raises(BudgetSpent, match="closed"):
                one.result(timeout=30)
    asked = len(stub.asked)
    with pytest.raises(BudgetSpent):
        session.get(f"{stub.url}/more")
    assert len(stub.asked) == asked


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "https://", "https://x.org/?a=1"])
def test_base_url_has_to_be_an_address(url: str) -> None:
    with pytest.raises(InputError, match=r"settings\.x is"):
        base_url(url, "settings.x")


def test_base_url_is_split_into_address_and_origin() -> None:
    assert base_url("https://x.org:8/v1/", "o") == ("https://x.org:8/v1", ("https", "x.org:8"))
