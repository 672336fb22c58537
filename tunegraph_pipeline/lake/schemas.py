"""What every table of the lake holds, column by column.

Here: the declared schemas, with a sentence for each column, and how each table is partitioned. Reading,
writing and checking against them is `tables.py`; nothing here touches a disk.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args

import pyarrow as pa

from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES as AUDIO_FEATURES  # noqa: PLC0414  # exported

FILES = "files"
"""The source of what a person imports."""

DUMPS = "listenbrainz-dumps"
"""The source of ListenBrainz's dumps, each of which tells of other listens: their plays add up."""

FEEDBACK = "feedback"
"""The source of what listeners say through the service."""

JoinedBy = Literal["isrc", "mbid", "name", "stripped name"]
JOINED_BY: tuple[JoinedBy, ...] = get_args(JoinedBy)
"""How an id may come to its recording, in the order of trust; `graph.recordings` says what each means."""

PERSONAL = frozenset({"user_id", "discovered_from"})
"""The columns whose values are ids of people."""

_TIME = pa.timestamp("us", tz="UTC")
_NAMES = pa.list_(pa.field("item", pa.string(), nullable=False))


class Partition(StrEnum):
    """How the files of a table are laid out below its folder."""

    DAY = "dt"
    NONE = "none"
    MODEL = "model_version"
    BUNDLE = "bundle_version"
    CUT_OFF = "cut_off"


@dataclass(frozen=True)
class TableSpec:
    """A table: its name, what a row is, its columns and its partition. ``key`` names the columns no two rows
    of one partition may agree in, ``added`` those that files of earlier versions lack and are null there."""

    name: str
    row: str
    partition: Partition
    schema: pa.Schema
    key: tuple[str, ...]
    added: tuple[str, ...] = ()


def _column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = False) -> "pa.Field[Any]":
    return pa.field(name, kind, nullable=nullable, metadata={"description": meaning})


_USER = _column("user_id", pa.string(), "the user, as the source names them")
_TRACK = _column("track_id", pa.string(), "the track, as the source names it")
_SOURCE = _column("source", pa.string(), "where the row came from: files, simulator, ...")
_LIKED_AT = _column("liked_at", _TIME, "when the like was made; null when unknown", nullable=True)
_POSITION = _column(
    "position", pa.int32(), "place in the list, the newest last; null when unknown", nullable=True
)
EARLIEST = ("liked_at", "position")
"""The columns by which the first of several rows of a like is chosen, nulls last."""

_LIST_HASH = _column(
    "list_hash",
    pa.string(),
    "BLAKE2b of the sorted track ids and, where known, times and positions: equal lists, equal hash",
)

_TRACK_COLUMNS = [
    _TRACK,
    _column("isrc", pa.string(), "international recording code", nullable=True),
    _column("name", pa.string(), "title of the song", nullable=True),
    _column("artists", _NAMES, "artist names, the first one leading", nullable=True),
    _column("artist_ids", _NAMES, "artist ids, in the same order", nullable=True),
    _column("album_id", pa.string(), "the album it is on", nullable=True),
    _column("genre", pa.string(), "a genre, where the source has one", nullable=True),
    _column("image_url", pa.string(), "cover image", nullable=True),
    _column("preview_url", pa.string(), "a short preview to listen to", nullable=True),
    _column("duration_ms", pa.int64(), "length in milliseconds", nullable=True),
    _column("explicit", pa.bool_(), "whether the lyrics are marked explicit", nullable=True),
    _column("album", pa.string(), "name of the album it is on", nullable=True),
    _column("year", pa.int32(), "year of its release, as the source knows it", nullable=True),
]
_LATER_COLUMNS = ("album", "year")
"""The columns that tracks of earlier versions lack."""
_FEATURE_COLUMNS = [
    _column(name, pa.float32(), f"{name} as the provider gives it", nullable=True) for name in AUDIO_FEATURES
]
_FEEDBACK_COLUMNS = [
    _USER,
    _TRACK,
    _column("action", pa.string(), "like, dislike or skip"),
    _column("at", _TIME, "when the service received it"),
    _column(
        "shown",
        _NAMES,
        "the tracks of the list it was said about, the best first; on the first event of a request",
    ),
    _column("bundle_version", pa.string(), "the bundle that list was from; empty where unknown"),
]
_PLAYED_ON = _column(
    "played_on", pa.date32(), "the day (UTC) of the plays; null where only a total is known", nullable=True
)
_PLAYS = _column("plays", pa.int32(), "how many times it was played, at least once")
_RECORDING_ID = _column("recording_id", pa.string(), "the id under which MusicBrainz has that recording")
_USER_COLUMNS = [
    _USER,
    _column("discovered_from", pa.string(), "the user whose page led here", nullable=True),
    _column("depth", pa.int32(), "steps from a start user; 0 for a start user"),
    _column("state", pa.string(), "found, listed, private, gone or failed"),
]

