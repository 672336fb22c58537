"""The parquet tables: pure functions that derive the daily ones, and checked reads and writes of them all.

Here: each daily table as derived from a day's raw batches, the current lists as of a cut-off, and the files
of a table. Not here: the columns (`schemas`), the DuckDB views (`views`), the lock and the versions (`lake`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow as pa

from tunegraph_pipeline.errors import LakeError, check_shortage
from tunegraph_pipeline.lake.aliases import NO_ALIASES, Aliases
from tunegraph_pipeline.lake.id_forms import compose_ids, has_other_forms
from tunegraph_pipeline.lake.parquet import (
    BLOCK_ROWS,
    UNREADABLE,
    RowWriter,
    as_frame,
    check_columns,
    count_rows,
    count_values,
    group_maxima,
    read_blocks,
    read_footer,
    read_metadata,
    read_with_added,
    without_missing,
    write_rows,
)
from tunegraph_pipeline.lake.raw import BatchInfo, empty_frame
from tunegraph_pipeline.lake.schemas import EARLIEST, TABLES, Partition, TableSpec
from tunegraph_pipeline.lake.seals import check_parquet, seal_parquet
from tunegraph_pipeline.lake.storage import STAGING, no_access, staged_file
from tunegraph_pipeline.lake.user_ranges import UserRange

_INPUTS = b"tunegraph.inputs"
_COMPOSED = b"tunegraph.ids_are_composed"
"""In the metadata of a daily table whose ids have one Unicode form. Earlier versions wrote none."""
_WHOLE = b"tunegraph.whole_sources"
"""In the metadata of the plays of a day: JSON, the sources of which they are all there is."""
_STATE_RANKS = {"listed": 0, "private": 1, "gone": 2, "failed": 3, "found": 4}
"""Of several states of a user on one day the first of these counts."""


# --- deriving the daily tables: each a pure function of the batches of one day, and of the aliases ---


def derive_users(batches: Sequence[BatchInfo], day: date, aliases: Aliases = NO_ALIASES) -> pl.DataFrame:
    """One row for each (user, source) met: as in the batch's users part, or at depth 0 if only in its likes
    (listed), feedback or plays (found)."""
    frames = []
    for batch in batches:
        implied = [
            batch.values(part, "user_id")
            .to_frame()
            .with_columns(
                discovered_from=pl.lit(None, pl.String),
                depth=pl.lit(0, pl.Int32),
                state=pl.lit(state),
                said=False,
            )
            for part, state in (("likes", "listed"), ("feedback", "found"), ("plays", "found"))
        ]
        both = pl.concat([batch.read("users").with_columns(said=True), *implied])
        frames.append(both.with_columns(source=pl.lit(batch.source)))
    if not frames:
        return empty_table("users")
    met = aliases.renamed(pl.concat(frames)).with_columns(seen_at=pl.lit(day, pl.Date))
    return unique_users(met)


def unique_users(met: pl.DataFrame) -> pl.DataFrame:
    """One row for each (user, source) of a day. The column ``said``, which is dropped, says whether a row is
    from a users part."""
    return (
        # The users part goes before what likes imply; what was seen goes before what was not.
        met.sort(
            ~pl.col("said"),
            pl.col("state").replace_strict(_STATE_RANKS, default=len(_STATE_RANKS), return_dtype=pl.Int8),
            "depth",
            "discovered_from",
            nulls_last=True,
        )
        .unique(["user_id", "source"], keep="first", maintain_order=True)
        .drop("said")
        .sort("user_id", "source")
    )


def derive_likes(batches: Sequence[BatchInfo], aliases: Aliases = NO_ALIASES) -> pl.DataFrame:
    """The union of the day's lists of each (user, source), with the earliest known ``liked_at`` of a like, or
    its first ``position``."""
    return unique_likes(aliases.renamed(_received(batches, "likes")))


def unique_likes(likes: pl.DataFrame) -> pl.DataFrame:
    """One row for each (user, track, source) of a day, with the earliest known ``liked_at``, or the first
    ``position``."""
    # Sorting makes equal pairs adjacent and the known, earliest time first: cheaper than a group-by.
    return likes.sort("user_id", "track_id", "source", *EARLIEST, nulls_last=True).unique(
        ["user_id", "track_id", "source"], keep="first", maintain_order=True
    )


def derive_observations(users: pl.DataFrame, likes: pl.DataFrame) -> pl.DataFrame:
    """Every user seen whole: the length of the list and a hash that is equal for equal lists. Takes the
    derived ``users`` and ``likes`` of the day. A newly known time or position changes the hash."""
    at = pl.col("liked_at").dt.epoch("us").cast(pl.String)
    timed = pl.when(at.is_null()).then("track_id").otherwise(pl.format("{}\t{}", "track_id", at))
    placed = pl.format("{}\t#{}", timed, "position")
    lists = (
        likes.sort("user_id", "source", "track_id")
        .with_columns(row=pl.when(pl.col("position").is_null()).then(timed).otherwise(placed))
        .group_by("source", "user_id", maintain_order=True)
        .agg(n_likes=pl.len().cast(pl.Int32), joined=pl.col("row").str.join("\n"))
    )
    listed = users.filter(pl.col("state") == "listed").select("source", "user_id")
    seen = (
        pl.concat([listed, lists.select("source", "user_id")])
        .unique()
        .join(lists, on=["source", "user_id"], how="left")
        .with_columns(pl.col("n_likes").fill_null(0), pl.col("joined").fill_null(""))
        .sort("user_id", "source")
    )
    hashes = [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in seen["joined"]]
    return seen.select("source", "user_id", "n_likes", list_hash=pl.Series(hashes, dtype=pl.String))


def derive_tracks(batches: Sequence[BatchInfo]) -> pl.DataFrame:
    """What the day's batches know of each track: of several, the first non-null value by source."""
    return unique_tracks(_received(batches, "tracks"), "tracks")


