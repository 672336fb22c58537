"""What Dagster sees: the assets, checks, jobs and schedules by name, and that loading them costs little."""

import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetSpec, Definitions
from dagster._core.definitions.utils import is_valid_owner
from pydantic import ValidationError

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.pipeline.columns import about_people, columns_of
from tunegraph_pipeline.pipeline.settings import AssetSettings
from tunegraph_pipeline.pipeline.stages import STAGES, stage
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
        "redirects": ["crawled_users"],
        "feedback": ["crawled_users"],
        "plays": ["crawled_users"],
        "likes_from_plays": ["forgotten_users", "plays"],
        "current_likes": [
            "feedback",
            "forgotten_users",
            "liked_lists",
            "likes_from_plays",
            "redirects",
            "tracks",
        ],
        "track_ids": ["audio_features", "current_likes", "tracks"],
        "catalogue": ["audio_features", "redirects", "track_ids", "tracks"],
        "like_graph": ["catalogue", "current_likes"],
        "co_like_matrix": ["like_graph"],
        "trained_model": ["co_like_matrix"],
        "track_embeddings": ["trained_model"],
        "serving_bundle": ["like_graph", "track_embeddings"],
        "user_recommendations": ["serving_bundle"],
        "evaluation": ["serving_bundle"],
        "retention": ["evaluation", "serving_bundle", "user_recommendations"],
        "model_comparison": ["like_graph", "retention"],
        "v1_model": ["like_graph", "retention"],
        "v2_model": ["like_graph", "retention"],
        "v3_seed_model": ["like_graph", "retention"],
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
        assert 1 <= len(spec.kinds) <= 3, name
        assert spec.code_version, name
        assert spec.description, name
        assert spec.tags["domain"] in {"listening", "catalogue", "model", "serving"}, name
        assert ("pii" in spec.tags) == about_people(stage(name)), name


def test_every_asset_shows_its_columns_and_what_they_are_made_from(defs: Definitions) -> None:
    for name, spec in _specs(defs).items():
        declared = {column.name: column for column in columns_of(stage(name))}
        schema, lineage = (spec.metadata.get(f"dagster/column_{what}") for what in ("schema", "lineage"))
        shown = {column.name: column for column in schema.columns} if schema else {}
        assert shown.keys() == declared.keys(), name
        made_from = {
            column: sorted((dep.asset_key.to_user_string(), dep.column_name) for dep in deps)
            for column, deps in (lineage.deps_by_column.items() if lineage else ())
        }
        assert made_from == {key: sorted(one.made_from) for key, one in declared.items() if one.made_from}, (
            name
        )
        assert {key for key, one in shown.items() if one.tags} == {
            key for key, one in declared.items() if one.personal
        }
    likes = _specs(defs)["current_likes"].metadata["dagster/column_schema"]
    (liked_at,) = (column for column in likes.columns if column.name == "liked_at")
    assert liked_at.description == (
        "when the like was made; null when unknown."
        " From liked_lists (liked_at), likes_from_plays (liked_at), feedback (at)"
    )


def test_owners_and_links_are_those_of_the_settings(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    for spec in _specs(build_definitions(lake.root)).values():
        assert not spec.owners
        for link in spec.metadata["dagster/code_references"].code_references:
            assert Path(link.file_path).is_file()
    owners, address = ["team:music", "somebody@example.org"], "https://example.org/tunegraph/blob/main"
    lake.set_section("assets", {"owners": owners, "code_url": f"{address}/"})
    specs = _specs(build_definitions(lake.root))
    assert {tuple(spec.owners) for spec in specs.values()} == {tuple(owners)}
    links = specs["evaluation"].metadata["dagster/code_references"].code_references
    assert [(link.label, link.url) for link in links] == [
        ("code", f"{address}/tunegraph_pipeline/pipeline/evaluate.py"),
        ("docs", f"{address}/docs/architecture.md"),
    ]


@pytest.mark.parametrize("owner", ["a.b+c@example.org", "team:a b", "me", "team:", "a@b", "@example.org"])
def test_an_owner_is_taken_by_the_settings_where_dagster_takes_it(owner: str) -> None:
    try:
        AssetSettings(owners=(owner,))
    except ValidationError:
        assert not is_valid_owner(owner)
    else:
        assert is_valid_owner(owner)


def test_the_daily_assets_are_partitioned_from_the_start_and_backfilled_in_one_run(defs: Definitions) -> None:
    daily = {name: spec for name, spec in _specs(defs).items() if spec.partitions_def is not None}
    described = {"tracks", "audio_features", "redirects"}
    assert set(daily) == {"crawled_users", "liked_lists", "feedback", "plays", *described}
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
        (
            "tunegraph_pipeline.definitions",
            ["torch", "torch_geometric", "sklearn", "matplotlib", "scipy", "duckdb"],
        ),
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
