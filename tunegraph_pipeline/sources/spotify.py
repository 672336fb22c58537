"""Spotify, through spotipy: users by the owners of playlists, likes by their playlists and saved tracks.

Here: which calls are made in which mode, and what their answers mean. Not here: pace, retries and storage
(`api_session`), or order and budgets (`crawl`).

There are two generations of the Web API. With *extended quota* (organisations) the pages of any user can be
read: their public playlists lead to other users, and the tracks of those they own are what they like. In
*development mode* an app sees only the users who authorised it: their saved tracks and own playlists. Both
shapes of a playlist's items are read in either. Credentials come from spotipy's own environment variables
alone; the tokens of authorised users lie outside every lake, readable by their owner alone.
"""

import json
import logging
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WrapValidator,
)

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.lake.storage import private_file
from tunegraph_pipeline.sources.api_session import ApiSession, Keep, Limiter, RequestPolicy, base_url
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    Features,
    Like,
    LikedList,
    NoAnswer,
    ProviderClosed,
    Track,
    Unanswered,
    UserGone,
    UserPrivate,
    feature_values,
)

if TYPE_CHECKING:
    from spotipy import Spotify as Client

TERMS = (
    "Spotify's developer terms forbid training models on its content and keeping it indefinitely, and ask"
    " that personal data go within five days of a disconnect. Crawl it only where your agreement with Spotify"
    " allows what you do; ListenBrainz and your own account export are free of this."
)
SCOPES = "user-library-read playlist-read-private playlist-read-collaborative"
_PAGE, _ITEMS, _SAVED = 50, 100, 50  # what one call may return
_PROBE = "11dFghVXANMlKmJXsNCbNl"  # any well-formed id: the answer tells the mode, not the track
_CEILING = 5.0  # requests a second; Spotify publishes no figure
_OWNER = "tunegraph_user"  # beside the token, whose it is
_TOKEN = re.compile(r"^[!-~]+$")  # what a header may carry
_FIRST_YEAR = 2006  # an older "added at" means unknown

_TRACK: Keep = {
    "id": True,
    "name": True,
    "type": True,
    "is_local": True,
    "artists": {"id": True, "name": True},
    "album": {"id": True, "images": {"url": True}},
    "external_ids": {"isrc": True},
    "preview_url": True,
    "duration_ms": True,
    "explicit": True,
    "genre": True,
}
KEEP: Keep = {
    **_TRACK,  # a track asked for alone; no answer about a person has more of these fields than the id
    "next": True,
    "items": {
        "id": True,
        "owner": {"id": True},
        "tracks": {"total": True},
        "items": {"total": True},
        "added_at": True,
        "track": _TRACK,
        "item": _TRACK,
    },
    "tracks": _TRACK,
    "audio_features": {"id": True, **dict.fromkeys(AUDIO_FEATURES, True)},
}
"""What is kept of any answer: of a person nothing but the id."""


class Mode(StrEnum):
    AUTO = "auto"
    EXTENDED = "extended"
    DEVELOPMENT = "development"


