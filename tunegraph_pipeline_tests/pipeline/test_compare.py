"""Comparing models on a lake: what is learnt from it, what is left out and why, and the asset."""

import runpy
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dagster import DagsterInstance

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.splits import temporal
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.compare import PROTOCOLS, compare_lake, liked_at, usual_protocols
from tunegraph_pipeline.pipeline.like_ages import like_ages
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import ComparisonSettings
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.slow

TUNE = Path(__file__).parents[2] / "benchmarks" / "tune.py"
DAY = date(2026, 2, 1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def silent(what: str, done: int, total: int) -> None:
    return


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """40 users in two scenes of twelve songs; the nth like is of day n, the first of no known time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        lake = Lake.open_or_create(tmp_path_factory.mktemp("comparison") / "lake")
        lake.admit_source("files")
        rows = [
            {
                "user_id": f"{scene}{user}",
                "track_id": f"{scene}-{(user + 5 * step) % 12}",
                "liked_at": START + timedelta(days=step) if step else None,
            }
            for scene in ("rock", "jazz")
            for user in range(20)
            for step in range(6)
        ]
        likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
        write_batch(lake.raw, DAY, RawBatch("files", "test", likes=likes))
        lake.set_section("training", {"dimension": 8, "epochs": 2})
        lake.set_section("comparison", {"protocols": ["weak"], "models": ["tunegraph", "popularity"], "k": 3})
        run_stages(lake, "refresh", DAY, DAY)
    return Lake.open(lake.root)


def test_the_job_leaves_tables_pictures_and_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    served = (lake.root / "serving" / "CURRENT").read_text()
    run_job(lake, "compare", DAY, DAY)
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        (run,) = [run for run in instance.get_runs() if run.job_name == "compare"]
        (event,) = [
            entry.dagster_event.step_materialization_data.materialization
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None and entry.dagster_event.is_step_materialization
        ]
    assert "| popularity |" in str(event.metadata["weak generalisation"].value)
    assert "data:image/png" in str(event.metadata["weak generalisation, plot"].value)
    rows = lake.read("evaluation").filter(pl.col("split") == "weak generalisation, seed 0")
    assert set(rows["model"]) == {"tunegraph", "popularity"}
    assert set(rows["k"]) == {3}
    assert (lake.root / "serving" / "CURRENT").read_text() == served
    # What a person is told about is still what is served.
    assert lake_status(lake)["last evaluation"].startswith("gate of")


def test_times_stand_beside_the_likes_they_are_of(lake: Lake) -> None:
    graph, ids = open_like_graph(lake), known_track_ids(lake)
    times = liked_at(lake, graph)
    users = np.repeat(np.array(graph.user_ids.tolist()), np.diff(graph.indptr))
    for user, track, time in zip(users.tolist(), ids.gather(graph.indices).to_list(), times, strict=True):
        number = int(user[4:])
        step = next(step for step in range(6) if track.endswith(f"-{(number + 5 * step) % 12}"))
        expected = (START + timedelta(days=step)).timestamp() if step else np.nan
        assert time == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_every_protocol_and_seed_is_gone_through(lake: Lake) -> None:
    settings = ComparisonSettings(protocols=PROTOCOLS, models=("popularity", "co_like"), k=3, seeds=2)
    found = compare_lake(lake, settings, silent)
    assert list(found.outcomes) == [
        "weak generalisation",
        "strong generalisation",
        "continuation",
        "temporal",
        "cold-start tracks",
    ]
    for outcomes in found.outcomes.values():
        assert [(one.model, one.seed) for one in outcomes] == [
            ("popularity", 0),
            ("popularity", 1),
            ("co_like", 0),
            ("co_like", 1),
        ]
    assert found.document().count("± seeds") == 5
    # Time splits the same way with every seed; the last like of everybody is asked for.
    when = "made until 2026-01-05 and in the 1.0 days after"
    says = f"temporal: 200 likes to learn from, 40 users judged on 40 held-out likes, {when}"
    assert says in found.notes
    again = compare_lake(lake, settings.model_copy(update={"protocols": ("strong",)}), silent)
    for one, other in zip(
        found.outcomes["strong generalisation"], again.outcomes["strong generalisation"], strict=True
    ):
        assert one.values == other.values


def test_without_a_named_protocol_dated_likes_are_also_divided_by_time(lake: Lake) -> None:
    found = compare_lake(lake, ComparisonSettings(models=("popularity", "decayed_popularity"), k=3), silent)
    assert found.protocols == ("weak", "strong", "continuation", "temporal")
    models = {name: [one.model for one in outcomes] for name, outcomes in found.outcomes.items()}
    assert models["weak generalisation"] == models["strong generalisation"] == ["popularity"]
    assert models["continuation"] == models["temporal"] == ["popularity", "decayed_popularity"]
    assert any("decayed_popularity was left out: it ranks by when" in note for note in found.notes)


def test_likes_without_times_or_all_of_one_moment_are_not_divided_by_time(lake: Lake) -> None:
    graph = open_like_graph(lake)
    likes, times = graph.matrix(), liked_at(lake, graph)
    few = np.where(np.arange(len(times)) % 3 == 0, times, np.nan)
    ages = like_ages(lake, graph)
    assert ages is not None
    assert usual_protocols(likes, times, ages) == ("weak", "strong", "continuation", "temporal")
    for unsuited in (few, np.full(len(times), np.nan), np.ones(len(times))):
        assert usual_protocols(likes, unsuited, None) == ("weak", "strong")
        assert usual_protocols(likes, unsuited, ages) == ("weak", "strong", "continuation")


def test_baselines_are_tuned_on_likes_before_those_that_are_held_out(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes = open_like_graph(lake).matrix()
    times = np.random.default_rng(0).permutation(likes.nnz).astype(np.float64) * 86_400
    monkeypatch.setattr("tunegraph_pipeline.pipeline.compare.liked_at", lambda *_: times)
    split = runpy.run_path(str(TUNE))["before_the_test"](lake.root, None, 0)
    test = temporal(likes, times)
    # Every track is liked before, so none is left out.
    for user, row in enumerate(split.users.tolist()):
        asked = split.held_out.relevant[user].toarray() > 0
        assert (test.train[row].toarray()[asked] == 1).all()
        assert not split.train[row].toarray()[asked].any()
    assert split.train.nnz == pytest.approx(0.8 * test.train.nnz, abs=1)
    # Days before what is held out last: the likes to learn from are the oldest, and their ages their own.
    assert np.sort(split.ages).tolist() == list(range(split.train.nnz))


def test_what_cannot_be_compared_is_left_out_with_its_reason(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    found = compare_lake(lake, ComparisonSettings(protocols=("weak",), models=("als", "ease")), silent)
    assert [one.model for one in found.outcomes["weak generalisation"]] == ["ease"]
    assert any("als was left out: baseline als needs the library implicit" in note for note in found.notes)


def test_the_generations_are_left_out_where_no_features_are_known(lake: Lake) -> None:
    models = ("popularity", "v1", "v2", "v3_seed", "v3_seed_300")
    found = compare_lake(lake, ComparisonSettings(protocols=("weak",), models=models), silent)
    assert [one.model for one in found.outcomes["weak generalisation"]] == ["popularity"]
    for name in models[1:]:
        why = f"{name} was left out: no liked track has audio features"
        assert any(note.startswith(why) for note in found.notes)


def test_rankings_by_content_are_left_out_where_none_is_known(lake: Lake) -> None:
    models = ("popularity", "feature_neighbours", "feature_nearest", "same_artist")
    found = compare_lake(lake, ComparisonSettings(protocols=("weak",), models=models), silent)
    assert [one.model for one in found.outcomes["weak generalisation"]] == ["popularity"]
    for name, what in zip(models[1:], ("audio features", "audio features", "artists"), strict=True):
        why = f"{name} was left out: it ranks by {what}, and no track has any"
        assert any(note.startswith(why) for note in found.notes)


def test_nothing_left_to_compare_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(InputError, match="none of the models"):
        compare_lake(lake, ComparisonSettings(protocols=("weak",), models=("als",)), silent)
