"""JSON that services and servers write: their APIs' answers, exports and histories.

Here: recognising each by its structure, its songs as rows by role, and the order in which structures are
tried. Not here: JSON of no particular service (`json_lists`), Spotify's account export as a zip or folder
(`account_export`), or what rows say (`opinions`).

Each recogniser takes a document and the name of its file, and gives None for a document of another structure.
It raises InputError for one that it knows and that says nothing of liking.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import read_id
from tunegraph_pipeline.sources import json_lists
from tunegraph_pipeline.sources.documents import (
    LASTFM_LISTS,
    Document,
    Row,
    artist_names,
    dicts_of,
    document_of,
    first_song_link,
    pages_of,
    scalar_text,
    value_at,
)
from tunegraph_pipeline.sources.names import shown


def _only_person(entries: Iterable[Mapping[str, Any]], key: str) -> str:
    """The one person that entries name; ``""`` for nobody or several."""
    people = {str(one[key]) for one in entries if one.get(key)}
    return people.pop() if len(people) == 1 else ""


# --- playlists ---------------------------------------------------------------------------------------------

_MPD_FIELDS = {
    "track_id": "track_uri",
    "name": "track_name",
    "artists": "artist_name",
    "artist_ids": "artist_uri",
    "album_id": "album_uri",
    "duration_ms": "duration_ms",
    "position": "pos",
}
"""Roles, and the keys that have them in the Million Playlist Dataset."""


def _mpd(document: Any, where: str) -> Document | None:
    """The Million Playlist Dataset; each playlist counts as a user."""
    playlists = value_at(document, "playlists")
    known = dicts_of(playlists)
    if not isinstance(playlists, list) or any("playlist" in one for one in known):
        return None
    if known and all(isinstance(one.get("items"), list) for one in known):
        raise InputError(
            f"{where} holds the playlists of a Spotify account export, which are no likes; give the export's"
            " zip, or its YourLibrary.json"
        )
    users: list[str] = []
    rows: list[Row] = []
    for number, playlist in enumerate(playlists, start=1):
        tracks = value_at(playlist, "tracks")
        if not isinstance(tracks, list) or "pid" not in playlist:
            raise InputError(
                f"{where}: playlist {number} has no pid or no list of tracks; fetch the file again"
            )
        user = str(playlist["pid"])
        users.append(user)
        rows += [{"user_id": user} | _mpd_row(track) for track in tracks]
    return document_of("mpd", rows or [dict.fromkeys(("user_id", *_MPD_FIELDS))], seen_whole=users)


def _mpd_row(track: object) -> Row:
    return {role: scalar_text(value_at(track, key)) for role, key in _MPD_FIELDS.items()}


_JSPF_EXTENSION = "https://musicbrainz.org/doc/jspf#track"


def _jspf(document: Any, _where: str) -> Document | None:
    """JSPF, alone or in lists, also as {"playlists": [{"playlist": {"track": [...]}}]}."""
    files = [inner for one in pages_of(document) for inner in (dicts_of(one.get("playlists")) or [one])]
    playlists = [one for one in files if isinstance(value_at(one, "playlist", "track"), list)]
    if not playlists:
        return None
    tracks = [track for one in playlists for track in dicts_of(one["playlist"]["track"])]
    return document_of(
        "jspf",
        (
            {
                "track_id": first_song_link(_jspf_links(track)),
                "name": track.get("title"),
                "artists": track.get("creator"),
                "duration_ms": track.get("duration"),
                "liked_at": value_at(track, "extension", _JSPF_EXTENSION, "added_at"),
                "position": place,
            }
            for place, track in enumerate(tracks)
        ),
    )


def _jspf_links(track: Mapping[str, Any]) -> list[str]:
    values = [track.get(key) for key in ("identifier", "location")]
    entries = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in entries if isinstance(one, str)]


# --- Last.fm, ListenBrainz and Maloja ----------------------------------------------------------------------


def _maloja(document: Any, _where: str) -> Document | None:
    scrobbles = dicts_of(value_at(document, "scrobbles"))
    if not any(isinstance(one.get("track"), dict) for one in scrobbles):
        return None
    return document_of(
        "maloja",
        (
            {
                "name": value_at(one, "track", "title"),
                "artists": artist_names(value_at(one, "track", "artists")),
                "liked_at": one.get("time"),
                "duration_s": value_at(one, "track", "length"),
            }
            for one in scrobbles
        ),
    )


def _lastfmstats(document: Any, _where: str) -> Document | None:
    scrobbles = value_at(document, "scrobbles")
    if not isinstance(scrobbles, list):
        return None
    rows = (
        {"name": one.get("track"), "artists": one.get("artist"), "liked_at": one.get("date")}
        for one in dicts_of(scrobbles)
    )
    return document_of("lastfmstats", rows, person=str(value_at(document, "username") or ""))


def _lastfm(document: Any, _where: str) -> Document | None:
    """Answers of the Last.fm API, alone or in pages."""
    pages = pages_of(document)
    for key, name in LASTFM_LISTS.items():
        found = [one[key] for one in pages if isinstance(one.get(key), dict)]
        if found:
            tracks = [track for page in found for track in dicts_of(page.get("track"))]
            return _lastfm_document(name, tracks, str(value_at(found[0], "@attr", "user") or ""))
    return None


def _lastfm_bare(document: Any, _where: str) -> Document | None:
    """Pages of the Last.fm API without their key, as lastfm.ghan.nl keeps them, or lists of their tracks."""
    if not isinstance(document, list):
        return None
    tracks = [track for page in dicts_of(document) for track in dicts_of(page.get("track"))]
    tracks = tracks or [track for page in document for track in dicts_of(page)]
    first = tracks[:20]
    if not first or not all("name" in one and "artist" in one for one in first):
        return None
    # Plays have the album of the song, and a text below the artist; loved tracks a name.
    plays = any("album" in one or "#text" in (one.get("artist") or {}) for one in first)
    return _lastfm_document("lastfm-plays" if plays else "lastfm-loved", tracks)


def _lastfm_document(name: str, tracks: Sequence[Mapping[str, Any]], person: str = "") -> Document:
    """All tracks but the one that plays just now."""
    rows = (
        {
            "track_id": track.get("mbid") or None,
            "name": track.get("name"),
            "artists": artist_names(track.get("artist")),
            "liked_at": value_at(track, "date", "uts"),
        }
        for track in tracks
        if value_at(track, "@attr", "nowplaying") != "true"
    )
    return document_of(name, rows, person=person)


def _listens(document: Any, _where: str) -> Document | None:
    """Listens of ListenBrainz: a list of them, or an answer of its API."""
    found = [
        one
        for one in dicts_of(value_at(document, "payload", "listens") or document)
        if isinstance(one.get("track_metadata"), dict) and "listened_at" in one
    ]
    if not found:
        return None
    return document_of("listenbrainz-plays", map(listen_row, found), person=_only_person(found, "user_name"))


def listen_row(listen: Mapping[str, Any]) -> Row:
    """A listen of ListenBrainz as a row; roles without a value are None."""
    data = listen.get("track_metadata")
    return {
        "track_id": value_at(data, "mbid_mapping", "recording_mbid")
        or value_at(data, "additional_info", "recording_mbid"),
        "name": value_at(data, "track_name"),
        "artists": value_at(data, "artist_name"),
        "liked_at": listen.get("listened_at"),
        "recording_msid": listen.get("recording_msid") or value_at(data, "recording_msid"),
    }


def _listenbrainz_feedback(document: Any, _where: str) -> Document | None:
    """Feedback of ListenBrainz: a list of it, or an answer of its API."""
    found = [
        one
        for one in dicts_of(document if isinstance(document, list) else value_at(document, "feedback"))
        if "score" in one and ("recording_mbid" in one or "recording_msid" in one)
    ]
    if not found:
        return None
    person = _only_person(found, "user_id")
    return document_of("listenbrainz-feedback", map(feedback_row, found), ("score",), person)


def feedback_row(feedback: Mapping[str, Any]) -> Row:
    """A feedback of ListenBrainz as a row, its ``score`` 1 or -1; roles without a value are None."""
    data = feedback.get("track_metadata")
    return {
        "track_id": feedback.get("recording_mbid") or value_at(data, "mbid_mapping", "recording_mbid"),
        "name": value_at(data, "track_name"),
        "artists": value_at(data, "artist_name"),
        "liked_at": feedback.get("created"),
        "score": feedback.get("score"),
        "recording_msid": feedback.get("recording_msid"),
    }


# --- servers at home ---------------------------------------------------------------------------------------


def _subsonic(document: Any, _where: str) -> Document | None:
    """The starred songs of a Subsonic server."""
    answer = value_at(document, "subsonic-response")
    starred = value_at(answer, "starred2") or value_at(answer, "starred")
    if starred is None:
        return None
    return document_of("subsonic", map(_subsonic_row, dicts_of(value_at(starred, "song"))))


def _subsonic_row(song: Mapping[str, Any]) -> Row:
    isrc = song.get("isrc")
    return {
        "track_id": song.get("musicBrainzId") or None,
        "name": song.get("title"),
        "artists": song.get("artist") or song.get("displayArtist"),
        "isrc": next(iter(isrc), None) if isinstance(isrc, list) else isrc,
        "liked_at": song.get("starred"),
        "duration_s": song.get("duration"),
    }


def _jellyfin(document: Any, _where: str) -> Document | None:
    """Items of a Jellyfin or Emby server; those that are no songs count as rows without a track."""
    found = [one for one in dicts_of(value_at(document, "Items")) if "Name" in one and "Id" in one]
    return document_of("jellyfin", map(_jellyfin_row, found), ("favourite",)) if found else None


def _jellyfin_row(song: Mapping[str, Any]) -> Row:
    if song.get("Type", "Audio") != "Audio":
        return {}
    ids = song.get("ProviderIds")
    return {
        "track_id": value_at(ids, "MusicBrainzRecording") or value_at(ids, "MusicBrainzTrack"),
        "name": song.get("Name"),
        "artists": artist_names(song.get("Artists")) or artist_names(song.get("AlbumArtist")),
        "favourite": _jellyfin_opinion(song.get("UserData")),
    }


def _jellyfin_opinion(data: object) -> str:
    likes = value_at(data, "Likes")
    if likes is False:
        return "disliked"
    return "liked" if likes or value_at(data, "IsFavorite") else "none"


# --- YouTube and Apple -------------------------------------------------------------------------------------


def _youtube_api(document: Any, _where: str) -> Document | None:
    """Lists of videos of the Data API, and of songs of ytmusicapi."""
    videos = [one for one in dicts_of(value_at(document, "items")) if _kind(one).startswith("youtube#")]
    songs = [one for one in dicts_of(value_at(document, "tracks")) if "videoId" in one]
    rows = [*map(_youtube_video, videos), *map(_youtube_song, songs)]
    return document_of("youtube-api", rows, ("opinion",)) if rows else None


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("kind", ""))


_TOPIC = " - Topic"
"""Ends the names of channels that YouTube makes of an artist's songs; titles of other videos are no songs."""


