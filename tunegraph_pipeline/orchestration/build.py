"""The one place where Definitions are assembled; tests, command line and deployments call it."""

from collections.abc import Mapping
from typing import Any

from dagster import Definitions, in_process_executor

from tunegraph_pipeline.orchestration import automation
from tunegraph_pipeline.orchestration.assets import graph, model, research, serving, sources
from tunegraph_pipeline.orchestration.checks import CHECKS
from tunegraph_pipeline.orchestration.jobs import JOBS
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.settings import ScheduleSettings


def build_definitions(
    resource_overrides: Mapping[str, Any] | None = None, times: ScheduleSettings | None = None
) -> Definitions:
    """A new Definitions of everything; ``times`` is when the schedules tick."""
    return Definitions(
        assets=[*sources.ASSETS, *graph.ASSETS, *model.ASSETS, *serving.ASSETS, *research.ASSETS],
        asset_checks=CHECKS,
        jobs=[*JOBS, *automation.JOBS],
        schedules=automation.schedules(times or ScheduleSettings()),
        sensors=automation.SENSORS,
        resources={"lake": LakeResource(), **(resource_overrides or {})},
        # One process a run: one holder of the lake's lock, and torch is imported once.
        executor=in_process_executor,
    )
