"""The id of a song, cleaned: one id for every way in which people and services write it.

Here: ids of Spotify, MusicBrainz, Apple Music, YouTube, Deezer, Tidal and ISRC as URIs, links and plain text,
and the id of a song that is known by its names alone. Not here: which column of a file holds ids (`sources`),
finding an id in a bundle (`recommend.bundle`), or which ids are of one recording (`graph.recordings`). The
standard library alone: a query cleans its ids too.

Ids of Spotify and MusicBrainz are kept bare, as lakes hold them: ``4uLU6hMCjMI75M1A2tKUQC``, and a UUID in
lower case. Those of the other services are numbers or short codes that could be anybody's, and get a prefix:
``apple:182889262``, ``youtube:dQw4w9WgXcQ``, ``deezer:3135556``, ``tidal:77646169``, ``isrc:GBAYE0601498``.
The id of a song that is known by its names alone is ``name:`` and its key (`name_key`). All else stays as it
was written, in one Unicode form (`ids.composed`).
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tunegraph_pipeline.ids import composed

Kind = Literal["track", "episode", "local file", "artist", "album", "playlist", "user", "short link", "link"]
"""What an id or a link is of. A short link names nothing: only the service knows where it leads. Any other
"link" is one of a known service that names no track."""

NAME_PREFIX = "name:"
"""What the id of a song begins with that is known by its names alone."""

_SPOTIFY_KINDS: dict[str, Kind] = {
    "track": "track",
    "episode": "episode",
    "show": "episode",
    "local": "local file",
    "artist": "artist",
    "album": "album",
    "playlist": "playlist",
    "user": "user",
}
MBID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
"""A pattern of any library: an id of MusicBrainz, in lower case as lakes hold it."""
_UUID = re.compile(MBID, re.IGNORECASE)
_ISRC = re.compile(r"[A-Z]{2}-?[A-Z0-9]{3}-?[0-9]{2}-?[0-9]{5}", re.IGNORECASE)
APOSTROPHES = "'\u2019\u2018\u02bc`"
SERVICES = ("spotify", "apple", "youtube", "deezer", "tidal", "musicbrainz")
"""The services whose ids lead to a page about a song."""
_PAGES = {
    "spotify": "https://open.spotify.com/track/",
    "apple": "https://music.apple.com/song/",
    "youtube": "https://music.youtube.com/watch?v=",
    "deezer": "https://www.deezer.com/track/",
    "tidal": "https://tidal.com/track/",
    "musicbrainz": "https://musicbrainz.org/recording/",
}
"""What the address of a page begins with; the id in the service follows."""
_PREFIXED = re.compile(r"(apple|youtube|deezer|tidal):[A-Za-z0-9_-]+")
KANA_MARKS = "\u3099\u309a"  # they make another letter, and no accent
_CODE = re.compile(r"[\w.-]+")
_VIDEO = re.compile(r"[\w-]{11}")
_SHORT_HOSTS = (
    *("spotify.link", "spoti.fi", "spotify.app.link", "link.tospotify.com"),
    *("link.deezer.com", "deezer.page.link", "dzr.page.link"),
)
_LINK = re.compile(r"(?:https?:)?//|[\w.-]+\.(?:com|org|be|link|fi)/", re.IGNORECASE)


class SongId(NamedTuple):
    """A cleaned id, and what it is of. ``id`` of what is no track is that thing's own id."""

    id: str
    kind: Kind


def read_id(written: str) -> SongId:
    """What a text from a column of ids, a request or a command names; it is a track unless it says otherwise.

    >>> read_id("https://open.spotify.com/intl-de/track/4uLU6hMCjMI75M1A2tKUQC?si=1")
    SongId(id='4uLU6hMCjMI75M1A2tKUQC', kind='track')
    >>> read_id("spotify:episode:512ojhOuo1ktJprKbVcKyQ").kind
    'episode'
    """
    text = composed(written).strip().removeprefix("<").removesuffix(">")
    scheme, colon, rest = text.partition(":")
    if rest.startswith("//") and scheme.lower() == "spotify":
        rest = rest[2:].replace("/", ":")
    if colon and (reader := _BY_SCHEME.get(scheme.lower())) is not None:
        return reader(rest) or SongId(text, "track")
    if _LINK.match(text):
        return _read_link(text) or SongId(text, "track")
    return SongId(text.lower() if _UUID.fullmatch(text) else text, "track")


