"""What a training goes on from: the live model where that can be, else nothing, and why."""

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.tensors import save_tensors
from tunegraph_pipeline.pipeline.lineage import WEIGHTS, Origin, Today, origin_of, share_changed
from tunegraph_pipeline.recommend.publication import live_model, publications
from tunegraph_pipeline.training.train import TrainingConfig
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

IDS = pl.Series("track_id", ["a", "b", "c"])
LIKES = np.array([10, 10, 0], dtype=np.int32)
SETTINGS = TrainingConfig(dimension=4)


def today(**other: Any) -> Today:
    usual: dict[str, Any] = {
        "code": 4,
        "settings": SETTINGS,
        "spaces": 1,
        "held_out": 0.02,
        "calibration_share": 0.01,
        "ids": IDS,
        "cut_off": date(2026, 2, 8),
        "likes": LIKES,
    }
    return Today(**{**usual, **other})


def model(lake: Lake, version: str, **other: Any) -> None:
    """A model's folder with what is asked of it, made current."""
    facts = {
        "version": version,
        "code": 4,
        "settings": SETTINGS.model_dump(mode="json"),
        "spaces": 1,
        "held_out": 0.02,
        "calibration_share": 0.01,
        "id_map": id_map_fingerprint(IDS[:2]),
        "cut_off": "2026-02-07",
        "from_nothing_cut_off": "2026-02-01",
        "chain": 3,
        **other,
    }
    arrays = {
        "embeddings": np.eye(2, 4, dtype=np.float32),
        "likes_from_nothing": LIKES[:2],
        "canonical": np.array([0, 1], dtype=np.int32),
    }
    folder = lake.version_folder("models", version)
    save_tensors(folder / WEIGHTS, {"id": arrays["embeddings"]}, {})
    write_arrays(folder, arrays, facts)
    lake.set_current("models", version)


def make_live(lake: Lake, version: str) -> None:
    folder = lake.serving / f"bundle-of-{version}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"facts": {"model_version": version}, "parts": {}}))
    (lake.serving / "CURRENT").write_text(f"{folder.name}\n")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def test_a_first_training_starts_from_scratch(lake: Lake) -> None:
    origin = origin_of(lake, today(), full=False)
    assert origin.earlier is None
    assert origin.description == "from scratch because there is no earlier model"
    assert origin.chain == 0
    assert origin.start() is None
    facts = origin.facts(date(2026, 2, 8))
    assert facts["from_nothing_cut_off"] == "2026-02-08"
    assert facts["parent"] is None


def test_the_live_model_is_the_parent_and_a_refused_one_is_not(lake: Lake) -> None:
    model(lake, "m1", from_nothing="2026-02-01T05:00:00+00:00")
    assert (
        origin_of(lake, today(), full=False).description == "warm start from m1"
    )  # nothing is live: the current one
    make_live(lake, "m1")
    model(lake, "refused")
    origin = origin_of(lake, today(), full=False)
    assert origin.description == "warm start from m1"
    assert origin.chain == 4
    assert origin.facts(date(2026, 2, 8)) == {
        "from_nothing": "2026-02-01T05:00:00+00:00",
        "from_nothing_cut_off": "2026-02-01",
        "trained": "warm start from m1",
        "parent": "m1",
        "chain": 4,
    }


def test_a_full_training_has_no_parent_but_is_aligned_with_the_earlier_space(lake: Lake) -> None:
    model(lake, "m1")
    origin = origin_of(lake, today(), full=True)
    assert origin.description == "from scratch because it was asked for"
    assert origin.parent is None
    assert origin.earlier is not None
    assert origin.earlier.version == "m1"


