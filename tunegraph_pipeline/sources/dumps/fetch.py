"""One dump, from the mirror to the files of a raw batch.

Here: the order of the steps, the disk that they take, what is checked, and what is done where a file does not
fit. Not here: each step (the other modules of this folder), or which dump is next (`pipeline.dump_days`).

Of a full export only the members of the window are fetched, one ahead of the one that is counted, and each is
removed once it was. So its published checksum cannot be compared; each member has to be readable as a whole.
An incremental dump is fetched whole and compared. What was done is done: a run that was killed goes on from
there.
"""

import hashlib
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import disk_errors
from tunegraph_pipeline.progress import report_progress
from tunegraph_pipeline.sources.dumps.archive import Archive, begun
from tunegraph_pipeline.sources.dumps.listens import (
    Listens,
    Parts,
    Span,
    UnreadableListensError,
    month_before,
)
from tunegraph_pipeline.sources.dumps.mirror import Mirror, MissingFileError, ReplacedFileError
from tunegraph_pipeline.sources.dumps.published import Dump, checksum
from tunegraph_pipeline.sources.dumps.settings import DumpSettings
from tunegraph_pipeline.sources.dumps.tar_walk import Member
from tunegraph_pipeline.sources.dumps.window import members_since
from tunegraph_pipeline.words import counted

_SCHEMA = "1"
_TRIES = 3
"""How often a dump is begun that is replaced while it is read, or whose checksum differs."""
_MB = 1_000_000
_SMALL = 100  # bytes: more than a number or a time takes
_KEPT_SHARE = 0.6
"""The most disk that plays, tracks and what is spilled while they are added up take, as a share of the
parquet files that they are made of."""


@dataclass
class DumpReport:
    """The progress or result of fetching dumps. Holds no user."""

    dumps: list[str] = field(default_factory=list)
    """What was fetched, such as "full export 2593"."""
    traffic: Counter[str] = field(default_factory=Counter)
    """Bytes, requests and retries."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows of the parts of the raw batches."""
    counts: Counter[str] = field(default_factory=Counter)
    """Listens, and those that were left out or noticed."""
    notes: list[str] = field(default_factory=list)
    """For people."""


@dataclass(frozen=True)
class FetchedDump:
    """The finished files of a dump by the name of their part, what was counted, and the id of their batch.
    ``since``: from when on an incremental dump has what was submitted (UTC)."""

    files: dict[str, Path]
    counts: Counter[str]
    batch_id: str
    since: datetime | None = None


