"""The feedback spool: where a running service leaves what people said of songs, until a refresh takes it in.

Here: the form of a line and appending lines. Not here: who may say something and how much (`serve`), or what
becomes of it (`tables`). Appending needs the standard library alone, so that a service loads nothing for it.

    <lake>/feedback_spool/<day received, UTC>/<worker>.jsonl    one JSON object a line:
    {"at": "2026-11-24T12:00:00.000000Z", "user_id": "…", "track_id": "…", "action": "like",
     "shown": ["…"], "bundle_version": "…"}

Whoever writes to a file or takes it away holds its lock (flock), and a writer who gets the lock of a file
that was taken away meanwhile opens a new one. So no line is written into what has been read already.
"""

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import disk_errors, make_folder, sync

SPOOL = "feedback_spool"
"""The folder of the spool below that of the lake."""
ACTIONS = ("like", "dislike", "skip")
"""What can be said of a song. A skip is kept, and says nothing about the list."""


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
    """Raise InputError where a line could not be read back."""
    for name, value in said.items():
        for text in value if isinstance(value, list) else [value]:
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
