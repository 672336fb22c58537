"""What the Spotify Web API, ListenBrainz and ReccoBeats would answer about the simulated world.

Here: routes and the JSON of every answer, those that refuse included; an answer is a function of the world,
the day, the request and who asks. Not here: connections, tokens, rate limits and faults (`server`),
or what is true in the world (`simulator`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote, urlencode
from uuid import UUID

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.catalogue import Song
from tunegraph_pipeline.simulator.listeners import Playlist
from tunegraph_pipeline.simulator.world import World

PERSONAL_MARK = "example.invalid"
"""Part of every personal detail that is sent and that nobody is to store."""

_MOST_PLAYLISTS, _MOST_ITEMS, _MOST_TRACKS, _MOST_FEATURES = 50, 100, 50, 100
_MOST_FEEDBACK, _MOST_RECORDINGS, _MOST_RECCOBEATS = 1_000, 500, 40

_EXTENDED_ONLY = {
    "/v1/users/{id}",
    "/v1/users/{id}/playlists",
    "/v1/tracks",
    "/v1/audio-features",
    "/v1/audio-features/{id}",
}
_WITH_USER = {"/v1/me", "/v1/me/tracks", "/v1/me/playlists"}


class Mode(StrEnum):
    """Which generation of the Spotify Web API is served."""

    EXTENDED = "extended"
    DEVELOPMENT = "development"


@dataclass(frozen=True)
class Answer:
    """Status, JSON and headers beyond those every answer has."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StrayItems:
    """Shares of items that are listed in addition to the real ones, each kind by itself."""

    null_tracks: float = 0.0
    local_files: float = 0.0
    episodes: float = 0.0


@dataclass(frozen=True)
class Question:
    """A request: its route, path and query, and the user whose token it carries (None: only the app's)."""

    route: str
    path: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    base: str
    user: str | None = None


class _Refused(Exception):  # noqa: N818  # an answer like any other
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def unit(*parts: object) -> float:
    """A number in [0, 1) that is a function of ``parts`` alone."""
    key = "|".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64


def mbid(kind: str, identifier: str) -> str:
    """The MusicBrainz id of a recording, an artist or a release of the world."""
    return str(UUID(bytes=blake2b(f"{kind}|{identifier}".encode(), digest_size=16).digest(), version=4))


def spotify_error(status: int, message: str, reason: str | None = None) -> str:
    """The body of an error in Spotify's form."""
    error: dict[str, Any] = {"status": status, "message": message}
    if reason is not None:
        error["reason"] = reason
    return json.dumps({"error": error})


def listenbrainz_error(status: int, message: str) -> str:
    """The body of an error in ListenBrainz's form."""
    return json.dumps({"code": status, "error": message})


def reccobeats_error(status: int, message: str) -> str:
    """The body of an error in ReccoBeats's form."""
    return json.dumps({"timestamp": "2026-01-01T00:00:00Z", "status": status, "error": message})


def error_body(route: str, status: int, message: str, reason: str | None = None) -> str:
    """The body of an error in the form of the service that ``route`` belongs to."""
    if route.startswith("/1/"):
        return listenbrainz_error(status, message)
    if route.startswith("/reccobeats/"):
        return reccobeats_error(status, message)
    return spotify_error(status, message, reason)


