"""Find the format of a table by its columns, its cells, and the name of its file.

Here: when a declared format fits, the general formats, and tables that say of no like. Not here: the declared
formats (`formats`), what columns mean by their names (`columns`), or documents (`documents`).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.columns import Columns
from tunegraph_pipeline.sources.formats import BY_NAME, FORMATS, Format
from tunegraph_pipeline.sources.names import letters
from tunegraph_pipeline.sources.raw_tables import RawTable

_SHARE_OF_ROWS = 0.9
"""A table without a header has a format if so many rows of its sample match."""


@dataclass(frozen=True)
class NoLikes:
    """A table that people have and that says of no like.

    It has all ``columns`` (letters, with blanks between them) and, where those are not enough, a name of the
    file that matches ``file``. ``what`` and ``instead`` are for the message: what it is, and what to give.
    """

    columns: str
    what: str
    instead: str
    file: str = ""

    def fits(self, names: Collection[str], file_name: str) -> bool:
        """Whether a file of this name, with columns of these names (by their letters), is this table."""
        named = not self.file or re.search(self.file, file_name, re.IGNORECASE)
        return bool(named) and set(self.columns.split()) <= set(names)


_LATER = (
    r"watch[ _-]?later|später ansehen|à regarder plus tard|ver más tarde|assistir mais tarde|guarda più tardi"
)
NO_LIKES: tuple[NoLikes, ...] = (
    NoLikes("videoid", "the list to watch later", "give Liked videos.csv", _LATER),
    NoLikes("commentid videoid", "a table of comments", "give Liked videos.csv"),
    NoLikes("playlistid playlisttitleoriginal", "the index of playlists", "give the file of a playlist"),
    NoLikes("albumuri albumname savedat", "a table of saved albums", "export a playlist or the liked songs"),
    NoLikes("artist name scrobbles rank", "a table of albums", "export lastfmstats-NAME.csv", "album"),
    NoLikes("id name url pictureurl", "a table of artists", "give user_artists.dat"),
    NoLikes("recordingmsid blurbcontent", "a list of pinned recordings", "give feedback.jsonl, or the zip"),
    NoLikes("name tracks scrobbles rank", "a table of artists", "export lastfmstats-NAME.csv"),
    NoLikes(
        "position trackname artistname streams", "a chart, which is nobody's list", "give a list of likes"
    ),
    NoLikes("rank trackname artistnames streams", "a chart, which is nobody's list", "give a list of likes"),
)


def fits(one: Format, table: RawTable, file_name: str | None) -> bool:
    """Whether a table has the format ``one``; without a file name, whether its columns do."""
    names = {letters(name) for name in table.names}
    start = rf"(?:^|[^a-z])(?:{one.file})"
    named = not one.file or file_name is None or re.search(start, file_name, re.IGNORECASE)
    if not named and (not one.without or one.without in names):
        return False
    if table.header:
        return any(set(entry.split()) <= names for entry in one.columns)
    return len(table.names) == len(one.cells) > 0 and _cells_match(one, table)


def _cells_match(one: Format, table: RawTable) -> bool:
    rows = table.sample.rows()
    patterns = [re.compile(cell) for cell in one.cells]
    matched = sum(
        all(pattern.fullmatch(cell or "") for pattern, cell in zip(patterns, row, strict=True))
        for row in rows
    )
    return matched >= _SHARE_OF_ROWS * len(rows) > 0


def format_of(table: RawTable, columns: Columns, file_name: str) -> Format | None:
    """The format of a table with these columns; None if nothing says what its rows are."""
    for one in FORMATS:
        if (one.columns or one.cells) and fits(one, table, file_name):
            return one
    if "user_id" in columns:
        return BY_NAME["table"]
    if not table.header:
        return None
    if "youtube" in columns.services:
        return BY_NAME["youtube-takeout"]
    if _is_exportify(table, columns):
        return BY_NAME["exportify"]
    if _is_list(table, columns):
        return BY_NAME["list"]
    return BY_NAME["catalogue"] if "track_id" in columns or columns.services else None


def _is_exportify(table: RawTable, columns: Columns) -> bool:
    if not {"track_id", "name", "artists", "liked_at"} <= columns.roles.keys():
        return False
    tracks = columns.roles["track_id"]
    return letters(tracks) in {"trackuri", "spotifyuri", "spotifyid"} or any(
        cell.startswith("spotify:track:") for cell in table.sample_of(tracks)
    )


def _is_list(table: RawTable, columns: Columns) -> bool:
    """Whether a table without users is one person's list, rather than a catalogue.

    A list says what somebody thinks of the songs, how often they were played or when they were added, or it
    knows them by links or by their names alone.
    """
    if columns.opinions or "rating" in columns or columns.kinds is not None or "plays" in columns:
        return True
    if {"name", "artists"} <= columns.roles.keys() and "track_id" not in columns:
        return True
    if "liked_at" in columns and ("track_id" in columns or columns.services):
        return True
    return _has_links_alone(table, columns)


def _has_links_alone(table: RawTable, columns: Columns) -> bool:
    """Whether songs are known by links or URIs, without audio features."""
    if "track_id" not in columns or not columns.roles.keys().isdisjoint(AUDIO_FEATURES):
        return False
    cells = table.sample_of(columns.roles["track_id"])
    return bool(cells) and all(":" in cell for cell in cells)


def unused(table: RawTable, columns: Columns) -> Sequence[str]:
    """The columns of a table that decide nothing; none for a table without a header."""
    if not table.header:
        return []
    used = set(columns.used())
    return [name for name in table.names if name not in used and not name.startswith("(blank ")]
