"""How the inputs and results of blocks travel: as parcels, folders of arrays, which are mapped, and tables.

Here: writing and opening parcels, and the place where the machines of a cluster leave them for each other.
Not here: who runs what (`ray`). Nothing is pickled.

A parcel is complete under its name or not there, and whoever makes one again makes the same bytes.
"""

import errno
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import polars as pl

from tunegraph_pipeline.engine.engine import Files, Input
from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.lake.storage import disk_errors

_CONTENTS = "contents.json"


class Workspace(Protocol):
    """Where the driver of a step and its tasks leave parcels for each other. It is sent to the tasks."""

    @property
    def cached(self) -> bool:
        """Whether each machine keeps what it fetched, until it is told to :meth:`leave`."""

    def __hash__(self) -> int:
        """By place."""

    def prepare(self) -> None:
        """Make the place, before which nothing can be put. Raises LakeError where it cannot be made."""

    def put(self, name: str, values: Mapping[str, Input]) -> None:
        """Leave a parcel, unless one of this name is there. Raises LakeError where it cannot be written."""

    def get(self, name: str) -> dict[str, Input]:
        """Open a parcel; its arrays are mapped. Raises OSError where it is not there."""

    def drop(self, name: str) -> None:
        """Remove a parcel, if it is there; who has it open keeps it."""

    def clear(self) -> None:
        """Remove everything; a task that still runs can leave nothing afterwards."""

    def leave(self) -> None:
        """Remove what this machine keeps."""


@dataclass(frozen=True)
class FolderWorkspace:
    """A ``folder`` of a file system that all machines share, under one path."""

    folder: Path
    cached = False

    @classmethod
    def below(cls, staging: Path) -> Self:
        """A new one below a folder of drafts, where the next writer removes it if this one is killed."""
        return cls(staging.absolute() / f"engine-{uuid.uuid4().hex}")

    def prepare(self) -> None:
        """As `Workspace.prepare`."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, values: Mapping[str, Input]) -> None:
        """As `Workspace.put`."""
        target, draft = self.folder / name, self.folder / f"{name}.{uuid.uuid4().hex}"
        with disk_errors(target):
            draft.mkdir()
            try:
                write_parcel(draft, values)
                draft.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.exists():
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def get(self, name: str) -> dict[str, Input]:
        """As `Workspace.get`."""
        return open_parcel(self.folder / name)

    def drop(self, name: str) -> None:
        """As `Workspace.drop`."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def clear(self) -> None:
        """As `Workspace.clear`."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self) -> None:
        """As `Workspace.leave`: nothing is kept."""


def write_parcel(folder: Path, values: Mapping[str, Input]) -> None:
    """Write each value into a file or two of the empty ``folder``, and what they are into its contents."""
    contents: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            contents[name] = "array"
            np.save(folder / f"{name}.npy", value, allow_pickle=False)
        elif isinstance(value, StringColumn):
            contents[name] = "strings"
            np.save(folder / f"{name}.bytes.npy", value.bytes, allow_pickle=False)
            np.save(folder / f"{name}.offsets.npy", value.offsets, allow_pickle=False)
        elif isinstance(value, pl.DataFrame):
            contents[name] = "table"
            value.write_ipc(folder / f"{name}.arrow", compression="uncompressed")
        elif isinstance(value, Files):
            contents[name] = {"folder": str(value.folder.absolute()), "names": value.names}
        else:
            contents[name] = {"text": value}
    (folder / _CONTENTS).write_text(json.dumps(contents))


def open_parcel(folder: Path) -> dict[str, Input]:
    """Open what :func:`write_parcel` wrote, its arrays mapped. They may be written to, which changes no file:
    some libraries (sparse_dot_topn) take no others. Raises OSError where it is not there."""
    values: dict[str, Input] = {}
    for name, kind in json.loads((folder / _CONTENTS).read_text()).items():
        if kind == "array":
            values[name] = _mapped(folder / f"{name}.npy")
        elif kind == "strings":
            parts = (_mapped(folder / f"{name}.{part}.npy") for part in ("bytes", "offsets"))
            values[name] = StringColumn(*parts)
        elif kind == "table":
            values[name] = pl.read_ipc(folder / f"{name}.arrow")
        elif "folder" in kind:
            values[name] = Files(Path(kind["folder"]), tuple(kind["names"]))
        else:
            values[name] = kind["text"]
    return values


def _mapped(path: Path) -> Any:
    # A plain view: numpy's memmap subclass costs microseconds on every slice.
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    return array.view(np.ndarray)
