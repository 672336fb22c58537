"""Recognise the columns of a table by name, and clean their cells into rows.

Here: the names of users, tracks, times, weights, track fields and audio features, and the cleaning that files
of every format go through, column by column. Not here: detecting a format and cutting a file into columns
(`formats`), or which files there are (`files`).
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Literal

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.song_ids import Kind, SongId, read_id

Part = Literal["likes", "tracks", "features"]

MAX_ID_BYTES = 1024
"""An id longer than this, in UTF-8, counts as damage: its row is skipped and counted."""

COLUMN_NAMES: dict[str, Sequence[str]] = {
    **json.loads(files(__package__).joinpath("column_names.json").read_bytes()),
    **{name: (name,) for name in AUDIO_FEATURES},
}
"""Role of a column -> its names, the most specific first. Only letters and digits count, in lower case:
``User ID``, ``user_id`` and ``userId`` are the same. ``duration`` is in milliseconds if its median is over
10,000, else in seconds."""

TRACK_FIELDS = (
    "isrc", "name", "artists", "artist_ids", "album_id", "genre", "image_url", "preview_url",
    "duration_ms", "duration_s", "duration", "explicit",
)  # fmt: skip
"""Roles that make a table one of tracks."""

_FEATURE_RANGES = {
    **dict.fromkeys(AUDIO_FEATURES, (0.0, 1.0)),
    "key": (0.0, 11.0),
    "loudness": (-100.0, 20.0),
    "tempo": (0.0, 500.0),
}
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")
_NOT_PLAIN = r"[:/]|^[0-9A-Fa-f]{8}-"
"""What an id has that `song_ids.read_id` may shorten: a URI, a link, or a UUID."""
_NO_TRACKS: dict[Kind, str] = {
    "local file": "local files, which have no id",
    "episode": "podcast episodes",
    "short link": "shortened links, which only their service can follow",
    "artist": "artists",
    "album": "albums",
    "playlist": "playlists",
    "user": "users",
}
"""What is counted for an id that is of no track."""
_OPTIONS = {"user_id": "--user-column", "track_id": "--track-column", "liked_at": "--time-column"}


def letters(name: str) -> str:
    """A column name as it is compared: letters and digits, in lower case."""
    return re.sub(r"[\W_]+", "", name).lower()


def is_header(cells: Iterable[str], named: Mapping[str, str]) -> int:
    """How many of ``cells`` name a user or a track, or are named by an option; 0 if this is no header."""
    known = {*COLUMN_NAMES["user_id"], *COLUMN_NAMES["track_id"]}
    options = {value for value in named.values() if not value.isdigit()}
    return sum(letters(cell) in known or cell.strip() in options for cell in cells)


def recognise(names: Sequence[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Role -> its column: first those in ``named`` (role -> column), then by the names above.

    Raises InputError if a column named by an option does not exist.
    """
    roles: dict[str, str] = {}
    for role, wanted in named.items():
        found = [name for name in names if name == wanted] or [
            name for name in names if letters(name) == letters(wanted)
        ]
        if not found:
            raise InputError(
                f"{where} has no column {wanted!r}; {_OPTIONS[role]} can be one of: {shown(names)}"
            )
        roles[role] = found[0]
    by_letters: dict[str, str] = {}
    for name in names:
        by_letters.setdefault(letters(name), name)
    for role, candidates in COLUMN_NAMES.items():
        taken = set(roles.values())
        free = [by_letters[name] for name in candidates if by_letters.get(name, "") not in {"", *taken}]
        if role not in roles and free:
            roles[role] = free[0]
    return roles


def shown(names: Sequence[str]) -> str:
    """Column names for a message: the first dozen, each shortened."""
    cut = [repr(name if len(name) <= 40 else name[:37] + "...") for name in names[:12]]
    return ", ".join(cut) + (", ..." if len(names) > 12 else "")


