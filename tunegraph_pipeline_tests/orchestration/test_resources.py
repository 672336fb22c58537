"""The lake as a run holds it: a run waits for another writer, and its log says for whom."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterInvalidConfigError, build_resources

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import views
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.alert import error_line
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.orchestration.resources import lake_resource
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
