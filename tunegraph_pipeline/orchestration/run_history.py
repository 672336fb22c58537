"""The last runs and their steps, read from Dagster's history.

Here: opening the history of a lake to read it, and runs as data for the operator page. Not here: running jobs
(`in_process`), or a history that is written to (`history`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRun
from dagster._core.storage.dagster_run import RunRecord

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.history import chosen_home
from tunegraph_pipeline.orchestration.postgres import connection_errors, reason
from tunegraph_pipeline.pipeline.stages import STAGES

RUNS = 20
"""How many runs are shown."""
MODELS = 200
"""How many of the last trainings and their reuses are looked through."""
_STAGES = frozenset(stage.name for stage in STAGES)
_OUTCOMES = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
_LONGEST = 500
"""Characters of the message of a failure."""


def run_history(lake: Lake) -> dict[str, Any]:
    """The last `RUNS` runs, the newest first, each with its steps in order: asset, outcome, seconds, and what
    it said of itself (how it was made, version, rows).

    ``history`` is false where the lake has none, as where it was copied without. Nothing is written, and runs
    whose process died are shown as Dagster has them. Raises LakeError where it cannot be read.
    """
    with _history(lake) as instance:
        if instance is None:
            return {"history": False, "items": []}
        records = instance.get_run_records(limit=RUNS)
        return {"history": True, "items": [_run(instance, record) for record in records]}


def drift_points(lake: Lake) -> list[dict[str, Any]]:
    """The drift of each model that a run of the history trained from an earlier one, the oldest first:
    version, when, mean_cosine, overlap. Empty without a history. Raises LakeError where it cannot be read."""
    with _history(lake) as instance:
        if instance is None:
            return []
        found = instance.fetch_materializations(AssetKey("trained_model"), limit=MODELS).records
    points: dict[str, dict[str, Any]] = {}
    for record in reversed(found):
        metadata = {} if record.asset_materialization is None else record.asset_materialization.metadata
        value = {name: one.value for name, one in metadata.items()}
        if isinstance(value.get("drift"), dict) and value.get("made") != "reused":
            points[str(value["version"])] = {
                "version": str(value["version"]),
                "when": _iso(record.timestamp),
                "mean_cosine": value["drift, mean cosine"],
                "overlap": value["drift, overlap@10"],
            }
    return list(points.values())


@contextmanager
def _history(lake: Lake) -> Iterator[DagsterInstance | None]:
    """Dagster's instance of a lake, to be read; None where there is no history."""
    try:
        home = chosen_home() or Lake.history_of(lake.root)
    except InputError as error:
        raise LakeError(str(error)) from error
    if not (home / "dagster.yaml").exists():
        yield None
        return
    try:
        with DagsterInstance.from_config(str(home)) as instance:
            yield instance
    except OSError as error:
        raise LakeError(f"Dagster's history in {home} cannot be read: {error.strerror}") from error
    except connection_errors() as error:
        raise LakeError(f"Dagster's history in {home} cannot be read: {reason(error)}") from error


def _run(instance: DagsterInstance, record: RunRecord) -> dict[str, Any]:
    run = record.dagster_run
    facts, problems = _said(instance, run)
    stats = sorted(instance.get_run_step_stats(run.run_id), key=lambda step: step.start_time or 0.0)
    steps = [
        {
            "name": step.step_key,
            "check": step.step_key not in _STAGES,
            "outcome": None if step.status is None else step.status.value.lower(),
            "seconds": _between(step.start_time, step.end_time),
            **facts.get(step.step_key, {"made": None, "version": None, "rows": None}),
        }
        for step in stats
    ]
    return {
        "run_id": run.run_id,
        "job": run.job_name,
        "days": _days(run),
        "outcome": run.status.value.lower(),
        "started": _iso(record.start_time),
        "ended": _iso(record.end_time) if run.status.value in _OUTCOMES else None,
        "seconds": _between(record.start_time, record.end_time),
        "problem": problems[-1] if problems else None,
        "steps": steps,
    }


def _said(instance: DagsterInstance, run: DagsterRun) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What the steps of a run said of what they made, by step, and why steps failed."""
    facts, problems = dict[str, dict[str, Any]](), list[str]()
    kinds = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.STEP_FAILURE}
    for entry in instance.all_logs(run.run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.event_type is DagsterEventType.STEP_FAILURE:
            failed = event.step_failure_data.error
            if failed is not None:
                cause = failed.cause or failed
                problems.append(" ".join(cause.message.split())[:_LONGEST])
            continue
        metadata = event.step_materialization_data.materialization.metadata
        value = {name: metadata[name].value for name in ("made", "version") if name in metadata}
        rows = metadata.get("dagster/row_count")
        facts[event.step_key] = {
            "made": value.get("made"),
            "version": value.get("version"),
            "rows": None if rows is None else rows.value,
        }
    return facts, problems


def _days(run: DagsterRun) -> str | None:
    """The days that a run filled, as `2026-11-01 to 2026-11-30`."""
    tags = run.tags
    start = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    end = tags.get("dagster/asset_partition_range_end") or start
    return start if start == end else f"{start} to {end}"


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 2)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
