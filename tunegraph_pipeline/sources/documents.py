"""Files that are no tables: JSON of services and servers, XML libraries, playlists, and logs.

Here: recognising each by its structure, and its songs as a table with columns named by role. Not here: tables
(`raw_tables`), Spotify's account export (`account_export`), or what rows say (`opinions`).
"""

import json
import plistlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import read_id
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, is_id
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinion_words import SAYS, word_of, words_of
from tunegraph_pipeline.sources.raw_tables import RawTable, table_of_columns, table_of_records

Row = dict[str, Any]


@dataclass
class Document:
    """The songs of a document: its format, a table with columns named by role (or, of a plain ``table``, by
    the file), users whose lists are complete or unknown, and the person it says it is of."""

    format: str
    table: RawTable
    opinions: tuple[str, ...] = ()
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    person: str = ""


def _rows(
    name: str, rows: Iterable[Row], opinions: Sequence[str] = (), person: str = "", **lists: list[str]
) -> Document:
    table = table_of_records(list(rows), "a document")
    return Document(name, table, tuple(one for one in opinions if one in table.names), person=person, **lists)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _at(value: object, *path: str) -> Any:
    """What lies below nested keys; None where there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _names(value: object) -> list[str] | None:
    """The names of artists, given as text, as objects with a name, or as a list of either."""
    entries = value if isinstance(value, list) else [value]
    names = [one if isinstance(one, str) else _at(one, "name") or _at(one, "#text") for one in entries]
    return [name for name in names if isinstance(name, str) and name.strip()] or None


# --- JSON --------------------------------------------------------------------------------------------------


def read_json(document: Any, where: str) -> Document:
    """The songs of a JSON document of any known structure. Raises InputError for another."""
    for recognise in _JSON:
        if (found := recognise(document, where)) is not None:
            return found
    if isinstance(document, dict):
        keys = shown(list(document))
        raise InputError(
            f"{where} is JSON of no known service (its keys: {keys}); give a list of objects with track_id,"
            f" or artist"
            " and title, or columns of equal length"
        )
    raise InputError(
        f"{where} is a JSON array of no known kind; give a list of objects with track_id, or artist and title"
    )


def _mpd(document: Any, where: str) -> Document | None:
    playlists = _at(document, "playlists")
    if not isinstance(playlists, list) or any("playlist" in one for one in _dicts(playlists)):
        return None
    if _dicts(playlists) and all(isinstance(one.get("items"), list) for one in _dicts(playlists)):
        raise InputError(
            f"{where} holds the playlists of a Spotify account export, which are no likes; give the"
            f" export's zip,"
            " or its YourLibrary.json"
        )
    rows: list[Row] = []
    seen = []
    for number, playlist in enumerate(playlists, start=1):
        tracks = playlist.get("tracks") if isinstance(playlist, dict) else None
        if not isinstance(tracks, list) or "pid" not in playlist:
            raise InputError(
                f"{where}: playlist {number} has no pid or no list of tracks; fetch the file again"
            )
        user = str(playlist["pid"])
        seen.append(user)
        for track in tracks:
            known = track if isinstance(track, dict) else {}
            rows.append(
                {"user_id": user} | {role: _text(known.get(key)) for role, key in _MPD_FIELDS.items()}
            )
    return _rows("mpd", rows or [dict.fromkeys(("user_id", *_MPD_FIELDS))], seen_whole=seen)


_MPD_FIELDS = {
    "track_id": "track_uri",
    "name": "track_name",
    "artists": "artist_name",
    "artist_ids": "artist_uri",
    "album_id": "album_uri",
    "duration_ms": "duration_ms",
}


def _text(value: object) -> str | None:
    """A JSON id, name or number as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def _jspf(document: Any, _where: str) -> Document | None:
    lists = [document] if isinstance(document, dict) else _dicts(document)
    lists = [inner for one in lists for inner in (_dicts(one.get("playlists")) or [one])]
    playlists = [one["playlist"] for one in lists if isinstance(one.get("playlist"), dict)]
    playlists = [one for one in playlists if isinstance(one.get("track"), list)]
    if not playlists:
        return None
    extension = "https://musicbrainz.org/doc/jspf#track"
    return _rows(
        "jspf",
        (
            {
                "track_id": next((link for link in _links(track) if is_song_link(link)), None),
                "name": track.get("title"),
                "artists": track.get("creator"),
                "duration_ms": track.get("duration"),
                "liked_at": _at(track, "extension", extension, "added_at"),
            }
            for playlist in playlists
            for track in _dicts(playlist["track"])
        ),
    )


