"""The inbox: a folder beside the lake; every file that is dropped into it is imported once.

Here: which files are complete and new, importing them, and what is remembered of them. Not here: how a file
is read (`sources.files`), or the sensor (`orchestration.automation`).

Files are never moved, changed or deleted: the process that copies one may still have it open. `inbox.json` in
the lake records what was imported by the hash of its content, so the same content under another name is not
imported again, and a changed file is. It gets the day of a file before the import, and that it is done after:
after a kill the next run imports the file again on that same day, where the lake knows its content. Names of
files stay in the lake; Dagster's history has keyed hashes of them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError, check_shortage
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.lake.storage import write_text
from tunegraph_pipeline.pipeline.settings import InboxSettings
from tunegraph_pipeline.pipeline.track_ids import songs_of
from tunegraph_pipeline.sources.content import readable_name
from tunegraph_pipeline.sources.file_groups import files_together
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.sources.limits import ImportLimits, limited_by, open_regular
from tunegraph_pipeline.words import counted

_UNFINISHED = (".part", ".tmp", ".crdownload")
_FILE = "{file}"  # stands for the name of a file in the memory


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
            f"imported {self.imported} files of the inbox; {self.known} have known content,"
            f" {self.failed} cannot be imported"
        )


def look(lake: Lake, settings: InboxSettings, cursor: str | None, *, now: float | None = None) -> Look:
    """The new files of the inbox, and which of them are complete. Reads only sizes and times. ``cursor`` is
    that of the last look; ``now`` are seconds since 1970. Raises InputError where there is no such folder."""
    now = time.time() if now is None else now
    before: dict[str, float] = json.loads(cursor) if cursor else {}
    seen = {}
    for key in _new_files(lake, settings):
        # A clock that was set back must not delay a file.
        seen[key] = min(before.get(key, now), now)
    complete = sorted(key for key, since in seen.items() if now - since >= settings.settle_seconds)
    today = datetime.fromtimestamp(now, UTC).date()
    # A failed run, such as for lack of space, is tried again on another day, or by hand before.
    run_key = hashlib.blake2b(f"{today} {complete}".encode(), digest_size=10).hexdigest()
    return Look(complete, len(seen) - len(complete), json.dumps(seen), run_key)


def wait_for_complete(lake: Lake, settings: InboxSettings) -> set[str]:
    """The keys of the new files that do not change for as long as files need to settle."""
    before = set(_new_files(lake, settings))
    if before:
        time.sleep(settings.settle_seconds)
    return before & set(_new_files(lake, settings))


def import_complete(
    lake: Lake, settings: InboxSettings, complete: Collection[str], *, today: date | None = None
) -> Imported:
    """Import the new files with the keys ``complete``, each content once. A file that cannot be read is
    remembered with the reason, and the rest is imported. Needs the lake's lock. Raises LakeError where the
    disk cannot be written; earlier imports are remembered."""
    today = today or datetime.now(UTC).date()
    present, new = _files(lake, settings), _new_files(lake, settings)
    chosen = {new[key] for key in set(complete) & set(new)}
    growing = set(new.values()) - chosen
    done = Imported()
    memory = InboxMemory(lake)
    # Known files may be needed beside new ones: the second part of an export, or of a table.
    for group in files_together([path for path in present if path not in growing]):
        if not chosen & set(group):
            continue
        if _import_group(lake, memory, group, today, done) is _Outcome.UNREADABLE:
            for path in group:
                if path in chosen:
                    _import_group(lake, memory, [path], today, done)
    return done


def inbox_status(lake: Lake) -> str:
    """One line about the imports so far, and about what in the inbox is no file; else empty."""
    files = InboxMemory(lake).files
    folder = lake.resolve(lake.section("inbox", InboxSettings).folder)
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        entries = []  # no folder, or it cannot be read
    names = {hashed_name(lake, path.name): readable_name(path) for path in entries}
    failed = [
        f"{names.get(key, 'a file that is gone')}: {one.error.replace(_FILE, names.get(key, 'it'))}"
        for key, one in files.items()
        if one.error
    ]
    imported = sum(one.batches is not None for one in files.values())
    ignored = [
        f"{readable_name(path)} is neither a file nor a folder, and ignored"
        for path in entries
        if not path.name.startswith(".") and not path.is_file() and not path.is_dir()
    ]
    return "; ".join([*([f"{counted(imported, 'file')} imported"] if files else []), *failed, *ignored])


class _Outcome(Enum):
    """What became of a group of files that an import tried to read together."""

    SETTLED = auto()
    """Imported, known already, or remembered with the reason why not."""
    CHANGED = auto()
    """A file changed meanwhile: it was not complete, and waits for the next look."""
    UNREADABLE = auto()
    """They cannot be imported together, perhaps because of one of them. Nothing is remembered."""


def _import_group(
    lake: Lake, memory: InboxMemory, group: Sequence[Path], today: date, done: Imported
) -> _Outcome:
    """Import files that belong together, and remember each of them. A group of several files that cannot be
    read is to be imported file by file."""
    before = {path: _state(path) for path in group}
    hashes, problem = _hashes(group)
    entries = _entries(lake, before, hashes)
    finished = memory.finished()
    if hashes and all(sha in finished for sha in hashes.values()):
        known = {}
        for key, entry in entries.items():
            same = finished[entry.sha256]
            known[key] = entry.model_copy(update={"day": same.day, "batches": same.batches})
        memory.remember(known)
        done.known += len(known)
        return _Outcome.SETTLED
    batches: list[RawBatch] = []
    if problem is None:
        batches, problem = _read(lake, group)
    if before != {path: _state(path) for path in group}:
        return _Outcome.CHANGED
    if problem is not None:
        if len(group) > 1:
            return _Outcome.UNREADABLE
        memory.remember(entries, error=problem)
        done.failed += len(entries)
        return _Outcome.SETTLED
    day = memory.unfinished_day(list(hashes.values())) or today
    memory.remember(entries, day=day)
    try:
        received = lake.receive_files(day, batches)
    except (TuneGraphError, OSError):
        raise  # of the lake or the disk
    except Exception as error:  # noqa: BLE001  # whatever the rows make of it
        memory.remember(entries, error=_cannot_be_kept(error))
        done.failed += len(entries)
        return _Outcome.SETTLED
    memory.remember(entries, day=day, batches=[info.folder.name for info in received])
    done.imported += len(entries)
    done.batches += received
    return _Outcome.SETTLED


def _hashes(group: Sequence[Path]) -> tuple[dict[Path, str], str | None]:
    """The hash of each file's content; or none, and why one cannot be read."""
    try:
        return {path: _sha256(path) for path in group}, None
    except OSError as error:
        return {}, f"it cannot be read ({error.strerror})"
    except InputError:
        return {}, "it became a pipe or device while it was looked at"


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cannot_be_kept(error: Exception) -> str:
    return f"what {_FILE} holds cannot be kept ({type(error).__name__}); save it in another format"


