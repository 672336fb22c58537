"""Train a lake's model: line up its data, choose its parent, train, align, calibrate and write it.

Here: the stage, and what a training reads from a lake and writes to it. Not here: training (`training`), or
the choice of the parent (`lineage`).
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.engine.engine import Engine, engine_of
from tunegraph_pipeline.engine.local import LOCAL
from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.evaluation.gate import GateSettings, paired_bootstrap
from tunegraph_pipeline.evaluation.plots import calibration_diagram, drift_histogram, training_curves
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_ages import OrderedRows, moments_of
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.graph.split import EARLY_STOPPING, TRAIN
from tunegraph_pipeline.lake.array_spec import as_declared, declared_fields
from tunegraph_pipeline.lake.arrays import ArrayFolder, StringColumn, UInt16, write_arrays
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.lake.tensors import save_tensors
from tunegraph_pipeline.models.arrays import MODEL, REFITTED, ServedArrays
from tunegraph_pipeline.pipeline.alone import end_run, why_alone
from tunegraph_pipeline.pipeline.bundle import what_is_served
from tunegraph_pipeline.pipeline.catalogue import described, read_catalogue
from tunegraph_pipeline.pipeline.gate import against_popularity
from tunegraph_pipeline.pipeline.like_ages import like_ages
from tunegraph_pipeline.pipeline.like_graph import open_like_graph, shares_kept_from_training
from tunegraph_pipeline.pipeline.lineage import WEIGHTS, Earlier, Origin, Today, origin_of
from tunegraph_pipeline.pipeline.play_counts import play_counts
from tunegraph_pipeline.pipeline.stage_result import How, Plot, StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.progress import Measured, Progress, report_note, report_progress
from tunegraph_pipeline.recommend.publication import needed_models

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.training.alignment import Drift
    from tunegraph_pipeline.training.calibration import Calibration
    from tunegraph_pipeline.training.loop import EpochReport
    from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData


_LOG = logging.getLogger(__name__)
_CODE = stage("trained_model").code
_Served = TypeVar("_Served", bound=ServedArrays)
_MUCH_WIDER = 1.2  # a query's screen may be this much wider for the sake of alignment before it is reported


def run(
    lake: Lake,
    *,
    full: bool = False,
    on_epoch: "Callable[[EpochReport], None] | None" = None,
    progress: Progress = report_progress,
    log: Callable[[str], None] = _LOG.info,
) -> StageResult:
    """Make the model of the current like graph current, trained unless it exists.

    ``full`` trains from scratch even if it exists. ``on_epoch`` is called after each epoch; ``log`` with one
    line before the training: the parent of a warm start, or the reason there is none. A killed training
    continues from its last epoch. Where no two users like the same song, nothing is trained and the run ends.
    """
    from tunegraph_pipeline.training.train import TrainingConfig

    if (why := why_alone(open_like_graph(lake))) is not None:
        return end_run(lake, why)
    plots: dict[str, Plot] = {}
    settings = lake.section("training", TrainingConfig)
    gate = lake.section("gate", GateSettings)
    held_out, calibration_share = shares_kept_from_training(lake)
    cut_off = current_cut_off(lake)
    with Measured() as cost:
        graph, ids = open_like_graph(lake), known_track_ids(lake)
        data = lake_training_data(lake, graph)
        trained_on = data_digest(graph, data, ids, held_out, settings)
        version = None if full else trained_version(lake, trained_on)
        reused = version is not None
        if version is not None:
            lake.set_current("models", version)
        else:
            spaces = settings.spaces_for(data.likes_per_track)
            today = Today(
                _CODE,
                settings,
                spaces,
                held_out,
                calibration_share,
                ids,
                cut_off,
                training_likes(data),
            )
            origin = origin_of(lake, today, full=full)
            log(origin.description)
            basis = [*origin.basis(settings), *settings.of_refit()]
            version = f"{cut_off}-" + digest([trained_on, *basis])
            checkpoint = lake.checkpoint(f"model-{version}")
            if full:
                checkpoint.unlink(missing_ok=True)
            with engine_of(lake) as engine:
                made = make_model(
                    graph,
                    data,
                    settings,
                    origin,
                    ages=like_ages(lake, graph),
                    checkpoint=checkpoint,
                    on_epoch=on_epoch,
                    engine=engine,
                    progress=progress,
                )
            facts = {
                "code": _CODE,
                "data": trained_on,
                "cut_off": cut_off.isoformat(),
                "held_out": held_out,
                "calibration_share": calibration_share,
                "id_map": id_map_fingerprint(ids),
                "spaces": spaces,
                "precision": settings.precision_here(),
                "refitted_on": None
                if made.refitted is None
                else {
                    "cut_off": cut_off.isoformat(),
                    "likes": len(graph.indices),
                    "held_out": len(graph.indices) - data.train.nnz,
                },
                **origin.facts(cut_off),
            }
            lake.write_version(
                "models",
                version,
                lambda folder: write_model(folder, version, settings, gate, made, facts),
                replace=True,  # an existing model of this version is damaged, or ``full`` replaces it
                # The live model stays, to be compared with and served, until another one is accepted.
                spare=needed_models(lake.serving),
            )
            # Also those of killed trainings on other likes, which nothing continues.
            for left in checkpoint.parent.glob("model-*.safetensors"):
                left.unlink()
            plots["calibration of the neighbour probability"] = partial(calibration_diagram, made.calibration)
            if made.drift is not None:
                plots["drift of the tracks"] = partial(drift_histogram, made.drift.cosines)
    facts = ArrayFolder.open(lake.current_folder("models")).facts
    warm = facts["parent"] is not None
    warning = against_popularity(lake, version).warning
    if warning:
        report_note(warning)
    return training_result(
        facts,
        "reused" if reused else ("updated" if warm else "rebuilt"),
        cost,
        facts_shown={
            "trained": facts["trained"],
            "last trained from scratch": facts["from_nothing"],
            "warm starts since": facts["chain"],
            "epochs": facts["epochs"],
            "precision of the products": facts.get("precision", "float32"),
            **_drift_facts(facts["drift"]),
            "lambda of the neighbour weights": facts.get(
                "regularisation", facts["settings"]["regularisation"]
            ),
            "blend": facts["blend"],
            **_continuation_facts(facts),
            "served": what_is_served(facts.get("refitted_on")),
            "neighbour probability": facts["calibration_report"],
        },
        plots=plots,
        notes=[warning] if warning else [],
    )


def training_result(
    facts: Mapping[str, Any],
    how: How,
    cost: Measured,
    *,
    facts_shown: Mapping[str, Any] | None = None,
    plots: Mapping[str, Plot] | None = None,
    tables: Mapping[str, Mapping[str, int] | str] | None = None,
    notes: Sequence[str] = (),
) -> StageResult:
    """The result of a training: what is shown of every kind of model, from the ``facts`` of its version, and
    what is shown of this kind."""
    curves, figure = facts["curves"], facts["validation"]
    validation = [epoch["validation"] for epoch in curves if "validation" in epoch]
    return StageResult(
        facts["version"],
        how,
        cost,
        facts={
            "MAP@10 on validation": "nothing held out" if figure is None else figure,
            **(facts_shown or {}),
        },
        plots={
            "training curves": partial(
                training_curves, [epoch["loss"] for epoch in curves], {"MAP@10": validation}
            ),
            **(plots or {}),
        },
        tables=tables or {},
        notes=notes,
    )


def _continuation_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    if (figures := facts.get("continuation_validation")) is None:
        return {}
    return {
        "continuation": facts["continuation"],
        "MAP@10 of what was liked next, as sets": figures[0],
        "MAP@10 of what was liked next, continued": figures[1],
    }


def _drift_facts(drift: dict[str, Any] | None) -> dict[str, Any]:
    """The drift from the earlier model, and a note if alignment makes a query's screen much wider."""
    if drift is None:
        return {"drift": "no earlier model to compare with"}
    facts: dict[str, Any] = {
        "drift": drift,
        "drift, mean cosine": drift["mean_cosine"],
        "drift, overlap@10": drift["overlap@10"],
    }
    width, least = drift["screen_width"], drift["least_screen_width"]
    if width > _MUCH_WIDER * least:
        facts["screen"] = (
            f"a query's screen reads {width} coordinates of each track in the aligned space, {least} without"
            " alignment; a training with another dimension starts a new space"
        )
    return facts