def _links(track: Mapping[str, Any]) -> list[str]:
    links = []
    for key in ("identifier", "location"):
        value = track.get(key)
        links += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return links


def is_song_link(text: str) -> bool:
    """Whether a text is a link or URI of a song of a known service, or of what is no song there; an address
    of a file says nothing."""
    found = read_id(text)
    return found.id != text.strip() or found.kind != "track"


def _scrobbles(document: Any, _where: str) -> Document | None:
    scrobbles = _at(document, "scrobbles")
    if not isinstance(scrobbles, list):
        return None
    if any(isinstance(one.get("track"), dict) for one in _dicts(scrobbles)):
        return _rows(
            "maloja",
            (
                {
                    "name": _at(one, "track", "title"),
                    "artists": _names(_at(one, "track", "artists")),
                    "liked_at": one.get("time"),
                    "duration_s": _at(one, "track", "length"),
                }
                for one in _dicts(scrobbles)
            ),
        )
    rows = (
        {"name": one.get("track"), "artists": one.get("artist"), "liked_at": one.get("date")}
        for one in _dicts(scrobbles)
    )
    return _rows("lastfmstats", rows, person=str(_at(document, "username") or ""))


def _lastfm(document: Any, _where: str) -> Document | None:
    """Answers of the Last.fm API, alone or in pages; lastfm.ghan.nl keeps the pages without their key."""
    for key, name in _LASTFM_LISTS.items():
        pages = [document] if isinstance(document, dict) else _dicts(document)
        found = [one[key] for one in pages if isinstance(one.get(key), dict)]
        if found:
            tracks = [track for page in found for track in _dicts(page.get("track"))]
            return _rows(
                name,
                map(_lastfm_track, filter(_was_played, tracks)),
                person=str(_at(found[0], "@attr", "user") or ""),
            )
    pages = _dicts(document)
    flat = [track for page in pages for track in _dicts(page.get("track"))]
    if isinstance(document, list) and not flat:
        flat = [track for page in document for track in _dicts(page)]
    if not flat or not all("name" in one and "artist" in one for one in flat[:20]):
        return None
    # Plays have the album of the song, and a text below the artist; loved tracks a name.
    plays = any("album" in one or "#text" in (one.get("artist") or {}) for one in flat[:20])
    return _rows("lastfm-plays" if plays else "lastfm-loved", map(_lastfm_track, filter(_was_played, flat)))


_LASTFM_LISTS = {
    "lovedtracks": "lastfm-loved",
    "recenttracks": "lastfm-plays",
    "bannedtracks": "lastfm-banned",
}


def _was_played(track: Mapping[str, Any]) -> bool:
    return bool(_at(track, "@attr", "nowplaying") != "true")


def _lastfm_track(track: Mapping[str, Any]) -> Row:
    return {
        "track_id": track.get("mbid") or None,
        "name": track.get("name"),
        "artists": _names(track.get("artist")),
        "liked_at": _at(track, "date", "uts"),
    }


def _listens(document: Any, _where: str) -> Document | None:
    listens = _at(document, "payload", "listens") or document
    found = [
        one for one in _dicts(listens) if isinstance(one.get("track_metadata"), dict) and "listened_at" in one
    ]
    if not found:
        return None
    people = {str(one["user_name"]) for one in found if one.get("user_name")}
    return _rows(
        "listenbrainz-plays", map(listen_row, found), person=people.pop() if len(people) == 1 else ""
    )


def listen_row(listen: Mapping[str, Any]) -> Row:
    """A line of ListenBrainz as a row."""
    data = listen.get("track_metadata")
    return {
        "track_id": _at(data, "mbid_mapping", "recording_mbid")
        or _at(data, "additional_info", "recording_mbid"),
        "name": _at(data, "track_name"),
        "artists": _at(data, "artist_name"),
        "liked_at": listen.get("listened_at"),
        "recording_msid": listen.get("recording_msid") or _at(data, "recording_msid"),
    }


def _listenbrainz_feedback(document: Any, _where: str) -> Document | None:
    feedback = document if isinstance(document, list) else _at(document, "feedback")
    found = [
        one
        for one in _dicts(feedback)
        if "score" in one and ("recording_mbid" in one or "recording_msid" in one)
    ]
    if not found:
        return None
    people = {str(one["user_id"]) for one in found if one.get("user_id")}
    person = people.pop() if len(people) == 1 else ""
    return _rows("listenbrainz-feedback", map(feedback_row, found), ("score",), person)


