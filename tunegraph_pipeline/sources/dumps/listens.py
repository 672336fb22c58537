"""From listens to plays and tracks, out of core.

Here: what a listen counts as, and DuckDB queries over parquet files, bounded in memory. Not here: where the
files come from (`archive`), or which plays make a like (`pipeline`).

Files are taken one by one: each becomes plays by user, track and day, and the writings of each track with how
often they were met, so that it can be removed before the next one comes. `merge` adds these up. Nothing
depends on the order of rows or files.

A track is a recording's MBID where the listen has one, else what `song_ids.name_id` makes of artist and
title. Of several writings of a track the most frequent is kept.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tunegraph_pipeline.errors import InputError, ShortageError
from tunegraph_pipeline.ids import is_too_long
from tunegraph_pipeline.lake.storage import disk_errors
from tunegraph_pipeline.song_ids import name_id
from tunegraph_pipeline.song_names import CREDIT_MARKS

USER = "listenbrainz:"
"""What the id of a user begins with; the number of the dumps follows."""

LISTENS = "listens"
NAMELESS = "listens without MBID and names, left out"
BY_NAMES = "listens without MBID, known by names"
BEFORE = "listens from before the window, left out"
LATER = "listens dated after the dump, left out"
AGAIN = "listens of an earlier dump, left out"
LATE = "listens that came late, of days before the dump"

_PLAIN = (
    r"CASE WHEN regexp_matches({0}, '\p{{Cc}}')"
    r" THEN regexp_replace(regexp_replace({0}, '[\t\n\r]+', ' ', 'g'), '\p{{Cc}}', '', 'g') ELSE {0} END"
)
"""A name without control characters."""


@dataclass(frozen=True)
class Span:
    """Which listens count (times in UTC): those from ``since`` on, where that is given, up to ``until``, and
    those inserted from ``created_since`` on, where an earlier dump had others. A listen of a day before that
    of ``late_before`` came late."""

    until: datetime
    since: datetime | None = None
    created_since: datetime | None = None
    late_before: datetime | None = None


@dataclass(frozen=True)
class Parts:
    """Where the plays and the tracks of something are."""

    plays: Path
    tracks: Path

    @classmethod
    def of(cls, folder: Path, name: str = "") -> "Parts":
        return cls(folder / f"{name}plays.parquet", folder / f"{name}tracks.parquet")


class Listens:
    """Turns files of listens into plays, with at most ``memory_gb`` of memory; spills into ``scratch``.

    Raises InputError where a file cannot be read, ShortageError where memory does not suffice, LakeError
    where the disk does not. Use it in a ``with`` block.
    """

    def __init__(self, memory_gb: float, scratch: Path) -> None:
        self._memory_gb = memory_gb
        self._scratch = scratch

    def __enter__(self) -> "Listens":
        import duckdb

        self._db = duckdb.connect()
        self._db.execute(
            f"SET memory_limit = '{self._memory_gb * 1000:.0f}MB';"
            f" SET temp_directory = {_text(self._scratch)}; SET preserve_insertion_order = false;"
            " SET TimeZone = 'UTC'; SET autoinstall_known_extensions = false"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def count(self, file: Path, span: Span, into: Parts) -> Counter[str]:
        """Write the plays and the tracks of one file of listens; returns how many listens there were, and how
        many were left out or noticed."""
        with self._errors(file):
            self._db.execute(_HEARD.format(file=_text(file), fate=_fate(span)))
            self._db.execute(_WRITINGS.format(file=_text(file)))
            self._name()
            self._db.execute(_IDENTIFIED)
            counts: Counter[str] = Counter()
            for fate, is_named, is_late, n in self._db.execute(_FATES.format(late=_late(span))).fetchall():
                counts[LISTENS] += n
                if fate is not None:
                    counts[_LEFT_OUT[fate]] += n
                    continue
                counts[BY_NAMES] += n * is_named
                counts[LATE] += n * is_late
            self._copy(_COUNTED, into.plays)
            self._copy(_WRITTEN, into.tracks)
            self._db.execute("DROP TABLE heard; DROP TABLE writings")
        return +counts

    def merge(self, parts: Sequence[Parts], into: Parts) -> None:
        """Add up ``parts`` into what raw batches hold: parts ``plays`` and ``tracks``."""
        with self._errors(into.plays.parent):
            plays, tracks = (
                ", ".join(_text(getattr(one, part)) for one in parts) for part in ("plays", "tracks")
            )
            self._db.execute(_SHARED_DAYS.format(files=plays))
            self._copy(_ALL_PLAYS.format(user=USER, files=plays), into.plays)
            self._db.execute(_FREQUENT.format(files=tracks))
            of_tracks = _ALL_TRACKS.format(
                files=tracks,
                title=_PLAIN.format("recording_name"),
                credit=_PLAIN.format("artist_name"),
                release=_PLAIN.format("release_name"),
                between=CREDIT_MARKS,
            )
            self._copy(of_tracks, into.tracks)
            self._db.execute("DROP TABLE shared_days; DROP TABLE frequent")

    def _name(self) -> None:
        """Make the table of the ids of songs that are known by their names alone."""
        written = self._db.sql(_NAMED).to_arrow_table()
        pairs = zip(written["artist_name"].to_pylist(), written["recording_name"].to_pylist(), strict=True)
        ids = [None if one is None or is_too_long(one) else one for one in (name_id(*pair) for pair in pairs)]
        self._db.register("named", written.append_column("track_id", pa.array(ids, pa.string())))

    def _copy(self, query: str, target: Path) -> None:
        self._db.execute(f"COPY ({query}) TO {_text(target)} (FORMAT parquet, COMPRESSION zstd)")

    @contextmanager
    def _errors(self, where: Path) -> Iterator[None]:
        import duckdb

        with disk_errors(where):
            try:
                yield
            except duckdb.OutOfMemoryException as error:
                raise ShortageError(
                    f"{self._memory_gb:g} GB of memory do not suffice for {where.name}; set more in"
                    " settings.listenbrainz_dumps.memory_gb, or free memory and disk"
                ) from error
            except duckdb.Error as error:
                message = str(error).splitlines()[0]
                if "No space left" in message:
                    raise OSError(28, message) from error
                raise UnreadableListensError(f"{where.name} does not hold listens ({message})") from error


class UnreadableListensError(InputError):
    """A file that is no parquet file of listens, or damaged."""


_LEFT_OUT = (NAMELESS, LATER, BEFORE, AGAIN)
"""Why a listen is left out; the first reason that applies, by its place here."""


def _fate(span: Span) -> str:
    """The SQL of the place in `_LEFT_OUT` of a listen; null where it counts unless its song has no name."""
    cases = [
        "WHEN user_id IS NULL OR listened_at IS NULL THEN 0",
        f"WHEN listened_at > {_moment(span.until)} THEN 1",
    ]
    if span.since:
        cases.append(f"WHEN listened_at < {_moment(span.since)} THEN 2")
    if span.created_since:
        cases.append(f"WHEN created < {_moment(span.created_since)} THEN 3")
    return f"(CASE {' '.join(cases)} END)::UTINYINT"


def _late(span: Span) -> str:
    return f"coalesce(played_on < DATE '{span.late_before:%Y-%m-%d}', false)" if span.late_before else "false"


# A file is read twice. The first time, what is written of a song is one number, its hash of 64 bits, which is
# used within the file alone; the second time, the texts are read of the rows that stand for the others. To
# group by the texts would take twice as long.
_HEARD = """
CREATE OR REPLACE TEMP TABLE heard AS
WITH given AS (
    SELECT listened_at::TIMESTAMP AS listened_at, created::TIMESTAMP AS created, user_id::BIGINT AS user_id,
        hash(recording_mbid, artist_name, recording_name, coalesce(release_mbid::VARCHAR, release_name))
            AS writing, file_row_number
    FROM read_parquet({file}, file_row_number = true)
)
SELECT user_id, writing, listened_at::DATE AS played_on, {fate} AS fate, count(*)::INTEGER AS plays,
    min(file_row_number) AS file_row_number
