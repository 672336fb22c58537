"""Finds the format of a person's file by looking into it, and cuts the file into columns named by role.

Here: opening (gzip or not), the rules by which a format is found, and one reader a format. Not here: what the
columns mean and how their cells are cleaned (`columns`), or which files there are (`files`).

How a format is found, in this order. Neither the name of the file nor its ending has a say, but for
``spotify-export``: that is a zip, or files named as Spotify names them, and `account_export` reads it.

1. gzip is unpacked (by its first two bytes), and the rules below look at what was in it.
2. The first four bytes of parquet make it ``parquet``: a table.
3. Text that begins with ``{`` is JSON. A document with ``playlists`` is a slice of the Million Playlist
   Dataset (``mpd``); one object of lists, ``{user: [track, ...]}``, is the ``seed`` project's; one object a
   line is ``ndjson``: a table, whose columns are those of its first 500 lines.
4. Other text has a header where a cell of its first line names a user or a track (`columns.COLUMN_NAMES`),
   or is named by an option. The separator (tab, semicolon, bar, comma, space) is the one that makes most
   cells known. ``userID, artistID, weight`` is ``hetrec``, where the artists are the items; ``Track URI,
   Track Name, Added At`` without a user is ``exportify``: one playlist, its user the file's stem; anything
   else is ``csv``.
5. Without a header, the separator is the first that cuts most of the lines into the same number of cells:
   - tab, six cells, the second a time like ``2009-05-04T23:08:57Z``: ``lastfm1k``;
   - two or three cells, the third a number: ``csv`` with the columns user, track, weight;
   - words between white space, their number varying from line to line: ``adjacency`` text, a user and all of
     their tracks on a line;
   - anything else is refused, unless --user-column and --track-column give the positions (1, 2, ...).

A format can be named instead; the file then has to be of it.
"""

import codecs
import csv
import gzip
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import NestingError, check_nesting
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.columns import is_header, letters, recognise, shown

FORMATS = (
    "auto",
    "csv",
    "tsv",
    "parquet",
    "ndjson",
    "adjacency",
    "hetrec",
    "lastfm1k",
    "mpd",
    "exportify",
    "seed",
    "spotify-export",
)
"""What --format can say. ``csv`` is delimited text of any separator, ``tsv`` that of tabs."""

SEED_FILES = ("user_like.json", "id_map.json", "id_map.csv")

ENDINGS = {".csv", ".tsv", ".txt", ".dat", ".json", ".ndjson", ".jsonl", ".parquet", ".gz"}
"""The files of a folder that are imported with it; of its zips, only account exports are."""

_TABLES = {"csv", "tsv", "parquet", "ndjson", "hetrec", "exportify"}
_SEPARATORS = ("\t", ";", "|", ",", " ")
_SAMPLE_BYTES, _SAMPLE_LINES = 1 << 16, 500
_LASTFM1K = ("user_id", "liked_at", "artist_ids", "artists", "track_id", "name")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_ID_LIKE = re.compile(r"[\w:./+=@&-]*\w[\w:/+=@&-]*")
_TOO_FEW, _TOO_MANY = "rows with too few columns", "rows with too many columns"


@dataclass(frozen=True)
class Reading:
    """What a reader found. ``tables`` have columns named by role (`columns.COLUMN_NAMES`); users in
    ``seen_whole`` were seen whole though they may have no row; the lists of ``failed`` users are unknown."""

    tables: list[pl.DataFrame]
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _TextLayout:
    format: str
    separator: str
    header: bool
    names: list[str]


def read_content(path: Path) -> bytes:
    """The bytes of ``path``, unpacked where they are gzip. Raises InputError where they cannot be had."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path} is a truncated or damaged gzip file; fetch it again") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InputError(f"{path} is empty; give a file with at least one row")
    return data


def readable_name(path: Path) -> str:
    """The name of a file as UTF-8 can say it: a name may be any bytes, and those that are no text are spelt
    out, as in ``caf\\xe9.csv``."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def read_format(path: Path, format_name: str, named: Mapping[str, str]) -> Reading:
    """What ``path`` holds. ``format_name`` is one of FORMATS; ``named`` maps user_id, track_id and
    liked_at, where an option names them, to columns.

    Raises InputError where the file is damaged, of no known format, or not of the format named.
    """
    data = read_content(path)
    where = str(path)
    found: str | _TextLayout = _found(data, where, format_name, named)
    name = found if isinstance(found, str) else found.format
    if format_name not in {"auto", name} and (format_name, name) != ("tsv", "csv"):
        raise InputError(
            f"{where} is not {format_name}: it looks like {name}; leave --format out or name that"
        )
    if named and name not in _TABLES:
        raise InputError(f"{where} is {name}, which has no columns to name; leave the column options out")
    if name == "parquet":
        return _read_parquet(data, where, named)
    if name == "ndjson":
        return _read_ndjson(data, where, named)
    if name == "mpd":
        return _read_mpd(data, where)
    if name == "seed":
        return read_seed([path])
    assert isinstance(found, _TextLayout)
    if name == "adjacency":
        return _read_adjacency(data, where)
    return _read_text(data, path, found, named)


