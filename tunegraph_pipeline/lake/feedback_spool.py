"""The feedback spool: where a running service leaves feedback until a refresh collects it.

Here: the form of a line, appending lines, and collecting them into raw batches. Not here: who may give
feedback and how much (`serve`), or how it changes the lists (`feedback`). Appending needs the standard
library alone, so that a service loads nothing for it.

    <lake>/feedback_spool/<day received, UTC>/<worker>.jsonl    one JSON object a line:
    {"at": "2026-11-24T12:00:00.000000Z", "user_id": "…", "track_id": "…", "action": "like",
     "shown": ["…"], "bundle_version": "…"}

The list that was shown is on the line of the first event of a request, and empty on those of the others.
Earlier versions wrote it on every line, and wrote every other character than ASCII as ``\\u…``.

Writing or moving a file needs its lock (flock). A writer who gets the lock of a file that was moved meanwhile
opens a new one, so no line is written into a file that was already read.

A refresh moves the files of a day into a folder `.taken-…`, to which nothing is ever added; makes raw
batches of it, of a bounded size and named by a hash of their content; renames the folder to `.done-…`; and
removes it. Wherever it is killed, the next refresh finds either a folder to read, which gives the same
batches again, or one to remove: nothing is lost or duplicated.
"""

import fcntl
import json
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tunegraph_pipeline.errors import InputError, LakeError, SpoolFullError
from tunegraph_pipeline.ids import composed, forms_of
from tunegraph_pipeline.lake.snapshots import outbox_of
from tunegraph_pipeline.lake.storage import SPOOL, disk_errors, make_folder, staged_file, sync
from tunegraph_pipeline.song_ids import clean_id

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.raw import BatchInfo

ACTIONS = ("like", "dislike", "skip")
"""The kinds of feedback. A skip is kept, and does not change the list."""

_COLUMNS = ("at", "user_id", "track_id", "action", "shown", "bundle_version")
_TAKEN, _DONE = ".taken-", ".done-"
_REJECTED = "rejected"
_BATCH_BYTES = 8 * 2**20
"""Of the lines that become one raw batch, so that a refresh needs little memory however many there are."""
_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode
_WRITER_SECONDS = 5.0
"""How long a refresh waits for a writer, which needs milliseconds; if one hangs, its file is left to the next
refresh."""


NEARLY_FULL = 0.8
"""The share of its size from which on people are told that a spool fills up."""


def nearly_full(fullness: float) -> str:
    """What to tell people of a spool of which this share is used."""
    used = f"the feedback spool has used {fullness:.0%} of settings.feedback.spool_mib"
    return f"{used}; above 100 % services refuse feedback: refresh more often, or raise it"


