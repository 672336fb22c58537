"""A damaged file of any kind is found and named, and what verify advises puts the lake right again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import CoLike, what_is_wrong
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.lake.arrays import ArrayFolder, StringColumn, write_arrays
from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.lock import write_lock
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, prune_day, write_batch
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.lake.seals import sealed_name
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline.pipeline.deletion_requests import pending_requests, request
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.stale_versions import users_left
from tunegraph_pipeline.pipeline.verify.inspection import Finding, Report
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.publication import publications
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

FIRST, LAST = date(2026, 2, 1), date(2026, 2, 2)
SETTINGS = {"dimension": 16, "epochs": 2}


def likes_of(day: date) -> pl.DataFrame:
    """40 users in two scenes; on the later day half of them are seen again, with one song more."""
    rows = []
    for user in range(40) if day == FIRST else range(0, 40, 2):
        scene = "rock" if user < 20 else "jazz"
        for step in range(8 if day == FIRST else 9):
            rows.append({"user_id": f"user{user}", "track_id": f"{scene}{(user * 5 + step * step) % 16}"})
    return pl.DataFrame(rows).unique(maintain_order=True)


def a_batch(day: date) -> RawBatch:
    likes = likes_of(day).with_columns(liked_at=pl.lit(None, pl.Datetime("us", "UTC")))
    ids = likes["track_id"].unique().sort()
    tracks = pl.DataFrame(
        [
            {"track_id": one, "name": f"Song {one}", "artists": [one[:4]], "artist_ids": [one[:4]]}
            for one in ids
        ],
        schema=empty_frame("tracks").schema,
    )
    features = pl.DataFrame(
        [{"track_id": one, "tempo": 100.0 + n, "energy": None} for n, one in enumerate(ids)],
        schema=empty_frame("features").schema,
    )
    plays = [(f"user{user}", "jazz3", day, 2) for user in (1, 3) for day in (FIRST, LAST)]
    played = pl.DataFrame(plays if day == LAST else [], empty_frame("plays").schema, orient="row")
    # A redirect of an id that nobody has joins nothing.
    redirects = pl.DataFrame({"track_id": ["gone"], "recording_id": ["also gone"]})
    return RawBatch(
        "files",
        f"likes of {day}.csv",
        likes=likes,
        tracks=tracks,
        features=features,
        plays=played,
        redirects=redirects,
    )


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake of two days, refreshed after each of them, with something said by a listener."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        lake = Lake.open_or_create(tmp_path_factory.mktemp("verify") / "lake")
        lake.admit_source("files")
        lake.set_section("training", SETTINGS)
        for day in (FIRST, LAST):
            write_batch(lake.raw, day, a_batch(day))
            if day == LAST:
                said = {"user_id": "user1", "track_id": "rock3", "action": "dislike", "bundle_version": ""}
                row = {**said, "at": datetime(2026, 2, 2, 12, tzinfo=UTC), "shown": []}
                feedback = pl.DataFrame([row], schema=empty_frame("feedback").schema)
                write_batch(lake.raw, day, RawBatch("feedback", "what listeners said", feedback=feedback))
            run_stages(lake, "refresh", day, day)
            lake.refresh_views()
        yield lake.root


@pytest.fixture
def lake(refreshed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Lake.open(shutil.copytree(refreshed, tmp_path / "lake"))


def refresh(lake: Lake) -> None:
    stale = lake.stale_days() or [LAST]
    run_stages(lake, "refresh", min(stale), max(stale), {"crawled_users": {"source": "none"}})
    lake.refresh_views()


def files(found: Report) -> set[str]:
    return {finding.file for finding in found.problems}


def current(lake: Lake, kind: str) -> str:
    return (lake.root / kind / "CURRENT").read_text().strip()


def daily(table: str) -> Callable[[Lake], Path]:
    # A day on which the table has rows, and the current cut-off.
    return lambda lake: lake.table_path(table, LAST.isoformat())


def part(kind: str, name: str) -> Callable[[Lake], Path]:
    return lambda lake: lake.root / kind / current(lake, kind) / name


def at(*names: str) -> Callable[[Lake], Path]:
    return lambda lake: lake.root.joinpath(*names)


def raw_file(name: str) -> Callable[[Lake], Path]:
    return lambda lake: next(lake.raw.glob(f"dt={LAST}/files-*")) / name


CUT_OFF_TABLES = [name for name, spec in TABLES.items() if spec.partition is Partition.CUT_OFF]
DERIVED: dict[str, Callable[[Lake], Path]] = {
    **{table: daily(table) for table in DAILY_TABLES},
    **{table: daily(table) for table in CUT_OFF_TABLES},
    "track_ids": at("track_ids", "data.parquet"),
    "like_graph part": part("like_graph", "indices.npy"),
    "like_graph manifest": part("like_graph", "manifest.json"),
    "like_graph CURRENT": at("like_graph", "CURRENT"),
    "current_likes CURRENT": at("current_likes", "CURRENT"),
    "co_like part": part("co_like", "degrees.npy"),
    "co_like manifest": part("co_like", "manifest.json"),
    "models part": part("models", "embeddings.npy"),
    "models weights": part("models", "weights.safetensors"),
    "track_embeddings": lambda lake: lake.table_path("track_embeddings", current(lake, "models")),
    "user_recommendations": lambda lake: lake.table_path("user_recommendations", current(lake, "serving")),
    "evaluation": at("evaluation", "data.parquet"),
    "bundle part": part("serving", "user_tracks.npy"),
    "bundle manifest": part("serving", "manifest.json"),
    "serving CURRENT": at("serving", "CURRENT"),
    "publications.jsonl": at("serving", "publications.jsonl"),
    "lake.duckdb": at("lake.duckdb"),
    "figures": lambda lake: lake.figures_of("evaluation", current(lake, "serving")) / "figures.json",
}
RAW = {"raw part": raw_file("likes.parquet"), "batch.json": raw_file("batch.json")}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    """As many bytes as before, none of them as it was."""
    path.write_bytes(bytes(byte ^ 0xA5 for byte in path.read_bytes()))


DAMAGE = pytest.mark.parametrize("damage", [truncate, garble])
# Damaged together, as far as one does not hide the other; a refresh costs seconds.
GROUPS = [
    [*DAILY_TABLES, "like_graph part", "co_like manifest", "serving CURRENT", "lake.duckdb"],
    [
        *("current_likes", "co_like part", "track_embeddings", "publications.jsonl", "like_graph CURRENT"),
        "models part",
    ],
    ["track_ids", "like_graph manifest", "models weights", "user_recommendations", "current_likes CURRENT"],
    ["bundle part", "evaluation", "figures", *(name for name in CUT_OFF_TABLES if name != "current_likes")],
    ["bundle manifest"],
]
NAMED = [*GROUPS, ["raw part"], ["batch.json"]]
"""What is damaged together and told apart."""
# One of two tests cuts each kind of file short, the other garbles it; each does both nightly.
GARBLED = pytest.mark.parametrize("damage", [pytest.param(truncate, marks=pytest.mark.nightly), garble])


def test_nothing_is_found_in_a_lake_as_it_was_made(refreshed: Path) -> None:
    found = verify(refreshed)
    assert (found.problems, found.notes) == ([], [])
    everything = [path for path in refreshed.rglob("*") if path.is_file() and not path.name.startswith(".")]
    ours = [path for path in everything if ".dagster" not in path.parts]
    assert found.files >= len(ours)


@DAMAGE
@pytest.mark.nightly
@pytest.mark.parametrize("kind", [*DERIVED, *RAW])
def test_a_damaged_file_is_named(lake: Lake, kind: str, damage: Callable[[Path], None]) -> None:
    path = (DERIVED | RAW)[kind](lake)
    damage(path)
    found = verify(lake.root)
    (finding,) = found.problems
    assert finding.file == path.relative_to(lake.root).as_posix()
    assert finding.what
    assert finding.repairs
    assert (finding.mend is None) == (kind in RAW)


@pytest.mark.parametrize("kinds", NAMED, ids=lambda kinds: str(kinds[0]))
def test_damaged_files_are_named_and_no_others(lake: Lake, kinds: list[str]) -> None:
    damaged = {(DERIVED | RAW)[kind](lake): kind in RAW for kind in kinds}
    for path in damaged:
        truncate(path)
    found = verify(lake.root)
    assert files(found) == {path.relative_to(lake.root).as_posix() for path in damaged}
    assert len(found.problems) == len(damaged)
    for finding in found.problems:
        assert finding.what
        assert finding.repairs
        assert (finding.mend is None) == damaged[lake.root / finding.file]


def test_one_flipped_bit_in_a_table_is_found(lake: Lake) -> None:
    path = daily("likes")(lake)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert files(verify(lake.root)) == {path.relative_to(lake.root).as_posix()}


def test_the_groups_have_every_kind() -> None:
    assert {kind for group in GROUPS for kind in group} == set(DERIVED)
    assert set(TABLES) <= set(DERIVED), "give DERIVED a file of the table, and a group its name"


@GARBLED
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group[0]))
def test_the_repair_and_a_refresh_put_everything_right(
    lake: Lake, group: list[str], damage: Callable[[Path], None]
) -> None:
    before = {kind: DERIVED[kind](lake) for kind in group}
    content = {kind: path.read_bytes() for kind, path in before.items()}
    for path in before.values():
        damage(path)
    found = verify(lake.root, repair=True)
    named = {path.relative_to(lake.root).as_posix() for path in before.values()}
    assert named <= files(found)
    assert all(finding.mend for finding in found.problems)
    refresh(lake)
    assert verify(lake.root).problems == []
    # Which lists changed since the refresh before, a rebuild cannot know.
    written_anew = {"evaluation", "publications.jsonl", "lake.duckdb", "co_like manifest", "changed_users"}
    written_anew |= {"figures", "changed_listeners"}
    if {"models part", "models weights"} & set(group):
        # A model that went on from another is not made again: the next one is trained in its place.
        written_anew |= {"models part", "models weights", "track_embeddings", "user_recommendations"}
    for kind, path in before.items():
        if kind not in written_anew:
            assert path.read_bytes() == content[kind], kind
    # The line of what is live is there again.
    assert publications(lake.serving)[-1].bundle == current(lake, "serving")


@DAMAGE
@pytest.mark.parametrize("kind", RAW)
def test_a_damaged_batch_is_left_alone_and_can_be_imported_again(
    lake: Lake, kind: str, damage: Callable[[Path], None]
) -> None:
    path = RAW[kind](lake)
    damage(path)
    spoilt = path.read_bytes()
    (finding,) = verify(lake.root, repair=True).problems
    assert "remove that folder and import its origin again" in finding.repairs
    assert path.read_bytes() == spoilt
    shutil.rmtree(path.parent)
    write_batch(lake.raw, LAST, a_batch(LAST))
    found = verify(lake.root)
    assert (found.problems, found.notes) == ([], [])  # the same content is the same batch


def test_a_misspelt_setting_is_found(lake: Lake) -> None:
    lake.set_section("graph", {"merge_recording": False})
    (finding,) = verify(lake.root).problems
    assert finding.file == "lake.json"
    assert finding.what == "settings.graph.merge_recording is no setting; did you mean merge_recordings?"


def test_a_batch_with_the_content_of_another_is_found(lake: Lake) -> None:
    folder = raw_file("")(lake)
    rows = pl.read_parquet(folder / "likes.parquet")
    other = rows.with_columns(track_id=rows["track_id"].shuffle(3))
    fresh = write_batch(lake.root / "elsewhere" / "raw", LAST, RawBatch("files", "x", likes=other))
    shutil.copy(fresh.folder / "likes.parquet", folder / "likes.parquet")
    shutil.rmtree(lake.root / "elsewhere")
    (finding,) = verify(lake.root).problems
    assert finding.file == (folder / "batch.json").relative_to(lake.root).as_posix()
    assert "likes of 2026-02-02.csv" in finding.repairs


# --- what belongs together ---


def wrong(found: Report) -> dict[str, str]:
    return {finding.file.split("/")[0]: finding.what for finding in found.problems}


def test_current_lists_that_the_days_do_not_give_are_found(lake: Lake) -> None:
    rows = lake.read("current_likes", LAST.isoformat())
    lake.write("current_likes", LAST.isoformat(), rows[1:], "as before")
    assert wrong(verify(lake.root)) == {"current_likes": "is not what the daily tables give"}


def test_likes_that_the_plays_do_not_give_are_found(lake: Lake) -> None:
    likes = lake.read("likes_from_plays", LAST.isoformat())
    assert len(likes) == 2
    inputs = lake.inputs_of("likes_from_plays", LAST.isoformat()) or ""
    lake.write("likes_from_plays", LAST.isoformat(), likes.head(1), inputs)
    os.utime(lake.current_file("current_likes"))
    assert files(verify(lake.root)) == {f"likes_from_plays/cut_off={LAST}/data.parquet"}


def test_a_row_twice_in_the_plays_of_a_day_is_found(lake: Lake) -> None:
    plays = lake.read("plays", LAST.isoformat())
    lake.write("plays", LAST.isoformat(), pl.concat([plays.head(1), plays]), "other")
    assert files(verify(lake.root)) == {f"plays/dt={LAST}/data.parquet"}


def test_a_graph_of_other_likes_is_found(lake: Lake) -> None:
    folder = lake.root / "like_graph" / current(lake, "like_graph")
    arrays = ArrayFolder.open(folder)
    names = arrays.strings("user_ids").tolist()
    np.save(folder / "user_ids.bytes.npy", StringColumn.from_strings([n[::-1] for n in names]).bytes)
    facts = arrays.facts
    (folder / "manifest.json").unlink()
    write_arrays(folder, {}, facts)
    assert wrong(verify(lake.root))["like_graph"] == "its likes are not the current likes"


def test_lists_whose_length_is_not_what_was_observed_are_found(lake: Lake) -> None:
    key = LAST.isoformat()
    seen = lake.read("observations", key).with_columns(list_hash=pl.lit("0" * 16))
    lake.write("observations", key, seen, lake.inputs_of("observations", key) or "")
    assert wrong(verify(lake.root)) == {
        "observations": "lengths or hashes of lists are not those of the table likes"
    }


def test_an_id_map_with_a_hole_is_found(lake: Lake) -> None:
    rows = lake.read("track_ids")
    lake.write("track_ids", None, rows.with_columns(pl.col("track_idx") + 1))
    assert wrong(verify(lake.root)) == {"track_ids": "track_idx is not 0, 1, 2, … in order"}


def rewritten(lake: Lake, kind: str, name: str, change: Callable[[np.ndarray], None]) -> None:
    """Change a part of the current version and declare it anew, so that its checksums are right."""
    folder = lake.root / kind / current(lake, kind)
    arrays = ArrayFolder.open(folder)
    array = np.array(arrays[name])
    change(array)
    facts = arrays.facts
    np.save(folder / f"{name}.npy", array)
    (folder / "manifest.json").unlink()
    write_arrays(folder, {}, facts)


def test_counts_that_are_not_those_of_the_likes_are_found(lake: Lake) -> None:
    rewritten(lake, "co_like", "counts", lambda counts: counts.__setitem__(0, counts[0] + 1))
    assert "AᵀA" in wrong(verify(lake.root))["co_like"]


def test_strongest_neighbours_out_of_order_are_found(lake: Lake) -> None:
    rewritten(lake, "co_like", "top_scores", lambda scores: scores.__setitem__(0, -1.0))
    assert "not in order" in wrong(verify(lake.root))["co_like"]


def test_an_embedding_that_is_not_of_unit_length_is_found(lake: Lake) -> None:
    rewritten(lake, "models", "embeddings", lambda rows: rows.__setitem__(0, np.nan))
    assert "unit length" in wrong(verify(lake.root))["models"]


@pytest.mark.parametrize("part", ["popularity", "user_tracks"])
def test_a_bundle_of_other_likes_is_found(lake: Lake, part: str) -> None:
    rewritten(lake, "serving", part, lambda values: values.__setitem__(slice(None), values[::-1].copy()))
    assert part in wrong(verify(lake.root))["serving"]


@pytest.mark.parametrize("part", ["fold.npy", "indices.npy"])
def test_what_is_damaged_in_a_graph_does_not_go_on_in_the_next(lake: Lake, part: str) -> None:
    damaged = lake.root / "like_graph" / current(lake, "like_graph") / part
    content = bytearray(damaged.read_bytes())
    content[-8 if part == "indices.npy" else -1] ^= 1
    damaged.write_bytes(content)
    more = pl.DataFrame(
        [{"user_id": "user3", "track_id": "rock1", "liked_at": None}], schema=empty_frame("likes").schema
    )
    write_batch(lake.raw, date(2026, 2, 3), RawBatch("files", "more.csv", likes=more))
    refresh(lake)
    graph = LikeGraph.from_arrays(ArrayFolder.open(lake.current_folder("like_graph")))
    settings = GraphSettings()
    anew = build_like_graph(
        lake.read("current_likes", "2026-02-03", ["user_id", "track_id"]),
        lake.read("track_ids")["track_id"],
        split_key=lake.file.split_key,
        held_out=settings.held_out,
        calibration_share=settings.calibration_share,
        canonical=graph.canonical,
    )
    assert np.array_equal(graph.fold, anew.fold)
    assert np.array_equal(graph.indices, anew.indices)
    co_like = CoLike.open(lake.current_folder("co_like"))
    assert what_is_wrong(co_like, anew.matrix()) is None


# --- what is not there ---


@pytest.mark.parametrize("table", ["likes", "observations", "feedback", "plays"])
def test_a_daily_table_that_is_gone_is_filled_again_and_no_reason_to_look_at_nothing_else(
    lake: Lake, table: str
) -> None:
    daily(table)(lake).unlink()
    truncate(lake.root / "evaluation" / "data.parquet")
    found = verify(lake.root)
    assert files(found) == {"evaluation/data.parquet"}
    assert [note.line() for note in found.notes] == [
        f"{table}/dt={LAST}/data.parquet: is not there yet; `tunegraph refresh` fills {LAST}"
    ]


def test_current_lists_that_are_gone_are_told_and_made_anew(lake: Lake) -> None:
    path = lake.table_path("current_likes", LAST.isoformat())
    content = path.read_bytes()
    path.unlink()
    assert files(verify(lake.root, repair=True)) == {"current_likes/CURRENT"}
    refresh(lake)
    assert path.read_bytes() == content
    assert verify(lake.root).problems == []


def test_an_id_map_that_is_gone_is_never_numbered_anew_but_restored(lake: Lake) -> None:
    path = lake.root / "track_ids" / "data.parquet"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(LakeError, match="verify --repair` restores it"):
        refresh(lake)
    (finding,) = verify(lake.root, repair=True).problems
    assert finding.line() == (
        "track_ids/data.parquet: is not there; restore it from the track ids of a bundle"
    )
    assert path.read_bytes() == content


def test_a_live_model_that_is_gone_leaves_it_to_a_person_where_the_lists_are_others_by_now(
    lake: Lake,
) -> None:
    shutil.rmtree(lake.root / "models" / current(lake, "models"))
    request(lake, ["user1"])
    with pytest.raises(LakeError, match="publish --override") as error:
        refresh(lake)
    assert "verify --repair" not in str(error.value)  # which they have done, and it would be in vain
    run_stages(lake, "publish", options={"serving_bundle": {"override": "the model is lost"}})
    assert pending_requests(lake) == users_left(lake) == 0
    assert verify(lake.root).problems == []


def test_a_table_of_a_day_without_raw_batches_that_is_gone_needs_a_person(lake: Lake) -> None:
    prune_day(lake.raw, FIRST)
    assert verify(lake.root).problems == []
    lake.table_path("likes", FIRST.isoformat()).unlink()
    (finding,) = verify(lake.root, repair=True).problems
    assert finding.file == f"likes/dt={FIRST}/data.parquet"
    assert finding.what == "is not there"
    assert finding.repairs == f"raw/ holds nothing of {FIRST} any more: restore it from a backup"


# --- what is no damage ---


def test_a_day_that_was_not_refreshed_is_a_note(lake: Lake) -> None:
    write_batch(lake.raw, FIRST, RawBatch("files", "late.csv", likes=a_batch(LAST).likes))
    write_batch(lake.raw, date(2026, 2, 3), a_batch(LAST))
    found = verify(lake.root)
    assert not found.problems
    assert {note.file.split("/")[0] for note in found.notes} >= {"likes", "raw"}
    refresh(lake)
    assert verify(lake.root).notes == []


def test_half_a_line_of_feedback_and_a_strangers_file_are_notes(lake: Lake) -> None:
    append(lake.root, "worker", "user1", [("rock1", "like")])
    (spooled,) = (lake.root / SPOOL).rglob("*.jsonl")
    spooled.write_bytes(spooled.read_bytes() + b'{"at": "20')
    (lake.root / "notes.txt").write_text("mine")
    found = verify(lake.root)
    assert not found.problems
    assert {note.file for note in found.notes} == {spooled.relative_to(lake.root).as_posix(), "notes.txt"}
    assert verify(lake.root, repair=True).problems == []
    assert (lake.root / "notes.txt").exists()


def test_an_older_version_that_is_damaged_is_removed_and_nothing_else(lake: Lake) -> None:
    (older,) = [path for path in (lake.root / "co_like").iterdir() if path.name.startswith(FIRST.isoformat())]
    truncate(older / "indices.npy")
    (finding,) = verify(lake.root, repair=True).problems
    assert "not the current version" in finding.repairs
    assert verify(lake.root).problems == []
    assert not older.exists()


def test_a_damaged_frontier_is_found_and_left(lake: Lake) -> None:
    path = lake.frontier_path("spotify")
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    (finding,) = verify(lake.root, repair=True).problems
    assert finding.file == "crawl/spotify.sqlite"
    assert path.exists()


def test_a_folder_of_raw_that_is_no_day_is_told(lake: Lake) -> None:
    (lake.raw / "dt=today" / "files-0").mkdir(parents=True)
    assert files(verify(lake.root)) == {"raw/dt=today"}
    with pytest.raises(LakeError, match="is not the folder of a day; move it out of the lake"):
        lake.raw_days()


def test_a_damaged_lake_json_is_told(lake: Lake) -> None:
    (lake.root / "lake.json").write_text("{")
    (finding,) = verify(lake.root).problems
    assert finding.file == "lake.json"
    with pytest.raises(LakeError, match="there is no lake"):
        verify(lake.root / "nowhere")


def test_an_id_map_without_a_bundle_to_restore_it_from_says_so(lake: Lake) -> None:
    truncate(lake.root / "track_ids" / "data.parquet")
    shutil.rmtree(lake.serving)
    (finding,) = [one for one in verify(lake.root).problems if one.file.startswith("track_ids")]
    assert "there is no copy of it" in finding.repairs


def test_a_bundle_before_this_one_is_named_where_what_is_live_cannot_be_read(lake: Lake) -> None:
    live = current(lake, "serving")
    garble(lake.serving / "CURRENT")
    (finding,) = verify(lake.root, repair=True).problems
    assert live in finding.repairs
    assert current(lake, "serving") == live


# --- beside a writer ---

HOLD = """
import sys, time
from pathlib import Path
from tunegraph_pipeline.lake.lock import write_lock
with write_lock(Path(sys.argv[1]), "the refresh of the day"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_writer(lake: Lake) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lake.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("other_writer")
def test_beside_a_writer_files_are_read_and_what_belongs_together_is_left_out(lake: Lake) -> None:
    earlier = min(path.name for path in (lake.root / "like_graph").iterdir() if path.is_dir())
    (lake.root / "like_graph" / "CURRENT").write_text(sealed_name(earlier))
    (lake.root / ".staging").mkdir(exist_ok=True)
    (lake.root / ".staging" / "draft").write_text("of the writer")
    found = verify(lake.root)
    assert found.problems == []
    (note,) = found.notes
    assert "the refresh of the day (process" in note.what
    truncate(daily("likes")(lake))
    assert files(verify(lake.root)) == {f"likes/dt={LAST}/data.parquet"}
    with pytest.raises(LakeError, match="the refresh of the day"):
        verify(lake.root, repair=True)


def test_sql_views_open_in_another_program_are_noted_and_left_alone(lake: Lake) -> None:
    program = "import duckdb, sys; d = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    command = [sys.executable, "-c", program, str(lake.views)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        before = lake.views.read_bytes()
        found = verify(lake.root, repair=True)
        process.kill()
    assert found.problems == []
    assert [(note.file, note.what) for note in found.notes] == [
        ("lake.duckdb", "is open in another program, and was not looked into")
    ]
    assert lake.views.read_bytes() == before


def test_sql_views_that_cannot_be_opened_are_kept_under_another_name(lake: Lake) -> None:
    lake.views.write_bytes(b"a person's own tables")
    (finding,) = verify(lake.root, repair=True).problems
    assert finding.repairs == "it is kept under another name, and a new one is made"
    assert (lake.root / "lake.duckdb.unreadable").read_bytes() == b"a person's own tables"
    assert verify(lake.root).problems == []


def test_a_finding_is_a_line_and_json() -> None:
    finding = Finding("likes/dt=2026-02-01/data.parquet", "cannot be read", "rematerialise liked_lists")
    assert finding.line() == "likes/dt=2026-02-01/data.parquet: cannot be read; rematerialise liked_lists"
    assert json.loads(json.dumps(finding.facts()))["repairable"] is False


def test_verify_holds_the_lock_so_that_nobody_writes_meanwhile(lake: Lake) -> None:
    held = []

    def look(*_: object) -> None:
        held.append((lake.root / ".lock.holder.json").exists())

    verify(lake.root, look)
    assert held
    assert all(held)
    with write_lock(lake.root, "afterwards"):
        pass
