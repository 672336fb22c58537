"""From graph to embeddings: the trained model, its neighbour probability, and the embedding table."""

from typing import TYPE_CHECKING, Any

import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    Config,
    MaterializeResult,
    MetadataValue,
    asset,
)

from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import digest
from tunegraph_pipeline.orchestration.assets.graph import co_like_matrix
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.like_graph import current_cut_off, known_track_ids, open_like_graph
from tunegraph_pipeline.pipeline.lineage import Today, origin_of
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.trained_model import (
    _CODE,
    data_digest,
    genre_of,
    make_model,
    trained_version,
    training_data,
    training_likes,
    write_model,
)
from tunegraph_pipeline.progress import Measured, report_progress
from tunegraph_pipeline.recommend.publication import needed_models

if TYPE_CHECKING:
    from tunegraph_pipeline.training.loop import EpochReport

GROUP = "model"
_WIDER = 1.2  # how much wider a query's screen may be for the sake of alignment before it is said


class TrainConfig(Config):
    """How this run trains."""

    full: bool = False
    """Train anew, and from nothing, even where a model of the same data and settings is there."""


@asset(
    group_name=GROUP,
    deps=[co_like_matrix],
    kinds={"pytorch", "safetensors"},
    owners=OWNERS,
    code_version=str(_CODE),
)
def trained_model(
    context: AssetExecutionContext, config: TrainConfig, lake: LakeResource
) -> MaterializeResult[Any]:
    """The contrastive graph model with its neighbour weights, blend and calibrated neighbour probability.

    It goes on from the live model where it can, else it begins from nothing, and is turned onto the space
    that is there. A run that was killed goes on from its last epoch.
    """
    from tunegraph_pipeline.evaluation.plots import calibration_diagram, drift_histogram, training_curves
    from tunegraph_pipeline.training.train import TrainingConfig

    plots: dict[str, Any] = {}
    root = lake.open()
    settings = root.section("training", TrainingConfig)
    cut_off = current_cut_off(root)
    with Measured() as cost:
        graph, ids = open_like_graph(root), known_track_ids(root)
        data = training_data(
            graph, ids, root.known_tracks("tracks", cut_off), root.known_tracks("audio_features", cut_off)
        )
        split = root.section("graph", GraphSettings)
        trained_on = data_digest(graph, data, ids, split.held_out, settings)
        version = None if config.full else trained_version(root, trained_on)
        reused = version is not None
        if version is not None:
            root.set_current("models", version)
        else:
            spaces = settings.spaces_for(data.likes_per_track)
            likes = training_likes(data)
            today = Today(
                _CODE, settings, spaces, split.held_out, split.calibration_share, ids, cut_off, likes
            )
            origin = origin_of(root, today, full=config.full)
            context.log.info(origin.said)
            version = f"{cut_off}-" + digest([trained_on, *origin.basis(settings)])

            def on_epoch(report: "EpochReport") -> None:
                context.log_event(AssetObservation(context.asset_key, metadata=report.metadata()))

            checkpoint = root.checkpoint(f"model-{version}")
            if config.full:
                checkpoint.unlink(missing_ok=True)
            made = make_model(
                graph,
                data,
                settings,
                origin,
                checkpoint=checkpoint,
                on_epoch=on_epoch,
                progress=report_progress,
            )
            facts = {
                "code": _CODE,
                "data": trained_on,
                "cut_off": cut_off.isoformat(),
                "held_out": split.held_out,
                "calibration_share": split.calibration_share,
                "id_map": id_map_fingerprint(ids),
                "spaces": spaces,
                **origin.facts(cut_off),
            }
            root.write_version(
                "models",
                version,
                lambda folder: write_model(folder, version, settings, made, facts),
                replace=True,  # one of this version that is there could not be kept, or was not to be
                # The live model is judged against, and served on, for as long as no other one is accepted.
                spare=needed_models(root.serving),
            )
            # Also those of trainings that were killed and whose likes changed since: none goes on from them.
            for left in checkpoint.parent.glob("model-*.safetensors"):
                left.unlink()
            plots["calibration"] = picture(calibration_diagram(made.calibration))
            if made.drift is not None:
                plots["drift of the tracks"] = picture(drift_histogram(made.drift.cosines))
        facts = ArrayFolder.open(root.current_folder("models")).facts
    curves = facts["curves"]
    plots["curves"] = picture(
        training_curves(
            [epoch["loss"] for epoch in curves],
            {"MAP@10": [epoch["validation"] for epoch in curves if "validation" in epoch]},
        )
    )
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            **plots,
            "version": MetadataValue.text(version),
            "unchanged": MetadataValue.bool(reused),
            "trained": MetadataValue.text(facts["trained"]),
            "last trained from nothing": MetadataValue.text(facts["from_nothing"]),
            "warm starts since": MetadataValue.int(facts["chain"]),
            "epochs": MetadataValue.int(facts["epochs"]),
            **drift_metadata(facts["drift"]),
            "MAP@10 on validation": MetadataValue.text("nothing held out")
            if facts["validation"] is None
            else MetadataValue.float(facts["validation"]),
            "blend": MetadataValue.json(facts["blend"]),
            "neighbour probability": MetadataValue.json(facts["calibration_report"]),
        }
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
    from tunegraph_pipeline.evaluation.plots import embedding_map

    root = lake.open()
    with Measured() as cost:
        folder = ArrayFolder.open(root.current_folder("models"))
        version = folder.facts["version"]
        embeddings = folder["embeddings"]
        ids = known_track_ids(root)
        fresh = root.inputs_of("track_embeddings", version) == version
        if not fresh:
            rows = pl.DataFrame(
                {
                    "track_id": ids,
                    "track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True),
                    "embedding": pl.Series(embeddings, dtype=pl.Array(pl.Float32, embeddings.shape[1])),
                    "model_version": pl.Series([version]).new_from_index(0, len(ids)),
                }
            )
            root.write("track_embeddings", version, rows, inputs=version)
            root.keep_partitions("track_embeddings", version)
    metadata: dict[str, Any] = {
        **rows_metadata(root.row_count("track_embeddings", version)),
        **cost_metadata(cost),
        "dimension": MetadataValue.int(embeddings.shape[1]),
        "model version": MetadataValue.text(version),
        "unchanged": MetadataValue.bool(fresh),
    }
    if not fresh:
        genres = genre_of(ids, root.known_tracks("tracks", current_cut_off(root)))
        degrees = open_like_graph(root).track_degrees()
        metadata["map"] = picture(embedding_map(embeddings, degrees, genres))
    return MaterializeResult(metadata=metadata)


ASSETS: list[AssetsDefinition] = [trained_model, track_embeddings]


def drift_metadata(drift: dict[str, Any] | None) -> dict[str, Any]:
    """The drift from the earlier model, and a word where a query's screen would be better off unaligned."""
    if drift is None:
        return {"drift": MetadataValue.text("nothing of an earlier model to compare with")}
    metadata: dict[str, Any] = {
        "drift": MetadataValue.json(drift),
        "drift, mean cosine": MetadataValue.float(drift["mean_cosine"]),
        "drift, overlap@10": MetadataValue.float(drift["overlap@10"]),
    }
    width, least = drift["screen_width"], drift["least_screen_width"]
    if width > _WIDER * least:
        metadata["screen"] = MetadataValue.text(
            f"a query's first look reads {width} coordinates a track in the aligned space, {least} would do"
            " on axes of its own; a training with another dimension turns it anew"
        )
    return metadata
