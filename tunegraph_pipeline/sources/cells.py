"""Clean the cells of a column: ids, names, times, numbers.

Here: one function for each kind of cell, for columns of any type; what is wrong becomes null and is counted.
Not here: which column holds what (`columns`), or what rows become (`rows`).
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import MOST_ID_BYTES
from tunegraph_pipeline.lake.id_forms import composed_ids
from tunegraph_pipeline.song_ids import Kind, SongId, read_id
from tunegraph_pipeline.sources.names import shown

FIRST_TIME = datetime(1990, 1, 1, tzinfo=UTC)
"""No service had likes before; an earlier time is another number, or of a clock that was not set."""

TIMES_OUT_OF_RANGE = "times before 1990 or in the future"
"""What is counted for such a time."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")
"""What programs write into an empty cell."""

NO_IDS = (*MISSING, "NULL", "NONE", "\\N", "<NA>", "n/a")
"""What programs write for a missing id."""


def set_null(column: pl.Series, wrong: pl.Series, what: str, counts: Counter[str]) -> pl.Series:
    """The column with null in place of the values that are ``wrong`` (bool, null counts as false), which are
    counted as ``what``."""
    wrong = wrong.fill_null(False)
    if not wrong.any():
        return column
    counts[what] += int(wrong.sum())
    return column.set(wrong, None)


# --- ids ---------------------------------------------------------------------------------------------------

_LONG_COLUMN = 100_000
"""From so many rows on, only the distinct ids of a column are cleaned."""


def as_ids(column: pl.Series, role: str, where: str, counts: Counter[str]) -> pl.Series:
    """Clean ids, null for a missing one: String, or Categorical for a long column.

    ``role`` is ``track_id``, whose ids of episodes, artists and the like become null, or another one. Adds
    what becomes null to ``counts``. Raises InputError for a type that no id has.
    """
    if column.dtype.is_float():
        column = _whole(column, role, where)
    kind = column.dtype
    texts = kind in {pl.String, pl.Null} or isinstance(kind, pl.Categorical | pl.Enum)
    if not (texts or kind.is_integer()):
        raise InputError(f"{where}: column {role} is of type {kind}; ids are text or whole numbers")
    if len(column) < _LONG_COLUMN:
        return _clean_ids(column.cast(pl.String), role, counts)
    values = column.unique().drop_nulls()
    dropped: Counter[str] = Counter()
    clean = _clean_ids(values.cast(pl.String), role, dropped)
    if dropped.total() or clean.has_nulls():  # counted by row, so each row is looked at
        return _clean_ids(column.cast(pl.String), role, counts)
    return column.replace_strict(
        values, clean.cast(pl.Categorical), default=None, return_dtype=pl.Categorical
    )


def _whole(column: pl.Series, role: str, where: str) -> pl.Series:
    """Floats as int64; table libraries make floats of whole numbers with missing values."""
    whole = column.fill_nan(None)
    if whole.is_infinite().any():
        raise InputError(f"{where}: column {role} holds infinite numbers; ids are text or whole numbers")
    if not ((whole == whole.round(0)) | whole.is_null()).all():
        raise InputError(f"{where}: column {role} holds fractional numbers; ids are text or whole numbers")
    return whole.cast(pl.Int64)


def _clean_ids(column: pl.Series, role: str, counts: Counter[str]) -> pl.Series:
    column = composed_ids(column).str.strip_chars()
    column = column.set(column.is_in(NO_IDS).fill_null(value=False), None)
    broken = column.str.contains("\n", literal=True)
    column = set_null(column, broken & column.is_not_null(), "ids with a line break", counts)
    steering = column.str.contains(_CONTROLS) & column.is_not_null()
    column = set_null(column, steering, "ids with a control character", counts)
    column = _bare_tracks(column, counts) if role == "track_id" else bare_ids(column)
    return without_long_ids(column, counts)


def without_long_ids(column: pl.Series, counts: Counter[str]) -> pl.Series:
    """Ids with null in place of those that are longer than `MOST_ID_BYTES`, which are counted."""
    too_long = column.cast(pl.String).str.len_bytes() > MOST_ID_BYTES
    return set_null(column, too_long, f"ids longer than {MOST_ID_BYTES:,} bytes", counts)


_NO_TRACKS: dict[Kind, str] = {
    "local file": "local files, which have no id",
    "episode": "podcast episodes",
    "short link": "shortened links, which only their service can follow",
    "artist": "artists",
    "album": "albums",
    "playlist": "playlists",
    "user": "users",
    "link": "links that name no track",
}
"""What is counted for an id that names no track."""


