"""Plays: how those of a day are added up, and the rule by which a song that was played often is liked.

Here: both as SQL that DuckDB runs within a bounded memory, and the settings of the rule. Not here: which days
there are and which of them changed (`daily`, `pipeline.likes_from_plays`), or what likes from plays do to a
list (`current`).

Plays of dumps add up: each dump tells of other listens. All other plays were read from files, which may tell
of the same play more than once, so that of one user, track and day the largest number counts. Where both tell
of a user's day, the larger number counts. A whole export of a source replaces all that it said on earlier
days.

The rule looks at each user alone. The window ends with the user's own last play, so that likes change only
when the user listens, and nobody's list empties by waiting. A track is liked once it has ``min_plays`` plays
on ``min_days`` days of the window; plays without a day need the number alone. A user with a day of more than
``most_plays_a_day`` is a bot or an account of many people, and none of their plays count.
"""

import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.lake.storage import disk_errors

if TYPE_CHECKING:
    import duckdb

KEY = "user_id, track_id, played_on, source, is_whole"
_MOST_PLAYS = 2**31 - 1
_NO_ROWS = (
    "SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR AS track_id, NULL::DATE AS played_on,"
    " NULL::INTEGER AS plays, NULL::VARCHAR AS source, NULL::BOOLEAN AS is_whole WHERE false"
)
"""The table `plays` of a day that received none."""


class PlaysSettings(BaseModel):
    """Which plays make a like, section ``plays`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_plays: int = Field(default=3, ge=1)
    """How many plays in the window make a song a liked one."""
    min_days: int = Field(default=2, ge=1)
    """On how many days of the window; where only a total is known, that is enough."""
    window_days: int = Field(default=365, ge=1)
    """How many days the window has; it ends with the user's last play."""
    most_likes: int = Field(default=500, ge=1)
    """How many songs a user likes by playing them: those with most plays, of equal ones the latest played."""
    share: float | None = Field(default=None, gt=0, le=1)
    """The share of the user's plays in the window that makes a song a liked one, instead of ``min_plays``."""
    most_plays_a_day: int = Field(default=1000, ge=1)
    """A user with more plays on a day of the window is a bot or a shared account: none of them count."""
    memory_gb: float = Field(default=4.0, gt=0)
    """The memory that adding up plays may take; what does not fit goes to the disk."""


@dataclass(frozen=True)
class PlaysPart:
    """Some rows of plays, as SQL with the columns of ``RAW_SCHEMAS["plays"]``, and what they are part of."""

    rows: str
    source: str
    is_whole: bool


@dataclass(frozen=True)
class DayOfPlays:
    """The rows of the table `plays` on one day, as SQL, and the sources of which they are all there is.
    ``as_received``: they are those of one batch, in its order."""

    rows: str
    whole: frozenset[str] = frozenset()
    as_received: bool = False


@dataclass(frozen=True)
class LikedByPlaying:
    """``likes``: the columns of the table `likes_from_plays`, sorted by user and track; ``facts`` for people,
    in numbers."""

    likes: pl.DataFrame
    facts: Mapping[str, int]


# --- SQL of rows ---


def rows_of_file(path: Path) -> str:
    """The rows of a parquet file."""
    return f"SELECT * FROM read_parquet({as_text(escape(str(path)))})"  # noqa: S608


def day_of(parts: Sequence[PlaysPart], aliases: Aliases) -> DayOfPlays:
    """The table `plays` of a day that received ``parts``, with the ids that stand for users."""
    columns = "user_id, track_id, played_on, plays"
    labelled = [
        f"SELECT {columns}, {as_text(part.source)} AS source, {str(part.is_whole).lower()} AS is_whole"  # noqa: S608
        f" FROM ({part.rows})"
        for part in parts
    ]
    rows = " UNION ALL ".join(labelled) or _NO_ROWS
    whole = frozenset(part.source for part in parts if part.is_whole)
    if len(parts) <= 1 and not aliases.links:
        return DayOfPlays(rows, whole, as_received=True)
    return DayOfPlays(added_up(rows, aliases), whole)


def added_up(rows: str, aliases: Aliases) -> str:
    """Rows of the table `plays` with the ids that stand for users, and one row for each key."""
    if aliases.links:
        pairs = ", ".join(
            f"({as_text(old)}, {as_text(new)})" for old, new in sorted(aliases.user_ids.items())
        )
        rows = (
            "SELECT coalesce(aliases.stands_for, said.user_id) AS user_id, said.* EXCLUDE (user_id)"  # noqa: S608
            f" FROM ({rows}) AS said LEFT JOIN (VALUES {pairs}) AS aliases(alias, stands_for)"
            " ON said.user_id = aliases.alias"
        )
    plays = f"CASE WHEN source = {as_text(DUMPS)} AND NOT is_whole THEN sum(plays) ELSE max(plays) END"
    return (
        "SELECT user_id, track_id, played_on,"  # noqa: S608
        f" CAST(least({plays}, {_MOST_PLAYS}) AS INTEGER) AS plays, source, is_whole"
        f" FROM ({rows}) GROUP BY {KEY}"
    )


