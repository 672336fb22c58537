"""From graph to embeddings: the trained model, its neighbour probability, and the embedding table."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import (
    definition_metadata,
    epoch_observer,
    materialized,
    stage_asset,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import track_embeddings as track_embeddings_stage
from tunegraph_pipeline.pipeline import trained_model as trained_model_stage

GROUP = "model"


class TrainConfig(Config):
    """How this run trains."""

    full: bool = False
    """Train from scratch, even where a model of the same data and settings is there."""


@stage_asset("trained_model", group_name=GROUP, kinds={"pytorch", "safetensors"})
def trained_model(
    context: AssetExecutionContext, config: TrainConfig, lake: LakeResource
) -> MaterializeResult[Any]:
    """The contrastive graph model with its neighbour weights, blend and calibrated neighbour probability.

    It is a warm start from the live model where that is possible, else trained from scratch and aligned with
    the earlier space. A run that was killed continues from its last epoch.
    """
    return materialized(
        trained_model_stage.run(
            lake.open(), full=config.full, on_epoch=epoch_observer(context), log=context.log.info
        )
    )


@stage_asset(
    "track_embeddings",
    group_name=GROUP,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("track_embeddings"),
)
def track_embeddings(lake: LakeResource) -> MaterializeResult[Any]:
    """One row a track: where the model placed it, as a vector of unit length."""
    return materialized(track_embeddings_stage.run(lake.open()))


ASSETS: list[AssetsDefinition] = [trained_model, track_embeddings]
