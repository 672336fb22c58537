"""What verify says of checksums, in a lake of an earlier version, which has none, and after it got them."""

import os
import shutil
import tarfile
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import views
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.test_earlier_lakes import ARCHIVE


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)
    Lake.open(folder / "lake").refresh_views()
    return folder / "lake"


@pytest.fixture(scope="module")
def repaired(archived: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(archived, tmp_path_factory.mktemp("repaired") / "lake")
    verify(root, repair=True)
    return root


@pytest.fixture
def earlier(archived: Path, tmp_path: Path) -> Lake:
    return Lake.open(shutil.copytree(archived, tmp_path / "lake"))


@pytest.fixture
def lake(repaired: Path, tmp_path: Path) -> Lake:
    return Lake.open(shutil.copytree(repaired, tmp_path / "repaired"))


def a_table(lake: Lake) -> Path:
    return lake.table_path("likes", lake.partitions("likes")[-1])


def put(path: Path, content: bytes) -> None:
    """Put another content in place of a file, at the time of its last change, as a disk damages it."""
    changed = path.stat().st_mtime_ns
    draft = path.with_name("draft")
    draft.write_bytes(content)
    os.utime(draft, ns=(changed, changed))
    draft.replace(path)


def flip_in_metadata(path: Path) -> None:
    """Flip a bit that every reader of parquet accepts."""
    content = path.read_bytes()
    assert content.count(b"tunegraph.inputs") == 1
    put(path, content.replace(b"tunegraph.inputs", b"tuneGraph.inputs"))


def test_files_without_a_checksum_are_counted(earlier: Lake) -> None:
    found = verify(earlier.root)
    assert found.problems == []
    (note,) = found.notes
    assert note.what.endswith("files have no checksum: earlier versions wrote none")


def test_the_repair_gives_each_a_checksum_and_changes_nothing_else(earlier: Lake, lake: Lake) -> None:
    assert verify(lake.root).problems + verify(lake.root).notes == []
    table = a_table(earlier)
    assert a_table(lake).stat().st_mtime_ns == table.stat().st_mtime_ns
    for name in ("likes", "tracks", "users"):
        for day in lake.partitions(name):
            assert lake.read(name, day).equals(earlier.read(name, day))
            assert lake.inputs_of(name, day) == earlier.inputs_of(name, day)


def test_sql_finds_what_is_current_by_names_with_a_checksum(lake: Lake, earlier: Lake) -> None:
    for one in (lake, earlier):
        with one.connect() as connection:
            (users,) = connection.execute(
                "SELECT count(DISTINCT user_id) FROM tunegraph.current_likes"
            ).fetchall()
            assert users == (48,)
    name = lake.current_file("current_likes")
    put(name, name.read_bytes().replace(b"2026", b"2027"))
    with pytest.raises(LakeError, match="current_likes/CURRENT cannot be read"):
        lake.connect()


def test_a_damaged_file_is_not_given_one(earlier: Lake) -> None:
    path = earlier.current_folder("co_like") / "degrees.npy"
    put(path, path.read_bytes()[:-1] + b"\xff")
    found = verify(earlier.root, repair=True)
    assert [one.file for one in found.problems] == [path.relative_to(earlier.root).as_posix()]
    assert not path.parent.exists()


def test_settings_that_somebody_edited_count_and_are_noted(lake: Lake) -> None:
    lake.path.write_text(lake.path.read_text().replace('"mixed": false', '"mixed": true'))
    assert Lake.open(lake.root).file.mixed
    found = verify(lake.root, repair=True)
    assert found.problems == []
    assert [(note.file, note.what) for note in found.notes] == [
        ("lake.json", "has changed since TuneGraph wrote it, and counts as it is")
    ]
    assert verify(lake.root).notes == []
    assert Lake.open(lake.root).file.mixed


def test_a_flipped_bit_that_readers_accept_is_found_and_the_day_is_filled_again(lake: Lake) -> None:
    day = lake.partitions("likes")[-1]
    before = lake.read("likes", day)
    flip_in_metadata(a_table(lake))
    assert len(pq.read_table(a_table(lake), partitioning=None)) == len(before)
    (problem,) = verify(lake.root).problems
    assert problem.what == "cannot be read (it does not match its checksum)"
    with pytest.raises(LakeError, match=r"likes/.* cannot be read \(it does not match its checksum\)"):
        lake.connect()
    assert lake.stale_days() == [date.fromisoformat(day)]
    run_stages(lake, "daily_tables", date.fromisoformat(day), date.fromisoformat(day))
    assert lake.read("likes", day).equals(before)
    assert verify(lake.root).problems == []


def test_what_duckdb_cannot_read_is_one_line_that_names_the_file(earlier: Lake) -> None:
    path = earlier.table_path("track_ids")
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    put(path, content[:footer] + b"\xff" * 20 + content[footer + 20 :])
    with pytest.raises(LakeError) as caught:
        earlier.connect()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} cannot be read by DuckDB (")
    assert str(caught.value).endswith("; run `tunegraph verify`")
    with pytest.raises(LakeError, match=r"track_ids/data\.parquet cannot be read by DuckDB"):
        views.update_file(earlier.views, earlier.root, anew=True)