def worker_name() -> str:
    """A name for the files of this process that no other process ever has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def append(
    lake: Path,
    worker: str,
    user_id: str,
    events: Sequence[tuple[str, str]],
    *,
    shown: Sequence[str] = (),
    bundle_version: str = "",
    at: datetime | None = None,
    most_bytes: int | None = None,
    spool_bytes: int | None = None,
) -> int:
    """Write the feedback of ``user_id``, synced to disk when this returns; returns the number of lines.

    ``events`` are (track id, action) in order, the ids in any form that `song_ids.read_id` knows; each gets a
    time a microsecond after the one before. ``shown`` are the tracks of the list that was shown, from the
    bundle ``bundle_version``. ``lake`` is the folder of the lake, or the cache of one in an object store,
    whose spool is the outbox beside it until `snapshots.send`; ``worker`` names the file, see
    :func:`worker_name`; ``at`` is when it was received, default now. The lines may have ``most_bytes``, and
    the spool ``spool_bytes`` with them.

    All lines are kept or none. Raises InputError for an empty id, text that is not UTF-8 or an unknown
    action, or too many bytes; SpoolFullError where the spool has no room for them; LakeError where the disk
    cannot be written.
    """
    at = (at or datetime.now(UTC)).astimezone(UTC)
    lines = _written(user_id, events, shown, bundle_version, at)
    if not lines:
        return 0
    size_of_lines = sum(map(len, lines))
    if most_bytes is not None and size_of_lines > most_bytes:
        raise InputError(
            f"feedback: these events take {size_of_lines:,} bytes, and one request may have {most_bytes:,};"
            " send fewer events at once"
        )
    lake = outbox_of(lake)
    if spool_bytes is not None and (there := spool_size(lake)) + size_of_lines > spool_bytes:
        raise SpoolFullError(
            f"{lake / SPOOL} has {there:,} bytes, and may have {spool_bytes:,}; run `tunegraph refresh`, or"
            " raise settings.feedback.spool_mib of lake.json"
        )
    path = lake / SPOOL / at.date().isoformat() / f"{worker}.jsonl"
    with disk_errors(path), _locked(path) as file:
        size = os.fstat(file).st_size
        # A killed writer may have left half a line, which must not be joined with the first of these.
        broken = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        try:
            _write(file, b"\n" * broken + b"".join(lines))
            os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
        if not size:  # the file is new, and its folder may be
            sync(path.parent)
            sync(path.parent.parent)
    return len(lines)


def spool_size(lake: Path) -> int:
    """The bytes of all files in the spool."""
    size = 0
    for folder, _, names in os.walk(lake / SPOOL):
        for name in names:
            with suppress(FileNotFoundError):  # collected just now
                size += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118  # often, and fast
    return size


def _written(
    user_id: str, events: Sequence[tuple[str, str]], shown: Sequence[str], bundle_version: str, at: datetime
) -> list[bytes]:
    """The lines of events. What is the same in all is checked and written once, since a service writes them
    while it answers other requests."""
    same = {"user_id": user_id, "shown": shown, "bundle_version": bundle_version}
    for name, value in same.items():
        _check(name, value)
    # The last events of a day must not get the next day, which has another file.
    latest = at.replace(hour=23, minute=59, second=59, microsecond=999_999)
    user, version = _AS_JSON(composed(user_id)), _AS_JSON(bundle_version)
    list_shown = _AS_JSON(list(map(clean_id, shown)))
    lines = []
    for place, (track_id, action) in enumerate(events):
        _check("track_id", track_id)
        _check("action", action)
        moment = min(at + timedelta(microseconds=place), latest)
        lines.append(
            f'{{"at": "{moment.isoformat(timespec="microseconds")[:-6]}Z", "user_id": {user},'
            f' "track_id": {_AS_JSON(clean_id(track_id))}, "action": "{action}",'
            f' "shown": {"[]" if place else list_shown}, "bundle_version": {version}}}\n'.encode()
        )
    return lines


def _check(name: str, value: object) -> None:
    """Raise InputError where a value of a line cannot be kept."""
    for text in value if name == "shown" and isinstance(value, Sequence) else (value,):
        if not isinstance(text, str):
            raise InputError(f"feedback: {name} must be text, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"feedback: {name} is not valid Unicode text") from None
    if not value and name in ("user_id", "track_id"):
        raise InputError(f"feedback: {name} is empty")
    if name == "action" and value not in ACTIONS:
        raise InputError(f"feedback: action {value!r} is not one of {', '.join(ACTIONS)}")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open ``path`` for appending, creating it if missing, and hold its lock."""
    while True:
        make_folder(path.parent)
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the empty folder was removed just now
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return
        finally:
            os.close(file)  # releases the lock


