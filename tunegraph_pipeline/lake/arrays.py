"""Folders of numpy arrays that are mapped, never loaded: the form of every matrix and of the bundle.

Here: writing and opening such a folder, the types of arrays, columns of strings as a UTF-8 blob with offsets,
appending to an array in memory, and streaming one that is larger than memory. Not here: staging and renaming
(`storage`), or what arrays mean. numpy and the standard library alone, because the torch-free query opens its
bundle with this.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tunegraph_pipeline.errors import BundleError, check_shortage
from tunegraph_pipeline.lake.seals import read_json, sealed_json

MANIFEST = "manifest.json"
REBUILD = "rebuild this version with `tunegraph verify --repair` and `tunegraph refresh`"

Bool = NDArray[np.bool_]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt16 = NDArray[np.uint16]
UInt32 = NDArray[np.uint32]
UInt64 = NDArray[np.uint64]
Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

_header = threading.Lock()
_verified: set[tuple[Any, ...]] = set()
"""The folders whose checksums this process compared, as they were then."""
_STRINGS_A_BLOCK = 1 << 14
_HEADER_BYTES = 128  # room for any one-dimensional .npy header; numpy itself aligns to 64


class StringColumn:
    """An immutable column of n strings: ``bytes`` uint8 (UTF-8, end to end) and ``offsets`` int64 of n+1.

    >>> column = StringColumn.from_strings(["a", "bc"])
    >>> len(column), column[1]
    (2, 'bc')
    """

    __slots__ = ("bytes", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.bytes = data
        self.offsets = offsets

    @classmethod
    def from_strings(cls, strings: Sequence[str]) -> Self:
        encoded = [text.encode() for text in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    @classmethod
    def of(cls, texts: "Sequence[str] | StringColumn") -> "StringColumn":
        """The column of these texts, which may be one already."""
        return texts if isinstance(texts, StringColumn) else cls.from_strings(texts)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _STRINGS_A_BLOCK):
            bounds = self.offsets[start : start + _STRINGS_A_BLOCK + 1]
            block = self.bytes[bounds[0] : bounds[-1]].tobytes()
            for first, last in pairwise((bounds - bounds[0]).tolist()):
                yield block[first:last].decode()

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.bytes[self.offsets[index] : self.offsets[index + 1]].tobytes().decode()

    def tolist(self) -> list[str]:
        blob = self.bytes.tobytes()
        bounds = self.offsets.tolist()
        return [blob[start:end].decode() for start, end in pairwise(bounds)]


class GrowingArray:
    """A one-dimensional array in memory that parts are appended to, so that nobody keeps them all beside it.

    >>> growing = GrowingArray(np.int32)
    >>> growing.append(np.arange(2))
    >>> growing.append(np.arange(3))
    >>> growing.whole().tolist()
    [0, 1, 0, 1, 2]
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._room = np.zeros(0, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, part: NDArray[Any]) -> None:
        start, self._length = self._length, self._length + len(part)
        if self._length > len(self._room):
            # Of a large array the system moves pages, not bytes.
            room = max(self._length, len(self._room) * 9 // 8)
            self._room.resize(room, refcheck=False)
        self._room[start : self._length] = part

    def whole(self) -> NDArray[Any]:
        """All parts, one after the other; nothing may be appended any more."""
        self._room.resize(self._length, refcheck=False)
        return self._room


class GrowingStrings:
    """The same, for columns of strings."""

    def __init__(self) -> None:
        self._bytes, self._offsets = GrowingArray(np.uint8), GrowingArray(np.int64)
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, part: StringColumn) -> None:
        self._offsets.append(part.offsets[1:] + (len(self._bytes) - part.offsets[0]))
        self._bytes.append(part.bytes[part.offsets[0] : part.offsets[-1]])

    def whole(self) -> StringColumn:
        """All strings, column after column; nothing may be appended any more."""
        return StringColumn(self._bytes.whole(), self._offsets.whole())


