"""What the columns of a table mean, by their names and, where a name is unclear, by their cells.

Here: the known names in every language (`column_names.json`), headers, and the roles of a table's columns.
Not here: cutting a file into columns (`raw_tables`), what rows say (`opinions`), or cleaning cells (`cells`).
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.song_ids import read_id
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinion_words import is_understood, words_of, words_say_opinions
from tunegraph_pipeline.sources.raw_tables import RawTable

_NAMES = json.loads(files(__package__).joinpath("column_names.json").read_bytes())

COLUMN_NAMES: dict[str, Sequence[str]] = {**_NAMES["roles"], **{name: (name,) for name in AUDIO_FEATURES}}
"""Role of a column -> its names, the most specific first. Only letters and digits count, in lower case:
``User ID``, ``user_id`` and ``userId`` are the same. ``song`` and ``id`` hold ids or titles, or the number of
the row. ``duration`` is in milliseconds if its median is over 10,000, else in seconds."""

_SERVICE_COLUMNS: dict[str, Sequence[str]] = _NAMES["services"]
"""Service -> the names of columns with its own ids, which `song_ids` gives its prefix."""

TRACK_FIELDS = (
    "isrc", "name", "artists", "artist_ids", "album_id", "genre", "image_url", "preview_url",
    "duration_ms", "duration_s", "duration", "explicit", "album", "year",
)  # fmt: skip
"""Roles that describe a track."""

_HEADER_ROLES = ("user_id", "track_id", "song", "name", "artists", "isrc")
_OF_HEADERS = {
    *(name for role in _HEADER_ROLES for name in COLUMN_NAMES[role]),
    *(name for names in _SERVICE_COLUMNS.values() for name in names),
    *_NAMES["headers"],
}
PLAYLISTS = frozenset({"playlistid", "pid", "playlisturi", "playlist"})
"""Names of columns of users that hold playlists. In a file of one person all of them are that person's."""

_OPTIONS = {"user_id": "--user-column", "track_id": "--track-column", "liked_at": "--time-column"}
_ROLES = [role for role in COLUMN_NAMES if role not in {"song", "id", "opinion", "type", "time_of_day"}]

_LISTS_OF_SONGS = {"tracks", "songs", "items", "likes", "liked", "likedsongs", "likedtracks", "favorites"}
_HASH = re.compile(r"[0-9A-Za-z+/=_-]{16,}")
_NO_ID = re.compile(
    r"\d{4}-\d\d-\d\d(T.*)?|\d{4}/\d\d?/\d\d?|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d\d(:\d\d)?"
    r"|-?\d*[.,]\d+([eE][+-]?\d+)?|-\d+"
)
"""Dates, times of day, fractions and negative numbers."""
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d(:\d\d)?( ?[AaPp][Mm])?")


def count_known(cells: Iterable[str], named: Collection[str]) -> int:
    """How many of ``cells`` are known names of columns of users, songs, artists or titles, or are in
    ``named``; 0 for a row that is no header."""
    options = {letters(name) for name in named if not name.isdigit()}
    known = [letters(cell.partition(":")[0]) for cell in cells]
    return sum(bool(name) and (name in _OF_HEADERS or name in options) for name in known)


def is_id(text: str) -> bool:
    """Whether a text may be an id where no header says so.

    Whole numbers, UUIDs, hashes, codes with a digit, URIs and links may be. Words, dates, times and fractions
    may not.
    """
    if re.search(r"\s", text) or _NO_ID.fullmatch(text):
        return False
    return any(letter.isdigit() for letter in text) or bool(_HASH.fullmatch(text)) or read_id(text).id != text


@dataclass
class Columns:
    """The columns of a table by role.

    ``roles`` maps roles to columns and ``services`` services to the columns of their ids. ``opinions`` are
    the columns in which users say what they think. ``kinds`` tells songs from albums and artists.
    """

    roles: dict[str, str] = field(default_factory=dict)
    opinions: list[str] = field(default_factory=list)
    services: dict[str, str] = field(default_factory=dict)
    kinds: str | None = None

    def __contains__(self, role: str) -> bool:
        return role in self.roles

    def used(self) -> list[str]:
        """Every column that is read, once."""
        kinds = [] if self.kinds is None else [self.kinds]
        return [*dict.fromkeys([*self.roles.values(), *self.opinions, *self.services.values(), *kinds])]