def _bare_tracks(column: pl.Series, counts: Counter[str]) -> pl.Series:
    """Track ids, cleaned; null in place of those of episodes, local files, artists and the like, counted by
    kind."""
    read = _read_ids(column)
    kinds = defaultdict[Kind, list[str]](list)
    for written, found in read.items():
        kinds[found.kind].append(written)
    for kind, what in _NO_TRACKS.items():
        if kind in kinds:
            column = set_null(column, column.is_in(kinds[kind]), what, counts)
    tracks = kinds["track"]
    return column.replace(tracks, [read[written].id for written in tracks])


def bare_ids(column: pl.Series) -> pl.Series:
    """Ids of users, playlists, artists or albums, or lists of them: URIs and links reduced to their ids,
    anything else as written. ``column`` is String or List(String), and so is the result."""
    lists = isinstance(column.dtype, pl.List)
    read = _read_ids(column.explode() if lists else column)
    others = {written: found.id for written, found in read.items() if found.kind != "track"}
    written, ids = list(others), list(others.values())
    return column.list.eval(pl.element().replace(written, ids)) if lists else column.replace(written, ids)


_NOT_PLAIN = r"[:/]|^[0-9A-Fa-f]{8}-"
"""What an id has that `song_ids.read_id` may shorten: a URI, a link, or a UUID."""


def _read_ids(column: pl.Series) -> dict[str, SongId]:
    """The distinct texts of a column that are more than plain ids, and what they name."""
    written = column.filter(column.str.contains(_NOT_PLAIN)).unique()
    return {text: read_id(text) for text in written.to_list()}


# --- times -------------------------------------------------------------------------------------------------

_UTC = pl.Datetime("us", "UTC")


def as_times(column: pl.Series, counts: Counter[str]) -> pl.Series:
    """Times as Datetime("us", "UTC"): dates and times as they are, text as ISO 8601 or in another usual form,
    numbers since 1970 in seconds, milli-, micro- or nanoseconds, by their size. Text without an offset is
    UTC.

    ``3/4/2021`` is read where the column has a day above 12, which tells days from months. Null, and counted:
    what is not understood, and times before 1990 or in the future.
    """
    name, kind = column.name, column.dtype
    if isinstance(kind, pl.Datetime):
        given = column
        times = column.dt.replace_time_zone("UTC") if kind.time_zone is None else column
        times = times.dt.convert_time_zone("UTC").cast(_UTC)
    elif kind == pl.Date:
        given, times = column, column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    elif kind.is_numeric():
        given, times = column, _since_1970(column)
    elif kind == pl.String:
        given, times = _text_times(column)
    else:
        given, times = column, pl.repeat(None, len(column), dtype=_UTC, eager=True)
    counts["times not understood"] += int((given.is_not_null() & times.is_null()).sum())
    latest = datetime.now(UTC) + timedelta(days=1)
    times = set_null(times.cast(_UTC), ~times.is_between(FIRST_TIME, latest), TIMES_OUT_OF_RANGE, counts)
    return times.alias(name)


_PART = 1 << 20
"""Rows whose times are read at a time."""


