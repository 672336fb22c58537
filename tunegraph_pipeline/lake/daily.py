"""The daily tables of one day, updated to what was received on it.

Here: which function derives which table, writing tables whose raw batches or aliases have changed, reading
the lake as if that were done, and removing rows from a day that has no raw batches any more. Not here: the
functions themselves (`tables`), or which days are filled when (`pipeline.fill_days`).
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import date
from functools import cache, partial
from io import BytesIO

import polars as pl
import pyarrow as pa

from tunegraph_pipeline.lake.aliases import NO_ALIASES, Aliases
from tunegraph_pipeline.lake.day_fingerprints import day_fingerprint
from tunegraph_pipeline.lake.id_forms import compose_ids
from tunegraph_pipeline.lake.lake import DAILY_TABLES, MAY_BE_MISSING, Lake
from tunegraph_pipeline.lake.large_days import is_large, lists_in_ranges
from tunegraph_pipeline.lake.parquet import copy_rows, read_blocks
from tunegraph_pipeline.lake.plays import (
    DayOfPlays,
    PlaysPart,
    PlaysSettings,
    added_up,
    bounded_duckdb,
    day_of,
    fetch,
    rows_of_file,
    write_day,
)
from tunegraph_pipeline.lake.raw import BatchInfo, is_pruned
from tunegraph_pipeline.lake.tables import (
    derive_audio_features,
    derive_feedback,
    derive_likes,
    derive_observations,
    derive_redirects,
    derive_tracks,
    derive_users,
    unique_feedback,
    unique_likes,
    unique_tracks,
    unique_users,
)

_ABOUT_TRACKS = ("tracks", "audio_features", "redirects")
_OF_LISTS = {"users", "likes", "observations"}
_STREAMED = "plays"
"""The daily table that may be larger than memory, made by DuckDB."""


def derive(
    names: Collection[str], batches: Sequence[BatchInfo], day: date, aliases: Aliases = NO_ALIASES
) -> dict[str, pl.DataFrame]:
    """The daily tables of these names, but for `plays`, each a pure function of the batches of the day and
    the aliases."""
    made: dict[str, pl.DataFrame] = {}
    if {"users", "observations"} & set(names):
        made["users"] = derive_users(batches, day, aliases)
    if {"likes", "observations"} & set(names):
        made["likes"] = derive_likes(batches, aliases)
    if "observations" in names:
        made["observations"] = derive_observations(made["users"], made["likes"])
    if "tracks" in names:
        made["tracks"] = derive_tracks(batches)
    if "audio_features" in names:
        made["audio_features"] = derive_audio_features(batches)
    if "redirects" in names:
        made["redirects"] = derive_redirects(batches)
    if "feedback" in names:
        made["feedback"] = derive_feedback(batches, aliases)
    return {name: made[name] for name in names}


def plays_now(lake: Lake, day: date, aliases: Aliases) -> DayOfPlays:
    """The table `plays` of a day, which is stale, as :func:`fill_day` writes it: a pure function of the same.
    Raises LakeError where what it is made of is damaged."""
    key = day.isoformat()
    if is_pruned(lake.raw, day):
        path = lake.check(_STREAMED, key)
        return DayOfPlays(added_up(rows_of_file(path), aliases), lake.whole_sources(_STREAMED, key))
    batches = [batch for batch in lake.batches(day) if batch.rows.get(_STREAMED)]
    for batch in batches:
        batch.check(_STREAMED)
    parts = [
        PlaysPart(rows_of_file(batch.path(_STREAMED)), batch.source, batch.is_whole) for batch in batches
    ]
    return day_of(parts, aliases)


def fill_day(lake: Lake, day: date, names: Collection[str] = DAILY_TABLES) -> bool:
    """Write those tables of these names that are not up to date; returns whether all were.

    Tables of a day whose raw batches were pruned stay as they are, except that rows of an alias get the
    user's id, and ids one Unicode form, for good. Raises LakeError where a batch cannot be read, a table of a
    pruned day is missing, or the disk cannot be written.
    """
    key, pruned, aliases = day.isoformat(), is_pruned(lake.raw, day), Aliases.of(lake.root)
    for name in names if pruned else ():
        if name not in MAY_BE_MISSING:
            lake.read(name, key, columns=[])
    stale = lake.stale_tables(day, names, aliases)
    in_memory = [name for name in stale if name != _STREAMED]
    if not pruned and is_large(lake.batches(day)) and (of_lists := _OF_LISTS & set(in_memory)):
        _fill_lists(lake, day, of_lists, aliases)
        in_memory = [name for name in in_memory if name not in of_lists]
    for name, rows in tables_now(lake, day, in_memory, aliases).items():
        lake.write(name, key, rows, _inputs(lake, day, name, rows, aliases))
    if _STREAMED in stale:
        _fill_plays(lake, day, aliases)
    return not stale


def _fill_lists(lake: Lake, day: date, names: Collection[str], aliases: Aliases) -> None:
    """Write those tables of lists of these names as :func:`derive` makes them, a range of users at a time."""
    key, batches = day.isoformat(), lake.batches(day)
    users = derive_users(batches, day, aliases)
    if "users" in names:
        lake.write("users", key, users, day_fingerprint(batches, "users", aliases))
    with ExitStack() as drafts:
        written = {
            name: drafts.enter_context(lake.draft(name, key))
            for name in ("likes", "observations")
            if name in names
        }
        for name, draft in written.items():
            draft.inputs, draft.ids_are_composed = day_fingerprint(batches, name, aliases), True
        for likes, observations in lists_in_ranges(batches, users, aliases, lake.staging) if written else ():
            for name, rows in (("likes", likes), ("observations", observations)):
                if name in written:
                    written[name].append(rows)


def _fill_plays(lake: Lake, day: date, aliases: Aliases) -> None:
    now = plays_now(lake, day, aliases)
    inputs = _plays_inputs(lake, day, aliases)
    with bounded_duckdb(lake.staging, lake.section("plays", PlaysSettings).memory_gb) as connection:
        lake.write_streamed(
            _STREAMED,
            day.isoformat(),
            lambda draft, facts: write_day(connection, now, draft, facts),
            inputs,
            now.whole,
        )


def _plays_inputs(lake: Lake, day: date, aliases: Aliases) -> str:
    """The fingerprint to write the table `plays` of a day with."""
    if not is_pruned(lake.raw, day):
        return day_fingerprint(lake.batches(day), _STREAMED, aliases)
    said = [lake.inputs_of(_STREAMED, day.isoformat()), sorted(aliases.user_ids.items())]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=10).hexdigest()


def tables_now(lake: Lake, day: date, names: Collection[str], aliases: Aliases) -> dict[str, pl.DataFrame]:
    """The daily tables ``names``, which are stale, as :func:`fill_day` writes them."""
    if not is_pruned(lake.raw, day):
        return derive(names, lake.batches(day), day, aliases)

    def renamed(name: str) -> pl.DataFrame:
        return aliases.renamed(compose_ids(lake.read(name, day.isoformat())))

    made = {
        "users": lambda: unique_users(renamed("users").with_columns(said=True)),
        "observations": lambda: derive_observations(renamed("users"), unique_likes(renamed("likes"))),
        "likes": lambda: unique_likes(renamed("likes")),
        "feedback": lambda: unique_feedback(renamed("feedback")),
        "tracks": lambda: unique_tracks(renamed("tracks"), "tracks"),
        "audio_features": lambda: unique_tracks(renamed("audio_features"), "audio_features"),
        "redirects": lambda: unique_tracks(renamed("redirects"), "redirects"),
    }
    return {name: made[name]() for name in names}


class Preview(Lake):
    """A lake as the next refresh will fill it: stale daily tables up to ``today`` are derived when they are
    read. For reading only."""

    def __init__(self, lake: Lake, today: date) -> None:
        super().__init__(lake.root, lake.file)
        self._aliases = Aliases.of(lake.root)
        self._stale = {
            day.isoformat(): names
            for day in lake.raw_days()
            if day <= today and (names := lake.stale_tables(day, DAILY_TABLES, self._aliases))
        }
        self._derived = cache(partial(self._derive, lake))

    def _derive(self, lake: Lake, day: str, about_tracks: bool) -> dict[str, pl.DataFrame]:
        names = [
            name for name in self._stale[day] if name != _STREAMED and (name in _ABOUT_TRACKS) == about_tracks
        ]
        return tables_now(lake, date.fromisoformat(day), names, self._aliases)

    def _is_stale(self, table: str, day: str) -> bool:
        return table in self._stale.get(day, ())

    def partitions(self, table: str) -> list[str]:
        coming = {day for day, names in self._stale.items() if table in names}
        return sorted({*super().partitions(table), *coming})

    def read(
        self, table: str, partition: str | None = None, columns: list[str] | None = None
    ) -> pl.DataFrame:
        if partition is None or not self._is_stale(table, partition):
            return super().read(table, partition, columns)
        if table == _STREAMED:
            with bounded_duckdb(self.staging, self.section("plays", PlaysSettings).memory_gb) as connection:
                rows = fetch(connection, self.plays_of(partition).rows)
            return rows if columns is None else rows.select(columns)
        rows = self._derived(partition, table in _ABOUT_TRACKS)[table]
        return rows if columns is None else rows.select(columns)

    def row_count(self, table: str, partition: str | None = None) -> int:
        if partition is None or not self._is_stale(table, partition):
            return super().row_count(table, partition)
        return len(self.read(table, partition))

    def inputs_of(self, table: str, partition: str | None = None) -> str | None:
        if partition is None or not self._is_stale(table, partition):
            return super().inputs_of(table, partition)
        if table == _STREAMED:
            return _plays_inputs(self, date.fromisoformat(partition), self._aliases)
        return _inputs(self, date.fromisoformat(partition), table, self.read(table, partition), self._aliases)

    def plays_of(self, day: str) -> DayOfPlays:
        if not self._is_stale(_STREAMED, day):
            return super().plays_of(day)
        return plays_now(self, date.fromisoformat(day), self._aliases)


def _inputs(lake: Lake, day: date, table: str, rows: pl.DataFrame, aliases: Aliases) -> str:
    """The fingerprint to write ``rows`` of a daily table with."""
    if is_pruned(lake.raw, day):
        return _content(rows)
    return day_fingerprint(lake.batches(day), table, aliases)


def _content(rows: pl.DataFrame) -> str:
    written = BytesIO()
    rows.write_ipc_stream(written)
    return hashlib.blake2b(written.getvalue(), digest_size=10).hexdigest()


def filter_day(lake: Lake, day: date, kept: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
    """Apply ``kept``, which may remove or change rows, to every table of a day; returns how many rows were
    removed or changed.

    For a day whose raw batches were pruned; any other is derived from them. Raises LakeError where a table
    cannot be read or written.
    """
    key, touched = day.isoformat(), 0
    for name in DAILY_TABLES:
        if key not in lake.partitions(name):
            continue
        if name == _STREAMED:
            touched += _filter_plays(lake, key, kept)
            continue
        rows = lake.read(name, key)
        left = kept(rows)
        if left.equals(rows):
            continue
        touched += len(rows) - len(left) or 1
        # A new fingerprint, so that what is derived from the day is updated.
        lake.write(name, key, left, _content(left))
    return touched


def _filter_plays(lake: Lake, day: str, kept: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
    """The same for the table `plays`, a block of rows at a time."""

    def left_of(block: pa.Table) -> pl.DataFrame:
        rows = pl.from_arrow(block)
        assert isinstance(rows, pl.DataFrame)
        return kept(rows)

    path = lake.check(_STREAMED, day)
    lost = [len(block) - len(left_of(block)) for block in read_blocks(path)]
    if not any(lost):
        return 0
    said = [lake.inputs_of(_STREAMED, day), lost]
    lake.write_streamed(
        _STREAMED,
        day,
        lambda draft, facts: copy_rows(path, draft, lambda block: left_of(block).to_arrow(), facts),
        hashlib.blake2b(json.dumps(said).encode(), digest_size=10).hexdigest(),
        lake.whole_sources(_STREAMED, day),
    )
    return sum(lost)