def _youtube_video(item: Mapping[str, Any]) -> Row:
    video = value_at(item, "snippet", "resourceId", "videoId") or value_at(item, "contentDetails", "videoId")
    if not video and _kind(item) == "youtube#video":
        video = item.get("id")
    channel = str(value_at(item, "snippet", "videoOwnerChannelTitle") or "")
    is_song = channel.endswith(_TOPIC)
    return {
        "service:youtube": video,
        "name": value_at(item, "snippet", "title") if is_song else None,
        "artists": channel.removesuffix(_TOPIC) if is_song else None,
        "liked_at": value_at(item, "snippet", "publishedAt"),
    }


def _youtube_song(song: Mapping[str, Any]) -> Row:
    return {
        "service:youtube": song.get("videoId"),
        "name": song.get("title"),
        "artists": artist_names(song.get("artists")),
        "opinion": song.get("likeStatus"),
    }


def _youtube_history(document: Any, where: str) -> Document | None:
    """The watch history of a Takeout; only its plays of YouTube Music count."""
    found = [one for one in dicts_of(document) if "header" in one and "title" in one]
    if not found:
        return None
    plays = [one for one in found if _is_music_play(one)]
    if not plays:
        raise InputError(f"{where} is a YouTube history without a play of YouTube Music; videos are no songs")
    return document_of("youtube-history", map(_youtube_play, plays))


