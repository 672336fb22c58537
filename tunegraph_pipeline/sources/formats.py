"""Read a file of any format into tables whose columns are named by role.

Here: opening (gzip or not), and one reader per format. Not here: the rules by which a format is found
(`detect_format`), what the columns mean and how their cells are cleaned (`columns`), or which files there are
(`files`).
"""

import csv
import gzip
import io
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
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.columns import letters, recognise, shown
from tunegraph_pipeline.sources.detect_format import (
    LASTFM1K,
    SAMPLE_LINES,
    TextLayout,
    cut_lines,
    detect_format,
    parse_json,
    sample_lines,
    usual_width,
)

FORMATS = (
    "auto", "csv", "tsv", "parquet", "ndjson", "adjacency", "hetrec", "lastfm1k", "mpd", "exportify", "seed",
    "spotify-export",
)  # fmt: skip
"""The values of --format. ``csv`` is delimited text of any separator, ``tsv`` of tabs."""

SEED_FILES = ("user_like.json", "id_map.json", "id_map.csv")

ENDINGS = {".csv", ".tsv", ".txt", ".dat", ".json", ".ndjson", ".jsonl", ".parquet", ".gz"}
"""Files of a folder that are imported with it; of its zips, only account exports are."""

_TABLES = {"csv", "tsv", "parquet", "ndjson", "hetrec", "exportify"}
_TOO_FEW, _TOO_MANY = "rows with too few columns", "rows with too many columns"
# Column -> field of a track in a Million Playlist slice.
_MPD_FIELDS = {
    "track_id": "track_uri",
    "name": "track_name",
    "artists": "artist_name",
    "artist_ids": "artist_uri",
    "album_id": "album_uri",
}


@dataclass(frozen=True)
class Reading:
    """What a reader found. ``tables`` have columns named by role (`columns.COLUMN_NAMES`); the lists of users
    in ``seen_whole`` are complete, even if empty; those of ``failed`` users are unknown."""

    tables: list[pl.DataFrame]
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read_content(path: Path) -> bytes:
    """The bytes of ``path``, unpacked if they are gzip. Raises InputError if they cannot be read."""
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
    """The name of a file as valid UTF-8: bytes that are not text are escaped, as in ``caf\\xe9.csv``."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def read_format(path: Path, format_name: str, named: Mapping[str, str]) -> Reading:
    """What ``path`` holds. ``format_name`` is one of FORMATS; ``named`` maps those of user_id, track_id and
    liked_at that an option names to columns.

    Raises InputError if the file is damaged, of no known format, or not of the format named.
    """
    data = read_content(path)
    where = str(path)
    found = detect_format(data, where, format_name, named)
    name = found if isinstance(found, str) else found.format
    if format_name not in {"auto", name} and (format_name, name) != ("tsv", "csv"):
        raise InputError(
            f"{where} is not {format_name}: it looks like {name}; leave --format out or name that"
        )
    if named and name not in _TABLES:
        raise InputError(f"{where} is {name}, which has no columns to name; leave the column options out")
    if isinstance(found, TextLayout):
        return _read_adjacency(data, where) if name == "adjacency" else _read_text(data, path, found, named)
    if name == "seed":
        return read_seed([path])
    if name == "mpd":
        return _read_mpd(data, where)
    return (_read_parquet if name == "parquet" else _read_ndjson)(data, where, named)


# --- one reader per format ---------------------------------------------------------------------------------


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
        sample = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None, n_rows=SAMPLE_LINES).schema
        roles = recognise(list(sample), named, where)
        # An id may be a number in one line and text in the next; as text, each stays as it was written.
        kinds = {name: sample[name] if sample[name].is_nested() else pl.String() for name in roles.values()}
        table = pl.read_ndjson(io.BytesIO(data), schema=kinds) if kinds else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip() and not isinstance(parse_json(line, f"{where}, line {number}"), dict):
                raise InputError(
                    f"{where}, line {number} is no JSON object; write one object per line"
                ) from error
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where}: a column changes its type from line to line ({reason})") from error
    return Reading([_by_role(table, roles, list(sample), where)])


def _read_text(data: bytes, path: Path, layout: TextLayout, named: Mapping[str, str]) -> Reading:
    where = str(path)
    if layout.separator == " ":
        # Runs of blanks are one separator; lines may be indented.
        data = b"\n".join(b" ".join(line.split()) for line in data.splitlines())
    counts: Counter[str] = Counter()
    cells = _cells(data, where, layout, counts)
    names = [name.strip() for name in layout.names]
    roles = _text_roles(layout, names, named, where)
    # The first of two columns of one name is the one that was recognised.
    position = {name: column for column, name in reversed(list(enumerate(names)))}
    table = _by_role(
        cells, {role: cells.columns[position[name]] for role, name in roles.items()}, names, where
    )
    if layout.format == "exportify" and "user_id" not in roles:
        user = readable_name(path).removesuffix(".gz").removesuffix(".csv")
        lists = [_split_list(pl.col(role)) for role in ("artists", "artist_ids") if role in roles]
        return Reading([table.with_columns(pl.lit(user).alias("user_id"), *lists)], [user], counts=counts)
    if layout.format != "exportify" and not len(cells) and not counts:
        raise InputError(f"{where} has a header and no rows; give a file with at least one row")
    return Reading([table], counts=counts)


def _text_roles(layout: TextLayout, names: list[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Role -> the name of its column."""
    if layout.format == "lastfm1k":
        return dict(zip(LASTFM1K, names, strict=True))
    if not layout.header:
        roles = dict(zip(("user_id", "track_id", "weight"), names, strict=False)) | dict(named)
        return {role: name for role, name in roles.items() if role in named or name not in named.values()}
    roles = recognise(names, named, where)
    if layout.format == "hetrec":
        found = {letters(name): name for name in names}
        columns = {"user_id": "userid", "track_id": "artistid", "weight": "weight"}
        roles = {role: found[column] for role, column in columns.items() if column in found}
    return roles


