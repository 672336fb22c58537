"""Prune what may or need not be kept: the last stage of a run, when everything current is in place."""

from datetime import UTC, datetime
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import retention as retention_stage

GROUP = "serving"


@stage_asset("retention", group_name=GROUP, kinds={"parquet"})
def retention(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """Removes old versions that still hold users who were forgotten, or what has expired; then whatever is
    older than the section `retention` of the lake's settings says."""
    return materialized(retention_stage.run(lake.open(), datetime.now(UTC).date(), log=context.log.info))


ASSETS: list[AssetsDefinition] = [retention]
