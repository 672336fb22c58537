"""What runs by itself: what a tick asks for, what is tried again, and what the inbox launches."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
    validate_run_config,
)

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, write_batch
from tunegraph_pipeline.orchestration import automation
from tunegraph_pipeline.orchestration.assets import sources
from tunegraph_pipeline.orchestration.automation import schedule_settings
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.settings import InboxSettings, ScheduleSettings
from tunegraph_pipeline.sources.source import NoAnswer

pytestmark = pytest.mark.dagster


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake of the code location."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(tmp_path / "lake"))
    return Lake.open_or_create(tmp_path / "lake")


@pytest.fixture(scope="module")
def instance() -> Iterator[DagsterInstance]:
    """What ticks are evaluated with, which leave nothing in it."""
    with DagsterInstance.local_temp() as instance:
        yield instance


def _tick(instance: DagsterInstance, name: str, at: datetime | None = None) -> Any:
    (schedule,) = [one for one in automation.schedules(ScheduleSettings()) if one.name == name]
    return schedule(build_schedule_context(instance, scheduled_execution_time=at or datetime.now(UTC)))


# --- schedules ---


@pytest.mark.parametrize(("name", "full"), [("daily_refresh", False), ("weekly_full_refresh", True)])
def test_a_tick_asks_for_one_run_of_the_refresh_up_to_today(
    lake: Lake, instance: DagsterInstance, name: str, full: bool
) -> None:
    lake.admit_source("simulator")
    today = datetime.now(UTC).date().isoformat()
    (request,) = _tick(instance, name)
    assert request.tags["dagster/asset_partition_range_start"] == today
    assert request.tags["dagster/asset_partition_range_end"] == today
    assert request.run_config["ops"]["crawled_users"]["config"] == {"first": today, "last": today}
    assert request.run_config["ops"]["trained_model"]["config"] == {"full": full}
    assert validate_run_config(build_definitions().resolve_job_def("refresh"), request.run_config)


def test_a_tick_that_is_evaluated_twice_gives_one_run_and_another_tick_another(
    lake: Lake, instance: DagsterInstance
) -> None:
    lake.admit_source("simulator")
    at = datetime(2026, 11, 25, 2, tzinfo=UTC)
    (once,), (again,), (later,), (next_day,) = (
        _tick(instance, "daily_refresh", at + timedelta(hours=hours)) for hours in (0, 0, 6, 24)
    )
    assert once.run_key == again.run_key
    assert len({once.run_key, later.run_key, next_day.run_key}) == 3
    assert _tick(instance, "weekly_full_refresh", at)[0].run_key != once.run_key


def test_a_tick_without_a_lake_or_anything_in_it_says_so(
    lake: Lake, instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = _tick(instance, "daily_refresh")
    assert isinstance(empty, SkipReason)
    assert "received nothing yet" in str(empty.skip_message)
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(tmp_path / "nowhere"))
    missing = _tick(instance, "daily_refresh")
    assert isinstance(missing, SkipReason)
    assert "there is no lake at" in str(missing.skip_message)


def test_a_tick_for_days_from_before_those_that_dagster_loaded_says_what_to_do(
    lake: Lake, instance: DagsterInstance
) -> None:
    now = build_schedule_context(instance, scheduled_execution_time=datetime.now(UTC))
    loaded: Any = build_definitions(lake.root).schedules  # of a lake that begins today
    earlier = datetime.now(UTC).date() - timedelta(days=3)
    write_batch(lake.raw, earlier, RawBatch("files", "a list of earlier"))
    skipped = loaded[0](now)
    assert isinstance(skipped, SkipReason)
    assert str(skipped.skip_message).startswith(f"{earlier} is to be filled, and the days that")
    assert "then reload the code location" in str(skipped.skip_message)
    reloaded: Any = build_definitions(lake.root).schedules
    (request,) = reloaded[0](now)
    assert request.tags["dagster/asset_partition_range_start"] == earlier.isoformat()


def test_to_open_the_ui_changes_no_lake_and_the_alert_is_on() -> None:
    defs = build_definitions()
    assert {one.default_status for one in automation.schedules(ScheduleSettings())} == {
        DefaultScheduleStatus.STOPPED
    }
    status = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    assert status == {"inbox": DefaultSensorStatus.STOPPED, "alert_on_failure": DefaultSensorStatus.RUNNING}


def test_settings_of_the_lake_switch_schedules_and_inbox_on(lake: Lake) -> None:
    lake.set_section("schedules", {"on": True})
    lake.set_section("inbox", {"on": True})
    defs = build_definitions(lake.root)
    statuses = {one.name: one.default_status for one in (*(defs.schedules or []), *(defs.sensors or []))}
    assert statuses == {
        "daily_refresh": DefaultScheduleStatus.RUNNING,
        "weekly_full_refresh": DefaultScheduleStatus.RUNNING,
        "inbox": DefaultSensorStatus.RUNNING,
        "alert_on_failure": DefaultSensorStatus.RUNNING,
    }


def test_when_schedules_tick_is_a_setting_of_the_lake(lake: Lake, tmp_path: Path) -> None:
    assert schedule_settings(tmp_path / "nowhere") == ScheduleSettings()
    lake.set_section("schedules", {"daily": "30 4 * * *"})
    (daily, weekly) = automation.schedules(schedule_settings(lake.root))
    assert (daily.cron_schedule, weekly.cron_schedule) == ("30 4 * * *", "0 3 * * 0")
    lake.set_section("schedules", {"daily": "at four"})
    with pytest.raises(LakeError, match=r"settings.schedules: daily: .*'at four' is not a cron expression"):
        schedule_settings(lake.root)


@pytest.mark.parametrize("served", ["serving_bundle", "user_recommendations"])
def test_what_people_are_served_has_to_be_fresh(served: str) -> None:
    node = build_definitions().resolve_asset_graph().get(AssetKey(served))
    policy: Any = node.freshness_policy_or_from_metadata
    assert policy.warn_window.to_timedelta() == timedelta(hours=26)
    assert policy.fail_window.to_timedelta() == timedelta(hours=50)


# --- what is tried again ---


@pytest.mark.usefixtures("no_history")
@pytest.mark.parametrize(
    ("error", "retries", "answers_at", "asked"),
    [
        (NoAnswer("the service is down"), 3, 3, 3),
        (NoAnswer("the service is down"), 3, None, 4),
        (NoAnswer("the service is down"), 0, None, 1),
        (InputError("the token is wrong"), 3, None, 1),
        (LakeError("the disk is full"), 3, None, 1),
    ],
)
def test_only_a_service_that_does_not_answer_is_asked_again_and_not_for_ever(
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    retries: int,
    answers_at: int | None,
    asked: int,
) -> None:
    calls = 0

    def crawl_day(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls != answers_at:
            raise error

    monkeypatch.setattr(sources, "crawl_day", crawl_day)
    day = date(2026, 2, 1)
    config = {"crawled_users": {"retries": retries, "retry_after": 0.0}}
    if answers_at is None:
        with pytest.raises(type(error), match=str(error)):
            run_job(lake, "daily_tables", day, day, config)
    else:
        run_job(lake, "daily_tables", day, day, config)
        assert lake.partitions("users") == ["2026-02-01"]
    assert calls == asked


# --- the inbox ---


def test_the_sensor_launches_one_run_for_what_is_complete_and_names_no_file(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.set_section("inbox", {"settle_seconds": 0.2})
    told = _look(None)
    assert isinstance(told, SkipReason)
    assert "there is no inbox at" in str(told.skip_message)
    folder = lake.root.parent / "inbox"
    folder.mkdir()
    (folder / "likes-of-alice.csv").write_text("user_id,track_id\nu,a\nu,b\n")
    with DagsterInstance.ephemeral() as instance:
        inbox_sensor = automation.inbox_sensor(InboxSettings())
        context = build_sensor_context(instance=instance)
        first = inbox_sensor(context)
        assert isinstance(first, SkipReason)
        assert "not known to be complete" in str(first.skip_message)
        later = time.time() + 1
        monkeypatch.setattr("time.time", lambda: later)
        requests = [inbox_sensor(context) for _ in range(2)]
        assert context.cursor is not None
        assert "alice" not in context.cursor
    keys = {request.run_key for request in requests if isinstance(request, RunRequest)}
    assert len(keys) == 1
    request = requests[0]
    assert isinstance(request, RunRequest)
    assert "alice" not in json.dumps(request.run_config)
    monkeypatch.undo()
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(lake.root))
    run_job(
        lake,
        "import_inbox",
        ops={"import_dropped_files": request.run_config["ops"]["import_dropped_files"]["config"]},
    )
    (day,) = lake.raw_days()
    (batch,) = lake.batches(day)
    assert batch.rows["likes"] == 2
    done = _look(None)
    assert isinstance(done, SkipReason)
    assert done.skip_message == "no new file"


def _look(cursor: str | None) -> object:
    with DagsterInstance.ephemeral() as instance:
        return automation.inbox_sensor(InboxSettings())(
            build_sensor_context(instance=instance, cursor=cursor)
        )


def test_a_lake_of_simulated_likes_imports_nothing(lake: Lake) -> None:
    lake.admit_source("simulator")
    told = _look(None)
    assert isinstance(told, SkipReason)
    assert "would mix simulated and real likes" in str(told.skip_message)