def feedback_row(feedback: Mapping[str, Any]) -> Row:
    """A feedback of ListenBrainz as a row."""
    return {
        "track_id": feedback.get("recording_mbid")
        or _at(feedback, "track_metadata", "mbid_mapping", "recording_mbid"),
        "name": _at(feedback, "track_metadata", "track_name"),
        "artists": _at(feedback, "track_metadata", "artist_name"),
        "liked_at": feedback.get("created"),
        "score": feedback.get("score"),
        "recording_msid": feedback.get("recording_msid"),
    }


def _subsonic(document: Any, _where: str) -> Document | None:
    answer = _at(document, "subsonic-response")
    starred = _at(answer, "starred2") or _at(answer, "starred")
    if starred is None:
        return None
    return _rows(
        "subsonic",
        (
            {
                "track_id": song.get("musicBrainzId") or None,
                "name": song.get("title"),
                "artists": song.get("artist") or song.get("displayArtist"),
                "isrc": next(iter(song["isrc"]), None)
                if isinstance(song.get("isrc"), list)
                else song.get("isrc"),
                "liked_at": song.get("starred"),
                "duration_s": song.get("duration"),
            }
            for song in _dicts(_at(starred, "song"))
        ),
    )


def _jellyfin(document: Any, _where: str) -> Document | None:
    items = _at(document, "Items")
    found = [one for one in _dicts(items) if "Name" in one and "Id" in one]
    if not found:
        return None
    songs = [one for one in found if one.get("Type", "Audio") == "Audio"]
    rows = []
    for song in songs:
        ids, data = song.get("ProviderIds"), song.get("UserData")
        likes = _at(data, "Likes")
        rows.append(
            {
                "track_id": _at(ids, "MusicBrainzRecording") or _at(ids, "MusicBrainzTrack"),
                "name": song.get("Name"),
                "artists": _names(song.get("Artists")) or _names(song.get("AlbumArtist")),
                "favourite": "disliked"
                if likes is False
                else "liked"
                if likes or _at(data, "IsFavorite")
                else "none",
            }
        )
    return _rows("jellyfin", rows, ("favourite",))


def _web_api(document: Any, where: str) -> Document | None:
    pages = [document] if isinstance(document, dict) else _dicts(document)
    pages = [one["tracks"] if isinstance(one.get("tracks"), dict) else one for one in pages]
    items = [item for page in pages for item in _dicts(page.get("items"))]
    items = items or [page for page in pages if isinstance(page.get("track"), dict) and page.keys() <= _SAVED]
    songs = [(item, item["track"]) for item in items if isinstance(item.get("track"), dict)]
    songs = songs or [(item, item) for item in items if item.get("type") == "track"]
    if not songs or not any("uri" in song or "artists" in song or "id" in song for _, song in songs[:20]):
        return None
    if any("/search?" in str(page.get("href")) for page in pages):
        raise InputError(
            f"{where} is the answer of a search, which says nothing of liking; give saved tracks"
        )
    return _rows(
        "spotify-plays" if any("played_at" in item for item, _ in songs) else "spotify-api",
        (
            {
                "track_id": song.get("uri") or song.get("id"),
                "name": song.get("name"),
                "artists": _names(song.get("artists")),
                "artist_ids": [
                    one["id"] for one in _dicts(song.get("artists")) if isinstance(one.get("id"), str)
                ]
                or None,
                "isrc": _at(song, "external_ids", "isrc"),
                "album_id": _at(song, "album", "id"),
                "duration_ms": song.get("duration_ms"),
                "explicit": song.get("explicit"),
                "liked_at": item.get("added_at") or item.get("played_at"),
            }
            for item, song in songs
        ),
    )


_SAVED = {"added_at", "added_by", "is_local", "primary_color", "track", "video_thumbnail"}
"""Keys around a song in a list of the Web API."""


