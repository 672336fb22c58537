"""The three generations before today's model, each trained on the current like graph. No refresh needs them.

They are for comparing: nothing is served from them.
"""

from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import epoch_observer, materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import generations

if TYPE_CHECKING:
    from tunegraph_pipeline.generations.training import GenerationName

_DESCRIPTIONS: "dict[GenerationName, str]" = {
    "v1": "V1: an MLP over the audio features; a user is the maximum of the songs they like.",
    "v2": "V2: a graph transformer over users and songs, trained to tell who likes what.",
    "v3_seed": "V3 as it was first written: the same transformer, trained to tell neighbours from strangers.",
}


def _model_of(name: "GenerationName", description: str) -> AssetsDefinition:
    @stage_asset(
        f"{name}_model", description=description, group_name="generations", kinds={"pytorch", "safetensors"}
    )
    def model(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
        return materialized(generations.run(lake.open(), name, on_epoch=epoch_observer(context)))

    return model


ASSETS: list[AssetsDefinition] = [_model_of(name, text) for name, text in _DESCRIPTIONS.items()]
