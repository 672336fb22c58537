"""What an import would change for people who are in the lake already, and what its plays make them like.

Here: comparing lists that are about to be imported with those in the lake. Not here: reading files
(`sources.files`), or writing them (`lake.lake`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from tunegraph_pipeline.lake.aliases import NO_ALIASES, Aliases
from tunegraph_pipeline.lake.daily import Preview
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import (
    PlaysPart,
    PlaysSettings,
    bounded_duckdb,
    day_of,
    liked_by_playing,
)
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.lake.schemas import FILES
from tunegraph_pipeline.lake.tables import empty_table

_PAIR = ["user_id", "track_id"]
TWIN_SHARE, TWIN_SONGS = 0.8, 10
"""Two users of a lake may be one person if their lists share this part of the shorter one, and this many
songs."""


@dataclass(frozen=True)
class ListChanges:
    """How the lists of people in the lake change, in numbers of users and songs. ``users`` counts them all,
    ``new`` those the lake has no list of, ``unchanged`` those whose list stays as it is, perhaps because the
    lake has a later one. ``shrunk`` are those who lose more than half of their songs, with the number of
    songs before and after. ``twins`` are new users whose lists are like that of another: both, and the number
    of songs they share."""

    users: int
    new: int
    unchanged: int
    added: int
    removed: int
    shrunk: list[tuple[str, int, int]]
    twins: list[tuple[str, str, int]]


def list_changes(lake: Lake, batches: Sequence[RawBatch], day: date) -> ListChanges:
    """Compare the lists of ``batches``, as of ``day``, with those in the lake. Lists of one day add up, and a
    list of a later day replaces an earlier one."""
    aliases = Aliases.of(lake.root)
    listed = pl.concat([batch.users.filter(pl.col("state") == "listed")["user_id"] for batch in batches])
    coming = pl.concat([batch.likes.select(_PAIR) for batch in batches]).unique()
    coming = coming.with_columns(pl.col("user_id").replace(aliases.user_ids)).unique()
    users = pl.concat([listed.replace(aliases.user_ids), coming["user_id"]]).unique()
    before, seen = _lists_of(lake, users)
    later = seen.filter(pl.col("day") > day)["user_id"]
    same_day = seen.filter(pl.col("day") == day)["user_id"]
    kept = before.filter(pl.col("user_id").is_in(pl.concat([later, same_day]).implode()))
    after = pl.concat([coming.filter(~pl.col("user_id").is_in(later.implode())), kept]).unique()
    added = after.join(before, on=_PAIR, how="anti")
    removed = before.join(after, on=_PAIR, how="anti")
    known = users.filter(users.is_in(seen["user_id"].implode()))
    moved = pl.concat([added["user_id"], removed["user_id"]]).unique()
    new = users.filter(~users.is_in(known.implode()))
    return ListChanges(
        users=len(users),
        new=len(new),
        unchanged=int((~known.is_in(moved.implode())).sum()),
        added=int(added["user_id"].is_in(known.implode()).sum()),
        removed=len(removed),
        shrunk=_shrunk(before, after),
        twins=_twins(lake, coming.filter(pl.col("user_id").is_in(new.implode()))) if len(new) <= 10 else [],
    )


def liked_by_plays(batches: Sequence[RawBatch], settings: PlaysSettings, day: date) -> pl.DataFrame:
    """The songs that the plays of ``batches`` alone, received on ``day``, make somebody like: user_id,
    track_id. Raises LakeError where memory or disk run out."""
    plays = pl.concat([batch.plays for batch in batches])
    if plays.is_empty():
        return plays.select(_PAIR)
    with TemporaryDirectory() as folder, bounded_duckdb(Path(folder), settings.memory_gb) as connection:
        connection.register("imported", plays.to_arrow())
        # The rule takes the largest of several files' numbers, as in the table of a day.
        received = {day.isoformat(): day_of([PlaysPart("SELECT * FROM imported", FILES, False)], NO_ALIASES)}
        return liked_by_playing(connection, received, day, settings).likes.select(_PAIR)


def _shrunk(before: pl.DataFrame, after: pl.DataFrame) -> list[tuple[str, int, int]]:
    lengths = (
        before.group_by("user_id")
        .len("was")
        .join(after.group_by("user_id").len("now"), on="user_id", how="left")
    )
    some = lengths.with_columns(pl.col("now").fill_null(0)).filter(pl.col("now") * 2 < pl.col("was"))
    return [(user, was, now) for user, was, now in some.sort("user_id").head(5).iter_rows()]


def _lists_of(lake: Lake, users: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The lists of these users in the lake (user_id, track_id), each of the last day on which they were seen
    whole, and that day (user_id, day)."""
    preview = Preview(lake, datetime.now(UTC).date())
    lists = [empty_table("likes").select(_PAIR)]
    days = [pl.DataFrame(schema={"user_id": pl.String, "day": pl.Date})]
    left = users
    for day in reversed(preview.partitions("observations")):
        whole = preview.read("observations", day, ["user_id"])["user_id"]
        found = left.filter(left.is_in(whole.implode()))
        if len(found):
            lists.append(preview.read("likes", day, _PAIR).filter(pl.col("user_id").is_in(found.implode())))
            days.append(found.to_frame("user_id").with_columns(pl.lit(date.fromisoformat(day)).alias("day")))
            left = left.filter(~left.is_in(found.implode()))
    return pl.concat(lists).unique(), pl.concat(days)


def _twins(lake: Lake, coming: pl.DataFrame) -> list[tuple[str, str, int]]:
    """New users whose lists are like that of somebody in the lake."""
    cut_offs = lake.partitions("current_likes")
    if not len(coming) or not cut_offs:
        return []
    theirs = lake.read("current_likes", cut_offs[-1], columns=_PAIR)
    lengths = theirs.group_by("user_id").len("theirs")
    own = coming.group_by("user_id").len("own")
    shared = (
        coming.join(theirs, on="track_id", suffix=" other")
        .group_by("user_id", "user_id other")
        .len("shared")
        .join(own, on="user_id")
        .join(lengths, left_on="user_id other", right_on="user_id")
        .filter(pl.col("shared") >= TWIN_SONGS)
        .filter(pl.col("shared") >= TWIN_SHARE * pl.min_horizontal("own", "theirs"))
        .filter(pl.col("user_id") != pl.col("user_id other"))
    )
    best = shared.sort("shared", "user_id other", descending=[True, False]).unique("user_id", keep="first")
    return [
        (row["user_id"], row["user_id other"], row["shared"])
        for row in best.sort("user_id").iter_rows(named=True)
    ]
