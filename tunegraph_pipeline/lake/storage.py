"""Atomic writes: a file or folder is complete under its final name, or it is not there.

Here: staging, syncing and renaming, and turning the errors of a disk into one clear line. Not here: what is
written. Every write of the lake goes through :func:`staged_file` or :func:`staged_folder`.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunegraph_pipeline.errors import LakeError, check_shortage

STAGING = ".staging"
SPOOL = "feedback_spool"
"""The folder of feedback not collected yet. The service writes it, and knows a lake by its folder alone."""


@contextmanager
def staged_file(target: Path, staging: Path) -> Iterator[Path]:
    """Yield a path below ``staging`` to write to; on success sync it and rename it onto ``target``.

    ``staging`` must be on the file system of ``target``. On any error the draft is removed and ``target`` is
    unchanged. Raises LakeError for a full disk or a folder that cannot be written.
    """
    with disk_errors(target):
        staging.mkdir(parents=True, exist_ok=True)
        draft = staging / f"{uuid.uuid4().hex}-{target.name}"
        try:
            yield draft
            sync(draft)
            make_folder(target.parent)
            draft.replace(target)
            sync(target.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path, staging: Path) -> Iterator[Path]:
    """Yield an empty folder below ``staging``; on success sync it and rename it to ``target``.

    An older folder at ``target`` is moved aside first and removed afterwards, so that a reader who has it
    open keeps its files. Raises LakeError as :func:`staged_file` does.
    """
    with disk_errors(target):
        draft = staging / f"{uuid.uuid4().hex}-{target.name}"
        draft.mkdir(parents=True)
        old = staging / f"{draft.name}.old"
        try:
            yield draft
            for path in sorted(draft.rglob("*")):
                sync(path)
            sync(draft)
            make_folder(target.parent)
            if target.exists():
                target.rename(old)
            draft.rename(target)
            sync(target.parent)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            for leftover in (draft, old):
                shutil.rmtree(leftover, ignore_errors=True)


def remove_folder(folder: Path, staging: Path) -> None:
    """Remove a folder; one rename hides it first, so no reader ever sees it half deleted. ``staging`` must be
    on its file system. Raises LakeError as :func:`staged_file` does."""
    with disk_errors(folder):
        staging.mkdir(parents=True, exist_ok=True)
        doomed = staging / f"{uuid.uuid4().hex}-{folder.name}"
        folder.rename(doomed)
        shutil.rmtree(doomed)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and missing folders above it, synced to disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def check_writable(target: Path) -> None:
    """Raise LakeError where ``target`` cannot be written: checked before hours of work, not after."""
    with disk_errors(target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{uuid.uuid4().hex}")
        try:
            draft.touch(exist_ok=False)
        finally:
            draft.unlink(missing_ok=True)


def write_text(target: Path, text: str, staging: Path) -> None:
    """Replace the text file ``target`` atomically."""
    with staged_file(target, staging) as draft:
        draft.write_text(text)


def private_file(target: Path, text: str) -> None:
    """Replace ``target``, in a lake or not, atomically by a synced file that only its owner may read (0600).
    Raises LakeError for a full disk or a folder that cannot be written."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = target.with_name(f".{uuid.uuid4().hex}")
        try:
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text(text)
            sync(draft)
            draft.replace(target)
            sync(target.parent)
        finally:
            draft.unlink(missing_ok=True)


def sweep_staging(staging: Path) -> None:
    """Remove the drafts of dead writers. Only for the holder of the lock."""
    with disk_errors(staging):
        if staging.exists():
            shutil.rmtree(staging)


def sync(path: Path) -> None:
    """Sync a file's content, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def no_access(path: object) -> LakeError:
    """The error for what another user of the machine owns."""
    return LakeError(
        f"{path} is not yours to use: permission denied; run this as its owner, or ask for access"
    )


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EACCES: "permission denied; make the folder writable or choose another one",
    errno.EPERM: "permission denied; make the folder writable or choose another one",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EFBIG: "the file would be larger than this system allows; raise the limit or choose another folder",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
}


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn a disk error on writing ``target`` into a LakeError of one line. Raises ShortageError where memory
    or open files ran out."""
    try:
        yield
    except MemoryError as error:
        check_shortage(error, f"cannot write {target}")
    except OSError as error:
        check_shortage(error, f"cannot write {target}")
        # numpy reports a short write, which a full disk causes, without an errno.
        short = error.errno is None and "requested and" in str(error)
        code = errno.ENOSPC if short else error.errno
        if code not in _DISK_ERRORS:
            raise
        raise LakeError(f"cannot write {target}: {_DISK_ERRORS[code]}") from error