RAW_SCHEMAS: dict[str, pa.Schema] = {
    "users": pa.schema(_USER_COLUMNS),
    "likes": pa.schema([_USER, _TRACK, _LIKED_AT, _POSITION]),
    "tracks": pa.schema(_TRACK_COLUMNS),
    "features": pa.schema([_TRACK, *_FEATURE_COLUMNS]),
    "feedback": pa.schema(_FEEDBACK_COLUMNS),
    "plays": pa.schema([_USER, _TRACK, _PLAYED_ON, _PLAYS]),
    "redirects": pa.schema([_TRACK, _RECORDING_ID]),
}
"""The parts a raw batch may have. A user in ``users`` with state ``listed``, or with a row in ``likes``,
was seen whole: the list is what ``likes`` holds of them, perhaps nothing. A row in ``feedback`` is about one
track, and says nothing about the rest of a list; nor do ``plays``, of which no two rows agree in user, track
and day."""

RAW_ADDED: dict[str, tuple[str, ...]] = {"tracks": _LATER_COLUMNS, "likes": ("position",)}
"""The columns that parts of earlier versions lack; they are null there."""

_TABLES = (
    TableSpec(
        "users",
        "a user met on that day",
        Partition.DAY,
        pa.schema([*_USER_COLUMNS, _SOURCE, _column("seen_at", pa.date32(), "the day they were met")]),
        ("user_id", "source"),
    ),
    TableSpec(
        "observations",
        "a user seen whole on that day",
        Partition.DAY,
        pa.schema(
            [
                _SOURCE,
                _USER,
                _column("n_likes", pa.int32(), "length of the list; 0 for an emptied one"),
                _LIST_HASH,
            ]
        ),
        ("user_id", "source"),
    ),
    TableSpec(
        "likes",
        "one like in the complete list of a user seen on that day",
        Partition.DAY,
        pa.schema([_USER, _TRACK, _LIKED_AT, _POSITION, _SOURCE]),
        ("user_id", "track_id", "source"),
        added=("position",),
    ),
    TableSpec(
        "tracks",
        "what became known of a track on that day",
        Partition.DAY,
        pa.schema([*_TRACK_COLUMNS, _SOURCE]),
        ("track_id",),
        added=_LATER_COLUMNS,
    ),
    TableSpec(
        "audio_features",
        "the features fetched of a track on that day",
        Partition.DAY,
        pa.schema(
            [_TRACK, _column("provider", pa.string(), "who measured or served them"), *_FEATURE_COLUMNS]
        ),
        ("track_id",),
    ),
    TableSpec(
        "redirects",
        "a MusicBrainz id that stands for another, as told on that day",
        Partition.DAY,
        pa.schema([_TRACK, _RECORDING_ID, _SOURCE]),
        ("track_id",),
    ),
    TableSpec(
        "feedback",
        "what a listener said of one track on that day",
        Partition.DAY,
        pa.schema([*_FEEDBACK_COLUMNS, _SOURCE]),
        ("user_id", "track_id", "action", "at", "source"),
    ),
    TableSpec(
        "plays",
        "how often a user played a track on one day, as received on that of the partition",
        Partition.DAY,
        pa.schema(
            [
                _USER,
                _TRACK,
                _PLAYED_ON,
                _PLAYS,
                _SOURCE,
                _column("is_whole", pa.bool_(), "whether it replaces all that its source said before"),
            ]
        ),
        ("user_id", "track_id", "played_on", "source", "is_whole"),
    ),
    TableSpec(
        "likes_from_plays",
        "a track that a user played often enough to like it, as of the cut-off",
        Partition.CUT_OFF,
        pa.schema(
            [
                _USER,
                _TRACK,
                _column(
                    "liked_at",
                    _TIME,
                    "start of the first day on which the rule held; null where only a total is known",
                    nullable=True,
                ),
                _column("plays", pa.int32(), "plays in the window of the user"),
                _column("days", pa.int32(), "days with plays in that window; 0 where no day is known"),
            ]
        ),
        ("user_id", "track_id"),
    ),
    TableSpec(
        "changed_listeners",
        "a user whose likes from plays differ from those before the last refresh",
        Partition.CUT_OFF,
        pa.schema([_USER]),
        ("user_id",),
    ),
    TableSpec(
        "current_likes",
        "one like in the current list of a user, as of the cut-off",
        Partition.CUT_OFF,
        pa.schema([_USER, _TRACK, _LIKED_AT, _POSITION]),
        ("user_id", "track_id"),
        added=("position",),
    ),
    TableSpec(
        "current_dislikes",
        "a track that a user does not want to hear, as of the cut-off",
        Partition.CUT_OFF,
        pa.schema([_USER, _TRACK, _column("disliked_at", _TIME, "when the user said so last")]),
        ("user_id", "track_id"),
    ),
    TableSpec(
        "changed_users",
        "a user whose current list, perhaps emptied, differs from the one before the last refresh",
        Partition.CUT_OFF,
        pa.schema([_USER]),
        ("user_id",),
    ),
    TableSpec(
        "last_observations",
        "the last time, as of the cut-off, that a user was seen whole",
        Partition.CUT_OFF,
        pa.schema([_SOURCE, _USER, _column("seen", pa.date32(), "the day"), _LIST_HASH]),
        ("user_id", "source"),
    ),
    TableSpec(
        "catalogue",
        "a track of the id map and all that is known of it, as of the cut-off",
        Partition.CUT_OFF,
        pa.schema(
            [
                _column("track_idx", pa.int32(), "its index in every matrix"),
                _TRACK,
                _column("recording", pa.int32(), "track_idx of the id that stands for its recording"),
                _column(
                    "joined_by",
                    pa.string(),
                    f"how it came to that recording: {', '.join(JOINED_BY)}; null where it stands for itself",
                    nullable=True,
                ),
                *(column.with_nullable(True) for column in _TRACK_COLUMNS[1:]),
                _SOURCE.with_nullable(True),
                _column("provider", pa.string(), "who measured or served the features", nullable=True),
                *_FEATURE_COLUMNS,
            ]
        ),
        ("track_id",),
        added=("joined_by", *_LATER_COLUMNS),
    ),
    TableSpec(
        "track_ids",
        "a track and the index it has in every matrix",
        Partition.NONE,
        pa.schema([_column("track_idx", pa.int32(), "0..N-1, given once and never reused"), _TRACK]),
        ("track_id",),
    ),
    TableSpec(
        "track_embeddings",
        "a track in the embedding space",
        Partition.MODEL,
        pa.schema(
            [
                _TRACK,
                _column("track_idx", pa.int32(), "its index in every matrix"),
                # The length d is the model's; the check below compares everything but that.
                _column("embedding", pa.list_(pa.float32(), -1), "d numbers of unit L2 length"),
                _column("model_version", pa.string(), "the model that placed it"),
            ]
        ),
        ("track_id",),
    ),
    TableSpec(
        "user_recommendations",
        "one recommendation for one user",
        Partition.BUNDLE,
        pa.schema(
            [
                _USER,
                _column("rank", pa.int32(), "1 is the best"),
                _TRACK,
                _column("score", pa.float32(), "the score it was ranked by"),
                _column(
                    "because_track_id", pa.string(), "the liked track that contributed most", nullable=True
                ),
                _column("model_version", pa.string(), "the model behind the score"),
                _column("bundle_version", pa.string(), "the bundle that was served"),
            ]
        ),
        ("user_id", "rank"),
    ),
    TableSpec(
        "evaluation",
        "one metric of one model on one split",
        Partition.NONE,
        pa.schema(
            [
                _column("model", pa.string(), "served, popularity, co_like, ease, ..."),
                _column("dataset", pa.string(), "what was held out: a split of the lake, or a file's name"),
                _column(
                    "split", pa.string(), "gate, held_out_file, or the protocol and seed of a comparison"
                ),
                _column("metric", pa.string(), "recall, ndcg, map, hit_rate, coverage, ..."),
                _column("k", pa.int32(), "length of the list that was judged"),
                _column("value", pa.float64(), "the figure"),
                _column("seconds", pa.float64(), "time it took to rank every user"),
                _column("run_id", pa.string(), "the run that measured it"),
            ]
        ),
        (),
    ),
)

TABLES: dict[str, TableSpec] = {spec.name: spec for spec in _TABLES}