def lake_training_data(lake: Lake, graph: LikeGraph) -> "TrainingData":
    """What a model learns from the current like graph, the catalogue and the plays behind likes."""
    return replace(training_data(graph, read_catalogue(lake)), plays=play_counts(lake, graph))


def training_data(graph: LikeGraph, catalogue: pl.DataFrame) -> "TrainingData":
    """Line up what a model learns from: rows of every array are track_idx, as in ``catalogue``.

    Tracks without known artists, album or features get empty rows, -1 and NaN. So do ids that another id
    stands for: the content of a recording is used once, under the id that has the likes.
    """
    from tunegraph_pipeline.training.train import TrainingData

    known = _of_recordings(described(catalogue))
    track_artists, artists = _artists(known)
    album, albums = _codes(known["album_id"])
    train = graph.training_matrix()
    users = graph.early_stopping_users
    return TrainingData(
        train=train,
        context=graph.fold_matrix(TRAIN)[users],
        targets=graph.fold_matrix(EARLY_STOPPING)[users],
        features=known.select(AUDIO_FEATURES).cast(pl.Float32).fill_null(np.nan).to_numpy(),
        track_artists=track_artists,
        album=album,
        artists=artists,
        albums=albums,
    )


def under_every_id(model: _Served, canonical: NDArray[np.int32]) -> _Served:
    """Give every id of a recording the place, weight and prior of the one that was trained on."""
    return replace(
        model,
        embeddings=model.embeddings[canonical],
        pooling_weight=model.pooling_weight[canonical],
        prior=model.prior[canonical],
    )


