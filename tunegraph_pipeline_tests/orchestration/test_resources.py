"""The lake as a run holds it: a run waits for another writer, and its log says for whom."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterInvalidConfigError, build_resources

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import views
from tunegraph_pipeline.lake.lake import SIMULATED, Lake
from tunegraph_pipeline.orchestration.alert import error_line
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.orchestration.resources import (
    DEMO_LAKE,
    LAKE_VARIABLE,
    MAIN_LAKE,
    lake_folder,
    lake_name,
    lake_resource,
    settle_lake,
)
from tunegraph_pipeline.progress import watched_by

pytestmark = pytest.mark.dagster

DAY = date(2026, 2, 1)
HOLD = """
import sys, time
from pathlib import Path
from tunegraph_pipeline.lake.lock import write_lock
with write_lock(Path(sys.argv[1]), "tunegraph import"):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Lake.open_or_create(tmp_path / "lake")


@pytest.fixture
def holder(lake: Lake) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, lake.root], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in an environment that names no lake."""
    monkeypatch.setenv(LAKE_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dagster_shows_the_lake_that_is_named_or_main_or_the_demo(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lake_folder() == DEMO_LAKE  # the first run makes it
    (here / MAIN_LAKE).mkdir(parents=True)
    Lake.open_or_create(DEMO_LAKE)
    assert lake_folder() == DEMO_LAKE
    main = Lake.open_or_create(MAIN_LAKE)
    assert lake_folder() == MAIN_LAKE
    main.path.write_text("{")  # a damaged lake is not passed over
    assert lake_folder() == MAIN_LAKE
    monkeypatch.setenv(LAKE_VARIABLE, "elsewhere/lake")
    assert lake_folder() == Path("elsewhere/lake")


def test_what_is_shown_stays_the_same_when_another_lake_comes_into_being(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = settle_lake()
    assert root == here / DEMO_LAKE
    Lake.open_or_create(MAIN_LAKE)
    assert lake_folder() == root
    assert os.environ[LAKE_VARIABLE] == str(root)  # and so for the processes it starts, wherever they work
    monkeypatch.chdir("/")
    assert settle_lake() == root


def test_the_page_names_the_lake(here: Path) -> None:
    assert lake_name(here / DEMO_LAKE) == "data_lake/demo"
    assert lake_name(here.parent / "other") == str(here.parent / "other")
    definitions = build_definitions(here / DEMO_LAKE)
    assert {spec.metadata["lake"] for spec in definitions.resolve_all_asset_specs()} == {"data_lake/demo"}


@pytest.mark.parametrize(("root", "source"), [(DEMO_LAKE, SIMULATED), (MAIN_LAKE, None)])
def test_the_first_run_of_the_demo_asks_the_simulator(here: Path, root: Path, source: str | None) -> None:
    lake = Lake.open_or_create(root)
    lake.set_section(SIMULATED, {"over_http": False, "n_users": 20, "n_tracks": 50})
    job = build_definitions(here / root).resolve_job_def("daily_tables")
    today = datetime.now(UTC).date()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(quiet, instance=instance, partition_key=str(today)).success
    lake = Lake.open(root)
    assert lake.file.source == source
    assert lake.raw_days() == ([today] if source else [])


def test_a_run_waits_for_another_writer_and_its_log_says_for_whom(
    lake: Lake, holder: "subprocess.Popen[str]"
) -> None:
    config = {
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    with DagsterInstance.local_temp() as instance:

        def messages() -> list[str]:
            return [
                entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)
            ]

        def kill_when_waited_for() -> None:
            until = time.monotonic() + 120
            while time.monotonic() < until and not any("waiting for" in line for line in messages()):
                time.sleep(0.2)
            holder.kill()

        killing = threading.Thread(target=kill_when_waited_for)
        killing.start()
        done = (
            build_definitions(lake.root, first=DAY)
            .resolve_job_def("daily_tables")
            .execute_in_process(run_config=config, instance=instance, partition_key=DAY.isoformat())
        )
        killing.join()
        said = messages()
    assert done.success
    assert [line for line in said if f"waiting for tunegraph import (process {holder.pid} on " in line]
    assert [line for line in said if f"process {holder.pid} " in line and "died without finishing" in line]


def test_a_job_that_is_run_by_hand_is_told_at_once_and_an_alert_would_say_why(
    lake: Lake, holder: "subprocess.Popen[str]"
) -> None:
    said = f"is being written by tunegraph import (process {holder.pid} on "
    with pytest.raises(LakeError, match=re.escape(said)):
        run_job(lake, "daily_tables", DAY, DAY)
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        (run,) = instance.get_runs()
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
    (failure,) = [event for event in events if event and event.event_type == DagsterEventType.RUN_FAILURE]
    assert said in error_line([], failure)


def test_a_copied_lake_repeats_its_runs_on_itself_alone(lake: Lake, tmp_path: Path) -> None:
    run_job(lake, "daily_tables", DAY, DAY)
    copy = Lake.open(shutil.copytree(lake.root, tmp_path / "copy"))
    lake_file = lake.path
    shutil.rmtree(lake.root)
    with DagsterInstance.from_config(str(copy.history)) as instance:
        (run,) = instance.get_runs()
        assert str(lake.root) not in json.dumps(run.run_config)
        job = build_definitions(copy.root, first=DAY).resolve_job_def("daily_tables")
        again = job.execute_in_process(
            run_config=dict(run.run_config), instance=instance, partition_key=DAY.isoformat()
        )
        assert again.success
        # As runs were recorded before.
        earlier = {**run.run_config, "resources": {"lake": {"config": {"root": str(lake.root)}}}}
        with pytest.raises(DagsterInvalidConfigError, match='unexpected config entry "root"'):
            job.execute_in_process(run_config=earlier, instance=instance, partition_key=DAY.isoformat())
    assert copy.partitions("likes") == [DAY.isoformat()]
    assert not lake_file.exists()


def test_a_run_leaves_the_sql_views_up_to_date_or_says_why_not(lake: Lake) -> None:
    def run() -> list[str]:
        notes: list[str] = []
        with watched_by(lambda *_: None, notes.append), build_resources({"lake": lake_resource(lake.root)}):
            pass
        return notes

    lake.views.unlink()
    assert run() == []
    assert views.check_file(lake.views) is None
    lake.views.write_bytes(b"something else")
    (note,) = run()
    assert "`tunegraph verify` says what to do" in note
    assert lake.views.read_bytes() == b"something else"
