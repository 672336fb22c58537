"""Array folders give back what was written, and refuse what was damaged."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import (
    ArrayAppender,
    ArrayFolder,
    GrowingStrings,
    StringColumn,
    write_arrays,
)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_column_of_strings_gives_back_every_string(strings: list[str]) -> None:
    column = StringColumn.from_strings(strings)
    assert column.tolist() == strings
    assert [column[i] for i in range(len(column))] == strings


def test_a_column_refuses_an_index_it_does_not_have() -> None:
    with pytest.raises(IndexError):
        StringColumn.from_strings(["a"])[1]


def _write(folder: Path) -> Path:
    folder.mkdir()
    with ArrayAppender(folder / "streamed.npy", np.int32) as out:
        out.append([1, 2])
        out.append(np.arange(3))
    write_arrays(
        folder,
        {"matrix": np.eye(3, dtype=np.float32), "names": StringColumn.from_strings(["x", "é", ""])},
        {"version": "v1"},
    )
    return folder


def test_a_folder_maps_what_was_written_and_streamed(tmp_path: Path) -> None:
    opened = ArrayFolder.open(_write(tmp_path / "f"))
    opened.verify()
    assert opened.facts == {"version": "v1"}
    assert opened["streamed"].tolist() == [1, 2, 0, 1, 2]
    assert opened.strings("names").tolist() == ["x", "é", ""]
    assert np.array_equal(opened["matrix"], np.eye(3))
    assert not opened["matrix"].flags.writeable


def test_an_empty_stream_is_an_empty_array(tmp_path: Path) -> None:
    with ArrayAppender(tmp_path / "none.npy", np.int64):
        pass
    assert np.load(tmp_path / "none.npy").shape == (0,)


def test_a_part_that_is_missing_cut_or_of_another_shape_is_named(tmp_path: Path) -> None:
    for spoil in ("missing", "cut", "shape"):
        folder = _write(tmp_path / spoil)
        part = folder / "matrix.npy"
        if spoil == "missing":
            part.unlink()
        elif spoil == "cut":
            part.write_bytes(part.read_bytes()[:-4])
        else:
            np.save(part, np.eye(3, dtype=np.float32).reshape(9)[:, None].copy())
        with pytest.raises(BundleError, match=r"matrix\.npy"):
            ArrayFolder.open(folder)


def test_a_flipped_byte_passes_opening_and_fails_verification(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f")
    part = folder / "matrix.npy"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(bytes(content))
    opened = ArrayFolder.open(folder)
    with pytest.raises(BundleError, match=r"matrix\.npy does not match its checksum"):
        opened.verify()


def test_a_folder_without_a_readable_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"):
        ArrayFolder.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="manifest"):
        ArrayFolder.open(tmp_path)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("name", ["matrix.npy", "manifest.json"])
def test_damage_anywhere_is_refused_or_does_no_harm(tmp_path: Path, name: str) -> None:
    """Whatever byte it strikes, of a header that numpy has Python parse or of the manifest."""
    folder = _write(tmp_path / "f")
    sound = {part: ArrayFolder.open(folder)[part].tolist() for part in ("matrix", "streamed")}
    path = folder / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change in (0x01, 0x0A, 0x55, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(bytes(damaged))
            with suppress(BundleError):
                opened = ArrayFolder.open(folder)
                opened.verify()
                assert name == "manifest.json"  # of which there is no checksum
                assert {part: opened[part].tolist() for part in sound} == sound


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=5)))
def test_growing_strings_are_those_of_all_parts(parts: list[list[str]]) -> None:
    growing = GrowingStrings()
    for part in parts:
        column = StringColumn.from_strings(["before", *part])
        growing.append(StringColumn(column.bytes, column.offsets[1:]))  # a part of another column
    found, expected = growing.whole(), StringColumn.from_strings([text for part in parts for text in part])
    assert found.tolist() == expected.tolist()
    np.testing.assert_array_equal(found.bytes, expected.bytes)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