def clean_id(written: str) -> str:
    """The id that `read_id` finds, whatever it is of."""
    return read_id(written).id


def service_of(track_id: str) -> str | None:
    """The service that an id, as lakes hold it, is of: one of `SERVICES`, None for any other id.

    >>> service_of("4uLU6hMCjMI75M1A2tKUQC"), service_of("name:the lanterns/blue harbour")
    ('spotify', None)
    """
    # By length first: this is asked of many ids in every query.
    length = len(track_id)
    if length == 22 and track_id.isascii() and track_id.isalnum():
        return "spotify"
    if length == 36 and _UUID.fullmatch(track_id):
        return "musicbrainz"
    found = _PREFIXED.fullmatch(track_id)
    return None if found is None else found[1]


def page_of(track_id: str, service: str) -> str:
    """The address of the page about a song in ``service``, of which its id is."""
    own = track_id if service in {"spotify", "musicbrainz"} else track_id.partition(":")[2]
    return _PAGES[service] + own


def apple_id(number: str) -> str:
    """The id of a song of Apple Music, by its number in the store."""
    return f"apple:{number.strip()}"


def youtube_id(video: str) -> str:
    """The id of a song of YouTube or YouTube Music, by its video."""
    return f"youtube:{video.strip()}"


def isrc_id(code: str) -> str | None:
    """The id of a recording by its ISRC, with or without hyphens; None if that is none."""
    text = code.strip()
    return f"isrc:{text.replace('-', '').upper()}" if _ISRC.fullmatch(text) else None


def name_id(artist: str | None, title: str | None) -> str | None:
    """The id of a song that is known by artist and title; None without both, for a title alone is no song.

    >>> name_id("The Lanterns", "Blue Harbour")
    'name:the lanterns/blue harbour'
    """
    if artist is None or title is None:
        return None
    by, called = name_key(artist), name_key(title)
    return f"{NAME_PREFIX}{by}/{called}" if by and called else None


def name_key(name: str) -> str:
    """A name as names are compared: letters and digits of any script in lower case, without accents and
    apostrophes, one blank between words. A name without any, such as "!!!", is its own key.

    What is in brackets or after a dash belongs to the key: a live take is another recording.
    """
    plain = name.lower() if name.isascii() else unicodedata.normalize("NFKD", name).casefold()
    return composed(" ".join(plain.translate(LETTERS).split()) or "".join(plain.split()))


class _Letters(dict[int, str]):
    """What becomes of each character of a name in lower case; a key is the number of the character."""

    def __missing__(self, number: int) -> str:
        letter = chr(number)
        if letter.isalnum() or letter in KANA_MARKS:
            kept = letter
        else:
            kept = "" if unicodedata.combining(letter) or letter in APOSTROPHES else " "
        self[number] = kept
        return kept


LETTERS = _Letters()
"""For `str.translate`: letters and digits of a decomposed name stay, accents go, all else parts words."""


def _read_spotify(rest: str) -> SongId | None:
    # spotify:track:ID, and once spotify:user:NAME:playlist:ID; the last part that says what it is counts.
    parts = rest.split(":")
    if parts[0].lower() == "local":
        return SongId(f"spotify:{rest}", "local file")
    for place in range(len(parts) - 2, -1, -1):
        kind = _SPOTIFY_KINDS.get(parts[place].lower())
        if kind is not None and (found := _CODE.match(parts[place + 1].strip())):
            return SongId(found[0], kind)
    return SongId(f"spotify:{rest}", "link") if parts[0].lower() in _SPOTIFY_OTHERS else None


_SPOTIFY_OTHERS = {"ad", "app", "collection", "genre", "search", "station", "internal"}


def _numbered(service: str) -> Callable[[str], SongId | None]:
    def read(rest: str) -> SongId | None:
        of, _, number = rest.rpartition(":")
        found = _CODE.fullmatch(number.strip()) if of.lower() in {"", "track", "song"} else None
        return SongId(f"{service}:{found[0]}", "track") if found else None

    return read


def _read_isrc(rest: str) -> SongId | None:
    found = isrc_id(rest)
    return None if found is None else SongId(found, "track")


def _read_musicbrainz(rest: str) -> SongId | None:
    found = _UUID.fullmatch(rest.rpartition(":")[2].strip())
    return None if found is None else SongId(found[0].lower(), "track")