def clean(
    table: pl.DataFrame, parts: Iterable[Part], where: str, counts: Counter[str], *, time_named: bool = False
) -> dict[Part, pl.DataFrame]:
    """The rows of ``parts``, clean and without duplicates, from a table whose columns are named by role.

    - Ids become strings, cleaned by `song_ids.clean_id`. Rows of episodes, local files, artists and albums
      are skipped, as are those without a track; one without a user still describes its track.
    - likes: distinct pairs, ``liked_at`` the earliest time given (UTC). ``weight`` only decides whether a row
      counts: zero, negative, NaN or unreadable is no like.
    - tracks, features: one row per track with the first non-null value of each column. Feature values that
      are infinite or out of range become null, as do keys of -1 (not detected).

    Adds what is skipped or changed to ``counts``. Raises InputError if a whole column has the wrong type.
    """
    left_out: Counter[str] = Counter()
    table = table.with_columns(as_ids(table["track_id"], "track_id", where, left_out))
    if "user_id" in table.columns:
        table = table.with_columns(as_ids(table["user_id"], "user_id", where, counts))
    # A row is counted once: by why its id is left out, or here.
    counts.update(left_out)
    counts["rows without a track"] += table["track_id"].null_count() - left_out.total()
    table = table.filter(pl.col("track_id").is_not_null())
    cleaners: dict[Part, Callable[[], pl.DataFrame]] = {
        "likes": lambda: _likes(table, where, counts, time_named=time_named),
        "tracks": lambda: _tracks(table, where, counts),
        "features": lambda: _features(table, where, counts),
    }
    return {part: cleaners[part]() for part in parts}


def _set_null(column: pl.Series, wrong: pl.Series, what: str, counts: Counter[str]) -> pl.Series:
    """The column with null in place of values that are ``wrong``, which are counted."""
    wrong = wrong.fill_null(False)
    if not wrong.any():
        return column
    counts[what] += int(wrong.sum())
    return column.set(wrong, None)


def as_ids(column: pl.Series, role: str, where: str, counts: Counter[str]) -> pl.Series:
    """Ids as clean strings or null; see `clean`. Raises InputError for a type that no id has."""
    kind = column.dtype
    if kind.is_integer():
        return column.cast(pl.String)
    if kind.is_float():
        # Table libraries make floats of whole numbers with missing values.
        whole = column.fill_nan(None)
        if not ((whole == whole.round(0)) | whole.is_null()).all():
            raise InputError(
                f"{where}: column {role} holds fractional numbers; ids are text or whole numbers"
            )
        return whole.cast(pl.Int64).cast(pl.String)
    if not (kind in {pl.String, pl.Categorical, pl.Null} or isinstance(kind, pl.Enum)):
        raise InputError(f"{where}: column {role} is of type {kind}; ids are text or whole numbers")
    column = column.cast(pl.String).str.strip_chars()
    column = column.set(column == "", None)
    broken = column.str.contains("\n", literal=True)
    column = _set_null(column, broken & column.is_not_null(), "ids with a line break", counts)
    column = _bare_tracks(column, counts) if role == "track_id" else _bare(column)
    too_long = column.str.len_bytes() > MAX_ID_BYTES
    return _set_null(column, too_long, f"ids longer than {MAX_ID_BYTES:,} bytes", counts)


def _bare_tracks(column: pl.Series, counts: Counter[str]) -> pl.Series:
    """Track ids, cleaned; null in place of those of episodes, local files, artists and the like, counted by
    kind."""
    read = _read_ids(column)
    kinds = defaultdict[Kind, list[str]](list)
    for written, found in read.items():
        kinds[found.kind].append(written)
    for kind, what in _NO_TRACKS.items():
        if kind in kinds:
            column = _set_null(column, column.is_in(kinds[kind]), what, counts)
    tracks = kinds["track"]
    return column.replace(tracks, [read[written].id for written in tracks])


def _bare(column: pl.Series) -> pl.Series:
    """Ids of users, playlists, artists or albums, or lists of them: URIs and links reduced to their ids, all
    else as written."""
    lists = isinstance(column.dtype, pl.List)
    read = _read_ids(column.explode() if lists else column)
    others = {written: found.id for written, found in read.items() if found.kind != "track"}
    written, ids = list(others), list(others.values())
    return column.list.eval(pl.element().replace(written, ids)) if lists else column.replace(written, ids)


def _read_ids(column: pl.Series) -> dict[str, SongId]:
    """What the distinct texts of a column name that are more than plain ids."""
    written = column.filter(column.str.contains(_NOT_PLAIN)).unique()
    return {text: read_id(text) for text in written.to_list()}