@pytest.mark.parametrize(
    ("of_model", "of_today", "reason"),
    [
        ({"code": 3}, {}, "from another version of the training code"),
        ({"spaces": 4}, {}, "call for 1 spaces, the earlier model m1 has 4"),
        ({}, {"held_out": 0.1}, "other likes or users are held out than from m1"),
        ({}, {"calibration_share": 0.1}, "other likes or users are held out than from m1"),
        ({"cut_off": "2026-02-09"}, {}, "was trained on likes from after the cut-off"),
        ({}, {"settings": TrainingConfig(dimension=4, seed=1)}, "the settings differ from those of m1"),
        ({}, {"settings": TrainingConfig(dimension=4, full_after_days=6)}, "was 7 days of likes ago"),
        ({}, {"cut_off": date(2026, 2, 9)}, "was 8 days of likes ago"),
        ({}, {"likes": np.array([10, 5, 0])}, "25% of the likes have changed"),
        ({}, {"likes": np.array([10, 10, 5])}, "25% of the likes have changed"),
        ({"id_map": "another"}, {}, "has another id map"),
        ({}, {"ids": IDS[:1]}, "has another id map"),
    ],
)
def test_a_training_from_scratch_says_why(
    lake: Lake, of_model: dict[str, Any], of_today: dict[str, Any], reason: str
) -> None:
    model(lake, "m1", **of_model)
    origin = origin_of(lake, today(**of_today), full=False)
    assert origin.parent is None
    assert origin.description.startswith("from scratch because ")
    assert reason in origin.description


def test_a_track_that_was_another_recording_to_an_earlier_model_of_the_chain_stays_marked(lake: Lake) -> None:
    model(lake, "m1")
    merged = np.array([0, 0, 2], dtype=np.int32)
    origin = origin_of(lake, today(), full=False)
    assert origin.canonical(merged).tolist() == [0, -1, 2]
    assert origin.canonical(merged).dtype == np.int32
    assert origin_of(lake, today(), full=True).canonical(merged).tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    "of_today",
    [
        {},
        {"settings": TrainingConfig(dimension=4, warm_epochs=2, full_after_share=0.9)},
        {"likes": np.array([9, 9, 2])},
        {"cut_off": date(2026, 2, 7)},
    ],
)
def test_small_changes_and_settings_of_the_warm_start_alone_allow_a_warm_start(
    lake: Lake, of_today: dict[str, Any]
) -> None:
    model(lake, "m1")
    assert origin_of(lake, today(**of_today), full=False).description == "warm start from m1"


def test_a_damaged_model_is_no_parent(lake: Lake) -> None:
    model(lake, "m1")
    (lake.version_folder("models", "m1") / "embeddings.npy").write_bytes(b"garbage")
    origin = origin_of(lake, today(), full=False)
    assert origin.earlier is None
    assert "cannot be read" in origin.description
    assert "embeddings.npy" in origin.description


@pytest.mark.parametrize("part", ["weights.safetensors", "embeddings.npy"])
def test_damage_that_changes_no_size_is_found(lake: Lake, part: str) -> None:
    model(lake, "m1")
    path = lake.version_folder("models", "m1") / part
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)
    origin = origin_of(lake, today(), full=False)
    assert origin.earlier is None
    assert f"{part} does not match its checksum" in origin.description


def test_the_likes_that_changed_are_counted_by_track() -> None:
    assert share_changed(np.array([5, 5]), np.array([5, 5])) == 0
    assert share_changed(np.array([4, 6, 2]), np.array([5, 5])) == pytest.approx(0.4)
    assert share_changed(np.array([3]), np.zeros(0, np.int64)) == 3


def test_a_model_is_a_function_of_what_it_began_from() -> None:
    nothing = Origin(None, "there is no earlier model").basis(SETTINGS)
    assert nothing == Origin(None, "it was asked for").basis(TrainingConfig(warm_epochs=5))


# --- on a lake, day by day ---

TRAINING = {"dimension": 8, "epochs": 6, "encoder": "none", "memory_mib": 64}
BROKEN = {**TRAINING, "epochs": 1, "learning_rate": 1e-9, "ridge_neighbours": 1, "spaces": 8}


@dataclass
class Story:
    """A lake and the facts of the model that was current after each refresh."""

    lake: Lake
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def refresh(self, name: str, day: int) -> None:
        run_stages(self.lake, "refresh", date(2026, 2, day), date(2026, 2, day))
        self.lake = Lake.open(self.lake.root)
        self.told[name] = ArrayFolder.open(self.lake.current_folder("models")).facts

    def folder(self, name: str) -> ArrayFolder:
        return ArrayFolder.open(self.lake.version_folder("models", self.told[name]["version"]))


