"""From model to answers: the published bundle, everyone's recommendations, and how good they are."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
    asset,
)

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.evaluate import comparison, evaluation_rows
from tunegraph_pipeline.evaluation.query_time import query_times
from tunegraph_pipeline.orchestration.assets.forgetting import JOB as FORGET
from tunegraph_pipeline.orchestration.assets.graph import like_graph
from tunegraph_pipeline.orchestration.assets.model import track_embeddings
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    index_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.bundle import _bundle_code
from tunegraph_pipeline.pipeline.evaluate import judge_gate
from tunegraph_pipeline.pipeline.like_graph import known_track_ids, open_like_graph
from tunegraph_pipeline.pipeline.publish import publish_current
from tunegraph_pipeline.pipeline.settings import GraphSettings, ServicesSettings
from tunegraph_pipeline.pipeline.user_recommendations import recommendations_for_everyone
from tunegraph_pipeline.progress import Measured, report_progress
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.recommender import Recommender

GROUP = "serving"
K = 10


class PublishConfig(Config):
    """How this run publishes."""

    override: str = ""
    """Why a model that the gate refuses is to go live all the same; recorded. Empty: the gate decides."""


@asset(
    group_name=GROUP,
    # The graph as well, by which a run without training comes to it in order.
    deps=[track_embeddings, like_graph],
    kinds={"numpy"},
    owners=OWNERS,
    code_version=str(_bundle_code),
    # A day and the time a refresh takes; a second day without one is an error.
    freshness_policy=FreshnessPolicy.time_window(
        warn_window=timedelta(hours=26), fail_window=timedelta(hours=50)
    ),
)
def serving_bundle(
    context: AssetExecutionContext, config: PublishConfig, lake: LakeResource
) -> MaterializeResult[Any]:
    """All that a query needs, as mapped arrays; verified, then made live by one rename.

    A new model is judged against the live one first; where it is refused, the likes of today are published
    with the weights that are live. So they are where users are forgotten, without a comparison.
    """
    from tunegraph_pipeline.evaluation.plots import paired_intervals

    root = lake.open()
    with Measured() as cost:
        bundle, decision = publish_current(root, config.override, judge=context.run.job_name != FORGET)
    metadata: dict[str, Any] = {
        **cost_metadata(cost),
        "bundle version": MetadataValue.text(bundle.version),
        "model version": MetadataValue.text(bundle.model_version),
        "folder": MetadataValue.path(str(bundle.folder)),
        "users": MetadataValue.int(bundle.n_users),
        "dislikes": MetadataValue.int(len(bundle.disliked_tracks)),
        "tracks": MetadataValue.int(bundle.n_tracks),
        "tracks new to the model": MetadataValue.int(bundle.facts["tracks_new_to_the_model"]),
        "tracks with a name": MetadataValue.int(int(np.count_nonzero(np.diff(bundle.names.offsets)))),
        "mib": MetadataValue.float(_mib(bundle.folder)),
        **index_metadata(bundle),
        **_query_metadata(bundle),
    }
    for url in root.section("services", ServicesSettings).urls:
        metadata[f"served by {url}"] = MetadataValue.url(f"{url.rstrip('/')}/version")
    if decision is not None:
        context.log.info(f"gate: {decision.refusal or 'accepted'}")
        metadata["gate"] = MetadataValue.json(asdict(decision))
        metadata["went live"] = MetadataValue.bool(decision.goes_live)
        if decision.figures:
            metadata["challenger against champion"] = picture(
                paired_intervals(decision.figures, decision.settings["margin"], decision.users)
            )
    return MaterializeResult(metadata=metadata)


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
        fresh = root.inputs_of("user_recommendations", version) == version
        if not fresh:
            rows = recommendations_for_everyone(recommender, K)
            root.write("user_recommendations", version, rows, inputs=version)
            root.keep_partitions("user_recommendations", version)
    return MaterializeResult(
        metadata={
            **rows_metadata(root.row_count("user_recommendations", version)),
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
            judged = judge_gate(
                root,
                recommender,
                open_like_graph(root),
                known_track_ids(root),
                held_out=root.section("graph", GraphSettings).held_out,
                k=K,
                progress=report_progress,
            )
        except InputError as error:
            context.log.warning(str(error))
            return MaterializeResult(metadata={"not judged": MetadataValue.text(str(error))})
        rows = evaluation_rows(judged.evaluations, dataset=dataset, split="gate", run_id=context.run.run_id)
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


def _query_metadata(bundle: Bundle) -> dict[str, Any]:
    """How long a query of the bundle takes on this machine, now."""
    took = query_times(Recommender(bundle))
    if not took.queries:
        return {}
    return {
        "query p50 (ms)": MetadataValue.float(round(took.p50_ms, 3)),
        "query p99 (ms)": MetadataValue.float(round(took.p99_ms, 3)),
        "query p50 / plain E @ q": MetadataValue.float(round(took.ratio, 2)),
    }


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
