"""The feedback spool: where a running service leaves what people said of songs, until a refresh takes it in.

Here: the form of a line, appending lines, and collecting them into raw batches. Not here: who may say
something and how much (`serve`), or what becomes of it (`feedback`). Appending needs the standard library
alone, so that a service loads nothing for it.

    <lake>/feedback_spool/<day received, UTC>/<worker>.jsonl    one JSON object a line:
    {"at": "2026-11-24T12:00:00.000000Z", "user_id": "…", "track_id": "…", "action": "like",
     "shown": ["…"], "bundle_version": "…"}

Whoever writes to a file or takes it away holds its lock (flock), and a writer who gets the lock of a file
that was taken away meanwhile opens a new one. So no line is written into what has been read already.

A refresh takes the files of a day into a folder of their own, `.taken-…`, to which nothing is ever added;
makes one raw batch of it, named by a hash of its content; renames the folder to `.done-…`; and removes it.
Wherever it is killed, the next one finds a folder that is still to be read, and reading it again gives the
same batch, or one that only has to be removed: nothing is lost and nothing is there twice.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.storage import SPOOL, disk_errors, make_folder, staged_file, sync

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.lake.raw import BatchInfo

ACTIONS = ("like", "dislike", "skip")
"""What can be said of a song. A skip is kept, and says nothing about the list."""

_COLUMNS = ("at", "user_id", "track_id", "action", "shown", "bundle_version")
_TAKEN, _DONE = ".taken-", ".done-"
_REJECTED = "rejected"
_WRITER_SECONDS = 5.0
"""How long a refresh waits for a writer, who needs milliseconds; the file of one that hangs is left to the
next refresh."""


def worker_name() -> str:
    """A name for the files of this process that no other process has, now or later."""
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
) -> int:
    """Keep what ``user_id`` said, on disk for good when this returns; returns the number of lines.

    ``events`` are (track id, action) in the order they were said, and each is given a microsecond more than
    the one before; ``shown`` are the tracks of the list they were said about, from the bundle of that
    version. ``lake`` is the folder of the lake; ``worker`` names the file, see :func:`worker_name`; ``at`` is
    when it was received, now unless given.

    All lines are kept or none. Raises InputError for an empty id, text that is no UTF-8 or an unknown action;
    LakeError where the disk says no.
    """
    at = (at or datetime.now(UTC)).astimezone(UTC)
    lines = []
    for place, (track_id, action) in enumerate(events):
        moment = at + timedelta(microseconds=place)
        # The last events of a day must not be of the next one: its file would be another.
        moment = min(moment, at.replace(hour=23, minute=59, second=59, microsecond=999_999))
        said = {
            "at": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "user_id": user_id,
            "track_id": track_id,
            "action": action,
            "shown": list(shown),
            "bundle_version": bundle_version,
        }
        _check(said)
        lines.append(json.dumps(said).encode() + b"\n")
    if not lines:
        return 0
    path = lake / SPOOL / at.date().isoformat() / f"{worker}.jsonl"
    with disk_errors(path), _locked(path) as file:
        size = os.fstat(file).st_size
        # A writer that was killed may have left half a line; it must not swallow the first of these.
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


def _check(said: Mapping[str, object]) -> None:
    """Raise InputError where a line is none that can be kept."""
    for name, value in said.items():
        for text in value if name == "shown" and isinstance(value, list) else [value]:
            try:
                if not isinstance(text, str):
                    raise InputError(f"feedback: {name} has to be text, not {type(text).__name__}")
                text.encode()
            except UnicodeEncodeError:
                raise InputError(f"feedback: {name} is not valid Unicode text") from None
    for name in ("user_id", "track_id"):
        if not said[name]:
            raise InputError(f"feedback: {name} is empty")
    if said["action"] not in ACTIONS:
        raise InputError(f"feedback: action {said['action']!r} is not one of {', '.join(ACTIONS)}")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open ``path`` for appending, made where it is missing, and hold its lock."""
    while True:
        make_folder(path.parent)
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the empty folder was cleared away just now
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return
        finally:
            os.close(file)  # lets the lock go


