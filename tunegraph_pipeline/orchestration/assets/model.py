"""From graph to embeddings: the trained model, its neighbour probability, and the embedding table."""

import hashlib
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
from numpy.typing import NDArray

from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.graph.recordings import is_alias, known_under_any_id
from tunegraph_pipeline.graph.split import EARLY_STOPPING, TRAIN
from tunegraph_pipeline.lake.arrays import ArrayFolder, StringColumn, write_arrays
from tunegraph_pipeline.lake.lake import digest
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.lake.tables import inputs_of, row_count
from tunegraph_pipeline.lake.weights import save_tensors
from tunegraph_pipeline.orchestration.assets.graph import (
    GraphSettings,
    co_like_matrix,
    current_cut_off,
    known_track_ids,
    open_like_graph,
)
from tunegraph_pipeline.orchestration.measure import Measured, report_progress
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.recommend.publication import bundled_models

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.training.calibration import Calibration
    from tunegraph_pipeline.training.loop import EpochReport
    from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData

GROUP = "model"
_CODE = 3  # of the training; raise it when the same data gives another model


class TrainConfig(Config):
    """How this run trains."""

    full: bool = False
    """Train anew even where a model of the same data and settings is there."""


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

    A run that was killed goes on from its last epoch.
    """
    from tunegraph_pipeline.evaluation.plots import calibration_diagram, training_curves
    from tunegraph_pipeline.training.layout import map_of
    from tunegraph_pipeline.training.train import TrainingConfig, on_principal_axes, train

    plots: dict[str, Any] = {}
    root = lake.open()
    settings = root.section("training", TrainingConfig)
    cut_off = current_cut_off(root)
    with Measured() as cost:
        graph = open_like_graph(root)
        data = training_data(
            graph,
            known_track_ids(root),
            root.known_tracks("tracks", cut_off),
            root.known_tracks("audio_features", cut_off),
        )
        artists = data.track_artists
        content = [data.features, data.album, artists.indptr, artists.indices]
        version = f"{cut_off}-" + digest(
            [
                _CODE,
                root.current_version("like_graph"),
                [fingerprint_of(array) for array in content],
                settings.model_dump(mode="json"),
            ]
        )
        reused = root.has_version("models", version) and not config.full
        if reused:
            root.set_current("models", version)
        else:

            def on_epoch(report: "EpochReport") -> None:
                context.log_event(AssetObservation(context.asset_key, metadata=report.metadata()))

            checkpoint = root.root / "checkpoints" / f"{version}.safetensors"
            if config.full:
                checkpoint.unlink(missing_ok=True)
            model = train(data, settings, checkpoint=checkpoint, on_epoch=on_epoch, progress=report_progress)
            model = replace(model, embeddings=on_principal_axes(model.embeddings))
            model = under_every_id(model, graph.canonical)
            calibration = calibrate_on(graph, model, data)
            report_progress("lay out the map", 0, 1)
            layout = map_of(model.embeddings, graph.track_degrees(), seed=settings.seed)
            report_progress("lay out the map", 1, 1)
            trained_on = {
                "held_out": root.section("graph", GraphSettings).held_out,
                "id_map": id_map_fingerprint(known_track_ids(root)),
            }
            root.write_version(
                "models",
                version,
                lambda folder: write_model(
                    folder, version, settings, model, calibration, graph.canonical, layout, trained_on
                ),
                replace=config.full,
                # The live model is judged against, and served on, for as long as no other one is accepted.
                spare=bundled_models(root.serving),
            )
            checkpoint.unlink(missing_ok=True)
            plots["calibration"] = picture(calibration_diagram(calibration))
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
        fresh = inputs_of(root.root, "track_embeddings", version) == version
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
        **rows_metadata(row_count(root.root, "track_embeddings", version)),
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


def training_data(
    graph: LikeGraph, ids: pl.Series, tracks: pl.DataFrame, features: pl.DataFrame
) -> "TrainingData":
    """Line up what a model learns from: rows of every array are track_idx, as in ``ids``.

    Tracks without known artists, album or features get empty rows, -1 and NaN. So do those another id stands
    for: what is known of a recording under any id is told once, under the id that has the likes.
    """
    from tunegraph_pipeline.training.train import TrainingData

    known = _told_once(known_under_any_id(ids, graph.canonical, tracks), graph)
    heard = _told_once(known_under_any_id(ids, graph.canonical, features), graph)
    train = graph.training_matrix()
    early = graph.fold_matrix(EARLY_STOPPING)
    users = np.flatnonzero((np.diff(early.indptr) > 0) & ~graph.calibration)
    return TrainingData(
        train=train,
        context=graph.fold_matrix(TRAIN)[users],
        targets=early[users],
        features=heard.select(AUDIO_FEATURES).cast(pl.Float32).fill_null(np.nan).to_numpy(),
        track_artists=_artists(known),
        album=_codes(known["album_id"]),
    )


def under_every_id(model: "TrainedModel", canonical: NDArray[np.int32]) -> "TrainedModel":
    """Give every id of a recording the place, weight and prior of the one that was trained on."""
    return replace(
        model,
        embeddings=model.embeddings[canonical],
        pooling_weight=model.pooling_weight[canonical],
        prior=model.prior[canonical],
    )


def calibrate_on(graph: LikeGraph, model: "TrainedModel", data: "TrainingData") -> "Calibration":
    """Fit and judge the neighbour probability on the two halves of the users nobody was trained on."""
    from tunegraph_pipeline.training.calibration import calibrate

    likes = graph.matrix()
    popularity = np.bincount(data.train.indices, minlength=graph.n_tracks)
    fit, judge = graph.calibration & ~graph.judge, graph.judge
    return calibrate(model.embeddings, popularity, likes[np.flatnonzero(fit)], likes[np.flatnonzero(judge)])


def write_model(
    folder: Path,
    version: str,
    settings: "TrainingConfig",
    model: "TrainedModel",
    calibration: "Calibration",
    canonical: NDArray[np.int32],
    layout: NDArray[np.float32],
    trained_on: dict[str, Any],
) -> None:
    """Put what a bundle needs of a model, its weights and how it was made into ``folder``.

    ``layout`` is where the tracks lie on the map. ``canonical`` of the graph and ``trained_on``, the share
    that was held out and the id map, tell a later day which likes it never was shown, and which rows are
    whose.
    """
    save_tensors(folder / "weights.safetensors", model.tensors, {"version": version})
    judged = not math.isnan(model.validation)
    facts = {
        "version": version,
        **trained_on,
        "settings": settings.model_dump(mode="json"),
        "blend": asdict(model.blend),
        "curves": [report.metadata() for report in model.curves],
        "best_epoch": model.best_epoch,
        # MAP@10 on the early-stopping fold; null in a lake too small to hold anything out.
        "validation": model.validation if judged else None,
        "validation_of_popularity": model.validation_of_popularity if judged else None,
        "calibration": calibration.facts(),
        "calibration_report": calibration.report(),
    }
    arrays: dict[str, NDArray[Any] | StringColumn] = {
        "embeddings": model.embeddings,
        "pooling_weight": model.pooling_weight,
        "neighbour_indptr": model.neighbour_indptr,
        "neighbour_indices": model.neighbour_indices,
        "neighbour_weight": model.neighbour_weight,
        "prior": model.prior,
        "placed": model.placed,
        "recommendable": model.recommendable,
        "canonical": canonical,
        "layout": layout,
    }
    write_arrays(folder, arrays, facts)


def genre_of(ids: pl.Series, tracks: pl.DataFrame) -> list[str]:
    """The genre of each track, "" where unknown."""
    known = pl.DataFrame({"track_id": ids}).join(tracks, on="track_id", how="left", maintain_order="left")
    return known["genre"].fill_null("").to_list()


def fingerprint_of(array: NDArray[Any]) -> str:
    return digest([array.shape, hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=8).hexdigest()])


def _told_once(rows: pl.DataFrame, graph: LikeGraph) -> pl.DataFrame:
    """Empty the rows of tracks that another one stands for."""
    aliases = is_alias(graph.canonical)
    if not aliases.any():
        return rows
    own = pl.lit(pl.Series(~aliases))
    return rows.with_columns(pl.when(own).then(pl.exclude("track_id")).name.keep())


def _codes(column: pl.Series) -> NDArray[np.int32]:
    """Number the values of a column in sorted order; -1 for null."""
    values = column.drop_nulls().unique().sort()
    codes = column.replace_strict(
        values, pl.arange(len(values), eager=True), default=-1, return_dtype=pl.Int32
    )
    return codes.to_numpy()


def _artists(known: pl.DataFrame) -> "csr_matrix":
    """Tracks by artists, by id where the source has ids, else by name."""
    from scipy.sparse import csr_matrix

    who = known.with_row_index("track").select(
        "track", artist=pl.when(pl.col("artist_ids").list.len() > 0).then("artist_ids").otherwise("artists")
    )
    pairs = who.explode("artist").drop_nulls("artist").unique(maintain_order=True)
    codes = _codes(pairs["artist"])
    shape = (len(known), int(codes.max(initial=-1)) + 1)
    return csr_matrix((np.ones(len(codes), dtype=np.bool_), (pairs["track"].to_numpy(), codes)), shape=shape)
