"""Token buckets: how much they let through, who shares one, and how many are kept."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tunegraph_pipeline.recommend.recommender import Query, Ranked, Recommender
from tunegraph_pipeline.serve.middleware import CHARGE
from tunegraph_pipeline.serve.rate_limit import RateLimiter, client_of
from tunegraph_pipeline.serve.service import Service
from tunegraph_pipeline.serve.settings import ServiceSettings
from tunegraph_pipeline_tests.serve.conftest import make_lake, small_content, track_id


def test_a_client_may_ask_twice_the_rate_at_once_and_then_at_the_rate() -> None:
    limiter = RateLimiter(5.0)
    assert [limiter.wait_of("a", 0.0) for _ in range(11)] == [0] * 10 + [1]
    assert limiter.wait_of("a", 0.2) == 0
    assert limiter.wait_of("a", 0.2) == 1
    assert limiter.wait_of("b", 0.2) == 0


def test_a_slow_rate_says_how_many_seconds_to_wait() -> None:
    limiter = RateLimiter(0.1)
    assert limiter.wait_of("a", 0.0) == 0
    assert limiter.wait_of("a", 1.0) == 9
    assert limiter.wait_of("a", 10.5) == 0


@given(
    st.floats(0.5, 50),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate_over_the_time(rate: float, pauses: list[float]) -> None:
    limiter, now, allowed = RateLimiter(rate), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += limiter.wait_of("a", now) == 0
    assert allowed <= max(1.0, 2 * rate) + rate * now + 1e-6


@given(st.floats(0.5, 50), st.integers(1, 30))
def test_whoever_waits_as_long_as_told_is_let_in(rate: float, asked: int) -> None:
    limiter, now = RateLimiter(rate), 0.0
    for _ in range(asked):
        wait = limiter.wait_of("a", now)
        if wait:
            now += wait
            assert limiter.wait_of("a", now) == 0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away() -> None:
    limiter = RateLimiter(1.0)
    assert [limiter.wait_of("a", 100.0), limiter.wait_of("a", 99.0), limiter.wait_of("a", 98.0)] == [0, 0, 1]


def test_what_costs_more_counts_as_more() -> None:
    limiter = RateLimiter(5.0)
    assert limiter.wait_of("a", 0.0, cost=14.0) == 0  # of ten
    assert limiter.wait_of("a", 0.9) == 1
    assert limiter.wait_of("a", 1.1) == 0
    limiter.charge("a", 20.0)
    limiter.charge("unknown", 20.0)
    assert limiter.wait_of("a", 2.0) == 4
    assert limiter.wait_of("unknown", 2.0) == 0


def test_memory_is_bounded_and_the_client_seen_longest_ago_is_forgotten() -> None:
    limiter = RateLimiter(1.0, most_clients=3)
    for client in ("a", "a", "b", "c", "d"):
        assert limiter.wait_of(client, 0.0) == 0
    assert len(limiter) == 3
    assert limiter.wait_of("a", 0.0) == 0  # forgotten, and so with a full bucket


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [
        ("10.0.0.1", [], 0, "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4"], 0, "10.0.0.1"),  # not asked to believe it
        ("10.0.0.1", [b"1.2.3.4"], 1, "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6, 1.2.3.4"], 1, "1.2.3.4"),  # the first one is made up
        ("10.0.0.1", [b"6.6.6.6", b"1.2.3.4, 10.0.0.9"], 2, "1.2.3.4"),
        ("10.0.0.1", [b"1.2.3.4"], 2, "10.0.0.1"),  # fewer than there are proxies: not by way of them
        (None, [], 0, "unknown"),
        ("::ffff:1.2.3.4", [], 0, "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::/64"),
        ("10.0.0.1", [b"[2001:db8:1:2::9]"], 1, "2001:db8:1:2::/64"),
        ("10.0.0.1", [b"[2001:db8:1:2::9]:5678"], 1, "2001:db8:1:2::/64"),
        ("10.0.0.1", [b"1.2.3.4:5678"], 1, "1.2.3.4"),
        ("10.0.0.1", [b"[::ffff:1.2.3.4]:5678"], 1, "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6:1, 1.2.3.4:2"], 1, "1.2.3.4"),
        ("10.0.0.1", [b":5678"], 1, "unknown"),
        ("10.0.0.1", [b"[]:5678"], 1, "unknown"),
        ("fe80::1%eth0", [], 0, "fe80::/64"),
    ],
)
def test_the_client_is_who_the_outermost_own_proxy_saw(
    peer: str | None, forwarded: list[bytes], proxies: int, client: str
) -> None:
    assert client_of(peer, forwarded, proxies) == client


@given(st.lists(st.binary(max_size=40), max_size=3), st.integers(0, 3))
def test_whatever_is_sent_names_a_client_of_bounded_length(forwarded: list[bytes], proxies: int) -> None:
    assert 0 < len(client_of("10.0.0.1", forwarded, proxies)) <= 64


def test_songs_that_are_described_are_charged(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", small_content())
    recommender = Recommender.open(lake / "serving")
    service = Service(ServiceSettings(lake=lake))
    charged: list[float] = []
    request = Request({"type": "http", CHARGE: charged.append})
    for k in (10, 200):
        (ranked,) = recommender.ranked([Query([track_id(0)], k=k)])
        assert isinstance(ranked, Ranked)
        answer = asyncio.run(service.described(recommender, ranked, request))
        assert len(answer.items) == k
    assert charged[0] < 0.2
    assert charged[1] > 3
