"""The list of one person, with what is known of its songs, to be answered from any bundle.

Here: reading it from a lake, which needs no model and no refresh, or from files. Not here: finding its songs
in a bundle (`recommend.matching`), or the tables a refresh writes (`current_likes`).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.current import Basis, CurrentLists, rebuilt_lists
from tunegraph_pipeline.lake.daily import Preview
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.lake.schemas import EARLIEST
from tunegraph_pipeline.lake.tables import empty_table, latest_known
from tunegraph_pipeline.pipeline.current_likes import recordings_by_id
from tunegraph_pipeline.pipeline.likes_from_plays import has_plays, read_likes_from_plays
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.recommend.matching import Song


class UserList(NamedTuple):
    """The songs somebody likes, the newest last where their order is known, and those they dislike.
    ``is_ordered``: whether it is; files are in the order of their rows if they say no other."""

    likes: list[Song]
    dislikes: list[Song]
    is_ordered: bool


# --- from a lake ---


def list_in_lake(lake: Lake, user_id: str) -> UserList:
    """The list of a user as the next refresh will see it, from the daily tables and what was received since.

    Raises InputError where the lake does not know the user.
    """
    days = _Days(lake)
    stands_for = Aliases.of(lake.root).user_id(composed(user_id))
    lists = days.lists(stands_for)
    if lists.observed.is_empty() and lists.likes.is_empty() and lists.dislikes.is_empty():
        if days.has_plays(stands_for):
            raise InputError(
                f"user {user_id!r} played no song often enough to like it (settings, section plays); import"
                " liked songs too, or the history again with --min-plays 1"
            )
        raise InputError(f"user {user_id!r} is not in {lake.name}; import their list first")
    ids = pl.concat([lists.likes["track_id"], lists.dislikes["track_id"]])
    tracks = days.tracks(ids)
    liked = _newest_last(lists.likes)
    is_ordered = liked.select(EARLIEST).n_unique() > 1
    return UserList(_songs(liked["track_id"], tracks), _songs(lists.dislikes["track_id"], tracks), is_ordered)


def newest_lists(lake: Lake) -> CurrentLists:
    """The lists of all users as the next refresh will see them, but for ids of one recording."""
    return _Days(lake).lists()


class _Days:
    """The daily tables of a lake up to today, as the next refresh will fill them."""

    def __init__(self, lake: Lake) -> None:
        self._today = datetime.now(UTC).date()
        self._lake = Preview(lake, self._today)
        self._days = self._lake.days_until("observations", self._today)

    def read(self, table: str, day: str) -> pl.DataFrame:
        if day not in self._lake.partitions(table):
            return empty_table(table)  # a day that was filled before there was feedback, and pruned
        return self._lake.read(table, day)

    def lists(self, user_id: str | None = None) -> CurrentLists:
        """The current lists of everybody, or of one user."""

        def read(table: str, day: str) -> pl.DataFrame:
            rows = self.read(table, day)
            return rows if user_id is None else rows.filter(user_id=user_id)

        said = pl.concat([empty_table("feedback"), *(read("feedback", day) for day in self._days)])
        recordings = None
        if user_id is not None and len(said):
            merge = self._lake.section("graph", GraphSettings).merge_recordings
            day = date.fromisoformat(self._days[-1])
            recordings = recordings_by_id(self._lake, day, said["track_id"], merge=merge)
        played = read_likes_from_plays(self._lake, self._today, user_id)
        return rebuilt_lists(read, Basis(dict.fromkeys(self._days, "")), said, recordings, played)

    def has_plays(self, user_id: str) -> bool:
        """Whether a user played anything."""
        return has_plays(self._lake, self._today, user_id)

    def tracks(self, ids: pl.Series) -> pl.DataFrame:
        """What is known of these tracks, one row for each that is described."""
        wanted = pl.col("track_id").is_in(ids.implode())
        described = (self.read("tracks", day).filter(wanted) for day in self._days)
        return latest_known([empty_table("tracks"), *described])


# --- from files ---


def list_in_files(batches: Sequence[RawBatch], user_id: str | None = None) -> UserList:
    """The list of a user in what was read from files. Raises InputError where there is none, or where several
    users have one and ``user_id`` is None."""
    likes = _newest_last(pl.concat([batch.likes for batch in batches]))
    said = pl.concat([batch.feedback.select("user_id", "track_id", "action") for batch in batches])
    user_id = None if user_id is None else composed(user_id)
    users = pl.concat([likes["user_id"], said["user_id"]]).unique(maintain_order=True)
    if user_id is None and len(users) > 1:
        shown = ", ".join(users.head(3)) + (", …" if len(users) > 3 else "")
        raise InputError(f"--file holds the lists of {len(users):,} users ({shown}); choose one with --user")
    if users.is_empty() or (user_id is not None and user_id not in users):
        raise InputError(f"--file holds no list{'' if user_id is None else f' of user {user_id!r}'}")
    mine = user_id if user_id is not None else users[0]
    liked, opinions = likes.filter(user_id=mine), said.filter(user_id=mine)
    tracks = latest_known([batch.tracks for batch in batches])
    disliked = opinions.filter(action="dislike")["track_id"]
    both = pl.concat([liked["track_id"], opinions.filter(action="like")["track_id"]])
    return UserList(_songs(both, tracks), _songs(disliked, tracks), is_ordered=True)


def _newest_last(likes: pl.DataFrame) -> pl.DataFrame:
    return likes.sort(*EARLIEST, nulls_last=False, maintain_order=True)


def _songs(ids: pl.Series, tracks: pl.DataFrame) -> list[Song]:
    rows = (
        ids.unique(maintain_order=True)
        .to_frame("track_id")
        .join(
            tracks.select("track_id", "isrc", "name", "artists"),
            on="track_id",
            how="left",
            maintain_order="left",
        )
    )
    return [Song(*row) for row in _without_nulls(rows).iter_rows()]


def _without_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("isrc", "name").fill_null(""), pl.col("artists").fill_null([]))
