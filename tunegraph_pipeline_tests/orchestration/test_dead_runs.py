"""Runs whose process died are ended in the history, and no others."""

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRunStatus, job, op
from dagster._core.storage.tags import TagType, get_tag_type

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.dead_runs import (
    PROCESS,
    _is_dead,
    _process,
    close_dead_runs,
    this_process,
)

pytestmark = pytest.mark.dagster


OF_EARLIER_VERSIONS = "tunegraph/process"


@pytest.mark.parametrize(
    ("open_as", "tag_name"),
    [
        (DagsterRunStatus.NOT_STARTED, PROCESS),
        (DagsterRunStatus.STARTED, PROCESS),
        (DagsterRunStatus.STARTED, OF_EARLIER_VERSIONS),
    ],
)
def test_the_runs_of_dead_processes_are_closed_and_others_are_not(
    open_as: DagsterRunStatus, tag_name: str
) -> None:
    @op
    def nothing() -> None: ...

    @job
    def idle() -> None:
        nothing()

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine, dead = this_process(), _process(child.pid)
    child.communicate(b"\n")
    elsewhere = "another-host 1 0.00"
    with DagsterInstance.ephemeral() as instance:
        open_runs = {
            tag: instance.create_run_for_job(idle, status=open_as, tags={tag_name: tag}).run_id
            for tag in (mine, dead, elsewhere)
        }
        close_dead_runs(instance)
        after = {found.run_id: found.status for found in instance.get_runs()}
        status = {tag: after[run_id] for tag, run_id in open_runs.items()}
    assert status == {
        mine: open_as,
        dead: DagsterRunStatus.FAILURE,
        elsewhere: open_as,
    }


def test_a_run_that_is_begun_again_is_not_its_dead_parent() -> None:
    """It has the tags of its parent until its own process has opened the lake."""

    @op
    def nothing() -> None: ...

    @job
    def idle() -> None:
        nothing()

    gone = f"{socket.gethostname()} 999999999 0.00"
    with DagsterInstance.ephemeral() as instance:
        first = instance.create_run_for_job(idle, status=DagsterRunStatus.FAILURE, tags={PROCESS: gone})
        again = instance.create_run_for_job(
            idle,
            status=DagsterRunStatus.STARTING,
            tags={PROCESS: gone},
            parent_run_id=first.run_id,
            root_run_id=first.run_id,
        )
        close_dead_runs(instance)
        after = {found.run_id: found.status for found in instance.get_runs()}
    assert after[again.run_id] is DagsterRunStatus.STARTING


def test_the_tag_with_the_process_is_hidden_where_runs_are_shown() -> None:
    assert get_tag_type(PROCESS) is TagType.HIDDEN  # type: ignore[no-untyped-call]


def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment at which a process began is reckoned from the clock of now."""
    mine = this_process()
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: booted + 7)
    assert not _is_dead(mine)


def test_every_run_on_a_lake_says_in_which_process_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that the daemon launched, which knows nothing of the command line."""
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(tmp_path / "lake"))
    Lake.open_or_create(tmp_path / "lake")
    with DagsterInstance.ephemeral() as instance:
        build_definitions().resolve_job_def("daily_tables").execute_in_process(instance=instance)
        (done,) = instance.get_runs()
    assert done.tags[PROCESS] == this_process()
