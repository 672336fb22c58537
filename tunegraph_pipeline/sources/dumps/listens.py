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
from collections.abc import Iterator, Mapping, Sequence
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

_PLAIN = r"regexp_replace(regexp_replace({}, '[\t\n\r]+', ' ', 'g'), '\p{{Cc}}', '', 'g')"
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
            self._name(file)
            self._db.execute(_READ.format(file=_text(file), known=_known(span)))
            counts = dict(self._db.execute(_FATES).fetchall())
            self._copy(_COUNTED, into.plays)
            self._copy(_WRITINGS, into.tracks)
            self._db.execute("DROP TABLE listens")
        counts |= {BY_NAMES: counts.pop("by names"), LATE: counts.pop("late")}
        counts[LISTENS] = sum(n for fate, n in counts.items() if fate not in (BY_NAMES, LATE))
        return Counter({what: n for what, n in counts.items() if what and n})

    def merge(self, parts: Sequence[Parts], into: Parts) -> None:
        """Add up ``parts`` into what raw batches hold: parts ``plays`` and ``tracks``."""
        with self._errors(into.plays.parent):
            plays, tracks = ([_text(getattr(one, which)) for one in parts] for which in ("plays", "tracks"))
            self._copy(_ALL_PLAYS.format(user=USER, files=", ".join(plays)), into.plays)
            of_tracks = _ALL_TRACKS.format(
                files=", ".join(tracks),
                title=_PLAIN.format("recording_name"),
                credit=_PLAIN.format("artist_name"),
                release=_PLAIN.format("release_name"),
                between=CREDIT_MARKS,
            )
            self._copy(of_tracks, into.tracks)

    def _name(self, file: Path) -> None:
        """Make the table of the ids of songs that are known by their names alone."""
        written = self._db.sql(_NAMED.format(file=_text(file))).to_arrow_table()
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


def _known(span: Span) -> str:
    """The SQL that tells what becomes of a listen: nothing where it counts, else why it does not."""
    fates: Mapping[str, str] = {
        NAMELESS: "(mbid IS NULL AND named IS NULL) OR user_id IS NULL OR listened_at IS NULL",
        LATER: f"listened_at > {_moment(span.until)}",
        **({BEFORE: f"listened_at < {_moment(span.since)}"} if span.since else {}),
        **({AGAIN: f"created < {_moment(span.created_since)}"} if span.created_since else {}),
    }
    cases = " ".join(f"WHEN {condition} THEN '{fate}'" for fate, condition in fates.items())
    late = f"listened_at < {_moment(span.late_before)}" if span.late_before else "false"
    return f"CASE {cases} ELSE '' END AS fate, {late} AS is_late"


_READ = """
CREATE OR REPLACE TEMP TABLE listens AS
WITH given AS (
    SELECT listened_at::TIMESTAMP AS listened_at, created::TIMESTAMP AS created, user_id::BIGINT AS user_id,
        artist_name, recording_name, artist_credit_mbids, TRY_CAST(release_mbid AS UUID) AS release_mbid,
        release_name, TRY_CAST(recording_mbid AS UUID) AS mbid
    FROM read_parquet({file})
), identified AS (
    SELECT given.*, named.track_id AS named FROM given LEFT JOIN named
    ON mbid IS NULL AND given.artist_name = named.artist_name AND given.recording_name = named.recording_name
)
SELECT *, {known} FROM identified
"""
_NAMED = """
SELECT DISTINCT artist_name, recording_name FROM read_parquet({file})
WHERE TRY_CAST(recording_mbid AS UUID) IS NULL AND artist_name IS NOT NULL AND recording_name IS NOT NULL
"""
_FATES = """
SELECT fate, count(*) FROM listens GROUP BY fate
UNION ALL SELECT 'by names', count(*) FROM listens WHERE mbid IS NULL AND fate = ''
UNION ALL SELECT 'late', count(*) FROM listens WHERE fate = '' AND is_late
"""
_COUNTED = """
SELECT user_id, mbid, named, listened_at::DATE AS played_on, count(*) AS plays
FROM listens WHERE fate = '' GROUP BY ALL
"""
_WRITINGS = """
SELECT mbid, named, recording_name, artist_name, artist_credit_mbids, release_mbid, release_name,
    count(*) AS listens
FROM listens WHERE fate = '' GROUP BY ALL
"""
_ALL_PLAYS = """
SELECT '{user}' || user_id AS user_id, coalesce(mbid::VARCHAR, named) AS track_id, played_on, plays
FROM (
    SELECT user_id, mbid, named, played_on, sum(plays)::INTEGER AS plays
    FROM read_parquet([{files}]) GROUP BY ALL
)
"""
_ALL_TRACKS = """
WITH written AS (
    SELECT * EXCLUDE listens, sum(listens)::BIGINT AS listens FROM read_parquet([{files}]) GROUP BY ALL
), chosen AS (
    SELECT mbid, named, max(struct_pack(
        listens := listens, title := {title}, credit := {credit},
        mbids := artist_credit_mbids, album := release_mbid, called := {release}
    )) AS best FROM written GROUP BY mbid, named
), split AS (
    SELECT coalesce(mbid::VARCHAR, named) AS track_id, best,
        regexp_split_to_array(best.credit, '{between}') AS names
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