def derive_audio_features(batches: Sequence[BatchInfo]) -> pl.DataFrame:
    """The features in the day's batches of each track, joined as in :func:`derive_tracks`."""
    return unique_tracks(_received(batches, "features", "provider"), "audio_features")


def derive_redirects(batches: Sequence[BatchInfo]) -> pl.DataFrame:
    """The id that stands for each redirected one: of several, the first by source."""
    return unique_tracks(_received(batches, "redirects"), "redirects")


def derive_feedback(batches: Sequence[BatchInfo], aliases: Aliases = NO_ALIASES) -> pl.DataFrame:
    """All feedback of the day, in order of time; what two batches both hold is one row."""
    return unique_feedback(aliases.renamed(_received(batches, "feedback")))


def unique_feedback(said: pl.DataFrame) -> pl.DataFrame:
    """Feedback in order of time, none of it twice."""
    return said.sort("at", "user_id", "track_id", "action", "source", maintain_order=True).unique(
        list(TABLES["feedback"].key), keep="first", maintain_order=True
    )


def _received(batches: Sequence[BatchInfo], part: str, source_column: str = "source") -> pl.DataFrame:
    """One part of all batches, with the source of each batch in a column of that name."""
    frames = [batch.read(part).with_columns(pl.lit(batch.source).alias(source_column)) for batch in batches]
    return pl.concat([empty_frame(part).with_columns(pl.lit("").alias(source_column)), *frames])


def unique_tracks(received: pl.DataFrame, table: str) -> pl.DataFrame:
    """One row for each track of a daily table of tracks, with the first non-null values."""
    names = TABLES[table].schema.names
    if received["track_id"].is_duplicated().any():
        # The source is never null, so it is that of the first batch.
        known = [pl.col(name).drop_nulls().first() for name in names if name != "track_id"]
        received = received.group_by("track_id", maintain_order=True).agg(known)
    return received.select(names).sort("track_id")


