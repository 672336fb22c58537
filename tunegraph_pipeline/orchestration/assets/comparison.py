"""Every model side by side, trained anew on splits of the current likes. Its own job: it takes a while."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, MetadataValue, asset

from tunegraph_pipeline.orchestration.assets.graph import like_graph
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.compare import compare_lake, keep_figures
from tunegraph_pipeline.pipeline.settings import ComparisonSettings
from tunegraph_pipeline.progress import Measured, report_progress

GROUP = "model"


@asset(
    group_name=GROUP,
    deps=[like_graph],
    kinds={"parquet", "pytorch"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("evaluation"),
)
def model_comparison(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """Our model, the baselines and the earlier generations on one protocol: quality, memory and time.

    What is compared is section `comparison` of the lake's settings. Nothing it trains is served.
    """
    from tunegraph_pipeline.evaluation.compare import markdown
    from tunegraph_pipeline.evaluation.plots import comparison_chart

    root = lake.open()
    with Measured() as cost:
        found = compare_lake(root, root.section("comparison", ComparisonSettings), report_progress)
        rows = keep_figures(
            root, found, dataset=f"likes of {root.current_version('like_graph')}", run_id=context.run.run_id
        )
    tables = {name: MetadataValue.md(markdown(outcomes)) for name, outcomes in found.outcomes.items()}
    charts = {
        f"{name}, plot": picture(comparison_chart(outcomes)) for name, outcomes in found.outcomes.items()
    }
    return MaterializeResult(
        metadata={
            **rows_metadata(rows),
            **cost_metadata(cost),
            **tables,
            **charts,
            "notes": MetadataValue.md("\n".join(f"- {note}" for note in found.notes)),
        }
    )


ASSETS: list[AssetsDefinition] = [model_comparison]
