"""Apply feedback to the current lists: the songs it adds, and those a user dislikes.

Here: one pure function of the lists, the feedback and the days on which lists were seen. Not here: collecting
feedback (`feedback_spool`), or the lists without it (`tables.current_lists`).

A list that was seen on a day counts as earlier than all feedback of that day: only the day of the list is
known, and it must not undo what a listener said. Then, for a user and a song:

- The last like or dislike counts. A skip says nothing.
- A like adds the song to the list, until a whole list of that user is seen on a later day: from then on the
  song is liked where that list has it.
- A dislike removes the song from the list, and keeps it out of whole lists seen later, since their source may
  not know of it. It ends with a like, or with a list that has the song where the previous one from the same
  source did not: then the user added it again.

A song here is a recording: where a catalogue has it under several ids, feedback on one applies to all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from tunegraph_pipeline.lake.tables import empty_table

_SONG = ["user_id", "recording"]


@dataclass(frozen=True)
class Settled:
    """``likes``: as `current_likes`; ``dislikes``: user_id, track_id, disliked_at. Both sorted; no song is in
    both for a user."""

    likes: pl.DataFrame
    dislikes: pl.DataFrame


def settle(
    lists: pl.DataFrame,
    feedback: pl.DataFrame,
    seen: Iterable[tuple[date, pl.DataFrame, pl.DataFrame]],
    recordings: pl.DataFrame | None = None,
) -> Settled:
    """Apply the feedback to the whole lists, as of a cut-off.

    ``lists`` are the current ones, as `current_likes`, ``feedback`` all rows of the table of that
    name, and ``seen`` the day, ``observations`` and ``likes`` of every day, each up to the cut-off and in any
    order. ``recordings`` (track_id, recording) names the recording of tracks that have several ids.
    """
    said = _with_recording(feedback.filter(pl.col("action") != "skip"), recordings)
    if said.is_empty():
        return Settled(lists, empty_table("current_dislikes"))
    opinions = _opinions(said)
    disliked = opinions.filter("disliked")
    observed, listed = _history(seen, said["user_id"].unique(), disliked, recordings)

    latest = observed.group_by("user_id").agg(latest=pl.col("day").max())
    added = (
        opinions.filter(~pl.col("disliked"))
        .join(latest, on="user_id", how="left")
        .filter(pl.col("latest").is_null() | (pl.col("at").dt.date() >= pl.col("latest")))
        .select(*_SONG, "track_id", liked_at="since")
    )
    dislikes = disliked.join(_added_again(disliked, observed, listed), on=_SONG, how="anti")
    kept = _with_recording(lists, recordings).join(dislikes, on=_SONG, how="anti")
    likes = pl.concat(
        [
            kept.select(lists.columns),
            added.join(kept, on=_SONG, how="anti").select("user_id", "track_id", "liked_at"),
        ],
        how="diagonal",
    )
    return Settled(
        likes.sort("user_id", "track_id"),
        dislikes.select("user_id", "track_id", disliked_at="at").sort("user_id", "track_id"),
    )


def _with_recording(rows: pl.DataFrame, recordings: pl.DataFrame | None) -> pl.DataFrame:
    if recordings is None:
        return rows.with_columns(recording="track_id")
    return rows.join(recordings, on="track_id", how="left").with_columns(
        pl.col("recording").fill_null(pl.col("track_id"))
    )


def _opinions(said: pl.DataFrame) -> pl.DataFrame:
    """The last opinion of each user on a song: user_id, recording, track_id, disliked, ``at``, and ``since``,
    when they first said so without the opposite in between."""
    # Of a like and a dislike at the same time, the dislike counts as later.
    ordered = said.with_columns(disliked=pl.col("action") == "dislike").sort("at", "disliked", "track_id")
    return (
        ordered.with_columns(last=pl.col("disliked").last().over(_SONG))
        .with_columns(opposite=(pl.col("disliked") != pl.col("last")).cum_sum(reverse=True).over(_SONG))
        .filter(pl.col("opposite") == 0)
        .group_by(_SONG)
        .agg(pl.col("track_id", "disliked", "at").last(), since=pl.col("at").first())
    )


def _history(
    seen: Iterable[tuple[date, pl.DataFrame, pl.DataFrame]],
    users: pl.Series,
    disliked: pl.DataFrame,
    recordings: pl.DataFrame | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """On which days ``users`` were seen whole (source, user_id, day), and which disliked songs the lists of
    those days had (the same and recording)."""
    songs = disliked.select(_SONG)
    observed = [pl.DataFrame(schema={"source": pl.String, "user_id": pl.String, "day": pl.Date})]
    listed = [observed[0].with_columns(recording=pl.lit(None, pl.String))]
    for day, observations, likes in seen:
        whole = observations.filter(pl.col("user_id").is_in(users.implode()))
        if whole.is_empty():
            continue
        observed.append(whole.select("source", "user_id", day=pl.lit(day, pl.Date)))
        of_users = likes.filter(pl.col("user_id").is_in(songs["user_id"].unique().implode()))
        had = _with_recording(of_users, recordings).join(songs, on=_SONG, how="semi")
        listed.append(had.select("source", "user_id", pl.lit(day, pl.Date).alias("day"), "recording"))
    return pl.concat(observed), pl.concat(listed).unique()


def _added_again(disliked: pl.DataFrame, observed: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """The disliked songs that a later list has and the list before it from the same source has not: user_id,
    recording."""
    place = ["source", "user_id", "recording"]
    return (
        disliked.select(*_SONG, "at")
        .join(observed, on="user_id")
        .join(listed.with_columns(has=pl.lit(value=True)), on=[*place, "day"], how="left")
        .with_columns(pl.col("has").fill_null(value=False))
        .sort("day")
        .with_columns(had=pl.col("has").shift(1).over(place))
        # What was in a list before it was first seen from a source is unknown.
        .filter(pl.col("has") & ~pl.col("had") & (pl.col("day") > pl.col("at").dt.date()))
        .select(_SONG)
        .unique()
    )
