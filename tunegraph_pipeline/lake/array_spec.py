"""What the arrays of a folder are: a name, a dtype, a shape and a meaning each, checked when it is opened.

Here: the declaration of an array, checking a whole folder against a list of them, and converting values to
the declared form before they are written. Not here: the lists themselves (beside the code that owns the
folder), or the files (`arrays`). numpy and the standard library alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import REBUILD, ArrayFolder, StringColumn

TEXT = "text"
"""The dtype of a column of strings."""
_ONE_MORE = "+1"


@dataclass(frozen=True)
class ArraySpec:
    """One array of a folder.

    ``dtype``: as numpy writes it, ``"<f4"``, or ``TEXT``. ``shape``: numbers, and names of sizes; a size is
    the same in all arrays of the folder, and ``"tracks+1"`` is one more than ``"tracks"``. An ``optional``
    array may be missing; it then has the value ``neutral`` everywhere. ``ends_at``, of an array of offsets:
    the size that its last value gives.

    >>> ArraySpec("indptr", "<i8", ("users+1",), "where the list of each user begins", ends_at="likes").name
    'indptr'
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str
    optional: bool = False
    ends_at: str = ""
    neutral: float = 0

    def parts(self) -> Iterator["ArraySpec"]:
        """The arrays it is stored as: itself, or the offsets and the bytes of a column of strings."""
        if self.dtype != TEXT:
            yield self
            return
        (length,) = self.shape
        end = f"bytes of {self.name}"
        offsets, data = f"{self.name}.offsets", f"{self.name}.bytes"
        yield ArraySpec(offsets, "<i8", (f"{length}{_ONE_MORE}",), self.meaning, self.optional, ends_at=end)
        yield ArraySpec(data, "|u1", (end,), self.meaning, self.optional)


def offsets(name: str, rows: str, ends_at: str, meaning: str) -> ArraySpec:
    """An array of offsets: where each of ``rows`` begins, int64[rows + 1]; its last value is ``ends_at``."""
    return ArraySpec(name, "<i8", (f"{rows}{_ONE_MORE}",), meaning, ends_at=ends_at)


class CheckedArrays(NamedTuple):
    """The declared arrays of a folder, by name, and the sizes of their shapes, by name."""

    arrays: dict[str, Any]  # NDArray or StringColumn, as declared
    sizes: dict[str, int]


def checked_arrays(folder: ArrayFolder, specs: Sequence[ArraySpec], kind: str) -> CheckedArrays:
    """The arrays of ``folder`` that ``specs`` declare; reads nothing of them but the last of their offsets.

    Optional arrays that the folder lacks are neutral, of the sizes that the others give, 0 where none does.
    Arrays that are not declared are ignored. ``kind`` names the folder in errors: "a bundle". Raises
    BundleError, naming the file, where an array is missing, has another dtype or shape, or contradicts an
    earlier size.
    """
    sizes: dict[str, int] = {}
    parts = {spec.name: list(spec.parts()) for spec in specs}
    there = {spec.name for spec in specs if not spec.optional or parts[spec.name][0].name in folder}
    for spec in specs:
        if spec.name in there:
            for part in parts[spec.name]:
                _check(folder, part, sizes, kind)
    arrays: dict[str, Any] = {}
    for spec in specs:
        found = [
            folder[part.name] if spec.name in there else _neutral(part, sizes) for part in parts[spec.name]
        ]
        if spec.dtype == TEXT:
            offsets, data = found
            arrays[spec.name] = StringColumn(data, offsets)
        else:
            (arrays[spec.name],) = found
    return CheckedArrays(arrays, sizes)


def optional(specs: Iterable[ArraySpec]) -> tuple[ArraySpec, ...]:
    """The same arrays, all optional."""
    return tuple(replace(spec, optional=True) for spec in specs)


def declared_fields(specs: Iterable[ArraySpec], record: object) -> dict[str, Any]:
    """The fields of a dataclass that are declared arrays."""
    names = {spec.name for spec in specs}
    return {name: value for name, value in vars(record).items() if name in names}


def as_declared(
    specs: Sequence[ArraySpec], values: Mapping[str, ArrayLike | StringColumn | Sequence[str] | None]
) -> dict[str, NDArray[Any] | StringColumn]:
    """The values with the declared dtypes, in the order of ``specs``, ready for `arrays.write_arrays`. Values
    of the declared dtype are not copied. Raises ValueError where a value is missing or not declared;
    None is a missing one."""
    given = {name: value for name, value in values.items() if value is not None}
    names = {spec.name for spec in specs}
    required = {spec.name for spec in specs if not spec.optional}
    if wrong := sorted((required - given.keys()) | (given.keys() - names)):
        raise ValueError(f"missing or not declared: {', '.join(wrong)}")
    return {spec.name: _with_dtype(given[spec.name], spec.dtype) for spec in specs if spec.name in given}


def fits(shape: tuple[int, ...], spec: ArraySpec, sizes: dict[str, int]) -> bool:
    """Whether an array of ``shape`` is as declared; adds sizes that were not known yet to ``sizes``."""
    found: dict[str, int] = {}
    if len(shape) != len(spec.shape):
        return False
    for have, want in zip(shape, spec.shape, strict=True):
        if isinstance(want, int):
            if have != want:
                return False
            continue
        name = want.removesuffix(_ONE_MORE)
        size = have - (name != want)
        if size < 0 or size != sizes.get(name, found.setdefault(name, size)):
            return False
    sizes |= {name: size for name, size in found.items() if name not in sizes}
    return True


def _check(folder: ArrayFolder, spec: ArraySpec, sizes: dict[str, int], kind: str) -> None:
    array = folder[spec.name]
    path = folder.folder / f"{spec.name}.npy"
    if array.dtype.str != spec.dtype or not fits(array.shape, spec, sizes):
        wanted = " x ".join(_in_words(size, sizes) for size in spec.shape)
        raise BundleError(
            f"{path} is {array.dtype.str} of shape {array.shape}, {kind} needs {spec.dtype} of {wanted};"
            f" {REBUILD}"
        )
    if spec.ends_at:
        end = int(array[-1])
        if sizes.setdefault(spec.ends_at, end) != end:
            raise BundleError(
                f"{path} ends at {end}, {kind} needs {sizes[spec.ends_at]} ({spec.ends_at}); {REBUILD}"
            )


def _neutral(spec: ArraySpec, sizes: Mapping[str, int]) -> NDArray[Any]:
    shape = [
        size
        if isinstance(size, int)
        else sizes.get(size.removesuffix(_ONE_MORE), 0) + size.endswith(_ONE_MORE)
        for size in spec.shape
    ]
    return np.full(shape, spec.neutral, dtype=np.dtype(spec.dtype))


def _in_words(size: int | str, sizes: Mapping[str, int]) -> str:
    if isinstance(size, int):
        return str(size)
    name = size.removesuffix(_ONE_MORE)
    more = name != size
    if name in sizes:
        return str(sizes[name] + more)
    return "at least 1" if more else "any"


def _with_dtype(value: ArrayLike | StringColumn | Sequence[str], dtype: str) -> NDArray[Any] | StringColumn:
    if dtype != TEXT:
        return np.asarray(value, dtype=np.dtype(dtype))
    return value if isinstance(value, StringColumn) else StringColumn.from_strings(value)  # type: ignore[arg-type]
