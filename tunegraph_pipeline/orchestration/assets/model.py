"""From graph to embeddings: the trained model and its table; then the comparison and the earlier generations.

No refresh needs the last two, and nothing is served from them.
"""

from collections.abc import Iterator
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, ResourceParam

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import (
    epoch_observer,
    materialized,
    materialized_unless_ended,
)
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


@stage_asset("model_comparison", GROUP, ("parquet", "pytorch"))
def model_comparison(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """Our model, the baselines and the earlier generations on one protocol: quality, memory and time. What is
    compared is section `comparison` of the lake's settings."""
    return materialized(stage("model_comparison").run(lake, run_id=context.run.run_id))


def _generation(name: str, description: str) -> AssetsDefinition:
    @stage_asset(name, "generations", _MODEL_KINDS, description=description)
    def model(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
        return materialized(stage(name).run(lake, on_epoch=epoch_observer(context)))

    return model


ASSETS: list[AssetsDefinition] = [
    trained_model,
    plain_asset(
        "track_embeddings",
        GROUP,
        description="One row for each track: where the model placed it, as a vector of unit length.",
    ),
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