def recognise(table: RawTable, named: Mapping[str, str], where: str, ignored: Sequence[str] = ()) -> Columns:
    """The columns of ``table`` by role: first those in ``named`` (role -> column), then by their names.

    Columns in ``ignored`` get no role; without a header, only those in ``named`` do. Raises InputError if an
    option names a column that does not exist, or two options name one.
    """
    ignored = [find_column(table.names, name, "--ignore-column", where) for name in ignored]
    found = Columns(_named_roles(table, named, ignored, where))
    if not table.header:
        return found
    free: dict[str, str] = {}
    for name in table.names:
        if name not in ignored and name not in found.roles.values():
            free.setdefault(letters(name), name)
    for role in _ROLES:
        if role not in found.roles and (column := _first_of(COLUMN_NAMES[role], free)) is not None:
            found.roles[role] = free.pop(letters(column))
    if "track_id" not in found.roles and (column := _list_of_songs(table, free)) is not None:
        found.roles["track_id"] = free.pop(letters(column))
    for service, names in _SERVICE_COLUMNS.items():
        if (column := _first_of(names, free)) is not None:
            found.services[service] = column
    _settle_playlists(table, found, free)
    _settle_songs(table, found, free, track_named="track_id" in named)
    _settle_times(table, found, free)
    _settle_opinions(table, found, free)
    return found


def _named_roles(
    table: RawTable, named: Mapping[str, str], ignored: Sequence[str], where: str
) -> dict[str, str]:
    """The roles that options give."""
    roles: dict[str, str] = {}
    for role, name in named.items():
        column = find_column(table.names, name, _OPTIONS[role], where)
        if column in roles.values() or column in ignored:
            raise InputError(f"{where}: column {column} is named by two options; name each column once")
        roles[role] = column
    return roles


def _first_of(names: Iterable[str], free: Mapping[str, str]) -> str | None:
    """The column of the first of ``names`` that is free."""
    return next((free[name] for name in names if name in free), None)


def _list_of_songs(table: RawTable, free: Mapping[str, str]) -> str | None:
    """The first column whose cells are lists, with a name such as "tracks"."""
    lists = (name for name in free.values() if isinstance(table.sample.schema[name], pl.List))
    return next((name for name in lists if letters(name) in _LISTS_OF_SONGS), None)


_OPINION_WORDS = re.compile(
    r"(?:^|_)(?:(?:dis)?lik(?:e|ed|ing)|lov(?:e|ed)|hated?|bann?(?:ed)?|rat(?:e|ed)|(?:my|user|star|track)?ratings?"
    r"|scored?|grade|fav)(?:$|_)"
    r"|(?:^|_)vote|stars?(?:$|_)|thumb|feedback|preference|reaction|opinion|favou?rite"
    r"|wertung|puntuaci|valuta|valoraci|評価"
)
"""Words in the name of a column that holds somebody's opinion."""
_OF_OTHERS = re.compile(
    r"(?:^|_)(?:avg|average|mean|total|count|counts|num|number|n|votes|votecount|computed|popularity"
    r"|global|public|critics?|helpful|album|artist|label|spotify|lastfm|youtube|deezer"
    r"|at|date|time|on|by|url|link|id|ids|uri|text|review|skip|heart|bit|sample|frame|speech)(?:$|_)"
)
"""Words in the name of a column that holds other people's opinions, or facts about an opinion."""
_OF_SONGS = re.compile(
    r"album|release|playlist|genre|mood|comment|label|title|name|artist|tag|note|text|description|language|country"
    r"|lyric|speech|group|work|composer|category|style"
)
"""Words in the name of a column that describes songs, so that the words in it are no opinions."""
_FLAGS = {"0", "1", "-1"}


def _settle_opinions(table: RawTable, found: Columns, free: dict[str, str]) -> None:
    """Find the columns in which rows say what they think, and the one of kinds."""
    found.opinions = [
        free.pop(name)
        for name in COLUMN_NAMES["opinion"]
        if name in free and (name != "label" or _is_target(table, free[name]))
    ]
    kinds = _first_of(COLUMN_NAMES["type"], free)
    if kinds is not None and words_say_opinions(table.sample_of(kinds)):
        found.opinions.append(free.pop(letters(kinds)))
        kinds = None
    found.kinds = kinds
    found.opinions += [column for column in free.values() if column != kinds and _has_opinions(table, column)]


