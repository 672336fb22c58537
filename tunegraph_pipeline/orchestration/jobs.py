"""The jobs and the schedule: which assets make one unit of work, and when.

Here: selections. Not here: the assets, or how the command line runs a job (`run`).
"""

from dagster import AssetSelection, build_schedule_from_partitioned_job, define_asset_job

from tunegraph_pipeline.orchestration.assets import generations as earlier
from tunegraph_pipeline.orchestration.assets import sources

daily_tables = define_asset_job(
    "daily_tables",
    selection=AssetSelection.assets(*sources.ASSETS),
    description="Fill the daily tables of the chosen days from what the source says and what was imported.",
)

refresh = define_asset_job(
    "refresh",
    selection=AssetSelection.all() - AssetSelection.groups(earlier.GROUP),
    description="Fill the chosen days, bring graph, model and bundle to the cut-off, and publish.",
)

generations = define_asset_job(
    "generations",
    selection=AssetSelection.groups(earlier.GROUP),
    description="Train V1, V2 and the first V3 on the current like graph, beside today's model.",
)

# 02:00 UTC for the day that has just ended; off until someone switches it on.
daily_refresh = build_schedule_from_partitioned_job(refresh, name="daily_refresh", hour_of_day=2)

JOBS = [daily_tables, refresh, generations]
SCHEDULES = [daily_refresh]