def listen(lake: Lake, day: int, users: range, new: str = "") -> None:
    """Lists of two scenes of three artists each, everyone mostly of one; with ``new``, a song of a new artist
    is in those of scene 0."""
    rng = np.random.default_rng(day)
    likes, tracks = [], []
    for user in users:
        chance = np.where(np.arange(30) % 3 == user // 2 % 3, 8.0, 1.0)
        songs = rng.choice(30, 9, replace=False, p=chance / chance.sum()).tolist()
        likes += [{"user_id": f"u{user}", "track_id": f"scene{user % 2}-{song:02}"} for song in songs]
        if new and user % 2 == 0:
            likes.append({"user_id": f"u{user}", "track_id": new})
    for scene in range(2):
        for song in range(30):
            name = f"scene{scene}-{song:02}"
            tracks.append({"track_id": name, "name": name, "artists": [f"scene{scene} {song % 3}"]})
    if new:
        tracks.append({"track_id": new, "name": new, "artists": ["a new one"]})
    batch = RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(likes, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(
            [{**one, "source": "files"} for one in tracks], schema=empty_frame("tracks").schema
        ),
    )
    write_batch(lake.raw, date(2026, 2, day), batch)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    lake = Lake.open_or_create(tmp_path_factory.mktemp("warm") / "lake")
    lake.admit_source("files")
    lake.set_section("training", TRAINING)
    lake.set_section("graph", {"held_out": 0.2})
    one = Story(lake)
    listen(lake, 1, range(240))
    one.refresh("first", 1)
    listen(lake, 2, range(12), new="0 new")
    one.refresh("warm", 2)
    one.refresh("nothing new", 3)
    one.lake.set_section("training", BROKEN)
    one.refresh("broken", 3)
    one.lake.set_section("training", TRAINING)
    listen(lake, 4, range(20, 30))
    one.refresh("after the refusal", 4)
    return one


def test_a_day_starts_from_the_model_of_the_day_before(story: Story) -> None:
    first, warm = story.told["first"], story.told["warm"]
    assert first["trained"] == "from scratch because there is no earlier model"
    assert first["drift"] is None
    assert (first["chain"], first["parent"], first["epochs"]) == (0, None, len(first["curves"]))
    assert warm["trained"] == f"warm start from {first['version']}"
    assert (warm["chain"], warm["parent"], warm["epochs"]) == (1, first["version"], 1)
    assert warm["from_nothing"] == first["from_nothing"]
    assert warm["from_nothing"].startswith("20")
    assert warm["from_nothing_cut_off"] == "2026-02-01"


def test_its_space_and_its_map_are_those_of_the_day_before(story: Story) -> None:
    first, warm = story.folder("first"), story.folder("warm")
    n = len(first["embeddings"])
    assert len(warm["embeddings"]) == n + 1
    cosines = np.einsum("ij,ij->i", first["embeddings"], warm["embeddings"][:n])
    assert cosines.mean() > 0.9
    drift = warm.facts["drift"]
    assert drift["mean_cosine"] == pytest.approx(float(cosines.mean()), abs=1e-3)
    assert drift["mean_cosine"] > drift["mean_cosine_unaligned"] - 1e-6
    np.testing.assert_array_equal(warm["layout"][:n], first["layout"])
    # The new song is where its listeners' songs are, in the space and on the map.
    new = warm["embeddings"][:n] @ warm["embeddings"][n]
    scene = np.arange(n) >= 30
    assert new[~scene].mean() > new[scene].mean() + 0.2
    names = warm.strings("artists").tolist()
    assert names[0] == "a new one"
    assert names[1:] == first.strings("artists").tolist()


def test_what_was_trained_on_the_same_likes_is_kept_whatever_its_parent(story: Story) -> None:
    assert story.told["nothing new"] == story.told["warm"]


def test_other_settings_train_from_scratch_and_a_refused_model_is_no_parent(
    story: Story,
) -> None:
    broken, after = story.told["broken"], story.told["after the refusal"]
    assert "the settings differ from those of" in broken["trained"]
    assert broken["aligned_to"] == story.told["warm"]["version"]
    refused = [one for one in publications(story.lake.serving) if one.outcome == "refused"]
    assert [one.decision.challenger for one in refused if one.decision] == [broken["version"]]
    assert after["trained"] == f"warm start from {story.told['warm']['version']}"
    assert after["chain"] == 2
    assert live_model(story.lake.serving) == after["version"]


def test_a_model_of_another_dimension_lies_on_axes_of_its_own_and_says_so(story: Story) -> None:
    story.lake.set_section("training", {**TRAINING, "dimension": 4})
    story.refresh("smaller", 4)
    smaller = story.told["smaller"]
    assert "the settings differ from those of" in smaller["trained"]
    assert smaller["aligned_to"] is None
    assert smaller["drift"] is None
