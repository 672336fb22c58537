"""The answers of Spotify's Web API, ListenBrainz and ReccoBeats about the simulated world.

Here: routes, paging and permissions. An answer is a function of the world, the day, the request and its user.
Not here: the JSON itself (`bodies`), connections, tokens, rate limits and faults (`server`), or the facts
(`world`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache, partial
from urllib.parse import unquote

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator import bodies
from tunegraph_pipeline.simulator.bodies import Answer, compact, refusal
from tunegraph_pipeline.simulator.catalogue import Song
from tunegraph_pipeline.simulator.draws import unit
from tunegraph_pipeline.simulator.faults import Faults
from tunegraph_pipeline.simulator.listeners import Playlist
from tunegraph_pipeline.simulator.world import World

_MOST_PLAYLISTS, _MOST_ITEMS, _MOST_TRACKS, _MOST_FEATURES = 50, 100, 50, 100
_MOST_FEEDBACK, _MOST_RECORDINGS, _MOST_RECCOBEATS = 1_000, 500, 40

_EXTENDED_ONLY = {
    "/v1/users/{id}",
    "/v1/users/{id}/playlists",
    "/v1/tracks",
    "/v1/audio-features",
    "/v1/audio-features/{id}",
}
_FEATURES = {"/v1/audio-features", "/v1/audio-features/{id}"}


_Find = Callable[[str, date], str | None]
"""The JSON about a track on a day, None if there is none."""


class Mode(StrEnum):
    """Which generation of the Spotify Web API is served."""

    EXTENDED = "extended"
    DEVELOPMENT = "development"


class _Refused(Exception):  # noqa: N818  # an answer like any other
    """Status and message of an error that is answered."""


@dataclass(frozen=True)
class Question:
    """A request: its route, path and query, and the user whose token it carries (None: the app's token)."""

    route: str
    path: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    base: str
    user: str | None = None

    @property
    def signed_in(self) -> str:
        """The user; refused without one."""
        if self.user is None:
            raise _Refused(401, "Unauthorized")
        return self.user


class Answers:
    """The three services over one world. Threads may share it.

    ``stray`` gives the shares of items listed in addition to the real ones; ``reccobeats_knows`` is the share
    of songs without measured features that ReccoBeats does know.
    """

    def __init__(
        self,
        world: World,
        *,
        mode: Mode = Mode.EXTENDED,
        audio_features: bool = True,
        stray: Faults | None = None,
        reccobeats_knows: float = 0.5,
        covers: bool = False,
    ) -> None:
        self.world = world
        self.mode = mode
        self.audio_features = audio_features
        self.stray = stray or Faults()
        self.reccobeats_knows = reccobeats_knows
        self.covers = covers
        self._contents = "items" if mode is Mode.DEVELOPMENT else "tracks"  # the key of a playlist's items
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
            "/v1/tracks": partial(self._several, "tracks", self._spotify_track, _MOST_TRACKS),
            "/v1/tracks/{id}": partial(self._one, self._spotify_track, "Non existing id"),
            "/v1/audio-features": partial(
                self._several, "audio_features", self._spotify_features, _MOST_FEATURES
            ),
            "/v1/audio-features/{id}": partial(self._one, self._spotify_features, "analysis not found"),
            "/1/user/{id}/following": partial(self._related, "following", world.follows),
            "/1/user/{id}/followers": partial(self._related, "followers", world.followers),
            "/1/feedback/user/{id}/get-feedback": self._feedback,
            "/1/metadata/recording": self._metadata,
            "/reccobeats/v1/audio-features": self._reccobeats,
        }

    def warm_up(self, day: date) -> None:
        """Build the world's tables, so that no request waits for them."""
        for user_id in self.world.start_users()[:1]:
            self.world.followers(user_id, day)
            self.world.playlists(user_id, day)
        next((one for one in self.world.recording_ids() if self.world.song(one, day)), None)

    def route(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The route of a path, with ``{id}`` for an id, or "unknown"; and the parts of the path."""
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        for varying in (None, 2, 3):
            named = parts if varying is None else (*parts[:varying], "{id}", *parts[varying + 1 :])
            if (route := "/" + "/".join(named)) in self._routes and len(named) == len(parts):
                return route, parts
        return "unknown", parts

    def answer(self, question: Question, day: date) -> Answer:
        """The answer to ``question`` at the end of ``day``."""
        route = question.route
        made = self._routes.get(route)
        if made is None:
            return refusal(question.path, 404, "Service not found")
        closed = route in _EXTENDED_ONLY and self.mode is Mode.DEVELOPMENT
        if closed or (route in _FEATURES and not self.audio_features):
            return refusal(question.path, 403, "Forbidden")
        try:
            return Answer(200, made(question, day))
        except _Refused as refused:
            return refusal(question.path, *refused.args)

    # Spotify

    def _me(self, question: Question, day: date) -> str:
        return json.dumps(bodies.own_profile(question.signed_in))

    def _my_tracks(self, question: Question, day: date) -> str:
        return self._page(question, self._saved(question.signed_in, day), 20, 50)

    def _my_playlists(self, question: Question, day: date) -> str:
        return self._page(question, self._listed(question.signed_in, day), 20, _MOST_PLAYLISTS)

    def _user(self, question: Question, day: date) -> str:
        if self._state(question.parts[2], day) in {"gone", "unknown"}:
            raise _Refused(404, "No such user")
        return json.dumps(bodies.profile(question.parts[2]))

    def _user_playlists(self, question: Question, day: date) -> str:
        user_id = question.parts[2]
        state = self._state(user_id, day)
        if state != "listed":
            raise _Refused(403, "Forbidden") if state == "private" else _Refused(404, "No such user")
        return self._page(question, self._listed(user_id, day), 20, _MOST_PLAYLISTS)

    def _playlist(self, question: Question, day: date) -> str:
        playlist, items = self._shown(question.parts[2], day)
        contents = self._contents
        found = bodies.simplified_playlist(playlist, len(items), day, contents)
        found["followers"] = {"href": None, "total": 0}
        del found[contents]
        if self.mode is not Mode.EXTENDED and playlist.owner_id != question.user:
            return compact(found)
        path = f"/v1/playlists/{playlist.playlist_id}/{contents}"
        first = Question(question.route, path, question.parts, {"limit": "100"}, question.base)
        return f'{compact(found)[:-1]},"{contents}":{self._page(first, items, 100, _MOST_ITEMS)}}}'

    def _items(self, question: Question, day: date) -> str:
        development = self.mode is Mode.DEVELOPMENT
        if development and question.parts[3] == "tracks":
            raise _Refused(404, "Service not found")
        playlist, items = self._shown(question.parts[2], day)
        if development and playlist.owner_id != question.user:
            raise _Refused(403, "Forbidden")
        return self._page(question, items, 100, _MOST_ITEMS)

    def _several(self, key: str, find: _Find, most: int, question: Question, day: date) -> str:
        found = (find(track_id, day) or "null" for track_id in _ids(question, "ids", most))
        return f'{{"{key}":[{",".join(found)}]}}'

    def _one(self, find: _Find, missing: str, question: Question, day: date) -> str:
        found = find(question.parts[2], day)
        if found is None:
            raise _Refused(404, missing)
        return found

    def _page(self, question: Question, items: list[str], default: int, most: int) -> str:
        """One page of ``items`` in Spotify's paging object."""
        limit = _whole(question, "limit", default, 1, most)
        offset = _whole(question, "offset", 0, 0, 100_000)
        url = f"{question.base}{question.path}"
        return bodies.paging_object(url, question.query, items, limit=limit, offset=offset)

    def _make_listed(self, user_id: str, day: date) -> list[str]:
        """The playlists on a user's page, as they are listed."""
        return [
            compact(bodies.simplified_playlist(playlist, len(self._plan(playlist)), day, self._contents))
            for playlist in self.world.playlists(user_id, day, closed=True)
        ]

    def _plan(self, playlist: Playlist) -> list[int | str]:
        """What a playlist lists: the number of a track in it, or the kind of a stray item."""
        stray = self.stray
        shares = {"null": stray.null_tracks, "local": stray.local_files, "episode": stray.episodes}
        kinds = [(kind, share) for kind, share in shares.items() if share > 0]
        if not kinds:
            return list(range(len(playlist.track_ids)))
        plan: list[int | str] = []
        for number, track_id in enumerate(playlist.track_ids):
            plan.append(number)
            plan += [kind for kind, share in kinds if unit(playlist.playlist_id, track_id, kind) < share]
        return plan

    def _make_shown(self, playlist_id: str, day: date) -> tuple[Playlist, list[str]]:
        """A playlist and its items, stray ones included."""
        playlist = self.world.playlist(playlist_id, day)
        if playlist is None:
            raise _Refused(404, "Resource not found")
        key = "item" if self.mode is Mode.DEVELOPMENT else "track"
        by = bodies.added_by(playlist.owner_id)
        items = []
        last = 0
        for place, entry in enumerate(self._plan(playlist)):
            local = entry == "local"
            if isinstance(entry, int):
                last = entry
                found = self._spotify_track(playlist.track_ids[entry], day) or "null"
            elif entry == "null":
                found = "null"
            else:
                found = bodies.local_file(place) if local else bodies.episode(f"{playlist_id}|{place}")
            at = playlist.added_at[last]
            items.append(bodies.playlist_item(at, by, local=local, key=key, content=found))
        return playlist, items

    def _make_saved(self, user_id: str, day: date) -> list[str]:
        return [
            bodies.saved_track(at, self._spotify_track(track_id, day) or "null")
            for track_id, at in reversed(self.world.liked(user_id, day))
        ]

    def _song(self, track_id: str, day: date) -> Song | None:
        song = self._songs.get(track_id) or self.world.song(track_id, day)
        if song is None or song.released > day:
            return None
        self._songs[track_id] = song
        return song

    def _kept(self, kind: str, song: Song, make: Callable[[Song], str]) -> str:
        """The JSON of a song, made once, so that a listing only has to join strings."""
        if (kind, song.track_id) not in self._by_kind:
            self._by_kind[kind, song.track_id] = make(song)
        return self._by_kind[kind, song.track_id]

    def _spotify_track(self, track_id: str, day: date) -> str | None:
        song = self._song(track_id, day)
        if song is None:
            return None
        make = partial(bodies.spotify_track, covers=self.covers, extended=self.mode is Mode.EXTENDED)
        return self._kept("track", song, make)

    def _spotify_features(self, track_id: str, day: date) -> str | None:
        song = self._song(track_id, day)
        if song is None or not song.measured:
            return None
        return self._kept("features", song, bodies.spotify_features)

    # ListenBrainz

    def _related(
        self, key: str, find: Callable[[str, date], list[str]], question: Question, day: date
    ) -> str:
        user = self._open_user(question.parts[2], day)
        return json.dumps({key: find(user, day), "user": user})

    def _feedback(self, question: Question, day: date) -> str:
        user = self._open_user(question.parts[3], day)
        count = min(_whole(question, "count", 25, 0, 10**9), _MOST_FEEDBACK)
        offset = _whole(question, "offset", 0, 0, 10**9)
        score = question.query.get("score")
        if score not in {None, "1", "-1", "0"}:
            message = f"Score can have a value of 1, 0 or -1. Your value: {score}"
            raise _Refused(400, message)
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
            assert song is not None, "songs are liked only after their release"
            make = partial(bodies.track_metadata, covers=self.covers)
            metadata = self._kept("metadata", song, make) if described else "null"
            loved.append(bodies.love(bodies.mbid("recording", song.recording_id), at, user, metadata))
            if unit(user, track_id, "null") < self.stray.null_tracks:
                # Sent by a player, and unknown to MusicBrainz.
                loved.append(bodies.love(None, at, user, "null"))
        return loved

    def _metadata(self, question: Question, day: date) -> str:
        ids = [one for one in question.query.get("recording_mbids", "").split(",") if one]
        if not ids:
            raise _Refused(400, "No recording mbids specified")
        if len(ids) > _MOST_RECORDINGS:
            raise _Refused(400, "Too many recording mbids")
        wanted = set(question.query.get("inc", "").split())
        found = {}
        for one in ids:
            song = self._recording(one, day)
            if song is not None:
                found[one] = bodies.recording(song, wanted, covers=self.covers)
        return json.dumps(found)

    def _recording(self, recording_mbid: str, day: date) -> Song | None:
        if not self._recordings:
            self._recordings = {bodies.mbid("recording", one): one for one in self.world.recording_ids()}
        track_id = self._recordings.get(recording_mbid)
        return None if track_id is None else self._song(track_id, day)

    def _open_user(self, user_id: str, day: date) -> str:
        if self._state(user_id, day) != "listed":
            raise _Refused(404, f"Cannot find user: {user_id}")
        return user_id

    # ReccoBeats

    def _reccobeats(self, question: Question, day: date) -> str:
        ids = [one for one in question.query.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= _MOST_RECCOBEATS:
            message = f"ids: between 1 and {_MOST_RECCOBEATS} are allowed"
            raise _Refused(400, message)
        found = {}
        for track_id in ids:
            song = self._song(track_id, day)
            if song is None:
                continue
            if song.measured or unit("reccobeats", track_id) < self.reccobeats_knows:
                found[track_id] = self._kept("reccobeats", song, bodies.reccobeats_features)
        shuffled = sorted(found, key=lambda track_id: unit("order", track_id))
        return f'{{"content":[{",".join(found[track_id] for track_id in shuffled)}]}}'

    def _state(self, user_id: str, day: date) -> str:
        try:
            return self.world.state(user_id, day)
        except InputError:
            return "unknown"


def _ids(question: Question, name: str, most: int) -> list[str]:
    ids = [one for one in question.query.get(name, "").split(",") if one]
    if not ids:
        raise _Refused(400, "Missing required field: ids")
    if len(ids) > most:
        raise _Refused(400, "Too many ids requested")
    return ids


def _whole(question: Question, name: str, default: int, least: int, most: int) -> int:
    text = question.query.get(name, str(default))
    # int() also takes underscores and spaces, and refuses very long numbers.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise _Refused(400, f"Invalid {name}")
    return int(text)
