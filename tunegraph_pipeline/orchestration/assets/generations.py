"""The three generations before today's model, each trained on the current like graph. No refresh needs them.

They are for comparing: nothing is served from them.
"""

from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    asset,
)

from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import digest
from tunegraph_pipeline.orchestration.assets.graph import co_like_matrix
from tunegraph_pipeline.orchestration.metadata import OWNERS, cost_metadata, counts_table, picture
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.generations import _CODE, write_generation
from tunegraph_pipeline.pipeline.like_graph import current_cut_off, known_track_ids, open_like_graph
from tunegraph_pipeline.pipeline.trained_model import fingerprint_of, training_data
from tunegraph_pipeline.progress import Measured, report_progress

if TYPE_CHECKING:
    from tunegraph_pipeline.generations.training import GenerationName
    from tunegraph_pipeline.training.loop import EpochReport

GROUP = "generations"
_KINDS = {"pytorch", "safetensors"}


@asset(group_name=GROUP, deps=[co_like_matrix], kinds=_KINDS, owners=OWNERS, code_version=str(_CODE))
def v1_model(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """V1: an MLP over the audio features; a user is the maximum of the songs they like."""
    return _train(context, lake, "v1")


@asset(group_name=GROUP, deps=[co_like_matrix], kinds=_KINDS, owners=OWNERS, code_version=str(_CODE))
def v2_model(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """V2: a graph transformer over users and songs, trained to tell who likes what."""
    return _train(context, lake, "v2")


@asset(group_name=GROUP, deps=[co_like_matrix], kinds=_KINDS, owners=OWNERS, code_version=str(_CODE))
def v3_seed_model(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """V3 as it was first written: the same transformer, trained to tell neighbours from strangers."""
    return _train(context, lake, "v3_seed")


ASSETS: list[AssetsDefinition] = [v1_model, v2_model, v3_seed_model]


def _train(
    context: AssetExecutionContext, lake: LakeResource, name: "GenerationName"
) -> MaterializeResult[Any]:
    """Train a generation, unless one of the same data and settings is there."""
    from tunegraph_pipeline.evaluation.plots import training_curves
    from tunegraph_pipeline.generations.training import GenerationConfig, train_generation

    root = lake.open()
    kind = f"{name}_model"
    settings = root.section("generations", GenerationConfig).model_copy(update={"generation": name})
    cut_off = current_cut_off(root)
    with Measured() as cost:
        data = training_data(
            open_like_graph(root),
            known_track_ids(root),
            root.known_tracks("tracks", cut_off),
            root.known_tracks("audio_features", cut_off),
        )
        inputs = [_CODE, root.current_version("like_graph"), fingerprint_of(data.features)]
        version = f"{cut_off}-" + digest([*inputs, settings.model_dump(mode="json")])
        reused = root.has_version(kind, version)
        if reused:
            root.set_current(kind, version)
        else:

            def on_epoch(report: "EpochReport") -> None:
                context.log_event(AssetObservation(context.asset_key, metadata=report.metadata()))

            checkpoint = root.checkpoint(f"{name}-{version}")
            trained = train_generation(
                data, settings, checkpoint=checkpoint, on_epoch=on_epoch, progress=report_progress
            )
            root.write_version(
                kind, version, lambda folder: write_generation(folder, version, settings, trained)
            )
            checkpoint.unlink(missing_ok=True)
        facts = ArrayFolder.open(root.current_folder(kind)).facts
    curves = facts["curves"]
    validation = [epoch["validation"] for epoch in curves if "validation" in epoch]
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            "curves": picture(training_curves([epoch["loss"] for epoch in curves], {"MAP@10": validation})),
            "version": MetadataValue.text(version),
            "unchanged": MetadataValue.bool(reused),
            "MAP@10 on validation": MetadataValue.text("nothing held out")
            if facts["validation"] is None
            else MetadataValue.float(facts["validation"]),
            "tracks": counts_table(facts["tracks"]),
        }
    )
