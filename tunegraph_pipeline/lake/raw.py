"""Raw batches: what a source delivered, stored unchanged; the only thing an import or a crawl writes.

Here: the form of a batch, writing it once and reading the batches of a day. Not here: the daily tables that
are derived from them (`tables`), whether these are up to date (`day_fingerprints`), or where a batch comes
from (`sources`).

A batch is the folder ``raw/dt=<day received>/<source>-<batch id>/`` with up to seven parquet parts and a
``batch.json``. The id is a hash of the content, so the same file imported twice on one day is one batch. What
is larger than memory arrives as finished files (:func:`write_files`), under an id that its source gives.

No batch ever holds a forgotten user. A day whose batches were pruned has a marker in their place and accepts
no more batches: only its tables are left.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tunegraph_pipeline.errors import LakeError, check_shortage
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.id_forms import compose_ids
from tunegraph_pipeline.lake.licences import Licence, each_once, licence_of, read_licence
from tunegraph_pipeline.lake.parquet import (
    UNREADABLE,
    as_frame,
    check_columns,
    copy_rows,
    count_values,
    read_blocks,
    read_with_added,
    same_columns,
    without_missing,
    write_rows,
)
from tunegraph_pipeline.lake.schemas import FILES, RAW_ADDED, RAW_SCHEMAS
from tunegraph_pipeline.lake.seals import check_parquet, read_json, seal_parquet, sealed_json
from tunegraph_pipeline.lake.storage import STAGING, disk_errors, remove_folder, staged_folder, write_text
from tunegraph_pipeline.lake.tombstones import Tombstones

BATCH = "batch.json"
PRUNED = "pruned.json"
PARTS_OF_PEOPLE = ("users", "likes", "feedback", "plays")
"""The parts with a column user_id."""
_NAMED_AFTER = "a file named after a forgotten user"
LEFT_OUT = "rows of forgotten users, left out"
_FACTS = ("source", "origin", "rows", "counts")
"""In `batch.json`: these fields of a `BatchInfo`."""
_ID_FORM = 2
"""In `batch.json`: the id is that of :func:`content_id`. Older batches lack this field; their ids differ."""
_WHOLE = "is_whole"
"""In `batch.json`: it replaces all that its source said before. Missing where it does not."""
_STREAMED = "is_streamed"
"""In `batch.json`: its parts arrived as files and may be larger than memory. Missing where they did not."""
_SINCE = "since"
"""In `batch.json`: from when on it has what its source was told. Missing where that is unknown."""
_LEFT = "."
"""In the id of a batch of files: what follows is how many plays are left without those forgotten."""
_LICENCE, _LICENCES = "licence", "licences"
"""In `batch.json`, and in the marker of a pruned day: under which licences the data came. Earlier versions
wrote none."""
_COMPOSED = "ids_are_composed"
"""In `batch.json`: its ids of users and tracks have one Unicode form. Older batches lack this field."""


def empty_frame(part: str) -> pl.DataFrame:
    """An empty frame with the columns and types of a raw part, such as users or likes."""
    frame = pl.from_arrow(RAW_SCHEMAS[part].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


@dataclass(frozen=True)
class RawBatch:
    """What one file or one crawl delivered. Every frame follows ``RAW_SCHEMAS``.

    A user with a row in ``likes``, or with state ``listed`` in ``users``, was seen whole. ``origin`` and
    ``counts`` (what was skipped or noticed, by a short description) are for people. ``licence`` is that of
    its source if it is None.
    """

    source: str
    origin: str
    users: pl.DataFrame = field(default_factory=lambda: empty_frame("users"))
    likes: pl.DataFrame = field(default_factory=lambda: empty_frame("likes"))
    tracks: pl.DataFrame = field(default_factory=lambda: empty_frame("tracks"))
    features: pl.DataFrame = field(default_factory=lambda: empty_frame("features"))
    counts: dict[str, int] = field(default_factory=dict)
    feedback: pl.DataFrame = field(default_factory=lambda: empty_frame("feedback"))
    plays: pl.DataFrame = field(default_factory=lambda: empty_frame("plays"))
    redirects: pl.DataFrame = field(default_factory=lambda: empty_frame("redirects"))
    licence: Licence | None = None

    def parts(self) -> dict[str, pl.DataFrame]:
        return {part: getattr(self, part) for part in RAW_SCHEMAS}


@dataclass(frozen=True)
class BatchInfo:
    """A batch on disk: its folder, source and counts. ``is_whole``: it replaces all that its source said
    before. ``is_streamed``: its parts arrived as files, and may be larger than memory. ``since``: from when
    on it has what its source was told (UTC); None for all, or where that is unknown. ``given_licence`` is
    None where that of its source holds."""

    folder: Path
    source: str
    batch_id: str
    origin: str
    rows: dict[str, int]
    counts: dict[str, int]
    ids_are_composed: bool = True
    is_whole: bool = False
    is_streamed: bool = False
    since: datetime | None = None
    given_licence: Licence | None = None

    @property
    def licence(self) -> Licence:
        """The licence it came under."""
        return self.given_licence or licence_of(self.source)

    def path(self, part: str) -> Path:
        """The file of a part that the batch has."""
        return self.folder / f"{part}.parquet"

    def read(self, part: str, columns: list[str] | None = None) -> pl.DataFrame:
        """One part, or ``columns`` of it, with ids in one Unicode form; empty where the batch has none.
        Raises LakeError where it cannot be read."""
        rows = self.read_as_written(part, columns)
        return rows if self.ids_are_composed else compose_ids(rows)

    def read_as_written(self, part: str, columns: list[str] | None = None) -> pl.DataFrame:
        """The same with ids in the form in which an earlier version may have stored them."""
        if not self.rows.get(part):
            return empty_frame(part) if columns is None else empty_frame(part).select(columns)
        path = self.path(part)

        added = RAW_ADDED.get(part, ())

        def check(schema: pa.Schema) -> None:
            if not same_columns(schema, without_missing(RAW_SCHEMAS[part], added, schema)):
                raise self._of_other_columns(part)

        with self._reading(part):
            return read_with_added(path, empty_frame(part), added, columns, check)

    def read_in_blocks(self, part: str, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """The rows of :meth:`read`, a block at a time; ``columns`` name none that earlier versions lack.
        Raises LakeError where it cannot be read."""
        if not self.rows.get(part):
            return
        added, empty = RAW_ADDED.get(part, ()), empty_frame(part)
        declared = pa.schema([one for one in RAW_SCHEMAS[part] if columns is None or one.name in columns])
        with self._reading(part):
            for block in read_blocks(self.path(part), columns):
                if not same_columns(block.schema, without_missing(declared, added, block.schema)):
                    raise self._of_other_columns(part)
                rows = as_frame(block)
                if columns is None and added:
                    rows = pl.concat([empty, rows], how="diagonal")
                rows = rows.select(empty.columns if columns is None else columns)
                yield rows if self.ids_are_composed else compose_ids(rows)

    def values(self, part: str, column: str) -> pl.Series:
        """The distinct values of a column of text of a part, nulls left out, in no order. Raises LakeError
        where it cannot be read."""
        found = pl.Series(column, [], dtype=pl.String)
        for rows in self.read_in_blocks(part, [column]):
            found = pl.concat([found, rows[column].drop_nulls().unique()]).unique()
        return found

    def count_values(self, part: str, column: str) -> Counter[str]:
        """How often each value of a column of text is in a part, nulls left out, a block of rows at a time.
        Raises LakeError where it cannot be read."""
        found: Counter[str] = Counter()
        if not self.rows.get(part):
            return found
        with self._reading(part):
            for value, count in count_values(self.path(part), column).items():
                found[value if self.ids_are_composed else composed(value)] += count
        return found

    def check(self, part: str) -> int:
        """Compare a part, which is not loaded, with its checksum and the columns it must have; returns how
        many rows it declares. Raises LakeError where it is damaged."""
        with self._reading(part):
            check_parquet(self.path(part))
            return check_columns(self.path(part), RAW_SCHEMAS[part], RAW_ADDED.get(part, ()))

    def _of_other_columns(self, part: str) -> LakeError:
        return LakeError(
            f"{self.path(part)} does not have the columns of raw {part}; import its origin again"
        )

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            check_shortage(error, f"cannot read {self.path(part)}")
            raise LakeError(
                f"{self.path(part)} cannot be read ({error}); remove {self.folder} and import its origin"
                " again"
            ) from error

    def read_whole(self) -> RawBatch:
        """The whole batch. Raises LakeError where a part cannot be read."""
        frames = {part: self.read(part) for part in RAW_SCHEMAS}
        return RawBatch(self.source, self.origin, **frames, counts=self.counts, licence=self.given_licence)


def write_batch(raw: Path, day: date, batch: RawBatch) -> BatchInfo:
    """Write ``batch`` as received on ``day``, unless the day has a batch of the same content.

    ``raw`` is the lake's folder of raw batches. Rows of forgotten users are left out and counted; a batch
    with nothing else is not written, and the one returned has no rows. Raises LakeError where the batches of
    the day were pruned, or the disk cannot be written.
    """
    _check_not_pruned(raw, day)
    batch = _composed(batch)
    tombstones = Tombstones.of(raw.parent)
    if tombstones:
        kept, left_out = without_users(batch, tombstones.buries)
        if tombstones.named_in(batch.origin.encode(errors="replace")):
            kept = replace(kept or batch, origin=_NAMED_AFTER)
        if left_out:
            counts = {**batch.counts, LEFT_OUT: left_out}
            if kept is None:
                return BatchInfo(day_folder(raw, day), batch.source, "", batch.origin, {}, counts)
            kept = replace(kept, counts=counts)
        batch = kept or batch
    return _write(raw, day, batch)


def write_files(
    raw: Path,
    day: date,
    source: str,
    origin: str,
    batch_id: str,
    files: Mapping[str, Path],
    counts: Mapping[str, int],
    whole: bool,
    since: datetime | None = None,
) -> BatchInfo:
    """Make a batch, received on ``day``, of finished parquet ``files`` by the name of their part, without
    loading them.

    They have the columns of ``RAW_SCHEMAS``, and their ids are composed. Rows of forgotten users are left out
    of ``plays`` and counted. ``batch_id``, without a dash, names the content for good, such as by a checksum
    of the dump: where the day has that batch, also with users forgotten since, it stays as it is. With
    ``whole`` it replaces all that ``source`` said before; else it has what ``source`` was told from ``since``
    (UTC) on, where that is known. The given files are removed once the batch is in place, so a kill loses
    nothing. Raises LakeError where the batches of the day were pruned, a file has other columns, or the disk
    cannot be written.
    """
    _check_not_pruned(raw, day)
    if unknown := files.keys() - {"plays", "tracks", "features"}:
        raise ValueError(f"a batch of files has no {', '.join(sorted(unknown))}")
    if not re.fullmatch(r"\w+", batch_id):
        raise ValueError(f"the id of a batch of files has letters and digits alone: {batch_id}")
    rows = {part: n_rows for part, path in files.items() if (n_rows := _checked(part, path))}
    given = BatchInfo(
        day_folder(raw, day) / f"{source}-{batch_id}",
        source,
        batch_id,
        origin,
        rows,
        dict(counts),
        is_whole=whole,
        is_streamed=True,
        given_licence=licence_of(source),
        since=since,
    )
    there = [info for info in read_batches(raw, day) if info.source == source and _is_of(info, batch_id)]
    info = there[0] if there else None
    if info is None:
        tombstones = Tombstones.of(raw.parent)
        gone = _users_in(files, tombstones.buries) if tombstones else {}
        info = _write_streamed(given, files, gone)
    for path in files.values():
        path.unlink(missing_ok=True)
    return info


def _checked(part: str, path: Path) -> int:
    """How many rows a file to become a part has."""
    try:
        return check_columns(path, RAW_SCHEMAS[part])
    except UNREADABLE as error:
        check_shortage(error, f"cannot read {path}")
        raise LakeError(f"{path} cannot become raw {part}: {error}; make it again") from error


def _is_of(info: BatchInfo, batch_id: str) -> bool:
    """Whether a batch is the one that was given ``batch_id``, or what is left of it."""
    return info.batch_id.partition(_LEFT)[0] == batch_id


def _users_in(files: Mapping[str, Path], gone: Callable[[pl.Series], pl.Series]) -> dict[str, int]:
    """The users with plays in ``files`` that ``gone`` marks, with how many rows each."""
    found = count_values(files["plays"], "user_id") if "plays" in files else {}
    user_ids = pl.Series([*found], dtype=pl.String)
    return {user_id: found[user_id] for user_id in user_ids.filter(gone(user_ids))}


def _write_streamed(info: BatchInfo, files: Mapping[str, Path], gone: Mapping[str, int]) -> BatchInfo:
    """Copy ``files`` into the folder of a batch, without the plays of the users ``gone``.

    Where rows are left out, the id ends with how many plays are left, so that tables made of it change.
    """
    doomed = sum(gone.values())
    rows, batch_id, counts = dict(info.rows), info.batch_id, dict(info.counts)
    if doomed:
        rows["plays"] -= doomed
        batch_id = f"{batch_id.partition(_LEFT)[0]}{_LEFT}{rows['plays']}"
        counts[LEFT_OUT] = counts.get(LEFT_OUT, 0) + doomed
    rows = {part: n_rows for part, n_rows in rows.items() if n_rows}
    folder = info.folder.with_name(f"{info.source}-{batch_id}")
    info = replace(info, folder=folder, batch_id=batch_id, rows=rows, counts=counts)
    others = pc.invert(pc.is_in(pc.field("user_id"), pa.array([*gone], pa.string())))
    with staged_folder(folder, folder.parents[2] / STAGING) as draft:
        for part in rows:
            target = draft / f"{part}.parquet"
            if part == "plays" and doomed:
                copy_rows(files[part], target, lambda block: block.filter(others))
            else:
                shutil.copyfile(files[part], target)
            seal_parquet(target)
        _write_facts(draft, info)
    return info


def _composed(batch: RawBatch) -> RawBatch:
    frames: dict[str, Any] = {part: compose_ids(frame) for part, frame in batch.parts().items()}
    return replace(batch, **frames)


def without_users(batch: RawBatch, gone: Callable[[pl.Series], pl.Series]) -> tuple[RawBatch | None, int]:
    """``batch`` without the users that ``gone`` marks (user ids to Booleans), and how many rows named them.

    None in place of a batch that named nobody else. Its tracks go with it if it was imported, since the
    import of one person is that person's library; tracks of a crawl describe the catalogue, and stay.
    """
    left: dict[str, Any] = {}
    named = 0
    for part in PARTS_OF_PEOPLE:
        frame = batch.parts()[part]
        theirs = gone(frame["user_id"])
        frame = frame.filter(~theirs)
        named += int(theirs.sum())
        if part == "users":
            led = gone(frame["discovered_from"])
            named += int(led.sum())
            frame = frame.with_columns(discovered_from=frame["discovered_from"].set(led, None))
        left[part] = frame
    if not named:
        return batch, 0
    rest = replace(batch, **left)
    catalogue = batch.source != FILES and (len(batch.tracks) or len(batch.features))
    return (rest if any(map(len, left.values())) or catalogue else None), named


def take_users_out(info: BatchInfo, day: date, user_ids: Collection[str]) -> Counter[str]:
    """Replace a batch on disk by one without these users; returns how often it named each of them.

    The new one, under the id of its content, is in place before the old one is removed, so a kill in between
    loses nothing, and doing it again finishes it.
    """
    named = Counter(
        one
        for one in user_ids
        if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", composed(info.origin)) is not None
    )
    named_after = bool(named)
    for part, column in (*((part, "user_id") for part in PARTS_OF_PEOPLE), ("users", "discovered_from")):
        found = info.count_values(part, column)
        named.update({one: found[one] for one in user_ids if one in found})
    if not named:
        return named
    if info.is_streamed:
        _take_plays_out(info, named)
        return named
    gone = pl.Series(sorted(user_ids), dtype=pl.String).implode()
    rest, _ = without_users(info.read_whole(), lambda ids: ids.is_in(gone).fill_null(False))
    if rest is not None:
        origin = _NAMED_AFTER if named_after else rest.origin
        new = _write(info.folder.parents[1], day, replace(rest, origin=origin), overwrite=named_after)
        if new.folder == info.folder:
            return named
    remove_batch(info)
    return named


def _take_plays_out(info: BatchInfo, user_ids: Collection[str]) -> None:
    """The same of a batch whose parts may be larger than memory, in which plays alone name users."""
    gone = pl.Series(sorted(user_ids), dtype=pl.String).implode()
    files = {part: info.path(part) for part in info.rows}
    with disk_errors(info.folder):
        _write_streamed(info, files, _users_in(files, lambda ids: ids.is_in(gone)))
    remove_batch(info)


def remove_batch(info: BatchInfo) -> None:
    """Remove a batch, and the folder of its day if it was the last one; no reader sees half of it."""
    with disk_errors(info.folder):
        remove_folder(info.folder, info.folder.parents[2] / STAGING)
        if not any(info.folder.parent.iterdir()):
            info.folder.parent.rmdir()


def prune_day(raw: Path, day: date) -> int:
    """Remove the batches of a day whose tables are written, and leave a marker; returns how many there were.
    It finishes a day whose pruning was killed."""
    folder = day_folder(raw, day)
    batches = [path for path in folder.iterdir() if path.is_dir()]
    if batches:
        # The marker first, so that no table is ever derived from a part of the batches.
        if not is_pruned(raw, day):
            licences = each_once(read_info(path).licence for path in batches)
            marker = {"batches": len(batches), _LICENCES: licences}
            write_text(folder / PRUNED, sealed_json(json.dumps(marker)), raw.parent / STAGING)
        for path in batches:
            remove_folder(path, raw.parent / STAGING)
    return len(batches)


def is_pruned(raw: Path, day: date) -> bool:
    """Whether the batches of a day were pruned: its tables stay as they are."""
    return (day_folder(raw, day) / PRUNED).exists()


def licences_of(raw: Path, day: date) -> list[Licence]:
    """The licences under which the data of a day came, each once; none of a day that an earlier version
    pruned. Raises LakeError where a batch cannot be read."""
    if not is_pruned(raw, day):
        return each_once(batch.licence for batch in read_batches(raw, day))
    marker = day_folder(raw, day) / PRUNED
    try:
        written = read_json(marker.read_bytes()).get(_LICENCES, [])
        return each_once(found for one in written if (found := read_licence(one)) is not None)
    except (OSError, ValueError, TypeError, AttributeError):
        return []  # only that the marker is there counts


def day_folder(raw: Path, day: date) -> Path:
    """The folder of the batches of a day."""
    return raw / f"dt={day.isoformat()}"


def _write(raw: Path, day: date, batch: RawBatch, *, overwrite: bool = False) -> BatchInfo:
    """Write a batch as it is, unless one of its content is there; with ``overwrite`` also then."""
    tables = {
        part: _with_added(part, frame).to_arrow().cast(RAW_SCHEMAS[part])
        for part, frame in batch.parts().items()
        if len(frame)
    }
    batch_id = content_id(batch.source, tables)
    folder = day_folder(raw, day) / f"{batch.source}-{batch_id}"
    rows = {part: len(table) for part, table in tables.items()}
    info = BatchInfo(
        folder, batch.source, batch_id, batch.origin, rows, batch.counts, given_licence=batch.licence
    )
    if overwrite or not (folder / BATCH).exists():
        with staged_folder(folder, raw.parent / STAGING) as draft:
            for part, table in tables.items():
                write_rows(table, draft / f"{part}.parquet")
            _write_facts(draft, info)
    return info


def _with_added(part: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns that earlier versions lack, null where a source gave none."""
    empty = empty_frame(part)
    missing = [name for name in RAW_ADDED.get(part, ()) if name not in frame.columns]
    nulls = [pl.lit(None, empty.schema[name]).alias(name) for name in missing]
    return frame.with_columns(nulls).select(empty.columns) if missing else frame


