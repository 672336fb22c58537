"""The daily assets over ranges of days and the checks that stop a run, on small lakes and a real instance."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dagster import AssetCheckResult, AssetCheckSeverity, DagsterInstance, IntMetadataValue

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import checks
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.gate import against_popularity, refused_first
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline_tests.pipeline.test_daily_tables import FIRST, LAST, lake_of_two_days

pytestmark = pytest.mark.dagster


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return lake_of_two_days(tmp_path / "lake")


def test_a_range_of_days_is_one_run_with_metadata_a_day(lake: Lake) -> None:
    run_job(lake, "daily_tables", FIRST, LAST)
    assert lake.partitions("likes") == ["2026-02-01", "2026-02-02", "2026-02-03"]
    assert [len(lake.read("likes", day)) for day in lake.partitions("likes")] == [6, 0, 4]
    assert lake.stale_days() == []
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        (run,) = instance.get_runs()
        events = [
            entry.dagster_event.step_materialization_data.materialization
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None and entry.dagster_event.is_step_materialization
        ]
    rows = {
        event.partition: event.metadata["dagster/row_count"].value
        for event in events
        if event.asset_key.to_user_string() == "liked_lists"
    }
    assert rows == {"2026-02-01": 6, "2026-02-02": 0, "2026-02-03": 4}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"source": "spotfy"}, "source 'spotfy' is unknown; choose from simulator, listenbrainz-dumps"),
        ({"first": "yesterday"}, "first 'yesterday' is not a day; write it as YYYY-MM-DD"),
        ({"last": "2999-01-01"}, "last 2999-01-01 is in the future"),
    ],
)
def test_a_crawl_of_a_wrong_source_or_day_is_refused(lake: Lake, config: dict[str, str], line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(line)}"):
        run_job(lake, "daily_tables", FIRST, FIRST, {"crawled_users": config})


# --- checks ---


def _passed(result: object) -> bool:
    assert isinstance(result, AssetCheckResult)
    return bool(result.passed)


def test_a_pair_that_is_there_twice_fails_its_check(lake: Lake) -> None:
    rows = pl.DataFrame({"user_id": ["u", "u"], "track_id": ["a", "b"], "liked_at": None, "position": None})
    lake.set_current("current_likes", "2026-02-01")
    lake.write("current_likes", "2026-02-01", rows)
    assert _passed(checks.each_pair_once(lake=lake))
    lake.write("current_likes", "2026-02-01", pl.concat([rows, rows[:1]]))
    found = checks.each_pair_once(lake=lake)
    assert not _passed(found)
    assert isinstance(found, AssetCheckResult)
    assert found.metadata["duplicate pairs"] == IntMetadataValue(1), "a number, which the UI plots"
    assert found.description == "duplicate pairs: 1"


@pytest.mark.parametrize(
    ("track_idx", "track_id", "holds"),
    [
        ([0, 1], ["b", "a"], True),
        ([1, 0], ["a", "b"], False),
        ([0, 2], ["a", "b"], False),
        ([0, 1], ["a", "a"], False),
    ],
)
def test_indices_that_are_not_contiguous_or_unique_fail(
    lake: Lake, track_idx: list[int], track_id: list[str], holds: bool
) -> None:
    lake.write("track_ids", None, pl.DataFrame({"track_idx": track_idx, "track_id": track_id}))
    assert _passed(checks.indices_contiguous(lake=lake)) == holds


@pytest.mark.parametrize(
    ("vectors", "holds"),
    [
        ([[1.0, 0.0], [0.6, 0.8]], True),
        ([[1.0, 0.0], [0.6, 0.6]], False),
        ([[1.0, 0.0], [float("nan"), 0.0]], False),
        ([[1.0, 0.0]], False),
    ],
)
def test_embeddings_that_are_not_finite_unit_and_complete_fail(
    lake: Lake, vectors: list[list[float]], holds: bool
) -> None:
    lake.write("track_ids", None, pl.DataFrame({"track_idx": [0, 1], "track_id": ["a", "b"]}))
    n = len(vectors)
    rows = pl.DataFrame(
        {
            "track_id": ["a", "b"][:n],
            "track_idx": pl.Series(range(n), dtype=pl.Int32),
            "embedding": pl.Series(np.array(vectors, dtype=np.float32), dtype=pl.Array(pl.Float32, 2)),
            "model_version": ["m"] * n,
        }
    )
    lake.write("track_embeddings", "m", rows)
    lake.set_current("models", "m")
    assert _passed(checks.finite_and_of_unit_length(lake=lake)) == holds


def _model(lake: Lake, **facts: object) -> None:
    facts = {"version": "m", "settings": {"encoder": "none"}, "validation_users": 100, **facts}
    folder = lake.version_folder("models", "m")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"facts": facts, "parts": {}}))
    lake.set_current("models", "m")


@pytest.mark.parametrize(("model", "holds"), [(0.12, True), (0.05, True), (0.01, False), (None, True)])
def test_a_model_worse_than_popularity_fails(lake: Lake, model: float | None, holds: bool) -> None:
    _model(lake, validation=model, validation_of_popularity=0.05)
    assert _passed(checks.better_than_popularity(lake=lake)) == holds


@pytest.mark.parametrize(
    ("users", "high", "severity"),
    [
        (4, -0.01, AssetCheckSeverity.WARN),  # the interval of four users means nothing
        (100, 0.01, AssetCheckSeverity.WARN),
        (100, -0.01, AssetCheckSeverity.ERROR),
    ],
)
def test_a_first_model_is_refused_only_where_it_is_clearly_worse_than_popularity(
    lake: Lake, users: int, high: float, severity: AssetCheckSeverity
) -> None:
    figures = {"validation": 0.01, "validation_of_popularity": 0.05}
    _model(lake, **figures, validation_lead=[-0.09, high], validation_users=users)
    found = checks.better_than_popularity(lake=lake)
    assert isinstance(found, AssetCheckResult)
    assert not found.passed
    assert found.severity == severity
    refused = severity == AssetCheckSeverity.ERROR
    assert (refused_first(lake) is not None) == refused
    said = lake_status(lake)
    assert "MAP@10 on validation is 0.0100, below the 0.0500" in said["model"]
    assert ("may be chance" in said["model"]) == (not refused)
    assert ("tunegraph publish --override" in said["live bundle"]) == refused


def test_a_model_worse_than_popularity_stops_the_run_only_where_no_live_one_can_be_kept(lake: Lake) -> None:
    _model(lake, validation=0.01, validation_of_popularity=0.05)

    def severity() -> AssetCheckSeverity:
        found = checks.better_than_popularity(lake=lake)
        assert isinstance(found, AssetCheckResult)
        return found.severity

    assert severity() == AssetCheckSeverity.ERROR
    bundle = lake.serving / "b1"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text(json.dumps({"facts": {"model_version": "m0"}, "parts": {}}))
    (lake.serving / "CURRENT").write_text("b1\n")
    assert severity() == AssetCheckSeverity.WARN
    # The gate takes over: such a model is refused whatever the comparison says.
    assert against_popularity(lake, "m").objection == (
        "MAP@10 on validation is 0.0100, below the 0.0500 of the most popular songs"
    )
