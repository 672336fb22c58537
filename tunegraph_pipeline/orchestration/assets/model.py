"""From graph to embeddings: the trained model, its neighbour probability, and the embedding table."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, asset

from tunegraph_pipeline.orchestration.assets.graph import co_like_matrix
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    definition_metadata,
    epoch_observer,
    materialized,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import track_embeddings as track_embeddings_stage
from tunegraph_pipeline.pipeline import trained_model as trained_model_stage

GROUP = "model"


class TrainConfig(Config):
    """How this run trains."""

    full: bool = False
    """Train from scratch, even where a model of the same data and settings is there."""


@asset(
    group_name=GROUP,
    deps=[co_like_matrix],
    kinds={"pytorch", "safetensors"},
    owners=OWNERS,
    code_version=str(trained_model_stage.CODE),
)
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


@asset(
    group_name=GROUP,
    deps=[trained_model],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("track_embeddings"),
)
def track_embeddings(lake: LakeResource) -> MaterializeResult[Any]:
    """One row a track: where the model placed it, as a vector of unit length."""
    return materialized(track_embeddings_stage.run(lake.open()))


ASSETS: list[AssetsDefinition] = [trained_model, track_embeddings]
