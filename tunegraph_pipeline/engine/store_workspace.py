"""The workspace of a lake in an object store: parcels are objects, and each machine keeps what it fetched.

Here: leaving parcels in the store, fetching each once a machine, and removing both. Not here: the form of a
parcel (`workspace`), or the client of the store (`lake.object_store`).

Below the lake's prefix, and in the cache of the lake on each machine (`lake.snapshots`):

    work/<room>/<parcel>/…      its files; of files that are shared, below ``files/``
    work/<room>/<parcel>.json   the size and sha256 of each; last, so the parcel is there whole or not at all

A room lasts as long as its engine. Whoever opens another one removes those that a killed one left.
"""

import errno
import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tunegraph_pipeline.engine.engine import Files, Input
from tunegraph_pipeline.engine.workspace import open_parcel, write_parcel
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.object_store import Address, GoneError, ObjectStore, TakenError
from tunegraph_pipeline.lake.snapshots import WORK, Node
from tunegraph_pipeline.lake.storage import disk_errors

_FILES = "files"


@dataclass(frozen=True)
class StoreWorkspace:
    """The ``room`` of an engine in the store at ``address``; the credentials are in the environment of each
    machine. Implements `workspace.Workspace`."""

    address: Address
    room: str
    cached = True

    @classmethod
    def at(cls, address: Address) -> Self:
        """A new one."""
        return cls(address, uuid.uuid4().hex)

    def prepare(self) -> None:
        """Remove what killed engines left in the store: only the one writer of a lake has an engine."""
        store = self._store()
        store.delete(store.listing(f"{WORK}/"))

    def put(self, name: str, values: Mapping[str, Input]) -> None:
        """As `Workspace.put`."""
        store, draft = self._store(), self._here() / f"{name}.{uuid.uuid4().hex}"
        with disk_errors(draft):
            draft.mkdir(parents=True)
            try:
                write_parcel(draft, values)
                paths = {path.name: path for path in draft.iterdir()}
                for files in values.values():
                    if isinstance(files, Files):
                        paths |= {f"{_FILES}/{one}": files.folder / one for one in files.names}
                keys = {one: f"{self._key(name)}/{one}" for one in paths}
                sent = store.each(lambda one: store.put_file(keys[one], paths[one]), [*paths])
                with suppress(TakenError):  # by the same task, which ran before
                    content = dict(zip(paths, sent, strict=True))
                    store.create(f"{self._key(name)}.json", json.dumps(content).encode())
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def get(self, name: str) -> dict[str, Input]:
        """As `Workspace.get`, with checksums compared. Raises LakeError where one differs."""
        folder = self._here() / name
        if not folder.exists():
            self._fetch(name, folder)
        return {
            key: value._replace(folder=folder / _FILES) if isinstance(value, Files) else value
            for key, value in open_parcel(folder).items()
        }

    def drop(self, name: str) -> None:
        """As `Workspace.drop`."""
        store = self._store()
        store.delete({f"{self._key(name)}.json", *store.listing(f"{self._key(name)}/")})
        shutil.rmtree(self._here() / name, ignore_errors=True)

    def clear(self) -> None:
        """As `Workspace.clear`; what a task leaves afterwards the next engine removes."""
        store = self._store()
        store.delete(store.listing(f"{WORK}/{self.room}/"))
        self.leave()

    def leave(self) -> None:
        """As `Workspace.leave`."""
        shutil.rmtree(self._here(), ignore_errors=True)

    def _fetch(self, name: str, folder: Path) -> None:
        store, draft = self._store(), folder.with_name(f"{name}.{uuid.uuid4().hex}")
        try:
            content = json.loads(store.read(f"{self._key(name)}.json")[0])
        except GoneError:
            raise FileNotFoundError(errno.ENOENT, "no such parcel", name) from None
        with disk_errors(folder):
            for other in folder.parent.parent.glob("*"):
                if other.name != self.room:
                    shutil.rmtree(other, ignore_errors=True)
            try:
                for one in content:
                    (draft / one).parent.mkdir(parents=True, exist_ok=True)

                def fetch(one: str) -> None:
                    size, expected = content[one]
                    if store.fetch(f"{self._key(name)}/{one}", size, draft / one) != expected:
                        raise LakeError(
                            f"{one} of {self._key(name)} in {self.address.url} does not match its checksum;"
                            " run this again"
                        )

                store.each(fetch, [*content])
                draft.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not folder.exists():
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def _key(self, name: str) -> str:
        return f"{WORK}/{self.room}/{name}"

    def _store(self) -> ObjectStore:
        return ObjectStore(self.address)

    def _here(self) -> Path:
        """Where this machine keeps what it fetched."""
        return Node.at(self.address).base / WORK / self.room
