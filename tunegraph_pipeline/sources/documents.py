"""What all readers of documents share: songs as a table whose columns are named by role.

Here: `Document`, how rows become one, values of JSON, and which text links to a song. Not here: the readers
(`json_documents`, `json_lists`, `xml_documents`, `playlists`), tables (`raw_tables`), Spotify's account
export (`account_export`), or what rows say (`opinions`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunegraph_pipeline.song_ids import read_id
from tunegraph_pipeline.sources.raw_tables import RawTable, table_of_records

Row = dict[str, Any]

LASTFM_LISTS = {
    "lovedtracks": "lastfm-loved",
    "recenttracks": "lastfm-plays",
    "bannedtracks": "lastfm-banned",
}
"""Keys of JSON and tags of XML around the lists of Last.fm, with the format that each is."""


@dataclass
class Document:
    """The songs of a document.

    Columns of ``table`` are named by role, or as the file names them where ``format`` is ``table``. Those in
    ``opinions`` say what somebody thinks of the song. ``seen_whole`` are users whose lists are complete,
    ``failed`` users whose lists are unknown; ``person`` is whom the document says it is of, ``""`` if nobody.
    """

    format: str
    table: RawTable
    opinions: tuple[str, ...] = ()
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    person: str = ""


def document_of(
    name: str, rows: Iterable[Row], opinions: Sequence[str] = (), person: str = "", **lists: list[str]
) -> Document:
    """A document of the format ``name`` from rows by role. Of ``opinions``, those columns count that some row
    has; ``lists`` are ``seen_whole`` and ``failed``."""
    table = table_of_records(list(rows), "a document")
    return Document(name, table, tuple(one for one in opinions if one in table.names), person=person, **lists)


def dicts_of(value: object) -> list[dict[str, Any]]:
    """The objects in a list of JSON; none if the value is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def pages_of(document: object) -> list[dict[str, Any]]:
    """The answers in a file that holds one or a list of them."""
    return [document] if isinstance(document, dict) else dicts_of(document)


def value_at(value: object, *path: str) -> Any:
    """The value below nested keys; None if there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def artist_names(value: object) -> list[str] | None:
    """The names of artists, as text, as objects with a name, or as a list of either; None without one."""
    entries = value if isinstance(value, list) else [value]
    names = [
        one if isinstance(one, str) else value_at(one, "name") or value_at(one, "#text") for one in entries
    ]
    return [name for name in names if isinstance(name, str) and name.strip()] or None


def scalar_text(value: object) -> str | None:
    """A JSON id, name or number as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def is_song_link(text: str) -> bool:
    """Whether a text is a link or URI of a known service, be it of a song, an album or anything else there.
    The address of a file is none."""
    found = read_id(text)
    return found.id != text.strip() or found.kind != "track"


def first_song_link(texts: Iterable[str]) -> str | None:
    """The first text that `is_song_link` accepts; None without one."""
    return next(filter(is_song_link, texts), None)
