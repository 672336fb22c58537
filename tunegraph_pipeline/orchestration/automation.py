"""What happens without anybody asking: the schedules, the inbox, and the alert when a run failed.

Here: when something runs, with what config, and the job of the inbox. Not here: which days a refresh fills
(`pipeline.fill_days`), what is in the inbox (`pipeline.inbox`), or how an alert is told (`alert`).

To open the UI changes no lake: schedules and inbox are off until a person switches them on there. The alert
is on, for it changes nothing, and tells nobody until it is given an address.
"""

from pathlib import Path

from dagster import (
    Config,
    DefaultSensorStatus,
    OpExecutionContext,
    RunFailureSensorContext,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    job,
    op,
    run_failure_sensor,
    schedule,
    sensor,
)
from dagster._utils.schedules import is_valid_cron_string

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import alert
from tunegraph_pipeline.orchestration.dead_runs import close_dead_runs
from tunegraph_pipeline.orchestration.jobs import refresh
from tunegraph_pipeline.orchestration.resources import LakeResource, lake_folder
from tunegraph_pipeline.pipeline import inbox
from tunegraph_pipeline.pipeline.fill_days import days_to_catch_up
from tunegraph_pipeline.pipeline.settings import InboxSettings, ScheduleSettings

_SENSOR_SECONDS = 30


def schedule_settings(root: Path) -> ScheduleSettings:
    """Those of the lake at ``root``, the usual ones where there is no lake yet. Raises LakeError."""
    if not (root / "lake.json").exists():
        return ScheduleSettings()
    lake = Lake.open(root)
    times = lake.section("schedules", ScheduleSettings)
    for name, cron in times:
        if not is_valid_cron_string(cron):
            raise LakeError(
                f"{lake.path}: settings.schedules: {name}: {cron!r} is no cron expression Dagster takes"
            )
    return times


# --- schedules ---


def schedules(times: ScheduleSettings) -> list[ScheduleDefinition]:
    """The daily refresh, and the weekly one that trains from nothing."""
    return [
        _refresh_schedule(
            "daily_refresh",
            times.daily,
            "Every day: ask the source for today, fill what is stale or was missed, and publish.",
        ),
        _refresh_schedule(
            "weekly_full_refresh",
            times.weekly,
            "Every week: the same, and the model is trained from nothing.",
            full=True,
        ),
    ]


def _refresh_schedule(name: str, cron: str, description: str, *, full: bool = False) -> ScheduleDefinition:
    @schedule(job=refresh, name=name, cron_schedule=cron, execution_timezone="UTC", description=description)
    def tick(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        root = lake_folder()
        if not (root / "lake.json").exists():
            return SkipReason(
                f"there is no lake at {root}; `tunegraph import` or `tunegraph refresh` makes one"
            )
        # Behind a run that only seems to go on, this one would queue for ever.
        close_dead_runs(context.instance)
        try:
            days = days_to_catch_up(Lake.open(root))
        except InputError as error:
            return SkipReason(str(error))
        return RunRequest(
            # A tick that is evaluated twice gives one run.
            run_key=f"{name} {context.scheduled_execution_time:%Y-%m-%d %H:%M}",
            run_config={
                "ops": {
                    "crawled_users": {"config": days.crawl_config()},
                    "trained_model": {"config": {"full": full}},
                }
            },
            tags=days.tags(),
        )

    return tick


# --- the inbox ---


class InboxConfig(Config):
    """Which of the files are complete, as `inbox` calls them: no name of a file is in Dagster's history."""

    complete: list[str] | None = None
    """What the sensor saw to be complete; unless given, the run watches the folder itself."""


@op(description="Import the files of the inbox that are complete and new, each once.")
def import_dropped_files(context: OpExecutionContext, config: InboxConfig, lake: LakeResource) -> None:
    root = lake.open()
    settings = root.section("inbox", InboxSettings)
    complete = inbox.wait_for_complete(root, settings) if config.complete is None else set(config.complete)
    done = inbox.import_complete(root, settings, complete)
    context.log.info(done.sentence())
    if done.failed:
        context.log.warning(
            f"{done.failed} files of the inbox cannot be imported as they are; `tunegraph status` says why"
        )


@job(description="Import what was dropped into the inbox; the next refresh takes it in.")
def import_inbox() -> None:
    import_dropped_files()


@sensor(
    name="inbox",
    job=import_inbox,
    minimum_interval_seconds=_SENSOR_SECONDS,
    description="Sees files dropped into the folder beside the lake, and imports each once it is complete.",
)
def inbox_sensor(context: SensorEvaluationContext) -> RunRequest | SkipReason:
    root = lake_folder()
    if not (root / "lake.json").exists():
        return SkipReason(f"there is no lake at {root}; `tunegraph import` or `tunegraph refresh` makes one")
    lake = Lake.open(root)
    settings = lake.section("inbox", InboxSettings)
    try:
        lake.admit_source("files", record=False)
        seen = inbox.look(lake, settings, context.cursor)
    except InputError as error:
        return SkipReason(str(error))
    context.update_cursor(seen.cursor)
    if not seen.complete:
        return SkipReason(seen.sentence())
    return RunRequest(
        run_key=seen.run_key,
        run_config={"ops": {"import_dropped_files": {"config": {"complete": seen.complete}}}},
    )


# --- alerts ---


@run_failure_sensor(
    name="alert_on_failure",
    default_status=DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=_SENSOR_SECONDS,
    description=f"Tells the webhook of {alert.WEBHOOK_VARIABLE} about every run that failed.",
)
def alert_on_failure(context: RunFailureSensorContext) -> SkipReason | None:
    url = alert.webhook()
    if url is None:
        return SkipReason(f"nobody is told: {alert.WEBHOOK_VARIABLE} is not set")
    alert.send(url, alert.about_failure(context, lake_folder()))
    return None


JOBS = [import_inbox]
SENSORS: list[SensorDefinition] = [inbox_sensor, alert_on_failure]
