"""A real Dagster in a process of its own, and its GraphQL, for tests that need webserver and daemon."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tunegraph_pipeline.orchestration.history import project_file
from tunegraph_pipeline_tests.conftest import BRISK

PATIENCE = 400.0  # seconds; a daemon looks for schedules every minute
Found = TypeVar("Found")

WHERE = {"repositoryName": "__repository__", "repositoryLocationName": "tunegraph"}
RUN = """mutation ($selector: JobOrPipelineSelector!, $config: RunConfigData, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}
  }) {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}
}"""
START = """mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) {
    __typename ... on ScheduleStateResult {scheduleState {id status}}
  }
}"""
STOP = """mutation ($id: String!) {
  stopRunningSchedule(id: $id) {__typename ... on ScheduleStateResult {scheduleState {status}}}
}"""
ERRORS = """query ($run: ID!) {
  logsForRun(runId: $run) {... on EventConnection {events {... on LogMessageEvent {level message}}}}
}"""
MATERIALIZED = """query ($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {events {... on MaterializationEvent {assetKey {path} timestamp}}}
  }
}"""


@dataclass
class Dagster:
    """The GraphQL of a running webserver, as its page uses it."""

    port: int
    log: Path
    alerts: list[dict[str, Any]]

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: dict[str, Any] = json.loads(answer.read())
        assert "errors" not in told, told
        data: dict[str, Any] = told["data"]
        return data

    def wait_for(self, what: str, look: Callable[[], Found | None]) -> Found:
        """What ``look`` finds, once it finds something."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if (found := look()) is not None:
                return found
            time.sleep(0.5)
        pytest.fail(f"no {what} in {PATIENCE:.0f} seconds: {self.log.read_text()[-3000:]}")

    def locations(self) -> list[str] | None:
        """The code locations, once the webserver answers and has loaded them."""
        try:
            nodes = self.ask("{repositoriesOrError {... on RepositoryConnection {nodes {location {name}}}}}")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
        return [node["location"]["name"] for node in nodes["repositoriesOrError"].get("nodes", [])] or None

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the first one first."""
        query = "{runsOrError {... on Runs {results {runId jobName status tags {key value}}}}}"
        found: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in reversed(found)]

    def launch(self, job: str, **asked: object) -> str:
        """Launch a job as the launchpad does; returns the id of the run."""
        told = self.ask(RUN, selector={**WHERE, "jobName": job}, **asked)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def ended(self, run: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            (found,) = [one for one in self.runs() if one["runId"] == run]
            return found if found["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

        return self.wait_for(f"end of run {run}", look)

    def errors(self, run: str) -> list[str]:
        """The lines that a run logged as errors."""
        events = self.ask(ERRORS, run=run)["logsForRun"]["events"]
        return [event["message"] for event in events if event and event["level"] == "ERROR"]

    def materialized(self, run: str) -> list[str]:
        """The assets that a run materialised, in that order."""
        events = self.ask(MATERIALIZED, run=run)["logsForRun"]["events"]
        return [event["assetKey"]["path"][0] for event in events if event]


@contextmanager
def running_dagster(
    log: Path, command: list[str], chosen: dict[str, str], here: Path | None = None
) -> Iterator[Dagster]:
    """The command on a free port, in the folder ``here``, ended with Ctrl-C; of lake and home its environment
    says what is ``chosen``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if name not in ("DAGSTER_HOME", "TUNEGRAPH_LAKE")
        },
        **chosen,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join(map(str, (BRISK, project_file("workspace.yaml").parent))),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=here,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            running = Dagster(port, log, [])
            assert running.wait_for("webserver", running.locations) == ["tunegraph"]
            yield running
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
