"""Dagster's history in Postgres: what a refresh leaves there, what is said where it cannot be reached, and
daemon, page and runs in processes of their own."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.run_coordinator import QueuedRunCoordinator

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.orchestration.dead_runs import PROCESS
from tunegraph_pipeline.orchestration.history import dagster_home, project_file
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline_tests.cluster.postgres import Postgres, free_port, programs
from tunegraph_pipeline_tests.conftest import PROJECT
from tunegraph_pipeline_tests.lean_command import LEAN
from tunegraph_pipeline_tests.running_dagster import PATIENCE, START, WHERE, Dagster
from tunegraph_pipeline_tests.test_cli import Done, complaint, snapshot, tunegraph

TODAY = datetime.now(UTC).date()
REFRESH = ("refresh", "--source", "none", "--date", str(TODAY))


def small_lake(root: Path) -> Lake:
    """40 users in three scenes, and a model that takes no time."""
    rng = random.Random(3)
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})  # likes by chance: no model has to foresee them
    lake.set_section("schedules", {"daily": "* * * * *"})
    rows = [
        {"user_id": f"u{user}", "track_id": f"t{user % 3}.{track}", "liked_at": None}
        for user in range(40)
        for track in rng.sample(range(12), 6)
    ]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    write_batch(lake.raw, TODAY, RawBatch("files", "test", likes=likes))
    return lake


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that received lists and was never refreshed."""
    return small_lake(tmp_path_factory.mktemp("received") / "lake")