FROM given GROUP BY ALL
"""
_WRITINGS = """
CREATE OR REPLACE TEMP TABLE writings AS
SELECT writing, listens, artist_name::VARCHAR AS artist_name, recording_name::VARCHAR AS recording_name,
    artist_credit_mbids, TRY_CAST(release_mbid AS UUID) AS release_mbid,
    release_name::VARCHAR AS release_name,
    TRY_CAST(recording_mbid AS UUID) AS mbid
FROM read_parquet({file}, file_row_number = true) JOIN (
    SELECT writing, min(file_row_number) AS file_row_number, sum(plays) FILTER (fate IS NULL) AS listens
    FROM heard GROUP BY writing
) USING (file_row_number)
"""
_NAMED = """
SELECT DISTINCT artist_name, recording_name FROM writings
WHERE mbid IS NULL AND artist_name IS NOT NULL AND recording_name IS NOT NULL
"""
_IDENTIFIED = """
CREATE OR REPLACE TEMP TABLE writings AS
SELECT writings.*, track_id AS named, hash(mbid, track_id) AS track
FROM writings LEFT JOIN named
ON mbid IS NULL AND writings.artist_name = named.artist_name
    AND writings.recording_name = named.recording_name
"""
_FATES = """
SELECT CASE WHEN mbid IS NULL AND named IS NULL THEN 0 ELSE fate END AS left_out, mbid IS NULL, {late},
    sum(plays)::BIGINT
