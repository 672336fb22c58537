"""From model to answers: the published bundle, recommendations, evaluation; and pruning old versions."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    FreshnessPolicy,
    MaterializeResult,
    ResourceParam,
)

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import (
    materialized,
    materialized_unless_ended,
    materialized_with_warning,
)
from tunegraph_pipeline.orchestration.stage_asset import plain_asset, stage_asset
from tunegraph_pipeline.pipeline.stages import stage

GROUP = "serving"
# A day and the time a refresh takes; a second day without one is an error.
_EVERY_DAY = FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=50))


class PublishConfig(Config):
    """How this run publishes."""

    override: str = ""
    """Why a model that the gate refuses is to go live all the same; recorded. Empty: the gate decides."""
    judge: bool = True
    """Whether a new model may replace the live one; off where users are forgotten."""


@stage_asset("serving_bundle", GROUP, ("numpy",), freshness_policy=_EVERY_DAY, output_required=False)
def serving_bundle(
    context: AssetExecutionContext, config: PublishConfig, lake: ResourceParam[Lake]
) -> Iterator[MaterializeResult[Any]]:
    """All that a query needs, as mapped arrays; verified, then made live by one rename.

    A new model is first judged against the live one. If it is refused, today's likes are published with the
    live weights. When users are forgotten the same happens, without a comparison.
    """
    publish = stage("serving_bundle")
    result = publish.run(lake, override=config.override, judge=config.judge, log=context.log.info)
    yield from materialized_unless_ended(context, result)


@stage_asset("evaluation", GROUP, ("parquet", "numpy"))
def evaluation(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """What is served, judged on the likes that no model was trained on, beside the baselines."""
    return materialized_with_warning(context, stage("evaluation").run(lake, run_id=context.run.run_id))


@stage_asset("retention", GROUP, ("parquet",))
def retention(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """Removes old versions that still hold forgotten users or expired data, then whatever is older than the
    section `retention` of the lake's settings allows. The last stage, when everything current is in place."""
    today = datetime.now(UTC).date()
    return materialized(stage("retention").run(lake, today=today, log=context.log.info))


ASSETS: list[AssetsDefinition] = [
    serving_bundle,
    plain_asset(
        "user_recommendations",
        GROUP,
        ("parquet", "numpy"),
        description="The ten best songs for everyone, with the liked song that contributed most to each.",
        freshness_policy=_EVERY_DAY,
    ),
    evaluation,
    retention,
]
