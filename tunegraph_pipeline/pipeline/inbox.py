"""The inbox: a folder beside the lake, of which every file that is dropped into it is imported once.

Here: which files are complete and new, importing them, and remembering it. Not here: how a file is read
(`sources.files`), or who looks into the folder (`automation`).

Files are never moved, changed or deleted: whoever copies one may still have it open. What was imported stands
in `<lake>/inbox.json`, by the hash of its content, so that the same content under another name is not
imported again, and a file that changes is. Before a file is imported its day is written there, and after it
that it is done: wherever a run is killed, the next one imports the file again on that very day, where the
lake knows it by its content. Names of files stay in the lake; Dagster's history has keyed hashes of them.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch, write_batch
from tunegraph_pipeline.lake.storage import write_text
from tunegraph_pipeline.sources.files import files_together, read_files
from tunegraph_pipeline.sources.formats import readable_name

_UNFINISHED = (".part", ".tmp", ".crdownload")
_CHUNK = 1 << 20
INBOX_MEMORY = "inbox.json"
_FILE = "{file}"  # stands for the name of a file in what is remembered


class InboxSettings(BaseModel):
    """The section ``inbox`` of the lake's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = "../inbox"
    """Where files are dropped, from the lake's folder on unless it is absolute."""
    settle_seconds: float = Field(default=10.0, ge=0)
    """How long a file has to stay as it is until it counts as complete."""


class Remembered(BaseModel):
    """What became of one file, in `inbox.json`."""

    model_config = ConfigDict(extra="forbid")

    size: int
    mtime_ns: int
    sha256: str = ""
    day: date | None = None
    """The day on which its content was, or is being, received."""
    when: datetime
    batches: list[str] | None = None
    """The raw batches made of it; null until they are written."""
    error: str | None = None
    """Why it cannot be imported as it is."""


