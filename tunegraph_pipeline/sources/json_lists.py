"""JSON of no particular service: records, columns, lists of tracks by user, and lists of links.

Here: recognising each by its keys and values, and what a key says of the list below it. Not here: the JSON of
services (`json_documents`), tables in text or parquet (`raw_tables`), or the words of opinions
(`opinion_words`).

Each recogniser takes a document and the name of its file, and gives None for a document of another structure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, is_id
from tunegraph_pipeline.sources.documents import (
    Document,
    Row,
    artist_names,
    dicts_of,
    document_of,
    is_song_link,
    scalar_text,
    value_at,
)
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinion_words import SAYS, word_of, words_of
from tunegraph_pipeline.sources.raw_tables import table_of_columns, table_of_records

# --- what keys say -----------------------------------------------------------------------------------------

_LIST_WORDS = frozenset({
    "tracks", "track", "songs", "song", "items", "likes", "liked", "likedsongs", "favorites", "favourites",
    "library", "playlist", "playlists", "albums", "artists", "data", "results", "inferences", "ids", "uris",
    "values", "entries", "result", "rows",
})  # fmt: skip
"""Words of keys that name the list below them, and no user."""

_NO_SONG_WORDS = frozenset({
    "album", "albums", "artist", "artists", "playlist", "playlists", "show", "shows", "episode", "episodes",
    "podcast", "podcasts", "genre", "genres", "user", "users", "follower", "followers", "bannedartists",
})  # fmt: skip
"""Words of keys whose lists hold no songs."""

_NO_OPINION_WORDS = frozenset({
    "recommendations", "recommended", "related", "similar", "top", "chart", "charts", "trending", "releases",
    "search", "history", "queue", "inferences",
})  # fmt: skip
"""Words of keys whose lists say nothing of what somebody likes."""


def _key_words(key: str) -> list[str]:
    """A key as one word, and its words."""
    return [word_of(key), *words_of(key)]


def _opinion_of(key: str) -> str:
    """What a key says of the songs below it; one without an opinion says that they are liked."""
    return next((word for word in _key_words(key) if word in SAYS), "liked")


def _names_a_list(key: str) -> bool:
    """Whether a key names a list, or what somebody thinks of one, and no user."""
    return any(word in SAYS or word in _LIST_WORDS for word in _key_words(key))


def _may_be_user(key: str) -> bool:
    """Whether a key may be a user: it is no date, no link, and not the name of a list."""
    is_date = re.fullmatch(r"\d{4}-\d\d(-\d\d.*)?", key.strip()) is not None
    return not (is_date or is_song_link(key) or _names_a_list(key))


def _user_of(document: object) -> Row:
    """The user that an object names, as the column ``user_id``; no column without one."""
    if not isinstance(document, dict):
        return {}
    values = [value for key, value in document.items() if letters(key) in COLUMN_NAMES["user_id"]]
    user = next((value for value in values if isinstance(value, str)), None)
    return {"user_id": user} if user else {}


# --- lists of tracks and links -----------------------------------------------------------------------------

_CHECKED_IDS = 2_000
"""So many ids of a seed are checked for being ids."""


def seed(document: Any, _where: str) -> Document | None:
    """{user: [track, ...]}; null for a user whose list is unknown. Lists of words are no ids of tracks."""
    if not isinstance(document, dict) or not document:
        return None
    lists = {user: tracks for user, tracks in document.items() if isinstance(tracks, list)}
    failed = [user for user, tracks in document.items() if tracks is None]
    if len(lists) + len(failed) < len(document):
        return None
    if not _are_ids([track for tracks in lists.values() for track in tracks]):
        return None
    if not all(map(_may_be_user, document)):
        return None
    rows: list[Row] = [
        {"user_id": user, "track_id": scalar_text(track)}
        for user, tracks in lists.items()
        for track in tracks
    ]
    return document_of(
        "seed", rows or [{"user_id": None, "track_id": None}], seen_whole=list(lists), failed=failed
    )


def _are_ids(tracks: Sequence[object]) -> bool:
    """Whether all entries are text or whole numbers, and the first ones look like ids."""
    if any(not isinstance(track, str | int) or isinstance(track, bool) for track in tracks):
        return False
    return all(is_id(str(track).strip()) for track in tracks[:_CHECKED_IDS])


def links(document: Any, _where: str) -> Document | None:
    """A list of links, URIs or ISRCs, perhaps below a key that says what somebody thinks of them."""
    texts = {
        key: entries
        for key, entries in _lists_by_key(document).items()
        if all(isinstance(one, str) for one in entries)
    }
    if not texts or not all(is_song_link(one) for entries in texts.values() for one in entries):
        return None
    if any(key and not _names_a_list(key) for key in texts):
        return None
    user = _user_of(document)
    rows = (
        {"track_id": one, "opinion": _opinion_of(key)} | user
        for key, entries in texts.items()
        for one in entries
    )
    return document_of("links", rows, ("opinion",))


def _lists_by_key(document: object) -> dict[str, list[Any]]:
    """The lists of an object that are not empty, by their keys; a bare list has the key ``""``."""
    if isinstance(document, list):
        return {"": document}
    if isinstance(document, dict):
        return {key: value for key, value in document.items() if isinstance(value, list) and value}
    return {}


# --- tables ------------------------------------------------------------------------------------------------


def columns(document: Any, _where: str) -> Document | None:
    """A table by columns: {column: [cell, ...]} with known names, or either form that pandas writes, {column:
    {row: cell}} and {"columns": [...], "data": [[cell, ...], ...]}."""
    if not isinstance(document, dict) or len(document) < 2:
        return None
    rows = _split_rows(document)
    if rows is not None:
        return Document("table", table_of_records(rows, "JSON by columns and data")) if rows else None
    by_name = _without_row_numbers(document)
    return Document("table", table_of_columns(by_name, "JSON by columns")) if _are_columns(by_name) else None


def _split_rows(document: Mapping[str, Any]) -> list[Row] | None:
    """The rows of {"columns": [...], "data": [[cell, ...], ...]}; None for anything else."""
    names, cells = document.get("columns"), document.get("data")
    if not isinstance(names, list) or not isinstance(cells, list):
        return None
    if not all(isinstance(row, list) for row in cells):
        return None
    return [dict(zip(map(str, names), row, strict=False)) for row in cells]


def _without_row_numbers(document: dict[str, Any]) -> dict[str, Any]:
    """{column: {number of the row: cell}} as {column: [cell, ...]}; anything else as it is."""
    numbered = [value for value in document.values() if isinstance(value, dict)]
    if len(numbered) < len(document) or any(value.keys() != numbered[0].keys() for value in numbered):
        return document
    return {name: list(value.values()) for name, value in document.items()}


def _are_columns(document: Mapping[str, Any]) -> bool:
    """Whether all values are lists of one length and hold no objects, and a key names songs or users."""
    if not all(isinstance(value, list) for value in document.values()):
        return False
    if len({len(value) for value in document.values()}) != 1:
        return False
    roles = ("user_id", "track_id", "song", "name", "artists")
    known = {name for role in roles for name in COLUMN_NAMES[role]}
    if known.isdisjoint(map(letters, document)):
        return False
    return not any(isinstance(cell, dict) for value in document.values() for cell in value)


def records(document: Any, _where: str) -> Document | None:
    """A list of objects, each perhaps with its song below a key of its own."""
    found = dicts_of(document)
    return (
        Document("table", table_of_records([_flat(one) for one in found], "JSON objects")) if found else None
    )


def records_by_key(document: Any, where: str) -> Document | None:
    """Lists of objects below keys: a single one of songs, or several whose keys say what somebody thinks.
    Raises InputError for a list that says nothing of liking, and for several that say too little."""
    songs = _lists_of_songs(document)
    if not songs:
        return None
    stated = {key: found for key, found in songs.items() if not SAYS.keys().isdisjoint(words_of(key))}
    if not stated and any(not _NO_OPINION_WORDS.isdisjoint(words_of(key)) for key in songs):
        raise InputError(
            f"{where} has a list of {shown(list(songs))}, which says nothing of liking; give what somebody"
            " likes"
        )
    songs = stated or songs
    if len(songs) == 1:
        [(key, found)] = songs.items()
        beside = ({"opinion": _opinion_of(key)} if stated else {}) | _user_of(document)
        rows = [_flat(one) | beside for one in found]
    elif all(not SAYS.keys().isdisjoint(_key_words(key)) for key in songs):
        rows = [_flat(one) | {"opinion": _opinion_of(key)} for key, found in songs.items() for one in found]
    else:
        raise InputError(
            f"{where} has several lists ({shown(list(songs))}); give each in a file of its own, or one list"
            " whose objects say the user"
        )
    return Document("table", table_of_records(rows, "JSON objects"))


def _lists_of_songs(document: object) -> dict[str, list[Row]]:
    """The lists of objects in an object, by their keys, without those of artists, albums and the like."""
    if not isinstance(document, dict):
        return {}
    lists = {key: dicts_of(value) for key, value in document.items()}
    return {
        key: found for key, found in lists.items() if found and _NO_SONG_WORDS.isdisjoint(_key_words(key))
    }


_USER_FIELDS = ("id", "user_id", "name", "username")


def _flat(record: Mapping[str, Any]) -> Row:
    """An object with the fields of its song beside its own, artists as names, and users as ids."""
    row: Row = {}
    for key, value in record.items():
        name = letters(key)
        if isinstance(value, dict) and name in {"track", "song", "item"}:
            row |= _flat(value)
        elif name in {"artist", "artists"} and isinstance(value, dict | list):
            row[key] = artist_names(value)
        elif name in COLUMN_NAMES["user_id"] and isinstance(value, dict):
            row[key] = next((value[one] for one in _USER_FIELDS if one in value), None)
        elif name == "externalids":
            row["isrc"] = value_at(value, "isrc")
        else:
            row[key] = value
    return row
