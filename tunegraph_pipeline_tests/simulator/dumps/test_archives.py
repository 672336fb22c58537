"""Dumps as files: their names, shapes and checksums, and what is in which."""

import csv
import hashlib
import io
import tarfile
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dumps.archives import (
    CANONICAL_FOLDER,
    FULL_FOLDER,
    INCREMENTAL_FOLDER,
    dump_number,
    mirror_world,
    publish,
    publish_canonical,
    publish_full,
    publish_incremental,
)
from tunegraph_pipeline.simulator.dumps.listens import ListensConfig, ListenWorld

FIRST, NEXT = date(2026, 9, 1), date(2026, 9, 4)
CONFIG = ListensConfig(
    n_users=100,
    n_songs=300,
    start=date(2026, 8, 20),
    first_full=FIRST,
    full_days=(1, 4),
    listens_a_day=800,
    history=400,
    deleted_share=0.05,
    bots=1,
    bot_listens=200,
    shared_accounts=1,
    shared_listens=100,
    member_rows=2_000,
    row_group_rows=1_500,
)
KEY = ["user_id", "listened_at", "recording_msid"]


@pytest.fixture(scope="module")
def world() -> ListenWorld:
    return ListenWorld(CONFIG)


@pytest.fixture(scope="module")
def mirror(world: ListenWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    publish(world, folder, NEXT)
    return folder


def archives(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.tar"))


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            one.name.removeprefix(f"{archive.stem}/"): file.read()
            for one in tar
            if (file := tar.extractfile(one)) is not None
        }


def listens(archive: Path) -> pl.DataFrame:
    parts = [content for name, content in members(archive).items() if name.endswith(".parquet")]
    times = pl.col("listened_at", "created").cast(pl.Datetime("ms"))
    return pl.concat([pl.read_parquet(io.BytesIO(part)).with_columns(times) for part in parts])


def test_the_tree_is_that_of_metabrainz(mirror: Path) -> None:
    assert [path.relative_to(mirror).as_posix() for path in archives(mirror / FULL_FOLDER)] == [
        f"{FULL_FOLDER}/listenbrainz-dump-{stamp}/listenbrainz-spark-dump-{stamp}.tar"
        for stamp in ("2513-20260901-000004-full", "2517-20260904-000004-full")
    ]
    assert [path.name for path in archives(mirror / INCREMENTAL_FOLDER)] == [
        f"listenbrainz-spark-dump-{stamp}.tar"
        for stamp in (
            "2514-20260902-000002-incremental",
            "2515-20260903-000002-incremental",
            "2516-20260904-000002-incremental",
        )
    ]
    for checksum in mirror.rglob("*.sha256"):
        digest, name = checksum.read_text().split()
        assert hashlib.sha256(checksum.with_name(name).read_bytes()).hexdigest() == digest
    assert len(list(mirror.rglob("*.sha256"))) == 6


def test_an_archive_says_what_it_holds(mirror: Path) -> None:
    full = members(archives(mirror / FULL_FOLDER)[0])
    incremental = members(archives(mirror / INCREMENTAL_FOLDER)[0])

    names = list(full)
    assert names[:4] == ["SCHEMA_SEQUENCE", "START_TIMESTAMP", "END_TIMESTAMP", "COPYING"]
    assert names[4:] == [f"{i}.parquet" for i in range(len(names) - 4)]
    assert full["SCHEMA_SEQUENCE"] == b"1"
    assert full["END_TIMESTAMP"] == b"2026-09-01 00:00:04+00:00"
    assert incremental["START_TIMESTAMP"] == b"2026-09-01 00:00:04+00:00"
    assert incremental["END_TIMESTAMP"] == b"2026-09-02 00:00:02+00:00"
    assert full["COPYING"].startswith(b"CC0 1.0")


def test_files_have_the_published_columns_and_three_forms_of_time(mirror: Path) -> None:
    content = members(archives(mirror / FULL_FOLDER)[0])
    files = [pq.ParquetFile(io.BytesIO(part)) for name, part in content.items() if name.endswith(".parquet")]
    *_, before_last, last = files

    assert {file.schema_arrow.remove_metadata().field("listened_at").type for file in files} == {
        pa.timestamp("ns"),
        pa.timestamp("ms"),
    }
    for file in files:
        assert file.schema_arrow.names == [
            *("listened_at", "created", "user_id", "recording_msid", "artist_name", "artist_credit_id"),
            *("release_name", "release_mbid", "recording_name", "recording_mbid", "artist_credit_mbids"),
        ]
        column = file.metadata.row_group(0).column(0)
        assert column.is_stats_set == (file.schema_arrow.field("listened_at").type == pa.timestamp("ms"))
    assert {file.metadata.row_group(0).column(0).physical_type for file in files} == {"INT96", "INT64"}
    assert before_last.metadata.num_rows == 2_000
    assert before_last.metadata.num_row_groups == 2
    assert 0 < last.metadata.num_rows <= 2_000


def test_a_full_export_is_in_the_order_of_playing_and_begins_a_file_with_a_year(mirror: Path) -> None:
    archive = archives(mirror / FULL_FOLDER)[0]
    parts = [
        pl.read_parquet(io.BytesIO(content))["listened_at"].cast(pl.Datetime("ms"))
        for name, content in members(archive).items()
        if name.endswith(".parquet")
    ]
    played = pl.concat(parts)

    assert played.is_sorted()
    assert all(part.dt.year().n_unique() == 1 for part in parts)
    assert played.dt.year().n_unique() == 22
    assert (played < datetime(2026, 9, 1, 0, 0, 5)).all()


def test_increments_lead_from_one_full_export_to_the_next(mirror: Path) -> None:
    before, after = (listens(path) for path in archives(mirror / FULL_FOLDER))
    between = [listens(path) for path in archives(mirror / INCREMENTAL_FOLDER)]
    everything = pl.concat([before, *between])

    assert everything.select(KEY).is_unique().all()
    assert after.select(KEY).is_unique().all()
    assert after.join(everything, on=KEY, how="anti").is_empty()
    deleted = everything.join(after, on=KEY, how="anti").height
    assert 0 < deleted < 0.05 * everything.height
    for part in between:
        assert part["created"].is_sorted()
        assert part["listened_at"].dt.year().n_unique() > 15
    for i, part in enumerate(between):
        day = datetime.combine(FIRST + timedelta(days=i), datetime.min.time())
        assert part["created"].is_between(day, day + timedelta(days=1, seconds=3)).all()


def test_the_same_world_gives_the_same_bytes(world: ListenWorld, mirror: Path, tmp_path: Path) -> None:
    fresh = ListenWorld(CONFIG)
    again = [publish_full(world, tmp_path, FIRST), publish_incremental(fresh, tmp_path, NEXT)]
    again.append(publish_canonical(fresh, tmp_path, FIRST))

    for folder in again:
        for file in folder.iterdir():
            assert file.read_bytes() == (mirror / file.relative_to(tmp_path)).read_bytes()


def test_canonical_data_is_three_tables_in_a_compressed_archive(world: ListenWorld, mirror: Path) -> None:
    (archive,) = (mirror / CANONICAL_FOLDER).glob("*/*.tar.zst")
    with pa.CompressedInputStream(archive, "zstd") as stream:
        content = stream.read()
    tables = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            if member.name.endswith(".csv"):
                folder, name = member.name.split("/")[-2:]
                assert folder == "canonical"
                tables[name] = list(csv.DictReader(io.StringIO(file.read().decode())))
    names = tables["canonical_musicbrainz_data.csv"]

    assert [row["recording_mbid"] for row in names] == world.songs.canonical["recording_mbid"].to_list()
    assert [row["recording_name"] for row in names] == world.songs.canonical["recording_name"].to_list()
    assert len(tables["canonical_recording_redirect.csv"]) == world.songs.redirects.height
    assert set(tables) == {
        *("canonical_musicbrainz_data.csv", "canonical_recording_redirect.csv"),
        "canonical_release_redirect.csv",
    }


def test_a_mirror_follows_the_days_and_forgets_old_dumps(world: ListenWorld, tmp_path: Path) -> None:
    first = publish(world, tmp_path, FIRST + timedelta(days=1), kept_days=2)
    second = publish(world, tmp_path, FIRST + timedelta(days=2), kept_days=2)
    third = publish(world, tmp_path, NEXT, kept_days=2)

    assert [len(first), len(second), len(third)] == [3, 1, 2]
    assert len(archives(tmp_path / INCREMENTAL_FOLDER)) == 2
    assert len(archives(tmp_path / FULL_FOLDER)) == 2
    assert publish(world, tmp_path, NEXT, kept_days=2) == []
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_numbers_of_dumps_follow_one_another(world: ListenWorld) -> None:
    days = [FIRST + timedelta(days=i) for i in range(31)]
    numbers = []
    for day in days:
        numbers.append(dump_number(world, day, full=False))
        if day.day in CONFIG.full_days:
            numbers.append(dump_number(world, day, full=True))

    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_days_without_a_dump_are_refused(world: ListenWorld, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no full export of 2026-09-02"):
        publish_full(world, tmp_path, date(2026, 9, 2))
    with pytest.raises(InputError, match="the first is of the day after 2026-08-20"):
        publish_incremental(world, tmp_path, date(2026, 8, 20))
    with pytest.raises(InputError, match="the first full export is of 2026-09-01, after 2026-08-31"):
        publish(world, tmp_path, date(2026, 8, 31))
    assert not list(tmp_path.iterdir())


def test_a_folder_keeps_its_world(tmp_path: Path) -> None:
    folder = tmp_path / "mirror"
    made = mirror_world(folder, CONFIG)
    later = CONFIG.model_copy(update={"start": date(2026, 8, 23), "first_full": NEXT})

    assert made.config == CONFIG
    assert mirror_world(folder, later).config == CONFIG
    with pytest.raises(InputError, match=r"another world \(100 users, 300 songs, seed 7\)"):
        mirror_world(folder, CONFIG.model_copy(update={"n_songs": 301}))
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="something else than simulated dumps"):
        mirror_world(tmp_path, CONFIG)
    (folder / ".world.json").write_text("{")
    with pytest.raises(InputError, match="describes no simulated dumps"):
        mirror_world(folder, CONFIG)
