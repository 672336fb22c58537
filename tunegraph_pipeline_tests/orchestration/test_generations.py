"""The assets of the three generations, on a small lake with features and on one without."""

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dagster import DagsterInstance

from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.tensors import load_tensors
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.compare import compare_lake
from tunegraph_pipeline.pipeline.settings import ComparisonSettings
from tunegraph_pipeline_tests.run_stages import run_stages

DAY = date(2026, 2, 1)
KINDS = ("v1_model", "v2_model", "v3_seed_model")
QUICK = {"epochs": 2, "steps": 2, "validation_users": 20}

pytestmark = pytest.mark.dagster


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("generations", QUICK)
    return lake


def fill(lake: Lake, source: str) -> None:
    """The daily tables and the graph, without today's model, which the generations do not need."""
    run_stages(lake, "graph", DAY, DAY, {"crawled_users": {"source": source}})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 60 simulated users, up to its graph."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("generations") / "lake")
    lake.set_section("generations", QUICK)
    lake.set_section("simulator", {"n_users": 60, "n_tracks": 150})
    fill(lake, "simulator")
    return lake.root


@pytest.fixture
def simulated(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A copy of it, to be changed."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Lake.open(shutil.copytree(filled, tmp_path / "lake"))


@pytest.mark.slow
def test_the_job_trains_all_three_and_keeps_what_is_there(simulated: Lake) -> None:
    lake = simulated
    assert not (lake.root / "v1_model").exists()
    written = []
    for _ in range(2):
        run_job(lake, "generations", DAY, DAY)
        written.append([lake.current_folder(kind).stat().st_mtime_ns for kind in KINDS])
    assert written[0] == written[1]
    for kind in KINDS:
        folder = ArrayFolder.open(lake.current_folder(kind))
        placed = folder["embeddings"][folder["placed"]]
        np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 1, rtol=1e-5)
        assert folder.facts["settings"]["generation"] == kind.removesuffix("_model")
        assert folder.facts["tracks"]["liked, without audio features"] > 0
        assert load_tensors(lake.current_folder(kind) / "weights.safetensors")[0]
    assert not list((lake.root / "checkpoints").glob("*.safetensors"))
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        run = instance.get_runs()[0]
        metadata = {
            event.asset_key.to_user_string(): event.metadata
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None and entry.dagster_event.is_step_materialization
            for event in [entry.dagster_event.step_materialization_data.materialization]
        }
    assert set(metadata) == set(KINDS)
    for said in metadata.values():
        assert {"seconds", "peak memory (MiB)", "training curves", "version", "tracks"} <= set(said)


@pytest.mark.slow
def test_all_three_are_compared_with_the_settings_of_the_lake(simulated: Lake) -> None:
    models = ("popularity", "v1", "v2", "v3_seed", "v3_seed_300")
    found = compare_lake(simulated, ComparisonSettings(protocols=("weak",), models=models), lambda *_: None)
    assert [one.model for one in found.outcomes["weak generalisation"]] == list(models)


def test_a_lake_without_features_ends_in_one_clear_line(lake: Lake) -> None:
    lake.admit_source("files")
    rows = [{"user_id": user, "track_id": track, "liked_at": None} for user in "uvw" for track in "abcd"]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    write_batch(lake.raw, DAY, RawBatch("files", "test", likes=likes))
    fill(lake, "none")
    result = run_stages(lake, "generations", DAY, DAY)["v1_model"]
    assert result.facts["not trained"].startswith("no liked track has audio features")
    assert not lake.folder("v1_model").exists()
