"""Playlists and logs as text: M3U, scrobbler logs, 30Music, and lists of links.

Here: their lines as rows by role. Not here: playlists in JSON or XML (`json_documents`, `xml_documents`), or
tables (`raw_tables`).
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.documents import (
    Document,
    Row,
    dicts_of,
    document_of,
    is_song_link,
    scalar_text,
)

_EXTINF = re.compile(r'(-?[\d.]*)(?:\s+[\w-]+=(?:"[^"]*"|[^\s,]+))*\s*,(.*)')
"""The length, attributes, and the name of a song in an M3U playlist."""


def read_m3u(text: str, where: str) -> Document:
    """The songs of an M3U playlist: links to songs, else the names above each address. Raises InputError if
    it has neither."""
    rows: list[Row] = []
    pair: str | None = None
    length: str | None = None
    for line in map(str.strip, text.splitlines()):
        if line.upper().startswith("#EXTINF:"):
            found = _EXTINF.fullmatch(line[len("#EXTINF:") :].strip())
            length, pair = (found[1], found[2].strip()) if found else (None, None)
        elif line and not line.startswith("#"):
            link = line if is_song_link(line) else None
            rows.append({"track_id": link, "pair": pair, "duration_s": length, "position": len(rows)})
            pair = length = None
    if not any(row["track_id"] or row["pair"] for row in rows):
        raise InputError(
            f"{where} is an M3U playlist of addresses alone; export it with names (#EXTINF), or as XSPF or"
            " CSV"
        )
    return document_of("m3u", rows)


_SCROBBLER_COLUMNS = ("artists", "album", "name", "number", "duration_s", "heard", "liked_at", "track_id")


def read_scrobbler_log(text: str) -> Document:
    """The plays of a scrobbler log; the column ``heard`` says ``listened`` or ``skipped`` (S)."""
    rows: list[Row] = []
    for line in text.splitlines():
        cells = [cell.strip() or None for cell in line.split("\t")]
        if not line.startswith("#") and len(cells) >= 7:
            row = dict.fromkeys(_SCROBBLER_COLUMNS) | dict(zip(_SCROBBLER_COLUMNS, cells, strict=False))
            rows.append(
                {
                    "artists": row["artists"],
                    "name": row["name"],
                    "duration_s": row["duration_s"],
                    "heard": "skipped" if row["heard"] == "S" else "listened",
                    "liked_at": row["liked_at"],
                    "track_id": row["track_id"],
                }
            )
    return document_of("scrobbler-log", rows, ("heard",))


class _IdomaarLine(NamedTuple):
    kind: str
    at: str
    properties: dict[str, Any]
    relations: dict[str, Any]


def read_idomaar(text: str, where: str) -> Document:
    """The plays and preferences of 30Music. Raises InputError if there are none."""
    rows: list[Row] = []
    for line in _idomaar_lines(text):
        user = next(iter(_related(line, "subjects", "user")), None)
        event = str(line.properties.get("value") or line.kind.rpartition(".")[2])
        rows += [
            {"user_id": user, "track_id": track, "liked_at": line.at, "event": event}
            for track in _related(line, "objects", "track")
        ]
    if not rows:
        raise InputError(
            f"{where} is a file of 30Music without events of users; give events.idomaar or love.idomaar"
        )
    return document_of("30music", rows, ("event",))


def _idomaar_lines(text: str) -> Iterator[_IdomaarLine]:
    """The lines of events and preferences; those of other kinds and damaged ones are skipped."""
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
            yield _IdomaarLine(cells[0], cells[2], properties, relations)


def _related(line: _IdomaarLine, key: str, kind: str) -> list[str | None]:
    """The ids of the users or tracks that a line names; None in place of what is no id."""
    return [
        scalar_text(one.get("id")) for one in dicts_of(line.relations.get(key)) if one.get("type") == kind
    ]


def read_links(lines: Sequence[str | None]) -> Document:
    """A list of links, URIs or ISRCs, one a line; None in place of a line that is none of those."""
    return document_of("links", ({"track_id": line} for line in lines))
