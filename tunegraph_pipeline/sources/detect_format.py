"""Detect the format of a file from its content.

Here: the rules, and what they look at: the delimiter, the header, the first lines. Not here: reading a file
of a known format (`formats`), or what the columns mean (`columns`).

The rules, in order. File names and endings do not matter, except for ``spotify-export``: a zip, or files
named as Spotify names them, which `account_export` reads.

1. gzip, known by its first two bytes, is unpacked, and the rules below look at its content.
2. A file that begins with ``PAR1`` is ``parquet``.
3. Text that begins with ``{`` is JSON. A document with ``playlists`` is a slice of the Million Playlist
   Dataset (``mpd``); one object of lists, ``{user: [track, ...]}``, is the ``seed`` project's; one object per
   line is ``ndjson``: a table with the columns of its first 500 lines.
4. Other text has a header if a cell of its first line names a user or a track (`columns.COLUMN_NAMES`), or is
   named by an option. The separator (tab, semicolon, bar, comma, space) is the one that makes the most cells
   known. ``userID, artistID, weight`` is ``hetrec``, whose items are artists; ``Track URI, Track Name, Added
   At`` without a user is ``exportify``: one playlist, its user the file's stem; anything else is ``csv``.
5. Without a header, the separator is the first that cuts most of the lines into the same number of cells:
   - tab, six cells, the second a time like ``2009-05-04T23:08:57Z``: ``lastfm1k``;
   - two or three cells, the third a number: ``csv`` with the columns user, track, weight;
   - words between blanks, their number varying from line to line: ``adjacency`` text, a user and all their
     tracks on a line;
   - anything else is refused, unless --user-column and --track-column give the positions (1, 2, ...).

If an option names the format, the file has to be of that format.
"""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import NestingError, check_nesting
from tunegraph_pipeline.sources.columns import is_header, letters, recognise, shown

_Cut = dict[str, list[list[str]]]
"""The first lines of a text as rows of cells, by separator."""

_SEPARATORS = ("\t", ";", "|", ",", " ")
_SAMPLE_BYTES, SAMPLE_LINES = 1 << 16, 500
LASTFM1K = ("user_id", "liked_at", "artist_ids", "artists", "track_id", "name")
_EXPORTIFY = {"trackuri", "trackname", "addedat"}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ID_LIKE = re.compile(r"[\w:./+=@&-]*\w[\w:/+=@&-]*")


@dataclass(frozen=True)
class TextLayout:
    """How delimited text is cut; ``names`` are its columns, numbered from 1 if it has no header."""

    format: str
    separator: str
    header: bool
    names: list[str]


