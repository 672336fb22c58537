"""What is served has learned from every like, and no judged model ever sees one that it is judged by."""

import shutil
from collections.abc import Set
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.split import GATE
from tunegraph_pipeline.lake.array_spec import specs_of
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.tensors import load_tensors
from tunegraph_pipeline.models.arrays import REFITTED, ServedArrays
from tunegraph_pipeline.pipeline.bundle import judged_bundle
from tunegraph_pipeline.pipeline.evaluate import judge_gate
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.lineage import WEIGHTS
from tunegraph_pipeline.pipeline.publish import publish_current
from tunegraph_pipeline.pipeline.rollback import roll_back
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.publication import publications
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

TRAINING = {"dimension": 8, "epochs": 4, "refit_epochs": 1, "memory_mib": 64}
FIRST, SECOND = date(2026, 2, 1), date(2026, 2, 2)
SERVED = [spec.name for spec in specs_of(ServedArrays)]
IN_A_BUNDLE = [name for name in SERVED if name != "placed"]

Likes = Set[tuple[str, str]]


def lists_of_day(day: date) -> Likes:
    """Lists of nine songs of three artists; a user likes mostly those of one. On the second day, of a few."""
    rng = np.random.default_rng(day.day)
    likes = set()
    for user in range(240 if day == FIRST else 24):
        chance = np.where(np.arange(40) % 3 == user % 3, 8.0, 1.0)
        songs = rng.choice(40, 9, replace=False, p=chance / chance.sum()).tolist()
        likes |= {(f"u{user}", f"song {song:02}") for song in songs}
    return likes


def receive(lake: Lake, day: date, likes: Likes) -> None:
    rows = [{"user_id": user, "track_id": track} for user, track in sorted(likes)]
    tracks = [
        {"track_id": f"song {n:02}", "name": f"song {n}", "artists": [f"artist {n % 3}"], "source": "files"}
        for n in range(40)
    ]
    batch = RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(rows, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(tracks, schema=empty_frame("tracks").schema),
    )
    write_batch(lake.raw, day, batch)


def new_lake(root: Path, **training: object) -> Lake:
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {**TRAINING, **training})
    lake.set_section("graph", {"held_out": 0.2, "calibration_share": 0.05})
    return lake


def refresh(lake: Lake, day: date, without: Likes = frozenset()) -> Lake:
    receive(lake, day, lists_of_day(day) - without)
    run_stages(lake, "refresh", day, day)
    return Lake.open(lake.root)


def model_of(lake: Lake) -> ArrayFolder:
    return ArrayFolder.verified(lake.current_folder("models"))


def live(lake: Lake) -> Bundle:
    return Bundle.open(read_current(lake.serving))


def judged_by_the_gate(lake: Lake) -> Likes:
    """The likes of the gate fold, but for those of users who are set aside."""
    graph = open_like_graph(lake)
    user = np.repeat(np.arange(graph.n_users), np.diff(graph.indptr))
    ids = lake.read("track_ids")["track_id"].to_list()
    chosen = np.flatnonzero((graph.fold == GATE) & ~graph.calibration[user])
    return {(graph.user_ids[int(user[at])], ids[graph.indices[at]]) for at in chosen.tolist()}


class Days(NamedTuple):
    """Two lakes of two days that differ in likes of the gate fold alone, as they were after each day."""

    whole: list[Lake]
    without: list[Lake]
    left_out: Likes


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    folder = tmp_path_factory.mktemp("refit")

    def kept(lake: Lake) -> Lake:
        copy = lake.root.with_name(f"{lake.root.name} on the first day")
        shutil.copytree(lake.root, copy)
        return Lake.open(copy)

    whole = refresh(new_lake(folder / "whole"), FIRST)
    whole_first = kept(whole)
    whole = refresh(whole, SECOND)
    both = judged_by_the_gate(whole_first) | judged_by_the_gate(whole)
    # Half of them, so that everybody keeps a list.
    left_out = {like for n, like in enumerate(sorted(both)) if n % 2}
    without = refresh(new_lake(folder / "without"), FIRST, left_out)
    without_first = kept(without)
    without = refresh(without, SECOND, left_out)
    return Days([whole_first, whole], [without_first, without], left_out)


