"""A refresh that changes nothing shows in Dagster what the one before it showed, plots included."""

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline_tests.pipeline.test_stages import DAY, lake_with_lists

pytestmark = [pytest.mark.dagster, pytest.mark.slow]

OF_THE_RUN = {"made", "seconds", "peak memory (MiB)"}
"""How a run came by the version, and what that cost."""


def metadata_of(lake: Lake, name: str) -> dict[str, Any]:
    """The metadata of the latest materialisation of an asset."""
    with DagsterInstance.from_config(str(lake.history)) as instance:
        event = instance.get_latest_materialization_event(AssetKey(name))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_a_refresh_that_changes_nothing_keeps_figures_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = lake_with_lists(tmp_path / "lake")
    kept = {
        "trained_model": {
            "training curves",
            "calibration of the neighbour probability",
            "MAP@10 on validation",
        },
        "track_embeddings": {"map of the songs", "dagster/row_count"},
        "evaluation": {"beside the baselines", "figures", "map@10", "notes", "dagster/row_count"},
        "like_graph": {"likes per user and track"},
        "user_recommendations": {"dagster/row_count"},
    }
    run_job(lake, "refresh", DAY, DAY)
    before = {name: metadata_of(lake, name) for name in kept}
    run_job(lake, "refresh", DAY, DAY)
    for name, figures in kept.items():
        first, again = before[name], metadata_of(lake, name)
        assert (first["made"], again["made"]) == ("rebuilt", "reused"), name
        assert figures <= first.keys(), name
        assert first.keys() == again.keys(), name
        for key in first.keys() - OF_THE_RUN:
            assert first[key] == again[key], (name, key)