def _text_times(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """True for each cell that is given and null for others, and the times that they say. A part of a long
    column is read at a time, since each form makes copies of the text."""
    parts = [_plain_times(column.slice(start, _PART)) for start in range(0, max(1, len(column)), _PART)]
    given = pl.concat([part[0] for part in parts])
    times = pl.concat([part[1] for part in parts])
    left = (times.is_null() & given).arg_true()
    if len(left):
        times = times.scatter(left, _other_forms(column.gather(left).str.strip_chars()))
    return given.set(~given, None), times


def _plain_times(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Which cells are given, and the times of those that are numbers or ISO 8601."""
    text = column.str.strip_chars()
    text = text.set(text.is_in(MISSING), None)
    given = text.is_not_null()
    times = _since_1970(text.cast(pl.Float64, strict=False))
    for read in (_usual_iso, _iso):
        left = (times.is_null() & given).arg_true()
        if len(left):
            times = times.scatter(left, read(text.gather(left)))
    return given, times


def _usual_iso(text: pl.Series) -> pl.Series:
    """Times that are written like the first one, if that is in a usual form: three times as fast as
    `_iso`."""
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S"):
        times = text.head(1).str.to_datetime(form, time_unit="us", strict=False)
        if times[0] is not None:
            times = text.str.to_datetime(form, time_unit="us", strict=False)
            return times.dt.replace_time_zone("UTC")
    return pl.repeat(None, len(text), dtype=_UTC, eager=True)


def _iso(text: pl.Series) -> pl.Series:
    """Times in ISO 8601; null for other text."""
    iso = text.str.replace(r"^(\d{4}-\d\d-\d\d)[Tt]", "${1} ").str.replace(r"\s*([Zz]|UTC|GMT)$", "+00:00")
    iso = iso.str.replace(r"(\d\d:\d\d.*[+-]\d\d)$", "${1}:00")
    iso = iso.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1} 00:00")
    iso = iso.str.replace(r"(:\d\d(?:\.\d+)?)$", "${1}+00:00")
    iso = iso.str.replace(r"([+-]\d\d):?(\d\d)\+00:00$", "${1}:${2}").alias("iso")
    forms = ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M%:z")
    read = [pl.col("iso").str.to_datetime(form, time_unit="us", strict=False) for form in forms]
    return iso.to_frame().select(pl.coalesce(read)).to_series().cast(_UTC)


_MONTHS_FIRST, _DAYS_FIRST = ("%m/%d/%y", "%m/%d/%Y"), ("%d/%m/%y", "%d/%m/%Y")
_YEAR_FIRST = ("%Y-%m-%d", "%Y/%m/%d", "%Y年%m月%d日")
_DATES = ("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%a, %d %b %Y", "%d.%m.%y", "%d.%m.%Y")
_CLOCKS = ("", " %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p")


def _other_forms(text: pl.Series) -> pl.Series:
    """Times as people and other programs write them, such as 31 Jan 2021, 23:36 or 11/14/2023."""
    plain = text.str.replace_all(r"[\s\u202f]+", " ").str.replace(r" ?(UTC|GMT|Z)$", "")
    plain = (
        plain.str.replace(r",? (\d{1,2}:\d\d)", " ${1}")
        .str.replace(r"(?i) ?([ap])\.?m\.?$", " ${1}m")
        .alias("t")
    )
    slashes = plain.str.extract_groups(r"^(\d{1,2})/(\d{1,2})/").struct.unnest()
    first, second = ((slashes[part].cast(pl.Int32) > 12).fill_null(value=False) for part in slashes.columns)
    times = pl.repeat(None, len(plain), dtype=pl.Datetime("us"), eager=True)
    with_year_first = plain.str.contains(r"^\d{4}\D")
    for dates, where in (
        (_YEAR_FIRST, with_year_first),
        (_DATES, ~with_year_first),
        # A column that has both kinds says nothing of a day that could be either.
        (_DAYS_FIRST, first if second.any() else pl.repeat(first.any(), len(plain), eager=True)),
        (_MONTHS_FIRST, second if first.any() else pl.repeat(second.any(), len(plain), eager=True)),
    ):
        for form in (date + clock for clock in _CLOCKS for date in dates):
            left = (times.is_null() & plain.is_not_null() & where).arg_true()
            if not len(left):
                break
            times = times.scatter(left, _parsed(plain.gather(left), form))
    return times.dt.replace_time_zone("UTC")


def _parsed(text: pl.Series, form: str) -> pl.Series:
    if "%H" in form or "%I" in form:
        return text.str.to_datetime(form, time_unit="us", strict=False).cast(pl.Datetime("us"))
    return text.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def _since_1970(numbers: pl.Series) -> pl.Series:
    """Times from numbers since 1970, or from dates such as 20210304."""
    n = pl.col("n")
    micros = (
        pl.when(n < 1e11).then(n * 1e6).when(n < 1e14).then(n * 1e3).when(n < 1e17).then(n).otherwise(n / 1e3)
    )
    usable = n.is_between(-1e18, 4e18)
    # As seconds, 20210304 would be in 1970.
    date = pl.when(n.is_between(19_900_101, 21_001_231)).then(n).cast(pl.Int64).cast(pl.String)
    days = date.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    frame = numbers.cast(pl.Float64).alias("n").to_frame()
    return frame.select(pl.coalesce(days, pl.when(usable).then(micros).cast(pl.Int64).cast(_UTC))).to_series()


# --- numbers and text --------------------------------------------------------------------------------------


def as_numbers(column: pl.Series, role: str, where: str, counts: Counter[str]) -> pl.Series:
    """Numbers as float64. Text that is no number becomes null, and is counted; InputError is raised for a
    column of such text alone, or of another type."""
    if column.dtype.is_numeric() or column.dtype in {pl.Boolean, pl.Null}:
        return column.cast(pl.Float64)
    if column.dtype != pl.String:
        raise InputError(f"{where}: column {role} is of type {column.dtype}; it has to hold numbers")
    text = column.str.strip_chars()
    text = text.set(text.is_in(MISSING), None)
    numbers = text.cast(pl.Float64, strict=False)
    unread = text.is_not_null() & numbers.is_null()
    if unread.any() and not numbers.is_not_null().any():
        row = int(unread.arg_true()[0]) + 1
        raise InputError(
            f"{where}: column {role} holds no numbers (row {row} has {shown([text[row - 1]])}); correct it,"
            " or say with --kind that it is not to be read"
        )
    counts[f"{role} values that are no numbers"] += int(unread.sum())
    return numbers


def as_text(column: pl.Series) -> pl.Series:
    """Cells as String without blanks around them, of lists the first entry; null for missing values."""
    if isinstance(column.dtype, pl.List):
        column = column.list.first()
    text = column.cast(pl.String, strict=False).str.strip_chars()
    return text.set(text.is_in(MISSING), None)


_BREAKS = r"[\t\n\x0b\x0c\r\x{85}\x{2028}\x{2029}]+"
_CONTROLS = r"[\x00-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
"""Characters that steer a terminal, or the direction of the text after them."""


def without_controls(rows: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Rows whose names have no control characters: a blank for a line break or tab, nothing for others. Names
    that had some are counted."""
    changed = 0
    for role in ("name", "artists", "pair", "genre", "album"):
        kind = rows.schema.get(role)
        if kind not in {pl.String, pl.List(pl.String)}:
            continue
        column = rows[role]
        flat = column.explode() if kind == pl.List(pl.String) else column
        had = int(flat.str.contains(_CONTROLS).sum())
        if had:
            changed += had
            text = pl.col(role) if kind == pl.String else pl.element()
            clean = text.str.replace_all(_BREAKS, " ").str.replace_all(_CONTROLS, "")
            rows = rows.with_columns(clean if kind == pl.String else pl.col(role).list.eval(clean))
    if changed:
        counts["names with control characters, which were taken out"] += changed
    return rows


def without_other_links(tracks: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Tracks with null in place of addresses of covers and previews that are not of the web, counted."""
    for role in ("image_url", "preview_url"):
        if tracks.schema.get(role) == pl.String:
            other = ~tracks[role].str.contains(r"(?i)^https?://[^\s\x00-\x1f\x7f]+$")
            counted = set_null(tracks[role], other, "links that are neither http nor https", counts)
            tracks = tracks.with_columns(counted)
    return tracks


def as_list(column: pl.Series) -> pl.Series:
    """Names or ids as List(String); text becomes a list of one. Missing entries are left out, and a list
    without any other is null."""
    if not isinstance(column.dtype, pl.List):
        column = as_text(column).to_frame("entry").select(pl.concat_list("entry")).to_series()
    entry = pl.element().cast(pl.String, strict=False).str.strip_chars()
    lists = column.list.eval(entry.filter(pl.element().is_not_null() & ~entry.is_in(MISSING)))
    return lists.set((lists.list.len() == 0).fill_null(False), None)


def as_duration(column: pl.Series, role: str, scale: float | None, counts: Counter[str]) -> pl.Series:
    """Lengths in milliseconds, int64, from numbers times ``scale`` (None: seconds or milliseconds, by their
    median), or from text such as 3:20 or 225s. What is not understood, or longer than a day, becomes null,
    and is counted: no like depends on it."""
    text = as_text(column)
    parts = text.str.extract_groups(r"^(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)$").struct.unnest()
    clock = parts.select(
        pl.col(parts.columns[0]).cast(pl.Float64).fill_null(0) * 3600
        + pl.col(parts.columns[1]).cast(pl.Float64) * 60
        + pl.col(parts.columns[2]).cast(pl.Float64)
    ).to_series()
    values = text.str.replace(r"\s*s(ec)?$", "").cast(pl.Float64, strict=False).fill_nan(None)
    if scale is None:
        scale = 1.0 if (values.median() or 0) > 10_000 else 1000.0  # type: ignore[operator]
    milliseconds = pl.select(pl.coalesce((values * scale), clock * 1000)).to_series().round(0)
    counts[f"{role} values that are no lengths"] += int((text.is_not_null() & milliseconds.is_null()).sum())
    wrong = ~milliseconds.is_between(1, 86_400_000)  # no song lasts longer than a day
    return set_null(milliseconds, wrong, "lengths out of range", counts).cast(pl.Int64)


def as_year(column: pl.Series) -> pl.Series:
    """The years of dates such as 1997, 1997-05 and 1997-05-21, int32; null for anything else."""
    return as_text(column).str.extract(r"^(1[89]\d\d|20\d\d)(?:\.0)?(?:-.*)?$").cast(pl.Int32)


_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def as_truth(column: pl.Series) -> pl.Series:
    """Words or numbers for true and false as bool; null for anything else."""
    text = column.cast(pl.String, strict=False).str.to_lowercase().str.strip_chars()
    return text.replace_strict(_TRUTHS, default=None, return_dtype=pl.Boolean)