def _write_facts(folder: Path, info: BatchInfo) -> None:
    facts = {name: getattr(info, name) for name in _FACTS} | {_COMPOSED: True, _LICENCE: info.licence}
    # The id of streamed parts is that of their origin, not of their content.
    facts |= {_STREAMED: True, _WHOLE: info.is_whole} if info.is_streamed else {"id_form": _ID_FORM}
    if info.since is not None:
        facts[_SINCE] = info.since.isoformat()
    (folder / BATCH).write_text(sealed_json(json.dumps(facts, indent=1, ensure_ascii=False)))


def _check_not_pruned(raw: Path, day: date) -> None:
    if is_pruned(raw, day):
        raise LakeError(
            f"the raw batches of {day} were pruned by settings.retention of lake.json, so nothing can be"
            " added to that day; import it as of a later day"
        )


def content_id(source: str, tables: Mapping[str, pa.Table]) -> str:
    """The id of a batch of these parts: a hash of the source and of every value, in the order of the rows.

    ``tables`` has the parts that have rows. Memory layout does not matter, so a batch read from disk has the
    id it was written with. Nor do columns that earlier versions lack, where they are null throughout.
    """
    digest = hashlib.blake2b(source.encode(), digest_size=10)
    for part in sorted(tables):
        digest.update(part.encode())
        for name, column in zip(
            tables[part].column_names, tables[part].combine_chunks().columns, strict=True
        ):
            if name in RAW_ADDED.get(part, ()) and column.null_count == len(column):
                continue
            for values in _canonical(column):
                sink = pa.BufferOutputStream()
                block = pa.table([values], [name]).combine_chunks()
                with pa.ipc.new_stream(sink, block.schema) as stream:
                    stream.write_table(block)
                digest.update(sink.getvalue())
    return digest.hexdigest()


