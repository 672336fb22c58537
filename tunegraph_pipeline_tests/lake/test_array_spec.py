"""Declared arrays: a folder that is as declared opens, and one that is not is refused by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import numpy as np
import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.array_spec import (
    NEUTRAL,
    TEXT,
    ArraySpec,
    Texts,
    as_declared,
    checked_arrays,
    declared_fields,
    offsets,
    optional,
    specs_of,
    stored,
)
from tunegraph_pipeline.lake.arrays import (
    ArrayFolder,
    Float32,
    Int8,
    Int32,
    Int64,
    StringColumn,
    write_arrays,
)

SPECS = (
    ArraySpec("ids", TEXT, ("users",), "who"),
    ArraySpec("indptr", "<i8", ("users+1",), "where each list begins", ends_at="likes"),
    ArraySpec("tracks", "<i4", ("likes",), "the lists"),
    ArraySpec("when", "<i8", ("likes",), "the day of each like", optional=True),
    ArraySpec("places", "<f4", ("songs", 2), "places on a map"),
)
VALUES: dict[str, Any] = {
    "ids": ["ann", "bob"],
    "indptr": [0, 2, 3],
    "tracks": [4, 5, 4],
    "when": [1, 2, 3],
    "places": np.zeros((7, 2)),
}


def write(folder: Path, **changes: Any) -> ArrayFolder:
    arrays = as_declared(SPECS, VALUES)
    arrays |= {name: value for name, value in changes.items() if value is not None}
    kept = {name: value for name, value in arrays.items() if changes.get(name, value) is not None}
    write_arrays(folder, kept, {})
    return ArrayFolder.open(folder)


def test_what_was_written_as_declared_opens_with_the_sizes_of_it(tmp_path: Path) -> None:
    arrays, sizes = checked_arrays(write(tmp_path / "f"), SPECS, "a folder")
    assert list(arrays) == [spec.name for spec in SPECS]
    ids, tracks, places = arrays["ids"], arrays["tracks"], arrays["places"]
    assert (ids.tolist(), tracks.tolist(), places.shape) == (["ann", "bob"], [4, 5, 4], (7, 2))
    assert (tracks.dtype.str, places.dtype.str) == ("<i4", "<f4")
    assert sizes == {"users": 2, "bytes of ids": 6, "likes": 3, "songs": 7}


def test_an_optional_array_that_is_missing_is_neutral_and_others_are_not_looked_at(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", when=None, other=np.zeros(3))
    arrays, _ = checked_arrays(folder, SPECS, "a folder")
    assert (arrays["when"].tolist(), arrays["when"].dtype.str) == ([0, 0, 0], "<i8")
    assert "other" not in arrays


def test_a_folder_may_lack_whatever_is_optional(tmp_path: Path) -> None:
    write_arrays(tmp_path / "f", {}, {})
    specs = (*optional(SPECS), ArraySpec("shade", "<f4", (2,), "how dark", optional=True, neutral=0.5))
    arrays, sizes = checked_arrays(ArrayFolder.open(tmp_path / "f"), specs, "a folder")
    assert (arrays["ids"].tolist(), arrays["indptr"].tolist(), arrays["places"].shape) == ([], [0], (0, 2))
    assert arrays["shade"].tolist() == [0.5, 0.5]
    assert sizes == {}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tracks": None}, "has no part tracks.npy"),
        ({"tracks": np.zeros(3)}, "tracks.npy is <f8 of shape (3,), a folder needs <i4 of 3"),
        ({"tracks": np.zeros(4, np.int32)}, "tracks.npy is <i4 of shape (4,), a folder needs <i4 of 3"),
        ({"when": np.zeros(2, np.int64)}, "when.npy is <i8 of shape (2,), a folder needs <i8 of 3"),
        ({"indptr": np.array([0, 2])}, "indptr.npy is <i8 of shape (2,), a folder needs <i8 of 3"),
        ({"indptr": np.array([0, 2, 4])}, "tracks.npy is <i4 of shape (3,), a folder needs <i4 of 4"),
        (
            {"places": np.zeros(7, np.float32)},
            "places.npy is <f4 of shape (7,), a folder needs <f4 of any x 2",
        ),
        ({"places": np.zeros((7, 3), np.float32)}, "a folder needs <f4 of any x 2"),
        (
            {"ids": StringColumn(np.zeros(0, np.uint8), np.zeros(0, np.int64))},
            "ids.offsets.npy is <i8 of shape (0,), a folder needs <i8 of at least 1",
        ),
        (
            {"ids": StringColumn(np.zeros(5, np.uint8), np.array([0, 3, 6]))},
            "ids.bytes.npy is |u1 of shape (5,), a folder needs |u1 of 6",
        ),
    ],
)
def test_what_is_not_as_declared_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    folder = write(tmp_path / "f", **changes)
    with pytest.raises(BundleError) as refusal:
        checked_arrays(folder, SPECS, "a folder")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_two_arrays_of_offsets_that_end_apart_are_refused(tmp_path: Path) -> None:
    specs = (*SPECS, ArraySpec("other", "<i8", ("any+1",), "offsets too", ends_at="likes"))
    folder = write(tmp_path / "f", other=np.array([0, 5]))
    with pytest.raises(BundleError, match=r"other\.npy ends at 5, a folder needs 3 \(likes\)"):
        checked_arrays(folder, specs, "a folder")


def test_a_value_too_few_or_too_many_is_not_written() -> None:
    with pytest.raises(ValueError, match="not declared: indptr"):
        as_declared(SPECS, {name: value for name, value in VALUES.items() if name != "indptr"})
    with pytest.raises(ValueError, match="not declared: more"):
        as_declared(SPECS, {**VALUES, "more": [1]})
    without = as_declared(SPECS, {name: value for name, value in VALUES.items() if name != "when"})
    assert "when" not in without


def test_a_value_of_none_is_missing() -> None:
    assert "when" not in as_declared(SPECS, {**VALUES, "when": None})
    with pytest.raises(ValueError, match="not declared: places"):
        as_declared(SPECS, {**VALUES, "places": None})


# ---- declared as fields


@dataclass(frozen=True, eq=False, kw_only=True)
class Lists(Generic[Texts]):
    ids: Annotated[Texts, stored("users", "who")]
    indptr: Annotated[Int64, offsets("users", "likes", "where each list begins")]
    tracks: Annotated[Int32, stored("likes", "the lists")]
    when: Annotated[Int64, stored("likes", "the day of each like", optional=True)]


class Places(Lists[StringColumn]):
    places: Annotated[Float32, stored("songs x 2", "places on a map")]


@dataclass(frozen=True, eq=False, kw_only=True)
class Marked(Lists[Sequence[str]]):
    """Lists with arrays that may be left out, and a field that is no array of the folder."""

    mark: Annotated[Int8, stored("users", "a mark", neutral=-1)] = NEUTRAL
    same: Annotated[Int32, stored("users", "the user each user is", neutral="row")] = NEUTRAL
    nicknames: Annotated[Sequence[str], stored("users", "other names")] = NEUTRAL
    version: int = 3


def test_fields_declare_the_same_as_a_list() -> None:
    assert specs_of(Places) == SPECS
    assert [spec.name for spec in specs_of(Marked)] == [*list(VALUES)[:4], "mark", "same", "nicknames"]


def test_a_number_is_an_array_of_one_and_text_may_be_a_list() -> None:
    class Numbers:
        n_tracks: Annotated[int, stored("1", "the number of tracks", ends_at="tracks")]
        names: Annotated[Sequence[str], stored("tracks", "their names")]

    number, names = specs_of(Numbers)
    assert number == ArraySpec("n_tracks", "<i8", (1,), "the number of tracks", ends_at="tracks")
    assert names.dtype == TEXT


def test_a_type_that_no_array_has_is_refused() -> None:
    class Wrong:
        tracks: Annotated[Int32 | None, stored("likes", "the lists")]

    with pytest.raises(TypeError, match="NoneType"):
        specs_of(Wrong)


def test_what_was_left_out_is_neutral() -> None:
    given = {name: value for name, value in VALUES.items() if name != "places"}
    found = declared_fields(Marked(**given), {"users": 2})
    assert (found["mark"].tolist(), found["mark"].dtype.str) == ([-1, -1], "|i1")
    assert (found["same"].tolist(), found["nicknames"].tolist()) == ([0, 1], ["", ""])
    assert {name: found[name] for name in given} == given
    assert "version" not in found
    assert declared_fields(Marked(**given, nicknames=["a", "b"]), {"users": 2})["nicknames"] == ["a", "b"]
