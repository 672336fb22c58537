"""A lake in an object store: a sequence of snapshots of a lake's folder, each machine working on a cache.

Here: the cache of a machine, pulling a snapshot into it, committing what a writer changed, and the files that
are written without the lake's lock. Not here: the store's client (`object_store`) and who may write
(`lease`). For a lake in a folder every function here does nothing. Loads nothing that a service does not.

In the store, below the lake's prefix:

    CURRENT                        the live snapshot, the oldest that may be kept, and the token of the writer
    LEASE                          who writes; see `lease`
    snapshots/<n>-<attempt>.json   of each file of the lake: size, sha256, time, and the object that has it
    files/<n>-<attempt>/<number>   the files that a snapshot added
    spool/…                        feedback and requests that no writer has collected yet
    work/…                         what a writer and its helpers pass each other; of no snapshot

A commit stores files, then the snapshot, and then swaps ``CURRENT`` by its tag; last, objects that no kept
snapshot names are deleted. A new holder of the lease first swaps ``CURRENT`` for one with its own token, so a
former holder that wakes up has a stale tag, and nothing of its work is ever named. No key is used twice, not
even for the same content: what a former holder still deletes is nothing that a later snapshot names.

On each machine, in ``$TUNEGRAPH_CACHE`` (default ``~/.cache/tunegraph``):

    <hash of the address>/store.json   where the store is, and whether it was probed
    <hash>/state.json                  which snapshot the cache has
    <hash>/unsettled                   there while the cache may differ from that snapshot
    <hash>/outbox/                     feedback and requests on their way to the store
    <hash>/lake/                       the cache: a lake's folder
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lease import Lease
from tunegraph_pipeline.lake.object_store import Address, GoneError, ObjectStore, StoreError, TakenError
from tunegraph_pipeline.lake.seals import read_json, read_name, sealed_json
from tunegraph_pipeline.lake.storage import SPOOL, STAGING, disk_errors, make_folder, sync

CACHE_VARIABLE = "TUNEGRAPH_CACHE"
SCHEME = "s3://"
CURRENT = "CURRENT"
REQUESTS = "forget_requests"
KEPT_SECONDS = 300.0
"""For how long a replaced snapshot stays, for readers who are fetching it."""
SPOOLED = "spool"
WORK = "work"
"""Below what a writer keeps objects while it works. The next one deletes what is left of them."""
_LAKE, _OUTBOX, _SENDING = "lake", "outbox", ".sending"
_EXPIRED = ".expired"
_FORMAT = 1
_COLLECTED = 1_000
"""How many names of collected objects a snapshot remembers: their writer may die before it deletes them."""
_PULLS = 5
"""Attempts of a reader, each at the newest snapshot: those it reads may be deleted meanwhile."""
_LOCAL = frozenset(
    {
        ".lock",
        ".lock.holder.json",
        ".lock.holder.draft",
        ".dagster",
        "checkpoints",
        "downloads",
        "lake.duckdb",
    }
)
"""What a lake's folder has on one machine alone: its lock, Dagster's history, unfinished work that may be
done again, and views that every refresh makes."""
_PASSING = ("-wal", "-shm", "-journal")
"""The endings of what SQLite leaves beside a database that was not closed."""


# --- addresses ---


def lake_path(given: str) -> Path:
    """Where the lake that ``--lake`` or `TUNEGRAPH_LAKE` names is on this machine: the folder itself, or the
    cache of ``s3://bucket/prefix``. Does not ask the store. Raises InputError for any other address."""
    scheme, separator, _ = given.partition("://")
    if not separator:
        return Path(given)
    if f"{scheme}://" != SCHEME:
        raise InputError(f"--lake {scheme}://…: a lake is in a folder, or in a store at s3://bucket/prefix")
    return Node.at(Address.of(given)).root


def shown(root: Path) -> str:
    """How to call the lake at ``root``: its address in a store, or its folder."""
    node = Node.of(root)
    return str(root) if node is None else node.address.url


def unsettle(root: Path) -> None:
    """Mark the cache ``root`` as other than its snapshot, because something is written without the lock."""
    if (node := Node.of(root)) is not None:
        node.unsettled.touch()