def _youtube_api(document: Any, _where: str) -> Document | None:
    """Lists of videos of the Data API, and of songs of ytmusicapi."""
    rows: list[Row] = []
    for item in _dicts(_at(document, "items")):
        kind = str(item.get("kind", ""))
        video = _at(item, "snippet", "resourceId", "videoId") or _at(item, "contentDetails", "videoId")
        if kind.startswith("youtube#"):
            video = video or (item.get("id") if kind == "youtube#video" else None)
            title, by = _at(item, "snippet", "title"), _at(item, "snippet", "videoOwnerChannelTitle")
            topic = str(by or "").endswith(" - Topic")
            rows.append(
                {
                    "service:youtube": video,
                    "name": title if topic else None,
                    "artists": str(by).removesuffix(" - Topic") if topic else None,
                    "liked_at": _at(item, "snippet", "publishedAt"),
                }
            )
    for song in _dicts(_at(document, "tracks")):
        if "videoId" in song:
            rows.append(
                {
                    "service:youtube": song.get("videoId"),
                    "name": song.get("title"),
                    "artists": _names(song.get("artists")),
                    "opinion": song.get("likeStatus"),
                }
            )
    return _rows("youtube-api", rows, ("opinion",)) if rows else None


_NOT_WATCHED = re.compile(r"(Disliked|Liked|Searched for|Visited|Subscribed|Saved|Removed|Added) ")


def _youtube_history(document: Any, where: str) -> Document | None:
    found = [one for one in _dicts(document) if "header" in one and "title" in one]
    if not found:
        return None
    music = [
        one
        for one in found
        if (one.get("header") == "YouTube Music" or "music.youtube.com" in str(one.get("titleUrl")))
        and read_id(str(one.get("titleUrl"))).id.startswith("youtube:")
        and not _NOT_WATCHED.match(str(one.get("title")))
        and not any(
            str(part.get("name", "")).startswith("From Google Ads") for part in _dicts(one.get("details"))
        )
    ]
    if not music:
        raise InputError(f"{where} is a YouTube history without a play of YouTube Music; videos are no songs")
    return _rows(
        "youtube-history",
        (
            {
                "track_id": one.get("titleUrl"),
                "artists": str(_at(next(iter(_dicts(one.get("subtitles"))), {}), "name") or "").removesuffix(
                    " - Topic"
                ),
                "liked_at": one.get("time"),
            }
            for one in music
        ),
    )


def _apple_library(document: Any, _where: str) -> Document | None:
    found = [one for one in _dicts(document) if "Track Identifier" in one and "Title" in one]
    if not found:
        return None
    rows = []
    for one in found:
        opinion = one.get("Track Like Rating")
        if one.get("Favorite Status - Track") is True:
            opinion = "liked"
        rating = one.get("Rating")
        rows.append(
            {
                "service:apple": one.get("Apple Music Track Identifier")
                or one.get("Purchased Track Identifier"),
                "name": one.get("Title"),
                "artists": one.get("Artist") or one.get("Album Artist"),
                "genre": one.get("Genre"),
                "liked_at": one.get("Favorite Date - Track") or one.get("Date Added To Library"),
                "kind": one.get("Content Type"),
                "opinion": opinion,
                "rating": rating or None,
                "plays": one.get("Track Play Count"),
            }
        )
    return _rows("apple-library", rows, ("opinion", "rating"))


def _spotify_plays(document: Any, where: str) -> Document | None:
    """A streaming history of a Spotify account export under another name."""
    plays = [one for one in _dicts(document) if "ms_played" in one or {"msPlayed", "trackName"} <= one.keys()]
    if not plays:
        return None
    if len(accounts := {one["username"] for one in plays if isinstance(one.get("username"), str)}) > 1:
        raise InputError(
            f"{where} has the plays of {len(accounts)} accounts; import each alone, with a --user-id of"
            f" their own"
        )
    return _rows(
        "spotify-plays",
        (
            {
                "track_id": one.get("spotify_track_uri"),
                "name": one.get("master_metadata_track_name") or one.get("trackName"),
                "artists": one.get("master_metadata_album_artist_name") or one.get("artistName"),
                "liked_at": one.get("ts") or one.get("endTime"),
                "played_ms": one.get("ms_played", one.get("msPlayed")),
            }
            for one in plays
            if one.get("spotify_episode_uri") is None
        ),
    )


def _spotify_library(document: Any, _where: str) -> Document | None:
    """The library of a Spotify account export under another name."""
    songs = _dicts(_at(document, "tracks"))
    if not {"albums", "shows", "bannedTracks"} & set(document if isinstance(document, dict) else ()):
        return None
    if not songs or not {"track", "uri"} & songs[0].keys():
        return None
    return _rows(
        "spotify-export",
        (
            {
                "track_id": song.get("uri"),
                "name": song.get("track"),
                "artists": song.get("artist"),
                "opinion": opinion,
            }
            for key, opinion in (("tracks", "liked"), ("bannedTracks", "banned"))
            for song in _dicts(document.get(key))
        ),
        ("opinion",),
    )


