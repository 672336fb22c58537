"""What the arrays of a folder are: a name, a dtype, a shape and a meaning each, checked when it is opened.

Here: declaring an array, alone or as a field of a class, checking a folder against what was declared, filling
in what was left out, and converting values before they are written. Not here: the declarations themselves
(beside the code that owns the folder), or the files (`arrays`). numpy and the standard library alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import REBUILD, ArrayFolder, StringColumn

TEXT = "text"
"""The dtype of a column of strings."""
AnyTexts = Sequence[str] | StringColumn
"""A column of strings, as a list or as it is stored."""
Texts = TypeVar("Texts", bound=AnyTexts)
"""The same, for a class that has it in one of these forms."""
NEUTRAL: Any = object()
"""The default of a field that may be left out; `declared_fields` puts the neutral value there."""
Neutral = float | Literal["row"]
"""A number, or that of the row, in each row."""
_ONE_MORE = "+1"


@dataclass(frozen=True)
class ArraySpec:
    """One array of a folder.

    ``dtype``: as numpy writes it, ``"<f4"``, or ``TEXT``. ``shape``: numbers, and names of sizes; a size is
    the same in all arrays of the folder, and ``"tracks+1"`` is one more than ``"tracks"``. An ``optional``
    array may be missing; it then has the value ``neutral`` everywhere. ``ends_at``, of an array of offsets:
    the size that its last value gives. ``indexes``: the size below which every value is.

    >>> ArraySpec("indptr", "<i8", ("users+1",), "where the list of each user begins", ends_at="likes").name
    'indptr'
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str
    optional: bool = False
    ends_at: str = ""
    neutral: Neutral = 0
    indexes: str = ""

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


def stored(
    shape: str,
    meaning: str,
    *,
    optional: bool = False,
    ends_at: str = "",
    neutral: Neutral = 0,
    indexes: str = "",
) -> ArraySpec:
    """The declaration of a field, as in ``Annotated[Float32, stored("tracks x 2", "where each track is")]``;
    `specs_of` adds its name and dtype."""
    sizes = tuple(int(size) if size.isdigit() else size for size in shape.split(" x "))
    return ArraySpec("", "", sizes, meaning, optional, ends_at, neutral, indexes)


def offsets(rows: str, ends_at: str, meaning: str, *, optional: bool = False) -> ArraySpec:
    """The same of an array of offsets: where each of ``rows`` begins, int64[rows + 1]."""
    return stored(f"{rows}{_ONE_MORE}", meaning, optional=optional, ends_at=ends_at)


def specs_of(record: type) -> tuple[ArraySpec, ...]:
    """The arrays that the fields of a class and of its bases declare, those of the bases first.

    A field is of an NDArray of one type, of one number, or of text: StringColumn, Sequence[str] or `Texts`.
    Raises TypeError if it is not. Fields that are not declared are ignored.
    """
    return tuple(
        replace(spec, name=name, dtype=_dtype_of(kind.__origin__))
        for name, kind in get_type_hints(record, include_extras=True).items()
        for spec in getattr(kind, "__metadata__", ())
        if isinstance(spec, ArraySpec)
    )


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
        if spec.name in there:
            arrays[spec.name] = _joined([folder[part.name] for part in parts[spec.name]])
        else:
            arrays[spec.name] = neutral_value(spec, sizes)
    return CheckedArrays(arrays, sizes)


def check_indices(folder: ArrayFolder, specs: Sequence[ArraySpec], sizes: Mapping[str, int]) -> None:
    """Read the arrays of ``folder`` that point into others, and compare every value with what it may be.

    Offsets begin at 0 and never fall, and what ``indexes`` a size is below it. ``sizes`` are those that
    `checked_arrays` returned. Raises BundleError, naming the file, for a value that points elsewhere: damage
    that was signed, or made by another program, which no checksum shows.
    """
    for part in (part for spec in specs for part in spec.parts()):
        if part.name not in folder or not (part.ends_at or part.indexes):
            continue
        array = folder[part.name]
        if part.ends_at:
            sound = bool(array[0] == 0 and (array[1:] >= array[:-1]).all())
            rule = f"must rise from 0 to {int(array[-1])}"
        else:
            # As unsigned numbers those below 0 are above all others, so one pass over the data is enough.
            largest = array.view(array.dtype.str.replace("i", "u")).max(initial=0)
            sound = not array.size or bool(largest < sizes[part.indexes])
            rule = f"must be from 0 to {sizes[part.indexes] - 1} ({part.indexes})"
        if not sound:
            path = folder.folder / f"{part.name}.npy"
            raise BundleError(f"{path} points outside of what it refers to, its values {rule}; {REBUILD}")


def optional(specs: Iterable[ArraySpec]) -> tuple[ArraySpec, ...]:
    """The same arrays, all optional."""
    return tuple(replace(spec, optional=True) for spec in specs)


def neutral_value(spec: ArraySpec, sizes: Mapping[str, int]) -> NDArray[Any] | StringColumn:
    """The neutral value of an array, of the declared shape; a size that is not among ``sizes`` is 0."""
    return _joined([_neutral(part, sizes) for part in spec.parts()])


def declared_fields(record: object, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The fields of a record that are declared arrays; what is NEUTRAL gets its `neutral_value`."""
    specs = specs_of(type(record))
    given = {spec.name: getattr(record, spec.name) for spec in specs}
    return given | {
        spec.name: neutral_value(spec, sizes or {}) for spec in specs if given[spec.name] is NEUTRAL
    }


def as_declared(
    specs: Sequence[ArraySpec], values: Mapping[str, ArrayLike | AnyTexts | None]
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
    if not spec.neutral:
        return np.zeros(shape, dtype=np.dtype(spec.dtype))  # takes no memory until it is read
    value = np.arange(shape[0]) if spec.neutral == "row" else spec.neutral
    return np.full(shape, value, dtype=np.dtype(spec.dtype))


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any] | StringColumn:
    """The array of these `ArraySpec.parts`."""
    return parts[0] if len(parts) == 1 else StringColumn(parts[1], parts[0])


def _dtype_of(kind: Any) -> str:
    while arguments := get_args(kind):  # NDArray[np.int32] ends in np.int32, Sequence[str] in str
        kind = arguments[-1]
    if kind in (str, StringColumn, Texts):
        return TEXT
    if not (isinstance(kind, type) and issubclass(kind, np.number | np.bool_ | int | float)):
        raise TypeError(f"an array cannot have the type {kind}")
    return np.dtype(kind).newbyteorder("<").str


def _in_words(size: int | str, sizes: Mapping[str, int]) -> str:
    if isinstance(size, int):
        return str(size)
    name = size.removesuffix(_ONE_MORE)
    more = name != size
    if name in sizes:
        return str(sizes[name] + more)
    return "at least 1" if more else "any"


def _with_dtype(value: ArrayLike | AnyTexts, dtype: str) -> NDArray[Any] | StringColumn:
    if dtype != TEXT:
        return np.asarray(value, dtype=np.dtype(dtype))
    return value if isinstance(value, StringColumn) else StringColumn.from_strings(value)  # type: ignore[arg-type]
