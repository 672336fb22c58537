"""The JSON of the three services: tracks, playlists, features, recordings, likes and errors.

Here: functions from a song, a playlist or a user to what Spotify, ListenBrainz and ReccoBeats send. Not here:
which request gets which answer (`api`).

The parts of long lists are strings of JSON already, so that a listing only has to join them.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from tunegraph_pipeline.simulator.catalogue import Song
from tunegraph_pipeline.simulator.draws import unit
from tunegraph_pipeline.simulator.listeners import Playlist

PERSONAL_MARK = "example.invalid"
"""Part of every personal detail that is sent; a source must not store it."""


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


def spotify_track(song: Song, *, covers: bool, extended: bool) -> str:
    """A track in Spotify's form, with album images if ``covers``, with popularity if ``extended``."""
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
        if covers
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
    if extended:
        track |= {"popularity": int(unit("popularity", song.recording_id) * 100), "preview_url": None}
    return _compact(track)


def simplified_playlist(playlist: Playlist, total: int, day: date, contents: str) -> str:
    """A playlist as Spotify lists it; ``contents`` is the key that says how many items it has."""
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
    said: dict[str, Any] = {"recording": facts}
    if "artist" in wanted:
        artists = [
            {"artist_mbid": mbid("artist", artist_id), "name": name, "join_phrase": ""}
            for artist_id, name in zip(song.artist_ids, song.artists, strict=True)
        ]
        said["artist"] = {"artists": artists, "name": " & ".join(song.artists)}
    if "release" in wanted:
        release = mbid("release", song.album_id)
        said["release"] = {"mbid": release, "name": song.album, "year": song.released.year}
        if covers:
            said["release"] |= {"caa_id": _cover_number(song), "caa_release_mbid": release}
    return said


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def profile(user_id: str) -> dict[str, Any]:
    """A user as Spotify shows them to others."""
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


def own_profile(user_id: str) -> dict[str, Any]:
    """A user as Spotify shows them to themselves."""
    private = {
        "email": f"someone@{PERSONAL_MARK}",
        "country": f"country of {PERSONAL_MARK}",
        "product": f"premium at {PERSONAL_MARK}",
        "explicit_content": {"filter_enabled": False, "filter_locked": False},
    }
    return {**profile(user_id), **private}


def added_by(user_id: str) -> str:
    """A user as Spotify names them in the items of a playlist."""
    return (
        f'{{"external_urls":{{"spotify":"https://open.spotify.com/user/{user_id}"}},'
        f'"href":"https://api.spotify.com/v1/users/{user_id}","id":"{user_id}","type":"user",'
        f'"uri":"spotify:user:{user_id}"}}'
    )


def _owner(user_id: str) -> str:
    return f'{{"display_name":"Someone at {PERSONAL_MARK}",{added_by(user_id)[1:]}'


def local_file(place: int) -> str:
    """A file of the user's own, which has no id."""
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


def episode(key: str) -> str:
    """A podcast episode, a function of ``key``."""
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
    """Features as they are sent: key and mode as whole numbers, key -1 where it was not detected."""
    values: dict[str, float | int | None] = dict(song.features)
    for name in ("key", "mode"):
        known = song.features[name]
        values[name] = None if known is None else int(known)
    if values["key"] is None:
        values["key"] = -1
    return values


def spotify_features(song: Song) -> str:
    """A song's audio features in Spotify's form."""
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


def reccobeats_features(song: Song) -> str:
    """A song's audio features in ReccoBeats's form."""
    return _compact(
        {
            "id": mbid("reccobeats", song.track_id),
            "href": f"https://open.spotify.com/track/{song.track_id}",
            "isrc": song.isrc,
            **_values(song),
        }
    )


def love(recording_mbid: str | None, at: int, user: str, metadata: str) -> str:
    """A like in ListenBrainz's form; no ``recording_mbid`` where MusicBrainz knows none."""
    return (
        f'{{"created":{at},"recording_mbid":{json.dumps(recording_mbid)},'
        f'"recording_msid":"{mbid("sent", f"{user}|{at}|{recording_mbid}")}","score":1,'
        f'"track_metadata":{metadata},"user_id":{json.dumps(user)}}}'
    )


def _cover_number(song: Song) -> int:
    return int(unit("cover", song.album_id) * 10**11)