def _seed(document: Any, where: str) -> Document | None:
    """{user: [track, ...]}; null for a user whose list is unknown. Lists of words are no ids of tracks."""
    if not isinstance(document, dict) or not document:
        return None
    if not all(value is None or isinstance(value, list) for value in document.values()):
        return None
    lists = {user: tracks for user, tracks in document.items() if tracks is not None}
    tracks = [track for some in lists.values() for track in some]
    if any(not isinstance(track, str | int) or isinstance(track, bool) for track in tracks):
        return None
    if any(_names_a_list(key) or not _may_be_user(key) for key in document):
        return None
    if not all(is_id(str(track).strip()) for track in tracks[:2_000]):
        return None
    failed = [user for user, some in document.items() if some is None]
    rows = [{"user_id": user, "track_id": _text(track)} for user, some in lists.items() for track in some]
    empty: list[Row] = [{"user_id": None, "track_id": None}]
    return _rows("seed", rows or empty, seen_whole=list(lists), failed=failed)


_NO_USERS = {"inferences", "ids", "uris", "values", "entries", "result", "rows"}
"""Keys of single lists that name no user."""


def _may_be_user(key: str) -> bool:
    """Whether a key of JSON may be a user: it is no date and no link of a song."""
    return not re.fullmatch(r"\d{4}-\d\d(-\d\d.*)?", key.strip()) and not is_song_link(key)


_LIST_KEYS = frozenset(
    {
        *(
            "tracks",
            "track",
            "songs",
            "song",
            "items",
            "likes",
            "liked",
            "likedsongs",
            "favorites",
            "favourites",
        ),
        *("library", "playlist", "playlists", "albums", "artists", "data", "results"),
    }
)
"""Keys of JSON that name what is below them, and no user."""


def _columns(document: Any, _where: str) -> Document | None:
    """{column: [cell, ...]} with columns of known names and of one length."""
    if not isinstance(document, dict) or len(document) < 2:
        return None
    names, cells = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(cells, list) and all(isinstance(row, list) for row in cells):
        rows = [dict(zip(map(str, names), row, strict=False)) for row in cells]
        return Document("table", table_of_records(rows, "JSON by columns and data")) if rows else None
    numbered = [value for value in document.values() if isinstance(value, dict)]
    if len(numbered) == len(document) and all(value.keys() == numbered[0].keys() for value in numbered):
        # As pandas writes a table: {column: {number of the row: cell}}.
        document = {name: list(value.values()) for name, value in document.items()}
    if not all(isinstance(value, list) for value in document.values()):
        return None
    lengths = {len(value) for value in document.values()}
    known = {
        name for role in ("user_id", "track_id", "song", "name", "artists") for name in COLUMN_NAMES[role]
    }
    if len(lengths) != 1 or not known & {letters(key) for key in document}:
        return None
    if any(isinstance(cell, dict) for value in document.values() for cell in value):
        return None
    return Document("table", table_of_columns(document, "JSON by columns"))


def _texts(document: Any, _where: str) -> Document | None:
    """A list of links, URIs or ISRCs, perhaps below a key that says what somebody thinks of them."""
    lists = [("", document)] if isinstance(document, list) else []
    if isinstance(document, dict):
        lists = [(key, value) for key, value in document.items() if isinstance(value, list) and value]
    texts = [(key, value) for key, value in lists if all(isinstance(one, str) for one in value)]
    if not texts or any(not is_song_link(one) for _, value in texts for one in value):
        return None
    known = [(key, value) for key, value in texts if not key or _names_a_list(key)]
    if len(known) < len(texts):
        return None
    user = _user_of(document)
    rows = (
        {"track_id": one, "opinion": _opinion_of(key)} | ({"user_id": user} if user else {})
        for key, value in texts
        for one in value
    )
    return _rows("links", rows, ("opinion",))


def _user_of(document: object) -> str | None:
    """The user that an object names."""
    if not isinstance(document, dict):
        return None
    names = [value for key, value in document.items() if letters(key) in COLUMN_NAMES["user_id"]]
    return next((name for name in names if isinstance(name, str)), None)


def _opinion_of(key: str) -> str:
    """What a key says of the songs below it; a plain name of a list says that they are liked."""
    return next((word for word in [word_of(key), *words_of(key)] if word in SAYS), "liked")


def _names_a_list(key: str) -> bool:
    """Whether a key names a list, or what somebody thinks of one, and no user."""
    return any(
        word in SAYS or word in _LIST_KEYS or word in _NO_USERS for word in [word_of(key), *words_of(key)]
    )


