"""XML and plist: iTunes libraries, XSPF, Rhythmbox, and answers of Last.fm and Subsonic servers.

Here: recognising each by its root element, and its songs as rows by role. Not here: the same services' JSON
(`json_documents`), or spreadsheets (`raw_tables`).
"""

import plistlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import ExpatError, ParserCreate

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.documents import (
    LASTFM_LISTS,
    Document,
    Row,
    document_of,
    first_song_link,
    value_at,
)
from tunegraph_pipeline.sources.limits import beyond, check_document, limits


def _tag(element: Any) -> str:
    """The name of an element in lower case, without its namespace."""
    return str(element.tag).rpartition("}")[2].lower()


def _child(element: Any, name: str) -> Any:
    """The first child of that name; None without one."""
    return next((one for one in element if _tag(one) == name), None)


def _text(element: Any) -> str | None:
    """The text of an element; None if it is blank or there is no element."""
    return None if element is None else (element.text or "").strip() or None


def _child_text(element: Any, name: str) -> str | None:
    return _text(_child(element, name))


def _xspf(root: Any) -> Document:
    tracks = (one for one in root.iter() if _tag(one) == "track")
    return document_of("xspf", [_xspf_row(one, place) for place, one in enumerate(tracks)])


def _xspf_row(track: Any, place: int) -> Row:
    links = [_text(one) or "" for one in track if _tag(one) in {"identifier", "location"}]
    return {
        "track_id": first_song_link(links),
        "name": _child_text(track, "title"),
        "artists": _child_text(track, "creator"),
        "duration_ms": _child_text(track, "duration"),
        "position": place,
    }


def _rhythmbox(root: Any) -> Document:
    return document_of(
        "rhythmbox",
        (
            {
                "track_id": _child_text(entry, "mb-trackid"),
                "name": _child_text(entry, "title"),
                "artists": _child_text(entry, "artist"),
                "rating": _child_text(entry, "rating"),
                "plays": _child_text(entry, "play-count"),
                "duration_s": _child_text(entry, "duration"),
            }
            for entry in root
            if _tag(entry) == "entry" and entry.get("type") == "song"
        ),
        ("rating",),
    )


def _lastfm(root: Any) -> Document:
    found = next((one for one in root.iter() if _tag(one) in LASTFM_LISTS), None)
    if found is None:
        raise InputError("an answer of Last.fm without loved, recent or banned tracks")
    tracks = [one for one in found.iter() if _tag(one) == "track" and one.get("nowplaying") != "true"]
    return document_of(LASTFM_LISTS[_tag(found)], map(_lastfm_row, tracks), person=found.get("user") or "")


def _lastfm_row(track: Any) -> Row:
    artist, date = _child(track, "artist"), _child(track, "date")
    return {
        "track_id": _child_text(track, "mbid"),
        "name": _child_text(track, "name"),
        # Loved tracks have an artist with a name, plays the name alone.
        "artists": None if artist is None else _child_text(artist, "name") or _text(artist),
        "liked_at": None if date is None else date.get("uts"),
    }


def _subsonic(root: Any) -> Document:
    starred = next((one for one in root.iter() if _tag(one) in {"starred", "starred2"}), None)
    if starred is None:
        raise InputError("an answer of a Subsonic server without starred songs")
    return document_of(
        "subsonic",
        (
            {
                "track_id": song.get("musicBrainzId"),
                "name": song.get("title"),
                "artists": song.get("artist"),
                "liked_at": song.get("starred"),
            }
            for song in starred
            if _tag(song) == "song"
        ),
    )


_READERS: dict[str, Callable[[Any], Document]] = {
    "playlist": _xspf,
    "rhythmdb": _rhythmbox,
    "lfm": _lastfm,
    "lovedtracks": _lastfm,
    "recenttracks": _lastfm,
    "bannedtracks": _lastfm,
    "subsonic-response": _subsonic,
}
"""By the tag of the root element. A reader raises InputError that continues ``FILE is``."""

