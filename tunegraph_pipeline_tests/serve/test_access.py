"""Who may ask about stored users."""

import pytest
from starlette.requests import Request

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.access import KEY_VARIABLE, StoredUserAccess, is_own_host, key_of_environment
from tunegraph_pipeline.serve.problem_details import Problem

KEY = "correct horse battery".replace(" ", "-")


def request(**headers: str) -> Request:
    listed = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": listed})


def refusal(access: StoredUserAccess, **headers: str) -> tuple[int, str]:
    with pytest.raises(Problem) as refused:
        access.check(request(**headers))
    return int(refused.value.status), refused.value.name


@pytest.mark.parametrize("public", [True, False])
def test_the_right_key_opens_in_either_header(public: bool) -> None:
    access = StoredUserAccess(KEY, public=public)
    access.check(request(authorization=f"Bearer {KEY}"))
    access.check(request(authorization=f"bearer   {KEY}"))
    access.check(request(x_api_key=KEY))


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": KEY[:-1]},
        {"x_api_key": KEY + "x"},
        {"x_api_key": ""},
        {"x_api_key": KEY.upper()},
        {"x_api_key": "\xff\xfe"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        # A wrong bearer token is not saved by a right key in the other header.
        {"authorization": "Bearer wrong", "x_api_key": KEY},
    ],
)
def test_a_wrong_key_does_not(public: bool, headers: dict[str, str]) -> None:
    assert refusal(StoredUserAccess(KEY, public=public), **headers) == (401, "wrong-key")


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": KEY}, {"authorization": "Bearer "}, {"host": "localhost"}]
)
def test_none_does_not_either(headers: dict[str, str]) -> None:
    assert refusal(StoredUserAccess(KEY, public=False), **headers) == (401, "no-key")


def test_where_others_can_ask_and_no_key_is_set_nobody_may() -> None:
    access = StoredUserAccess(None, public=True)
    assert refusal(access, host="localhost") == (403, "no-key-configured")
    assert refusal(access, x_api_key=KEY) == (403, "no-key-configured")


def test_on_loopback_without_a_key_everybody_may() -> None:
    StoredUserAccess(None, public=False).check(request())


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.:8000",
        "localhost:",
        "demo.localhost",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]:8000",
        "music.lan:80",
    ],
)
def test_loopback_and_the_names_that_were_given_are_own_hosts(host: str) -> None:
    assert is_own_host(host, frozenset({"music.lan"}))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "evil.example.org:8000",
        "127.0.0.1.evil.org",
        "localhost.evil.org",
        "localhost:8000@evil.org",
        "localhost:8000:1",
        "evil.org#localhost",
        "notlocalhost",
        "x.music.lan",
        "2130706433",
        "0x7f.1",
        "",
        "[",
        "[::1",
        "10.0.0.1",
        "0.0.0.0",
    ],
)
def test_no_name_of_somebody_else_is(host: str) -> None:
    assert not is_own_host(host, frozenset({"music.lan"}))


@pytest.mark.parametrize(
    "key", ["short", "fifteen-letters", "has a space in it ok", "ümläute-everywhere-here"]
)
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(InputError, match="at least 16 printable"):
        key_of_environment()


def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert key_of_environment() is None