_NO_SONGS = frozenset(
    {
        *(
            "album",
            "albums",
            "artist",
            "artists",
            "playlist",
            "playlists",
            "show",
            "shows",
            "episode",
            "episodes",
        ),
        *(
            "podcast",
            "podcasts",
            "genre",
            "genres",
            "user",
            "users",
            "follower",
            "followers",
            "bannedartists",
        ),
    }
)
"""Words of keys whose lists hold no songs."""
_NO_OPINIONS = frozenset(
    {
        *(
            "recommendations",
            "recommended",
            "related",
            "similar",
            "top",
            "chart",
            "charts",
            "trending",
            "releases",
        ),
        *("search", "history", "queue", "inferences"),
    }
)
"""Words of keys whose lists say nothing of what somebody likes."""


def _records(document: Any, where: str) -> Document | None:
    """A list of objects, perhaps below one key, each perhaps with its song below a key of its own."""
    if isinstance(document, list):
        records = _dicts(document)
        return (
            Document("table", table_of_records([_flat(one) for one in records], "JSON objects"))
            if records
            else None
        )
    if not isinstance(document, dict):
        return None
    lists = {key: _dicts(value) for key, value in document.items() if _dicts(value)}
    songs = {
        key: value for key, value in lists.items() if _NO_SONGS.isdisjoint([letters(key), *words_of(key)])
    }
    if not songs:
        return None
    told = {key: value for key, value in songs.items() if any(word in SAYS for word in words_of(key))}
    songs = told or songs
    if not told and any(not _NO_OPINIONS.isdisjoint(words_of(key)) for key in songs):
        raise InputError(
            f"{where} has a list of {shown(list(songs))}, which says nothing of liking; give what somebody"
            f" likes"
        )
    if len(songs) == 1:
        [(key, records)] = songs.items()
        beside = {"opinion": _opinion_of(key)} if told else {}
        user = _user_of(document)
        beside |= {"user_id": user} if user else {}
        return Document("table", table_of_records([_flat(one) | beside for one in records], "JSON objects"))
    if not all(any(word in SAYS for word in [word_of(key), *words_of(key)]) for key in songs):
        raise InputError(
            f"{where} has several lists ({shown(list(songs))}); give each in a file of its own, or one list"
            f" whose"
            " objects say the user"
        )
    rows = [_flat(one) | {"opinion": _opinion_of(key)} for key, records in songs.items() for one in records]
    return Document("table", table_of_records(rows, "JSON objects"))


def _flat(record: Mapping[str, Any]) -> Row:
    """An object with the fields of its song beside its own, and artists as names."""
    row: Row = {}
    for key, value in record.items():
        if isinstance(value, dict) and letters(key) in {"track", "song", "item"}:
            row |= _flat(value)
        elif letters(key) in {"artist", "artists"} and isinstance(value, dict | list):
            row[key] = _names(value)
        elif letters(key) in COLUMN_NAMES["user_id"] and isinstance(value, dict):
            row[key] = next(
                (value[name] for name in ("id", "user_id", "name", "username") if name in value), None
            )
        elif letters(key) == "externalids":
            row["isrc"] = _at(value, "isrc")
        else:
            row[key] = value
    return row


_JSON: tuple[Callable[[Any, str], Document | None], ...] = (
    _mpd, _jspf, _scrobbles, _lastfm, _listens, _listenbrainz_feedback, _subsonic, _jellyfin,
    _youtube_api, _web_api, _youtube_history, _spotify_plays, _apple_library, _spotify_library,
    _columns, _seed, _texts, _records,
)  # fmt: skip


# --- XML ---------------------------------------------------------------------------------------------------


def read_xml(data: bytes, where: str) -> Document:
    """The songs of an iTunes library, an XSPF playlist, a Rhythmbox library, or an answer of Last.fm or a
    Subsonic server. Raises InputError for another document, or a damaged one."""
    import xml.etree.ElementTree as Tree

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if b"<!DOCTYPE plist" in data[:1024] or b"<plist" in data[:1024]:
        return read_plist(data, where)
    try:
        # The text is UTF-8 by now, whatever its declaration says.
        root = fromstring(re.sub(rb"^\s*<\?xml[^>]*\?>", b"", data))
    except Tree.ParseError as error:
        if b"<html" in data[:2048].lower() or b"<!doctype html" in data[:2048].lower():
            raise InputError(_HTML.format(where=where)) from error
        raise InputError(f"{where} is damaged or truncated XML ({error}); export it again") from error
    except DefusedXmlException as error:
        raise InputError(f"{where} is XML with entities, which are not read; export it again") from error
    tag = _tag(root)
    if tag == "html":
        raise InputError(_HTML.format(where=where))
    reader = _XML.get(tag)
    if reader is None:
        raise InputError(
            f"{where} is XML of no known kind (<{tag}>); known are iTunes libraries, XSPF playlists,"
            f" Rhythmbox"
            " libraries, and answers of Last.fm and Subsonic servers"
        )
    try:
        return reader(root)
    except InputError as error:
        raise InputError(f"{where} is {error}; give one with the songs that somebody likes") from error


