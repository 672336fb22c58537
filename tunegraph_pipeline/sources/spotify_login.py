"""Spotify's settings, its tokens (of the app and of users who authorised it), and the login.

Here: section `spotify` of `lake.json`, the app's credentials from the environment, fetching and renewing
tokens, and the private files with users' tokens, outside every lake. Not here: requests (`spotify`).
"""

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import private_file
from tunegraph_pipeline.sources.api_session import ApiSession, base_url
from tunegraph_pipeline.sources.source import Unanswered
from tunegraph_pipeline.sources.spotify_answers import Owner, parsed

SCOPES = "user-library-read playlist-read-private playlist-read-collaborative"
REDIRECT = "http://127.0.0.1:8888/callback"
_OWNER = "tunegraph_user"  # the key of the user's id, beside the token
_TOKEN = re.compile(r"^[!-~]+$")  # valid in a header


class Mode(StrEnum):
    AUTO = "auto"
    EXTENDED = "extended"
    DEVELOPMENT = "development"


class SpotifySettings(BaseModel):
    """Settings of the source, section ``spotify`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_users: tuple[str, ...] = ()
    """Users that a crawl with extended quota starts from."""
    mode: Mode = Mode.AUTO
    """Which generation of the API this app has; detected by one request if `auto`."""
    api_url: str = "https://api.spotify.com/v1"
    accounts_url: str = "https://accounts.spotify.com"
    reccobeats: bool = True
    """Whether ReccoBeats is asked for features that Spotify does not give."""


@dataclass(frozen=True)
class App:
    """An app of Spotify's dashboard, and the address of its token endpoint."""

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str


class _TokenInfo(BaseModel):
    """The required fields of a token file."""

    model_config = ConfigDict(extra="allow", strict=True)

    access_token: Annotated[str, StringConstraints(pattern=_TOKEN.pattern)]
    refresh_token: Annotated[str, StringConstraints(min_length=1)]
    expires_at: Annotated[float, Field(allow_inf_nan=False)]


class Token:
    """A token for spotipy: fetched once for all threads, and renewed when refused."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.RLock()

    def connect(self, session: ApiSession) -> None:
        raise NotImplementedError

    def get_access_token(self, as_dict: bool = False) -> str:  # spotipy's signature
        with self._lock:
            return self._read(self._current)

    def renew(self, refused: str) -> str:
        """A new Authorization header: with a token that another thread has renewed, or a fresh one."""
        with self._lock:
            current = f"Bearer {self._read(self._current)}"
            return current if current != refused else f"Bearer {self._read(self._fresh)}"

    def _read(self, call: Callable[[], Any]) -> str:
        """A valid token from ``call``: spotipy does not check the fields of an answer."""
        try:
            token = call()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unanswered("Spotify answered with a token that cannot be read")
        return token

    def _current(self) -> Any:
        raise NotImplementedError

    def _fresh(self) -> Any:
        raise NotImplementedError


class AppToken(Token):
    """The app's own token (client credentials), kept in memory only."""

    def connect(self, session: ApiSession) -> None:
        from spotipy.cache_handler import MemoryCacheHandler
        from spotipy.oauth2 import SpotifyClientCredentials

        self._manager = SpotifyClientCredentials(
            self._app.client_id,
            self._app.client_secret,
            requests_session=session,
            cache_handler=MemoryCacheHandler(),
        )
        self._manager.OAUTH_TOKEN_URL = self._app.token_url

    def _current(self) -> Any:
        return self._manager.get_access_token(as_dict=False)

    def _fresh(self) -> Any:
        return self._manager.get_access_token(as_dict=False, check_cache=False)


class UserToken(Token):
    """The token of a user who authorised the app, in a file of its own."""

    def __init__(self, app: App, path: Path) -> None:
        super().__init__(app)
        self._cache = token_cache(path)

    def scope(self) -> str:
        """Separates stored answers by user, since a file may later hold another user's token."""
        return str(self._cache.get_cached_token()["refresh_token"])

    def connect(self, session: ApiSession) -> None:
        self._manager = _oauth(self._app, self._cache, requests_session=session, open_browser=False)

    def _current(self) -> Any:
        info = self._manager.validate_token(self._cache.get_cached_token())
        if info is None:
            raise InputError("a Spotify authorisation lacks a scope; run `tunegraph login` again")
        return info["access_token"]

    def _fresh(self) -> Any:
        info = self._manager.refresh_access_token(self._cache.get_cached_token()["refresh_token"])
        return info["access_token"]