_BY_SCHEME: dict[str, Callable[[str], SongId | None]] = {
    "spotify": _read_spotify,
    "apple": _numbered("apple"),
    "deezer": _numbered("deezer"),
    "tidal": _numbered("tidal"),
    "youtube": _numbered("youtube"),
    "isrc": _read_isrc,
    "mbid": _read_musicbrainz,
    "musicbrainz": _read_musicbrainz,
}


def _read_link(text: str) -> SongId | None:
    try:
        address = urlsplit(text if "//" in text[:8] else f"//{text}")
        host = (address.hostname or "").removeprefix("www.")
    except ValueError:
        return None
    if host in _SHORT_HOSTS:
        return SongId(text, "short link")
    reader = _BY_HOST.get(host)
    if reader is None:
        return None
    parts = [unquote(part) for part in address.path.split("/") if part]
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    return reader(parts, asked) or SongId(text, "link")


def _read_spotify_link(parts: list[str], asked: dict[str, str]) -> SongId | None:
    if "highlight" in asked:  # an album's address that points at one of its songs
        return read_id(asked["highlight"])
    if parts[:1] == ["v1"]:  # the Web API
        parts = [part.removesuffix("s") for part in parts[1:2]] + parts[2:]
    return _read_spotify(":".join(part for part in parts if part != "embed" and not part.startswith("intl-")))


def _read_short_youtube(parts: list[str], _asked: dict[str, str]) -> SongId | None:
    return _video(parts[0]) if parts else None


def _read_youtube(parts: list[str], asked: dict[str, str]) -> SongId | None:
    if len(parts) > 1 and parts[0] in {"embed", "shorts", "v", "live"}:
        return _video(parts[1])
    if "v" in asked:
        return _video(asked["v"])
    return SongId(asked["list"], "playlist") if "list" in asked else None


def _video(code: str) -> SongId | None:
    return SongId(youtube_id(code), "track") if _VIDEO.fullmatch(code) else None


def _read_apple(parts: list[str], asked: dict[str, str]) -> SongId | None:
    # /us/album/NAME/ALBUM?i=SONG or /us/song/NAME/SONG; the name may be missing.
    number = parts[-1].removeprefix("id").strip() if parts else ""
    if "i" in asked and asked["i"].isdigit():
        return SongId(apple_id(asked["i"]), "track")
    for word, kind in (("song", "track"), ("album", "album"), ("artist", "artist"), ("playlist", "playlist")):
        if word in parts:
            return SongId(apple_id(number), kind)  # type: ignore[arg-type]
    return None


def _numbered_link(service: str) -> Callable[[list[str], dict[str, str]], SongId | None]:
    def read(parts: list[str], _asked: dict[str, str]) -> SongId | None:
        named = [part.removesuffix("s") for part in parts]
        for word in ("track", "album", "artist", "playlist"):
            if word in named[:-1]:
                found = _CODE.match(parts[named.index(word) + 1])
                return SongId(f"{service}:{found[0]}", word) if found else None
        return None

    return read


def _read_musicbrainz_link(parts: list[str], _asked: dict[str, str]) -> SongId | None:
    kinds: dict[str, Kind] = {
        "recording": "track",
        "track": "track",
        "artist": "artist",
        "release": "album",
        "playlist": "playlist",
    }
    if len(parts) > 1 and parts[0] in kinds and _UUID.fullmatch(parts[1]):
        return SongId(parts[1].lower(), kinds[parts[0]])
    return None


_BY_HOST: dict[str, Callable[[list[str], dict[str, str]], SongId | None]] = {
    **dict.fromkeys(("open.spotify.com", "play.spotify.com", "api.spotify.com"), _read_spotify_link),
    **dict.fromkeys(
        ("youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com"), _read_youtube
    ),
    "youtu.be": _read_short_youtube,
    **dict.fromkeys(
        ("music.apple.com", "geo.music.apple.com", "embed.music.apple.com", "itunes.apple.com"), _read_apple
    ),
    **dict.fromkeys(("deezer.com", "widget.deezer.com"), _numbered_link("deezer")),
    **dict.fromkeys(("tidal.com", "listen.tidal.com", "embed.tidal.com"), _numbered_link("tidal")),
    **dict.fromkeys(("musicbrainz.org", "beta.musicbrainz.org", "listenbrainz.org"), _read_musicbrainz_link),
}
