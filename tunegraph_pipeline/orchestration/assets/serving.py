"""From model to answers: the published bundle, everyone's recommendations, and how good they are."""

from datetime import timedelta
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, FreshnessPolicy, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import definition_metadata, materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import evaluate, publish
from tunegraph_pipeline.pipeline import user_recommendations as user_recommendations_stage

GROUP = "serving"


class PublishConfig(Config):
    """How this run publishes."""

    override: str = ""
    """Why a model that the gate refuses is to go live all the same; recorded. Empty: the gate decides."""
    judge: bool = True
    """Whether a new model may take the place of the live one; off where users are forgotten."""


@stage_asset(
    "serving_bundle",
    group_name=GROUP,
    kinds={"numpy"},
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
    return materialized(
        publish.run(lake.open(), override=config.override, judge=config.judge, log=context.log.info)
    )


@stage_asset(
    "user_recommendations",
    group_name=GROUP,
    kinds={"parquet", "numpy"},
    metadata=definition_metadata("user_recommendations"),
)
def user_recommendations(lake: LakeResource) -> MaterializeResult[Any]:
    """The ten best songs for everyone, with the liked song that speaks most for each."""
    return materialized(user_recommendations_stage.run(lake.open()))


@stage_asset(
    "evaluation", group_name=GROUP, kinds={"parquet", "numpy"}, metadata=definition_metadata("evaluation")
)
def evaluation(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """What is served, judged on the likes that no model was trained on, beside the baselines."""
    result = evaluate.run(lake.open(), run_id=context.run.run_id)
    if why_not := result.facts.get("not judged"):
        context.log.warning(why_not)
    return materialized(result)


ASSETS: list[AssetsDefinition] = [serving_bundle, user_recommendations, evaluation]
