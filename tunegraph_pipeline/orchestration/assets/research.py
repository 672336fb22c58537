"""What is trained to be compared: the comparison of all models, and the three earlier generations.

No refresh needs them and nothing is served from them. Where a run or a backfill has them beside a refresh, as
in "Materialize all", they come last: see `stage_asset`.
"""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import epoch_observer, materialized_with_warning
from tunegraph_pipeline.orchestration.stage_asset import stage_asset
from tunegraph_pipeline.pipeline.stages import stage

GROUP = "research"


@stage_asset("model_comparison", GROUP, ("parquet", "pytorch"))
def model_comparison(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """Our model, the baselines and the earlier generations on one protocol: quality, memory and time. What is
    compared is section `comparison` of the lake's settings.

    Where the lake is too small to judge anybody, the fact "not compared" says so.
    """
    return materialized_with_warning(context, stage("model_comparison").run(lake, run_id=context.run.run_id))


def _generation(name: str, description: str) -> AssetsDefinition:
    @stage_asset(name, GROUP, ("pytorch", "safetensors"), description=description)
    def model(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
        result = stage(name).run(lake, on_epoch=epoch_observer(context))
        return materialized_with_warning(context, result)

    return model


ASSETS: list[AssetsDefinition] = [
    model_comparison,
    _generation(
        "v1_model", "V1: an MLP over the audio features; a user is the maximum of the songs they like."
    ),
    _generation(
        "v2_model", "V2: a graph transformer over users and songs, trained to predict who likes what."
    ),
    _generation(
        "v3_seed_model",
        "V3 as first written: the same transformer, trained to tell neighbours from other songs.",
    ),
]
