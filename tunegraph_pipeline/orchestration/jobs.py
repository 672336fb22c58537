"""The jobs: which assets make one unit of work.

Here: selections, and the config of a job. Not here: the assets, when a job runs (`automation`), or how the
command line runs one (`in_process`).
"""

from dagster import AssetSelection, define_asset_job

from tunegraph_pipeline.pipeline.stages import STAGES

_AFTER_OTHERS = {"dagster/priority": "-1"}
"""Of jobs for research: in the queue, a refresh that comes later goes first."""

daily_tables = define_asset_job(
    "daily_tables",
    selection=AssetSelection.assets(*(one.name for one in STAGES if one.daily)),
    description="Fill the daily tables of the chosen days from what the source says and what was imported.",
)

refresh = define_asset_job(
    "refresh",
    selection=AssetSelection.assets(*(one.name for one in STAGES if one.in_refresh)),
    description="Fill the chosen days, update graph, model and bundle to the cut-off, and publish.",
)

forget = define_asset_job(
    "forget",
    selection=AssetSelection.assets("forgotten_users") | AssetSelection.groups("graph", "serving"),
    config={
        "ops": {
            "forgotten_users": {"config": {"only_republish": True}},
            "serving_bundle": {"config": {"judge": False}},
        }
    },
    description="Remove the users named in forget_requests/ from the lake, and publish without them.",
)

publish = define_asset_job(
    "publish",
    selection=AssetSelection.assets("serving_bundle").downstream() - AssetSelection.groups("research"),
    description="Publish the current model if the gate accepts it, or by an override that says why.",
)

compare = define_asset_job(
    "compare",
    selection=AssetSelection.assets("model_comparison"),
    tags=_AFTER_OTHERS,
    description="Train every model from scratch on splits of the current likes, and judge them side by side.",
)

generations = define_asset_job(
    "generations",
    selection=AssetSelection.groups("research") - AssetSelection.assets("model_comparison"),
    tags=_AFTER_OTHERS,
    description="Train the three earlier generations on the current graph, to compare with today's model.",
)

JOBS = [daily_tables, refresh, forget, publish, compare, generations]
