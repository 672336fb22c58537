"""Parcels arrive as they were left, are there whole or not at all, and may be made twice."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.engine import workspace
from tunegraph_pipeline.engine.engine import Files, Input
from tunegraph_pipeline.engine.workspace import FolderWorkspace
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.arrays import StringColumn


@pytest.fixture
def place(tmp_path: Path) -> FolderWorkspace:
    made = FolderWorkspace.below(tmp_path / "staging")
    made.prepare()
    return made


def test_a_parcel_arrives_as_it_was_left(place: FolderWorkspace, tmp_path: Path) -> None:
    sent: dict[str, Input] = {
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
        "none": np.zeros(0, dtype=np.float64),
        "number": np.array(7),
        "strings": StringColumn.from_strings(["a", "", "ö"]),
        "rows": pl.DataFrame({"user_id": ["u", None], "n": [1, 2]}),
        "no rows": pl.DataFrame({"user_id": pl.Series([], dtype=pl.String)}),
        "text": "a line",
        "missing": None,
        "files": Files.of(tmp_path, [tmp_path / "b" / "c", tmp_path / "a"]),
    }
    place.put("parcel", sent)
    found = place.get("parcel")
    assert list(found) == list(sent)
    for name in ("array", "none", "number"):
        array, expected = found[name], sent[name]
        assert isinstance(array, np.ndarray)
        assert isinstance(expected, np.ndarray)
        assert array.dtype == expected.dtype
        assert np.array_equal(array, expected)
    strings = found["strings"]
    assert isinstance(strings, StringColumn)
    assert strings.tolist() == ["a", "", "ö"]
    for name in ("rows", "no rows"):
        rows, expected = found[name], sent[name]
        assert isinstance(rows, pl.DataFrame)
        assert isinstance(expected, pl.DataFrame)
        assert rows.equals(expected)
        assert rows.schema == expected.schema
    assert (found["text"], found["missing"]) == ("a line", None)
    assert found["files"] == Files(tmp_path, ("a", "b/c"))


def test_arrays_may_be_written_to_and_the_parcel_stays(place: FolderWorkspace) -> None:
    place.put("parcel", {"array": np.zeros(3)})
    array = place.get("parcel")["array"]
    assert isinstance(array, np.ndarray)
    array += 1  # sparse_dot_topn takes no array that is read-only
    again = place.get("parcel")["array"]
    assert isinstance(again, np.ndarray)
    assert again.tolist() == [0, 0, 0]


def test_a_parcel_that_is_dropped_stays_with_whoever_has_it(place: FolderWorkspace) -> None:
    place.put("parcel", {"array": np.arange(3), "rows": pl.DataFrame({"n": [1]})})
    found = place.get("parcel")
    place.drop("parcel")
    array, rows = found["array"], found["rows"]
    assert isinstance(array, np.ndarray)
    assert isinstance(rows, pl.DataFrame)
    assert array.tolist() == [0, 1, 2]
    assert rows["n"].to_list() == [1]
    with pytest.raises(FileNotFoundError):
        place.get("parcel")


def test_a_parcel_made_twice_is_one(place: FolderWorkspace) -> None:
    for _ in range(2):
        place.put("parcel", {"array": np.arange(3)})
    assert [path.name for path in place.folder.iterdir()] == ["parcel"]


def test_a_parcel_is_there_whole_or_not_at_all(
    place: FolderWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workspace, "write_parcel", fail)
    with pytest.raises(LakeError, match="the disk is full"):
        place.put("parcel", {"array": np.arange(3)})
    assert not [*place.folder.iterdir()]


def test_after_the_end_nothing_can_be_left(place: FolderWorkspace) -> None:
    place.put("parcel", {})
    place.clear()
    with pytest.raises(FileNotFoundError):
        place.put("late", {"array": np.arange(3)})
    assert not place.folder.exists()