def _canonical(column: Any) -> Iterator[Any]:
    """A column in one canonical layout: which rows are known, and their values; of lists their lengths and
    items. The memory behind a null is arbitrary, and left out."""
    yield pc.cast(pc.is_valid(column), pa.uint8())
    known = column.drop_null()
    if pa.types.is_list(known.type):
        yield pc.list_value_length(known)
        known = pc.list_flatten(known)
    yield pc.cast(known, pa.uint8()) if pa.types.is_boolean(known.type) else known


def id_is_comparable(folder: Path) -> bool:
    """Whether the id of a batch is that of :func:`content_id`; older batches have another one."""
    return bool(read_json((folder / BATCH).read_bytes()).get("id_form") == _ID_FORM)


def read_batches(raw: Path, day: date) -> list[BatchInfo]:
    """The batches received on ``day``, ordered by source and id, whatever their order of arrival; none of a
    pruned day."""
    folder = day_folder(raw, day)
    if not folder.exists() or is_pruned(raw, day):
        return []
    return [read_info(path) for path in sorted(folder.iterdir()) if path.is_dir()]


def raw_days(raw: Path) -> list[date]:
    """The days on which anything was received, also those pruned since, ascending."""
    days = []
    for path in raw.iterdir() if raw.exists() else ():
        if path.name.startswith("dt=") and any(path.iterdir()):
            try:
                days.append(date.fromisoformat(path.name.removeprefix("dt=")))
            except ValueError:
                raise LakeError(f"{path} is not the folder of a day; move it out of the lake") from None
    return sorted(days)


def read_info(folder: Path) -> BatchInfo:
    """What `batch.json` says of a batch. Raises LakeError where it cannot be read."""
    try:
        facts = read_json((folder / BATCH).read_bytes())
        known = {name: facts[name] for name in _FACTS}
        composed_ids = facts.get(_COMPOSED) is True
        return BatchInfo(
            folder,
            batch_id=folder.name.rpartition("-")[2],
            **known,
            ids_are_composed=composed_ids,
            is_whole=facts.get(_WHOLE) is True,
            is_streamed=facts.get(_STREAMED) is True,
            given_licence=read_licence(facts.get(_LICENCE)),
            since=datetime.fromisoformat(facts[_SINCE]) if _SINCE in facts else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        check_shortage(error, f"cannot read {folder / BATCH}")
        raise LakeError(
            f"{folder / BATCH} cannot be read ({error}); remove {folder} and import its origin again"
        ) from error