_HTML = (
    "{where} is HTML or XML of no known kind: a page, no list of likes; export it as JSON or CSV (for"
    " YouTube, choose JSON in Takeout)"
)


def read_xml(data: bytes, where: str) -> Document:
    """The songs of an iTunes library, an XSPF playlist, a Rhythmbox library, or an answer of Last.fm or a
    Subsonic server. ``data`` is UTF-8, whatever its declaration says. Raises InputError for another document,
    or a damaged one."""
    if b"<!DOCTYPE plist" in data[:1024] or b"<plist" in data[:1024]:
        return read_plist(data, where)
    check_document(data, where, b"<", b"=")
    data = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", data)
    _check_depth(data, where)
    try:
        root = fromstring(data)
    except ParseError as error:
        start = data[:2048].lower()
        if b"<html" in start or b"<!doctype html" in start:
            raise InputError(_HTML.format(where=where)) from error
        raise InputError(f"{where} is damaged or truncated XML ({error}); export it again") from error
    except DefusedXmlException as error:
        raise InputError(f"{where} is XML with entities, which are not read; export it again") from error
    tag = _tag(root)
    if tag == "html":
        raise InputError(_HTML.format(where=where))
    reader = _READERS.get(tag)
    if reader is None:
        raise InputError(
            f"{where} is XML of no known kind (<{tag}>); known are iTunes libraries, XSPF playlists,"
            " Rhythmbox libraries, and answers of Last.fm and Subsonic servers"
        )
    try:
        return reader(root)
    except InputError as error:
        raise InputError(f"{where} is {error}; give one with the songs that somebody likes") from error


def _check_depth(data: bytes, where: str) -> None:
    """Raise InputError for XML that nests too deep. Damage, and entities, are for the parser to refuse."""
    deepest, depth = limits().levels, 0

    def begin(_tag: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > deepest:
            raise beyond(where, "levels", "levels")

    def end(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    def stop(*_: object) -> None:
        raise ExpatError

    parser = ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = begin, end, stop
    with suppress(ExpatError):
        parser.Parse(data, True)


def read_plist(data: bytes, where: str) -> Document:
    """The songs of an iTunes library as XML or binary plist. The column ``kind`` tells songs from podcasts,
    films and audiobooks. Raises InputError for another plist, or a damaged one."""
    if not data.startswith(b"bplist00"):
        check_document(data, where, b"<")
    try:
        library = plistlib.loads(data)  # it refuses entities itself
    except Exception as error:  # it raises errors of many kinds for damage
        raise InputError(f"{where} is a damaged or truncated plist; export the library again") from error
    tracks = value_at(library, "Tracks")
    if not isinstance(tracks, dict):
        raise InputError(
            f"{where} is a plist without Tracks; export the library with File, Library, Export Library"
        )
    rows = [_itunes_row(track) for track in tracks.values() if isinstance(track, dict)]
    return document_of("itunes-xml", rows, ("opinion", "rating"))


_NO_SONGS = ("Podcast", "Movie", "TV Show", "Audiobook")


def _itunes_row(track: Mapping[str, Any]) -> Row:
    added = track.get("Date Added")
    return {
        "name": track.get("Name"),
        "artists": track.get("Artist") or track.get("Album Artist"),
        "genre": track.get("Genre"),
        "duration_ms": track.get("Total Time"),
        "liked_at": str(added) if added else None,
        "kind": "movie" if any(track.get(kind) is True for kind in _NO_SONGS) else "song",
        "opinion": _itunes_opinion(track),
        # A computed rating is the album's.
        "rating": None if track.get("Rating Computed") is True else track.get("Rating") or None,
        "plays": track.get("Play Count"),
    }


def _itunes_opinion(track: Mapping[str, Any]) -> str:
    if track.get("Loved") is True or track.get("Favorited") is True:
        return "loved"
    return "disliked" if track.get("Disliked") is True else "none"
