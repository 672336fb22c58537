"""Finished files become a raw batch without being loaded, and forgotten users stay out of it."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import parquet
from tunegraph_pipeline.lake.raw import (
    LEFT_OUT,
    BatchInfo,
    RawBatch,
    empty_frame,
    read_batches,
    take_users_out,
    write_batch,
    write_files,
)
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS
from tunegraph_pipeline.lake.tombstones import Tombstones

DAY = date(2026, 9, 6)
SOURCE = "listenbrainz-dumps"
PLAYS = [
    ("listenbrainz:1", "a", date(2026, 9, 1), 3),
    ("listenbrainz:1", "b", None, 2),
    ("listenbrainz:2", "a", date(2026, 9, 2), 1),
]


def files_of(folder: Path, plays: Sequence[tuple[object, ...]] = PLAYS) -> dict[str, Path]:
    """Parquet files as DuckDB writes them: every column may be null."""
    folder.mkdir(exist_ok=True)
    rows = {
        "plays": pl.DataFrame(plays, empty_frame("plays").schema, orient="row"),
        "tracks": pl.DataFrame({"track_id": ["a", "b"], "name": ["A", "B"]}).match_to_schema(
            empty_frame("tracks").schema, missing_columns="insert"
        ),
    }
    files = {part: folder / f"{part}.parquet" for part in rows}
    for part, frame in rows.items():
        nullable = pa.schema([(field.name, field.type) for field in RAW_SCHEMAS[part]])
        pq.write_table(frame.to_arrow().cast(nullable), files[part])
    return files


def write(lake: Path, files: dict[str, Path], day: date = DAY, *, whole: bool = False) -> BatchInfo:
    return write_files(lake / "raw", day, SOURCE, "dump 2653", "abc123", files, {"listens": 6}, whole)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 2)


def test_files_become_a_batch_and_are_gone(tmp_path: Path) -> None:
    files = files_of(tmp_path / "downloads")
    info = write(tmp_path, files, whole=True)
    assert read_batches(tmp_path / "raw", DAY) == [info]
    assert info.is_whole
    assert (info.batch_id, info.rows, info.counts) == ("abc123", {"plays": 3, "tracks": 2}, {"listens": 6})
    assert info.read("plays").rows() == PLAYS
    assert not any(path.exists() for path in files.values())
    assert [info.check(part) for part in info.rows] == [3, 2]


def test_the_same_dump_again_changes_nothing_even_after_somebody_was_forgotten(tmp_path: Path) -> None:
    info = write(tmp_path, files_of(tmp_path / "downloads"))
    assert take_users_out(info, DAY, ["listenbrainz:1"]) == {"listenbrainz:1": 2}
    (left,) = read_batches(tmp_path / "raw", DAY)
    assert left.read("plays").rows() == PLAYS[2:]
    assert left.read("tracks").height == 2
    assert left.batch_id != info.batch_id
    files = files_of(tmp_path / "downloads")
    assert write(tmp_path, files) == left
    assert not files["plays"].exists()


def test_forgotten_users_are_left_out_and_give_the_batch_that_forgetting_them_gives(tmp_path: Path) -> None:
    Tombstones().with_users(["listenbrainz:1", "somebody"]).write(tmp_path)
    info = write(tmp_path, files_of(tmp_path / "downloads"))
    assert info.read("plays").rows() == PLAYS[2:]
    assert info.counts == {"listens": 6, LEFT_OUT: 2}
    before = write(tmp_path / "other", files_of(tmp_path / "downloads"))
    take_users_out(before, DAY, ["listenbrainz:1"])
    (after,) = read_batches(tmp_path / "other" / "raw", DAY)
    assert (after.batch_id, after.rows) == (info.batch_id, info.rows)


def test_the_last_user_leaves_a_batch_of_tracks(tmp_path: Path) -> None:
    info = write(tmp_path, files_of(tmp_path / "downloads"))
    take_users_out(info, DAY, ["listenbrainz:1", "listenbrainz:2"])
    (left,) = read_batches(tmp_path / "raw", DAY)
    assert left.rows == {"tracks": 2}


@pytest.mark.parametrize(
    ("plays", "says"),
    [
        ([("listenbrainz:1", None, None, 1)], "its column track_id has nulls"),
        ([("listenbrainz:1", "a", None, None)], "its column plays has nulls"),
    ],
)
def test_a_file_that_cannot_be_a_part_is_refused_and_stays(
    tmp_path: Path, plays: list[tuple[object, ...]], says: str
) -> None:
    files = files_of(tmp_path / "downloads", plays)
    with pytest.raises(LakeError, match=says):
        write(tmp_path, files)
    assert files["plays"].exists()
    assert read_batches(tmp_path / "raw", DAY) == []


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path / "downloads")
    files["plays"] = files["tracks"]
    with pytest.raises(LakeError, match="cannot become raw plays: its columns are track_id"):
        write(tmp_path, files)


def test_plays_of_an_import_are_a_part_like_any_other(tmp_path: Path) -> None:
    plays = pl.DataFrame(PLAYS, empty_frame("plays").schema, orient="row")
    info = write_batch(tmp_path / "raw", DAY, RawBatch("files", "history.csv", plays=plays))
    assert info.read("plays").equals(plays)
    assert take_users_out(info, DAY, ["listenbrainz:2"]) == {"listenbrainz:2": 1}
    (left,) = read_batches(tmp_path / "raw", DAY)
    assert left.read("plays").rows() == PLAYS[:2]
