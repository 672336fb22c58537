"""The days of a run, as Dagster keeps them: tags that name a partition, or the ends of a range.

Here: reading the tags, and today for a run that fills days and names none. Not here: which days a refresh
fills (`pipeline.fill_days`).
"""

from datetime import UTC, date, datetime, timedelta

from dagster import DagsterInstance, DagsterRun

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import FIRST_DAY
from tunegraph_pipeline.pipeline.stages import STAGES

DAY = "dagster/partition"
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_JOBS = {"daily_tables", "refresh", "__ASSET_JOB"}
"""The jobs that fill days, if they run whole; the last is Dagster's own, of all assets."""
_DAILY = {one.name for one in STAGES if one.daily}


def days_of_run(run: DagsterRun) -> list[str]:
    """The days as YYYY-MM-DD, ascending; none for a run that fills none."""
    tags = run.tags
    if one := tags.get(DAY):
        return [one]
    if FIRST not in tags or LAST not in tags:
        return []
    first, last = date.fromisoformat(tags[FIRST]), date.fromisoformat(tags[LAST])
    return [str(first + timedelta(days=number)) for number in range((last - first).days + 1)]


def check_days(run: DagsterRun, instance: DagsterInstance) -> None:
    """Let a run that fills days, and was launched without any, fill today. Raises InputError for days that no
    lake has."""
    asked = run.asset_selection
    fills = any(key.to_user_string() in _DAILY for key in asked) if asked else run.job_name in _JOBS
    today = str(datetime.now(UTC).date())
    days = days_of_run(run)
    for day in days:
        if not str(FIRST_DAY) <= day <= today:
            raise InputError(f"{day} is outside the days of the lake, which end on {today}; choose another")
    if fills and not days:
        tag = {DAY: today}
        instance.add_run_tags(run.run_id, tag)
        # The steps of this process read the tags of this very object.
        run.tags.update(tag)  # type: ignore[attr-defined]
