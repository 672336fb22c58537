"""What follows from the settings, and that they reach a worker whole."""

from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.settings import (
    ENVIRONMENT,
    ServiceSettings,
    check_host,
    check_origin,
    is_loopback,
    limits_of,
)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("", False),
        ("no such host", False),
    ],
)
def test_an_address_is_loopback_or_public(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert ServiceSettings(lake=Path("x"), host=host).public is not loopback


def test_behind_a_proxy_even_loopback_is_public() -> None:
    assert ServiceSettings(lake=Path("x"), proxies=1).public


def test_the_rate_limit_is_off_on_loopback_and_on_elsewhere_unless_given() -> None:
    def limit(**given: float | str) -> float | None:
        return ServiceSettings.model_validate({"lake": "x", **given}).requests_per_second

    assert limit() is None
    assert limit(host="0.0.0.0") == 50
    assert limit(host="0.0.0.0", rate_limit=0) is None
    assert limit(rate_limit=7) == 7


def test_settings_travel_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings(
        lake=Path("a lake"), cors_origins=("https://x.org",), blocklist=Path("b"), workers=3
    )
    monkeypatch.setenv(ENVIRONMENT, settings.model_dump_json())
    assert ServiceSettings.of_environment() == settings


@pytest.mark.parametrize(
    "origin", ["https://music.example.org", "http://localhost:5173", "*", "http://[::1]:8"]
)
def test_an_origin_is_scheme_and_host(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize("origin", ["music.example.org", "https://x.org/", "https://x.org/path", "null", ""])
def test_what_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(InputError, match="--cors-origin"):
        check_origin(origin)


def test_limits_are_given_by_name() -> None:
    limits = limits_of(["connections=7", "head_seconds=0.5"])
    assert (limits.connections, limits.head_seconds, limits.idle_seconds) == (7, 0.5, 75)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("conections=7", "--limit conections: there is no such limit; the limits are head_bytes, "),
        ("connections=many", "--limit connections=many: "),
        ("connections=0", "--limit connections=0: "),
        ("connections", "--limit connections=: "),
        ("head_seconds=inf", "--limit head_seconds=inf: "),
    ],
)
def test_a_limit_that_cannot_be_is_refused(given: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        limits_of([given])
    assert str(refused.value).startswith(says)


def test_a_client_may_open_so_many_connections_where_it_can_be_told_from_others() -> None:
    def most(**given: object) -> int | None:
        return ServiceSettings.model_validate({"lake": "x", **given}).connections_per_client

    assert most() is None
    assert most(host="0.0.0.0") == 100
    assert most(host="0.0.0.0", proxies=1) is None
    assert most(limits={"connections_per_client": 3}) == 3
    assert most(host="0.0.0.0", limits={"connections_per_client": 0}) is None


@pytest.mark.parametrize("name", ["http://music.lan", "music.lan:80", "", "a b"])
def test_an_allowed_host_is_a_name_alone(name: str) -> None:
    with pytest.raises(InputError, match="--allowed-host"):
        check_host(name)
