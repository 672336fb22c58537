"""Process deletion requests and expired data, before anything else is done."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import forgetting

GROUP = "sources"


class ForgetConfig(Config):
    """What follows in this run."""

    only_republish: bool = False
    """Whether the run publishes an existing model anew and trains none; then it ends here where no model is
    live, or nobody is left to serve."""


@stage_asset("forgotten_users", group_name=GROUP, kinds={"parquet"}, output_required=False)
def forgotten_users(
    context: AssetExecutionContext, config: ForgetConfig, lake: LakeResource
) -> Iterator[MaterializeResult[Any]]:
    """Removes from the lake the users whom the files in `forget_requests/` name, and what its sources may not
    keep any longer. What was built with them is rebuilt by what follows.

    In the job `forget` nothing follows where there is no bundle yet, or nobody is left to serve.
    """
    today = datetime.now(UTC).date()
    result = forgetting.run(lake.open(), today, only_republish=config.only_republish, log=context.log.info)
    if not result.ends:
        yield materialized(result)


ASSETS: list[AssetsDefinition] = [forgotten_users]
