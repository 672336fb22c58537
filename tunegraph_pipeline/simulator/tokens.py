"""Tokens of the simulated Spotify: consent, access tokens and refresh tokens.

Here: issuing tokens, their lifetime, and the user of a request. Not here: faults (`faults`) and routes
(`server`).
"""

import base64
import binascii
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode, urlsplit

from tunegraph_pipeline.simulator.bodies import Answer, refusal


@dataclass
class Tokens:
    """The tokens of one app. Threads may share it.

    ``consents`` maps each refresh token to the user who gave it; an authorization code is exchanged for
    ``refresh_token``. Access tokens are a function of ``seed``, the user and how many were issued before, and
    expire after ``lifetime`` seconds: ``issued`` holds the user and the time of expiry of each.
    """

    seed: int
    client_id: str
    client_secret: str
    refresh_token: str
    consents: dict[str, str]
    lifetime: float
    issued: dict[str, tuple[str | None, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def revoke(self, refresh_token: str) -> None:
        """Make a refresh token invalid; its access tokens live on until they expire."""
        self.consents.pop(refresh_token, None)

    def check(self, headers: Mapping[str, str]) -> tuple[Answer | None, str | None]:
        """The refusal of a request without a valid token, else None; and the user of the token."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            return refusal("/v1/", 401, "No token provided"), None
        if scheme.lower() != "bearer":
            return refusal("/v1/", 400, "Only valid bearer authentication supported"), None
        with self._lock:
            known = self.issued.get(token.strip())
        if known is None:
            return refusal("/v1/", 401, "Invalid access token"), None
        user, expires_at = known
        if time.monotonic() >= expires_at:
            return refusal("/v1/", 401, "The access token expired"), None
        return None, user

    def issue(self, method: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
        """The answer to a request for an access token."""
        if method != "POST":
            return _refused_token(405, "invalid_request", "POST only")
        grant = form.get("grant_type")
        client, secret = _credentials(headers, form)
        # A public client, such as an app on a user's machine, has no secret.
        open_client = secret is None and grant in {"refresh_token", "authorization_code"}
        if client != self.client_id:
            return _refused_token(400, "invalid_client", "Invalid client")
        if secret != self.client_secret and not open_client:
            return _refused_token(400, "invalid_client", "Invalid client secret")
        user: str | None = None
        fields: dict[str, Any] = {}
        if grant == "refresh_token":
            user = self.consents.get(form.get("refresh_token", ""))
            if user is None:
                return _refused_token(400, "invalid_grant", "Refresh token revoked")
        elif grant == "authorization_code":
            if form.get("code") != self._code() or self.refresh_token not in self.consents:
                return _refused_token(400, "invalid_grant", "Invalid authorization code")
            user = self.consents[self.refresh_token]
            fields = {"refresh_token": self.refresh_token}
        elif grant != "client_credentials":
            message = "grant_type parameter is missing" if grant is None else "grant_type must be known"
            return _refused_token(400, "unsupported_grant_type", message)
        with self._lock:
            number = len(self.issued)
            digest = blake2b(f"{self.seed}|{user}|{number}".encode(), digest_size=63).digest()
            token = "BQ" + base64.urlsafe_b64encode(digest).decode()
            self.issued[token] = (user, time.monotonic() + self.lifetime)
        fields |= {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": max(int(self.lifetime), 3_600),
        }
        if user is not None:
            fields["scope"] = "user-library-read playlist-read-private"
        return Answer(200, json.dumps(fields))

    def authorize(self, query: Mapping[str, str]) -> Answer:
        """The redirect after consent, which is given without a page; the user is the first start user."""
        back = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id:
            return Answer(400, "INVALID_CLIENT: Invalid client")
        if urlsplit(back).hostname not in {"127.0.0.1", "localhost", "::1"}:
            return Answer(400, "INVALID_CLIENT: Invalid redirect URI")
        given = {"code": self._code()} | ({"state": query["state"]} if "state" in query else {})
        return Answer(302, "", (("Location", f"{back}{'&' if '?' in back else '?'}{urlencode(given)}"),))

    def _code(self) -> str:
        return "AQ" + blake2b(f"{self.seed}|code".encode(), digest_size=40).hexdigest()


def _refused_token(status: int, error: str, description: str) -> Answer:
    return Answer(status, json.dumps({"error": error, "error_description": description}))


def _credentials(headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Client id and secret of a token request, from its header or its form."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, None
        return client, secret
    return form.get("client_id"), form.get("client_secret")
