"""The answers of the three services: tracks, playlists, features, recordings, likes and errors, as JSON.

Here: functions from a song, a playlist or a user to what Spotify, ListenBrainz and ReccoBeats send. Not here:
which request gets which answer (`api`).

The parts of long lists are strings already, so that a listing only has to join them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from tunegraph_pipeline.simulator.catalogue import Song
from tunegraph_pipeline.simulator.draws import unit
from tunegraph_pipeline.simulator.listeners import Playlist

PERSONAL_MARK = "example.invalid"
"""Part of every personal detail that is sent; a source must not store any."""


# The fixed fields of items that are not tracks of the world.
_STRAY_ITEMS: dict[str, dict[str, Any]] = json.loads(
    files(__package__).joinpath("stray_items.json").read_bytes()
)


def mbid(kind: str, identifier: str) -> str:
    """The MusicBrainz id of a recording, an artist or a release of the world."""
    return str(UUID(bytes=blake2b(f"{kind}|{identifier}".encode(), digest_size=16).digest(), version=4))


@dataclass(frozen=True)
class Answer:
    """Status, body and the headers beyond those that every answer has."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


def refusal(
    path: str, status: int, message: str, reason: str | None = None, retry_after: int | None = None
) -> Answer:
    """An error in the form of the service that ``path`` belongs to; only Spotify gives a ``reason``."""
    body: dict[str, Any]
    if path.startswith("/1/"):
        body = {"code": status, "error": message}
    elif path.startswith("/reccobeats/"):
        body = {"timestamp": "2026-01-01T00:00:00Z", "status": status, "error": message}
    else:
        body = {"error": {"status": status, "message": message} | ({"reason": reason} if reason else {})}
    headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return Answer(status, json.dumps(body), headers)


def _spotify_object(kind: str, identifier: str) -> dict[str, Any]:
    """The fields that every object of Spotify's has."""
    return {
        "external_urls": {"spotify": f"https://open.spotify.com/{kind}/{identifier}"},
        "href": f"https://api.spotify.com/v1/{kind}s/{identifier}",
        "id": identifier,
        "type": kind,
        "uri": f"spotify:{kind}:{identifier}",
    }


def spotify_track(song: Song, *, covers: bool, extended: bool) -> str:
    """A track in Spotify's form, with album images if ``covers``, with popularity if ``extended``."""
    artists = [
        {**_spotify_object("artist", artist_id), "name": name}
        for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
    ]
    images = [
        {"url": f"https://covers.example/{song.album_id}/{size}.jpg", "height": size, "width": size}
        for size in (640, 300, 64)
        if covers
    ]
    album = {
        **_spotify_object("album", song.album_id),
        "album_type": "album" if song.album != song.name else "single",
        "artists": artists[:1],
        "images": images,
        "name": song.album,
        "release_date": song.released.isoformat(),
        "release_date_precision": "day",
    }
    track = {
        **_spotify_object("track", song.track_id),
        "album": album,
        "artists": artists,
        "disc_number": 1,
        "duration_ms": song.duration_ms,
        "explicit": song.explicit,
        "external_ids": {"isrc": song.isrc},
        "genre": song.genre,
        "is_local": False,
        "name": song.name,
        "track_number": 1,
    }
    if extended:
        track |= {"popularity": int(unit("popularity", song.recording_id) * 100), "preview_url": None}
    return compact(track)


def simplified_playlist(playlist: Playlist, total: int, day: date, contents: str) -> dict[str, Any]:
    """A playlist as Spotify lists it; ``contents`` is the key that says how many items it has."""
    listed = _spotify_object("playlist", playlist.playlist_id)
    snapshot = blake2b(f"{playlist.playlist_id}|{day}|{total}".encode(), digest_size=12).hexdigest()
    owner = {"display_name": f"Someone at {PERSONAL_MARK}", **_spotify_object("user", playlist.owner_id)}
    return listed | {
        "collaborative": False,
        "description": "",
        "images": [],
        "name": playlist.name,
        "owner": owner,
        "primary_color": None,
        "public": True,
        "snapshot_id": snapshot,
        contents: {"href": f"{listed['href']}/{contents}", "total": total},
    }


def paging_object(url: str, query: Mapping[str, str], items: list[str], *, limit: int, offset: int) -> str:
    """One page of ``items`` in Spotify's form, with links to the pages around it."""
    total = len(items)

    def link(start: int | None) -> str:
        if start is None:
            return "null"
        asked = {**query, "offset": str(start), "limit": str(limit)}
        return f'"{url}?{urlencode(asked)}"'

    after = offset + limit if offset + limit < total else None
    before = max(offset - limit, 0) if offset else None
    page = ",".join(items[offset : offset + limit])
    return (
        f'{{"href":{link(offset)},"limit":{limit},"next":{link(after)},"offset":{offset},'
        f'"previous":{link(before)},"total":{total},"items":[{page}]}}'
    )


def playlist_item(added_at: int, added_by: str, *, local: bool, key: str, content: str) -> str:
    """One item of a playlist; ``content`` is its JSON, under ``key``."""
    return (
        f'{{"added_at":"{_instant(added_at)}","added_by":{added_by},'
        f'"is_local":{"true" if local else "false"},"primary_color":null,"{key}":{content},'
        f'"video_thumbnail":{{"url":null}}}}'
    )