_HTML = (
    "{where} is HTML or XML of no known kind: a page, no list of likes; export it as JSON or CSV (for"
    " YouTube, choose"
    " JSON in Takeout)"
)


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _child(element: Any, name: str) -> str | None:
    for one in element:
        if _tag(one) == name:
            return (one.text or "").strip() or None
    return None


def _xspf(root: Any) -> Document:
    rows = []
    for track in root.iter():
        if _tag(track) == "track":
            links = [(one.text or "").strip() for one in track if _tag(one) in {"identifier", "location"}]
            rows.append(
                {
                    "track_id": next((link for link in links if is_song_link(link)), None),
                    "name": _child(track, "title"),
                    "artists": _child(track, "creator"),
                    "duration_ms": _child(track, "duration"),
                }
            )
    return _rows("xspf", rows)


def _rhythmbox(root: Any) -> Document:
    return _rows(
        "rhythmbox",
        (
            {
                "track_id": _child(entry, "mb-trackid"),
                "name": _child(entry, "title"),
                "artists": _child(entry, "artist"),
                "rating": _child(entry, "rating"),
                "plays": _child(entry, "play-count"),
                "duration_s": _child(entry, "duration"),
            }
            for entry in root
            if _tag(entry) == "entry" and entry.get("type") == "song"
        ),
        ("rating",),
    )


def _lastfm_xml(root: Any) -> Document:
    found = next((one for one in root.iter() if _tag(one) in _LASTFM_LISTS), None)
    rows = []
    for track in () if found is None else found.iter():
        if _tag(track) != "track" or track.get("nowplaying") == "true":
            continue
        artist = next((one for one in track if _tag(one) == "artist"), None)
        date = next((one for one in track if _tag(one) == "date"), None)
        rows.append(
            {
                "track_id": _child(track, "mbid"),
                "name": _child(track, "name"),
                "artists": None
                if artist is None
                else _child(artist, "name") or (artist.text or "").strip() or None,
                "liked_at": None if date is None else date.get("uts"),
            }
        )
    if found is None:
        raise InputError("an answer of Last.fm without loved, recent or banned tracks")
    return _rows(_LASTFM_LISTS[_tag(found)], rows, person=found.get("user") or "")


def _subsonic_xml(root: Any) -> Document:
    starred = next((one for one in root.iter() if _tag(one) in {"starred", "starred2"}), None)
    if starred is None:
        raise InputError("an answer of a Subsonic server without starred songs")
    songs = [one for one in starred if _tag(one) == "song"]
    return _rows(
        "subsonic",
        (
            {
                "track_id": song.get("musicBrainzId"),
                "name": song.get("title"),
                "artists": song.get("artist"),
                "liked_at": song.get("starred"),
            }
            for song in songs
        ),
    )


_XML: dict[str, Callable[[Any], Document]] = {
    "playlist": _xspf,
    "rhythmdb": _rhythmbox,
    "lfm": _lastfm_xml,
    "lovedtracks": _lastfm_xml,
    "recenttracks": _lastfm_xml,
    "bannedtracks": _lastfm_xml,
    "subsonic-response": _subsonic_xml,
}