def detect_format(data: bytes, where: str, format_name: str, named: Mapping[str, str]) -> str | TextLayout:
    """The name of the format of a file's bytes; for delimited text its layout.

    Raises InputError for an unknown format, and for delimited text that is not of the format named.
    """
    if data.startswith(b"PAR1"):
        return "parquet"
    for magic, kind in ((b"PK\x03\x04", "a zip archive"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(magic):
            raise InputError(f"{where} is {kind}; unpack it or save it as UTF-8 text first")
    if b"\x00" in data[:_SAMPLE_BYTES]:
        raise InputError(f"{where} is a binary file of no known format; give text, JSON or parquet")
    check_utf8(data, where)
    start = data[:_SAMPLE_BYTES].lstrip()
    if start.startswith((b"[", b"<")):
        kind = "a JSON array" if start.startswith(b"[") else "HTML or XML"
        raise InputError(
            f"{where} is {kind}, which is not read; write CSV, parquet, or one JSON object per line"
        )
    if start.startswith(b"{"):
        return _classify_json(data, where)
    return _classify_text(data, where, format_name, named)


def _classify_json(data: bytes, where: str) -> str:
    first, _, rest = data.strip().partition(b"\n")
    try:
        check_nesting(first)
        document = json.loads(first)
    except ValueError:
        # One object over many lines, or damage.
        document, rest = parse_json(data, where), b""
    if isinstance(document.get("playlists"), list):
        return "mpd"
    if not rest and document and all(value is None or isinstance(value, list) for value in document.values()):
        return "seed"
    return "ndjson"


def _classify_text(data: bytes, where: str, format_name: str, named: Mapping[str, str]) -> TextLayout:
    lines = sample_lines(data)
    if not lines:
        raise InputError(f"{where} begins with nothing but blanks; give a file with at least one row")
    separators = ("\t",) if format_name == "tsv" else _SEPARATORS
    cut = {separator: cut_lines(lines, separator) for separator in separators}
    separator, has_header = _detect_header(cut, named)
    header = cut[separator][0]
    names = {letters(cell) for cell in header}
    _check_named_format(format_name, names, has_header, where)
    if format_name == "hetrec" or names == {"userid", "artistid", "weight"}:
        return TextLayout("hetrec", separator, True, header)
    if format_name == "adjacency":
        return TextLayout("adjacency", " ", False, [])
    if not has_header:
        return _classify_headerless(lines, cut, where, named)
    has_user = "user_id" in recognise(header, {}, where) | dict(named)
    one_playlist = names >= _EXPORTIFY and (format_name == "exportify" or not has_user)
    return TextLayout("exportify" if one_playlist else "csv", separator, True, header)


def _check_named_format(format_name: str, names: set[str], has_header: bool, where: str) -> None:
    if format_name == "hetrec" and not {"userid", "artistid"} <= names:
        raise InputError(f"{where} is not hetrec: its first line has to be userID, artistID, weight")
    if format_name == "exportify" and not (has_header and names >= _EXPORTIFY):
        raise InputError(f"{where} is not exportify: its header lacks Track URI, Track Name or Added At")


def _detect_header(cut: _Cut, named: Mapping[str, str]) -> tuple[str, bool]:
    """The separator that makes most cells of the first line known columns, and whether it is a header."""
    known = {separator: is_header(rows[0], named) for separator, rows in cut.items()}
    best = max(known, key=lambda separator: known[separator])
    return best, bool(known[best])


def _detect_delimiter(cut: _Cut) -> str | None:
    """The first separator that cuts most lines into the same number of cells, two at least."""
    for separator, rows in cut.items():
        width, share = usual_width(rows)
        # Rows of varying length are damage in a table with tabs or commas, but normal in adjacency text.
        if width >= 2 and (share >= 0.9 if separator == " " else share > 0.5):
            return separator
    return None


def _classify_headerless(lines: list[str], cut: _Cut, where: str, named: Mapping[str, str]) -> TextLayout:
    separator = _detect_delimiter(cut)
    if separator is not None:
        layout = _headerless_table(separator, cut[separator], where, named)
        if layout is not None:
            return layout
        if separator != " ":
            raise InputError(
                f"{where}: its first line has no known column ({shown(cut[separator][0])}); name the columns"
                " with --user-column and --track-column or, without a header, give their positions"
            )
    words = [line.split() for line in lines]
    if len(set(map(len, words))) > 1 or len(words[0]) > 2:  # noqa: SIM102
        if all(_ID_LIKE.fullmatch(word) for line in words for word in line):
            return TextLayout("adjacency", " ", False, [])
    raise InputError(
        f"{where} is not a table of users and tracks: its first line is {shown([lines[0]])}; "
        "give columns user and track, or name the format with --format"
    )


def _headerless_table(
    separator: str, rows: list[list[str]], where: str, named: Mapping[str, str]
) -> TextLayout | None:
    """The layout of a table without a known header; None if its columns are unclear. Raises InputError for a
    header of unknown names."""
    width, _ = usual_width(rows)
    if separator == "\t" and width == 6 and _TIMESTAMP.fullmatch(_cell(rows, 1)):
        return TextLayout("lastfm1k", "\t", False, list(LASTFM1K))
    names = [str(position + 1) for position in range(width)]
    if {"user_id", "track_id"} <= named.keys() and set(named.values()) <= set(names):
        return TextLayout("csv", separator, False, names)
    whole = [row for row in rows if len(row) == width]
    if width == 2 or (width == 3 and any(_is_number(row[2]) for row in whole)):
        if _unlike_the_rest(whole):
            raise InputError(
                f"{where} has a header without a known name ({shown(whole[0])}); "
                "name the columns with --user-column and --track-column"
            )
        return TextLayout("csv", separator, False, names)
    return None


# --- looking into text and JSON ---


def sample_lines(data: bytes) -> list[str]:
    """The first lines of a text that are not blank, whole."""
    sample = data[:_SAMPLE_BYTES]
    if len(data) > _SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n")]
    # Not splitlines(), which also splits at characters that names may contain.
    lines = re.split(r"\r\n|\r|\n", sample.decode(errors="replace"))
    return [line for line in lines if line.strip()][:SAMPLE_LINES]


def cut_lines(lines: list[str], separator: str) -> list[list[str]]:
    """The lines as rows of cells; runs of blanks are one separator."""
    if separator == " ":
        return [line.split() for line in lines]
    return [row for row in csv.reader(lines, delimiter=separator) if row]


def usual_width(rows: list[list[str]]) -> tuple[int, float]:
    """The commonest number of cells, and the share of rows that have it."""
    width, n = Counter(map(len, rows)).most_common(1)[0]
    return width, n / len(rows)


def _cell(rows: list[list[str]], column: int) -> str:
    return next((row[column] for row in rows if len(row) > column), "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unlike_the_rest(rows: list[list[str]]) -> bool:
    """Whether the first row is a header of unknown names: no number where every other row has one."""
    first, rest = rows[0], rows[1:]
    return bool(rest) and any(
        not _is_number(first[column])
        and first[column].strip()
        and all(_is_number(row[column]) for row in rest)
        for column in range(len(first))
    )


def parse_json(data: bytes, where: str, fields: Collection[str] | None = None, remedy: str = "") -> Any:
    """A JSON document, its objects reduced to ``fields`` as they are parsed, if given.

    Raises InputError, ending in ``remedy``, if it is damaged, not UTF-8, or nested too deep.
    """
    reduce = None if fields is None else lambda pairs: {key: value for key, value in pairs if key in fields}
    try:
        check_utf8(data, where)
        check_nesting(data)
        return json.loads(data, object_pairs_hook=reduce)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is damaged or truncated JSON (line {error.lineno}, column {error.colno}: {error.msg})"
            + remedy
        ) from error
    except NestingError as error:
        raise InputError(f"{where} is JSON nested too deep to be a list of likes{remedy}") from error
    except ValueError as error:
        raise InputError(f"{where} is JSON with a number too long to read{remedy}") from error


def check_utf8(data: bytes, where: str) -> None:
    """Raise InputError, naming the row, if text is not UTF-8."""
    if data.isascii():
        return
    decoder, step = codecs.getincrementaldecoder("utf-8")(), 1 << 24
    for start in range(0, len(data), step):
        try:
            decoder.decode(data[start : start + step], final=start + step >= len(data))
        except UnicodeDecodeError as error:
            row = data.count(b"\n", 0, start + error.start) + 1
            raise InputError(f"{where} is not UTF-8 text (row {row}); save it as UTF-8") from error