def fetch_dump(
    mirror: Mirror,
    dump: Dump,
    folder: Path,
    settings: DumpSettings,
    *,
    received_until: datetime | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> FetchedDump:
    """Fetch a dump into ``folder``, which keeps what was done, and count its listens.

    Listens of an incremental dump that were inserted before ``received_until`` are left out: an earlier dump
    had them. ``tell`` hears sentences for people, the need of disk before the first large file.

    Raises InputError where the dump is damaged or the disk too small, and what `Mirror` raises.
    """
    for _ in range(_TRIES):
        try:
            archive = Archive(mirror, f"{dump.folder}{dump.archive}", folder)
            work = _FullExport if dump.is_full else _Incremental
            return work(mirror, dump, archive, settings, received_until, tell).run()
        except ReplacedFileError:
            tell(f"{dump.archive} was replaced while it was read; it is begun anew")
        except _WrongChecksumError as error:
            tell(f"{error}; it is fetched again")
            shutil.rmtree(folder)
        except UnreadableListensError as error:
            raise InputError(
                f"{dump.title} is damaged on the mirror ({error}); run it again later, or use another"
                " --mirror"
            ) from None
        except MissingFileError as error:
            raise InputError(
                f"{mirror.url}/{error} is not there, or no longer; run it again to take the dumps that are"
            ) from None
    raise InputError(
        f"{dump.archive} did not fit its checksum, or was replaced, {_TRIES} times in a row; nothing of it"
        " was kept; run it again later, or use another --mirror"
    )


def begins_at(mirror: Mirror, dump: Dump, folder: Path) -> datetime:
    """From when on a dump has listens (UTC), by inserting; reads its first headers alone, which stay in
    ``folder`` as in :func:`fetch_dump`. Raises InputError where it does not say, and what `Mirror` raises."""
    path = f"{dump.folder}{dump.archive}"
    for _ in range(_TRIES):
        try:
            archive = Archive(mirror, path, folder)
            member = archive.member_after(None, archive.read)
            while member is not None:
                if _last(member) == "START_TIMESTAMP" and member.size < _SMALL:
                    return _as_moment(archive.read(member.offset, member.size), path)
                member = archive.member_after(member, archive.read)
        except ReplacedFileError:
            continue
        except MissingFileError:
            break
        raise InputError(f"{mirror.url}/{path} has no START_TIMESTAMP; it is no dump of listens")
    raise InputError(f"{mirror.url}/{path} was replaced or removed while it was read; run it again later")


class _WrongChecksumError(Exception):
    """The archive is not what its checksum says."""


class _StoppedError(Exception):
    """The fetching ends, because the counting did."""


class _Work:
    """What fetching both kinds of dumps has in common."""

    def __init__(
        self,
        mirror: Mirror,
        dump: Dump,
        archive: Archive,
        settings: DumpSettings,
        received_until: datetime | None,
        tell: Callable[[str], None],
    ) -> None:
        self.mirror = mirror
        self.dump = dump
        self.archive = archive
        self.settings = settings
        self.received_until = received_until
        self.tell = tell
        self.checksum = checksum(mirror, dump)
        # What was counted for another window does not count.
        self.counted = archive.folder / f"counted-{self._batch_id()}"
        self.scratch = archive.folder / "scratch"
        self.most_disk = 0
        """How many bytes of disk the folder takes at most, as people were told."""
        self.since: datetime | None = None
        """From when on it has what was submitted."""

    def run(self) -> FetchedDump:
        raise NotImplementedError

    def _say_disk(self, coming: int, what: str) -> None:
        """Say how much disk will be taken: what is there, and the bytes ``coming``. Raises InputError where
        there is less."""
        self.most_disk = _bytes_below(self.archive.folder) + coming
        place = self.archive.folder.parent
        self.tell(f"{self.dump.title}: {what}; this takes up to {_size(self.most_disk)} of disk in {place}")
        self._hold_disk(0, coming)

    def _hold_disk(self, following: int, coming: int) -> None:
        """Before the next ``following`` bytes of ``coming`` ones are written: raise InputError where they
        are more than was said, or do not fit any more."""
        place = self.archive.folder.parent
        used, free = _bytes_below(self.archive.folder), shutil.disk_usage(self.archive.folder).free
        if used + following > self.most_disk:
            raise InputError(
                f"{self.dump.title} takes more disk than the {_size(self.most_disk)} that it said; what was"
                f" fetched is kept, {_size(used)} in {place}; run it again to let it take more"
            )
        if coming > free:
            raise InputError(
                f"{self.dump.title} needs {_size(coming)} of disk, and {place} has {_size(free)}; free some,"
                " or take fewer --months; what was fetched is kept"
            )

    def _coming(self, sizes: Sequence[int], at_once: int) -> int:
        """How many bytes may still be written where files of these sizes are to be counted, as many
        ``at_once`` on disk, and then merged. What was counted is merged into as much again at most."""
        kept = _KEPT_SHARE * sum(sizes) + _bytes_below(self.counted)
        return int(at_once * max(sizes, default=0) + kept) + _MB

    def _finish(self, names: Sequence[str]) -> FetchedDump:
        self._hold_disk(_bytes_below(self.counted), self._coming([], 0))
        parts = [Parts.of(self.counted, f"{name}-") for name in names]
        result = Parts.of(self.archive.folder / "batch")
        result.plays.parent.mkdir(exist_ok=True)
        try:
            with Listens(self.settings.memory_gb, self.scratch) as listens:
                listens.merge(parts, result)
        except UnreadableListensError as error:
            shutil.rmtree(self.counted)
            raise InputError(
                f"{error}; what was counted of {self.dump.title} was removed; run it again"
            ) from None
        counts: Counter[str] = Counter()
        for name in names:
            counts.update(_read_counts(self.counted / f"{name}-counts"))
        files = {"plays": result.plays, "tracks": result.tracks}
        return FetchedDump(files, counts, self._batch_id(), self.since)

    def _batch_id(self) -> str:
        """By the published checksum, and by what else decides which listens count."""
        one = self.archive.identity
        content = self.checksum or f"{one.size} {one.etag} {one.modified}"
        window = self.settings.months if self.dump.is_full else self.received_until
        what = (self.dump.name, content, window)
        return hashlib.blake2b(repr(what).encode(), digest_size=10).hexdigest()

    def _is_counted(self, name: str) -> bool:
        return (self.counted / f"{name}-counts").exists()

    def _count(self, listens: Listens, name: str, file: Path, span: Span) -> None:
        """Count one file of listens, and remove it. Its counts are written last: what has them is done."""
        self.counted.mkdir(exist_ok=True)
        counts = listens.count(file, span, Parts.of(self.counted, f"{name}-"))
        _write_counts(self.counted / f"{name}-counts", counts)
        file.unlink()


class _FullExport(_Work):
    def run(self) -> FetchedDump:
        size = self.archive.identity.size

        def walked(member: Member) -> None:
            report_progress(f"{self.dump.title}: index, MB", member.end // _MB, size // _MB)

        members = self.archive.members(walked)
        until = self._said(members)
        since = month_before(until, self.settings.months)
        listed = [member for member in members if member.name.endswith(".parquet")]
        if not listed:
            raise InputError(f"{self.archive.url} has no parquet files; it is no dump of listens")
        window = members_since(self.archive, listed, since)
        names = [_name_of(member) for member in window]
        total = sum(member.size for member in window)
        left = [member for member in window if not self._is_counted(_name_of(member))]
        of = f"{len(window):,} of {counted(len(listed), 'file')}, {_size(total)}"
        self._say_disk(self._to_come(left), f"{of}, hold the listens since {since:%Y-%m-%d}")
        self.tell(
            f"{self.dump.title}: only a part of it is fetched, so its checksum cannot be compared; each file"
            " is read whole"
        )
        self._fetch_and_count(left, Span(until, since), total)
        return self._finish(names)

    def _to_come(self, left: Sequence[Member]) -> int:
        """How many bytes may still be written where the members ``left`` are not counted yet."""
        # One that is counted, one that is fetched, and what is spilled.
        there = _bytes_below(self.archive.folder / "files")
        return max(0, self._coming([member.size for member in left], 3) - there)

    def _said(self, members: list[Member]) -> datetime:
        """When the export ends (UTC), of one whose schema is known. Raises InputError."""
        said = {
            _last(member): self.archive.read(member.offset, member.size)
            for member in members
            if _last(member) in {"SCHEMA_SEQUENCE", "END_TIMESTAMP"} and 0 < member.size < _SMALL
        }
        _check_schema(said.get("SCHEMA_SEQUENCE", b""), self.archive.url)
        return _as_moment(said.get("END_TIMESTAMP", b""), self.archive.url)

    def _fetch_and_count(self, members: list[Member], span: Span, total: int) -> None:
        done = total - sum(member.size for member in members)

        stopped = threading.Event()

        def on_bytes(n: int) -> None:
            nonlocal done
            if stopped.is_set():
                raise _StoppedError
            done += n
            report_progress(f"{self.dump.title}: MB of listens", done // _MB, total // _MB)

        def fetch(member: Member) -> Path:
            target = self.archive.folder / "files" / f"{_name_of(member)}.parquet"
            self.archive.download(member.offset, member.end, target, on_bytes)
            return target

        with (
            ThreadPoolExecutor(1, "dumps") as fetcher,
            Listens(self.settings.memory_gb, self.scratch) as listens,
        ):

            def begin(member: Member) -> Future[Path]:
                # Progress is reported to whoever watches this thread.
                return fetcher.submit(copy_context().run, fetch, member)

            try:
                coming = [begin(member) for member in members[:1]]
                for at, member in enumerate(members):
                    file = coming.pop().result()
                    for following in members[at + 1 : at + 2]:
                        self._hold_disk(following.size, self._to_come(members[at:]))
                        coming.append(begin(following))
                    self._count_or_fetch_again(listens, member, file, span, begin)
            except BaseException:
                stopped.set()
                raise

    def _count_or_fetch_again(
        self,
        listens: Listens,
        member: Member,
        file: Path,
        span: Span,
        begin: Callable[[Member], Future[Path]],
    ) -> None:
        try:
            self._count(listens, _name_of(member), file, span)
        except UnreadableListensError as error:
            file.unlink()
            self.tell(f"{error}; it is fetched again")
            self._count(listens, _name_of(member), begin(member).result(), span)


class _Incremental(_Work):
    def run(self) -> FetchedDump:
        whole = self.archive.folder / self.dump.archive
        size = self.archive.identity.size
        # The archive, one file of it, and what becomes of all.
        there = sum(_bytes_of(path) for path in (whole, begun(whole)))
        self._say_disk(self._coming([size], 2) - there, f"{_size(size)} to fetch")
        done = 0

        def on_bytes(n: int) -> None:
            nonlocal done
            done += n
            report_progress(f"{self.dump.title}: MB", done // _MB, size // _MB)

        self.archive.download(0, size, whole, on_bytes)
        self._check_sum(whole)
        with disk_errors(whole), whole.open("rb") as tar:
            return self._finish(self._count_members(tar, size))

    def _check_sum(self, whole: Path) -> None:
        if self.checksum is None:
            self.tell(f"{self.dump.title}: no checksum is published beside it, so none was compared")
            return
        with whole.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.checksum:
            self.checksum = checksum(self.mirror, self.dump)  # it may be what arrived wrong
        if found != self.checksum:
            raise _WrongChecksumError(f"{self.dump.archive} does not have its published checksum")

    def _count_members(self, tar: BinaryIO, size: int) -> list[str]:
        """Count every parquet file of the archive, one on disk at a time; returns their names."""

        def read(offset: int, length: int) -> bytes:
            tar.seek(offset)
            return tar.read(length)

        members: list[Member] = []
        while (member := self.archive.member_after(members[-1] if members else None, read)) is not None:
            members.append(member)
        small = [member for member in members if member.size < _SMALL]
        span = self._span({_last(member): read(member.offset, member.size) for member in small})
        listed = [member for member in members if member.name.endswith(".parquet")]
        if not listed:
            raise InputError(f"{self.archive.url} has no parquet files; it is no dump of listens")
        with Listens(self.settings.memory_gb, self.scratch) as listens:
            left = [member for member in listed if not self._is_counted(_name_of(member))]
            for done, member in enumerate(left):
                self._hold_disk(member.size, self._coming([one.size for one in left[done:]], 1))
                file = self.archive.folder / f"{_name_of(member)}.parquet"
                with file.open("wb") as target:
                    for at in range(member.offset, member.end, _MB):
                        target.write(read(at, min(_MB, member.end - at)))
                self._count(listens, _name_of(member), file, span)
        return [_name_of(member) for member in listed]

    def _span(self, said: dict[str, bytes]) -> Span:
        _check_schema(said.get("SCHEMA_SEQUENCE", b""), self.archive.url)
        begins = self.since = _as_moment(said.get("START_TIMESTAMP", b""), self.archive.url)
        ends = _as_moment(said.get("END_TIMESTAMP", b""), self.archive.url)
        known = self.received_until
        return Span(
            until=ends,
            created_since=known if known and known > begins else None,
            late_before=begins.replace(hour=0, minute=0, second=0, microsecond=0),
        )


def _last(member: Member) -> str:
    """The name of a member, without folders."""
    return member.name.rpartition("/")[2]


def _name_of(member: Member) -> str:
    """The name of a parquet file, for files made of it."""
    return re.sub(r"\W", "_", _last(member).removesuffix(".parquet"))


def _as_moment(text: bytes, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.decode().strip())
    except ValueError:
        raise InputError(
            f"{where} does not say in START_TIMESTAMP and END_TIMESTAMP when it begins and ends; it is no"
            " dump that can be read"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check_schema(text: bytes, where: str) -> None:
    schema = text.decode(errors="replace").strip()
    if schema != _SCHEMA:
        raise InputError(
            f"{where} has SCHEMA_SEQUENCE {schema or 'missing'}, and this TuneGraph reads {_SCHEMA}; install"
            " a newer one"
        )


def _bytes_below(folder: Path) -> int:
    """How many bytes the files of a folder have, while others may write and rename there."""
    return sum(map(_bytes_of, folder.rglob("*")))


def _bytes_of(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0


def _size(n: int) -> str:
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{max(n, 0) / 1e6:,.1f} MB"


def _write_counts(path: Path, counts: Counter[str]) -> None:
    draft = path.with_name(f"{path.name}.part")
    draft.write_text("".join(f"{n} {what}\n" for what, n in sorted(counts.items())))
    draft.replace(path)


def _read_counts(path: Path) -> Counter[str]:
    lines = (line.split(" ", 1) for line in path.read_text().splitlines())
    return Counter({what: int(n) for n, what in lines})
