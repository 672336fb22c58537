"""The invented listens as files: the folders, archives and checksums of data.metabrainz.org.

Here: full exports, incremental dumps and MusicBrainz's canonical data, and what they are called. Not here:
what is in them (`listens`, `songs`), or serving them (`simulator.dump_server`).

A folder appears whole or not at all. The same world and date give the same bytes. A dump holds all that was
submitted until its END_TIMESTAMP: a full export in the order of playing, without what was deleted, an
incremental dump what was submitted since the dump before it, in that order. A full export begins a file with
every year.
"""

import csv
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dumps.listens import Listens, ListensConfig, ListenWorld, together
from tunegraph_pipeline.words import counted

MIRROR_FOLDER = "pub/musicbrainz/listenbrainz"
FULL_FOLDER = f"{MIRROR_FOLDER}/fullexport"
INCREMENTAL_FOLDER = f"{MIRROR_FOLDER}/incremental"
CANONICAL_FOLDER = "pub/musicbrainz/canonical_data"
_WORLD_FILE = ".world.json"
_FIRST_NUMBER = 2_500
_FULL_SECOND, _INCREMENTAL_SECOND = 4, 2  # after midnight
_LICENCE = """CC0 1.0 Universal

The person who associated a work with this deed has dedicated the work to the public domain.
"""


def dump_number(world: ListenWorld, day: date, *, full: bool) -> int:
    """The number of the dump of a day. Every day has an incremental dump; that of a full export comes after
    it."""
    days = [world.config.start + timedelta(days=i) for i in range((day - world.config.start).days)]
    fulls = sum(one.day in world.config.full_days for one in days)
    return _FIRST_NUMBER + len(days) + fulls + full


def publish_full(world: ListenWorld, folder: Path, day: date) -> Path:
    """Write the full export of a day below ``folder``; returns its folder.

    Raises InputError for a day that has none.
    """
    config = world.config
    if day < config.first_full or day.day not in config.full_days:
        raise InputError(
            f"there is no full export of {day}: the first is of {config.first_full}, others of the days"
            f" {', '.join(map(str, config.full_days))} of a month"
        )
    number = dump_number(world, day, full=True)
    stamp = f"{number}-{day:%Y%m%d}-00000{_FULL_SECOND}-full"
    end = _end(day, full=True)
    begin = datetime(2002, 10, 1, tzinfo=UTC)
    files = _in_files(_all_listens(world, day), config.member_rows)
    return _publish_listens(world, folder / FULL_FOLDER, stamp, begin, end, files)


def publish_incremental(world: ListenWorld, folder: Path, day: date) -> Path:
    """Write the incremental dump of a day below ``folder``; returns its folder.

    Raises InputError for a day before the second one of the world.
    """
    if day <= world.config.start:
        raise InputError(
            f"there is no incremental dump of {day}: the first is of the day after {world.config.start}"
        )
    yesterday = day - timedelta(days=1)
    full_before = yesterday >= world.config.start and yesterday.day in world.config.full_days
    begin, end = _end(yesterday, full=full_before), _end(day, full=False)
    number = dump_number(world, day, full=False)
    stamp = f"{number}-{day:%Y%m%d}-00000{_INCREMENTAL_SECOND}-incremental"
    listens = _submitted(world, begin, end)
    rows = world.config.member_rows
    files = (
        listens.where(np.arange(i, min(i + rows, len(listens.at)))) for i in range(0, len(listens.at), rows)
    )
    return _publish_listens(world, folder / INCREMENTAL_FOLDER, stamp, begin, end, files)