class ArrayAppender:
    """Stream a one-dimensional ``.npy`` file block by block; its length is known only at ``close``.

    >>> with ArrayAppender(path, np.int32) as out:  # doctest: +SKIP
    ...     out.append(block)
    """

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)

    def append(self, block: ArrayLike) -> None:
        values = np.ascontiguousarray(block, dtype=self.dtype)
        self._file.write(values.data)
        self.length += values.size

    def close(self) -> None:
        if self._file.closed:
            return
        head = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({self.length},), }}"
        text = head.ljust(_HEADER_BYTES - 11) + "\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1"))
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_arrays(
    folder: Path,
    arrays: Mapping[str, NDArray[Any] | StringColumn],
    facts: Mapping[str, Any],
    declared: Mapping[str, Any] | None = None,
) -> None:
    """Write each array as ``<name>.npy`` below ``folder``, then the manifest that declares them.

    A :class:`StringColumn` becomes ``<name>.bytes.npy`` and ``<name>.offsets.npy``. Parts that an
    :class:`ArrayAppender` already put into the folder, and any other files in it, are declared along with
    the others. ``facts`` is any JSON the reader needs. ``declared`` is what :meth:`ArrayFolder.link` returned
    for the files it put there; these are not read again. The folder is made if missing; the caller stages and
    renames it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if isinstance(array, StringColumn):
            np.save(folder / f"{name}.bytes.npy", array.bytes, allow_pickle=False)
            np.save(folder / f"{name}.offsets.npy", array.offsets, allow_pickle=False)
        else:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    parts: dict[str, Any] = dict(declared or {})
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name not in parts):
        found: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
        if path.suffix == ".npy":
            part = _map(path)
            found |= {"shape": list(part.shape), "dtype": part.dtype.str}
        parts[path.name] = found
    manifest = {"facts": dict(facts), "parts": parts}
    (folder / MANIFEST).write_text(
        sealed_json(json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False))
    )


class ArrayFolder:
    """A folder of arrays, mapped read-only, and of other declared files.

    Opening checks that every declared part has the declared shape, dtype and size, without reading the data;
    :meth:`verify` reads everything and compares checksums.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], parts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts
        self._declared = parts
        self._arrays: dict[str, NDArray[Any]] = {}
        for file_name, declared in parts.items():
            path = folder / file_name
            _check_size(path, declared)
            if path.suffix == ".npy":
                self._arrays[path.stem] = _map_part(path, declared)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the folder. Raises BundleError, naming the file, where it differs from its manifest."""
        path = folder / MANIFEST
        try:
            manifest = read_json(path.read_bytes())
            facts, parts = dict(manifest["facts"]), dict(manifest["parts"])
            return cls(folder, facts, parts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            check_shortage(error, f"cannot read {path}")
            raise BundleError(f"{path} cannot be read ({error}); {REBUILD}") from error

    @classmethod
    def verified(cls, folder: Path) -> Self:
        """Map the folder, and compare every checksum once a process: for who writes something new from it.
        Raises BundleError as :meth:`open` and :meth:`verify`."""
        arrays = cls.open(folder)
        stats = [(folder / name).stat() for name in sorted(arrays._declared)]
        known = (str(folder), *((one.st_size, one.st_mtime_ns, one.st_ino) for one in stats))
        if known not in _verified:
            arrays.verify()
            _verified.add(known)
        return arrays

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._arrays[name]
        except KeyError:
            raise BundleError(f"{self.folder} has no part {name}.npy; {REBUILD}") from None

    def file(self, name: str) -> Path | None:
        """The path of a declared file that is not an array, None where there is none of that name."""
        return self.folder / name if name in self._declared else None

    def strings(self, name: str) -> StringColumn:
        return StringColumn(self[f"{name}.bytes"], self[f"{name}.offsets"])

    def link(self, folder: Path, names: Iterable[str]) -> dict[str, Any]:
        """Hard-link the arrays of these names into another folder, and return how they are declared.

        No byte is copied, and the array exists until the last folder that has it is gone. Without hard links
        in the file system they are copied.
        """
        files = [f"{name}.npy" for name in names]
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            try:
                os.link(self.folder / file, folder / file)
            except OSError:
                shutil.copyfile(self.folder / file, folder / file)
        return {file: self._declared[file] for file in files}

    def verify(self) -> None:
        """Compare every checksum. Raises BundleError naming the first file that differs."""
        for file_name, declared in self._declared.items():
            if _checksum(self.folder / file_name) != declared.get("sha256"):
                raise BundleError(f"{self.folder / file_name} does not match its checksum; {REBUILD}")


def _map(path: Path) -> NDArray[Any]:
    """``np.load``, mapped, by one thread at a time. It reads the header with `ast`, whose parser is not
    thread-safe in some versions of CPython 3.11: a service that opens bundles in several threads would get a
    SystemError."""
    with _header:
        # Of a Path numpy would resolve every folder above it.
        array: NDArray[Any] = np.load(str(path), mmap_mode="r", allow_pickle=False)
    return array


def _check_size(path: Path, declared: Mapping[str, Any]) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        check_shortage(error, f"cannot read {path}")
        raise BundleError(f"{path} cannot be read ({error}); {REBUILD}") from error
    if size != declared["bytes"]:
        raise BundleError(f"{path} has {size} bytes, its manifest says {declared['bytes']}; {REBUILD}")


def _map_part(path: Path, declared: Mapping[str, Any]) -> NDArray[Any]:
    try:
        array = _map(path)
    except (OSError, ValueError, OverflowError, SyntaxError, TokenError) as error:
        check_shortage(error, f"cannot read {path}")
        # The header is a Python literal: damage to it is found by the parser.
        raise BundleError(f"{path} cannot be mapped ({error!r}); {REBUILD}") from error
    if list(array.shape) != declared["shape"] or array.dtype.str != declared["dtype"]:
        raise BundleError(
            f"{path} is {array.dtype.str} of shape {list(array.shape)}, its manifest says"
            f" {declared['dtype']} of {declared['shape']}; {REBUILD}"
        )
    # A plain view: numpy's memmap subclass costs microseconds on every slice.
    return array.view(np.ndarray)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
