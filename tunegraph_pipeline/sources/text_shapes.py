"""Read text line by line: what shape it has, and the songs in it.

Here: a single column of links or ids, lines of a user and their items, and which reader a table gets. Not
here: cutting text into columns (`delimited_text`), or tables (`table_reading`, `headerless_tables`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import isrc_id
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, Columns, is_id
from tunegraph_pipeline.sources.delimited_text import Cut, as_plain_rows, find_cut, sample_lines, text_table
from tunegraph_pipeline.sources.documents import is_song_link
from tunegraph_pipeline.sources.formats import BY_NAME
from tunegraph_pipeline.sources.headerless_tables import (
    ROW_NUMBERS,
    header_of_links,
    known_by_cells,
    not_users,
    read_headerless,
)
from tunegraph_pipeline.sources.limits import check_document, check_lines
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.playlists import read_links
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows import Table
from tunegraph_pipeline.sources.rows_by_role import read_by_role, read_document
from tunegraph_pipeline.sources.table_reading import read_table

_SEPARATORS = ("\t", ";", "|", ",", " ")
_LINK_HEADERS = {
    "uri", "url", "link", "links", "track", "trackid", "trackuri", "spotifyuri", "spotifyid", "spotifyurl",
    "song", "id", "songurl", "songlink", "isrc", "youtubeurl", "tracks", "songs",
}  # fmt: skip
_TRACK_HEADERS = {*COLUMN_NAMES["track_id"], *COLUMN_NAMES["song"]}
_SPOTIFY_ID = re.compile(r"[0-9A-Za-z]{22}")


def read_lines(data: bytes, name: str, where: str, given: Given) -> Reading:
    """The songs of a text that is no document; ``name`` is that of the file.

    Raises InputError if it has no known shape, or not the format that --format names.
    """
    check_lines(data, where)
    lines = [line.strip() for line in sample_lines(data) if line.strip()]
    if not lines:
        raise InputError(f"{where} begins with nothing but blanks; give a file with at least one row")
    data = as_plain_rows(data)
    if b"::" in data[:4096] and b"\t" not in data[:4096]:
        data = data.replace(b"::", b"\t")
    if (links := _column_of_links(data, where)) is not None:
        return _read_links(links, where, given)
    if not given.named and (known := known_by_cells(data, where, name)) is not None:
        cut, found = known
        given.check_format(found, where)
        table = text_table(data, where, cut, literal=found.literal)
        return read_by_role(table, found, Columns(dict(found.roles)), name, where, given)
    if (table_cut := _find_cut(data, given)) is not None:
        return _read_cut(data, table_cut, lines, name, where, given)
    if (ids := _column_of_ids(data, lines, where, given)) is not None:
        return _read_links(ids, where, given)
    return _read_adjacency(data, lines, where, given)


def _find_cut(data: bytes, given: Given) -> Cut | None:
    """How to cut a text into a table; None if it is rather lines of a user and their items."""
    if given.format == "adjacency":
        return None
    separators = ("\t",) if given.format == "tsv" else _SEPARATORS
    cut = find_cut(data, set(given.named.values()), separators)
    words = cut is not None and cut.separator == " " and not cut.header
    return None if cut is None or (words and len(cut.names) > 3) else cut


def _read_cut(data: bytes, cut: Cut, lines: list[str], name: str, where: str, given: Given) -> Reading:
    """The table that ``cut`` makes of a text."""
    given.check_container("tsv" if cut.separator == "\t" else "csv", where)
    table = text_table(data, where, cut)
    if cut.header:
        if cut.skipped:
            table.shape += f", {cut.skipped} lines above the header skipped"
        return read_table(table, name, where, given)
    if given.named:
        return read_headerless(table, name, where, given)
    if cut.separator == " " and not all(is_id(word) for line in lines for word in line.split()[:2]):
        raise _no_table(where, lines)
    if (headed := header_of_links(table, cut)) is not None:
        return read_table(text_table(data, where, headed), name, where, given)
    return read_headerless(table, name, where, given)


def _no_table(where: str, lines: list[str]) -> InputError:
    first = shown([lines[0]])
    if sum(" - " in line for line in lines) > 0.8 * len(lines):
        return InputError(
            f"{where} has lines of names ({first}), and does not say which is the artist; export it as CSV"
            " with the columns artist and title"
        )
    return InputError(
        f"{where} is not a table of users and tracks: its first line is {first}; give columns user and"
        " track, or artist and title, or name the format with --format"
    )


# --- a single column ---------------------------------------------------------------------------------------


def _read_links(links: Sequence[str | None], where: str, given: Given) -> Reading:
    return read_document(read_links(links), where, replace(given, named={}))


def _column_of_links(data: bytes, where: str) -> list[str | None] | None:
    """The cells of a single column of links, URIs or ISRCs, with or without a header, and None for a later
    line that is none of those; None instead of a list if the text begins as something else."""
    sample = [line for text in sample_lines(data) if (line := _bare_line(text))]
    if not sample:
        return None
    header = letters(sample[0])
    headed = header in _LINK_HEADERS or (header.endswith(("link", "url", "uri")) and not is_id(sample[0]))
    cells = sample[1:] if headed else sample
    if not cells or not all(_is_song(cell, header) for cell in cells):
        return None
    check_document(data, where, b"\n")
    lines = [line for text in data.decode().splitlines() if (line := _bare_line(text))]
    songs = (line if _is_song(line, header) else None for line in lines[int(headed) :])
    return [isrc_id(song) or song if song and header == "isrc" else song for song in songs]


def _bare_line(text: str) -> str:
    """A line without blanks and quotation marks around it; "" for a comment."""
    line = text.strip().strip('"').strip()
    return "" if line.startswith("#") else line


def _is_song(cell: str, header: str) -> bool:
    """Whether a cell is the link, URI or id of a song, below a header of these letters."""
    if re.search(r"[\t;, ]", cell):
        return False
    if header == "isrc":
        return isrc_id(cell) is not None
    return is_song_link(cell) or bool(_SPOTIFY_ID.fullmatch(cell))


def _column_of_ids(data: bytes, lines: list[str], where: str, given: Given) -> list[str] | None:
    """The cells of a single column of ids whose header says tracks; else None.

    Raises InputError without --user-id, since they may be a catalogue's.
    """
    if letters(lines[0]) not in _TRACK_HEADERS or not all(map(is_id, lines[1:])):
        return None
    if given.user_id is None:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with"
            " --user-column, or whose list it is with --user-id"
        )
    check_document(data, where, b"\n")
    return [line.strip() for line in data.decode().splitlines() if line.strip()][1:]


# --- a user and their items on every line ------------------------------------------------------------------


def _read_adjacency(data: bytes, lines: list[str], where: str, given: Given) -> Reading:
    """A user and their items on every line, all of them ids. Raises InputError if they are not."""
    found = BY_NAME["adjacency"]
    words = [line.split() for line in lines]
    widths = {len(line) for line in words}
    various = len(widths) > 1 or max(widths) > 2
    if not (given.format == "adjacency" or various) or not all(
        is_id(word) for line in words for word in line
    ):
        raise _no_table(where, lines)
    what = not_users([line[0] for line in words if len(line) > 1])
    if what not in {None, ROW_NUMBERS}:
        raise InputError(
            f"{where} has lines that begin with {what}, which are no users; write one song a line"
        )
    given.check_format(found, where)
    given.check_unnamed(found, where)
    text = pl.Series(data.decode().split("\n")).str.strip_chars().str.replace_all(r"\s+", " ")
    cells = text.filter(text != "").str.split(" ")
    if (cells.list.len() == 1).all():
        raise InputError(f"{where} is not adjacency text: no line has a track after its user")
    lists = pl.DataFrame({"user_id": cells.list.first(), "track_id": cells.list.slice(1)})
    seen = lists["user_id"].unique(maintain_order=True).to_list()
    rows = lists.filter(pl.col("track_id").list.len() > 0).explode("track_id")
    return Reading(found, [Table(rows, found.means)], found.seen_by, seen_whole=seen)