class _Memory(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: dict[str, Remembered] = {}
    """By :func:`_named`."""


@dataclass(frozen=True)
class Look:
    """What one look into the inbox found; ``complete`` are the keys of files to import."""

    complete: list[str]
    growing: int
    cursor: str
    run_key: str

    def sentence(self) -> str:
        if self.growing:
            return f"{self.growing} files are not known to be complete yet"
        return "no new file"


@dataclass
class Imported:
    """How an import of the inbox went, in numbers of files."""

    imported: int = 0
    known: int = 0
    failed: int = 0
    batches: list[BatchInfo] = field(default_factory=list)

    def sentence(self) -> str:
        return (
            f"imported {self.imported} files of the inbox; {self.known} have content that is known,"
            f" {self.failed} cannot be imported"
        )


def receive(lake: Lake, day: date, batches: Iterable[RawBatch], *, mix: bool = False) -> list[BatchInfo]:
    """Keep what was read from files as received on ``day``: what an import is, from wherever it comes.

    Raises InputError where the lake has simulated likes, unless they may be mixed. Needs the lake's lock.
    """
    lake.admit_source("files", mix=mix)
    return [write_batch(lake.raw, day, batch) for batch in batches]


def look(lake: Lake, settings: InboxSettings, cursor: str | None, *, now: float | None = None) -> Look:
    """What is new in the inbox, and which of it is complete by now. Reads sizes and times alone.

    ``cursor`` is that of the look before; ``now`` are seconds since 1970. Raises InputError where there is no
    such folder.
    """
    now = time.time() if now is None else now
    before: dict[str, float] = json.loads(cursor) if cursor else {}
    seen = {}
    for key in _new_files(lake, settings):
        # A clock that was set back must not keep a file waiting for as long.
        seen[key] = min(before.get(key, now), now)
    complete = sorted(key for key, since in seen.items() if now - since >= settings.settle_seconds)
    today = datetime.fromtimestamp(now, UTC).date()
    # A run that failed, for want of space say, is tried again on another day; it may be run by hand before.
    run_key = hashlib.blake2b(f"{today} {complete}".encode(), digest_size=10).hexdigest()
    return Look(complete, len(seen) - len(complete), json.dumps(seen), run_key)


def wait_for_complete(lake: Lake, settings: InboxSettings) -> set[str]:
    """The keys of the new files that do not change while they are watched, until they have settled."""
    before = set(_new_files(lake, settings))
    if before:
        time.sleep(settings.settle_seconds)
    return before & set(_new_files(lake, settings))


def import_complete(
    lake: Lake, settings: InboxSettings, complete: Collection[str], *, today: date | None = None
) -> Imported:
    """Import those new files of which ``complete`` has the keys, each content once.

    A file that cannot be read is remembered with the reason, and the rest goes on. Needs the lake's lock.
    Raises LakeError where the disk says no; what was imported before is remembered.
    """
    today = today or datetime.now(UTC).date()
    present, new = _files(lake, settings), _new_files(lake, settings)
    chosen = {new[key] for key in set(complete) & set(new)}
    growing = set(new.values()) - chosen
    done = Imported()
    memory = _remembered(lake)
    # What is known already may be needed beside what is new: the second part of an export, or of a table.
    for group in files_together([path for path in present if path not in growing]):
        if chosen & set(group) and not _import_group(lake, memory, group, today, done, alone=len(group) == 1):
            for path in group:
                if path in chosen:
                    _import_group(lake, memory, [path], today, done, alone=True)
    return done


def inbox_status(lake: Lake) -> str:
    """One line about what came in so far; empty where nothing did."""
    files = _remembered(lake).files
    folder = lake.root / lake.section("inbox", InboxSettings).folder
    try:
        names = {_named(lake, path.name): readable_name(path) for path in folder.iterdir()}
    except OSError:
        names = {}  # there is no folder, or it may not be read
    failed = [
        f"{names.get(key, 'a file that is gone')}: {one.error.replace(_FILE, names.get(key, 'it'))}"
        for key, one in files.items()
        if one.error
    ]
    imported = sum(one.batches is not None for one in files.values())
    told = [f"{imported:,} files imported"] if files else []
    return "; ".join([*told, *failed])


def _import_group(
    lake: Lake, memory: _Memory, group: Sequence[Path], today: date, done: Imported, *, alone: bool
) -> bool:
    """Import files that belong together, and remember each of them.

    False where they cannot be imported together, which may be the fault of one; nothing is remembered then.
    """
    before = {path: _state(path) for path in group}
    now = datetime.now(UTC).replace(microsecond=0)
    hashes: dict[Path, str] = {}
    batches: list[RawBatch] = []
    problem = None
    try:
        hashes = {path: _sha256(path) for path in group}
    except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
    entries = {
        _named(lake, path.name): Remembered(
            size=state[0], mtime_ns=state[1], sha256=hashes.get(path, ""), when=now
        )
        for path, state in before.items()
        if state is not None
    }
    finished = {one.sha256: one for one in memory.files.values() if one.batches is not None}
    begun = {one.sha256: one.day for one in memory.files.values() if one.day and one.batches is None}
    if hashes and all(sha in finished for sha in hashes.values()):
        for key, entry in entries.items():
            same = finished[entry.sha256]
            entries[key] = entry.model_copy(update={"day": same.day, "batches": same.batches})
        _remember(lake, memory, entries)
        done.known += len(entries)
        return True
    if problem is None:
        try:
            batches = read_files(group)
        except InputError as error:
            problem = str(error)
            for path in group:
                problem = problem.replace(str(path), _FILE).replace(path.name, _FILE)
    if before != {path: _state(path) for path in group}:
        return True  # it was not complete after all, and is looked at again
    if problem is not None:
        if alone:
            _remember_all(lake, memory, entries, error=problem)
            done.failed += len(entries)
        return alone
    day = next((begun[sha] for sha in hashes.values() if begun.get(sha)), None) or today
    _remember_all(lake, memory, entries, day=day)
    received = receive(lake, day, batches)
    _remember_all(lake, memory, entries, day=day, batches=[info.folder.name for info in received])
    done.imported += len(entries)
    done.batches += received
    return True


def _files(lake: Lake, settings: InboxSettings) -> dict[Path, tuple[int, int]]:
    """The files of the inbox by path, with size and time of the last change. Raises InputError."""
    folder = lake.root / settings.folder
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        raise InputError(
            f"there is no inbox at {folder.resolve()}; make the folder to drop files into"
        ) from None
    except OSError as error:
        raise InputError(f"the inbox {folder.resolve()} cannot be read: {error.strerror}") from error
    named = [
        path for path in paths if not path.name.startswith(".") and path.suffix.lower() not in _UNFINISHED
    ]
    return {path: state for path in named if (state := _state(path)) is not None}


def _new_files(lake: Lake, settings: InboxSettings) -> dict[str, Path]:
    """The files of the inbox that nothing is known of as they are now, by key: a keyed hash of name, size and
    time of the last change. One that could not be opened is among them: to permit it changes neither."""
    memory = _remembered(lake)
    new = {}
    for path, state in _files(lake, settings).items():
        known = memory.files.get(_named(lake, path.name))
        over = known is not None and (known.batches is not None or (known.error is not None and known.sha256))
        if known is None or not over or (known.size, known.mtime_ns) != state:
            new[_key(lake, path.name, state)] = path
    return new


def _key(lake: Lake, name: str, state: tuple[int, int]) -> str:
    return _named(lake, f"{name}\0{state}")


def _named(lake: Lake, name: str) -> str:
    """A keyed hash to know a file by: its name may be that of a person, and is kept nowhere."""
    secret = lake.file.split_key.encode()[:64]
    return hashlib.blake2b(name.encode(errors="surrogateescape"), key=secret, digest_size=10).hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None where it is no file (any more)."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns) if path.is_file() else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _remembered(lake: Lake) -> _Memory:
    path = lake.root / INBOX_MEMORY
    try:
        return _Memory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Memory()
    except OSError as error:
        raise LakeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except ValidationError:
        raise LakeError(
            f"{path} is damaged; restore it, or remove it to have the whole inbox imported again"
        ) from None


def _remember_all(lake: Lake, memory: _Memory, entries: Mapping[str, Remembered], **facts: Any) -> None:
    _remember(lake, memory, {key: entry.model_copy(update=facts) for key, entry in entries.items()})


def _remember(lake: Lake, memory: _Memory, entries: Mapping[str, Remembered]) -> None:
    memory.files.update(entries)
    write_text(lake.root / INBOX_MEMORY, memory.model_dump_json(indent=1) + "\n", lake.staging)