class Answers:
    """The three services over one world. Threads may share it; ``reccobeats_knows`` is the share of songs
    without measured features that ReccoBeats knows all the same."""

    def __init__(
        self,
        world: World,
        *,
        mode: Mode = Mode.EXTENDED,
        audio_features: bool = True,
        stray: StrayItems | None = None,
        reccobeats_knows: float = 0.5,
        covers: bool = False,
    ) -> None:
        self.world = world
        self.mode = mode
        self.audio_features = audio_features
        self.stray = stray or StrayItems()
        self.reccobeats_knows = reccobeats_knows
        self.covers = covers
        self._songs: dict[str, Song] = {}
        self._recordings: dict[str, str] = {}
        self._by_kind: dict[tuple[str, str], str] = {}
        self._shown = lru_cache(maxsize=256)(self._make_shown)
        self._listed = lru_cache(maxsize=256)(self._make_listed)
        self._saved = lru_cache(maxsize=64)(self._make_saved)
        self._loved = lru_cache(maxsize=64)(self._make_loved)
        self._routes: dict[str, Callable[[Question, date], str]] = {
            "/v1/me": self._me,
            "/v1/me/tracks": self._my_tracks,
            "/v1/me/playlists": self._my_playlists,
            "/v1/users/{id}": self._user,
            "/v1/users/{id}/playlists": self._user_playlists,
            "/v1/playlists/{id}": self._playlist,
            "/v1/playlists/{id}/tracks": self._items,
            "/v1/playlists/{id}/items": self._items,
            "/v1/tracks": self._tracks,
            "/v1/tracks/{id}": self._track,
            "/v1/audio-features": self._features,
            "/v1/audio-features/{id}": self._one_features,
            "/1/user/{id}/following": self._following,
            "/1/user/{id}/followers": self._followers,
            "/1/feedback/user/{id}/get-feedback": self._feedback,
            "/1/metadata/recording": self._metadata,
            "/reccobeats/v1/audio-features": self._reccobeats,
        }

    def warm_up(self, day: date) -> None:
        """Have the world's tables made, so that no request waits for them."""
        for user_id in self.world.start_users()[:1]:
            self.world.followers(user_id, day)
            self.world.playlists(user_id, day)
        next((one for one in self.world.recording_ids() if self.world.song(one, day)), None)

    def route(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The route of a path, ``{id}`` for what varies, and the parts of the path; "unknown" if none."""
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        for varying in (None, 2, 3):
            named = parts if varying is None else (*parts[:varying], "{id}", *parts[varying + 1 :])
            if (route := "/" + "/".join(named)) in self._routes and len(named) == len(parts):
                return route, parts
        return "unknown", parts

    def answer(self, question: Question, day: date) -> Answer:
        """What is said to ``question`` at the end of ``day``."""
        route = question.route
        made = self._routes.get(route)
        if made is None:
            return Answer(404, error_body(question.path, 404, "Service not found"))
        if route in _WITH_USER and question.user is None:
            return Answer(401, spotify_error(401, "Unauthorized"))
        if route in _EXTENDED_ONLY and self.mode is Mode.DEVELOPMENT:
            return Answer(403, spotify_error(403, "Forbidden"))
        try:
            return Answer(200, made(question, day))
        except _Refused as refused:
            return refused.answer

    # Spotify

    def _me(self, question: Question, day: date) -> str:
        assert question.user is not None
        private = {
            "email": f"someone@{PERSONAL_MARK}",
            "country": f"country of {PERSONAL_MARK}",
            "product": f"premium at {PERSONAL_MARK}",
            "explicit_content": {"filter_enabled": False, "filter_locked": False},
        }
        return json.dumps({**_profile(question.user), **private})

    def _my_tracks(self, question: Question, day: date) -> str:
        assert question.user is not None
        return self._page(question, self._saved(question.user, day), 20, 50)

    def _my_playlists(self, question: Question, day: date) -> str:
        assert question.user is not None
        return self._page(question, self._listed(question.user, day), 20, _MOST_PLAYLISTS)

    def _user(self, question: Question, day: date) -> str:
        if self._state(question.parts[2], day) in {"gone", "unknown"}:
            raise _Refused(Answer(404, spotify_error(404, "No such user")))
        return json.dumps(_profile(question.parts[2]))

    def _user_playlists(self, question: Question, day: date) -> str:
        user_id = question.parts[2]
        state = self._state(user_id, day)
        if state == "private":
            raise _Refused(Answer(403, spotify_error(403, "Forbidden")))
        if state != "listed":
            raise _Refused(Answer(404, spotify_error(404, "No such user")))
        return self._page(question, self._listed(user_id, day), 20, _MOST_PLAYLISTS)

    def _playlist(self, question: Question, day: date) -> str:
        playlist, items = self._shown(question.parts[2], day)
        if playlist is None:
            raise _Refused(Answer(404, spotify_error(404, "Resource not found")))
        said = json.loads(self._simple_playlist(playlist, len(items), day))
        said["followers"] = {"href": None, "total": 0}
        contents = "items" if self.mode is Mode.DEVELOPMENT else "tracks"
        del said[contents]
        body = json.dumps(said)
        if self.mode is Mode.EXTENDED or playlist.owner_id == question.user:
            path = f"/v1/playlists/{playlist.playlist_id}/{contents}"
            first = Question(question.route, path, question.parts, {"limit": "100"}, question.base)
            body = f'{body[:-1]},"{contents}":{self._page(first, items, 100, _MOST_ITEMS)}}}'
        return body

    def _items(self, question: Question, day: date) -> str:
        development = self.mode is Mode.DEVELOPMENT
        if development and question.parts[3] == "tracks":
            raise _Refused(Answer(404, spotify_error(404, "Service not found")))
        playlist, items = self._shown(question.parts[2], day)
        if playlist is None:
            raise _Refused(Answer(404, spotify_error(404, "Resource not found")))
        if development and playlist.owner_id != question.user:
            raise _Refused(Answer(403, spotify_error(403, "Forbidden")))
        return self._page(question, items, 100, _MOST_ITEMS)

    def _tracks(self, question: Question, day: date) -> str:
        ids = _ids(question, "ids", _MOST_TRACKS)
        tracks = (self._spotify_track(track_id, day) or "null" for track_id in ids)
        return f'{{"tracks":[{",".join(tracks)}]}}'

    def _track(self, question: Question, day: date) -> str:
        track = self._spotify_track(question.parts[2], day)
        if track is None:
            raise _Refused(Answer(404, spotify_error(404, "Non existing id")))
        return track

    def _features(self, question: Question, day: date) -> str:
        self._require_features()
        ids = _ids(question, "ids", _MOST_FEATURES)
        said = (self._spotify_features(track_id, day) or "null" for track_id in ids)
        return f'{{"audio_features":[{",".join(said)}]}}'

    def _one_features(self, question: Question, day: date) -> str:
        self._require_features()
        features = self._spotify_features(question.parts[2], day)
        if features is None:
            raise _Refused(Answer(404, spotify_error(404, "analysis not found")))
        return features

    def _require_features(self) -> None:
        if not self.audio_features:
            raise _Refused(Answer(403, spotify_error(403, "Forbidden")))

    def _page(self, question: Question, items: list[str], default: int, most: int) -> str:
        """One page of ``items`` in Spotify's paging object."""
        limit = _whole(question, "limit", default, 1, most)
        offset = _whole(question, "offset", 0, 0, 100_000)
        total = len(items)

        def link(start: int | None) -> str:
            if start is None:
                return "null"
            query = {**question.query, "offset": str(start), "limit": str(limit)}
            return f'"{question.base}{question.path}?{urlencode(query)}"'

        after = offset + limit if offset + limit < total else None
        before = max(offset - limit, 0) if offset else None
        page = ",".join(items[offset : offset + limit])
        return (
            f'{{"href":{link(offset)},"limit":{limit},"next":{link(after)},"offset":{offset},'
            f'"previous":{link(before)},"total":{total},"items":[{page}]}}'
        )

    def _make_listed(self, user_id: str, day: date) -> list[str]:
        """The playlists on a user's page, as they are listed."""
        return [
            self._simple_playlist(playlist, len(self._plan(playlist)), day)
            for playlist in self.world.playlists(user_id, day, closed=True)
        ]

    def _simple_playlist(self, playlist: Playlist, total: int, day: date) -> str:
        contents = "items" if self.mode is Mode.DEVELOPMENT else "tracks"
        playlist_id = playlist.playlist_id
        at = f"https://api.spotify.com/v1/playlists/{playlist_id}"
        snapshot = blake2b(f"{playlist_id}|{day}|{total}".encode(), digest_size=12).hexdigest()
        return (
            f'{{"collaborative":false,"description":"","external_urls":{{"spotify":'
            f'"https://open.spotify.com/playlist/{playlist_id}"}},"href":"{at}","id":"{playlist_id}",'
            f'"images":[],"name":{json.dumps(playlist.name)},"owner":{_owner(playlist.owner_id)},'
            f'"primary_color":null,"public":true,"snapshot_id":"{snapshot}",'
            f'"{contents}":{{"href":"{at}/{contents}","total":{total}}},"type":"playlist",'
            f'"uri":"spotify:playlist:{playlist_id}"}}'
        )

    def _plan(self, playlist: Playlist) -> list[int | str]:
        """What a playlist lists: the number of a track in it, or the kind of a stray item."""
        stray = self.stray
        kinds = [
            (kind, share)
            for kind, share in (
                ("null", stray.null_tracks),
                ("local", stray.local_files),
                ("episode", stray.episodes),
            )
            if share > 0
        ]
        if not kinds:
            return list(range(len(playlist.track_ids)))
        plan: list[int | str] = []
        for number, track_id in enumerate(playlist.track_ids):
            plan.append(number)
            plan += [kind for kind, share in kinds if unit(playlist.playlist_id, track_id, kind) < share]
        return plan

    def _make_shown(self, playlist_id: str, day: date) -> tuple[Playlist | None, list[str]]:
        """A playlist and its items; those with the ids of no song are made up on the spot."""
        playlist = self.world.playlist(playlist_id, day)
        if playlist is None:
            return None, []
        key = "item" if self.mode is Mode.DEVELOPMENT else "track"
        by = _added_by(playlist.owner_id)
        items = []
        last = 0
        for place, entry in enumerate(self._plan(playlist)):
            local = entry == "local"
            if isinstance(entry, int):
                last = entry
                said = self._spotify_track(playlist.track_ids[entry], day) or "null"
            elif entry == "null":
                said = "null"
            else:
                said = _local_file(place) if local else _episode(f"{playlist_id}|{place}")
            items.append(
                f'{{"added_at":"{_instant(playlist.added_at[last])}","added_by":{by},'
                f'"is_local":{"true" if local else "false"},"primary_color":null,"{key}":{said},'
                f'"video_thumbnail":{{"url":null}}}}'
            )
        return playlist, items

    def _make_saved(self, user_id: str, day: date) -> list[str]:
        return [
            f'{{"added_at":"{_instant(at)}","track":{self._spotify_track(track_id, day)}}}'
            for track_id, at in reversed(self.world.liked(user_id, day))
        ]

    def _song(self, track_id: str, day: date) -> Song | None:
        song = self._songs.get(track_id)
        if song is not None:
            return song if song.released <= day else None
        song = self.world.song(track_id, day)
        if song is not None:
            self._songs[track_id] = song
        return song

    def _kept(self, kind: str, song: Song, make: Callable[[Song], str]) -> str:
        """The JSON of a song, made once: a listing then is no more than joining strings."""
        said = self._by_kind.get((kind, song.track_id))
        if said is None:
            said = self._by_kind[kind, song.track_id] = make(song)
        return said

    def _spotify_track(self, track_id: str, day: date) -> str | None:
        song = self._song(track_id, day)
        return None if song is None else self._kept("track", song, self._make_track)

    def _make_track(self, song: Song) -> str:
        artists = [
            {
                "external_urls": {"spotify": f"https://open.spotify.com/artist/{artist_id}"},
                "href": f"https://api.spotify.com/v1/artists/{artist_id}",
                "id": artist_id,
                "name": name,
                "type": "artist",
                "uri": f"spotify:artist:{artist_id}",
            }
            for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
        ]
        images = [
            {"url": f"https://covers.example/{song.album_id}/{size}.jpg", "height": size, "width": size}
            for size in (640, 300, 64)
            if self.covers
        ]
        album = {
            "album_type": "album" if song.album != song.name else "single",
            "artists": artists[:1],
            "external_urls": {"spotify": f"https://open.spotify.com/album/{song.album_id}"},
            "href": f"https://api.spotify.com/v1/albums/{song.album_id}",
            "id": song.album_id,
            "images": images,
            "name": song.album,
            "release_date": song.released.isoformat(),
            "release_date_precision": "day",
            "type": "album",
            "uri": f"spotify:album:{song.album_id}",
        }
        track = {
            "album": album,
            "artists": artists,
            "disc_number": 1,
            "duration_ms": song.duration_ms,
            "explicit": song.explicit,
            "external_ids": {"isrc": song.isrc},
            "external_urls": {"spotify": f"https://open.spotify.com/track/{song.track_id}"},
            "genre": song.genre,
            "href": f"https://api.spotify.com/v1/tracks/{song.track_id}",
            "id": song.track_id,
            "is_local": False,
            "name": song.name,
            "track_number": 1,
            "type": "track",
            "uri": f"spotify:track:{song.track_id}",
        }
        if self.mode is Mode.EXTENDED:
            track |= {"popularity": int(unit("popularity", song.recording_id) * 100), "preview_url": None}
        return _compact(track)

    def _spotify_features(self, track_id: str, day: date) -> str | None:
        song = self._song(track_id, day)
        if song is None or not song.measured:
            return None
        return self._kept("features", song, _make_features)

    # ListenBrainz

    def _following(self, question: Question, day: date) -> str:
        user = self._open_user(question.parts[2], day)
        return json.dumps({"following": self.world.follows(user, day), "user": user})

    def _followers(self, question: Question, day: date) -> str:
        user = self._open_user(question.parts[2], day)
        return json.dumps({"followers": self.world.followers(user, day), "user": user})

    def _feedback(self, question: Question, day: date) -> str:
        user = self._open_user(question.parts[3], day)
        count = min(_whole(question, "count", 25, 0, 10**9), _MOST_FEEDBACK)
        offset = _whole(question, "offset", 0, 0, 10**9)
        score = question.query.get("score")
        if score not in {None, "1", "-1", "0"}:
            message = f"Score can have a value of 1, 0 or -1. Your value: {score}"
            raise _Refused(Answer(400, listenbrainz_error(400, message)))
        described = question.query.get("metadata", "false").lower() == "true"
        loved = [] if score in {"-1", "0"} else self._loved(user, described, day)
        page = loved[offset : offset + count]
        return (
            f'{{"count":{len(page)},"feedback":[{",".join(page)}],"offset":{offset},'
            f'"total_count":{len(loved)}}}'
        )

    def _make_loved(self, user: str, described: bool, day: date) -> list[str]:
        loved = []
        for track_id, at in reversed(self.world.liked(user, day)):
            song = self._song(track_id, day)
            assert song is not None, "nobody likes a song before it is out"
            metadata = self._kept("metadata", song, self._make_metadata) if described else "null"
            loved.append(_love(mbid("recording", song.recording_id), at, user, metadata))
            if unit(user, track_id, "null") < self.stray.null_tracks:
                # What a player sent in that MusicBrainz knows no recording for.
                loved.append(_love(None, at, user, "null"))
        return loved

    def _make_metadata(self, song: Song) -> str:
        recording, release = mbid("recording", song.recording_id), mbid("release", song.album_id)
        artists = [
            {"artist_credit_name": name, "artist_mbid": mbid("artist", artist_id), "join_phrase": ""}
            for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
        ]
        return _compact(
            {
                "additional_info": {},
                "artist_name": " & ".join(song.artists),
                "mbid_mapping": {
                    "artist_mbids": [artist["artist_mbid"] for artist in artists],
                    "artists": artists,
                    "caa_id": _cover_number(song) if self.covers else None,
                    "caa_release_mbid": release if self.covers else None,
                    "recording_mbid": recording,
                    "recording_name": song.name,
                    "release_mbid": release,
                },
                "release_name": song.album,
                "track_name": song.name,
            }
        )

    def _metadata(self, question: Question, day: date) -> str:
        ids = [one for one in question.query.get("recording_mbids", "").split(",") if one]
        if not ids:
            raise _Refused(Answer(400, listenbrainz_error(400, "No recording mbids specified")))
        if len(ids) > _MOST_RECORDINGS:
            raise _Refused(Answer(400, listenbrainz_error(400, "Too many recording mbids")))
        wanted = set(question.query.get("inc", "").split())
        said = {}
        for one in ids:
            song = self._recording(one, day)
            if song is not None:
                said[one] = self._make_recording(song, wanted)
        return json.dumps(said)

    def _make_recording(self, song: Song, wanted: set[str]) -> dict[str, Any]:
        recording = {"isrcs": [song.isrc], "length": song.duration_ms, "name": song.name, "rels": []}
        said: dict[str, Any] = {"recording": recording}
        if "artist" in wanted:
            artists = [
                {"artist_mbid": mbid("artist", artist_id), "name": name, "join_phrase": ""}
                for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
            ]
            said["artist"] = {"artists": artists, "name": " & ".join(song.artists)}
        if "release" in wanted:
            release = mbid("release", song.album_id)
            said["release"] = {"mbid": release, "name": song.album, "year": song.released.year}
            if self.covers:
                said["release"] |= {"caa_id": _cover_number(song), "caa_release_mbid": release}
        return said

    def _recording(self, recording_mbid: str, day: date) -> Song | None:
        if not self._recordings:
            self._recordings = {mbid("recording", one): one for one in self.world.recording_ids()}
        track_id = self._recordings.get(recording_mbid)
        return None if track_id is None else self._song(track_id, day)

    def _open_user(self, user_id: str, day: date) -> str:
        if self._state(user_id, day) != "listed":
            raise _Refused(Answer(404, listenbrainz_error(404, f"Cannot find user: {user_id}")))
        return user_id

    # ReccoBeats

    def _reccobeats(self, question: Question, day: date) -> str:
        ids = [one for one in question.query.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= _MOST_RECCOBEATS:
            message = f"ids: between 1 and {_MOST_RECCOBEATS} are allowed"
            raise _Refused(Answer(400, reccobeats_error(400, message)))
        said = {}
        for track_id in ids:
            song = self._song(track_id, day)
            if song is not None and self._reccobeats_has(song):
                said[track_id] = self._kept("reccobeats", song, _make_reccobeats)
        shuffled = sorted(said, key=lambda track_id: unit("order", track_id))
        return f'{{"content":[{",".join(said[track_id] for track_id in shuffled)}]}}'

    def _reccobeats_has(self, song: Song) -> bool:
        return song.measured or unit("reccobeats", song.track_id) < self.reccobeats_knows

    def _state(self, user_id: str, day: date) -> str:
        try:
            return self.world.state(user_id, day)
        except InputError:
            return "unknown"


def _ids(question: Question, name: str, most: int) -> list[str]:
    ids = [one for one in question.query.get(name, "").split(",") if one]
    if not ids:
        raise _Refused(Answer(400, spotify_error(400, "Missing required field: ids")))
    if len(ids) > most:
        raise _Refused(Answer(400, spotify_error(400, "Too many ids requested")))
    return ids


def _whole(question: Question, name: str, default: int, least: int, most: int) -> int:
    text = question.query.get(name, str(default))
    # As long a number as int() is willing to read, and no underscores or spaces, which it takes too.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise _Refused(Answer(400, error_body(question.route, 400, f"Invalid {name}")))
    return int(text)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _profile(user_id: str) -> dict[str, Any]:
    return {
        "display_name": f"Someone at {PERSONAL_MARK}",
        "external_urls": {"spotify": f"https://open.spotify.com/user/{user_id}"},
        "followers": {"href": None, "total": 31337},
        "href": f"https://api.spotify.com/v1/users/{user_id}",
        "id": user_id,
        "images": [{"url": f"https://faces.{PERSONAL_MARK}/{user_id}.jpg", "height": 300, "width": 300}],
        "type": "user",
        "uri": f"spotify:user:{user_id}",
    }


def _added_by(user_id: str) -> str:
    return (
        f'{{"external_urls":{{"spotify":"https://open.spotify.com/user/{user_id}"}},'
        f'"href":"https://api.spotify.com/v1/users/{user_id}","id":"{user_id}","type":"user",'
        f'"uri":"spotify:user:{user_id}"}}'
    )


def _owner(user_id: str) -> str:
    return f'{{"display_name":"Someone at {PERSONAL_MARK}",{_added_by(user_id)[1:]}'


def _local_file(place: int) -> str:
    name = f"Recorded at home {place}"
    return _compact(
        {
            "album": {"id": None, "images": [], "name": "", "type": "album", "uri": None},
            "artists": [{"id": None, "name": "", "type": "artist", "uri": None}],
            "duration_ms": 180_000,
            "explicit": False,
            "external_ids": {},
            "id": None,
            "is_local": True,
            "name": name,
            "popularity": 0,
            "preview_url": None,
            "type": "track",
            "uri": f"spotify:local:::{name.replace(' ', '+')}:180",
        }
    )


def _episode(key: str) -> str:
    number = int.from_bytes(blake2b(key.encode(), digest_size=14).digest(), "big")
    episode_id = f"7{number % 10**21:021d}"
    return _compact(
        {
            "album": {"album_type": "show", "id": f"5{number % 10**21:021d}", "images": [], "type": "show"},
            "artists": [{"id": None, "name": None, "type": "show"}],
            "duration_ms": 2_400_000,
            "episode": True,
            "explicit": False,
            "external_ids": {},
            "id": episode_id,
            "is_local": False,
            "name": f"Episode {number % 300}",
            "show": {"id": f"5{number % 10**21:021d}", "name": "People who talk"},
            "track": False,
            "type": "episode",
            "uri": f"spotify:episode:{episode_id}",
        }
    )


def _values(song: Song) -> dict[str, float | int | None]:
    """Features as they are sent: whole numbers where the services have them, key -1 where there is none."""
    values: dict[str, float | int | None] = dict(song.features)
    for name in ("key", "mode"):
        known = song.features[name]
        values[name] = None if known is None else int(known)
    if values["key"] is None:
        values["key"] = -1
    return values


def _make_features(song: Song) -> str:
    track_id = song.track_id
    return _compact(
        {
            **_values(song),
            "analysis_url": f"https://api.spotify.com/v1/audio-analysis/{track_id}",
            "duration_ms": song.duration_ms,
            "id": track_id,
            "time_signature": 4,
            "track_href": f"https://api.spotify.com/v1/tracks/{track_id}",
            "type": "audio_features",
            "uri": f"spotify:track:{track_id}",
        }
    )


def _make_reccobeats(song: Song) -> str:
    return _compact(
        {
            "id": mbid("reccobeats", song.track_id),
            "href": f"https://open.spotify.com/track/{song.track_id}",
            "isrc": song.isrc,
            **_values(song),
        }
    )


def _love(recording_mbid: str | None, at: int, user: str, metadata: str) -> str:
    return (
        f'{{"created":{at},"recording_mbid":{json.dumps(recording_mbid)},'
        f'"recording_msid":"{mbid("sent", f"{user}|{at}|{recording_mbid}")}","score":1,'
        f'"track_metadata":{metadata},"user_id":{json.dumps(user)}}}'
    )


def _cover_number(song: Song) -> int:
    return int(unit("cover", song.album_id) * 10**11)