def _likes(table: pl.DataFrame, where: str, counts: Counter[str], *, time_named: bool) -> pl.DataFrame:
    counts["rows without a user"] += table["user_id"].null_count()
    table = table.filter(pl.col("user_id").is_not_null())
    if "weight" in table.columns:
        weight = _numbers(table["weight"], "weight", where, counts).fill_nan(None)
        liked = (weight > 0).fill_null(False)
        counts["rows of no weight"] += int((~liked).sum())
        table = table.filter(liked)
    if "liked_at" in table.columns:
        liked_at = _times(table["liked_at"], where, counts, named=time_named)
    else:
        liked_at = pl.repeat(None, len(table), dtype=pl.Datetime("us", "UTC"), eager=True)
    pairs = table.select("user_id", "track_id", liked_at.alias("liked_at"))
    # Two 32-bit codes in one number: ten times faster to compare than pairs of strings.
    codes = [
        pl.col(name).cast(pl.Categorical).to_physical().cast(pl.UInt64) for name in ("user_id", "track_id")
    ]
    pairs = pairs.with_columns((codes[0] * 2**32 + codes[1]).alias("pair"))
    first = pairs["pair"].is_first_distinct()
    repeated = len(pairs) - int(first.sum())
    counts["repeated likes"] += repeated
    if repeated and pairs["liked_at"].null_count() < len(pairs):
        pairs = pairs.group_by("pair", maintain_order=True).agg(
            pl.col("user_id", "track_id").first(), pl.col("liked_at").min()
        )
    elif repeated:
        pairs = pairs.filter(first)
    return pairs.select("user_id", "track_id", "liked_at")


