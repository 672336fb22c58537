"""A list of songs as people write it: ids, links, or artist and title, one a line.

Here: what song each line may mean. Not here: finding it in a bundle (`matching`), or lists in files, whose
formats are many (`sources`). The standard library alone.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from tunegraph_pipeline.recommend.matching import Song
from tunegraph_pipeline.song_ids import Kind, isrc_id, read_id, service_of
from tunegraph_pipeline.song_names import CREDIT_MARKS

LONGEST_LINE = 1_000
"""Letters of a line; a longer one names no song."""

_MARK = re.compile(r"^(?:[-*•·–]|#?\d{1,4}[.):]|#\d{1,4})\s+")
_LENGTH = re.compile(r"\s+[(\[]?\d{1,2}:\d{2}[)\]]?$")
_DASH = re.compile(r"\s+[-–—]+\s+|\t+")
_BY = re.compile(r"\s+by\s+", re.IGNORECASE)
_CREDIT = re.compile(CREDIT_MARKS)
_QUOTES = "\"'“”„«»‘’ "
_KINDS: dict[Kind, str] = {
    "episode": "an episode of a podcast, not a song",
    "local file": "a file on somebody's device, which no service knows",
    "artist": "an artist, not a song",
    "album": "an album, not a song",
    "playlist": "a playlist, not a song; give one playlist alone, without other lines",
    "user": "a user, not a song",
    "short link": "a short link, and only the service knows where it leads; open it and copy the address",
    "link": "a link that names no song",
}


class Line(NamedTuple):
    """A line, the songs that it may mean, the likeliest first, and why it means none, "" if it may."""

    given: str
    songs: tuple[Song, ...]
    why: str = ""


class PlaylistLink(NamedTuple):
    """A playlist of a service: its name, as "spotify", and the id of the playlist there."""

    service: str
    id: str


def read_lines(text: str) -> list[Line]:
    """The songs of a text, in order. Lines without a letter or digit are left out.

    >>> read_lines("1. The Lanterns - Blue Harbour")[0].songs[0].in_words()
    'Blue Harbour by The Lanterns'
    """
    lines: list[Line] = []
    for written in text.splitlines():
        given = written.strip()
        if any(map(str.isalnum, given)):
            parts = re.split(r"[\s,;]+", given)
            several = len(parts) > 1 and all(map(_is_id, filter(None, parts)))
            lines += map(_read_line, filter(None, parts)) if several else [_read_line(given)]
    return lines


def playlist_link(text: str) -> PlaylistLink | None:
    """The playlist that a text is the link or URI of; None if it is anything else.

    >>> playlist_link("https://open.spotify.com/playlist/37i9dQZF1DXcBWIGoYBM5M?si=1")
    PlaylistLink(service='spotify', id='37i9dQZF1DXcBWIGoYBM5M')
    """
    link = text.strip().strip("<>")
    if any(map(str.isspace, link)) or len(link) > LONGEST_LINE:
        return None
    found = read_id(link)
    if found.kind != "playlist":
        return None
    if link.lower().startswith("spotify:"):
        return PlaylistLink("spotify", found.id)
    host = urlsplit(link if "//" in link[:8] else f"//{link}").hostname or ""
    service = next((name for part, name in _HOSTS.items() if part in host), host)
    return PlaylistLink(service, found.id.rpartition(":")[2])


def makers(written: Sequence[str]) -> list[str]:
    """All that credits may mean: each as it is, for a band may be called so, and the names in it.

    >>> makers(["Ann & Bo"])
    ['Ann & Bo', 'Ann', 'Bo']
    """
    names = [name for credit in written for name in (credit, *_CREDIT.split(credit))]
    return [name for name in dict.fromkeys(names) if name]


_HOSTS = {
    "spotify": "spotify",
    "apple": "apple",
    "youtu": "youtube",
    "deezer": "deezer",
    "tidal": "tidal",
    "listenbrainz": "listenbrainz",
}


def _is_id(text: str) -> bool:
    found = read_id(text)
    return found.kind == "track" and (service_of(found.id) is not None or isrc_id(text) is not None)


def _read_line(given: str) -> Line:
    if len(given) > LONGEST_LINE:
        return Line(given[:LONGEST_LINE], (), f"a line of more than {LONGEST_LINE:,} letters")
    bare = given.strip(_QUOTES)
    if not any(map(str.isspace, bare)):
        found = read_id(bare)
        if found.kind != "track":
            return Line(given, (), _KINDS[found.kind])
        return Line(given, (Song(found.id, isrc=bare if isrc_id(bare) else ""),))
    plain = _LENGTH.sub("", _MARK.sub("", bare, count=1)).strip(_QUOTES)
    if not any(map(str.isspace, plain)) and _is_id(plain):
        return Line(given, (Song(read_id(plain).id),))
    songs = [Song(bare)]  # a bundle may have ids with blanks
    dashes = list(_DASH.finditer(plain))
    if dashes:
        first, last = dashes[0], dashes[-1]
        songs += [
            _named(given, plain[: first.start()], plain[first.end() :]),
            _named(given, plain[last.end() :], plain[: last.start()]),
        ]
    elif by := list(_BY.finditer(plain)):
        songs.append(_named(given, plain[by[-1].end() :], plain[: by[-1].start()]))
    return Line(given, tuple(songs))


def _named(given: str, artist: str, title: str) -> Song:
    artist, title = artist.strip(_QUOTES), title.strip(_QUOTES)
    return Song(given, name=title, artists=makers([artist]))
