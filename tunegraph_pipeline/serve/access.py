"""Access to data about stored users.

Here: the API key, where it is required, and under which host names a service on loopback is asked. Not here:
how often a client may ask (`rate_limit`).

Recommendations for a list of songs never need a key. Requests about a stored user (their recommendations,
their feedback) need it wherever a key is set. Without a key they are refused if other machines can reach the
service. On loopback they are allowed.

Clients of ListenBrainz send the key as "Token", and some learn from their token which user they are for. For
these a token may be the user and the key, `USER:KEY`.

A service on loopback answers no request under a foreign host name: a web page could point its own host name
at 127.0.0.1, and would then read all that the service answers to the browser (DNS rebinding).
"""

import hashlib
import hmac
import ipaddress
import os
import re
from functools import lru_cache
from http import HTTPStatus

from starlette.requests import Request

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.problem_details import Problem

KEY_VARIABLE = "TUNEGRAPH_API_KEY"
_MIN_KEY_CHARACTERS = 16
_OF_LISTENBRAINZ = "token"
_SCHEMES = frozenset({"bearer", _OF_LISTENBRAINZ})
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")


def key_of_environment() -> str | None:
    """The API key, None if none is set. Raises InputError for a key that could be guessed."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        return None
    if len(key) < _MIN_KEY_CHARACTERS or not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(
            f"{KEY_VARIABLE} must be at least {_MIN_KEY_CHARACTERS} printable characters without spaces;"
            " `openssl rand -hex 32` makes one"
        )
    return key


class StoredUserAccess:
    """The check in front of every route about a stored user."""

    def __init__(self, key: str | None, *, public: bool) -> None:
        self._key = None if key is None else _digest(key.encode())
        self._public = public
        self.asks_for_key = key is not None

    def check(self, request: Request) -> None:
        """Raise Problem: 401 without the right key, 403 if the service has no key and refuses."""
        if self._key is None:
            if self._public:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "this service refuses requests about stored users: other machines can reach it and it has"
                    f" no key; its operator can set {KEY_VARIABLE}",
                    name="no-key-configured",
                )
            return
        given = _given_key(request)
        if given is None or not (self._is_key(given) or self._is_key(_parts_of_token(request)[1])):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "this needs the service's API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                name="wrong-key" if given is not None else "no-key",
                headers={"WWW-Authenticate": 'Bearer realm="tunegraph"'},
            )

    def user_of_token(self, request: Request) -> str:
        """The user that the token of a checked request names, "" if it names none."""
        user, key = _parts_of_token(request)
        return user.decode(errors="replace") if self._key is None or self._is_key(key) else ""

    def _is_key(self, given: bytes) -> bool:
        # Digests are compared, so that the time taken reveals neither content nor length.
        return self._key is not None and hmac.compare_digest(_digest(given), self._key)


def _parts_of_token(request: Request) -> tuple[bytes, bytes]:
    """The user and the key of ``Authorization: Token USER:KEY``, each empty without it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    user, colon, key = token.strip().encode("latin-1").rpartition(b":")
    return (user, key) if colon and scheme.lower() == _OF_LISTENBRAINZ else (b"", b"")


def _given_key(request: Request) -> bytes | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and token.strip():
        return token.strip().encode("latin-1")
    key = request.headers.get("x-api-key")
    return None if key is None else key.encode("latin-1")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


@lru_cache(64)
def is_own_host(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header names loopback, or one of the ``allowed`` names, with any port or none."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name in allowed or found[1].lower() in allowed:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