def as_text(value: str) -> str:
    """A text as a literal of SQL."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


# --- DuckDB ---


@contextmanager
def bounded_duckdb(staging: Path, memory_gb: float) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB that takes at most ``memory_gb``, and keeps what does not fit below ``staging``, which goes
    with it. Raises LakeError, in one line, where a query fails."""
    import duckdb

    folder = staging / f"{uuid.uuid4().hex}-plays"
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_gb:.3f}GB",
        "temp_directory": str(folder),
        "preserve_insertion_order": False,
    }
    try:
        with disk_errors(folder), duckdb.connect(config=options) as connection:
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise LakeError(
            f"adding up plays takes more than {memory_gb:g} GB of memory, or {staging} has no room for what"
            " does not fit; raise memory_gb in the section plays of the settings, or free some disk"
        ) from error
    except (duckdb.Error, UnicodeDecodeError) as error:
        what = str(error).strip().split("\n", 1)[0]
        raise LakeError(f"the plays cannot be added up ({what}); run `tunegraph verify`") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_day(
    connection: "duckdb.DuckDBPyConnection", day: DayOfPlays, path: Path, facts: Mapping[bytes, bytes]
) -> None:
    """Write the table `plays` of a day into a parquet file with the metadata ``facts``, without a seal. The
    rows are in the order of their one batch, or else sorted, so that the file is always the same."""
    metadata = ", ".join(
        f"{as_text(key.decode())}: {as_text(value.decode())}" for key, value in facts.items()
    )
    order = "" if day.as_received else f" ORDER BY {KEY}"
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(
        f"COPY (SELECT * FROM ({day.rows}){order}) TO {as_text(str(path))}"  # noqa: S608
        f" (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{metadata}}})"
    )


# --- the rule ---


def liked_by_playing(
    connection: "duckdb.DuckDBPyConnection",
    days: Mapping[str, DayOfPlays],
    cut_off: date,
    settings: PlaysSettings,
    users: pl.Series | None = None,
) -> LikedByPlaying:
    """Which songs users like by playing them, as of the cut-off, by the plays received on ``days``; of these
    ``users`` alone where they are given."""
    received = _received(days, cut_off)
    if users is not None:
        connection.register("chosen", users.alias("user_id").to_frame().to_arrow())
        received = f"SELECT * FROM ({received}) SEMI JOIN chosen USING (user_id)"  # noqa: S608
    for statement in _statements(received, settings):
        connection.execute(statement)
    likes = fetch(
        connection,
        "SELECT user_id, track_id, CAST(liked_on AS TIMESTAMP) AS liked_at, CAST(plays AS INTEGER) AS plays,"
        " CAST(days AS INTEGER) AS days"
        " FROM liked JOIN users USING (u) JOIN tracks USING (t) ORDER BY user_id, track_id",
    )
    (facts,) = connection.execute(
        "SELECT (SELECT count(*) FROM users), (SELECT coalesce(sum(plays), 0) FROM counted),"
        " (SELECT count(*) FROM bots),"
        " (SELECT coalesce(sum(plays), 0) FROM counted SEMI JOIN bots USING (u)),"
        " (SELECT count(DISTINCT u) FROM liked)"
    ).fetchall()
    names = (
        "users with plays",
        "plays in their windows",
        "bots and shared accounts",
        "plays of bots and shared accounts",
        "users who like by playing",
    )
    return LikedByPlaying(
        likes.with_columns(pl.col("liked_at").dt.replace_time_zone("UTC")),
        {name: int(fact) for name, fact in zip(names, facts, strict=True)},
    )