def _tracks(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.DataFrame:
    columns = {"track_id": table["track_id"]}
    for role in ("name", "isrc", "genre", "image_url", "preview_url"):
        if role in table.columns:
            columns[role] = _text(table[role])
    if "album_id" in table.columns:
        columns["album_id"] = _bare(_text(table["album_id"]))
    for role in ("artists", "artist_ids"):
        if role in table.columns:
            lists = _list(table[role])
            columns[role] = _bare(lists) if role == "artist_ids" else lists
    for role, scale in (("duration", None), ("duration_s", 1000.0), ("duration_ms", 1.0)):
        if role in table.columns:
            columns["duration_ms"] = _duration(table[role], role, scale, where, counts)
    if "explicit" in table.columns:
        columns["explicit"] = _truth(table["explicit"])
    return _first_known(pl.DataFrame(columns), "tracks")


def _features(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.DataFrame:
    columns = {"track_id": table["track_id"]}
    for name in AUDIO_FEATURES:
        if name in table.columns:
            values = _numbers(table[name], name, where, counts).fill_nan(None)
            if name == "key":
                values = _set_null(values, values == -1, "keys not detected", counts)
            wrong = ~values.is_between(*_FEATURE_RANGES[name])
            columns[name] = _set_null(values, wrong, "feature values out of range", counts)
    return _first_known(pl.DataFrame(columns), "features")


def _first_known(table: pl.DataFrame, part: Part) -> pl.DataFrame:
    """One row per track, with the declared columns and types; tracks without any value are left out."""
    known = [name for name in table.columns if name != "track_id"]
    table = table.filter(~pl.all_horizontal(pl.col(known).is_null()))
    if table["track_id"].n_unique() < len(table):
        table = table.group_by("track_id", maintain_order=True).agg(pl.col(known).drop_nulls().first())
    empty = empty_frame(part)
    return table.select(
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in empty.schema.items()
    )


def _numbers(column: pl.Series, role: str, where: str, counts: Counter[str]) -> pl.Series:
    if column.dtype.is_numeric() or column.dtype in {pl.Boolean, pl.Null}:
        return column.cast(pl.Float64)
    if column.dtype != pl.String:
        raise InputError(f"{where}: column {role} is of type {column.dtype}; it has to hold numbers")
    text = column.str.strip_chars()
    text = text.set(text.is_in(_MISSING), None)
    numbers = text.cast(pl.Float64, strict=False)
    unread = text.is_not_null() & numbers.is_null()
    if unread.any() and not numbers.is_not_null().any():
        row = int(unread.arg_true()[0]) + 1
        raise InputError(
            f"{where}: column {role} holds no numbers (row {row} has {shown([text[row - 1]])}); "
            "correct it, or say with --kind that it is not to be read"
        )
    counts[f"{role} values that are no numbers"] += int(unread.sum())
    return numbers


def _times(column: pl.Series, where: str, counts: Counter[str], *, named: bool) -> pl.Series:
    """Times in UTC: dates and times as they are, ISO 8601 text, or numbers since 1970 in seconds, milli-,
    micro- or nanoseconds, depending on their size. Text without an offset is UTC."""
    name, kind = column.name, column.dtype
    utc = pl.Datetime("us", "UTC")
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return column.dt.replace_time_zone("UTC").cast(utc)
        return column.dt.convert_time_zone("UTC").cast(utc)
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if kind.is_numeric():
        given, times = column, _since_1970(column)
    elif kind == pl.String:
        text = column.str.strip_chars()
        given = text.set(text.is_in(_MISSING), None)
        iso = given.str.replace("T", " ", literal=True).str.replace(r"\s*[Zz]$", "+00:00")
        iso = iso.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1} 00:00")
        iso = iso.str.replace(r"(:\d\d(?:\.\d+)?)$", "${1}+00:00").str.replace(
            r"([+-]\d\d):?(\d\d)\+00:00$", "${1}:${2}"
        )
        frame = given.alias("given").to_frame().with_columns(iso.alias("iso"))
        times = frame.select(
            pl.coalesce(
                pl.col("iso").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", strict=False),
                pl.col("iso").str.to_datetime("%Y-%m-%d %H:%M%:z", time_unit="us", strict=False),
                _since_1970(given.cast(pl.Float64, strict=False)),
            )
        ).to_series()
    else:
        given, times = column, pl.repeat(None, len(column), dtype=utc, eager=True)
    unread = int((given.is_not_null() & times.is_null()).sum())
    if named and unread and times.null_count() == len(times):
        raise InputError(
            f"{where}: no time in --time-column is readable; write ISO 8601, or seconds since 1970"
        )
    counts["times not understood"] += unread
    return times.cast(utc).alias(name)


def _since_1970(numbers: pl.Series) -> pl.Series:
    n = pl.col("n")
    micros = (
        pl.when(n < 1e11).then(n * 1e6).when(n < 1e14).then(n * 1e3).when(n < 1e17).then(n).otherwise(n / 1e3)
    )
    usable = n.is_between(1.0, 4e18)
    frame = numbers.cast(pl.Float64).alias("n").to_frame()
    return frame.select(
        pl.when(usable).then(micros).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    ).to_series()


def _text(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        column = column.list.first()
    text = column.cast(pl.String, strict=False).str.strip_chars()
    return text.set(text.is_in(_MISSING), None)


def _list(column: pl.Series) -> pl.Series:
    """Names or ids as lists; text becomes a list of one. Nulls, blanks and empty lists are left out."""
    if not isinstance(column.dtype, pl.List):
        column = _text(column).to_frame("entry").select(pl.concat_list("entry")).to_series()
    entry = pl.element().cast(pl.String, strict=False).str.strip_chars()
    lists = column.list.eval(entry.filter(pl.element().is_not_null() & ~entry.is_in(_MISSING)))
    return lists.set((lists.list.len() == 0).fill_null(False), None)


def _duration(
    column: pl.Series, role: str, scale: float | None, where: str, counts: Counter[str]
) -> pl.Series:
    values = _numbers(column, role, where, counts).fill_nan(None)
    if scale is None:
        scale = 1.0 if (values.median() or 0) > 10_000 else 1000.0  # type: ignore[operator]
    milliseconds = (values * scale).round(0)
    wrong = ~milliseconds.is_between(1, 86_400_000)  # no song lasts longer than a day
    return _set_null(milliseconds, wrong, "lengths out of range", counts).cast(pl.Int64)


def _truth(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String, strict=False).str.to_lowercase().str.strip_chars()
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return text.replace_strict(words, default=None, return_dtype=pl.Boolean)