def outbox_of(root: Path) -> Path:
    """Below which folder a service or command leaves files for the next writer of the lake at ``root``."""
    node = Node.of(root)
    return root if node is None else node.outbox


@dataclass(frozen=True)
class Node:
    """The cache of one lake on this machine. ``id`` tells it from those of other machines."""

    base: Path
    address: Address
    id: str

    @property
    def root(self) -> Path:
        return self.base / _LAKE

    @property
    def outbox(self) -> Path:
        return self.base / _OUTBOX

    @property
    def unsettled(self) -> Path:
        return self.base / "unsettled"

    @classmethod
    def at(cls, address: Address) -> "Node":
        """The cache of a lake, made if it is not there. Raises LakeError where the disk cannot be written."""
        chosen = os.environ.get(CACHE_VARIABLE)
        caches = Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "tunegraph"
        name = hashlib.sha256(f"{address.endpoint} {address.url}".encode()).hexdigest()[:20]
        base = caches / name
        if (known := cls.of(base / _LAKE)) is not None:
            return known
        made = cls(base, address, uuid.uuid4().hex)
        with disk_errors(base):
            made.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            base.chmod(0o700)
            with _locked(base / "pulling"):
                if (known := cls.of(base / _LAKE)) is not None:
                    return known
                made.record(probed=False)
        return made

    @classmethod
    def of(cls, root: Path) -> "Node | None":
        """The cache that the folder ``root`` is; None for a lake in a folder."""
        if root.name != _LAKE:
            return None
        base = root.absolute().parent
        try:
            said = json.loads((base / "store.json").read_bytes())
            return cls(base, Address(said["bucket"], said["prefix"], said["endpoint"]), said["node"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def record(self, *, probed: bool) -> None:
        """Write down where the store is, and whether it may be trusted with a lock."""
        where = {
            "bucket": self.address.bucket,
            "prefix": self.address.prefix,
            "endpoint": self.address.endpoint,
        }
        _replace(self.base / "store.json", json.dumps({**where, "node": self.id, "probed": probed}))

    @property
    def probed(self) -> bool:
        return bool(json.loads((self.base / "store.json").read_bytes())["probed"])

    def connect(self) -> ObjectStore:
        """The store. Raises StoreError, LibraryMissingError."""
        return ObjectStore(self.address)

    def written_here(self) -> bool:
        """Whether a process of this machine is writing the lake; only for the holder of ``pulling``."""
        with (self.base / "writing").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


# --- what a snapshot and a cache say ---


@dataclass(frozen=True)
class Entry:
    """A file of a snapshot: its size in bytes, sha256, time of the last change in ns, and its object."""

    size: int
    sha256: str
    mtime_ns: int
    key: str


@dataclass(frozen=True)
class Current:
    """What ``CURRENT`` says. ``snapshot`` counts from 1; 0 before the first. No snapshot before ``floor`` may
    be kept. ``key`` is the object of the snapshot."""

    snapshot: int = 0
    key: str = ""
    floor: int = 0
    token: int = 0

    def to_json(self) -> bytes:
        return json.dumps(self.__dict__).encode()


@dataclass
class Snapshot:
    """All files of a lake, its folders with their times, and the spooled objects that it has collected."""

    files: dict[str, Entry] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)

    @classmethod
    def of_json(cls, data: bytes) -> "Snapshot":
        said = read_json(data)
        if said["format"] != _FORMAT:
            raise ValueError("it is of a newer TuneGraph")
        files = {path: Entry(*facts) for path, facts in said["files"].items()}
        if any(_unsafe(path) for path in (*files, *said["folders"])):
            raise ValueError("it names a file outside the lake")
        return cls(files, said["folders"], said["collected"])

    def to_json(self) -> bytes:
        files = {path: [one.size, one.sha256, one.mtime_ns, one.key] for path, one in self.files.items()}
        said = {"format": _FORMAT, "files": files, "folders": self.folders, "collected": self.collected}
        return sealed_json(json.dumps(said)).encode()

    def keys(self) -> set[str]:
        return {one.key for one in self.files.values()}

    def forgets(self) -> bool:
        """Whether users are being forgotten, or data has expired: earlier snapshots still have it."""
        return any(path == _EXPIRED or path.startswith(f"{REQUESTS}/") for path in self.files)


@dataclass(frozen=True)
class _Stat:
    """A file on disk: what changes whenever a file is replaced."""

    size: int
    mtime_ns: int
    inode: int


@dataclass
class _State:
    """Which snapshot a cache has, and the files that it has of it. ``whole``: all of them."""

    current: Current = field(default_factory=Current)
    whole: bool = True
    files: dict[str, tuple[_Stat, str]] = field(default_factory=dict)
    """Of each file, what it is on disk and its sha256."""

    @classmethod
    def read(cls, node: Node) -> "_State | None":
        try:
            said = json.loads((node.base / "state.json").read_bytes())
            files = {path: (_Stat(*stat), digest) for path, (stat, digest) in said["files"].items()}
            return cls(Current(**said["current"]), said["whole"], files)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, node: Node) -> None:
        files = {
            path: [[one.size, one.mtime_ns, one.inode], digest] for path, (one, digest) in self.files.items()
        }
        said = {"current": self.current.__dict__, "whole": self.whole, "files": files}
        _replace(node.base / "state.json", json.dumps(said))


