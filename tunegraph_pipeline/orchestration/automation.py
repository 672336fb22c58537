"""What runs by itself: the schedules, the inbox, and the alert when a run failed.

Here: when something runs, with what config, and the job of the inbox. Not here: which days a refresh fills
(`pipeline.fill_days`), what is in the inbox (`pipeline.inbox`), or how an alert is sent (`alert`).

No asset has an automation condition. `on_cron` starts each asset by itself, in no order; `eager` would train
and publish after every imported file. A refresh is one unit, with checks between its stages, under one lock:
a schedule starts it, and stages whose inputs did not change are reused.

Opening the UI changes no lake: schedules and inbox are off until a person switches them on there, or in the
settings of the lake. The alert is on, since it changes nothing, and does nothing until it has an address.
"""

import os
from datetime import date
from pathlib import Path

from dagster import (
    Config,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    OpExecutionContext,
    ResourceParam,
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

from tunegraph_pipeline.errors import InputError, LakeError, LakeMissingError
from tunegraph_pipeline.lake.lake import FIRST_DAY, Lake
from tunegraph_pipeline.orchestration import alert
from tunegraph_pipeline.orchestration.dead_runs import close_dead_runs
from tunegraph_pipeline.orchestration.jobs import refresh
from tunegraph_pipeline.orchestration.resources import lake_folder
from tunegraph_pipeline.pipeline import inbox
from tunegraph_pipeline.pipeline.fill_days import days_to_catch_up
from tunegraph_pipeline.pipeline.settings import InboxSettings, ScheduleSettings
from tunegraph_pipeline.words import counted

_SENSOR_SECONDS = 30


def schedule_settings(root: Path) -> ScheduleSettings:
    """Those of the lake at ``root``, the defaults where there is no lake yet. Raises LakeError."""
    try:
        lake = Lake.open(root)
    except LakeMissingError:
        return ScheduleSettings()
    times = lake.section("schedules", ScheduleSettings)
    for name, cron in (("daily", times.daily), ("weekly", times.weekly)):
        if not is_valid_cron_string(cron):
            raise LakeError(
                f"{lake.path}: settings.schedules: {name}: {cron!r} is not a cron expression Dagster accepts"
            )
    return times


def inbox_settings(root: Path) -> InboxSettings:
    """Those of the lake at ``root``, the defaults where there is no lake yet. Raises LakeError."""
    try:
        return Lake.open(root).section("inbox", InboxSettings)
    except LakeMissingError:
        return InboxSettings()


# --- schedules ---


def schedules(times: ScheduleSettings, begins: date = FIRST_DAY) -> list[ScheduleDefinition]:
    """The daily refresh, and the weekly one that trains from scratch. ``begins``: the first day that Dagster
    knows."""
    return [
        _refresh_schedule(
            "daily_refresh",
            times.daily,
            begins,
            "Every day: ask the source for today, fill what is stale or was missed, and publish.",
            on=times.on,
        ),
        _refresh_schedule(
            "weekly_full_refresh",
            times.weekly,
            begins,
            "Every week: the same, and the model is trained from scratch.",
            on=times.on,
            full=True,
        ),
    ]


def _refresh_schedule(
    name: str, cron: str, begins: date, description: str, *, on: bool, full: bool = False
) -> ScheduleDefinition:
    @schedule(
        job=refresh,
        name=name,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=description,
        default_status=DefaultScheduleStatus.RUNNING if on else DefaultScheduleStatus.STOPPED,
    )
    def tick(context: ScheduleEvaluationContext) -> list[RunRequest] | SkipReason:
        try:
            lake = Lake.open(lake_folder())
            # Behind a dead run that counts as running, this one would queue for ever.
            close_dead_runs(context.instance)
            stretches = days_to_catch_up(lake).stretches(lake)
        except (InputError, LakeMissingError) as error:
            return SkipReason(str(error))
        if stretches[0].first < begins:
            return SkipReason(
                f"{stretches[0].first} is to be filled, and the days that Dagster loaded begin with {begins}:"
                " run `tunegraph refresh` once, then reload the code location"
            )
        return [
            RunRequest(
                # A tick that is evaluated twice starts one run.
                run_key=f"{name} {context.scheduled_execution_time:%Y-%m-%d %H:%M} {days.first}",
                run_config={
                    "ops": {
                        "crawled_users": {"config": days.crawl_config()},
                        "trained_model": {"config": {"full": full and days is stretches[-1]}},
                    }
                },
                tags=days.tags(),
            )
            for days in stretches
        ]

    return tick


# --- the inbox ---


class InboxConfig(Config):
    """Which files are complete, by the keys of `inbox`: Dagster's history holds no file name."""

    complete: list[str] | None = None
    """The files that the sensor found complete; None: the run watches the folder itself."""


@op(description="Import the files of the inbox that are complete and new, each once.")
def import_dropped_files(context: OpExecutionContext, config: InboxConfig, lake: ResourceParam[Lake]) -> None:
    settings = lake.section("inbox", InboxSettings)
    complete = inbox.wait_for_complete(lake, settings) if config.complete is None else set(config.complete)
    done = inbox.import_complete(lake, settings, complete)
    context.log.info(done.sentence())
    if done.failed:
        context.log.warning(
            f"{counted(done.failed, 'file')} of the inbox cannot be imported; `tunegraph status` says why"
        )


@job(description="Import the files in the inbox; the next refresh uses them.")
def import_inbox() -> None:
    import_dropped_files()


def inbox_sensor(settings: InboxSettings) -> SensorDefinition:
    """What watches the folder beside the lake."""

    @sensor(
        name="inbox",
        job=import_inbox,
        minimum_interval_seconds=_SENSOR_SECONDS,
        description="Watches the folder beside the lake, and imports each new file once it is complete.",
        default_status=DefaultSensorStatus.RUNNING if settings.on else DefaultSensorStatus.STOPPED,
    )
    def look(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        try:
            lake = Lake.open(lake_folder())
            lake.admit_source("files", record=False)
            seen = inbox.look(lake, lake.section("inbox", InboxSettings), context.cursor)
        except (InputError, LakeMissingError) as error:
            return SkipReason(str(error))
        context.update_cursor(seen.cursor)
        if not seen.complete:
            return SkipReason(seen.sentence())
        return RunRequest(
            run_key=seen.run_key,
            run_config={"ops": {"import_dropped_files": {"config": {"complete": seen.complete}}}},
        )

    return look


# --- alerts ---


@run_failure_sensor(
    name="alert_on_failure",
    default_status=DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=_SENSOR_SECONDS,
    description=f"Posts every failed run to the webhook in {alert.WEBHOOK_VARIABLE}.",
)
def alert_on_failure(context: RunFailureSensorContext) -> SkipReason | None:
    url = os.environ.get(alert.WEBHOOK_VARIABLE)
    if not url:
        return SkipReason(f"no alert is sent: {alert.WEBHOOK_VARIABLE} is not set")
    alert.send(url, alert.about_failure(context, lake_folder()))
    return None


JOBS = [import_inbox]


def sensors(settings: InboxSettings) -> list[SensorDefinition]:
    return [inbox_sensor(settings), alert_on_failure]
