"""Opening, making, migrating and mixing lakes; stale days; versions; DuckDB."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake import lake as lake_module
from tunegraph_pipeline.lake import tables
from tunegraph_pipeline.lake.day_fingerprints import day_fingerprint
from tunegraph_pipeline.lake.lake import DAILY_TABLES, MAY_BE_MISSING, Lake, digest, digest_of_texts
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.schemas import TABLES

DAY = date(2026, 3, 1)


def a_batch(track: str = "a") -> RawBatch:
    row = {"user_id": "u", "track_id": track, "liked_at": None}
    return RawBatch("files", "x", likes=pl.DataFrame([row], schema=empty_frame("likes").schema))


def test_a_lake_is_made_once_and_opened_after(tmp_path: Path) -> None:
    made = Lake.open_or_create(tmp_path / "lake")
    assert Lake.open(tmp_path / "lake").file == made.file


def test_opening_where_no_lake_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no lake at"):
        Lake.open(tmp_path)


def test_a_strangers_folder_is_not_turned_into_a_lake(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(LakeError, match=r"photos.*choose another --lake"):
        Lake.open_or_create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_lake_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="choose another --lake"):
        Lake.open_or_create(tmp_path / "file" / "lake")


def test_a_lake_from_a_newer_version_is_refused_and_untouched(tmp_path: Path) -> None:
    Lake.open_or_create(tmp_path)
    path = tmp_path / "lake.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99, "new_field": 1}))
    before = path.read_bytes()
    with pytest.raises(LakeError, match=r"format version 99.*install a newer TuneGraph"):
        Lake.open(tmp_path)
    assert path.read_bytes() == before


def test_a_damaged_description_names_the_file(tmp_path: Path) -> None:
    Lake.open_or_create(tmp_path)
    (tmp_path / "lake.json").write_text("{")
    with pytest.raises(LakeError, match=r"lake\.json is not a lake's description"):
        Lake.open(tmp_path)


def test_an_older_lake_is_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lake.open_or_create(tmp_path)
    steps: list[int] = []
    monkeypatch.setattr(lake_module, "FORMAT_VERSION", lake_module.FORMAT_VERSION + 2)
    monkeypatch.setitem(lake_module.MIGRATIONS, 1, lambda root: steps.append(1))
    monkeypatch.setitem(lake_module.MIGRATIONS, 2, lambda root: steps.append(2))
    assert Lake.open(tmp_path).file.format_version == 3
    assert steps == [1, 2]
    Lake.open(tmp_path)
    assert steps == [1, 2]


def test_simulated_and_real_likes_are_mixed_only_when_asked_for(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    lake.admit_source("simulator")
    with pytest.raises(InputError, match="--mix-sources"):
        Lake.open(tmp_path).admit_source("files")
    Lake.open(tmp_path).admit_source("files", mix=True)
    reopened = Lake.open(tmp_path)
    reopened.admit_source("files")
    assert reopened.file.source == "simulator"


def test_a_day_is_stale_until_its_tables_were_made_of_all_its_batches(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    assert lake.stale_days() == []
    for track in ("a", "b"):
        write_batch(lake.raw, DAY, a_batch(track))
        assert lake.stale_days() == [DAY]
        for name in DAILY_TABLES:
            made_of = day_fingerprint(lake.batches(DAY), name)
            lake.write(name, DAY.isoformat(), tables.empty_table(name), made_of)
        assert lake.stale_days() == []


def test_versions_are_made_current_kept_and_pruned(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    with pytest.raises(LakeError, match="has no models yet"):
        lake.current_folder("models")
    for version in ("v1", "v2", "v3", "v4", "v5"):
        lake.write_version("models", version, lambda folder: (folder / "x").touch())
    assert lake.current_version("models") == "v5"
    kept = {path.name for path in (tmp_path / "models").iterdir() if path.is_dir()}
    assert kept == {"v3", "v4", "v5"}
    lake.write_version("models", "v6", lambda folder: (folder / "x").touch(), spare={"v3", "gone"})
    kept = {path.name for path in (tmp_path / "models").iterdir() if path.is_dir()}
    assert kept == {"v3", "v4", "v5", "v6"}


def test_every_table_has_a_view_from_the_first_day(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as connection:
        for name, spec in TABLES.items():
            relation = connection.sql(f"SELECT * FROM tunegraph.{name}")
            assert relation.fetchall() == []
            assert set(spec.schema.names) <= set(relation.columns)
    lake.write("track_ids", None, pl.DataFrame({"track_idx": [0], "track_id": ["a"]}))
    lake.write("likes", "2026-03-01", a_batch().likes.with_columns(source=pl.lit("files")))
    with lake.connect() as connection:
        assert connection.sql("SELECT track_id FROM tunegraph.track_ids").fetchall() == [("a",)]
        assert connection.sql("SELECT user_id, dt FROM tunegraph.likes_history").fetchall() == [("u", DAY)]


def test_appending_keeps_the_rows_that_were_there(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    for index, track in enumerate("ab"):
        lake.append("track_ids", pl.DataFrame({"track_idx": [index], "track_id": [track]}))
    assert lake.read("track_ids")["track_id"].to_list() == ["a", "b"]


def test_raw_batches_with_a_spoilt_part_name_the_file(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)
    info = write_batch(lake.raw, DAY, a_batch())
    (info.folder / "likes.parquet").write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"likes\.parquet cannot be read"):
        lake.batches(DAY)[0].read("likes")
    (info.folder / "batch.json").write_text("{")
    with pytest.raises(LakeError, match=r"batch\.json cannot be read"):
        lake.batches(DAY)


def test_feedback_and_lists_of_a_day_do_not_make_each_other_stale(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path)

    def prints() -> dict[str, str]:
        return {name: day_fingerprint(lake.batches(DAY), name) for name in DAILY_TABLES}

    nothing = prints()
    said = {"user_id": "u", "track_id": "a", "action": "like", "at": datetime(2026, 1, 1, tzinfo=UTC)}
    row = {**said, "shown": [], "bundle_version": ""}
    feedback = pl.DataFrame([row], schema=empty_frame("feedback").schema)
    write_batch(lake.raw, DAY, RawBatch("feedback", "x", feedback=feedback))
    after_feedback = prints()
    changed = {name for name in DAILY_TABLES if after_feedback[name] != nothing[name]}
    assert changed == {"feedback", "users"}
    write_batch(lake.raw, DAY, a_batch("a"))
    after_lists = prints()
    changed = {name for name in DAILY_TABLES if after_lists[name] != after_feedback[name]}
    assert changed == set(DAILY_TABLES) - {"feedback", *MAY_BE_MISSING}


def test_what_a_dead_writer_left_is_removed_wherever_it_was_drafted(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    drafts = [lake.staging / "a", lake.serving / ".staging" / "b"]
    for draft in drafts:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text("half")
    with lake.writing("a writer that ends well"):
        pass
    assert all(draft.exists() for draft in drafts)
    (lake.root / ".lock.holder.json").write_text("{}")
    with lake.writing("the next one") as warning:
        assert warning is not None
    assert not any(draft.exists() for draft in drafts)


@pytest.mark.parametrize("texts", [[], ["a"], ["a", 'b "c" \\', "ж", ""]])
def test_texts_have_one_digest_as_a_list_and_one_by_one(texts: list[str]) -> None:
    assert digest_of_texts(iter(texts)) == digest(texts)