@pytest.mark.parametrize("day", [0, 1], ids=["first day", "second day"])
def test_likes_that_a_model_is_judged_by_are_in_what_is_served_alone(days: Days, day: int) -> None:
    """Also on the second day, whose model starts from that of the first."""
    one, other = days.whole[day], days.without[day]
    assert len(days.left_out) > 50
    assert len(open_like_graph(one).indices) > len(open_like_graph(other).indices)
    judged, same = model_of(one), model_of(other)
    assert judged.facts["trained"].startswith("warm start" if day else "from scratch")
    for name in (*SERVED, "recommendable", "likes_from_nothing"):
        np.testing.assert_array_equal(judged[name], same[name], err_msg=name)
    for fact in ("blend", "calibration", "validation", "curves"):
        found = [model.facts[fact] for model in (judged, same)]
        if fact == "curves":  # but for the seconds that an epoch took
            found = [[(epoch["loss"], epoch["validation"]) for epoch in curves] for curves in found]
        assert found[0] == found[1], fact
    tensors, others = (load_tensors(model.folder / WEIGHTS)[0] for model in (judged, same))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, others[name], err_msg=name)
    for name in ("embeddings", "prior", "pooling_weight", "neighbour_weight"):
        assert not np.array_equal(judged[f"{REFITTED}{name}"], same[f"{REFITTED}{name}"]), name
        assert not np.array_equal(getattr(live(one), name), getattr(live(other), name)), name


def test_the_bundle_and_the_table_have_what_was_refitted_and_say_so(days: Days) -> None:
    lake = days.whole[1]
    model, bundle, graph = model_of(lake), live(lake), open_like_graph(lake)
    for name in IN_A_BUNDLE:
        np.testing.assert_array_equal(getattr(bundle, name), model[f"{REFITTED}{name}"], err_msg=name)
    assert bundle.model_version == model.facts["version"]
    held_out = len(graph.indices) - graph.training_matrix().nnz
    expected = {"cut_off": SECOND.isoformat(), "likes": len(graph.indices), "held_out": held_out}
    assert bundle.facts["refitted_on"] == model.facts["refitted_on"] == expected
    assert bundle.facts["blend"] == model.facts["blend"]
    said = f"refitted to {len(graph.indices):,} likes, also to {held_out:,} likes that it was judged without"
    assert said in lake_status(lake)["live bundle"]
    table = lake.read("track_embeddings", bundle.model_version)["embedding"].to_numpy()
    np.testing.assert_array_equal(table, bundle.embeddings)
    assert verify(lake.root).problems == []


def test_gate_and_evaluation_judge_the_model_as_it_was_before(days: Days) -> None:
    lake = days.whole[1]
    last = publications(lake.serving)[-1]
    assert last.outcome == "accepted"
    assert last.decision is not None
    served = live(lake)
    assert last.decision.bundle == served.version
    with judged_bundle(lake, served) as judged:
        assert judged is not None
        model = model_of(lake)
        for name in IN_A_BUNDLE:
            np.testing.assert_array_equal(getattr(judged, name), model[name], err_msg=name)
        np.testing.assert_array_equal(judged.popularity, served.popularity)
        assert not len(judged.users.ids)
        folder = judged.folder
    assert not folder.exists()
    # The challenger's figure is that of the evaluation: both judged the same model on the same likes.
    rows = lake.read("evaluation").filter(dataset=f"gate of {served.version}", model="served", metric="map")
    found = judge_gate(lake, Recommender(served), k=10)
    assert rows["value"].to_list() == [found.served.values["map"]]
    assert found.served.values["map"] == pytest.approx(last.decision.figures["map@10"]["challenger"])
    assert any("before the model was refitted" in note for note in found.notes)


def test_a_day_without_news_changes_nothing(days: Days, tmp_path: Path) -> None:
    lake = copy_of(days.whole[1], tmp_path)
    before, log = live(lake).version, publications(lake.serving)
    results = run_stages(lake, "refresh", SECOND, SECOND)
    assert results["trained_model"].how == results["evaluation"].how == "reused"
    assert live(lake).version == before
    assert publications(lake.serving) == log