def calibrate_on(graph: LikeGraph, model: "TrainedModel", data: "TrainingData") -> "Calibration":
    """Fit and judge the neighbour probability on two halves of the users that no model was trained on."""
    from tunegraph_pipeline.training.calibration import calibrate

    likes = graph.matrix()
    popularity = np.bincount(data.train.indices, minlength=graph.n_tracks)
    fit, judge = graph.calibration & ~graph.judge, graph.judge
    return calibrate(model.embeddings, popularity, likes[np.flatnonzero(fit)], likes[np.flatnonzero(judge)])


@dataclass(frozen=True)
class Made:
    """A model and all that is kept with it: see `TrainedModel`, `Drift` (None without an earlier model) and
    `Calibration`; ``refitted``: what is served of it, None where that is the model itself; ``aligned_to``:
    the version whose space it was aligned with, None without alignment; ``arrays``: those kept beside the
    arrays of the model."""

    model: "TrainedModel"
    refitted: ServedArrays | None
    drift: "Drift | None"
    aligned_to: str | None
    calibration: "Calibration"
    arrays: dict[str, NDArray[Any] | StringColumn]


def make_model(
    graph: LikeGraph,
    data: "TrainingData",
    settings: "TrainingConfig",
    origin: Origin,
    *,
    ages: UInt16 | None = None,
    checkpoint: Path | None = None,
    on_epoch: "Callable[[EpochReport], None] | None" = None,
    engine: Engine = LOCAL,
    progress: Progress = report_progress,
) -> Made:
    """Train from ``origin``, align the space with the earlier one, refit what is served to all likes,
    calibrate, and lay out the map.

    No like that is held out has a part in the arrays that the model is judged by, or in the weights that a
    later training starts from. What is chosen by such likes, the blend for example, is chosen by the folds
    that are for it.

    Of the arrays, ``layout`` has the places of the tracks on the map, ``canonical`` (see `Origin.canonical`)
    tells a later day which likes neither the model nor its parents saw, ``likes_from_nothing`` has the likes
    of each track at the last training from scratch, ``artists`` and ``albums`` are the names of its tags.
    """
    from tunegraph_pipeline.training.train import refit, train

    model = train(
        data,
        settings,
        start=origin.start(),
        moments=None if ages is None else held_out_moments(graph, ages),
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        engine=engine,
        progress=progress,
    )
    likes = training_likes(data)
    model, drift = turned(model, likes, origin.earlier)
    refitted = None
    if settings.refit:
        refitted = refit(
            model,
            data,
            graph.matrix(),
            settings,
            from_scratch=origin.parent is None,
            checkpoint=None if checkpoint is None else checkpoint.with_stem(f"{checkpoint.stem}-refit"),
            engine=engine,
            progress=progress,
        )
    model = under_every_id(model, graph.canonical)
    if refitted is not None:
        refitted = under_every_id(refitted, graph.canonical)
    calibration = calibrate_on(graph, model, data)
    progress("lay out the map", 0, 1)
    layout = laid_out((refitted or model).embeddings, graph, settings, origin)
    progress("lay out the map", 1, 1)
    arrays: dict[str, NDArray[Any] | StringColumn] = {
        "canonical": origin.canonical(graph.canonical),
        "layout": layout,
        "likes_from_nothing": origin.likes_from_scratch(likes),
        "artists": StringColumn.from_strings(data.artists),
        "albums": StringColumn.from_strings(data.albums),
    }
    aligned_to = None if drift is None or origin.earlier is None else origin.earlier.version
    return Made(model, refitted, drift, aligned_to, calibration, arrays)