# --- reading ---


def pull(root: Path, *, only_served: bool = False) -> bool:
    """Bring the cache ``root`` to the newest snapshot; returns whether it had another one before.

    With ``only_served``, just the files at the top of the lake and the live bundle. A cache that a process of
    this machine is writing is left as it is, as a folder would be. Raises StoreError where the store cannot
    be read, LakeError where a file of it is damaged or the disk cannot be written.
    """
    node = Node.of(root)
    if node is None or root.absolute() in _writers:
        return False
    with _locked(node.base / "pulling"):
        if node.written_here():
            return False
        return _pull(node, node.connect(), only_served=only_served)


def _pull(node: Node, store: ObjectStore, *, only_served: bool = False) -> bool:
    """The same, with ``pulling`` held."""
    for attempt in range(_PULLS):
        try:
            current = _read_current(store)[0]
            known = _State.read(node)
            if known is not None and known.current.snapshot and not current.snapshot:
                raise StoreError(
                    f"{node.address.url} is empty, and this machine's cache has its snapshot"
                    f" {known.current.snapshot}; restore the bucket, or remove {node.base} to begin anew"
                )
            settled = known is not None and not node.unsettled.exists()
            known = known or _State()
            if settled and known.current.key == current.key and (known.whole or only_served):
                return False
            snapshot = _read_snapshot(store, current)
            _Pulling(node, store, current, snapshot, known, settled=settled).run(only_served)
        except GoneError as gone:
            if attempt == _PULLS - 1:
                raise LakeError(
                    f"{node.address.url} lacks an object that its snapshot names ({gone});"
                    " `tunegraph verify` says what is missing"
                ) from None
        else:
            return True
    raise AssertionError


def _read_current(store: ObjectStore) -> tuple[Current, str | None]:
    """What ``CURRENT`` says, and its tag; None where there is none yet."""
    try:
        data, tag = store.read(CURRENT)
    except GoneError:
        return Current(), None
    try:
        return Current(**json.loads(data)), tag
    except (ValueError, TypeError):
        raise StoreError(
            f"{store.address.url}/{CURRENT} is not that of a lake; choose another --lake"
        ) from None


def _read_snapshot(store: ObjectStore, current: Current) -> Snapshot:
    if not current.snapshot:
        return Snapshot()
    try:
        return Snapshot.of_json(store.read(current.key)[0])
    except (ValueError, KeyError, TypeError) as error:
        raise LakeError(f"{store.address.url}/{current.key} is damaged ({error}); restore it") from None