@pytest.fixture
def lake(received: Lake, tmp_path: Path) -> Lake:
    copytree(received.root, tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


@contextmanager
def variables(chosen: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(name, value)
        yield


def figures(instance: DagsterInstance) -> dict[str, dict[str, Any]]:
    """What the last materialisation of each stage says, but for what a clock says of it."""
    found = {}
    for stage in STAGES:
        if stage.in_refresh:
            event = instance.get_latest_materialization_event(AssetKey(stage.name))
            assert event is not None, stage.name
            assert event.asset_materialization is not None
            said = event.asset_materialization.metadata
            found[stage.name] = {name: value.value for name, value in said.items()}
    return found


# --- what a refresh leaves ---


@pytest.mark.usefixtures("blank_plots")
def test_a_refresh_is_in_postgres_and_the_lake_is_that_of_the_default(
    lake: Lake, postgres: Postgres, tmp_path: Path
) -> None:
    copytree(lake.root, tmp_path / "default")
    default = Lake.open(tmp_path / "default")
    assert tunegraph(*REFRESH, "--lake", default.root).returncode == 0
    chosen = postgres.history(tmp_path / "home")
    with variables(chosen):
        done = tunegraph(*REFRESH, "--lake", lake.root)
        assert done.returncode == 0, done.stderr
        with DagsterInstance.from_config(chosen["DAGSTER_HOME"]) as instance:
            assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
            (run,) = instance.get_runs()
            assert (run.job_name, run.status) == ("refresh", DagsterRunStatus.SUCCESS)
            ours = figures(instance)
    with DagsterInstance.from_config(str(dagster_home(default.root))) as instance:
        theirs = figures(instance)
    assert ours.keys() == theirs.keys()
    for name, said in ours.items():
        assert said.keys() == theirs[name].keys(), name
    count = "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    assert postgres.ask(count, chosen["PGDATABASE"]) >= [(len(ours),)]
    assert not lake.history.exists()
    assert not list(Path(chosen["DAGSTER_HOME"]).rglob("*.db"))
    mine, other = (
        {name: pl.read_parquet(one.root / name) for name in snapshot(one.root) if name.endswith(".parquet")}
        for one in (lake, default)
    )
    assert mine.keys() == other.keys()
    for name, table in mine.items():
        assert table.equals(other[name]), name
    arrays, expected = (
        {name: data for name, data in snapshot(one.root).items() if name.endswith((".npy", ".safetensors"))}
        for one in (lake, default)
    )
    assert arrays == expected


# --- where it cannot be reached ---


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"PGPASSWORD": "not the passw0rd"}, "password authentication failed"),
        ({"PGDATABASE": "missing"}, 'database "missing" does not exist'),
        ({"PGPORT": "1"}, "Connection refused"),
        ({"PGPORT": "five"}, "PGPORT has to be a number"),
        ({"PGPASSWORD": None}, "takes password of Postgres from PGPASSWORD, which is not set"),
    ],
)
def test_a_postgres_that_cannot_be_reached_is_a_line_without_the_password(
    lake: Lake, postgres: Postgres, tmp_path: Path, wrong: dict[str, str | None], problem: str
) -> None:
    before = snapshot(lake.root)
    asked = {**postgres.history(tmp_path / "home"), **wrong}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in asked.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        for command in (("refresh", "--source", "none"), ("publish",), ("ui",)):
            told = tunegraph(*command, "--lake", lake.root)
            assert problem in complaint(told)
            assert asked["PGPASSWORD"] is None or asked["PGPASSWORD"] not in told.stdout + told.stderr
        complaint(tunegraph("refresh", "--source", "simulator", "--lake", tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert snapshot(lake.root) == before


def test_a_database_in_which_nothing_may_be_made_is_a_line(
    lake: Lake, postgres: Postgres, tmp_path: Path
) -> None:
    chosen = postgres.history(tmp_path / "home")
    postgres.ask("create role guest login password 'guest_passw0rd'")
    with variables({**chosen, "PGUSER": "guest", "PGPASSWORD": "guest_passw0rd"}):
        told = tunegraph(*REFRESH, "--lake", lake.root)
    assert "permission denied for schema public" in complaint(told)
    assert "guest_passw0rd" not in told.stdout + told.stderr


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that the test may stop."""
    with Postgres.running() as server:
        yield server


@pytest.mark.parametrize("back", [False, True], ids=["gone", "restarted"])
def test_a_postgres_that_goes_away_ends_the_run_and_the_next_one_mends_all(
    lake: Lake, own_postgres: Postgres, tmp_path: Path, back: bool
) -> None:
    server, chosen = own_postgres, own_postgres.history(tmp_path / "home")
    steps = "select count(*) from event_logs where dagster_event_type = 'STEP_SUCCESS'"
    command = [*LEAN, *REFRESH, "--lake", str(lake.root)]
    process = subprocess.Popen(
        command,
        env={**os.environ, **chosen},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server.wait_for("its first step", chosen["PGDATABASE"], steps, lambda rows: rows[0][0] > 0)
    process.send_signal(signal.SIGSTOP)
    assert server.ask("select status from runs", chosen["PGDATABASE"]) == [("STARTED",)]
    server.stop()
    if back:
        server.start()
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=PATIENCE)
    assert server.password not in out + err
    if back and process.returncode == 0:
        first = "SUCCESS"  # it had no connection at that moment, so it noticed nothing
    else:
        first = "FAILURE"
        assert "Dagster's history in Postgres" in complaint(Done(process.returncode, out, err))
    if not back:
        server.start()
    assert tunegraph("verify", "--lake", lake.root).returncode == 0
    again = subprocess.run(command, env={**os.environ, **chosen}, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    ended = server.ask("select status from runs order by id", chosen["PGDATABASE"])
    assert ended == [(first,), ("SUCCESS",)]


# --- daemon, page and runs as processes of their own ---


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

    def __init__(self, lake: Lake, postgres: Postgres, folder: Path) -> None:
        self.lake, self.postgres, self.folder = lake, postgres, folder
        chosen = postgres.history(folder / "home")
        self.database = chosen["PGDATABASE"]
        self.code_port, page_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            **chosen,
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "ignore",
            "TUNEGRAPH_CODE_HOST": "127.0.0.1",
            "TUNEGRAPH_CODE_PORT": str(self.code_port),
        }
        self.page = Dagster(page_port, folder / "page.log", [])

    def code_server(self) -> Any:
        # It alone knows the lake.
        return process(
            self.folder / "code.log",
            [
                *(sys.executable, "-m", "dagster", "code-server", "start", "--location-name", "tunegraph"),
                *("--module-name", "tunegraph_pipeline.definitions"),
                *("--host", "127.0.0.1", "--port", str(self.code_port)),
            ],
            {**self.environment, "TUNEGRAPH_LAKE": str(self.lake.root)},
        )

    def daemon(self) -> Any:
        command = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", self.workspace]
        return process(self.folder / "daemon.log", command, self.environment)

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
    received: Lake, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    copytree(received.root, folder / "lake")
    made = Deployment(Lake.open(folder / "lake"), postgres, folder)
    with ExitStack() as running:
        running.enter_context(made.code_server())
        running.enter_context(made.webserver())
        assert made.page.wait_for("webserver", made.page.locations) == ["tunegraph"]
        yield made


@pytest.fixture
def daemon(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    with deployment.daemon() as running:
        yield running


@pytest.mark.usefixtures("daemon")
def test_of_two_runs_in_the_queue_one_runs_at_a_time_and_both_succeed(deployment: Deployment) -> None:
    page = deployment.page
    # Neither can end while the lake is held, so both are there at the same time.
    with deployment.lake.writing("a test"):
        first, second = page.launch("refresh"), page.launch("refresh")
        deployment.wait_for_process(first)
        assert [one["status"] for one in page.runs()][-2:] == ["STARTED", "QUEUED"]
    assert page.ended(first)["status"] == page.ended(second)["status"] == "SUCCESS"
    spans = dict(deployment.ask("select run_id, array[start_time, end_time] from runs"))
    assert spans[first][1] <= spans[second][0]


@pytest.mark.usefixtures("daemon")
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


def test_a_schedule_goes_on_with_another_daemon(deployment: Deployment) -> None:
    page = deployment.page
    with deployment.daemon():
        told = page.ask(START, selector={**WHERE, "scheduleName": "daily_refresh"})["startSchedule"]
        assert told["scheduleState"]["status"] == "RUNNING"
    began = time.time()
    assert deployment.ask("select status from instigators where status = 'RUNNING'")
    with deployment.daemon():
        ticks = f"select id from job_ticks where timestamp > to_timestamp({began}) at time zone 'UTC'"
        page.wait_for("tick of the other daemon", lambda: deployment.ask(ticks) or None)


def test_no_process_says_the_password(deployment: Deployment) -> None:
    """In no log, nor to whoever asks the page how Dagster is set up."""
    for log in deployment.folder.glob("*.log"):
        assert deployment.postgres.password not in log.read_text(), log
    assert deployment.postgres.password not in deployment.page.ask("{instance {info}}")["instance"]["info"]


def test_postgres_is_found_where_debian_puts_it() -> None:
    assert (programs() / "postgres").exists()
