"""What the jobs do, without Dagster and the SQL views: the same stages in order, in a fraction of the time.

That both leave the same lake is for `pipeline/test_stages.py` to say.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tunegraph_pipeline.lake.feedback_spool import collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import publish
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stages import STAGES, Stage
from tunegraph_pipeline_tests.lean_command import few_query_times

GRAPH = ("likes_from_plays", "current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix")
SERVING = ("serving_bundle", "user_recommendations", "evaluation", "retention")
JOBS = {
    "daily_tables": [one for one in STAGES if one.daily],
    "refresh": [one for one in STAGES if one.in_refresh],
    "graph": [one for one in STAGES if one.daily or one.name in GRAPH],
    "forget": [one for one in STAGES if one.name in ("forgotten_users", *GRAPH, *SERVING)],
    "publish": [one for one in STAGES if one.name in SERVING],
    "generations": [one for one in STAGES if one.module == "generations"],
}
_JOB_OPTIONS: dict[str, dict[str, Any]] = {
    "forget": {"forgotten_users": {"only_republish": True}, "serving_bundle": {"judge": False}}
}


def run_stages(
    lake: Lake,
    job: str,
    first: date | None = None,
    last: date | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, StageResult]:
    """Run the stages of ``job`` for the days from ``first`` to ``last``, with ``options`` by stage."""
    given = {**_JOB_OPTIONS.get(job, {}), **(options or {})}
    today = datetime.now(UTC).date()
    days = [first + timedelta(n) for n in range((last - first).days + 1)] if first and last else []
    results = {}
    for one in JOBS[job]:
        if one.name == "crawled_users":
            collect(lake)
            for day in days:
                crawl_day(lake, given.get(one.name, {}).get("source", ""), day)
        results[one.name] = _run(one, lake, days, today, given.get(one.name, {}))
        if results[one.name].ends:
            break
    return results


def _run(one: Stage, lake: Lake, days: list[date], today: date, options: Mapping[str, Any]) -> StageResult:
    if one.daily:
        return [one.run(lake, day=day) for day in days][-1]
    if one.name in ("forgotten_users", "retention"):
        return one.run(lake, today=today, **options)
    if one.name == "serving_bundle":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publish, "query_times", few_query_times)
            return one.run(lake, **options)
    if one.name == "evaluation":
        return one.run(lake, run_id="test", **options)
    return one.run(lake, **options)
