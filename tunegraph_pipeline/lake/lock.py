"""One writer at a time: the lake's lock, which names its holder and notices a dead one.

Here: taking and releasing the lock. Not here: who has to take it (`Lake.writing`). The operating system
releases the lock of a process that dies, so a lock that can be taken while a holder's note lies beside it
means that the holder died.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tunegraph_pipeline.errors import LakeError, check_shortage

if TYPE_CHECKING:
    from filelock import FileLock

WAITED_SECONDS = 60.0
"""How often a waiting process reports who holds the lock."""

_held: dict[Path, int] = {}
_guard = threading.RLock()


@contextmanager
def write_lock(
    root: Path,
    purpose: str,
    wait_seconds: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
    *,
    name: str = "",
) -> Iterator[str | None]:
    """Hold the lake at ``root`` for writing; re-entrant within a process. ``name`` is what people call it, by
    default its folder.

    Yields a sentence about the last holder if it died without releasing, else None. While it waits,
    ``on_wait`` is called with who holds the lock, at once and then every minute. Raises LakeError naming the
    holder when the lock is not free within ``wait_seconds``.
    """
    from filelock import FileLock

    root = root.resolve()
    with _guard:
        nested = root in _held
        if nested:
            _held[root] += 1
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
        if not _acquire(lock, wait_seconds, lambda: on_wait(_describe(note))):
            raise LakeError(
                f"{name or root} is being written by {_describe(note)}; wait for it and try again"
            )
    except OSError as error:
        check_shortage(error, f"cannot lock {root}")
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
            # In one step: who finds the lock taken must not read half a note.
            draft = root / ".lock.holder.draft"
            draft.write_text(json.dumps(holder))
            draft.replace(note)
        except OSError as error:
            check_shortage(error, f"cannot write {note}")
            raise LakeError(
                f"{note} cannot be written ({error.strerror}); free space or fix its permissions"
            ) from error
        with _guard:
            _held[root] = 1
        yield f"the last writer, {died}, died without finishing; its leftovers were removed" if died else None
    finally:
        with _guard:
            _held.pop(root, None)
        note.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: "FileLock", wait_seconds: float, tell: Callable[[], None]) -> bool:
    """Take the lock; returns whether it was free in time. ``tell`` is called while it is not."""
    from filelock import Timeout

    until = time.monotonic() + wait_seconds
    patience = 0.0
    while True:
        try:
            lock.acquire(timeout=patience, poll_interval=0.1)
        except Timeout:
            patience = min(WAITED_SECONDS, until - time.monotonic())
            if patience <= 0:
                return False
            tell()
        else:
            return True


def _describe(note: Path) -> str:
    try:
        holder = json.loads(note.read_bytes())
        return f"{holder['purpose']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