class SpotifySettings(BaseModel):
    """Settings of the source, section ``spotify`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_users: tuple[str, ...] = ()
    """Users a crawl with extended quota starts from."""
    mode: Mode = Mode.AUTO
    """Which generation of the API this app has; found out by one request unless named."""
    api_url: str = "https://api.spotify.com/v1"
    accounts_url: str = "https://accounts.spotify.com"
    reccobeats: bool = True
    """Whether ReccoBeats is asked for features that Spotify does not give."""


_Model = TypeVar("_Model", bound=BaseModel)

UserId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
TrackId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,64}$")]


def _or_none(value: Any) -> Any:
    """Optional text: None for whatever is no text, for the row is worth more than one field of it."""
    return value if isinstance(value, str) and value else None


def _if_sound(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


Text = Annotated[str | None, BeforeValidator(_or_none)]
IfSound = WrapValidator(_if_sound)
"""The same for fields of another kind."""


class _Artist(BaseModel):
    id: Text = None
    name: Text = None


class _Image(BaseModel):
    url: Text = None


class _Album(BaseModel):
    id: Text = None
    images: Annotated[list[_Image] | None, IfSound] = None


class _ExternalIds(BaseModel):
    isrc: Text = None


class TrackObject(BaseModel):
    """A track as any call of the API returns it."""

    id: TrackId
    name: Text = None
    artists: Annotated[list[_Artist] | None, IfSound] = None
    album: Annotated[_Album | None, IfSound] = None
    external_ids: Annotated[_ExternalIds | None, IfSound] = None
    preview_url: Text = None
    duration_ms: Annotated[int | None, Field(ge=0, le=2**40), IfSound] = None
    explicit: Annotated[bool | None, IfSound] = None
    genre: Text = None  # the simulator's own

    def track(self) -> Track:
        artists = [artist for artist in self.artists or [] if artist.name and artist.id]
        images = [image.url for image in (self.album.images if self.album else None) or [] if image.url]
        return Track(
            track_id=self.id,
            isrc=self.external_ids.isrc if self.external_ids else None,
            name=self.name,
            artists=[str(artist.name) for artist in artists] or None,
            artist_ids=[str(artist.id) for artist in artists] or None,
            album_id=self.album.id if self.album else None,
            genre=self.genre,
            image_url=images[0] if images else None,
            preview_url=self.preview_url,
            duration_ms=self.duration_ms,
            explicit=self.explicit,
        )


class _Owner(BaseModel):
    id: UserId


class _Total(BaseModel):
    total: Annotated[int | None, IfSound] = None


class _Playlist(BaseModel):
    id: UserId
    owner: _Owner
    tracks: Annotated[_Total | None, IfSound] = None
    items: Annotated[_Total | None, IfSound] = None

    @property
    def empty(self) -> bool:
        return any(part is not None and part.total == 0 for part in (self.tracks, self.items))


class _Page(BaseModel):
    items: list[Any]
    next: str | None = None


class SpotifySource:
    """A source over the Web API; see the module. Threads may share it.

    ``name`` is the source's name in the lake. Raises InputError for missing or refused credentials.
    """

    describe_size = 50

    def __init__(
        self,
        settings: SpotifySettings,
        policy: RequestPolicy,
        frontier: Frontier,
        *,
        name: str = "spotify",
        credentials: tuple[str, str] | None = None,
        ceiling: float = _CEILING,
        providers: Callable[["SpotifySource"], list[FeatureProvider]] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        client_id, client_secret = credentials or _credentials()
        api, api_origin = base_url(settings.api_url, "settings.spotify.api_url")
        accounts, accounts_origin = base_url(settings.accounts_url, "settings.spotify.accounts_url")
        self._prefix, self._token_url = f"{api}/", f"{accounts}/api/token"
        self._frontier, self._policy, self._ceiling = frontier, policy, ceiling
        self._origins = {api_origin, accounts_origin}
        self._client_id, self._client_secret = client_id, client_secret
        self.session = self._new_session()
        self._sessions = [self.session]
        self._app = self._client(self.session, _AppToken(self))
        self._people: dict[str, Client] = {}
        self._providers = providers
        self.session.check_not_before()
        try:
            self.mode = self._find_mode() if settings.mode is Mode.AUTO else settings.mode
            if self.mode is Mode.DEVELOPMENT:
                self._sign_in()
        except Unanswered as error:
            raise NoAnswer(f"{error}; check the network and try again") from None

    # --- the protocol ---

    def start_users(self) -> list[str]:
        if self.mode is Mode.DEVELOPMENT:
            return list(self._people)
        if not self.settings.start_users:
            raise InputError(
                "a crawl of Spotify starts from users you name: tunegraph refresh --source spotify"
                " --start-user ID (once; it is kept in lake.json)"
            )
        return list(self.settings.start_users)

    def discover(self, user_id: str) -> list[str]:
        if self.mode is Mode.DEVELOPMENT:
            return []  # only those who authorised the app can be seen, and all of them are start users
        owners = (playlist.owner.id for playlist in self._playlists(user_id))
        return [owner for owner in dict.fromkeys(owners) if owner not in (user_id, "spotify")]

    def liked_list(self, user_id: str) -> LikedList:
        gathered = _Gathered()
        if self.mode is Mode.DEVELOPMENT:
            client = self._people.get(user_id)
            if client is None:
                raise UserGone(user_id)  # no longer authorised
            gathered.add(self._pages(client, lambda: client.current_user_saved_tracks(limit=_SAVED)))
        for playlist in self._playlists(user_id):
            if playlist.owner.id != user_id or playlist.empty:
                continue
            entries = self._playlist_items(user_id, playlist.id)
            if entries is None:
                gathered.counts["playlists that cannot be read"] += 1
            else:
                gathered.add(entries)
        return gathered.liked_list()

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        if self.mode is Mode.DEVELOPMENT:
            answers = [self._ask(lambda i=i: self._any_client().track(i)) for i in track_ids]  # type: ignore[misc]
            objects = [answer for answer in answers if answer is not None]
        else:
            answer = self._ask(lambda: self._app.tracks(list(track_ids)))
            objects = _rows(answer, "tracks")
        said = (_parsed(TrackObject, value) for value in objects)
        known = {track.id: track.track() for track in said if track is not None}
        return [known[track_id] for track_id in dict.fromkeys(track_ids) if track_id in known]

    def feature_providers(self) -> list[FeatureProvider]:
        if self._providers is not None:
            return self._providers(self)
        from tunegraph_pipeline.sources.reccobeats import ReccoBeats

        chain: list[FeatureProvider] = [SpotifyFeatures(self)]
        if self.settings.reccobeats:
            chain.append(ReccoBeats(self._policy, self._frontier))
        return chain

    def counts(self) -> Counter[str]:
        """What all sessions counted: requests, 429, retries, answers kept, ..."""
        return sum((session.counts for session in self._sessions), Counter())

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    # --- calls ---

    def audio_features(self, track_ids: Sequence[str]) -> list[Any]:
        """One call of audio-features. Raises ProviderClosed where this app may not."""
        answer = self._ask(
            lambda: {"audio_features": self._any_client().audio_features(list(track_ids))}, closed=True
        )
        return _rows(answer, "audio_features")

    def _playlists(self, user_id: str) -> list[_Playlist]:
        """The playlists on a user's page, each once. Raises UserPrivate or UserGone."""
        own = self._people.get(user_id)
        if own is not None:
            pages = self._pages(own, lambda: own.current_user_playlists(limit=_PAGE))
        else:
            name = quote(user_id, safe="")  # spotipy puts it into the path as it is
            pages = self._pages(
                self._app, lambda: self._app.user_playlists(name, limit=_PAGE), user_id=user_id
            )
        found = (_parsed(_Playlist, value) for value in pages)
        return list({playlist.id: playlist for playlist in found if playlist is not None}.values())

    def _playlist_items(self, user_id: str, playlist_id: str) -> list[Any] | None:
        """Every entry of a playlist; None where it is gone or closed."""
        own = self._people.get(user_id)
        client = own or self._app
        # spotipy's own call asks for `items`, which apps with extended quota do not have under every name.
        path = f"playlists/{quote(playlist_id, safe='')}/{'items' if own else 'tracks'}"
        try:
            return list(self._pages(client, lambda: client._get(path, limit=_ITEMS), user_id=user_id))
        except (UserPrivate, UserGone):
            return None

    def _pages(self, client: "Client", first: Callable[[], Any], user_id: str = "") -> Iterator[Any]:
        """The items of a listing, page by page. Raises Unanswered for pages that make no sense."""
        seen: set[str] = set()
        page = _page(self._ask(first, user_id=user_id))
        while True:
            yield from page.items
            following = page.next
            if not following:
                return
            if following in seen:
                raise Unanswered("Spotify answered with pages that lead in a circle")
            seen.add(following)
            page = _page(self._ask(lambda url=following: client._get(url), user_id=user_id))  # type: ignore[misc]

    def _ask(self, call: Callable[[], Any], user_id: str = "", *, closed: bool = False) -> Any:
        """One call through spotipy; its refusals in the terms of `source`, None for a plain 404."""
        from spotipy.exceptions import SpotifyException, SpotifyOauthError

        try:
            return call()
        except SpotifyException as error:
            if closed and error.http_status in (401, 403, 404, 410):
                raise ProviderClosed(
                    f"Spotify gives this app no audio features (status {error.http_status})"
                ) from None
            if error.http_status == 404:
                if user_id:
                    raise UserGone(user_id) from None
                return None
            if error.http_status == 403 and user_id:
                raise UserPrivate(user_id) from None
            if error.http_status in (401, 403):
                raise InputError(
                    f"Spotify refuses this app (status {error.http_status}); check that it has the quota for"
                    " what settings.spotify.mode says, or set that to development"
                ) from None
            raise Unanswered(f"Spotify answered with status {error.http_status}") from None
        except SpotifyOauthError as error:
            raise _refused(error) from None

    # --- clients ---

    def _find_mode(self) -> Mode:
        from spotipy.exceptions import SpotifyException, SpotifyOauthError

        try:
            self._app.tracks([_PROBE])
        except SpotifyException as error:
            if error.http_status in (403, 404, 410):
                return Mode.DEVELOPMENT
            raise InputError(f"Spotify answered with status {error.http_status}; try again later") from None
        except SpotifyOauthError as error:
            raise _refused(error) from None
        return Mode.EXTENDED

    def _sign_in(self) -> None:
        """A client for each user who authorised this app."""
        for path in token_files(self._client_id):
            token = _UserToken(self, path)
            session = self._new_session(token.scope(), self.session.limiter)
            self._sessions.append(session)
            client = self._client(session, token)
            me = self._ask(client.me)
            user = _parsed(_Owner, me)
            if user is None:
                raise InputError(f"{path} belongs to no user; remove it and run `tunegraph login` again")
            self._people[user.id] = client
        if not self._people:
            raise InputError(
                "this Spotify app is in development mode, where only its own users can be read, and none has"
                " authorised it yet; run `tunegraph login`"
            )

    def _any_client(self) -> "Client":
        return next(iter(self._people.values()), self._app)

    def _new_session(self, scope: str = "", limiter: Limiter | None = None) -> ApiSession:
        """One session a token, all in one pace: answers given to different users are not the same."""
        return ApiSession(
            "Spotify" if self.name == "spotify" else self.name,
            self._origins,
            self._frontier,
            self._policy,
            KEEP,
            self._ceiling,
            limiter,
            scope,
        )

    def _client(self, session: ApiSession, token: "_Token") -> "Client":
        from spotipy import Spotify as Client

        # spotipy logs requests with their tokens at DEBUG, and the ids of users at ERROR.
        for logger in ("spotipy", "spotipy.client", "spotipy.oauth2"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        # It marks what Spotify took from new apps; whether ours has it is found out, not guessed.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"spotipy\.")
        warnings.filterwarnings("ignore", message=r"You're using `", category=DeprecationWarning)
        client = Client(auth_manager=token, requests_session=session)
        client.prefix = self._prefix
        session.renew = token.renew
        token.connect(session)
        return client


class SpotifyFeatures:
    """Spotify as a provider of audio features, where the app has them."""

    batch_size = 100

    def __init__(self, source: SpotifySource) -> None:
        self.name = source.name
        self._source = source

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        found: dict[str, Features] = {}
        for value in self._source.audio_features(track_ids):
            if isinstance(value, dict) and value.get("id") in track_ids:
                found[value["id"]] = feature_values(value)
        return found

    def close(self) -> None:
        """Nothing of its own: the sessions are the source's."""


class _Gathered:
    """Likes gathered from several listings: each track once, with the earliest known time."""

    def __init__(self) -> None:
        self._times: dict[str, datetime | None] = {}
        self._tracks: dict[str, Track] = {}
        self.counts: Counter[str] = Counter()

    def add(self, entries: Iterator[Any] | list[Any]) -> None:
        for entry in entries:
            value = (entry.get("track") or entry.get("item")) if isinstance(entry, dict) else None
            if not isinstance(value, dict):
                self.counts["entries without a track"] += 1
            elif value.get("is_local"):
                self.counts["local files"] += 1
            elif value.get("type") not in (None, "track"):
                self.counts["podcast episodes"] += 1
            elif (track := _parsed(TrackObject, value)) is None:
                self.counts["entries that make no sense"] += 1
            else:
                self._tracks.setdefault(track.id, track.track())
                at, known = _moment(entry.get("added_at")), self._times.get(track.id)
                self._times[track.id] = min(at, known) if at and known else at or known

    def liked_list(self) -> LikedList:
        likes = [Like(track_id, at) for track_id, at in self._times.items()]
        return LikedList(likes, list(self._tracks.values()), self.counts)


class _TokenInfo(BaseModel):
    """What a token file holds at least."""

    model_config = ConfigDict(extra="allow", strict=True)

    access_token: Annotated[str, StringConstraints(pattern=_TOKEN.pattern)]
    refresh_token: Annotated[str, StringConstraints(min_length=1)]
    expires_at: Annotated[float, Field(allow_inf_nan=False)]


class _Token:
    """What spotipy asks for a token: fetched once, however many threads want it, and renewed when refused."""

    def __init__(self, source: SpotifySource) -> None:
        self._source = source
        self._lock = threading.RLock()

    def connect(self, session: ApiSession) -> None:
        raise NotImplementedError

    def get_access_token(self, as_dict: bool = False) -> str:  # spotipy's signature
        with self._lock:
            return self._read(self._current)

    def renew(self, refused: str) -> str:
        """Another Authorization header: of the token another thread has renewed meanwhile, or a fresh one."""
        with self._lock:
            current = f"Bearer {self._read(self._current)}"
            return current if current != refused else f"Bearer {self._read(self._fresh)}"

    def _read(self, call: Callable[[], Any]) -> str:
        """A token as spotipy takes it from an answer; it looks at none of its fields."""
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


class _AppToken(_Token):
    """The app's own token (client credentials); held in memory alone."""

    def connect(self, session: ApiSession) -> None:
        from spotipy.cache_handler import MemoryCacheHandler
        from spotipy.oauth2 import SpotifyClientCredentials

        self._manager = SpotifyClientCredentials(
            self._source._client_id,
            self._source._client_secret,
            requests_session=session,
            cache_handler=MemoryCacheHandler(),
        )
        self._manager.OAUTH_TOKEN_URL = self._source._token_url

    def _current(self) -> Any:
        return self._manager.get_access_token(as_dict=False)

    def _fresh(self) -> Any:
        return self._manager.get_access_token(as_dict=False, check_cache=False)


class _UserToken(_Token):
    """The token of a user who authorised the app, kept in a file of their own."""

    def __init__(self, source: SpotifySource, path: Path) -> None:
        super().__init__(source)
        self._cache = token_cache(path)

    def scope(self) -> str:
        """Tells apart whose answers are kept: a file may come to hold another user's token."""
        return str(self._cache.get_cached_token()["refresh_token"])

    def connect(self, session: ApiSession) -> None:
        from spotipy.oauth2 import SpotifyOAuth

        self._manager = SpotifyOAuth(
            self._source._client_id,
            self._source._client_secret,
            redirect_uri=os.environ.get("SPOTIPY_REDIRECT_URI", REDIRECT),
            scope=SCOPES,
            requests_session=session,
            cache_handler=self._cache,
            open_browser=False,
        )
        self._manager.OAUTH_TOKEN_URL = self._source._token_url

    def _current(self) -> Any:
        info = self._manager.validate_token(self._cache.get_cached_token())
        if info is None:
            raise InputError("a Spotify authorisation lacks what is needed; run `tunegraph login` again")
        return info["access_token"]

    def _fresh(self) -> Any:
        info = self._manager.refresh_access_token(self._cache.get_cached_token()["refresh_token"])
        return info["access_token"]


REDIRECT = "http://127.0.0.1:8888/callback"


def token_folder() -> Path:
    """Where the tokens of authorised users lie: `$TUNEGRAPH_TOKENS`, else the user's configuration folder."""
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
            _TokenInfo.model_validate(token_info)  # or an answer nobody can read would cost the login
            owner = token_owner(path)
            private_file(path, json.dumps({**token_info, _OWNER: token_info.get(_OWNER) or owner}))

    return PrivateFile()


def authorise(settings: SpotifySettings, *, open_browser: bool = True) -> str:
    """Have a user authorise the app in a browser and keep the token; returns the user's id.

    Raises InputError where the credentials or the authorisation are refused.
    """
    import spotipy
    from requests.exceptions import RequestException
    from spotipy.exceptions import SpotifyException, SpotifyOauthError

    client_id, client_secret = _credentials()
    accounts, _ = base_url(settings.accounts_url, "settings.spotify.accounts_url")
    draft = spotipy.cache_handler.MemoryCacheHandler()
    manager = spotipy.SpotifyOAuth(
        client_id,
        client_secret,
        redirect_uri=os.environ.get("SPOTIPY_REDIRECT_URI", REDIRECT),
        scope=SCOPES,
        cache_handler=draft,
        open_browser=open_browser,
        show_dialog=True,  # so that a second user can be chosen in the same browser
        requests_timeout=20,
    )
    manager.OAUTH_TOKEN_URL = f"{accounts}/api/token"
    manager.OAUTH_AUTHORIZE_URL = f"{accounts}/authorize"
    client = spotipy.Spotify(auth_manager=manager, requests_timeout=20, retries=0)
    client.prefix = f"{base_url(settings.api_url, 'settings.spotify.api_url')[0]}/"
    try:
        user = _parsed(_Owner, client.me())
    except SpotifyOauthError as error:
        raise _refused(error) from None
    except SpotifyException as error:
        raise InputError(
            f"Spotify refuses this user (status {error.http_status}); add them to the app"
        ) from None
    except (RequestException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Spotify did not answer as it should ({type(error).__name__}); try again") from None
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


def _credentials() -> tuple[str, str]:
    values = [os.environ.get(f"SPOTIPY_CLIENT_{part}", "").strip() for part in ("ID", "SECRET")]
    if not all(values):
        raise InputError(
            "Spotify needs the credentials of an app: set SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET in the"
            " environment (https://developer.spotify.com/dashboard)"
        )
    return values[0], values[1]


def _refused(error: Any) -> InputError:
    if error.error == "invalid_grant":
        return InputError(
            "Spotify no longer takes a user's authorisation (they last six months);"
            " run `tunegraph login` again"
        )
    if error.error == "invalid_client":
        return InputError("Spotify does not know this app: check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET")
    return InputError("Spotify gives no token for these credentials; check the app in its dashboard")


def _page(answer: Any) -> _Page:
    page = _parsed(_Page, answer)
    if page is None:
        raise Unanswered("Spotify answered with a listing that cannot be read")
    return page


def _rows(answer: Any, name: str) -> list[Any]:
    rows = answer.get(name) if isinstance(answer, dict) else None
    return rows if isinstance(rows, list) else []


def _parsed(model: type[_Model], value: Any) -> _Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _moment(value: Any) -> datetime | None:
    """A time of the API, in UTC; None where it is missing, unreadable or from before there was Spotify."""
    try:
        at = datetime.fromisoformat(value)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return at if at.year >= _FIRST_YEAR else None