_NOT_WATCHED = re.compile(r"(Disliked|Liked|Searched for|Visited|Subscribed|Saved|Removed|Added) ")


def _is_music_play(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is a play of a song on YouTube Music that is no advertisement."""
    link = str(entry.get("titleUrl"))
    if entry.get("header") != "YouTube Music" and "music.youtube.com" not in link:
        return False
    if not read_id(link).id.startswith("youtube:") or _NOT_WATCHED.match(str(entry.get("title"))):
        return False
    details = dicts_of(entry.get("details"))
    return not any(str(one.get("name", "")).startswith("From Google Ads") for one in details)


def _youtube_play(entry: Mapping[str, Any]) -> Row:
    channel = next(iter(dicts_of(entry.get("subtitles"))), {})
    return {
        "track_id": entry.get("titleUrl"),
        "artists": str(channel.get("name") or "").removesuffix(_TOPIC),
        "liked_at": entry.get("time"),
    }


def _apple_library(document: Any, _where: str) -> Document | None:
    """The library tracks of Apple's data and privacy."""
    found = [one for one in dicts_of(document) if "Track Identifier" in one and "Title" in one]
    return document_of("apple-library", map(_apple_row, found), ("opinion", "rating")) if found else None


def _apple_row(song: Mapping[str, Any]) -> Row:
    favourite = song.get("Favorite Status - Track") is True
    return {
        "service:apple": song.get("Apple Music Track Identifier") or song.get("Purchased Track Identifier"),
        "name": song.get("Title"),
        "artists": song.get("Artist") or song.get("Album Artist"),
        "genre": song.get("Genre"),
        "liked_at": song.get("Favorite Date - Track") or song.get("Date Added To Library"),
        "kind": song.get("Content Type"),
        "opinion": "liked" if favourite else song.get("Track Like Rating"),
        "rating": song.get("Rating") or None,
        "plays": song.get("Track Play Count"),
    }


# --- Spotify -----------------------------------------------------------------------------------------------


def _web_api(document: Any, where: str) -> Document | None:
    """Songs of Spotify's Web API: saved, of playlists, or played; one answer, several, or their items."""
    pages = [one["tracks"] if isinstance(one.get("tracks"), dict) else one for one in pages_of(document)]
    songs = _web_api_songs(pages)
    if not any({"uri", "artists", "id"} & song.keys() for _, song in songs[:20]):
        return None
    if any("/search?" in str(page.get("href")) for page in pages):
        raise InputError(
            f"{where} is the answer of a search, which says nothing of liking; give saved tracks"
        )
    plays = any("played_at" in item for item, _ in songs)
    rows = [_web_api_row(item, song) for item, song in songs]
    return document_of("spotify-plays" if plays else "spotify-api", rows)


_SAVED_KEYS = {"added_at", "added_by", "is_local", "primary_color", "track", "video_thumbnail"}
"""Keys around a song in a list of the Web API."""


def _web_api_songs(pages: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The songs of pages, each with the item of a list around it, which may be the song itself."""
    items: list[Mapping[str, Any]] = [item for page in pages for item in dicts_of(page.get("items"))]
    if not items:
        items = [one for one in pages if isinstance(one.get("track"), dict) and one.keys() <= _SAVED_KEYS]
    saved = [(item, item["track"]) for item in items if isinstance(item.get("track"), dict)]
    return saved or [(item, item) for item in items if item.get("type") == "track"]


def _web_api_row(item: Mapping[str, Any], song: Mapping[str, Any]) -> Row:
    """A row from a song, and from the item of a list around it."""
    artist_ids = [one.get("id") for one in dicts_of(song.get("artists"))]
    return {
        "track_id": song.get("uri") or song.get("id"),
        "name": song.get("name"),
        "artists": artist_names(song.get("artists")),
        "artist_ids": [one for one in artist_ids if isinstance(one, str)] or None,
        "isrc": value_at(song, "external_ids", "isrc"),
        "album_id": value_at(song, "album", "id"),
        "duration_ms": song.get("duration_ms"),
        "explicit": song.get("explicit"),
        "liked_at": item.get("added_at") or item.get("played_at"),
    }


def _spotify_plays(document: Any, where: str) -> Document | None:
    """A streaming history of a Spotify account export under another name."""
    plays = [
        one for one in dicts_of(document) if "ms_played" in one or {"msPlayed", "trackName"} <= one.keys()
    ]
    if not plays:
        return None
    accounts = {one["username"] for one in plays if isinstance(one.get("username"), str)}
    if len(accounts) > 1:
        raise InputError(
            f"{where} has the plays of {len(accounts)} accounts; import each alone, with a --user-id of their"
            " own"
        )
    return document_of("spotify-plays", map(_spotify_play, plays))


def _spotify_play(play: Mapping[str, Any]) -> Row:
    """A row from a play of the extended history, or of the short one. Episodes have ids of their own."""
    return {
        "track_id": play.get("spotify_track_uri") or play.get("spotify_episode_uri"),
        "name": play.get("master_metadata_track_name") or play.get("trackName"),
        "artists": play.get("master_metadata_album_artist_name") or play.get("artistName"),
        "liked_at": play.get("ts") or play.get("endTime"),
        "played_ms": play.get("ms_played", play.get("msPlayed")),
    }


def _spotify_library(document: Any, _where: str) -> Document | None:
    """The library of a Spotify account export under another name."""
    if not isinstance(document, dict) or not {"albums", "shows", "bannedTracks"} & document.keys():
        return None
    songs = dicts_of(document.get("tracks"))
    if not songs or not {"track", "uri"} & songs[0].keys():
        return None
    rows = (
        {
            "track_id": song.get("uri"),
            "name": song.get("track"),
            "artists": song.get("artist"),
            "opinion": opinion,
        }
        for key, opinion in (("tracks", "liked"), ("bannedTracks", "banned"))
        for song in dicts_of(document.get(key))
    )
    return document_of("spotify-export", rows, ("opinion",))


# --- any JSON ----------------------------------------------------------------------------------------------

_RECOGNISERS: tuple[Callable[[Any, str], Document | None], ...] = (
    _mpd, _jspf, _maloja, _lastfmstats, _lastfm, _lastfm_bare, _listens, _listenbrainz_feedback, _subsonic,
    _jellyfin, _youtube_api, _web_api, _youtube_history, _spotify_plays, _apple_library, _spotify_library,
    json_lists.columns, json_lists.seed, json_lists.links, json_lists.records, json_lists.records_by_key,
)  # fmt: skip
"""The first that knows a document reads it: services before general structures."""


def read_json(document: Any, where: str) -> Document:
    """The songs of a JSON document of any known structure. ``where`` names the file in messages. Raises
    InputError for an unknown structure, and for a known one without likes or plays."""
    for recognise in _RECOGNISERS:
        if (found := recognise(document, where)) is not None:
            return found
    if isinstance(document, dict):
        raise InputError(
            f"{where} is JSON of no known service (its keys: {shown(list(document))}); give a list of objects"
            " with track_id, or artist and title, or columns of equal length"
        )
    raise InputError(
        f"{where} is a JSON array of no known kind; give a list of objects with track_id, or artist and title"
    )