def test_without_a_refit_what_is_judged_is_served_and_it_is_the_same(days: Days, tmp_path: Path) -> None:
    lake = refresh(new_lake(tmp_path / "lake", refit=False), FIRST)
    model, refitted, bundle = model_of(lake), model_of(days.whole[0]), live(lake)
    assert not any(f"{REFITTED}{name}" in model for name in SERVED)
    for name in SERVED:
        np.testing.assert_array_equal(model[name], refitted[name], err_msg=name)
    for name in IN_A_BUNDLE:
        np.testing.assert_array_equal(getattr(bundle, name), model[name], err_msg=name)
    assert bundle.facts["refitted_on"] is None
    assert "refitted" not in lake_status(lake)["live bundle"]
    # Its evaluation is that of the lake whose bundle was refitted.
    figures = [
        lake.read("evaluation").filter(model="served")["value"].to_list() for lake in (lake, days.whole[0])
    ]
    assert figures[0] == figures[1]
    # Turning it on trains nothing. The next model starts from this one, and is served refitted.
    lake.set_section("training", TRAINING)
    assert run_stages(lake, "refresh", FIRST, FIRST)["trained_model"].how == "reused"
    lake = refresh(lake, SECOND)
    assert model_of(lake).facts["trained"] == f"warm start from {model.facts['version']}"
    assert live(lake).facts["refitted_on"]["cut_off"] == SECOND.isoformat()


def test_a_rollback_serves_what_was_served_before(days: Days, tmp_path: Path) -> None:
    lake = copy_of(days.whole[1], tmp_path)
    first = live(days.whole[0])
    bundle = roll_back(lake, None, "")
    assert bundle.version == first.version
    np.testing.assert_array_equal(bundle.embeddings, first.embeddings)


def test_a_forgotten_user_leaves_both_with_a_training_from_scratch(tmp_path: Path) -> None:
    gone = "u7"
    never = new_lake(tmp_path / "never")
    never = refresh(never, FIRST, {like for like in lists_of_day(FIRST) if like[0] == gone})
    lake = refresh(new_lake(tmp_path / "lake"), FIRST)
    assert not same_arrays(lake, never)
    lake.deletion_requests.mkdir(parents=True, exist_ok=True)
    (lake.deletion_requests / "request.txt").write_text(f"{gone}\n")
    run_stages(lake, "refresh", SECOND, SECOND, {"trained_model": {"full": True}})
    lake = Lake.open(lake.root)
    assert gone not in live(lake).users.ids.tolist()
    assert same_arrays(lake, never)


def same_arrays(lake: Lake, other: Lake) -> bool:
    """Whether two models answer alike, as judged and as served; spaces may be turned."""
    one, two = model_of(lake), model_of(other)
    return all(
        np.array_equal(one[f"{prefix}{name}"], two[f"{prefix}{name}"])
        for prefix in ("", REFITTED)
        for name in SERVED
        if name != "embeddings"
    )


def test_what_a_lost_model_served_is_no_figure_and_the_gate_says_what_it_took(
    days: Days, tmp_path: Path
) -> None:
    """It has learned from the held-out likes, so it would be judged too well."""
    lake = copy_of(days.whole[1], tmp_path)
    bundle, first = live(lake), publications(lake.serving)[0].model
    shutil.rmtree(lake.version_folder("models", bundle.model_version))
    with pytest.raises(InputError, match=f"model {bundle.model_version} is lost"):
        judge_gate(lake, Recommender(bundle), k=10)
    lake.set_current("models", first)
    notes: list[str] = []
    with watched_by(lambda *_: None, notes.append):
        _, decision = publish_current(lake, "")
    assert decision is not None
    assert (decision.champion, decision.challenger) == (bundle.model_version, first)
    assert notes[0].startswith(f"the live model {bundle.model_version} is lost")


def copy_of(lake: Lake, folder: Path) -> Lake:
    shutil.copytree(lake.root, folder / "copy")
    return Lake.open(folder / "copy")