def _is_at(file: int, path: Path) -> bool:
    """Whether the open ``file`` is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


# --- collecting ---


@dataclass
class Collected:
    """What a refresh found in the spool.

    ``batches`` are the raw batches made of it. ``rejected`` counts the unusable lines by reason; they are
    kept in ``feedback_spool/rejected/``. ``left`` has a sentence for each file left in the spool.
    ``forgotten`` counts the lines of forgotten users, which are not kept. ``fullness`` is the size that the
    spool had, as a share of what it may have.
    """

    batches: "list[BatchInfo]" = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0
    left: list[str] = field(default_factory=list)
    fullness: float = 0.0

    def sentences(self) -> list[str]:
        """What a person should know: lines that were not used, and files left in the spool."""
        kept_in = f"kept in {SPOOL}/{_REJECTED}/"
        notes = [f"feedback not used, {why}: {count:,}; {kept_in}" for why, count in self.rejected.items()]
        if self.forgotten:
            notes.append(f"feedback of forgotten users, not used: {self.forgotten:,}")
        if self.fullness >= NEARLY_FULL:
            notes.append(nearly_full(self.fullness))
        return notes + self.left


def collect(lake: "Lake", today: date | None = None) -> Collected:
    """Make raw batches of the whole spool, one for each day on which lines were received.

    Only for the holder of the lake's lock; services may go on appending. Lines that cannot be read, such as
    half a line of a killed writer, are put aside and counted, also in the batch. Days in the future, by the
    clock here, and days before the first of a lake are left. Raises LakeError where the disk cannot be
    written.
    """
    from tunegraph_pipeline.lake.feedback_settings import feedback_settings
    from tunegraph_pipeline.lake.lake import FIRST_DAY
    from tunegraph_pipeline.lake.raw import is_pruned

    today = today or datetime.now(UTC).date()
    found = Collected()
    spool = lake.spool
    found.fullness = spool_size(lake.root) / feedback_settings(lake.root).spool_bytes
    with disk_errors(spool):
        for day, folder in _day_folders(spool):
            if not FIRST_DAY <= day <= today:
                found.left.append(f"feedback of {day} is outside the days {FIRST_DAY} to {today}; left there")
                continue
            if is_pruned(lake.raw, day):
                found.left.append(
                    f"feedback of {day} came after the raw batches of that day were pruned; left in {folder}"
                )
                continue
            found.left += _take(folder)
            for taken in sorted(folder.glob(f"{_TAKEN}*")):
                _read_in(lake, day, taken, found)
                taken.rename(taken.with_name(taken.name.replace(_TAKEN, _DONE)))
            for done in folder.glob(f"{_DONE}*"):
                shutil.rmtree(done)
            if day < today:
                with suppress(OSError):  # it stays if it is not empty
                    folder.rmdir()
    return found


def take_users_out(lake: "Lake", user_ids: Collection[str]) -> Counter[str]:
    """Remove the feedback of these users from the spool, rejected lines included; returns how many lines each
    of them had.

    Only for the holder of the lake's lock; services may go on appending. Raises LakeError where a writer does
    not release a file, or the disk cannot be written.
    """
    removed: Counter[str] = Counter()
    spool = lake.spool
    for path in sorted(spool.rglob("*.jsonl")) if spool.is_dir() else []:
        with disk_errors(path):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not _lock_within(file, _WRITER_SECONDS):
                    raise LakeError(f"{path} is locked by another process; end it and try again")
                theirs = Counter(_said_by(line, user_ids) for line in _lines(path))
                del theirs[None]
                if theirs:
                    # A writer who waits for the lock finds that the file was replaced.
                    with staged_file(path, lake.staging) as draft, draft.open("wb") as kept:
                        kept.writelines(
                            line + b"\n" for line in _lines(path) if _said_by(line, user_ids) is None
                        )
                    removed.update({by: count for by, count in theirs.items() if by is not None})
            finally:
                os.close(file)
    return removed


def users_among(lake: "Lake", user_ids: Collection[str]) -> set[str]:
    """Those of these users who have feedback in the spool. Raises LakeError where it cannot be read."""
    spool, found = lake.spool, set()
    for path in sorted(spool.rglob("*.jsonl")) if spool.is_dir() else []:
        with disk_errors(path):
            found |= {_said_by(line, user_ids) for line in _lines(path)}
    return {user_id for user_id in found if user_id is not None}


def _said_by(line: bytes, user_ids: Collection[str]) -> str | None:
    """Which of these users, by their composed ids, a line is from, even if it is cut short or not a line of
    feedback."""
    try:
        said = json.loads(line)
        if isinstance(said["user_id"], str):
            by = composed(said["user_id"])
            return by if by in user_ids else None
    except (ValueError, RecursionError, TypeError, KeyError):
        pass
    _, begins, rest = line.partition(b'"user_id": "')
    name, ends, _ = rest.partition(b'"')
    for user_id, form in ((one, form) for one in user_ids for form in forms_of(one)):
        for escaped in (False, True):
            written = json.dumps(form, ensure_ascii=escaped)[1:-1].encode(errors="replace")
            if (begins and name and not ends and written.startswith(name)) or written in line:
                return user_id
        if form.encode(errors="replace") in line:
            return user_id
    return None


def waiting_lines(lake: Path) -> int:
    """How many lines no refresh has collected yet."""
    count = 0
    for _, path in _waiting(lake):
        with suppress(FileNotFoundError):  # taken just now
            count += sum(1 for _ in _lines(path))
    return count


def waiting_days(lake: Path) -> list[date]:
    """The days with lines that no refresh has collected yet, ascending."""
    return sorted({day for day, _ in _waiting(lake)})


def _waiting(lake: Path) -> Iterator[tuple[date, Path]]:
    for day, folder in _day_folders(lake / SPOOL):
        for path in folder.rglob("*.jsonl"):
            if not path.parent.name.startswith(_DONE):
                yield day, path


def unreadable_lines(lake: Path) -> Iterator[tuple[Path, int]]:
    """The files of the spool with lines that a refresh will put aside, and how many."""
    for day, folder in _day_folders(lake / SPOOL):
        for path in sorted(folder.rglob("*.jsonl")):
            count = 0
            for line in _lines(path):
                try:
                    _parse(line, day)
                except ValueError:
                    count += 1
            if count:
                yield path, count


def rejected_lines(lake: Path) -> Iterator[tuple[Path, int]]:
    """The files of lines that refreshes have put aside, and how many lines each has."""
    for path in sorted((lake / SPOOL / _REJECTED).glob("*.jsonl")):
        with suppress(FileNotFoundError):  # removed just now
            yield path, sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that are not empty, without their end, one in memory at a time."""
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line.rstrip(b"\n")