def _is_target(table: RawTable, column: str) -> bool:
    """Whether a column ``label`` holds what a model learns to predict, rather than record companies."""
    return set(table.sample_of(column)) <= {*_FLAGS, "0.0", "1.0", "-1.0"}


def _has_opinions(table: RawTable, column: str) -> bool:
    """Whether a column of an unknown name holds opinions: by words in its name, or by cells that are all
    words of opinion."""
    cells = table.sample_of(column)
    name = "_".join(words_of(column))
    of_others = _OF_OTHERS.search(name) and not re.search(r"num_stars?$", name)
    if _OPINION_WORDS.search(name) and not of_others:
        return True
    if letters(column) == "likes" and set(cells) <= _FLAGS:
        return True
    if not cells:
        return False
    if letters(column) in {"note", "status", "response"} and is_understood(cells):
        return True
    return not _OF_SONGS.search(name) and words_say_opinions(cells)


def find_column(names: Sequence[str], wanted: str, option: str, where: str) -> str:
    """The column that an option names, by its exact name or else by its letters. Raises InputError if there
    is none."""
    same = [name for name in names if name == wanted] or [
        name for name in names if letters(name) == letters(wanted)
    ]
    if not same:
        raise InputError(f"{where} has no column {wanted!r}; {option} can be one of: {shown(names)}")
    return same[0]


def _settle_playlists(table: RawTable, found: Columns, free: dict[str, str]) -> None:
    """Keep a column of playlists as users only if it holds ids: named playlists are one person's."""
    column = found.roles.get("user_id")
    if column is None or letters(column) != "playlist" or all(map(is_id, table.sample_of(column))):
        return
    del found.roles["user_id"]
    free[letters(column)] = column


def _settle_songs(table: RawTable, found: Columns, free: dict[str, str], *, track_named: bool) -> None:
    """Decide whether ``track``, ``song`` and ``id`` hold ids or titles, or number the rows."""
    roles = found.roles
    for name in COLUMN_NAMES["song"]:
        if (column := free.get(name)) is None:
            continue
        cells = table.sample_of(column)
        titles = any(" " in cell and read_id(cell).id == cell for cell in cells)
        if not titles and "track_id" not in roles and not _names_songs(found, cells):
            roles["track_id"] = column
        elif not track_named and ("name" not in roles or letters(roles["name"]) in {"name", "id"}):
            roles["name"] = column
        else:
            continue
        del free[name]
    column = free.get("id")
    if column is not None and "track_id" not in roles and not counts_up(table.sample_of(column)):
        roles["track_id"] = column
        del free["id"]


def _names_songs(found: Columns, cells: Sequence[str]) -> bool:
    """Whether a column ``song`` is a title: an artist is beside it, and its cells are not all ids."""
    untitled = "name" not in found or letters(found.roles["name"]) == "name"
    return "artists" in found and untitled and not (cells and all(map(_is_long_id, cells)))


def _is_long_id(text: str) -> bool:
    """Whether a text is surely an id: a hash, a UUID, a URI or a link. "1999" may be a title."""
    return (
        bool(_HASH.fullmatch(text) and any(letter.isdigit() for letter in text)) or read_id(text).id != text
    )


def counts_up(cells: Sequence[str]) -> bool:
    """Whether cells number the rows of a table, from 0 or 1."""
    if len(cells) < 2 or not all(cell.isdigit() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers[0] in {0, 1} and all(b - a == 1 for a, b in pairwise(numbers))


def _settle_times(table: RawTable, found: Columns, free: dict[str, str]) -> None:
    """Take a date and a time of day in two columns for one time."""
    time, date = found.roles.get("liked_at"), free.get("date")
    if time is None or date is None or letters(time) != "time":
        return
    if all(_TIME_OF_DAY.fullmatch(cell) for cell in table.sample_of(time)):
        found.roles |= {"liked_at": date, "time_of_day": time}
        del free["date"]
