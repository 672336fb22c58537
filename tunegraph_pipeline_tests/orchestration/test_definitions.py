"""What Dagster sees: the assets, checks, jobs and schedules by name, and that loading them costs little."""

import subprocess
import sys

import pytest
from dagster import AssetSpec, Definitions

from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline_tests.run_stages import JOBS

pytestmark = pytest.mark.dagster


@pytest.fixture(scope="module")
def defs() -> Definitions:
    return build_definitions()


def _specs(defs: Definitions) -> dict[str, AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_graph_of_assets_is_the_documented_one(defs: Definitions) -> None:
    """A snapshot: an asset that is renamed or rewired is seen in review."""
    edges = {
        name: sorted(dep.asset_key.to_user_string() for dep in spec.deps)
        for name, spec in _specs(defs).items()
    }
    assert edges == {
        "forgotten_users": [],
        "crawled_users": ["forgotten_users"],
        "liked_lists": ["crawled_users"],
        "tracks": ["crawled_users"],
        "audio_features": ["crawled_users"],
        "feedback": ["crawled_users"],
        "current_likes": ["feedback", "forgotten_users", "liked_lists", "tracks"],
        "track_ids": ["audio_features", "current_likes", "tracks"],
        "catalogue": ["audio_features", "track_ids", "tracks"],
        "like_graph": ["catalogue", "current_likes"],
        "co_like_matrix": ["like_graph"],
        "trained_model": ["co_like_matrix"],
        "track_embeddings": ["trained_model"],
        "serving_bundle": ["like_graph", "track_embeddings"],
        "user_recommendations": ["serving_bundle"],
        "evaluation": ["serving_bundle"],
        "retention": ["evaluation", "serving_bundle", "user_recommendations"],
        "model_comparison": ["like_graph", "retention"],
        "v1_model": ["co_like_matrix", "retention"],
        "v2_model": ["co_like_matrix", "retention"],
        "v3_seed_model": ["co_like_matrix", "retention"],
    }, "if this is meant: change it here, and in docs/architecture.md"


def test_every_stage_has_an_asset_and_runs_in_the_same_jobs_without_dagster(defs: Definitions) -> None:
    assert set(_specs(defs)) == {one.name for one in STAGES}, "plain_asset in orchestration/assets/ makes one"
    for job in JOBS.keys() - {"graph"}:  # a job of the tests alone
        keys = defs.resolve_job_def(job).asset_layer.executable_asset_keys
        here = {one.name for one in JOBS[job]}
        assert {key.to_user_string() for key in keys} == here, f"put it into {job} of run_stages.py too"


def test_every_asset_says_what_it_is(defs: Definitions) -> None:
    for name, spec in _specs(defs).items():
        assert spec.group_name in {"sources", "graph", "model", "serving", "research"}, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.code_version, name
        assert spec.description, name


def test_the_daily_assets_are_partitioned_from_the_start_and_backfilled_in_one_run(defs: Definitions) -> None:
    daily = {name: spec for name, spec in _specs(defs).items() if spec.partitions_def is not None}
    assert set(daily) == {"crawled_users", "liked_lists", "tracks", "audio_features", "feedback"}
    graph = defs.resolve_asset_graph()
    for spec in daily.values():
        policy = graph.get(spec.key).backfill_policy
        assert policy is not None
        assert policy.max_partitions_per_run is None


def test_jobs_schedules_and_checks_have_their_names(defs: Definitions) -> None:
    assert {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")} == {
        "daily_tables",
        "refresh",
        "forget",
        "publish",
        "compare",
        "generations",
        "import_inbox",
    }
    refreshed = defs.resolve_job_def("refresh").asset_layer.executable_asset_keys
    assert {"v1_model", "v2_model", "v3_seed_model"}.isdisjoint(key.to_user_string() for key in refreshed)
    assert {"forgotten_users", "retention"} <= {key.to_user_string() for key in refreshed}
    assert [schedule.name for schedule in defs.schedules or []] == ["daily_refresh", "weekly_full_refresh"]
    assert [sensor.name for sensor in defs.sensors or []] == ["inbox", "alert_on_failure"]
    graph = defs.resolve_asset_graph()
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys} >= {
        "crawled_users",
        "liked_lists",
        "current_likes",
        "track_ids",
        "co_like_matrix",
        "trained_model",
        "track_embeddings",
        "serving_bundle",
    }


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("tunegraph_pipeline.definitions", ["torch", "torch_geometric", "sklearn", "matplotlib", "duckdb"]),
        (
            "tunegraph_pipeline.cli.app",
            ["dagster", "torch", "torch_geometric", "sklearn", "matplotlib", "scipy"],
        ),
    ],
)
def test_importing_loads_nothing_heavy(module: str, forbidden: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
