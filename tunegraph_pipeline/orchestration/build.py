"""The one place where Definitions are assembled; tests, command line and deployments call it."""

from datetime import UTC, date, datetime
from pathlib import Path

from dagster import Definitions, in_process_executor

from tunegraph_pipeline.errors import LakeMissingError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import automation
from tunegraph_pipeline.orchestration.assets import graph, model, research, serving, sources
from tunegraph_pipeline.orchestration.checks import CHECKS
from tunegraph_pipeline.orchestration.jobs import JOBS
from tunegraph_pipeline.orchestration.resources import (
    WAIT_SECONDS,
    lake_folder,
    lake_name,
    lake_resource,
)
from tunegraph_pipeline.orchestration.stage_asset import daily_partitions, with_owners_and_links
from tunegraph_pipeline.pipeline.settings import AssetSettings


def build_definitions(
    root: Path | None = None, *, first: date | None = None, wait_seconds: float = WAIT_SECONDS
) -> Definitions:
    """A new Definitions of everything, for the lake at ``root``, by default that of the environment.

    The days begin where the lake begins, or with ``first`` if that is earlier. A run waits for another writer
    of the lake for ``wait_seconds``, unless its config says otherwise. Raises LakeError.
    """
    root = root or lake_folder()
    today = datetime.now(UTC).date()
    try:
        lake = Lake.open(root)
        begins, shown = lake.first_day(today), lake.section("assets", AssetSettings)
    except LakeMissingError:
        begins, shown = today, AssetSettings()
    begins = min(first or begins, begins)
    assets = [
        *sources.assets(daily_partitions(begins)),
        *graph.ASSETS,
        *model.ASSETS,
        *serving.ASSETS,
        *research.ASSETS,
    ]
    named = {"lake": lake_name(root)}
    return Definitions(
        assets=[
            # Their pages say whose figures they show.
            with_owners_and_links(one, shown).map_asset_specs(
                lambda spec: spec.merge_attributes(metadata=named)
            )
            for one in assets
        ],
        asset_checks=CHECKS,
        jobs=[*JOBS, *automation.JOBS],
        schedules=automation.schedules(automation.schedule_settings(root), begins),
        sensors=automation.sensors(automation.inbox_settings(root)),
        resources={"lake": lake_resource(root, wait_seconds)},
        # One process a run: one holder of the lake's lock, and torch is imported once.
        executor=in_process_executor,
    )
