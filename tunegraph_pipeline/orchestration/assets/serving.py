"""From model to answers: the published bundle, everyone's recommendations, and how good they are."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, MetadataValue, asset

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.evaluation.evaluate import comparison, evaluation_rows
from tunegraph_pipeline.graph.recordings import known_under_any_id
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import inputs_of, row_count
from tunegraph_pipeline.orchestration.assets.graph import current_cut_off, known_track_ids, open_like_graph
from tunegraph_pipeline.orchestration.assets.model import track_embeddings
from tunegraph_pipeline.orchestration.judge import judge_gate
from tunegraph_pipeline.orchestration.measure import Measured, report_progress
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.recommend.bundle import BundleContent, publish, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender

GROUP = "serving"
K = 10
_bundle_code = 2


@asset(
    group_name=GROUP, deps=[track_embeddings], kinds={"numpy"}, owners=OWNERS, code_version=str(_bundle_code)
)
def serving_bundle(lake: LakeResource) -> MaterializeResult[Any]:
    """All that a query needs, as mapped arrays; verified, then made live by one rename."""
    root = lake.open()
    with Measured() as cost:
        model = ArrayFolder.open(root.current_folder("models"))
        display = root.known_tracks("tracks", current_cut_off(root))
        version = f"{current_cut_off(root)}-" + digest(
            [
                _bundle_code,
                model.facts["version"],
                root.current_version("like_graph"),
                root.fingerprint("tracks", current_cut_off(root)),
            ]
        )
        if not root.has_version("serving", version):
            write_bundle(root.serving / version, bundle_content(root, model, display, version))
        bundle = publish(root.serving, version)
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            "bundle version": MetadataValue.text(version),
            "model version": MetadataValue.text(bundle.model_version),
            "folder": MetadataValue.path(str(bundle.folder)),
            "users": MetadataValue.int(bundle.n_users),
            "tracks": MetadataValue.int(bundle.n_tracks),
            "tracks with a name": MetadataValue.int(int(np.count_nonzero(np.diff(bundle.names.offsets)))),
            "mib": MetadataValue.float(_mib(bundle.folder)),
        }
    )


@asset(
    group_name=GROUP,
    deps=[serving_bundle],
    kinds={"parquet", "numpy"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("user_recommendations"),
)
def user_recommendations(lake: LakeResource) -> MaterializeResult[Any]:
    """The ten best songs for everyone, with the liked song that speaks most for each."""
    root = lake.open()
    recommender = Recommender.open(root.serving)
    version = recommender.bundle.version
    with Measured() as cost:
        fresh = inputs_of(root.root, "user_recommendations", version) == version
        if not fresh:
            rows = recommendations_for_everyone(recommender, K)
            root.write("user_recommendations", version, rows, inputs=version)
            root.keep_partitions("user_recommendations", version)
    return MaterializeResult(
        metadata={
            **rows_metadata(row_count(root.root, "user_recommendations", version)),
            **cost_metadata(cost),
            "bundle version": MetadataValue.text(version),
            "unchanged": MetadataValue.bool(fresh),
        }
    )


@asset(
    group_name=GROUP,
    deps=[serving_bundle],
    kinds={"parquet", "numpy"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("evaluation"),
)
def evaluation(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """What is served, judged on the likes that no model was trained on, beside the baselines."""
    from tunegraph_pipeline.evaluation.plots import metric_bars

    root = lake.open()
    recommender = Recommender.open(root.serving)
    dataset = f"gate of {recommender.bundle.version}"
    known = root.read("evaluation").filter(dataset=dataset) if root.has_table("evaluation") else None
    if known is not None and len(known):
        return MaterializeResult(metadata={"unchanged": MetadataValue.bool(True)})
    with Measured() as cost:
        try:
            judged = judge_gate(recommender, open_like_graph(root), k=K, progress=report_progress)
        except InputError as error:
            context.log.warning(str(error))
            return MaterializeResult(metadata={"not judged": MetadataValue.text(str(error))})
        rows = evaluation_rows(judged.evaluations, dataset=dataset, split="gate", run_id=context.run_id)
        root.append("evaluation", rows)
    table = comparison(judged.evaluations)
    return MaterializeResult(
        metadata={
            **rows_metadata(len(rows)),
            **cost_metadata(cost),
            **{f"{name}@{K}": MetadataValue.float(value) for name, value in judged.served.values.items()},
            "notes": MetadataValue.md("\n".join(f"- {note}" for note in judged.notes)),
            "figures": MetadataValue.md(_markdown(table)),
            "beside the baselines": picture(metric_bars(judged.evaluations)),
        }
    )


ASSETS: list[AssetsDefinition] = [serving_bundle, user_recommendations, evaluation]


def bundle_content(lake: Lake, model: ArrayFolder, display: pl.DataFrame, version: str) -> BundleContent:
    """Put together what the current graph, model and track table hold for a query.

    Raises LakeError where the model is older than the graph and lacks some of its tracks.
    """
    graph = open_like_graph(lake)
    ids = known_track_ids(lake)
    if len(model["embeddings"]) != graph.n_tracks:
        raise LakeError(
            f"model {model.facts['version']} has {len(model['embeddings'])} tracks, the like graph"
            f" {graph.n_tracks}; materialise trained_model first"
        )
    degrees = graph.track_degrees()
    display = display.select("track_id", "name", "artists", "image_url", "preview_url")
    shown = known_under_any_id(ids, graph.canonical, display).select(
        pl.col("name", "image_url", "preview_url").fill_null(""),
        artists=pl.col("artists").list.join(", ", ignore_nulls=True).fill_null(""),
    )
    return BundleContent(
        track_ids=ids.to_list(),
        embeddings=model["embeddings"],
        pooling_weight=model["pooling_weight"],
        popularity=degrees,
        # A track nobody likes has no evidence behind its place in the space; it is not put before anyone. The
        # likes of a recording all lie with one of its ids, so the others are never shown beside it.
        recommendable=degrees > 0,
        prior=model["prior"],
        neighbour_indptr=model["neighbour_indptr"],
        neighbour_indices=model["neighbour_indices"],
        neighbour_weight=model["neighbour_weight"],
        user_ids=graph.user_ids.tolist(),
        user_indptr=graph.indptr,
        user_tracks=graph.indices,
        names=shown["name"].to_list(),
        artists=shown["artists"].to_list(),
        image_urls=shown["image_url"].to_list(),
        preview_urls=shown["preview_url"].to_list(),
        canonical=graph.canonical,
        facts={
            "bundle_version": version,
            "model_version": model.facts["version"],
            "cut_off": current_cut_off(lake).isoformat(),
            "blend": model.facts["blend"],
            "calibration": model.facts["calibration"],
        },
    )


def recommendations_for_everyone(recommender: Recommender, k: int) -> pl.DataFrame:
    """The ``user_recommendations`` rows of every user of the bundle."""
    bundle = recommender.bundle
    lists = [bundle.user_list(user) for user in range(bundle.n_users)]
    best = recommender.rank_indices(lists, k, explain=True, progress=report_progress)
    user, place = np.nonzero(best.indices >= 0)
    tracks = pl.Series(bundle.tracks.ids.tolist(), dtype=pl.String)
    users = pl.Series(bundle.users.ids.tolist(), dtype=pl.String)
    because = pl.Series(best.because[user, place])
    return pl.DataFrame(
        {
            "user_id": users.gather(user),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "track_id": tracks.gather(best.indices[user, place]),
            "score": best.scores[user, place],
            "because_track_id": tracks.gather(because.set(because < 0, None)),
        }
    ).with_columns(model_version=pl.lit(bundle.model_version), bundle_version=pl.lit(bundle.version))


def _mib(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 1)


def _markdown(table: pl.DataFrame) -> str:
    with pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_cols=-1,
        tbl_rows=-1,
        float_precision=4,
        tbl_width_chars=1000,
    ):
        return str(table)