def publish_canonical(world: ListenWorld, folder: Path, day: date) -> Path:
    """Write MusicBrainz's canonical data as of a day below ``folder``; returns its folder."""
    name = f"musicbrainz-canonical-dump-{day:%Y%m%d}-080003"
    at = datetime.combine(day, time(8, 0, 3), UTC)
    songs = world.songs
    releases = songs.canonical.select("release_mbid").unique(maintain_order=True)
    tables = {
        "canonical_musicbrainz_data.csv": songs.canonical,
        "canonical_recording_redirect.csv": songs.redirects,
        "canonical_release_redirect.csv": releases.select(
            "release_mbid", canonical_release_mbid="release_mbid", release_group_mbid="release_mbid"
        ),
    }
    with _new_folder(folder / CANONICAL_FOLDER / name) as made:
        archive = made / f"{name}.tar.zst"
        with (
            pa.CompressedOutputStream(archive, "zstd") as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, f"{name}/TIMESTAMP", at.isoformat(" ").encode(), at)
            _add(tar, f"{name}/COPYING", _LICENCE.encode(), at)
            for table_name, table in tables.items():
                text = made / table_name
                with text.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(table.columns)
                    writer.writerows(table.iter_rows())
                member = _member(f"{name}/canonical/{table_name}", text.stat().st_size, at)
                with text.open("rb") as content:
                    tar.addfile(member, content)
                text.unlink()
        with archive.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        (made / f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n", encoding="utf-8")
    return folder / CANONICAL_FOLDER / name


def mirror_world(folder: Path, config: ListensConfig) -> ListenWorld:
    """The world whose dumps a folder holds. A new folder gets that of ``config``, and keeps it in a file.

    Raises InputError if the folder holds another world, or something else.
    """
    file = folder / _WORLD_FILE
    if file.exists():
        try:
            kept = ListensConfig.model_validate_json(file.read_bytes())
        except ValueError as error:
            raise InputError(f"{file} describes no simulated dumps; name another folder") from error
        # The dates are those of the day on which the folder was made.
        if kept != config.model_copy(update={"start": kept.start, "first_full": kept.first_full}):
            what = f"{counted(kept.n_users, 'user')}, {counted(kept.n_songs, 'song')}, seed {kept.seed}"
            raise InputError(
                f"{folder} holds dumps of another world ({what}); ask for the same sizes and seed, or name"
                " another folder"
            )
        return ListenWorld(kept)
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} holds something else than simulated dumps; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.rename(file)
    return ListenWorld(config)


def publish(world: ListenWorld, folder: Path, until: date, *, kept_days: int = 12) -> list[Path]:
    """Bring ``folder`` to what a mirror shows at noon of a day: the newest two full exports, the incremental
    dumps of the last ``kept_days``, and the canonical data of the first full export. What is there stays as
    it is; older dumps are deleted. Returns the new folders.

    Raises InputError for a day before the first full export.
    """
    first = world.config.first_full
    if until < first:
        raise InputError(f"the first full export is of {first}, after {until}; ask for a later day")
    days = [first + timedelta(days=i) for i in range((until - first).days + 1)]
    fulls = [day for day in days if day.day in world.config.full_days][-2:]
    incrementals = [day for day in days if day > first][-kept_days:]
    made = []
    for below, kind, kept, publish_one in (
        (FULL_FOLDER, "full", fulls, publish_full),
        (INCREMENTAL_FOLDER, "incremental", incrementals, publish_incremental),
        (CANONICAL_FOLDER, "canonical", [first], publish_canonical),
    ):
        (folder / below).mkdir(parents=True, exist_ok=True)
        there = {path.name: path for path in (folder / below).iterdir() if kind in path.name}
        wanted = {f"-{day:%Y%m%d}-": day for day in kept}
        for name, path in there.items():
            if not any(mark in name for mark in wanted):
                shutil.rmtree(path)
        for mark, day in wanted.items():
            if not any(mark in name for name in there):
                made.append(publish_one(world, folder, day))
    return made


def _end(day: date, *, full: bool) -> datetime:
    return datetime.combine(day, time(0, 0, _FULL_SECOND if full else _INCREMENTAL_SECOND), UTC)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def _all_listens(world: ListenWorld, day: date) -> Iterator[Listens]:
    """All that was submitted and not deleted by the full export of a day, stretch by stretch, ordered."""
    first, end = world.config.first_full, _milliseconds(_end(day, full=True))
    importing = [first + timedelta(days=i) for i in range((day - first).days)]
    for begin, after in world.stretches(day):
        daily = begin >= world.config.start
        parts = [world.of_day(begin) if daily else world.of_history(begin, after)]
        parts += [world.of_import(one, begin, after) for one in importing if after <= one]
        found = together(parts)
        found = found.where((found.created <= end) & (found.deleted > end))
        yield found.where(np.argsort(found.at, kind="stable"))