def saved_track(added_at: int, track: str) -> str:
    """One item of a liked list; ``track`` is its JSON."""
    return f'{{"added_at":"{_instant(added_at)}","track":{track}}}'


def track_metadata(song: Song, *, covers: bool) -> str:
    """What ListenBrainz sends about a song with a like of it, with its cover's id if ``covers``."""
    recording, release = mbid("recording", song.recording_id), mbid("release", song.album_id)
    artists = _artist_credits(song, "artist_credit_name")
    return compact(
        {
            "additional_info": {},
            "artist_name": " & ".join(song.artists),
            "mbid_mapping": {
                "artist_mbids": [artist["artist_mbid"] for artist in artists],
                "artists": artists,
                "caa_id": _cover_number(song) if covers else None,
                "caa_release_mbid": release if covers else None,
                "recording_mbid": recording,
                "recording_name": song.name,
                "release_mbid": release,
            },
            "release_name": song.album,
            "track_name": song.name,
        }
    )


def recording(song: Song, wanted: set[str], *, covers: bool) -> dict[str, Any]:
    """A recording in ListenBrainz's form; ``wanted`` may add "artist" and "release"."""
    facts = {"isrcs": [song.isrc], "length": song.duration_ms, "name": song.name, "rels": []}
    found: dict[str, Any] = {"recording": facts}
    if "artist" in wanted:
        found["artist"] = {"artists": _artist_credits(song, "name"), "name": " & ".join(song.artists)}
    if "release" in wanted:
        release = mbid("release", song.album_id)
        found["release"] = {"mbid": release, "name": song.album, "year": song.released.year}
        if covers:
            found["release"] |= {"caa_id": _cover_number(song), "caa_release_mbid": release}
    return found


def _artist_credits(song: Song, key: str) -> list[dict[str, str]]:
    return [
        {key: name, "artist_mbid": mbid("artist", artist_id), "join_phrase": ""}
        for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
    ]


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def profile(user_id: str) -> dict[str, Any]:
    """A user as Spotify shows them to others."""
    return {
        **_spotify_object("user", user_id),
        "display_name": f"Someone at {PERSONAL_MARK}",
        "followers": {"href": None, "total": 31337},
        "images": [{"url": f"https://faces.{PERSONAL_MARK}/{user_id}.jpg", "height": 300, "width": 300}],
    }


def own_profile(user_id: str) -> dict[str, Any]:
    """A user as Spotify shows them to themselves."""
    return {
        **profile(user_id),
        "email": f"someone@{PERSONAL_MARK}",
        "country": f"country of {PERSONAL_MARK}",
        "product": f"premium at {PERSONAL_MARK}",
        "explicit_content": {"filter_enabled": False, "filter_locked": False},
    }


def added_by(user_id: str) -> str:
    """A user as Spotify names them in the items of a playlist."""
    return compact(_spotify_object("user", user_id))


def local_file(place: int) -> str:
    """A file of the user's own, which has no id."""
    name = f"Recorded at home {place}"
    uri = f"spotify:local:::{name.replace(' ', '+')}:180"
    return compact({**_STRAY_ITEMS["local_file"], "name": name, "uri": uri})


def episode(key: str) -> str:
    """A podcast episode, a function of ``key``."""
    number = int.from_bytes(blake2b(key.encode(), digest_size=14).digest(), "big")
    episode_id, show_id = f"7{number % 10**21:021d}", f"5{number % 10**21:021d}"
    fixed = _STRAY_ITEMS["episode"]
    return compact(
        {
            **fixed,
            "album": {**fixed["album"], "id": show_id},
            "id": episode_id,
            "name": f"Episode {number % 300}",
            "show": {"id": show_id, "name": "People who talk"},
            "uri": f"spotify:episode:{episode_id}",
        }
    )


def _features(song: Song) -> dict[str, float | int | None]:
    """Features as they are sent: key and mode as whole numbers, key -1 if undetected."""
    key, mode = song.features["key"], song.features["mode"]
    whole = {"key": -1 if key is None else int(key), "mode": None if mode is None else int(mode)}
    return {**song.features, **whole}


def spotify_features(song: Song) -> str:
    """A song's audio features in Spotify's form."""
    track_id = song.track_id
    return compact(
        {
            **_features(song),
            "analysis_url": f"https://api.spotify.com/v1/audio-analysis/{track_id}",
            "duration_ms": song.duration_ms,
            "id": track_id,
            "time_signature": 4,
            "track_href": f"https://api.spotify.com/v1/tracks/{track_id}",
            "type": "audio_features",
            "uri": f"spotify:track:{track_id}",
        }
    )


def reccobeats_features(song: Song) -> str:
    """A song's audio features in ReccoBeats's form."""
    href = f"https://open.spotify.com/track/{song.track_id}"
    identity = {"id": mbid("reccobeats", song.track_id), "href": href, "isrc": song.isrc}
    return compact({**identity, **_features(song)})


def love(recording_mbid: str | None, at: int, user: str, metadata: str) -> str:
    """A like in ListenBrainz's form; no ``recording_mbid`` where MusicBrainz knows none."""
    return (
        f'{{"created":{at},"recording_mbid":{json.dumps(recording_mbid)},'
        f'"recording_msid":"{mbid("sent", f"{user}|{at}|{recording_mbid}")}","score":1,'
        f'"track_metadata":{metadata},"user_id":{json.dumps(user)}}}'
    )


def _cover_number(song: Song) -> int:
    return int(unit("cover", song.album_id) * 10**11)