def _read(lake: Lake, group: Sequence[Path]) -> tuple[list[RawBatch], str | None]:
    """The content of the files; or nothing, and why they cannot be read, without their names."""
    try:
        with limited_by(lake.section("imports", ImportLimits)):
            return read_files(group, keep_plays=True, known_songs=partial(songs_of, lake)), None
    except InputError as error:
        problem = str(error)
        for path in group:
            problem = problem.replace(str(path), _FILE).replace(path.name, _FILE)
        return [], problem


def _entries(
    lake: Lake, states: Mapping[Path, tuple[int, int] | None], hashes: Mapping[Path, str]
) -> dict[str, Remembered]:
    """What to remember of the existing files, before they are imported."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        hashed_name(lake, path.name): Remembered(
            size=state[0], mtime_ns=state[1], sha256=hashes.get(path, ""), when=now
        )
        for path, state in states.items()
        if state is not None
    }


def _files(lake: Lake, settings: InboxSettings) -> dict[Path, tuple[int, int]]:
    """The files of the inbox by path, with size and time of the last change. Raises InputError."""
    folder = lake.resolve(settings.folder)
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
    """The files of the inbox that are unknown in their present state, by key: a keyed hash of name, size and
    time of the last change. They include those that could not be opened, since permission changes neither."""
    memory = InboxMemory(lake)
    return {
        hashed_name(lake, f"{path.name}\0{state}"): path
        for path, state in _files(lake, settings).items()
        if not memory.is_done_with(hashed_name(lake, path.name), state)
    }


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None where it is not, or no longer, a file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns) if path.is_file() else None


# --- what is remembered of the files ---


class Remembered(BaseModel):
    """What became of one file."""

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


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: dict[str, Remembered] = {}
    """By :func:`hashed_name`."""


class InboxMemory:
    """The files of the inbox that a lake knows, by :func:`hashed_name`."""

    def __init__(self, lake: Lake) -> None:
        """Read it; empty before the first import. Raises LakeError where it cannot be read."""
        self._lake = lake
        path = lake.inbox_memory
        try:
            self.files = _Content.model_validate(read_json(path.read_bytes())).files
        except FileNotFoundError:
            self.files = {}
        except OSError as error:
            check_shortage(error, f"cannot read {path}")
            raise LakeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        except ValueError:
            raise LakeError(
                f"{path} is damaged; restore it, or remove it to import the whole inbox again"
            ) from None

    def finished(self) -> dict[str, Remembered]:
        """The files that were imported, by the hash of their content."""
        return {one.sha256: one for one in self.files.values() if one.batches is not None}

    def unfinished_day(self, hashes: list[str]) -> date | None:
        """The day on which an import of one of these contents began and was not finished."""
        unfinished = {one.sha256: one.day for one in self.files.values() if one.day and one.batches is None}
        return next((unfinished[sha] for sha in hashes if sha in unfinished), None)

    def is_done_with(self, key: str, state: tuple[int, int]) -> bool:
        """Whether the file, of this size and time of the last change, was imported or found unreadable. False
        if it could not be opened, since permission changes neither size nor time."""
        known = self.files.get(key)
        if known is None or (known.size, known.mtime_ns) != state:
            return False
        return known.batches is not None or (known.error is not None and bool(known.sha256))

    def remember(self, entries: Mapping[str, Remembered], **facts: Any) -> None:
        """Set these files, with these ``facts`` of each, and write the memory."""
        self.files.update({key: entry.model_copy(update=facts) for key, entry in entries.items()})
        content = _Content(files=self.files).model_dump_json(indent=1)
        write_text(self._lake.inbox_memory, sealed_json(content), self._lake.staging)


def hashed_name(lake: Lake, name: str) -> str:
    """A keyed hash that stands for the name of a file, which may be that of a person and is not kept."""
    secret = lake.file.split_key.encode()[:64]
    return hashlib.blake2b(name.encode(errors="surrogateescape"), key=secret, digest_size=10).hexdigest()
