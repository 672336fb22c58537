"""One writer at a time: the lake's lock, which names its holder and notices a dead one.

Here: taking and releasing the lock. Not here: who has to take it (`Lake.writing`). The operating system
releases the lock of a process that dies, so a lock that can be taken while a holder's note lies beside it
means that the holder died.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tunegraph_pipeline.errors import LakeError

_held: dict[Path, int] = {}
_guard = threading.RLock()


@contextmanager
def write_lock(root: Path, purpose: str, wait_seconds: float = 0.0) -> Iterator[str | None]:
    """Hold the lake at ``root`` for writing; re-entrant within a process.

    Yields a sentence about the last holder if it died without releasing, else None. Raises LakeError naming
    the holder when the lock is not free within ``wait_seconds``.
    """
    from filelock import FileLock, Timeout

    root = root.resolve()
    with _guard:
        if _held.get(root):
            _held[root] += 1
            nested = True
        else:
            nested = False
    if nested:
        try:
            yield None
        finally:
            with _guard:
                _held[root] -= 1
        return

    note = root / ".lock.holder.json"
    lock = FileLock(root / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise LakeError(f"{root} is being written by {_describe(note)}; wait for it and try again") from None
    except OSError as error:
        raise LakeError(f"{root} cannot be locked ({error.strerror}); make the folder writable") from error
    try:
        died = _describe(note) if note.exists() else None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "purpose": purpose,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            note.write_text(json.dumps(holder))
        except OSError as error:
            raise LakeError(
                f"{note} cannot be written ({error.strerror}); free space or fix its rights"
            ) from error
        with _guard:
            _held[root] = 1
        yield f"the last writer, {died}, died without finishing; its leftovers were removed" if died else None
    finally:
        with _guard:
            _held.pop(root, None)
        note.unlink(missing_ok=True)
        lock.release()


def _describe(note: Path) -> str:
    try:
        holder = json.loads(note.read_bytes())
        return f"{holder['purpose']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