# --- finding the format ------------------------------------------------------------------------------------


def _found(data: bytes, where: str, format_name: str, named: Mapping[str, str]) -> str | _TextLayout:
    if data.startswith(b"PAR1"):
        return "parquet"
    for magic, kind in ((b"PK\x03\x04", "a zip archive"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(magic):
            raise InputError(f"{where} is {kind}; unpack it or save it as UTF-8 text first")
    if b"\x00" in data[:_SAMPLE_BYTES]:
        raise InputError(f"{where} is a binary file of no known format; give text, JSON or parquet")
    _check_utf8(data, where)
    start = data[:_SAMPLE_BYTES].lstrip()
    if start.startswith((b"[", b"<")):
        kind = "a JSON array" if start.startswith(b"[") else "HTML or XML"
        raise InputError(
            f"{where} is {kind}, which is not read; write CSV, parquet, or one JSON object a line"
        )
    if start.startswith(b"{"):
        return _found_json(data, where)
    return _found_text(data, where, format_name, named)


def _found_json(data: bytes, where: str) -> str:
    first, _, rest = data.strip().partition(b"\n")
    try:
        check_nesting(first)
        document = json.loads(first)
    except ValueError:
        # Not one object a line, so one object over many lines, or damage.
        document, rest = _json(data, where), b""
    if isinstance(document.get("playlists"), list):
        return "mpd"
    if not rest and document and all(value is None or isinstance(value, list) for value in document.values()):
        return "seed"
    return "ndjson"


def _found_text(data: bytes, where: str, format_name: str, named: Mapping[str, str]) -> _TextLayout:
    lines = _sample(data)
    if not lines:
        raise InputError(f"{where} begins with nothing but blanks; give a file with at least one row")
    separators = ("\t",) if format_name == "tsv" else _SEPARATORS
    cut = {separator: _cut(lines, separator) for separator in separators}
    known = {separator: is_header(rows[0], named) for separator, rows in cut.items()}
    best = max(separators, key=lambda separator: known[separator])
    names = {letters(cell) for cell in cut[best][0]}
    if format_name == "hetrec" or names == {"userid", "artistid", "weight"}:
        if not {"userid", "artistid"} <= names:
            raise InputError(f"{where} is not hetrec: its first line has to be userID, artistID, weight")
        return _TextLayout("hetrec", best, True, cut[best][0])
    if format_name != "adjacency" and known[best]:
        exportify = {"trackuri", "trackname", "addedat"} <= names
        has_user = "user_id" in recognise(cut[best][0], {}, where) or "user_id" in named
        if format_name == "exportify" and not exportify:
            raise InputError(f"{where} is not exportify: its header lacks Track URI, Track Name or Added At")
        name = "exportify" if exportify and (format_name == "exportify" or not has_user) else "csv"
        return _TextLayout(name, best, True, cut[best][0])
    if format_name == "exportify":
        raise InputError(f"{where} is not exportify: its header lacks Track URI, Track Name or Added At")
    return _found_headerless(lines, cut, where, format_name, named)


def _found_headerless(
    lines: list[str], cut: dict[str, list[list[str]]], where: str, format_name: str, named: Mapping[str, str]
) -> _TextLayout:
    words = [line.split() for line in lines]
    if format_name == "adjacency":
        return _TextLayout("adjacency", " ", False, [])
    for separator, rows in cut.items():
        width, share = _usual_width(rows)
        # Short and long rows are damage in a table with tabs or commas; adjacency text is made of them.
        if width < 2 or (share < 0.9 if separator == " " else share <= 0.5):
            continue
        if separator == "\t" and width == 6 and _TIMESTAMP.fullmatch(_cell(rows, 1)):
            return _TextLayout("lastfm1k", "\t", False, list(_LASTFM1K))
        names = [str(position + 1) for position in range(width)]
        if {"user_id", "track_id"} <= named.keys() and set(named.values()) <= set(names):
            return _TextLayout("csv", separator, False, names)
        whole = [row for row in rows if len(row) == width]
        if width == 2 or (width == 3 and any(_is_number(row[2]) for row in whole)):
            if _unlike_the_rest(whole):
                raise InputError(
                    f"{where} has a header with no name that is known ({shown(whole[0])}); "
                    "say which is which with --user-column and --track-column"
                )
            return _TextLayout("csv", separator, False, names)
        if separator != " ":
            raise InputError(
                f"{where}: no column is known in its first line ({shown(rows[0])}); say which is which with "
                "--user-column and --track-column, by name or, without a header, by position"
            )
    if len(set(map(len, words))) > 1 or len(words[0]) > 2:  # noqa: SIM102
        if all(_ID_LIKE.fullmatch(word) for line in words for word in line):
            return _TextLayout("adjacency", " ", False, [])
    raise InputError(
        f"{where} is no table of users and tracks: its first line is {shown([lines[0]])}; "
        "give columns user and track, or name the format with --format"
    )


def _sample(data: bytes) -> list[str]:
    sample = data[:_SAMPLE_BYTES]
    if len(data) > _SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n")]
    # Not splitlines(), for which some letters that may stand in a name end a line.
    lines = re.split(r"\r\n|\r|\n", sample.decode(errors="replace"))
    return [line for line in lines if line.strip()][:_SAMPLE_LINES]


def _cut(lines: list[str], separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    return [row for row in csv.reader(lines, delimiter=separator) if row]


def _usual_width(rows: list[list[str]]) -> tuple[int, float]:
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
    """Whether the first row has no number where every other row has one: a header, then, of unknown names."""
    first, rest = rows[0], rows[1:]
    return bool(rest) and any(
        not _is_number(first[column])
        and first[column].strip()
        and all(_is_number(row[column]) for row in rest)
        for column in range(len(first))
    )


# --- one reader a format -----------------------------------------------------------------------------------


def _read_parquet(data: bytes, where: str, named: Mapping[str, str]) -> Reading:
    try:
        names = pl.read_parquet_schema(io.BytesIO(data))
        roles = recognise(list(names), named, where)
        table = pl.read_parquet(io.BytesIO(data), columns=list(roles.values()))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{where} is a truncated or damaged parquet file; fetch it again") from error
    return Reading([_by_role(table, roles, list(names), where)])


def _read_ndjson(data: bytes, where: str, named: Mapping[str, str]) -> Reading:
    try:
        sample = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None, n_rows=_SAMPLE_LINES).schema
        roles = recognise(list(sample), named, where)
        # An id may be a number in one line and text in the next; read as text, each stays as it was written.
        kinds = {name: sample[name] if sample[name].is_nested() else pl.String() for name in roles.values()}
        table = pl.read_ndjson(io.BytesIO(data), schema=kinds) if kinds else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip() and not isinstance(_json(line, f"{where}, line {number}"), dict):
                raise InputError(
                    f"{where}, line {number} is no JSON object; write one object a line"
                ) from error
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where}: a column changes its type from line to line ({reason})") from error
    return Reading([_by_role(table, roles, list(sample), where)])


def _read_text(data: bytes, path: Path, layout: _TextLayout, named: Mapping[str, str]) -> Reading:
    where = str(path)
    if layout.separator == " ":
        # Runs of blanks are one separator; lines may be indented.
        data = b"\n".join(b" ".join(line.split()) for line in data.splitlines())
    counts: Counter[str] = Counter()
    cells = _cells(data, where, layout, counts)
    names = [name.strip() for name in layout.names]
    if layout.format == "lastfm1k":
        return Reading([cells.rename(dict(zip(cells.columns, _LASTFM1K, strict=True)))], counts=counts)
    if layout.header:
        roles = recognise(names, named, where)
    else:
        roles = dict(zip(("user_id", "track_id", "weight"), names, strict=False)) | dict(named)
        roles = {role: name for role, name in roles.items() if role in named or name not in named.values()}
    if layout.format == "hetrec":
        roles = {letters(name): name for name in names}
        roles = {"user_id": roles["userid"], "track_id": roles["artistid"], "weight": roles.get("weight", "")}
        roles = {role: name for role, name in roles.items() if name}
    # The first of two columns of one name is the one that was recognised.
    position = {name: column for column, name in reversed(list(enumerate(names)))}
    table = cells.select(pl.col(cells.columns[position[name]]).alias(role) for role, name in roles.items())
    if layout.format == "exportify":
        if "user_id" in roles:
            return Reading([table], counts=counts)
        user = readable_name(path).removesuffix(".gz").removesuffix(".csv")
        listed = [pl.col(role).pipe(_split_list) for role in ("artists", "artist_ids") if role in roles]
        return Reading([table.with_columns(pl.lit(user).alias("user_id"), *listed)], [user], counts=counts)
    if not len(cells) and not counts:
        raise InputError(f"{where} has a header and no rows; give a file with at least one row")
    return Reading([_by_role(table, {role: role for role in roles}, names, where)], counts=counts)


def _cells(data: bytes, where: str, layout: _TextLayout, counts: Counter[str]) -> pl.DataFrame:
    """Delimited text as columns of text named c0, c1, ...; empty cells are null, misshapen rows counted."""
    # In text with tabs a lone quote is a letter like any other; Last.fm-1K has thousands of them.
    quotes = data.count(b'"')
    literal = layout.format == "lastfm1k" or (layout.separator == "\t" and quotes % 2 == 1)
    quoted = quotes > 0 and not literal
    if quoted and quotes % 2 == 1:
        _check_quotes(data, layout.separator, where)

    def misshapen(row: pyarrow.csv.InvalidRow) -> Literal["skip"]:
        counts[_TOO_FEW if row.actual_columns < row.expected_columns else _TOO_MANY] += 1
        return "skip"

    names = [f"c{column}" for column in range(len(layout.names))]
    longest = 1 << 24 if len(data) < 1 << 24 else max(1 << 24, max(map(len, data.split(b"\n"))) + 1)
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(
                column_names=names,
                block_size=longest,
                use_threads=False,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=misshapen,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where} cannot be cut into columns: {reason}") from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame[1:] if layout.header else frame


def _check_quotes(data: bytes, separator: str, where: str) -> None:
    """Looks for the quotation mark that lets the rows after it vanish into one cell."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator, strict=True)
    row = 1
    try:
        for _ in reader:
            row = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where}: a quotation mark in row {row} is never closed; close it") from error


def _read_adjacency(data: bytes, where: str) -> Reading:
    lines = pl.Series(data.decode().split("\n")).str.strip_chars().str.replace_all(r"\s+", " ")
    words = lines.filter(lines != "").str.split(" ")
    table = pl.DataFrame({"user_id": words.list.first(), "track_id": words.list.slice(1)})
    if (words.list.len() == 1).all():
        raise InputError(f"{where} is not adjacency text: no line has a track after its user")
    seen = table["user_id"].unique(maintain_order=True).to_list()
    return Reading([table.filter(pl.col("track_id").list.len() > 0).explode("track_id")], seen)


def _read_mpd(data: bytes, where: str) -> Reading:
    document = _json(data, where)
    playlists = document.get("playlists") if isinstance(document, dict) else None
    if not isinstance(playlists, list):
        raise InputError(f"{where} is not mpd: it has no list of playlists")
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("user_id", "track_id", "name", "artists", "artist_ids", "album_id", "duration_ms")
    }
    seen: list[str] = []
    for number, playlist in enumerate(playlists, start=1):
        if (
            not isinstance(playlist, dict)
            or not isinstance(playlist.get("tracks"), list)
            or "pid" not in playlist
        ):
            raise InputError(
                f"{where}: playlist {number} has no pid or no list of tracks; fetch the file again"
            )
        user = str(playlist["pid"])
        seen.append(user)
        for track in playlist["tracks"]:
            known = track if isinstance(track, dict) else {}
            columns["user_id"].append(user)
            columns["track_id"].append(_string(known.get("track_uri")))
            columns["name"].append(_string(known.get("track_name")))
            columns["artists"].append(_string(known.get("artist_name")))
            columns["artist_ids"].append(_string(known.get("artist_uri")))
            columns["album_id"].append(_string(known.get("album_uri")))
            length = known.get("duration_ms")
            columns["duration_ms"].append(float(length) if isinstance(length, int | float) else None)
    texts = {name: pl.Float64 if name == "duration_ms" else pl.String for name in columns}
    return Reading([pl.DataFrame(columns, schema=texts)], seen)


def read_seed(paths: Sequence[Path]) -> Reading:
    """The seed project's files: ``user_like.json`` {user: [track, ...] or null where the request failed},
    ``id_map.csv`` (11 features a row, no header) and ``id_map.json`` {track: its row there}. The last two
    belong together; raises InputError where one is there without the other, or they do not fit."""
    by_name = {path.name: path for path in paths}
    maps = [by_name.pop(name, None) for name in SEED_FILES[1:]]
    reading = Reading([])
    for path in by_name.values():
        _read_seed_likes(path, reading)
    if maps[0] and maps[1]:
        _read_seed_features(maps[0], maps[1], reading)
    elif maps[0] or maps[1]:
        missing = SEED_FILES[2] if maps[0] else SEED_FILES[1]
        raise InputError(f"{maps[0] or maps[1]} needs {missing} beside it; give both, or their folder")
    return reading


def _read_seed_likes(path: Path, reading: Reading) -> None:
    lists = _json(read_content(path), str(path))
    if not isinstance(lists, dict):
        raise InputError(f"{path} has to be one JSON object, {{user: [track, ...]}}")
    for user, tracks in lists.items():
        if tracks is not None and not isinstance(tracks, list):
            raise InputError(f"{path}: user {shown([user])} has no list of tracks; write a list, or null")
        (reading.failed if tracks is None else reading.seen_whole).append(user)
    pairs = [(user, _string(track)) for user in reading.seen_whole for track in lists[user]]
    reading.tables.append(
        pl.DataFrame(pairs, schema={"user_id": pl.String, "track_id": pl.String}, orient="row")
    )


def _read_seed_features(map_path: Path, table_path: Path, reading: Reading) -> None:
    rows = _json(read_content(map_path), str(map_path))
    data = read_content(table_path)
    width, _ = _usual_width(_cut(_sample(data), ","))
    if width != len(AUDIO_FEATURES):
        raise InputError(
            f"{table_path} has {width} columns; it has to have the 11 features, without a header"
        )
    layout = _TextLayout("csv", ",", False, list(AUDIO_FEATURES))
    counts: Counter[str] = Counter()
    features = _cells(data, str(table_path), layout, counts)
    if counts:
        # A row that is skipped would move every row after it to another song.
        raise InputError(f"{table_path} has rows without the 11 columns; {map_path.name} no longer fits it")
    features.columns = list(AUDIO_FEATURES)
    if not isinstance(rows, dict):
        raise InputError(f"{map_path} has to be one JSON object, {{track: row number}}")
    for track, row in rows.items():
        if not re.fullmatch(r"\d+", str(row)) or int(row) >= len(features):
            raise InputError(
                f"{map_path}: track {shown([track])} points at row {row!r}; {table_path.name} has rows 0 to "
                f"{len(features) - 1}"
            )
    picked = features[[int(row) for row in rows.values()]]
    reading.tables.append(picked.with_columns(pl.Series("track_id", list(rows), dtype=pl.String)))


# --- small change ------------------------------------------------------------------------------------------


def _by_role(table: pl.DataFrame, roles: Mapping[str, str], names: Sequence[str], where: str) -> pl.DataFrame:
    if "track_id" not in roles:
        raise InputError(
            f"{where} has no column of tracks among {shown(names)}; name it track_id, or say which with "
            "--track-column"
        )
    return table.select(pl.col(name).alias(role) for role, name in roles.items())


def _split_list(column: pl.Expr) -> pl.Expr:
    """Exportify joins the artists of a song by ``;`` or, older, by commas; a comma of a name is escaped."""
    kept = column.str.replace_all("\\,", "\x00", literal=True)
    cut = (
        pl.when(kept.str.contains(";", literal=True)).then(kept.str.split(";")).otherwise(kept.str.split(","))
    )
    return cut.list.eval(pl.element().str.replace_all("\x00", ",", literal=True))


def _json(data: bytes, where: str) -> Any:
    try:
        _check_utf8(data, where)
        check_nesting(data)
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is damaged or truncated JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    except NestingError as error:
        raise InputError(f"{where} is JSON nested too deep to be a list of likes") from error


def _check_utf8(data: bytes, where: str) -> None:
    if data.isascii():
        return
    decoder, step = codecs.getincrementaldecoder("utf-8")(), 1 << 24
    for start in range(0, len(data), step):
        try:
            decoder.decode(data[start : start + step], final=start + step >= len(data))
        except UnicodeDecodeError as error:
            row = data.count(b"\n", 0, start + error.start) + 1
            raise InputError(f"{where} is not UTF-8 text (row {row}); save it as UTF-8") from error


def _string(value: object) -> str | None:
    """A JSON id or name as text; whatever is neither text nor a whole number is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
