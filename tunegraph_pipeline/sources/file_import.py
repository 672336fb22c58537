"""Make a raw batch of what was read of a file, and a summary for people.

Here: from a `Reading` to a `FileImport`. Not here: reading files (`files`, `read_file`), cleaning rows
(`rows`), or where batches are kept (`lake`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.cells import as_ids
from tunegraph_pipeline.sources.columns import TRACK_FIELDS
from tunegraph_pipeline.sources.formats import Format
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows import Part, Table, read_rows

DEFAULT_USER = "me"
"""The user of a file of one person, unless --user-id names another."""

_KIND_OF: Mapping[Part, str] = {
    "likes": "likes",
    "dislikes": "likes",
    "plays": "likes",
    "tracks": "tracks",
    "features": "features",
}
"""Part -> the --kind that asks for it."""
_PART_COLUMNS: Mapping[Part, set[str]] = {"tracks": set(TRACK_FIELDS), "features": set(AUDIO_FEATURES)}
"""A table fills a part if it has one of these columns; likes, dislikes and plays if it has users."""
_EXAMPLES = 5


@dataclass(frozen=True)
class FileImport:
    """What one file, or files that belong together, become: the batch, and a summary for people.

    ``origin`` is the path. ``shape``, ``columns`` and ``unused`` are as in `Reading`; ``rules`` say what
    counted as what. ``person`` is the user of a file of one person, "" for others; ``said_person`` is the
    owner that the file itself names, or "".
    """

    batch: RawBatch
    origin: str
    format: Format
    shape: str
    columns: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()
    rules: Sequence[str] = ()
    person: str = ""
    said_person: str = ""

    def examples(self) -> list[str]:
        """The first likes in words, such as "ann likes Intro by The Lanterns"."""
        some = self.batch.likes.head(_EXAMPLES)
        known = {row["track_id"]: row for row in self.batch.tracks.iter_rows(named=True)} if len(some) else {}
        return [
            f"{user} likes {_in_words(track, known.get(track))}"
            for user, track in some.select("user_id", "track_id").iter_rows()
        ]

    def figures(self) -> dict[str, int]:
        """How many users, likes, dislikes, plays and distinct songs the batch has."""
        batch = self.batch
        said = (batch.likes, batch.feedback, batch.plays)
        people = pl.concat([rows["user_id"] for rows in said])
        songs = pl.concat([rows["track_id"] for rows in said])
        described = pl.concat([batch.tracks["track_id"], batch.features["track_id"]])
        return {
            "users": people.n_unique(),
            "likes": len(batch.likes),
            "dislikes": len(batch.feedback),
            "plays": int(batch.plays["plays"].sum()),
            "tracks": songs.n_unique() if len(songs) else described.n_unique(),
        }


def _in_words(track_id: str, track: Mapping[str, object] | None) -> str:
    if track is None or not track["name"]:
        return f"the song {track_id}"
    artists = track["artists"]
    by = f" by {', '.join(artists)}" if isinstance(artists, list) and artists else ""
    return f"{track['name']}{by}"


def import_reading(
    reading: Reading, where: str, origin: str, kind: str, given: Given, day: date | None
) -> FileImport:
    """What a reading becomes; ``where`` names the file in messages, ``origin`` in the batch.

    ``kind`` is one of `files.KINDS`, ``day`` that of dislikes without a time (default: today). Raises
    InputError if the reading lacks what ``kind`` asks for, or has no usable row.
    """
    if reading.format.means in {"unlikes", "undislikes"}:
        raise InputError(
            f"{where} takes opinions back and gives none; import multi_event.parquet, which has both"
        )
    counts = Counter(reading.counts)
    has_users = any("user_id" in table.rows.columns for table in reading.tables)
    one_person = reading.format.whose == "one person" and not has_users
    person = (given.user_id or DEFAULT_USER) if one_person else ""
    tables = [_with_person(table, person, given.user_id, where) for table in reading.tables]
    parts, rules = _clean_parts(tables, where, counts, kind, given)
    users = empty_frame("users")
    if kind in {"auto", "likes"}:
        counts["users whose list is unknown"] += len(reading.failed)
        users = _users(parts["likes"], parts["dislikes"], reading, where)
    batch = RawBatch(
        "files",
        origin,
        users,
        parts["likes"],
        parts["tracks"],
        parts["features"],
        {what: n for what, n in counts.items() if n},
        _feedback(parts["dislikes"], day),
        parts["plays"],
    )
    _check_rows(batch, where, kind, person, has_users=has_users)
    return FileImport(
        batch,
        where,
        reading.format,
        reading.shape,
        reading.columns,
        reading.unused,
        [*reading.notes, *rules],
        person,
        reading.person.lower(),
    )


def _check_rows(batch: RawBatch, where: str, kind: str, person: str, *, has_users: bool) -> None:
    """Raise InputError for a batch without a row, or without likes where there should be some."""
    skipped = "; ".join(f"{what}: {n:,}" for what, n in batch.counts.items()) or "no rows"
    said = len(batch.likes) + len(batch.feedback) + len(batch.plays)
    if kind in {"auto", "likes"} and not said:
        missing = f"{where} has no like that can be read ({skipped})"
        if person:
            raise InputError(f"{missing}; the list of {person} stays as it is")
        if has_users and (len(batch.tracks) or len(batch.features)):
            raise InputError(f"{missing}; --kind tracks takes its songs alone")
    if not any(len(frame) for frame in batch.parts().values()):
        raise InputError(f"{where} has no usable row ({skipped}); correct it")


def _with_person(table: Table, person: str, user_id: str | None, where: str) -> Table:
    """The table with the user of a file of one person, or of a file with one user whom --user-id names."""
    rows = table.rows
    if "user_id" not in rows.columns:
        if not person or table.means == "catalogue":
            return table
        return replace(table, rows=rows.with_columns(pl.lit(person).alias("user_id")))
    if user_id is None:
        return table
    users = rows["user_id"].drop_nulls().n_unique()
    if users > 1:
        raise InputError(f"{where} names {users:,} users itself; leave --user-id out")
    return replace(table, rows=rows.with_columns(pl.lit(user_id).alias("user_id")))


def _clean_parts(
    tables: Sequence[Table], where: str, counts: Counter[str], kind: str, given: Given
) -> tuple[Mapping[Part, pl.DataFrame], list[str]]:
    """The parts that ``kind`` asks for, from all tables, and the rules that decided.

    Each part has the columns of its table in a raw batch, and no rows if no table fills it.
    """
    cleaned: dict[Part, list[pl.DataFrame]] = {part: [] for part in _KIND_OF}
    held: set[Part] = set()
    rules: list[str] = []
    for table in tables:
        parts = _parts_of(table)
        held.update(parts)
        asked = [part for part in parts if kind in {"auto", _KIND_OF[part]}]
        done = read_rows(table, asked, given.rules, where, counts)
        rules += [rule for rule in done.rules if rule not in rules]
        for part, frame in done.frames.items():
            cleaned[part].append(frame)
    if tables and not held:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with"
            " --user-column, or whose list it is with --user-id"
        )
    if kind != "auto" and kind not in held:
        holds = " and ".join(sorted(held - {"dislikes", "plays"}))
        raise InputError(f"{where} holds no {kind}, only {holds}; leave --kind out")
    if "liked_at" in given.named:
        _check_times(cleaned["likes"], where)
    as_likes: dict[Part, str] = {"dislikes": "likes"}
    return {
        part: pl.concat(frames) if frames else empty_frame(as_likes.get(part, part))
        for part, frames in cleaned.items()
    }, rules


def _parts_of(table: Table) -> list[Part]:
    """The parts that a table fills, by its columns."""
    names = set(table.rows.columns)
    parts: list[Part] = [part for part, columns in _PART_COLUMNS.items() if columns & names]
    if "user_id" in names:
        parts = ["likes", "dislikes", "plays", *parts]
    if "pair" in names and "tracks" not in parts:
        parts = ["tracks", *parts]
    return parts


def _check_times(likes: Sequence[pl.DataFrame], where: str) -> None:
    """Raise InputError if no time in the column of --time-column is readable."""
    if any(len(frame) for frame in likes) and all(frame["liked_at"].is_null().all() for frame in likes):
        raise InputError(
            f"{where}: no time in --time-column is readable; write ISO 8601, or seconds since 1970"
        )


def _feedback(dislikes: pl.DataFrame, day: date | None) -> pl.DataFrame:
    """Dislikes as feedback, given at the start of ``day`` where the file does not say when."""
    at = datetime.combine(day or datetime.now(UTC).date(), datetime.min.time(), UTC)
    empty = empty_frame("feedback")
    return dislikes.select(
        "user_id",
        "track_id",
        pl.lit("dislike").alias("action"),
        pl.col("liked_at").fill_null(at).alias("at"),
        pl.lit([], dtype=empty.schema["shown"]).alias("shown"),
        pl.lit("").alias("bundle_version"),
    ).cast(pl.Schema(empty.schema))


def _users(likes: pl.DataFrame, dislikes: pl.DataFrame, reading: Reading, where: str) -> pl.DataFrame:
    """The users table: every user is ``listed``, ``failed`` if their list is unknown, or ``found`` if only
    dislikes are known. In a file without likes nobody is listed, since it must not empty a list."""
    states = []
    seen_whole = reading.seen_whole if len(likes) else []
    for state, users in (("listed", seen_whole), ("failed", reading.failed)):
        # Cleaned as in the likes, which already counted what is skipped.
        met = as_ids(pl.Series("user_id", users, dtype=pl.String), "user_id", where, Counter())
        met = pl.concat([met, likes["user_id"]]) if state == "listed" else met
        distinct = met.drop_nulls().unique(maintain_order=True).to_frame()
        states.append(distinct.with_columns(pl.lit(state).alias("state")))
    known = pl.concat(states)
    others = dislikes.select(pl.col("user_id").unique(maintain_order=True)).join(
        known, on="user_id", how="anti"
    )
    known = pl.concat([known, others.with_columns(pl.lit("found").alias("state"))])
    empty = empty_frame("users")
    return known.select(
        "user_id",
        pl.lit(None, dtype=empty.schema["discovered_from"]).alias("discovered_from"),
        pl.lit(0, dtype=empty.schema["depth"]).alias("depth"),
        "state",
    )
