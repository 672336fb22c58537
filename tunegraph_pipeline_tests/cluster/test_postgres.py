"""Dagster's history in Postgres: what a refresh leaves there, and what is said where it cannot be reached."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.run_coordinator import QueuedRunCoordinator

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.history import dagster_home
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline_tests.cluster.postgres import Postgres
from tunegraph_pipeline_tests.cluster.small_lake import REFRESH, small_lake
from tunegraph_pipeline_tests.lean_command import LEAN
from tunegraph_pipeline_tests.running_dagster import PATIENCE
from tunegraph_pipeline_tests.test_cli import Done, complaint, snapshot, tunegraph


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


@pytest.mark.usefixtures("blank_plots")
@pytest.mark.parametrize(
    "back", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["gone", "restarted"]
)
def test_a_postgres_that_goes_away_ends_the_run_and_the_next_one_mends_all(
    lake: Lake, own_postgres: Postgres, tmp_path: Path, back: bool
) -> None:
    server, chosen = own_postgres, own_postgres.history(tmp_path / "home")
    steps = "select count(*) from event_logs where dagster_event_type = 'STEP_SUCCESS'"
    process = subprocess.Popen(
        [*LEAN, *REFRESH, "--lake", str(lake.root)],
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
    with variables(chosen):
        again = tunegraph(*REFRESH, "--lake", lake.root)
    assert again.returncode == 0, again.stderr
    ended = server.ask("select status from runs order by id", chosen["PGDATABASE"])
    assert ended == [(first,), ("SUCCESS",)]
