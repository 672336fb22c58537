"""Who may ask about stored users.

Here: the API key, and the rule where one is needed. Not here: how often a client may ask (`rate_limit`).

Songs in, songs out needs no key anywhere. What is about a stored user (their recommendations, what they say
they like) needs one wherever the key is set, and wherever others than the people on this machine can ask;
there, without a key in the environment, it is refused altogether. On loopback without a key, a browser may
still be made to ask by a page of somebody else, under a name that they point to 127.0.0.1: so there the host
asked for has to be loopback too.
"""

import hashlib
import hmac
import ipaddress
import os
from http import HTTPStatus

from starlette.requests import Request

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.problem_details import Problem

KEY_VARIABLE = "TUNEGRAPH_API_KEY"
_LEAST_CHARACTERS = 16


def key_of_environment() -> str | None:
    """The API key, None where none is set. Raises InputError for one that could be guessed."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        return None
    if len(key) < _LEAST_CHARACTERS or not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(
            f"{KEY_VARIABLE} has to be at least {_LEAST_CHARACTERS} printable characters without spaces;"
            " `openssl rand -hex 32` makes one"
        )
    return key


class StoredUserAccess:
    """The check in front of every route about a stored user."""

    def __init__(self, key: str | None, *, public: bool) -> None:
        self._key = None if key is None else _digest(key.encode())
        self._public = public

    @property
    def asks_for_key(self) -> bool:
        return self._key is not None

    def check(self, request: Request) -> None:
        """Raises Problem: 401 without the right key where there is one, 403 where nobody may ask."""
        if self._key is None:
            if self._public:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "this service answers nothing about stored users: it can be reached from elsewhere and"
                    f" has no key; its operator sets {KEY_VARIABLE} to change that",
                    name="no-key-configured",
                )
            if not _names_loopback(request.headers.get("host", "")):
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "without a key, stored users are asked about under localhost or 127.0.0.1 alone;"
                    f" under other names the service needs {KEY_VARIABLE}",
                    name="foreign-host",
                )
            return
        given = _given_key(request)
        # Of digests, so that neither content nor length shows in the time it takes.
        if given is None or not hmac.compare_digest(_digest(given), self._key):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "this needs the service's API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                name="wrong-key" if given is not None else "no-key",
                headers={"WWW-Authenticate": 'Bearer realm="tunegraph"'},
            )


def _given_key(request: Request) -> bytes | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip().encode("latin-1")
    key = request.headers.get("x-api-key")
    return None if key is None else key.encode("latin-1")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _names_loopback(host: str) -> bool:
    name = host[: host.index("]") + 1].strip("[]") if host.startswith("[") and "]" in host else host
    name = name if ":" in name and name.count(":") > 1 else name.partition(":")[0]
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