@dataclass
class _Pulling:
    """Make a cache equal to a snapshot: missing and changed files first, pointers next, and what the snapshot
    lacks is removed last, as a writer would."""

    node: Node
    store: ObjectStore
    current: Current
    snapshot: Snapshot
    known: _State
    settled: bool

    def run(self, only_served: bool) -> None:
        node, root = self.node, self.node.root
        wanted = self._served() if only_served else set(self.snapshot.files)
        incoming = node.base / "incoming"
        with disk_errors(root):
            node.unsettled.touch()
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(parents=True)
            there = _walk(root)
            have = {
                path: found for path, stat in there.items() if (found := self._same(path, stat)) is not None
            }
            missing = sorted(wanted - have.keys())
            pointers = [path for path in missing if PurePosixPath(path).name == "CURRENT"]
            others = [path for path in missing if PurePosixPath(path).name != "CURRENT"]
            for paths in (others, pointers):
                fetched = self.store.each(lambda path: self._fetch(path, incoming), paths, "fetch the lake")
                have |= dict(zip(paths, fetched, strict=True))
            # What a service does not read stays, unless it may hold somebody who was forgotten.
            if not only_served or not self.settled or self.current.floor > self.known.current.floor:
                self._remove(there.keys() - have.keys())
            for folder in sorted(self.snapshot.folders, reverse=True):
                path = root / folder
                if not only_served:
                    path.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    os.utime(path, ns=(self.snapshot.folders[folder],) * 2)
            shutil.rmtree(incoming, ignore_errors=True)
            _State(self.current, not only_served, have).write(node)
            node.unsettled.unlink(missing_ok=True)

    def _served(self) -> set[str]:
        """The files at the top of the lake, those beside the bundles, and the live bundle."""
        files = self.snapshot.files
        live = "serving/CURRENT"
        bundle = "serving//"
        if live in files:
            with suppress(ValueError):
                bundle = f"serving/{read_name(self.store.read(files[live].key)[0].decode())}/"
        return {
            path
            for path in files
            if "/" not in path
            or path.startswith(bundle)
            or PurePosixPath(path).parent.as_posix() == "serving"
        }

    def _same(self, path: str, stat: _Stat) -> tuple[_Stat, str] | None:
        """A file on disk and its sha256, if it is the one of the snapshot."""
        entry = self.snapshot.files.get(path)
        if entry is None or entry.size != stat.size:
            return None
        known = self.known.files.get(path)
        if known is not None and known[0] == stat:
            return known if known[1] == entry.sha256 and stat.mtime_ns == entry.mtime_ns else None
        if stat.mtime_ns == entry.mtime_ns and _sha256(self.node.root / path) == entry.sha256:
            return stat, entry.sha256
        return None

    def _fetch(self, path: str, incoming: Path) -> tuple[_Stat, str]:
        entry, target = self.snapshot.files[path], self.node.root / path
        draft = incoming / uuid.uuid4().hex
        if path.startswith(f"{REQUESTS}/"):
            draft.touch(mode=0o600)
        found = self.store.fetch(entry.key, entry.size, draft)
        if found != entry.sha256:
            raise LakeError(
                f"{self.store.address.url}/{entry.key}, which has {path}, does not match its checksum;"
                " `tunegraph verify` says what to do"
            )
        os.utime(draft, ns=(entry.mtime_ns, entry.mtime_ns))
        make_folder(target.parent)
        draft.replace(target)
        return _stat(target), entry.sha256

    def _remove(self, paths: Iterable[str]) -> None:
        root = self.node.root
        for path in paths:
            (root / path).unlink(missing_ok=True)
        for left in _passing(root):
            left.unlink(missing_ok=True)
        drafts = [root / STAGING, *root.glob(f"*/{STAGING}")]
        if self.current.floor > self.known.current.floor:
            drafts.append(root / "checkpoints")  # of a training with a user who was forgotten, it may be
        for folder in drafts:
            shutil.rmtree(folder, ignore_errors=True)
        for inside, _ in sorted(_folders_with_files(root), reverse=True):
            if inside and inside not in self.snapshot.folders:
                with suppress(OSError):
                    (root / inside).rmdir()


# --- writing ---

_writers: dict[Path, "Writer"] = {}
"""The writer of each cache that this process holds."""


