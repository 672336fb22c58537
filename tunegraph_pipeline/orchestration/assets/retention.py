"""What is not to be kept: the last stage of a run, when everything current is in place.

Here: the asset that removes what the settings, a request to forget or a time-to-live say has to go. Not here:
the rules (`lake.retention`, `pipeline.forgetting`).
"""

from datetime import UTC, datetime
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, MetadataValue, asset

from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.orchestration.assets import serving
from tunegraph_pipeline.orchestration.metadata import OWNERS, cost_metadata, counts_table
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.forgetting import drop_old_versions, pending_requests
from tunegraph_pipeline.pipeline.retention import prune_cut_offs, prune_raw
from tunegraph_pipeline.progress import Measured, report_note

GROUP = "serving"


@asset(
    group_name=GROUP,
    deps=[serving.serving_bundle, serving.user_recommendations, serving.evaluation],
    kinds={"parquet"},
    owners=OWNERS,
    code_version="1",
)
def retention(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """Removes old versions that still hold users who were forgotten, or what has expired; then whatever is
    older than the section `retention` of the lake's settings says."""
    root = lake.open()
    settings = root.section("retention", RetentionSettings)
    with Measured() as cost:
        went = drop_old_versions(root)
        if went:
            note = "removed, since they may name forgotten users or what has expired: " + ", ".join(
                f"{count:,} {what}" for what, count in went.items()
            )
            context.log.info(note)
            report_note(note)
        went["raw batches"] = prune_raw(root, datetime.now(UTC).date())
        went["cut-offs"] = went.get("cut-offs", 0) + prune_cut_offs(
            root, root.current_version("current_likes")
        )
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            "removed": counts_table(went),
            "settings": MetadataValue.json(settings.model_dump()),
            "requests to forget that wait": MetadataValue.int(pending_requests(root)),
        }
    )


ASSETS: list[AssetsDefinition] = [retention]
