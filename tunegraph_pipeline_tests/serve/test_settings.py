"""What follows from the settings, and that they reach a worker whole."""

from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.settings import ENVIRONMENT, ServiceSettings, check_origin, is_loopback


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
