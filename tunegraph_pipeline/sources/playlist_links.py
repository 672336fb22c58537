"""A playlist of a service, fetched by its id.

Here: the playlists of ListenBrainz, which gives those that are public to everybody, and of Spotify, with the
credentials of an app. Not here: what their content means (`json_documents`), or crawling (`crawl`).
"""

import json
import re
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

import requests

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.api_session import base_url
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings
from tunegraph_pipeline.sources.spotify_login import SpotifySettings, app_credentials

_SECONDS = 10.0  # of one request
_ALL_SECONDS = 40.0
_MOST_BYTES = 1 << 25
_PAGE, _MOST_PAGES = 100, 100
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class Playlist(NamedTuple):
    """Its content as the service answers it, a name that tells the format, and its title."""

    content: bytes
    file_name: str
    title: str


def fetch_playlist(service: str, playlist_id: str, settings: Mapping[str, Any]) -> Playlist:
    """The playlist, as the sections of ``settings`` say where the service is. Raises InputError where it
    cannot be had: unknown, private, of another service, or no answer in time."""
    if not _ID.fullmatch(playlist_id):
        raise InputError(f"this is no playlist of {service}: its id is {playlist_id[:80]!r}")
    if service == "listenbrainz":
        return _of_listenbrainz(
            playlist_id, ListenBrainzSettings.model_validate(settings.get("listenbrainz", {}))
        )
    if service == "spotify":
        return _of_spotify(playlist_id, SpotifySettings.model_validate(settings.get("spotify", {})))
    raise InputError(f"playlists of {service} cannot be fetched; copy the songs of the playlist instead")


def _of_listenbrainz(playlist_id: str, settings: ListenBrainzSettings) -> Playlist:
    url, _ = base_url(settings.api_url, "settings.listenbrainz.api_url")
    answer = _Client("ListenBrainz").json("GET", f"{url}/playlist/{playlist_id}")
    playlist = answer.get("playlist")
    title = playlist.get("title") if isinstance(playlist, dict) else None
    return Playlist(json.dumps(answer).encode(), "playlist.jspf", str(title or "playlist")[:200])


def _of_spotify(playlist_id: str, settings: SpotifySettings) -> Playlist:
    api, _ = base_url(settings.api_url, "settings.spotify.api_url")
    accounts, _ = base_url(settings.accounts_url, "settings.spotify.accounts_url")
    client = _Client("Spotify")
    token = client.json(
        "POST",
        f"{accounts}/api/token",
        data={"grant_type": "client_credentials"},
        auth=app_credentials(),
    )
    headers = {"Authorization": f"Bearer {token.get('access_token', '')}"}
    about = client.json("GET", f"{api}/playlists/{playlist_id}", params={"fields": "name"}, headers=headers)
    pages = []
    for page in range(_MOST_PAGES):
        where = {"limit": _PAGE, "offset": page * _PAGE}
        found = client.json("GET", f"{api}/playlists/{playlist_id}/tracks", params=where, headers=headers)
        pages.append(found)
        if not found.get("next"):
            break
    return Playlist(json.dumps(pages).encode(), "playlist.json", str(about.get("name") or "playlist")[:200])


class _Client:
    """Asks one service, without following where it points, until a deadline for all requests."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._session = requests.Session()
        self._until = monotonic() + _ALL_SECONDS
        self._left = _MOST_BYTES

    def json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        service = self._service
        try:
            with self._session.request(
                method, url, timeout=_SECONDS, allow_redirects=False, stream=True, **options
            ) as response:
                if response.status_code in (401, 403, 404):
                    raise InputError(f"{service} has no such playlist, or it is private")
                if response.status_code != 200:
                    raise InputError(
                        f"{service} answered with status {response.status_code}; try again later, or copy the"
                        " songs of the playlist"
                    )
                found = json.loads(self._body(response))
        except (requests.RequestException, ValueError) as error:
            raise InputError(
                f"{service} gave no answer that can be read ({type(error).__name__}); try again later, or"
                " copy the songs of the playlist"
            ) from None
        return found if isinstance(found, dict) else {}

    def _body(self, response: requests.Response) -> bytes:
        parts = []
        for part in response.iter_content(1 << 16):
            parts.append(part)
            self._left -= len(part)
            if self._left < 0 or monotonic() > self._until:
                raise InputError(f"the playlist of {self._service} is too long; copy some of its songs")
        return b"".join(parts)