def latest_known(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row for each track over the daily tables of one name, given oldest first: the newest non-null
    value of every column, so that a later day adds to an earlier one."""
    everything = pl.concat(tables)
    if everything["track_id"].is_duplicated().any():
        known = [pl.col(name).drop_nulls().last() for name in everything.columns if name != "track_id"]
        everything = everything.group_by("track_id", maintain_order=True).agg(known)
    return everything.sort("track_id")


def current_lists(days: Iterable[tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """The current list of every user: that of the latest day on which they were observed.

    ``days`` gives the ``observations`` and ``likes`` of each day up to the cut-off, the newest first, which
    are read one day at a time. Returns the columns of `current_likes`, sorted; a pair from two sources is one
    row.
    """
    columns = empty_table("current_likes").columns
    kept = [empty_table("current_likes").select(columns)]
    done: pl.DataFrame | None = None
    for observations, likes in days:
        seen = observations.select("source", "user_id")
        if done is None:
            fresh, done = likes, seen
        else:
            fresh = likes.join(done, on=["source", "user_id"], how="anti")
            done = pl.concat([done, seen]).unique()
        kept.append(fresh.select(columns))
    lists = pl.concat(kept)
    return lists.sort("user_id", "track_id", *EARLIEST, nulls_last=True).unique(
        ["user_id", "track_id"], keep="first", maintain_order=True
    )


# --- files ---


def empty_table(name: str) -> pl.DataFrame:
    """An empty frame with the declared columns of a table."""
    frame = pl.from_arrow(TABLES[name].schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


class TableDraft:
    """A partition that is being written. ``inputs``: the fingerprint of what its rows are derived from;
    ``ids_are_composed``: whether its ids have one Unicode form, in a daily table."""

    def __init__(self, rows: RowWriter, spec: TableSpec, where: str) -> None:
        self.inputs = ""
        self.ids_are_composed = False
        self._rows, self._spec, self._where = rows, spec, where

    def append(self, frame: pl.DataFrame) -> None:
        """Add rows. Raises LakeError where they do not follow the declared schema."""
        self._rows.append(_conform(frame, self._spec, self._where))


class TableFiles:
    """The parquet files of all tables, below the folder ``root``. ``partition`` is the value of a partition,
    such as a day; None for a table without partitions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def table_path(self, table: str, partition: str | None = None) -> Path:
        """The file of a partition."""
        kind = TABLES[table].partition
        if (kind is Partition.NONE) != (partition is None):
            raise ValueError(f"table {table} is partitioned by {kind.value}, got partition {partition!r}")
        folder = self.root / table
        return (folder if partition is None else folder / f"{kind.value}={partition}") / "data.parquet"

    def write(self, table: str, partition: str | None, frame: pl.DataFrame, inputs: str = "") -> int:
        """Replace one partition atomically; returns its number of rows. ``inputs`` is a fingerprint of what
        the rows are derived from; :meth:`inputs_of` returns it. Raises LakeError where the rows do not follow
        the declared schema, or the disk cannot be written."""
        path = self.table_path(table, partition)
        rows = _conform(frame, TABLES[table], str(path))
        facts = {**(rows.schema.metadata or {}), _INPUTS: inputs.encode()}
        if TABLES[table].partition is Partition.DAY and compose_ids(frame).equals(frame):
            facts[_COMPOSED] = b"true"
        rows = rows.replace_schema_metadata(facts)
        with staged_file(path, self.root / STAGING) as draft:
            write_rows(rows, draft)
        return len(rows)

    @contextmanager
    def draft(self, table: str, partition: str) -> "Iterator[TableDraft]":
        """A draft that replaces one partition at the end of the ``with`` block, unless an error ends it.
        Raises LakeError as :meth:`write` does."""
        path, spec = self.table_path(table, partition), TABLES[table]
        with staged_file(path, self.root / STAGING) as file, RowWriter(file, spec.schema) as rows:
            draft = TableDraft(rows, spec, str(path))
            yield draft
            rows.facts[_INPUTS.decode()] = draft.inputs
            if draft.ids_are_composed:
                rows.facts[_COMPOSED.decode()] = "true"

    def read(
        self, table: str, partition: str | None = None, columns: list[str] | None = None
    ) -> pl.DataFrame:
        """Read one partition. Raises LakeError where it is missing, unreadable or not as declared."""
        path, spec = self.table_path(table, partition), TABLES[table]
        empty = empty_table(table)
        try:
            return read_with_added(
                path, empty, spec.added, columns, lambda schema: _check_schema(schema, spec, str(path))
            )
        except FileNotFoundError:
            raise LakeError(f"{path} does not exist; run `tunegraph refresh`") from None
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def read_in_blocks(
        self,
        table: str,
        partition: str,
        columns: list[str] | None = None,
        rows: int = BLOCK_ROWS,
        after: str | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Read one partition, ``rows`` rows at a time; one block, without rows, where it has none. ``after``:
        many rows of users up to this one are left out. Errors as of :meth:`read`."""
        path, spec = self.table_path(table, partition), TABLES[table]
        empty = empty_table(table)
        try:
            check_columns(path, spec.schema, spec.added)
            asked = None if columns is None or not set(columns).isdisjoint(spec.added) else columns
            blocks = map(
                as_frame, read_blocks(path, asked, rows, None if after is None else ("user_id", after))
            )
            wanted = empty.columns if columns is None else columns
            for frame in chain([next(blocks, empty)], blocks):
                whole = pl.concat([empty, frame], how="diagonal") if spec.added and asked is None else frame
                yield whole.select(wanted)
        except FileNotFoundError:
            raise LakeError(f"{path} does not exist; run `tunegraph refresh`") from None
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def ranges(self, table: str, partition: str, rows: int) -> list[UserRange]:
        """Ranges of users that follow one another, each with ``rows`` rows of a partition, which is sorted by
        them, or a row group more. Raises LakeError where it cannot be read."""
        path = self.table_path(table, partition)
        try:
            footer = read_footer(path)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        cuts: list[str] = []
        in_range = 0
        for number, last in enumerate(group_maxima(footer, "user_id")):
            in_range += footer.row_group(number).num_rows
            if in_range >= rows and last is not None and (not cuts or last > cuts[-1]):
                cuts.append(last)
                in_range = 0
        return [UserRange(*pair) for pair in zip([None, *cuts], [*cuts, None], strict=True)]

    def write_streamed(
        self,
        table: str,
        partition: str,
        write: Callable[[Path, Mapping[bytes, bytes]], None],
        inputs: str,
        whole_sources: Iterable[str] = (),
    ) -> None:
        """Replace one partition of a daily table whose ids are composed by the file that ``write`` makes at
        a path, with the metadata it is given; for rows that are larger than memory. Raises LakeError where
        the rows do not follow the declared schema, or the disk cannot be written."""
        path = self.table_path(table, partition)
        facts = {
            _INPUTS: inputs.encode(),
            _COMPOSED: b"true",
            _WHOLE: json.dumps(sorted(whole_sources)).encode(),
        }
        with staged_file(path, self.root / STAGING) as draft:
            write(draft, facts)
            try:
                check_columns(draft, TABLES[table].schema)
            except ValueError as error:
                raise LakeError(f"{path}: {error}") from error
            seal_parquet(draft)

    def whole_sources(self, table: str, partition: str) -> frozenset[str]:
        """The sources of which a partition holds all there is. Raises LakeError where it cannot be read."""
        path = self.table_path(table, partition)
        try:
            return frozenset(json.loads(read_metadata(path).get(_WHOLE, b"[]")))
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def count_values(self, table: str, partition: str, column: str) -> Counter[str]:
        """How often each value of a column of text is in a partition, a block of rows at a time. Raises
        LakeError where it cannot be read."""
        path = self.table_path(table, partition)
        try:
            return count_values(path, column)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def check(self, table: str, partition: str) -> Path:
        """Compare a partition, which is not loaded, with its checksum and the declared columns; returns its
        file. Raises LakeError where it is missing or damaged."""
        path = self.table_path(table, partition)
        try:
            check_parquet(path)
            check_columns(path, TABLES[table].schema, TABLES[table].added)
        except FileNotFoundError:
            raise LakeError(f"{path} does not exist; run `tunegraph refresh`") from None
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        return path

    def inputs_of(self, table: str, partition: str | None = None) -> str | None:
        """The fingerprint a partition was written with; None where there is no readable file."""
        try:
            return read_metadata(self.table_path(table, partition)).get(_INPUTS, b"").decode() or None
        except UNREADABLE:
            return None

    def has_other_forms(self, table: str, partition: str) -> bool:
        """Whether a partition, which may be missing, has ids that are not composed. Raises LakeError where it
        cannot be read."""
        path = self.table_path(table, partition)
        try:
            if _COMPOSED in read_metadata(path):
                return False
            return has_other_forms(path, TABLES[table].schema.names)
        except FileNotFoundError:
            return False
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def row_count(self, table: str, partition: str | None = None) -> int:
        """Rows of a partition, read from its footer; 0 where there is no file. Raises LakeError where it
        cannot be read."""
        path = self.table_path(table, partition)
        try:
            return count_rows(path)
        except FileNotFoundError:
            return 0
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def check_seals(self) -> None:
        """Compare the files of all tables with their checksums. Raises LakeError naming the first that
        differs or cannot be read."""
        for table, spec in TABLES.items():
            values = [None] if spec.partition is Partition.NONE else self.partitions(table)
            for path in (self.table_path(table, value) for value in values):
                try:
                    check_parquet(path)
                except FileNotFoundError:
                    continue
                except UNREADABLE as error:
                    raise _unreadable(path, error) from error

    def partitions(self, table: str) -> list[str]:
        """The partition values on disk, ascending."""
        folder, prefix = self.root / table, f"{TABLES[table].partition.value}="
        if not folder.exists():
            return []
        found = (path.name.removeprefix(prefix) for path in folder.iterdir() if path.name.startswith(prefix))
        return sorted(value for value in found if self.table_path(table, value).exists())


def _unreadable(path: Path, error: Exception) -> LakeError:
    check_shortage(error, f"cannot read {path}")
    if isinstance(error, PermissionError):
        return no_access(path)
    return LakeError(
        f"{path} cannot be read ({error}); rebuild it with `tunegraph verify --repair` and a refresh"
    )


def _conform(frame: pl.DataFrame, spec: TableSpec, where: str) -> pa.Table:
    table = frame.to_arrow()
    if table.column_names != spec.schema.names:
        raise LakeError(f"{where}: columns are {table.column_names}, declared are {spec.schema.names}")
    # A vector column keeps the length its producer gave it; everything else is cast to what is declared.
    fields = [
        declared.with_type(got.type) if pa.types.is_fixed_size_list(got.type) else declared
        for declared, got in zip(spec.schema, table.schema, strict=True)
    ]
    try:
        table = table.cast(pa.schema(fields))
    except (pa.ArrowInvalid, ValueError) as error:
        raise LakeError(f"{where}: {error}") from error
    _check_schema(table.schema, spec, where)
    return table


def _check_schema(schema: pa.Schema, spec: TableSpec, where: str) -> None:
    if schema.names != without_missing(spec.schema, spec.added, schema).names:
        raise LakeError(f"{where}: columns are {schema.names}, declared are {spec.schema.names}; refresh it")
    for got in schema:
        declared = spec.schema.field(got.name)
        vector = pa.types.is_fixed_size_list(got.type) and got.type.value_type == pa.float32()
        same = got.type.equals(declared.type) or (vector and pa.types.is_list(declared.type))
        if not same:
            raise LakeError(
                f"{where}: column {got.name} is {got.type}, declared is {declared.type}; refresh it"
            )