FROM heard JOIN writings USING (writing) GROUP BY ALL
"""
_COUNTED = """
SELECT user_id, any_value(mbid) AS mbid, any_value(named) AS named, played_on, sum(plays)::INTEGER AS plays
FROM heard JOIN writings USING (writing)
WHERE fate IS NULL AND (mbid IS NOT NULL OR named IS NOT NULL)
GROUP BY user_id, track, played_on
"""
_WRITTEN = """
SELECT mbid, named, recording_name, artist_name, artist_credit_mbids, release_mbid, release_name,
    listens::BIGINT AS listens,
    hash(recording_name, artist_name, artist_credit_mbids, release_mbid, release_name) AS writing
FROM writings WHERE listens > 0 AND (mbid IS NOT NULL OR named IS NOT NULL)
"""
_SHARED_DAYS = """
CREATE OR REPLACE TEMP TABLE shared_days AS
SELECT played_on FROM (SELECT DISTINCT filename, played_on FROM read_parquet([{files}], filename = true))
GROUP BY played_on HAVING count(*) > 1
"""
_ALL_PLAYS = """
WITH plays AS (
    SELECT * FROM read_parquet([{files}]) ANTI JOIN shared_days USING (played_on)
    UNION ALL
    SELECT user_id, mbid, named, played_on, sum(plays)::INTEGER AS plays
    FROM read_parquet([{files}]) SEMI JOIN shared_days USING (played_on) GROUP BY ALL
)
SELECT '{user}' || user_id AS user_id, coalesce(mbid::VARCHAR, named) AS track_id, played_on, plays FROM plays
"""
_FREQUENT = """
CREATE OR REPLACE TEMP TABLE frequent AS
SELECT place.file_index, place.file_row_number FROM (
    SELECT mbid, named, writing, sum(listens) AS listens,
        min(struct_pack(file_index, file_row_number)) AS place
    FROM read_parquet([{files}]) GROUP BY mbid, named, writing
) QUALIFY listens = max(listens) OVER (PARTITION BY mbid, named)
"""
_ALL_TRACKS = """
WITH chosen AS (
    SELECT mbid, named, max(struct_pack(
        title := {title}, credit := {credit}, mbids := artist_credit_mbids, album := release_mbid,
        called := {release}
    )) AS best
    FROM (SELECT *, file_index, file_row_number FROM read_parquet([{files}]))
    SEMI JOIN frequent USING (file_index, file_row_number)
    GROUP BY mbid, named
), split AS (
    SELECT coalesce(mbid::VARCHAR, named) AS track_id, best,
        CASE WHEN len(best.mbids) > 1 THEN regexp_split_to_array(best.credit, '{between}') END AS names
    FROM chosen
)
SELECT track_id, NULL::VARCHAR AS isrc, best.title AS name,
    CASE WHEN len(names) = len(best.mbids) THEN names
        WHEN best.credit IS NOT NULL THEN [best.credit] END AS artists,
    CASE WHEN len(best.mbids) > 0 THEN list_transform(best.mbids, lambda one: lower(one)) END AS artist_ids,
    best.album::VARCHAR AS album_id, NULL::VARCHAR AS genre, NULL::VARCHAR AS image_url,
    NULL::VARCHAR AS preview_url, NULL::BIGINT AS duration_ms, NULL::BOOLEAN AS explicit,
    best.called AS album, NULL::INTEGER AS year
FROM split
"""


def _text(path: Path) -> str:
    """A path as a literal of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def _moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}'"


def month_before(at: datetime, months: int) -> datetime:
    """The beginning of the day ``months`` months before, or of the last day of that month.

    >>> month_before(datetime(2026, 5, 31, 12), 3)
    datetime.datetime(2026, 2, 28, 0, 0)
    """
    year, month = divmod(at.year * 12 + at.month - 1 - months, 12)
    following = datetime(year + (month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=at.tzinfo)
    last = (following - timedelta(days=1)).day
    return following.replace(year=year, month=month + 1, day=min(at.day, last))
