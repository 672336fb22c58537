"""Spotify, through spotipy: playlist owners lead to users; playlists and saved tracks are their likes.

Here: the calls of each mode. Not here: the meaning of their answers (`spotify_answers`), tokens and the login
(`spotify_login`), rate limits, retries and storage (`api_session`), or order and budgets (`crawl`).

There are two generations of the Web API. With *extended quota* (organisations) any user's page can be read:
public playlists lead to other users, and the tracks of the user's own ones are the likes. In *development
mode* an app sees only the users who authorised it: their saved tracks and own playlists. Both shapes of a
playlist's items are read in either mode. Credentials come only from spotipy's environment variables; tokens
of authorised users are stored outside every lake, readable only by their owner.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.api_session import ApiSession, Limiter, RequestPolicy, base_url
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    Features,
    LikedList,
    NoAnswer,
    ProviderClosed,
    Track,
    Unanswered,
    UserGone,
    UserPrivate,
    feature_values,
)
from tunegraph_pipeline.sources.spotify_answers import (
    KEEP,
    GatheredLikes,
    Owner,
    Playlist,
    TrackObject,
    page,
    parsed,
    rows,
)
from tunegraph_pipeline.sources.spotify_login import (
    App,
    AppToken,
    Mode,
    SpotifySettings,
    Token,
    UserToken,
    app_credentials,
    refused_credentials,
    token_files,
)

if TYPE_CHECKING:
    from spotipy import Spotify as Client

TERMS = (
    "Spotify's developer terms forbid training models on its content and keeping it indefinitely, and require"
    " personal data to be deleted within five days of a disconnect. Crawl it only if your agreement with"
    " Spotify allows what you do. ListenBrainz and your own account export have no such terms."
)
_PAGE, _ITEMS, _SAVED = 50, 100, 50  # the most that one call returns
_PROBE = "11dFghVXANMlKmJXsNCbNl"  # any valid id: whether the call is allowed tells the mode
_CEILING = 5.0  # requests a second; Spotify publishes no figure


class SpotifySource:
    """Spotify as a source. Threads may share it. ``name`` is its name in the lake.

    Raises InputError for missing or refused credentials.
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
        client_id, client_secret = credentials or app_credentials()
        api, api_origin = base_url(settings.api_url, "settings.spotify.api_url")
        accounts, accounts_origin = base_url(settings.accounts_url, "settings.spotify.accounts_url")
        self._prefix = f"{api}/"
        self._credentials = App(client_id, client_secret, f"{accounts}/api/token")
        self._frontier, self._policy, self._ceiling = frontier, policy, ceiling
        self._origins = {api_origin, accounts_origin}
        self.session = self._new_session()
        self._sessions = [self.session]
        self._app = self._client(self.session, AppToken(self._credentials))
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
                " --start-user ID (once; it is saved in lake.json)"
            )
        return list(self.settings.start_users)

    def discover(self, user_id: str) -> list[str]:
        if self.mode is Mode.DEVELOPMENT:
            return []  # only users who authorised the app are visible, and all of them are start users
        owners = (playlist.owner_id for playlist in self._playlists(user_id))
        return [owner for owner in dict.fromkeys(owners) if owner not in (user_id, "spotify")]

    def liked_list(self, user_id: str) -> LikedList:
        gathered = GatheredLikes()
        if self.mode is Mode.DEVELOPMENT:
            client = self._people.get(user_id)
            if client is None:
                raise UserGone(user_id)  # no longer authorised
            gathered.add(self._pages(client, lambda: client.current_user_saved_tracks(limit=_SAVED)))
        for playlist in self._playlists(user_id):
            if playlist.owner_id != user_id or playlist.empty:
                continue
            entries = self._playlist_items(user_id, playlist.id)
            if entries is None:
                gathered.counts["playlists that cannot be read"] += 1
            else:
                gathered.add(entries)
        return gathered.liked_list()

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        if self.mode is Mode.DEVELOPMENT:
            answers = [self._ask(partial(self._any_client().track, track_id)) for track_id in track_ids]
            objects = [answer for answer in answers if answer is not None]
        else:
            answer = self._ask(lambda: self._app.tracks(list(track_ids)))
            objects = rows(answer, "tracks")
        tracks = (parsed(TrackObject, value) for value in objects)
        known = {track.id: track.track() for track in tracks if track is not None}
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
        """What all sessions counted: requests, 429s, retries, stored answers, ..."""
        return sum((session.counts for session in self._sessions), Counter())

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    # --- calls ---

    def audio_features(self, track_ids: Sequence[str]) -> list[Any]:
        """One call of audio-features. Raises ProviderClosed if this app has no access."""
        answer = self._ask(
            lambda: {"audio_features": self._any_client().audio_features(list(track_ids))}, closed=True
        )
        return rows(answer, "audio_features")

    def _playlists(self, user_id: str) -> list[Playlist]:
        """The playlists on a user's page, each once. Raises UserPrivate or UserGone."""
        own, app = self._people.get(user_id), self._app
        if own is not None:
            pages = self._pages(own, lambda: own.current_user_playlists(limit=_PAGE))
        else:
            name = quote(user_id, safe="")  # spotipy does not quote it
            pages = self._pages(app, lambda: app.user_playlists(name, limit=_PAGE), user_id=user_id)
        found = (parsed(Playlist, value) for value in pages)
        return list({playlist.id: playlist for playlist in found if playlist is not None}.values())

    def _playlist_items(self, user_id: str, playlist_id: str) -> list[Any] | None:
        """Every entry of a playlist; None if it is gone or private."""
        own = self._people.get(user_id)
        client = own or self._app
        # spotipy's own method requests `items`, which extended quota does not have under every name.
        path = f"playlists/{quote(playlist_id, safe='')}/{'items' if own else 'tracks'}"
        try:
            return list(self._pages(client, lambda: client._get(path, limit=_ITEMS), user_id=user_id))
        except (UserPrivate, UserGone):
            return None

    def _pages(self, client: "Client", first: Callable[[], Any], user_id: str = "") -> Iterator[Any]:
        """The items of a listing, page by page. Raises Unanswered for invalid pages."""
        seen: set[str] = set()
        current = page(self._ask(first, user_id=user_id))
        yield from current.items
        while current.next:
            if current.next in seen:
                raise Unanswered("Spotify answered with pages that lead in a circle")
            seen.add(current.next)
            current = page(self._ask(partial(client._get, current.next), user_id=user_id))
            yield from current.items

    def _ask(self, call: Callable[[], Any], user_id: str = "", *, closed: bool = False) -> Any:
        """One call through spotipy; its errors become the refusals of `source`, a plain 404 becomes None."""
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
                    f"Spotify refuses this app (status {error.http_status}); check that its quota matches"
                    " settings.spotify.mode, or set that to development"
                ) from None
            raise Unanswered(f"Spotify answered with status {error.http_status}") from None
        except SpotifyOauthError as error:
            raise refused_credentials(error) from None

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
            raise refused_credentials(error) from None
        return Mode.EXTENDED

    def _sign_in(self) -> None:
        """A client for each user who authorised this app."""
        for path in token_files(self._credentials.client_id):
            token = UserToken(self._credentials, path)
            session = self._new_session(token.scope(), self.session.limiter)
            self._sessions.append(session)
            client = self._client(session, token)
            user = parsed(Owner, self._ask(client.me))
            if user is None:
                raise InputError(f"{path} belongs to no user; remove it and run `tunegraph login` again")
            self._people[user.id] = client
        if not self._people:
            raise InputError(
                "this Spotify app is in development mode, which shows only users who authorised it, and there"
                " are none yet; run `tunegraph login`"
            )

    def _any_client(self) -> "Client":
        return next(iter(self._people.values()), self._app)

    def _new_session(self, scope: str = "", limiter: Limiter | None = None) -> ApiSession:
        """A session for one token, since answers depend on the user; all sessions share a rate limit."""
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

    def _client(self, session: ApiSession, token: "Token") -> "Client":
        from spotipy import Spotify as Client

        # spotipy logs requests with their tokens at DEBUG, and the ids of users at ERROR.
        for logger in ("spotipy", "spotipy.client", "spotipy.oauth2"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        # It warns of what Spotify removed for new apps; we detect what this app has.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"spotipy\.")
        warnings.filterwarnings("ignore", message=r"You're using `", category=DeprecationWarning)
        client = Client(auth_manager=token, requests_session=session)
        client.prefix = self._prefix
        session.renew = token.renew
        token.connect(session)
        return client


class SpotifyFeatures:
    """Spotify as a provider of audio features, if the app has access."""

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
        """Nothing to close: the sessions are the source's."""
