"""Every model side by side, trained anew on splits of the current likes. Its own job: it takes a while."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import definition_metadata, materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import compare

GROUP = "model"


@stage_asset(
    "model_comparison",
    group_name=GROUP,
    kinds={"parquet", "pytorch"},
    metadata=definition_metadata("evaluation"),
)
def model_comparison(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """Our model, the baselines and the earlier generations on one protocol: quality, memory and time.

    What is compared is section `comparison` of the lake's settings. Nothing it trains is served.
    """
    return materialized(compare.run(lake.open(), run_id=context.run.run_id))


ASSETS: list[AssetsDefinition] = [model_comparison]
