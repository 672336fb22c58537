"""Code server, daemon and page as processes of their own, which meet in Postgres, for a lake in a store."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.snapshots import lake_path
from tunegraph_pipeline.orchestration.dead_runs import PROCESS
from tunegraph_pipeline.orchestration.history import project_file
from tunegraph_pipeline_tests.cluster.object_store import SECRET, ObjectStore
from tunegraph_pipeline_tests.cluster.postgres import Postgres, free_port
from tunegraph_pipeline_tests.cluster.small_lake import small_lake
from tunegraph_pipeline_tests.conftest import PROJECT
from tunegraph_pipeline_tests.running_dagster import START, STOP, WHERE, Dagster

METADATA = """query ($run: ID!) {
  logsForRun(runId: $run) {... on EventConnection {events {... on MaterializationEvent {
    assetKey {path} metadataEntries {label ... on TextMetadataEntry {text} ... on IntMetadataEntry {intRepr}}
  }}}}
}"""
TERMINATE = """mutation ($run: String!) {
  terminateRun(runId: $run) {__typename ... on PythonError {message} ... on TerminateRunFailure {message}}
}"""


@contextmanager
def process(log: Path, command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process and what it starts, ended with Ctrl-C."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGINT)
        try:
            started.wait(60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # a run that outlived its code server


class Deployment:
    """Code server, daemon and page, each a process that knows of the others only what `dagster.cluster.yaml`,
    `workspace.cluster.yaml` and the environment say."""

    def __init__(self, lake: Lake, store: ObjectStore, postgres: Postgres, folder: Path) -> None:
        self.lake, self.store, self.postgres, self.folder = lake, store, postgres, folder
        chosen = postgres.history(folder / "home")
        self.database = chosen["PGDATABASE"]
        self.code_port, page_port = free_port(), free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in store.variables},
            **chosen,
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "ignore",
            "TUNEGRAPH_CODE_HOST": "127.0.0.1",
            "TUNEGRAPH_CODE_PORT": str(self.code_port),
        }
        self.page = Dagster(page_port, folder / "page.log", [])
        self._daemon = ExitStack()

    def code_server(self) -> Any:
        # It alone knows the lake and its store.
        return process(
            self.folder / "code.log",
            [
                *(sys.executable, "-m", "dagster", "code-server", "start", "--location-name", "tunegraph"),
                *("--module-name", "tunegraph_pipeline.definitions"),
                *("--host", "127.0.0.1", "--port", str(self.code_port)),
            ],
            {**self.environment, **self.store.variables, "TUNEGRAPH_LAKE": self.lake.name},
        )

    def start_daemon(self) -> None:
        """Start the daemon; if one runs, end it first."""
        self.end_daemon()
        command = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", self.workspace]
        self._daemon.enter_context(process(self.folder / "daemon.log", command, self.environment))

    def end_daemon(self) -> None:
        self._daemon.close()

    def webserver(self) -> Any:
        return process(
            self.page.log,
            [
                *(sys.executable, "-m", "tunegraph_pipeline.orchestration.dagster_page", "webserver"),
                *("--workspace", self.workspace, "--host", "127.0.0.1", "--port", str(self.page.port)),
            ],
            self.environment,
        )

    @property
    def workspace(self) -> str:
        return str(project_file("workspace.cluster.yaml"))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.postgres.ask(sql, self.database)

    def wait_for_process(self, run: str) -> int:
        """The pid of a run, once it has begun."""
        tag = f"select value from run_tags where run_id = '{run}' and key = '{PROCESS}'"
        (value,) = self.page.wait_for(f"process of run {run}", lambda: next(iter(self.ask(tag)), None))
        return int(value.split()[1])


@pytest.fixture(scope="module")
def deployment(
    postgres: Postgres, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as running:
        patch = running.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**object_store.variables, "TUNEGRAPH_CACHE": str(folder / "cache")}.items():
            patch.setenv(name, value)
        lake = small_lake(lake_path(object_store.url()), schedules={"daily": "* * * * *"})
        made = Deployment(lake, object_store, postgres, folder)
        running.enter_context(made.code_server())
        running.enter_context(made.webserver())
        running.callback(made.end_daemon)
        assert made.page.wait_for("webserver", made.page.locations) == ["tunegraph"]
        made.start_daemon()
        yield made


def test_of_two_runs_in_the_queue_one_runs_at_a_time_and_both_succeed(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = deployment.page
    # Neither can end while the lake is held, so both are there at the same time.
    with deployment.lake.writing("a test"):
        first, second = page.launch("refresh"), page.launch("refresh")
        deployment.wait_for_process(first)
        assert [one["status"] for one in page.runs()][-2:] == ["STARTED", "QUEUED"]
    assert page.ended(first)["status"] == page.ended(second)["status"] == "SUCCESS"
    spans = dict(deployment.ask("select run_id, array[start_time, end_time] from runs"))
    assert spans[first][1] <= spans[second][0]

    # What they made is in the store, and its figures are on the page.
    events = page.ask(METADATA, run=second)["logsForRun"]["events"]
    told = {
        event["assetKey"]["path"][0]: {one["label"]: one for one in event["metadataEntries"]}
        for event in events
        if event
    }
    assert told["current_likes"]["dagster/row_count"]["intRepr"] == "240"
    monkeypatch.setenv("TUNEGRAPH_CACHE", str(tmp_path))  # another machine
    elsewhere = Lake.open(lake_path(deployment.lake.name))
    assert told["co_like_matrix"]["version"]["text"] == elsewhere.current_version("co_like")
    assert elsewhere.has_current("serving")


def test_a_killed_run_is_noticed_and_begun_again_once(deployment: Deployment) -> None:
    page = deployment.page
    with deployment.lake.writing("a test"):
        killed = page.launch("refresh")
        os.kill(deployment.wait_for_process(killed), signal.SIGKILL)
        assert page.ended(killed)["status"] == "FAILURE"

    def retry() -> str | None:
        return next(
            (one["runId"] for one in page.runs() if one["tags"].get("dagster/parent_run_id") == killed), None
        )

    again = page.wait_for("retry", retry)
    assert page.ended(again)["status"] == "SUCCESS"


def test_a_run_is_ended_from_the_page(deployment: Deployment) -> None:
    page = deployment.page
    with deployment.lake.writing("a test"):
        run = page.launch("refresh")
        deployment.wait_for_process(run)
        told = page.ask(TERMINATE, run=run)["terminateRun"]
        assert told["__typename"] == "TerminateRunSuccess", told
        assert page.ended(run)["status"] == "CANCELED"


def test_a_schedule_goes_on_with_another_daemon(deployment: Deployment) -> None:
    page = deployment.page
    told = page.ask(START, selector={**WHERE, "scheduleName": "daily_refresh"})["startSchedule"]
    assert told["scheduleState"]["status"] == "RUNNING"
    deployment.end_daemon()
    (last,) = deployment.ask("select coalesce(max(id), 0) from job_ticks")[0]
    deployment.start_daemon()
    page.wait_for("tick", lambda: deployment.ask(f"select id from job_ticks where id > {last}") or None)
    page.ask(STOP, id=told["scheduleState"]["id"])


def test_no_process_says_a_secret(deployment: Deployment) -> None:
    """In no log, nor to whoever asks the page how Dagster is set up."""
    for secret in (deployment.postgres.password, SECRET):
        for log in deployment.folder.glob("*.log"):
            assert secret not in log.read_text(), log
        assert secret not in deployment.page.ask("{instance {info}}")["instance"]["info"]