def _is_at(file: int, path: Path) -> bool:
    """Whether the open ``file`` still is the one of that name."""
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

    ``batches`` are the raw batches it became. ``rejected`` counts the lines that could not be used, by the
    reason; they are kept in ``feedback_spool/rejected/``. ``left`` says, a sentence each, what lies there
    still. ``forgotten`` counts the lines of users who were forgotten, which are kept nowhere.
    """

    batches: "list[BatchInfo]" = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0
    left: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """What a person has to be told: of lines that were not used, and of what lies there still."""
        kept_in = f"kept in {SPOOL}/{_REJECTED}/"
        told = [f"feedback not taken in, {why}: {count:,}; {kept_in}" for why, count in self.rejected.items()]
        if self.forgotten:
            told.append(f"feedback of users who were forgotten, not taken in: {self.forgotten:,}")
        return told + self.left


def collect(lake: "Lake", today: date | None = None) -> Collected:
    """Make raw batches of all that lies in the spool, each of the day its lines were received.

    Only for the holder of the lake's lock; services may go on appending. Lines that cannot be read, such as
    the half one of a killed writer, are put aside and counted, also in the batch. Days to come, by the clock
    here, and days before the first of a lake are left lying. Raises LakeError where the disk says no.
    """
    from tunegraph_pipeline.lake.lake import FIRST_DAY
    from tunegraph_pipeline.lake.raw import is_pruned

    today = today or datetime.now(UTC).date()
    found = Collected()
    spool = lake.spool
    with disk_errors(spool):
        for folder in sorted(spool.iterdir()) if spool.is_dir() else []:
            if (day := _day_of(folder)) is None:
                continue
            if not FIRST_DAY <= day <= today:
                found.left.append(
                    f"feedback of {day} is not of a day from {FIRST_DAY} to {today}; left lying"
                )
                continue
            if is_pruned(lake.raw, day):
                found.left.append(
                    f"feedback of {day} came after the raw batches of that day were pruned; left lying in"
                    f" {folder}"
                )
                continue
            found.left += _take(folder)
            for taken in sorted(folder.glob(f"{_TAKEN}*")):
                _read_in(lake, day, taken, found)
                taken.rename(taken.with_name(taken.name.replace(_TAKEN, _DONE)))
            for done in folder.glob(f"{_DONE}*"):
                shutil.rmtree(done)
            if day < today:
                with suppress(OSError):  # where something is in it, it stays
                    folder.rmdir()
    return found


def take_users_out(lake: "Lake", user_ids: Collection[str]) -> Counter[str]:
    """Remove what these users said from the spool, lines that were rejected included; returns how many lines
    each of them had.

    Only for the holder of the lake's lock; services may go on appending. Raises LakeError where a writer does
    not let go of a file, or the disk says no.
    """
    removed: Counter[str] = Counter()
    spool = lake.spool
    for path in sorted(spool.rglob("*.jsonl")) if spool.is_dir() else []:
        with disk_errors(path):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not _lock_within(file, _WRITER_SECONDS):
                    raise LakeError(f"{path} is being written all the while; end what hangs and try again")
                lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
                said_by = [_said_by(line, user_ids) for line in lines]
                theirs = [user_id for user_id in said_by if user_id is not None]
                if theirs:
                    kept = [line + b"\n" for line, by in zip(lines, said_by, strict=True) if by is None]
                    # A writer who waits for the lock finds that the file was taken away.
                    with staged_file(path, lake.staging) as draft:
                        draft.write_bytes(b"".join(kept))
                    removed.update(theirs)
            finally:
                os.close(file)
    return removed


def _said_by(line: bytes, user_ids: Collection[str]) -> str | None:
    """Which of these users a line is of, also where it is cut short or no line of feedback."""
    try:
        said = json.loads(line)
        if isinstance(said["user_id"], str):
            return said["user_id"] if said["user_id"] in user_ids else None
    except (ValueError, RecursionError, TypeError, KeyError):
        pass
    _, begins, rest = line.partition(b'"user_id": "')
    name, ends, _ = rest.partition(b'"')
    for user_id in user_ids:
        written = json.dumps(user_id)[1:-1].encode()
        if begins and name and not ends and written.startswith(name):
            return user_id
        if written in line or user_id.encode(errors="replace") in line:
            return user_id
    return None


def waiting_lines(lake: Path) -> int:
    """How many lines no refresh has taken in yet."""
    count = 0
    for _, path in _waiting(lake):
        with suppress(FileNotFoundError):  # taken just now
            count += path.read_bytes().count(b"\n")
    return count


def waiting_days(lake: Path) -> list[date]:
    """The days of which there are lines that no refresh has taken in yet, ascending."""
    return sorted({day for day, _ in _waiting(lake)})


def _waiting(lake: Path) -> Iterator[tuple[date, Path]]:
    for folder in (lake / SPOOL).glob("????-??-??"):
        if day := _day_of(folder):
            for path in folder.rglob("*.jsonl"):
                if not path.parent.name.startswith(_DONE):
                    yield day, path


def unreadable_lines(lake: Path) -> Iterator[tuple[Path, int]]:
    """The files of the spool that hold lines which a refresh will put aside, and how many."""
    for folder in sorted((lake / SPOOL).glob("????-??-??")):
        if (day := _day_of(folder)) is None:
            continue
        for path in sorted(folder.rglob("*.jsonl")):
            count = 0
            for line in path.read_bytes().split(b"\n"):
                try:
                    if line.strip():
                        _parse(line, day)
                except ValueError:
                    count += 1
            if count:
                yield path, count


def _day_of(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name) if folder.is_dir() else None
    except ValueError:
        return None


def _take(folder: Path) -> list[str]:
    """Move the files of a day out of the writers' way; says which are held by a writer that does not end."""
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
                left.append(f"feedback: {path} is being written and was left to the next refresh")
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
    """Write the raw batch of a folder that was taken, and put aside what cannot be in it."""
    import polars as pl

    from tunegraph_pipeline.lake.raw import LEFT_OUT, RawBatch, empty_frame, write_batch
    from tunegraph_pipeline.lake.schemas import FEEDBACK
    from tunegraph_pipeline.lake.tombstones import Tombstones

    tombstones = Tombstones.of(lake.root)
    rows: list[dict[str, Any]] = []
    aside: list[bytes] = []
    rejected: dict[str, int] = {}
    for path in sorted(taken.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            if not line.strip():
                continue
            try:
                rows.append(_parse(line, day))
            except ValueError as error:
                if tombstones.named_in(line):
                    found.forgotten += 1
                    continue
                rejected[str(error)] = rejected.get(str(error), 0) + 1
                aside.append(line)
    if aside:
        kept = lake.spool / _REJECTED / f"{day}-{taken.name.removeprefix(_TAKEN)}.jsonl"
        with staged_file(kept, lake.staging) as draft:
            draft.write_bytes(b"\n".join(aside) + b"\n")
    if rows:
        frame = pl.DataFrame(rows, schema=empty_frame("feedback").schema)
        batch = RawBatch(FEEDBACK, "what listeners said", feedback=frame, counts=rejected)
        info = write_batch(lake.raw, day, batch)
        found.forgotten += info.counts.get(LEFT_OUT, 0)
        if info.rows:
            found.batches.append(info)
    for why, count in rejected.items():
        found.rejected[why] = found.rejected.get(why, 0) + count


def _parse(line: bytes, day: date) -> dict[str, Any]:
    """The row of a line received on ``day``. Raises ValueError with the reason where it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("half-written or no JSON") from None
    unlike = ValueError("not of the form of feedback")
    if not isinstance(said, dict):
        raise unlike
    try:
        row = {name: said[name] for name in _COLUMNS}
        at = datetime.fromisoformat(row.pop("at"))
        if at.tzinfo is None or not isinstance(row["shown"], list):
            raise unlike
        at = at.astimezone(UTC)
        _check(row)
    except (KeyError, TypeError, ValueError, OverflowError, InputError):
        raise unlike from None
    if at.date() != day:
        raise ValueError("with the time of another day")
    return {**row, "at": at}