def _day_folders(spool: Path) -> Iterator[tuple[date, Path]]:
    """The folders of the spool that are named by a day, ascending, with that day."""
    for folder in sorted(spool.glob("????-??-??")):
        with suppress(ValueError):
            day = date.fromisoformat(folder.name)
            if folder.is_dir():
                yield day, folder


def _take(folder: Path) -> list[str]:
    """Move the files of a day out of the writers' way; returns a sentence for each that a writer holds."""
    left: list[str] = []
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        return left
    taken = folder / f"{_TAKEN}{uuid.uuid4().hex}"
    taken.mkdir()
    for path in files:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _lock_within(file, _WRITER_SECONDS):
                path.rename(taken / path.name)
            else:
                left.append(f"feedback: {path} is being written; left to the next refresh")
        finally:
            os.close(file)
    sync(taken)
    sync(folder)
    return left


def _lock_within(file: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        else:
            return True


def _read_in(lake: "Lake", day: date, taken: Path, found: Collected) -> None:
    """Write the raw batches of a taken folder, and put aside lines that cannot be used."""
    from tunegraph_pipeline.lake.tombstones import Tombstones

    tombstones = Tombstones.of(lake.root)
    rejected: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    n_bytes = 0
    kept = lake.spool / _REJECTED / f"{day}-{taken.name.removeprefix(_TAKEN)}.jsonl"
    with ExitStack() as stack:
        aside: BinaryIO | None = None
        for line in (line for path in sorted(taken.glob("*.jsonl")) for line in _lines(path)):
            try:
                rows.append(_parse(line, day))
            except ValueError as error:
                if tombstones.named_in(line):
                    found.forgotten += 1
                    continue
                if aside is None:
                    draft = stack.enter_context(staged_file(kept, lake.staging))
                    aside = stack.enter_context(draft.open("wb"))
                rejected[str(error)] += 1
                aside.write(line + b"\n")
                continue
            n_bytes += len(line)
            if n_bytes >= _BATCH_BYTES:
                _write_batch(lake, day, rows, {}, found)
                rows, n_bytes = [], 0
    _write_batch(lake, day, rows, rejected, found)
    for why, count in rejected.items():
        found.rejected[why] = found.rejected.get(why, 0) + count


def _write_batch(
    lake: "Lake", day: date, rows: list[dict[str, Any]], rejected: Mapping[str, int], found: Collected
) -> None:
    import polars as pl

    from tunegraph_pipeline.lake.raw import LEFT_OUT, RawBatch, empty_frame, write_batch
    from tunegraph_pipeline.lake.schemas import FEEDBACK

    if not rows:
        return
    frame = pl.DataFrame(rows, schema=empty_frame("feedback").schema)
    batch = RawBatch(FEEDBACK, "what listeners said", feedback=frame, counts=dict(rejected))
    info = write_batch(lake.raw, day, batch)
    found.forgotten += info.counts.get(LEFT_OUT, 0)
    if info.rows:
        found.batches.append(info)


def _parse(line: bytes, day: date) -> dict[str, Any]:
    """The row of a line received on ``day``. Raises ValueError with the reason where it has none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("incomplete or not JSON") from None
    malformed = ValueError("not in the form of feedback")
    if not isinstance(said, dict):
        raise malformed
    try:
        row = {name: said[name] for name in _COLUMNS}
        at = datetime.fromisoformat(row.pop("at"))
        if at.tzinfo is None or not isinstance(row["shown"], list):
            raise malformed
        at = at.astimezone(UTC)
        for name, value in row.items():
            _check(name, value)
    except (KeyError, TypeError, ValueError, OverflowError, InputError):
        raise malformed from None
    if at.date() != day:
        raise ValueError("with the time of another day")
    return {**row, "at": at}