@contextmanager
def writing(
    root: Path, purpose: str, wait_seconds: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[str | None]:
    """Be the one writer of the lake in the store whose cache is ``root``. Only for the holder of the lock of
    that folder; does nothing for a lake in a folder, and inside itself.

    The cache is brought to the newest snapshot first, and what was changed is committed at the end, also
    after an error, as a folder would keep it. Yields a sentence about an earlier holder of the lease that
    died. Raises LakeError as `Lease.take` and :func:`commit` do.
    """
    node = Node.of(root)
    if node is None or root.absolute() in _writers:
        yield None
        return
    store = node.connect()
    if not _read_current(store)[0].snapshot:
        _refuse_other_things(store)
    if not node.probed:
        store.probe()
        node.record(probed=True)
    lease = Lease.take(store, node.id, purpose, wait_seconds, on_wait)
    with (node.base / "writing").open("a") as held:
        try:
            with _locked(node.base / "pulling"):
                fcntl.flock(held, fcntl.LOCK_EX)
                writer = Writer(node, store, lease)
            _writers[root.absolute()] = writer
            try:
                died = f"the last writer, {lease.died}, died without finishing" if lease.died else None
                yield f"{died}; what it did since its last finished step is gone" if died else None
            except BaseException as error:
                try:
                    writer.commit()
                    node.unsettled.unlink(missing_ok=True)
                except LakeError as failed:
                    error.add_note(f"what was done since the last finished step was not kept: {failed}")
                raise
            else:
                writer.commit()
                node.unsettled.unlink(missing_ok=True)
        finally:
            _writers.pop(root.absolute(), None)
            with suppress(StoreError):
                lease.release()


def _refuse_other_things(store: ObjectStore) -> None:
    """Raise LakeError where a prefix without a snapshot holds what is not of a lake."""
    ours = (CURRENT, "LEASE", "files/", "snapshots/", f"{SPOOLED}/", f"{WORK}/", "probe/")
    if others := sorted(key for key in store.listing() if not key.startswith(ours)):
        raise LakeError(
            f"{store.address.url} holds other things ({others[0]}, ...) and no lake; choose another --lake"
        )


def commit(root: Path) -> None:
    """Make what was changed in the cache ``root`` the newest snapshot; does nothing where this process writes
    no lake in a store. Raises LakeError where another writer took over: nothing of this is in the lake then;
    StoreError where the store cannot be written."""
    writer = _writers.get(root.absolute())
    if writer is not None:
        writer.commit()


class Writer:
    """The holder of the lease of a lake, with its cache at the newest snapshot."""

    def __init__(self, node: Node, store: ObjectStore, lease: Lease) -> None:
        """Keep every former holder out, bring the cache to the newest snapshot and collect what was spooled.
        Raises LakeError, StoreError."""
        self._node, self._store, self._lease = node, store, lease
        self._current, self._tag = self._fence()
        node.unsettled.touch()
        _pull(node, store)  # whatever was changed in the cache without the lock goes
        node.unsettled.touch()
        self._snapshot = _read_snapshot(store, self._current)
        state = _State.read(node) or _State()
        self._stats = {path: stat for path, (stat, _) in state.files.items()}
        self._kept: list[tuple[float, Current, set[str]]] = []
        """The earlier snapshots that are kept: when each was replaced, and the objects that it names."""
        self._clear_leftovers()
        self._arrived = self._collect_spooled()

    def _fence(self) -> tuple[Current, str]:
        """Write this holder's token into ``CURRENT``, so that the tag a former holder knows is stale."""
        while True:
            found, tag = _read_current(self._store)
            if found.token >= self._lease.token:
                self._lease.raise_token(found.token + 1)
            mine = Current(found.snapshot, found.key, found.floor, self._lease.token)
            if (made := self._swapped(mine, tag)) is not None:
                return mine, made

    def _swapped(self, new: Current, tag: str | None) -> str | None:
        """The tag of ``CURRENT`` after it was replaced; None where it has another tag than this."""
        content = new.to_json()
        try:
            return (
                self._store.create(CURRENT, content)
                if tag is None
                else self._store.swap(CURRENT, content, tag)
            )
        except TakenError:
            with suppress(GoneError):
                data, now = self._store.read(CURRENT)
                if data == content:
                    return now  # it was swapped, and the answer was lost
            return None

    # --- committing ---

    def commit(self) -> None:
        """Make the cache the newest snapshot, if anything changed. Raises as :func:`commit` does."""
        self._lease.check()
        node, before = self._node, self._snapshot
        there, folders = _walk(node.root), _folders(node.root)
        changed = sorted(path for path, stat in there.items() if self._stats.get(path) != stat)
        collected, respooled = self._collected(there)
        unchanged = (
            not changed
            and not (before.files.keys() - there.keys())
            and before.folders.keys() == folders.keys()
            and not collected
        )
        if unchanged:
            return
        number = self._current.snapshot + 1
        attempt = f"{number:08d}-{uuid.uuid4().hex[:12]}"

        def put(task: tuple[int, str]) -> Entry:
            place, path = task
            key = f"files/{attempt}/{place:06d}"
            size, digest = self._store.put_file(key, node.root / path)
            return Entry(size, digest, there[path].mtime_ns, key)

        with disk_errors(node.root):
            entries = self._store.each(put, list(enumerate(changed)), "store what changed")
        left = dict(self._spool_again(path) for path in respooled.values())
        files = {path: before.files[path] for path in there.keys() & before.files.keys()}
        files |= dict(zip(changed, entries, strict=True))
        remembered = [*before.collected, *collected][-_COLLECTED:]
        snapshot = Snapshot(dict(sorted(files.items())), folders, remembered)
        key = f"snapshots/{attempt}.json"
        self._lease.check()
        with suppress(TakenError):  # sent already, and the answer was lost: nobody else has this name
            self._store.create(key, snapshot.to_json())
        forgets = before.forgets() or snapshot.forgets()
        floor = number if forgets else self._current.floor
        new = Current(number, key, floor, self._lease.token)
        tag = self._swapped(new, self._tag)
        if tag is None:
            self._lease.check()
            raise self._lease.lost_error()
        self._kept.append((time.monotonic(), self._current, before.keys()))
        self._current, self._tag, self._snapshot, self._stats = new, tag, snapshot, there
        self._arrived = {key: one for key, one in self._arrived.items() if key not in collected} | left
        digests = {path: (there[path], entry.sha256) for path, entry in snapshot.files.items()}
        _State(new, True, digests).write(node)
        self._drop_old(collected)

    def _drop_old(self, collected: Collection[str]) -> None:
        """Delete the objects that only snapshots name which need not, or must not, be kept."""
        bound = time.monotonic() - KEPT_SECONDS
        stay: list[tuple[float, Current, set[str]]] = []
        gone: list[tuple[float, Current, set[str]]] = []
        for one in self._kept:
            keep = one[0] > bound and one[1].snapshot >= self._current.floor
            (stay if keep else gone).append(one)
        self._kept = stay
        named = self._snapshot.keys().union(*(keys for _, _, keys in stay))
        doomed = {key for _, _, keys in gone for key in keys} - named
        self._lease.check()
        self._store.delete({*doomed, *(one.key for _, one, _ in gone if one.key), *collected})

    def _clear_leftovers(self) -> None:
        """Delete what no kept snapshot names: of writers that died, of earlier snapshots, and spooled objects
        that were collected."""
        found = self._store.listing()
        now = max((written for _, written in found.values()), default=datetime.now(UTC))
        replaced = now
        kept = {self._current.key, *self._snapshot.keys()}
        for key in sorted((one for one in found if one.startswith("snapshots/")), reverse=True):
            number = _number(key)
            age = (now - replaced).total_seconds()
            if key == self._current.key:
                replaced = found[key][1]
            elif self._current.floor <= number < self._current.snapshot and age < KEPT_SECONDS:
                older = Current(number, key)
                with suppress(GoneError, LakeError):
                    names = _read_snapshot(self._store, older).keys()
                    kept |= {key, *names}
                    self._kept.append((time.monotonic() - age, older, names))
                replaced = found[key][1]
        doomed = {one for one in found if one.startswith(("snapshots/", "files/")) and one not in kept}
        doomed |= {one for one in found if one.startswith(f"{WORK}/")}
        doomed |= {one for one in self._snapshot.collected if one in found}
        doomed |= {one for one in found if one.startswith("probe/") and _older(found[one][1], now)}
        # If nobody took over until after the objects were listed, none of these is of a later writer.
        if self._store.read_changed(CURRENT, self._tag) is not None:
            raise self._lease.lost_error()
        self._store.delete(doomed)

    def store_again(self, paths: Collection[str]) -> None:
        """Count these files as changed."""
        for path in paths:
            self._stats.pop(path, None)

    # --- what others left ---

    def _collect_spooled(self) -> dict[str, tuple[str, str]]:
        """Place spooled objects in the cache, as a service and `forget` place files in a folder; returns the
        path and sha256 of each."""
        spool = self._node.root / SPOOL
        with disk_errors(spool):
            for folder in spool.glob("????-??-??"):
                shutil.rmtree(folder)  # of a writer that died; what it had is still in the store
        send(self._node.root)
        sizes = {key: size for key, (size, _) in self._store.listing(f"{SPOOLED}/").items()}

        def place(key: str) -> tuple[str, tuple[str, str]]:
            path = key.removeprefix(f"{SPOOLED}/")
            if _unsafe(path) or not path.startswith((f"{SPOOL}/", f"{REQUESTS}/")):
                raise LakeError(f"{self._store.address.url}/{key} is not of a lake; remove it")
            target = self._node.root / path
            draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            with disk_errors(target):
                make_folder(target.parent)
                draft.touch(mode=0o600 if path.startswith(f"{REQUESTS}/") else 0o666)
                digest = self._store.fetch(key, sizes[key], draft)
                draft.replace(target)
            return key, (path, digest)

        return dict(self._store.each(place, sorted(sizes.keys() - {*self._snapshot.collected})))

    def _collected(self, there: Collection[str]) -> tuple[list[str], dict[str, str]]:
        """The spooled objects that the cache has taken over, and the paths of those that were changed, such
        as by forgetting who said something: they stay spooled, as another object."""
        done, changed = [], {}
        for key, (path, digest) in self._arrived.items():
            file = self._node.root / path
            if path in there:
                done.append(key)  # a request, which is a file of the snapshot
            elif not file.exists():
                if not any(file.parent.glob(f".taken-*/{file.name}")):
                    done.append(key)
            elif _sha256(file) != digest:
                done.append(key)
                changed[key] = path
        return done, changed

    def _spool_again(self, path: str) -> tuple[str, tuple[str, str]]:
        """Store what is left of a spooled file; returns the key, and the path and sha256."""
        file = self._node.root / path
        digest = _sha256(file)
        key = f"{SPOOLED}/{PurePosixPath(path).parent}/{digest[:32]}{file.suffix}"
        self._store.put_file(key, file)
        return key, (path, digest)


# --- what is written without the lock ---


def send(root: Path) -> None:
    """Move the feedback and the requests in the outbox of the cache ``root`` to the store, for the next
    writer on any machine; services may go on appending. Raises StoreError, and keeps what was not sent."""
    node = Node.of(root)
    if node is None or not node.outbox.is_dir():
        return
    store: ObjectStore | None = None
    sending = node.outbox / _SENDING
    with _locked(node.base / "sending"), disk_errors(node.outbox):
        for path in sorted([*node.outbox.glob(f"{SPOOL}/*/*.jsonl"), *node.outbox.glob(f"{REQUESTS}/*.txt")]):
            inside = path.relative_to(node.outbox)
            target = sending / inside.with_name(f"{inside.stem}-{uuid.uuid4().hex[:8]}{inside.suffix}")
            make_folder(target.parent)
            # A writer that waits for the lock finds that the file was moved, and begins another one.
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                path.rename(target)
                sync(target.parent)
        for path in sorted(one for one in sending.rglob("*") if one.is_file()):
            store = store or node.connect()
            key = f"{SPOOLED}/{path.relative_to(sending).as_posix()}"
            if path.stat().st_size:
                store.put_file(key, path)  # it may be there: this process ended before it removed the file
            path.unlink()


def spooled(root: Path, folder: str) -> list[str]:
    """The spooled objects of ``folder`` that no writer has collected; none for a lake in a folder. Raises
    StoreError."""
    node = Node.of(root)
    if node is None or root.absolute() in _writers:
        return []  # whoever writes has placed them in the cache
    return sorted(node.connect().listing(f"{SPOOLED}/{folder}/"))


# --- checking ---


@dataclass(frozen=True)
class Flaw:
    """What is wrong with an object of a store: its ``key``, the ``file`` of the lake that it has, and
    ``what``."""

    key: str
    file: str
    what: str


def check(root: Path) -> tuple[list[Flaw], list[str]]:
    """Read every object that the newest snapshot names; returns those that are missing or damaged, and the
    keys of objects that no snapshot names, which the next writer deletes. Both empty for a lake in a folder.
    Raises StoreError."""
    node = Node.of(root)
    if node is None:
        return [], []
    store = node.connect()
    found = store.listing()
    current, _ = _read_current(store)
    snapshot = _read_snapshot(store, current)
    flaws: list[Flaw] = []

    def look(item: tuple[str, Entry]) -> None:
        path, entry = item
        digest, size = hashlib.sha256(), 0
        try:
            for block in store.pieces(entry.key, entry.size):
                digest.update(block)
                size += len(block)
        except GoneError:
            flaws.append(Flaw(entry.key, path, "is missing"))
        else:
            if (size, digest.hexdigest()) != (entry.size, entry.sha256):
                flaws.append(Flaw(entry.key, path, "does not match its checksum"))

    store.each(look, list(snapshot.files.items()), "read the store")
    kept = {current.key, *snapshot.keys()}
    for key in sorted(found):
        if key.startswith("snapshots/") and current.floor <= (number := _number(key)) < current.snapshot:
            with suppress(GoneError, LakeError):
                kept |= {key, *_read_snapshot(store, Current(number, key)).keys()}
    unnamed = sorted(key for key in found if key.startswith(("snapshots/", "files/")) and key not in kept)
    return sorted(flaws, key=lambda flaw: flaw.file), unnamed


def store_again(root: Path, paths: Collection[str]) -> None:
    """Have the next commit store these files of the cache ``root`` again. Only for the holder of the lock."""
    writer = _writers.get(root.absolute())
    if writer is not None:
        writer.store_again(paths)


# --- files ---


def _walk(root: Path) -> dict[str, _Stat]:
    """Every file of a lake's folder that belongs into a snapshot, by its path below it."""
    found: dict[str, _Stat] = {}
    for folder, names in _folders_with_files(root):
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if not _is_local(path) and not name.endswith(_PASSING):
                with suppress(FileNotFoundError):
                    found[path] = _stat(root / path)
    return found


def _folders(root: Path) -> dict[str, int]:
    """Every folder of a lake that belongs into a snapshot, and its time of the last change in ns."""
    return {folder: (root / folder).stat().st_mtime_ns for folder, _ in _folders_with_files(root) if folder}


def _folders_with_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    for folder, inner, names in os.walk(root):
        inside = Path(folder).relative_to(root).as_posix()
        inside = "" if inside == "." else inside
        inner[:] = sorted(one for one in inner if not _is_local(f"{inside}/{one}" if inside else one))
        yield inside, names


def _is_local(path: str) -> bool:
    """Whether a path of a lake's folder stays on its machine."""
    parts = PurePosixPath(path).parts
    if parts[0] in _LOCAL or parts[0].startswith("lake.duckdb") or STAGING in parts:
        return True
    return parts[0] == SPOOL and len(parts) > 1 and parts[1][:1].isdigit()


def _passing(root: Path) -> list[Path]:
    return [
        root / folder / name
        for folder, names in _folders_with_files(root)
        for name in names
        if name.endswith(_PASSING) and not _is_local(f"{folder}/{name}")
    ]


def _number(key: str) -> int:
    """The number of a snapshot, by its key; -1 for that of anything else."""
    number = key.removeprefix("snapshots/").partition("-")[0]
    return int(number) if number.isdigit() else -1


def _older(written: datetime, now: datetime) -> bool:
    """Whether the probe of another machine that wrote this has certainly ended."""
    return (now - written).total_seconds() > 3600


def _unsafe(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not parts or parts[0] == "/" or ".." in parts or "\0" in path


def _stat(path: Path) -> _Stat:
    found = path.stat()
    return _Stat(found.st_size, found.st_mtime_ns, found.st_ino)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(target: Path, content: str) -> None:
    """Replace a small file atomically."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(content)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine; the system releases that of a dead one."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


__all__ = [
    "CACHE_VARIABLE",
    "Flaw",
    "Node",
    "Writer",
    "check",
    "commit",
    "lake_path",
    "outbox_of",
    "pull",
    "send",
    "shown",
    "spooled",
    "store_again",
    "unsettle",
    "writing",
]