def held_out_moments(graph: LikeGraph, ages: UInt16) -> OrderedRows:
    """What was liked next, by likes that no model is trained on: those for early stopping, and those of users
    set aside for calibration. ``ages``: of each like of the graph."""
    aside = np.repeat(graph.calibration, np.diff(graph.indptr))
    asked = (graph.fold == EARLY_STOPPING) | (aside & (graph.fold == TRAIN))
    return moments_of(graph.matrix(), ages, asked, graph.fold != TRAIN)


def training_likes(data: "TrainingData") -> NDArray[np.int32]:
    """How many people in training like each track, int32[N]."""
    return np.bincount(data.train.indices, minlength=data.train.shape[1]).astype(np.int32)


def turned(
    model: "TrainedModel", likes: NDArray[np.integer], earlier: Earlier | None
) -> "tuple[TrainedModel, Drift | None]":
    """The model aligned with the space of the earlier one, and its drift from that.

    Aligned by the tracks that were recommendable then and are liked now (``likes`` int[N]). On its principal
    axes, without a drift, if there is no earlier model of the same dimension, or no such track.
    """
    from tunegraph_pipeline.training.alignment import drift_of, on_principal_axes, turned_onto

    if earlier is not None and earlier.embeddings.shape[1] == model.embeddings.shape[1]:
        then = earlier.folder["recommendable"]
        shared = np.flatnonzero(then & (likes[: len(then)] > 0))
        if len(shared):
            embeddings = turned_onto(model.embeddings, earlier.embeddings, shared)
            return replace(model, embeddings=embeddings), drift_of(embeddings, earlier.embeddings, shared)
    return replace(model, embeddings=on_principal_axes(model.embeddings)), None


def laid_out(
    embeddings: NDArray[np.float32], graph: LikeGraph, settings: "TrainingConfig", origin: Origin
) -> NDArray[np.float32]:
    """The map: that of the parent with the new tracks, or a new one for a model from scratch."""
    from tunegraph_pipeline.training.song_map import map_of, map_with_new

    degrees = graph.track_degrees()
    if origin.parent is None:
        return map_of(embeddings, degrees, seed=settings.seed)
    parent = origin.parent.folder
    return map_with_new(embeddings, degrees, parent["layout"], parent["recommendable"])


def data_digest(
    graph: LikeGraph, data: "TrainingData", ids: pl.Series, held_out: float, settings: "TrainingConfig"
) -> str:
    """A digest of all that a training from scratch depends on: likes, folds, plays where likes are weighed by
    them, content, id map, settings. Not of the order of lists, by which the continuation is chosen: where
    that alone changed, the model stays."""
    artists = data.track_artists
    arrays: list[NDArray[Any]] = [graph.indptr, graph.indices, graph.fold, graph.canonical]
    arrays += [graph.calibration, graph.judge]
    arrays += [data.features, data.album, artists.indptr, artists.indices]
    if settings.play_weights and data.plays is not None:
        arrays += [data.plays.indptr, data.plays.indices, data.plays.data]
    made_with = settings.from_scratch()
    made_with.pop("play_weights", None)  # whether there are weights is said by the arrays
    return digest(
        [
            _CODE,
            [fingerprint_of(array) for array in arrays],
            [digest(data.artists), digest(data.albums)],
            id_map_fingerprint(ids),
            held_out,
            made_with,
        ]
    )