def _submitted(world: ListenWorld, begin: datetime, end: datetime) -> Listens:
    """All that was submitted after ``begin`` and by ``end``, in that order."""
    last = end.date()
    parts = [
        world.of_day(last - timedelta(days=back))
        for back in range(5)
        if last - timedelta(days=back) >= world.config.start
    ]
    for one in (begin.date(), last):
        if world.config.first_full <= one < last:
            parts += [world.of_import(one, *stretch) for stretch in world.stretches(one)]
    found = together(parts)
    after, until = _milliseconds(begin), _milliseconds(end)
    found = found.where((found.created > after) & (found.created <= until) & (found.deleted > until))
    return found.where(np.argsort(found.created, kind="stable"))


def _in_files(stretches: Iterator[Listens], rows: int) -> Iterator[Listens]:
    """Ordered listens in portions of ``rows``; a year begins a new one."""
    waiting: list[Listens] = []
    year = 0
    for found in stretches:
        if not len(found.at):
            continue
        this_year = datetime.fromtimestamp(int(found.at[0]), UTC).year
        if this_year != year and waiting:
            yield together(waiting)
            waiting = []
        year = this_year
        waiting.append(found)
        while sum(len(part.at) for part in waiting) >= rows:
            held = together(waiting)
            yield held.where(np.arange(rows))
            waiting = [held.where(np.arange(rows, len(held.at)))]
    if waiting and sum(len(part.at) for part in waiting):
        yield together(waiting)


def _publish_listens(
    world: ListenWorld, parent: Path, stamp: str, begin: datetime, end: datetime, files: Iterator[Listens]
) -> Path:
    name = f"listenbrainz-spark-dump-{stamp}"
    folder = parent / f"listenbrainz-dump-{stamp}"
    with _new_folder(folder) as made:
        with (made / f"{name}.tar").open("wb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, f"{name}/SCHEMA_SEQUENCE", b"1", end)
                _add(tar, f"{name}/START_TIMESTAMP", begin.isoformat(" ").encode(), end)
                _add(tar, f"{name}/END_TIMESTAMP", end.isoformat(" ").encode(), end)
                _add(tar, f"{name}/COPYING", _LICENCE.encode(), end)
                for number, listens in enumerate(files):
                    _add(tar, f"{name}/{number}.parquet", _parquet(world, listens, number), end)
        digest = hashed.sha256.hexdigest()
        (made / f"{name}.tar.sha256").write_text(f"{digest}  {name}.tar\n", encoding="utf-8")
    return folder


def _parquet(world: ListenWorld, listens: Listens, number: int) -> memoryview:
    """A file of a dump. Times are written in three ways, one after the other: as INT96, in milliseconds, and
    in nanoseconds; the first and the last have no statistics."""
    shown = world.songs.shown.take(listens.writing)
    times = pa.timestamp("ns") if number % 3 == 2 else pa.timestamp("ms")

    required = {"listened_at", "created", "user_id", "recording_msid", "artist_name", "recording_name"}
    types: dict[str, pa.DataType] = {"listened_at": times, "created": times, "user_id": pa.int64()}
    types |= {field.name: field.type for field in shown.schema}
    schema = pa.schema([pa.field(name, kind, nullable=name not in required) for name, kind in types.items()])
    columns: list[pa.Array[Any] | pa.ChunkedArray[Any]] = [
        pa.array(listens.at * 1000, pa.timestamp("ms")).cast(times),
        pa.array(listens.created, pa.timestamp("ms")).cast(times),
        pa.array(world.user_ids[listens.user]),
        *shown.columns,
    ]
    untimed = [name for name in types if name not in {"listened_at", "created"}]
    buffer = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
        buffer,
        compression="zstd",
        row_group_size=world.config.row_group_rows,
        flavor="spark" if number % 3 == 0 else None,
        write_statistics=untimed if number % 3 == 2 else True,
    )
    return memoryview(buffer.getvalue())


class _Hashed(io.RawIOBase):
    """A file to write that computes its SHA-256 on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:  # type: ignore[override]  # no other buffer is given
        self.sha256.update(content)
        return self._file.write(content)


def _member(name: str, size: int, at: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    # A fraction of a second takes a pax header, as in the archives of MetaBrainz.
    member.mtime = at.timestamp() + 0.25
    member.uname = member.gname = "root"
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes | memoryview, at: datetime) -> None:
    tar.addfile(_member(name, len(content), at), io.BytesIO(content))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is renamed to ``folder`` at the end."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