def read_plist(data: bytes, where: str) -> Document:
    """The songs of an iTunes library as XML or binary plist. Podcasts, films and radio are left out."""
    try:
        # plistlib refuses entities itself.
        library = plistlib.loads(data)
    except Exception as error:  # it raises errors of many kinds for damage
        raise InputError(f"{where} is a damaged or truncated plist; export the library again") from error
    tracks = _at(library, "Tracks")
    if not isinstance(tracks, dict):
        raise InputError(
            f"{where} is a plist without Tracks; export the library with File, Library, Export Library"
        )
    rows = []
    for track in tracks.values():
        if not isinstance(track, dict):
            continue
        spoken = [kind for kind in ("Podcast", "Movie", "TV Show", "Audiobook") if track.get(kind) is True]
        opinion = "disliked" if track.get("Disliked") is True else "none"
        if track.get("Loved") is True or track.get("Favorited") is True:
            opinion = "loved"
        rows.append(
            {
                "name": track.get("Name"),
                "artists": track.get("Artist") or track.get("Album Artist"),
                "genre": track.get("Genre"),
                "duration_ms": track.get("Total Time"),
                "liked_at": str(track["Date Added"]) if track.get("Date Added") else None,
                "kind": "movie" if spoken else "song",
                "opinion": opinion,
                "rating": None if track.get("Rating Computed") is True else track.get("Rating") or None,
                "plays": track.get("Play Count"),
            }
        )
    return _rows("itunes-xml", rows, ("opinion", "rating"))


# --- playlists and logs ------------------------------------------------------------------------------------


_EXTINF = re.compile(r'(-?[\d.]*)(?:\s+[\w-]+=(?:"[^"]*"|[^\s,]+))*\s*,(.*)')
"""The length, attributes, and the name of a song in an M3U playlist."""


def read_m3u(text: str, where: str) -> Document:
    """The songs of an M3U playlist: links to songs, else the names above each address."""
    rows: list[Row] = []
    pair: str | None = None
    length: str | None = None
    for line in map(str.strip, text.splitlines()):
        if line.upper().startswith("#EXTINF:"):
            found = _EXTINF.fullmatch(line[len("#EXTINF:") :].strip())
            length, pair = (found[1], found[2].strip()) if found else (None, None)
        elif line and not line.startswith("#"):
            rows.append(
                {"track_id": line if is_song_link(line) else None, "pair": pair, "duration_s": length}
            )
            pair = length = None
    if not any(row["track_id"] or row["pair"] for row in rows):
        raise InputError(
            f"{where} is an M3U playlist of addresses alone; export it with names (#EXTINF), or as XSPF or"
            f" CSV"
        )
    return _rows("m3u", rows)


def read_scrobbler_log(text: str) -> Document:
    """The plays of a scrobbler log; skipped songs (S) say nothing."""
    names = ("artists", "album", "name", "number", "duration_s", "heard", "liked_at", "track_id")
    rows = []
    for line in text.splitlines():
        cells = line.split("\t")
        if not line.startswith("#") and len(cells) >= 7:
            row: Row = dict(zip(names, (cell.strip() or None for cell in cells), strict=False))
            rows.append({**row, "heard": "skipped" if row["heard"] == "S" else "listened"})
    kept = [
        {key: row.get(key) for key in ("artists", "name", "duration_s", "heard", "liked_at", "track_id")}
        for row in rows
    ]
    return _rows("scrobbler-log", kept, ("heard",))


class _Idomaar(NamedTuple):
    kind: str
    at: str
    properties: dict[str, Any]
    relations: dict[str, Any]


def read_idomaar(text: str, where: str) -> Document:
    """The plays and preferences of 30Music. Raises InputError where there are none."""
    rows: list[Row] = []
    for line in _idomaar_lines(text):
        user = next(
            (one.get("id") for one in _dicts(line.relations.get("subjects")) if one.get("type") == "user"),
            None,
        )
        tracks = [
            one.get("id") for one in _dicts(line.relations.get("objects")) if one.get("type") == "track"
        ]
        said = str(line.properties.get("value") or line.kind.rpartition(".")[2])
        rows += [
            {"user_id": _text(user), "track_id": _text(track), "liked_at": line.at, "event": said}
            for track in tracks
        ]
    if not rows:
        raise InputError(
            f"{where} is a file of 30Music without events of users; give events.idomaar or love.idomaar"
        )
    return _rows("30music", rows, ("event",))


def _idomaar_lines(text: str) -> Iterator[_Idomaar]:
    decoder = json.JSONDecoder()
    for line in text.splitlines():
        cells = line.split("\t", 3)
        if len(cells) < 4 or not re.match(r"event\.|preference", cells[0]):
            continue
        try:
            properties, end = decoder.raw_decode(cells[3])
            relations, _ = decoder.raw_decode(cells[3][end:].lstrip())
        except (ValueError, RecursionError):
            continue
        if isinstance(properties, dict) and isinstance(relations, dict):
            yield _Idomaar(cells[0], cells[2], properties, relations)


def read_links(lines: Sequence[str]) -> Document:
    """A list of links, URIs or ISRCs, one a line."""
    return _rows("links", ({"track_id": line} for line in lines))