def trained_version(lake: Lake, data: str) -> str | None:
    """The version of a model that was trained on data of this digest, whatever its parent, if there is one.
    The current one first: a run that was killed between training and publication has no other."""
    versions = lake.versions("models")[::-1]
    if lake.has_current("models"):
        versions.insert(0, lake.current_version("models"))
    for version in versions:
        try:
            facts = ArrayFolder.open(lake.version_folder("models", version)).facts
        except BundleError:
            continue  # a damaged model cannot be reused
        if facts.get("data") == data:
            return version
    return None


def write_model(
    folder: Path,
    version: str,
    settings: "TrainingConfig",
    gate: GateSettings,
    made: Made,
    facts: Mapping[str, Any],
) -> None:
    """Write a model to ``folder``: what a bundle and the next warm start need, and how it was made; ``facts``
    are added to those of the model."""
    model, calibration = made.model, made.calibration
    against = paired_bootstrap(
        model.validation_of_popularity,
        model.validation,
        samples=gate.samples,
        confidence=gate.confidence,
        seed=gate.seed,
    )
    save_tensors(folder / WEIGHTS, model.tensors, {"version": version})
    judged = len(model.validation) > 0
    all_facts = {
        **facts,
        "version": version,
        "settings": settings.model_dump(mode="json"),
        "regularisation": model.regularisation,
        "blend": asdict(model.blend),
        "continuation": asdict(model.continuation),
        # MAP@10 of what was liked next, by lists as sets and in their order; null where no list has one.
        "continuation_validation": model.continued.mean(axis=1).tolist() if model.continued.size else None,
        "continuation_moments": model.continued.shape[1],
        "curves": [report.metadata() for report in model.curves],
        "epochs": len(model.curves),
        "best_epoch": model.best_epoch,
        # MAP@10 on the early-stopping fold; null in a lake too small to hold anything out.
        "validation": against.challenger if judged else None,
        "validation_of_popularity": against.champion if judged else None,
        # Bounds of the difference between the two, and the users that both are means of.
        "validation_lead": [against.low, against.high] if judged else [None, None],
        "validation_users": len(model.validation),
        "calibration": calibration.facts(),
        "calibration_report": asdict(calibration),
        "aligned_to": made.aligned_to,
        "drift": None if made.drift is None else made.drift.facts(),
    }
    refitted = {} if made.refitted is None else declared_fields(made.refitted)
    refitted = {f"{REFITTED}{name}": array for name, array in refitted.items()}
    arrays = as_declared(MODEL, declared_fields(model) | refitted | made.arrays)
    write_arrays(folder, arrays, all_facts)


def fingerprint_of(array: NDArray[Any]) -> str:
    return digest([array.shape, hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=8).hexdigest()])


def _of_recordings(catalogue: pl.DataFrame) -> pl.DataFrame:
    """Empty the rows of ids for which another id of their recording stands."""
    own = pl.col("recording") == pl.col("track_idx")
    return catalogue.with_columns(
        pl.when(own).then(pl.exclude("track_id", "track_idx", "recording")).name.keep()
    )


def _codes(column: pl.Series) -> tuple[NDArray[np.int32], list[str]]:
    """Number the values of a column in sorted order, -1 for null; and the values in that order."""
    values = column.drop_nulls().unique().sort()
    codes = column.replace_strict(
        values, pl.arange(len(values), eager=True), default=-1, return_dtype=pl.Int32
    )
    return codes.to_numpy(), values.to_list()


def _artists(known: pl.DataFrame) -> "tuple[csr_matrix, list[str]]":
    """Tracks by artists (by id if the source has ids, else by name), and the ids or names of the columns."""
    from scipy.sparse import csr_matrix

    who = known.with_row_index("track").select(
        "track", artist=pl.when(pl.col("artist_ids").list.len() > 0).then("artist_ids").otherwise("artists")
    )
    pairs = who.explode("artist").drop_nulls("artist").unique(maintain_order=True)
    codes, names = _codes(pairs["artist"])
    shape = (len(known), len(names))
    matrix = csr_matrix(
        (np.ones(len(codes), dtype=np.bool_), (pairs["track"].to_numpy(), codes)), shape=shape
    )
    return matrix, names