def last_whole(sources: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """By source the latest day on which it sent all there is, from the sources of each day that did."""
    return {source: day for day in sorted(sources) for source in sources[day]}


def repeated_rows(connection: "duckdb.DuckDBPyConnection", day: DayOfPlays) -> int:
    """How many keys the table `plays` of a day has more than once."""
    twice = f"SELECT 1 FROM ({day.rows}) GROUP BY {KEY} HAVING count(*) > 1"  # noqa: S608
    return int(fetch(connection, f"SELECT count(*) AS n FROM ({twice})")["n"][0])  # noqa: S608


def listeners(
    connection: "duckdb.DuckDBPyConnection", days: Mapping[str, DayOfPlays], condition: str = "true"
) -> pl.Series:
    """The users with plays on ``days``, in no order; with ``condition`` those with such a row."""
    if not days:
        return pl.Series("user_id", [], dtype=pl.String)
    rows = " UNION ALL ".join(f"SELECT user_id, played_on FROM ({day.rows})" for day in days.values())  # noqa: S608
    return fetch(connection, f"SELECT DISTINCT user_id FROM ({rows}) WHERE {condition}")["user_id"]  # noqa: S608


def fetch(connection: "duckdb.DuckDBPyConnection", query: str) -> pl.DataFrame:
    """The rows of a query."""
    frame = pl.from_arrow(connection.sql(query).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _received(days: Mapping[str, DayOfPlays], cut_off: date) -> str:
    """The rows that count: none from before a whole export of their source, none played after the cut-off."""
    whole_on = last_whole({day: one.whole for day, one in days.items()})
    chosen = []
    for day in sorted(days):
        replaced = ", ".join(as_text(source) for source, whole in sorted(whole_on.items()) if whole > day)
        known = f" WHERE source NOT IN ({replaced})" if replaced else ""
        chosen.append(f"SELECT user_id, track_id, played_on, plays, source FROM ({days[day].rows}){known}")  # noqa: S608
    rows = " UNION ALL ".join(chosen) or _NO_ROWS
    return f"SELECT * FROM ({rows}) WHERE played_on IS NULL OR played_on <= DATE '{cut_off}'"  # noqa: S608


def _statements(received: str, settings: PlaysSettings) -> Iterator[str]:
    """The steps of the rule, as temporary tables. Users and tracks are numbers in them, in the order of their
    ids: these are cheaper to group by."""
    adds = f"source = {as_text(DUMPS)}"
    yield (
        "CREATE OR REPLACE TEMP TABLE users AS SELECT user_id, last_on,"  # noqa: S608
        " CAST(row_number() OVER (ORDER BY user_id) AS INTEGER) AS u"
        f" FROM (SELECT user_id, max(played_on) AS last_on FROM ({received}) GROUP BY user_id)"
    )
    yield (
        "CREATE OR REPLACE TEMP TABLE tracks AS SELECT track_id,"  # noqa: S608
        " CAST(row_number() OVER (ORDER BY track_id) AS INTEGER) AS t"
        f" FROM (SELECT DISTINCT track_id FROM ({received}))"
    )
    yield (
        "CREATE OR REPLACE TEMP TABLE counted AS SELECT u, t, played_on, CAST(least(greatest("  # noqa: S608
        f"coalesce(sum(CASE WHEN {adds} THEN plays END), 0),"
        f" coalesce(max(CASE WHEN NOT {adds} THEN plays END), 0)), {_MOST_PLAYS}) AS INTEGER) AS plays"
        f" FROM ({received}) JOIN users USING (user_id) JOIN tracks USING (track_id)"
        f" WHERE played_on IS NULL OR played_on > last_on - {settings.window_days}"
        " GROUP BY u, t, played_on"
    )
    yield (
        "CREATE OR REPLACE TEMP TABLE bots AS SELECT DISTINCT u FROM"  # noqa: S608
        " (SELECT u FROM counted WHERE played_on IS NOT NULL GROUP BY u, played_on"
        f" HAVING sum(plays) > {settings.most_plays_a_day})"
    )
    dated = "coalesce(sum(CASE WHEN played_on IS NOT NULL THEN plays END), 0)"
    undated = "coalesce(max(CASE WHEN played_on IS NULL THEN plays END), 0)"
    if settings.share is None:
        needs = (
            f"SELECT u, {settings.min_plays} AS dated_need, {settings.min_plays} AS undated_need FROM users"  # noqa: S608
        )
    else:
        all_undated = "coalesce(sum(CASE WHEN played_on IS NULL THEN plays END), 0)"
        needs = (
            f"SELECT u, greatest(1, ceil({settings.share} * {dated})) AS dated_need,"  # noqa: S608
            f" greatest(1, ceil({settings.share} * {all_undated})) AS undated_need FROM counted GROUP BY u"
        )
    yield (
        "CREATE OR REPLACE TEMP TABLE chosen_pairs AS"  # noqa: S608
        " SELECT u, t, greatest(dated, undated) AS plays, days, dated_need FROM"
        f" (SELECT u, t, {dated} AS dated, {undated} AS undated, count(played_on) AS days,"
        " max(played_on) AS last_on FROM counted ANTI JOIN bots USING (u) GROUP BY u, t)"
        f" JOIN ({needs}) USING (u)"
        f" WHERE (dated >= dated_need AND days >= {settings.min_days}) OR undated >= undated_need"
        " QUALIFY row_number() OVER (PARTITION BY u ORDER BY plays DESC, last_on DESC NULLS LAST, t)"
        f" <= {settings.most_likes}"
    )
    yield (
        "CREATE OR REPLACE TEMP TABLE liked AS SELECT u, t, plays, days, liked_on"  # noqa: S608
        " FROM chosen_pairs LEFT JOIN (SELECT u, t, min(played_on) AS liked_on FROM"
        " (SELECT u, t, played_on, dated_need, sum(counted.plays) OVER past AS so_far,"
        " row_number() OVER past AS day FROM counted JOIN chosen_pairs USING (u, t)"
        " WHERE played_on IS NOT NULL WINDOW past AS (PARTITION BY u, t ORDER BY played_on))"
        f" WHERE so_far >= dated_need AND day >= {settings.min_days} GROUP BY u, t) USING (u, t)"
    )