def _cells(data: bytes, where: str, layout: TextLayout, counts: Counter[str]) -> pl.DataFrame:
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
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=longest, use_threads=False),
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
    """Raise InputError for a quotation mark that is never closed: the rows after it would become one cell."""
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
    document = parse_json(data, where)
    playlists = document.get("playlists") if isinstance(document, dict) else None
    if not isinstance(playlists, list):
        raise InputError(f"{where} is not mpd: it has no list of playlists")
    seen: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for number, playlist in enumerate(playlists, start=1):
        tracks = playlist.get("tracks") if isinstance(playlist, dict) else None
        if not isinstance(tracks, list) or "pid" not in playlist:
            raise InputError(
                f"{where}: playlist {number} has no pid or no list of tracks; fetch the file again"
            )
        user = str(playlist["pid"])
        seen.append(user)
        for track in tracks:
            known = track if isinstance(track, dict) else {}
            length = known.get("duration_ms")
            duration = float(length) if isinstance(length, int | float) else None
            rows.append((user, *(_string(known.get(field)) for field in _MPD_FIELDS.values()), duration))
    texts = dict.fromkeys(("user_id", *_MPD_FIELDS), pl.String())
    table = pl.DataFrame(rows, schema={**texts, "duration_ms": pl.Float64()}, orient="row")
    return Reading([table], seen)


def read_seed(paths: Sequence[Path]) -> Reading:
    """The seed project's files: ``user_like.json`` {user: [track, ...], or null if the request failed},
    ``id_map.csv`` (11 features per row, no header) and ``id_map.json`` {track: its row there}. Raises
    InputError if one of the last two is missing, or they do not match."""
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
    lists = parse_json(read_content(path), str(path))
    if not isinstance(lists, dict):
        raise InputError(f"{path} must be one JSON object, {{user: [track, ...]}}")
    for user, tracks in lists.items():
        if tracks is not None and not isinstance(tracks, list):
            raise InputError(f"{path}: user {shown([user])} has no list of tracks; write a list, or null")
        (reading.failed if tracks is None else reading.seen_whole).append(user)
    pairs = [(user, _string(track)) for user in reading.seen_whole for track in lists[user]]
    reading.tables.append(
        pl.DataFrame(pairs, schema={"user_id": pl.String, "track_id": pl.String}, orient="row")
    )


def _read_seed_features(map_path: Path, table_path: Path, reading: Reading) -> None:
    rows = parse_json(read_content(map_path), str(map_path))
    data = read_content(table_path)
    width, _ = usual_width(cut_lines(sample_lines(data), ","))
    if width != len(AUDIO_FEATURES):
        raise InputError(
            f"{table_path} has {width} columns; it has to have the 11 features, without a header"
        )
    layout = TextLayout("csv", ",", False, list(AUDIO_FEATURES))
    counts: Counter[str] = Counter()
    features = _cells(data, str(table_path), layout, counts)
    if counts:
        # A row that is skipped would move every row after it to another song.
        raise InputError(f"{table_path} has rows without the 11 columns; {map_path.name} no longer fits it")
    features.columns = list(AUDIO_FEATURES)
    if not isinstance(rows, dict):
        raise InputError(f"{map_path} must be one JSON object, {{track: row number}}")
    for track, row in rows.items():
        if not re.fullmatch(r"\d+", str(row)) or int(row) >= len(features):
            raise InputError(
                f"{map_path}: track {shown([track])} points at row {row!r}; {table_path.name} has rows 0 to "
                f"{len(features) - 1}"
            )
    picked = features[[int(row) for row in rows.values()]]
    reading.tables.append(picked.with_columns(pl.Series("track_id", list(rows), dtype=pl.String)))


# --- shared by the readers ---------------------------------------------------------------------------------


def _by_role(table: pl.DataFrame, roles: Mapping[str, str], names: Sequence[str], where: str) -> pl.DataFrame:
    if "track_id" not in roles:
        raise InputError(
            f"{where} has no column of tracks among {shown(names)}; name it track_id, or point to it with "
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


def _string(value: object) -> str | None:
    """A JSON id or name as text; None for what is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