def _oauth(app: App, cache: Any, **options: Any) -> Any:
    """spotipy's manager of a user's token."""
    from spotipy.oauth2 import SpotifyOAuth

    redirect = os.environ.get("SPOTIPY_REDIRECT_URI", REDIRECT)
    manager = SpotifyOAuth(
        app.client_id, app.client_secret, redirect, scope=SCOPES, cache_handler=cache, **options
    )
    manager.OAUTH_TOKEN_URL = app.token_url
    return manager


def token_folder() -> Path:
    """The folder of users' tokens: `$TUNEGRAPH_TOKENS`, else in the user's configuration folder."""
    if chosen := os.environ.get("TUNEGRAPH_TOKENS"):
        return Path(chosen)
    from platformdirs import user_config_path

    return user_config_path("tunegraph") / "tokens"


def token_files(client_id: str) -> list[Path]:
    """The token files of the users who authorised this app."""
    folder = token_folder()
    return sorted(folder.glob(f"spotify-{client_id[:8]}-*.json")) if folder.is_dir() else []


def token_cache(path: Path) -> Any:
    """spotipy's cache over one private file (mode 0600, replaced atomically)."""
    from spotipy.cache_handler import CacheHandler

    class PrivateFile(CacheHandler):  # type: ignore[misc]
        def get_cached_token(self) -> Any:
            try:
                return _TokenInfo.model_validate_json(path.read_bytes()).model_dump()
            except (OSError, ValidationError):
                raise InputError(
                    f"{path} cannot be read; remove it and run `tunegraph login` again"
                ) from None

        def save_token_to_cache(self, token_info: Any) -> None:
            _TokenInfo.model_validate(token_info)  # a malformed answer must not overwrite the login
            owner = token_info.get(_OWNER) or token_owner(path)
            private_file(path, json.dumps({**token_info, _OWNER: owner}))

    return PrivateFile()


def authorise(settings: SpotifySettings, *, open_browser: bool = True) -> str:
    """Let a user authorise the app in a browser and store the token; returns the user's id.

    Raises InputError if the credentials or the authorisation are refused.
    """
    import spotipy
    from requests.exceptions import RequestException
    from spotipy.exceptions import SpotifyException, SpotifyOauthError

    client_id, client_secret = app_credentials()
    accounts, _ = base_url(settings.accounts_url, "settings.spotify.accounts_url")
    draft = spotipy.cache_handler.MemoryCacheHandler()
    app = App(client_id, client_secret, f"{accounts}/api/token")
    # With the dialog, a second user can be chosen in the same browser.
    manager = _oauth(app, draft, open_browser=open_browser, show_dialog=True, requests_timeout=20)
    manager.OAUTH_AUTHORIZE_URL = f"{accounts}/authorize"
    client = spotipy.Spotify(auth_manager=manager, requests_timeout=20, retries=0)
    client.prefix = f"{base_url(settings.api_url, 'settings.spotify.api_url')[0]}/"
    try:
        user = parsed(Owner, client.me())
    except SpotifyOauthError as error:
        raise refused_credentials(error) from None
    except SpotifyException as error:
        raise InputError(
            f"Spotify refuses this user (status {error.http_status}); add them to the app"
        ) from None
    except (RequestException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Spotify's answer cannot be used ({type(error).__name__}); try again") from None
    if user is None:
        raise InputError("Spotify did not say who authorised the app; try again")
    taken = token_files(client_id)
    free = (token_folder() / f"spotify-{client_id[:8]}-{number}.json" for number in count(1))
    path = next(
        (path for path in taken if token_owner(path) == user.id),
        next(path for path in free if path not in taken),
    )
    private_file(path, json.dumps({**draft.get_cached_token(), _OWNER: user.id}))
    return user.id


def token_owner(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_bytes())[_OWNER])
    except (OSError, ValueError, KeyError):
        return None


def app_credentials() -> tuple[str, str]:
    values = [os.environ.get(f"SPOTIPY_CLIENT_{part}", "").strip() for part in ("ID", "SECRET")]
    if not all(values):
        raise InputError(
            "Spotify needs the credentials of an app: set SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET in the"
            " environment (https://developer.spotify.com/dashboard)"
        )
    return values[0], values[1]


def refused_credentials(error: Any) -> InputError:
    if error.error == "invalid_grant":
        return InputError(
            "a user's Spotify authorisation has expired (they last six months); run `tunegraph login` again"
        )
    if error.error == "invalid_client":
        return InputError("Spotify does not know this app: check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET")
    return InputError("Spotify gives no token for these credentials; check the app in the dashboard")
