"""The folder of requests to forget users.

Here: writing a request, reading it, withdrawing it, and the folders it moves through. Not here: removing the
users (`forgetting`).

    <lake>/forget_requests/<any name>     a complete request: one user id a line, UTF-8
    <lake>/forget_requests/.purging/      requests whose users are being removed
    <lake>/forget_requests/.purged/       requests whose users are removed, except from older versions

A request moves to the next folder when the step before is done. After a kill the next run continues it, since
every step may be repeated. The ids are only in these files, and are deleted with them.
"""

import time
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.snapshots import outbox_of, send, spooled
from tunegraph_pipeline.lake.storage import disk_errors, private_file, sync
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.sources.limits import open_regular

PURGING, PURGED = ".purging", ".purged"
_MOST_BYTES = 1 << 26
_WRITTEN_WITHIN = 3600  # seconds; no request takes that long to write


def request(lake: Lake, user_ids: Iterable[str]) -> Path:
    """Write a request to forget these users: synced to disk, and readable only by its owner.

    Needs no lock: a run in progress processes it or leaves it to the next. In a lake in an object store it is
    in the store when this returns. Raises InputError for an empty id
    or one that cannot be a line of UTF-8, LakeError where the disk cannot be written.
    """
    lines = list(dict.fromkeys(map(composed, user_ids)))
    for line in lines:
        check_user_id(line, "the id of a user to forget")
    there = outbox_of(lake.root)
    path = there / lake.deletion_requests.name / f"{uuid.uuid4().hex}.txt"
    private_file(path, "".join(f"{line}\n" for line in lines))
    sync(there)
    try:
        send(lake.root)
    except LakeError:
        path.unlink(missing_ok=True)
        raise
    return path


def withdraw(lake: Lake, user_ids: Collection[str]) -> int:
    """Take these ids out of the requests that wait, and lift their tombstones; nothing that was deleted comes
    back. Returns how many ids were in a request that waited.

    Needs the lake's lock. Raises InputError, and changes nothing, for an id that neither holds, or that a run
    has begun to delete.
    """
    folder = lake.deletion_requests
    user_ids = list(map(composed, user_ids))
    waiting = {path: read_user_ids(path) for path in request_files(folder)}
    asked = {user_id for ids in waiting.values() for user_id in ids}
    begun = {
        user_id
        for part in (PURGING, PURGED)
        for path in request_files(folder / part)
        for user_id in read_user_ids(path)
    }
    tombstones = Tombstones.of(lake.root)
    for user_id in user_ids:
        if user_id in begun:
            raise InputError(
                f"a run that did not finish was deleting {user_id!r}; finish it with `tunegraph forget`, then"
                " undo"
            )
        if user_id not in asked and not tombstones.buries_one(user_id):
            raise InputError(f"{user_id!r} was not forgotten in this lake; nothing was undone")
    for path, ids in waiting.items():
        left = [user_id for user_id in ids if user_id not in user_ids]
        if not left:
            delete_requests(folder, [path])
        elif left != ids:
            private_file(path, "".join(f"{user_id}\n" for user_id in left))
    if (lifted := tombstones.without_users(user_ids)) is not tombstones:
        lifted.write(lake.root)
    return len(asked.intersection(user_ids))


def read_user_ids(path: Path) -> list[str]:
    """The user ids of a file with one a line, empty lines left out. Raises InputError naming the file."""
    try:
        with open_regular(path) as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    return user_ids_in(data or b"", str(path))


def user_ids_in(data: bytes, where: str) -> list[str]:
    """The user ids in text with one a line, as `read_user_ids`; ``where`` names it in errors."""
    if len(data) > _MOST_BYTES:
        raise InputError(f"{where} has more than {_MOST_BYTES >> 20} MB, too many for user ids; split it")
    try:
        # Not splitlines, which also splits at characters that an id may hold. utf-8-sig: some editors write a
        # byte order mark.
        lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").split("\n")]
    except ValueError as error:
        raise InputError(f"{where} cannot be read as user ids, one a line in UTF-8 ({error})") from None
    ids = [composed(line) for line in lines if line]
    for line in ids:
        check_user_id(line, f"{where}: a user id")
    return ids


def check_user_id(user_id: str, what: str) -> None:
    if not user_id.strip() or "\n" in user_id or "\0" in user_id:
        raise InputError(f"{what} is empty or has a line break in it; give it as the source names the user")
    try:
        user_id.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is not valid Unicode text") from None


def pending_requests(lake: Lake) -> int:
    """How many requests are not finished yet."""
    folder = lake.deletion_requests
    here = sum(len(request_files(folder / part)) for part in ("", PURGING, PURGED))
    return here + len(spooled(lake.root, folder.name))


def has_old_versions(lake: Lake) -> bool:
    """Whether older versions may still name removed users."""
    return bool(request_files(lake.deletion_requests / PURGED))


def finish_requests(lake: Lake) -> None:
    """Delete the requests whose users are removed, once no older version is left. Raises LakeError where the
    disk cannot be written."""
    folder = lake.deletion_requests / PURGED
    delete_requests(folder, request_files(folder))


def request_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def move_requests(paths: list[Path], target: Path) -> None:
    for path in paths:
        with disk_errors(path):
            target.mkdir(exist_ok=True, mode=0o700)
            path.rename(target / f"{uuid.uuid4().hex}.txt")
            sync(target)
            sync(path.parent)


def delete_requests(folder: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        with disk_errors(path):
            path.unlink()
            sync(folder)


def abandoned_drafts(folder: Path) -> list[Path]:
    """Drafts of requests whose writers were killed: they hold ids, and will never be renamed."""
    hidden = folder.glob(".*") if folder.is_dir() else ()
    before = time.time() - _WRITTEN_WITHIN
    return [path for path in hidden if path.is_file() and path.stat().st_mtime < before]
