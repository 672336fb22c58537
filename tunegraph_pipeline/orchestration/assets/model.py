"""From graph to embeddings: the trained model and its table."""

from collections.abc import Iterator
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, ResourceParam

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import epoch_observer, materialized_unless_ended
from tunegraph_pipeline.orchestration.stage_asset import plain_asset, stage_asset
from tunegraph_pipeline.pipeline.stages import stage

GROUP = "model"
_MODEL_KINDS = ("pytorch", "safetensors")


class TrainConfig(Config):
    """How this run trains."""

    full: bool = False
    """Train from scratch, even where a model of the same data and settings is there."""


@stage_asset("trained_model", GROUP, _MODEL_KINDS, output_required=False)
def trained_model(
    context: AssetExecutionContext, config: TrainConfig, lake: ResourceParam[Lake]
) -> Iterator[MaterializeResult[Any]]:
    """The contrastive graph model with its neighbour weights, blend and calibrated neighbour probability.

    It is a warm start from the live model where that is possible, else trained from scratch and aligned with
    the earlier space. A run that was killed continues from its last epoch.

    Where no two users like the same song there is nothing to learn: the run ends here, and the live bundle
    stays.
    """
    observe, log = epoch_observer(context), context.log.info
    result = stage("trained_model").run(lake, full=config.full, on_epoch=observe, log=log)
    yield from materialized_unless_ended(context, result)


ASSETS: list[AssetsDefinition] = [
    trained_model,
    plain_asset(
        "track_embeddings",
        GROUP,
        description="One row for each track: where the model placed it, as a vector of unit length.",
    ),
]
