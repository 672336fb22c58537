"""Running jobs in this process: what becomes of Ctrl-C, and of runs whose process died."""

import os
import signal
import subprocess
import sys

import pytest
from dagster import DagsterInstance, DagsterRunStatus, job, op

from tunegraph_pipeline.orchestration import run


@pytest.fixture
def deaf() -> object:
    """SIGINT is noted by nobody, as where an extension module swallowed its exception."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_error_that_ctrl_c_caused_is_ctrl_c(deaf: None) -> None:
    with pytest.raises(KeyboardInterrupt), run._noticing_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        raise TypeError("incompatible function arguments")


def test_an_error_of_its_own_stays_what_it_is(deaf: None) -> None:
    with pytest.raises(TypeError, match="of its own"), run._noticing_interrupts():
        raise TypeError("of its own")


def test_the_runs_of_dead_processes_are_closed_and_others_are_not() -> None:
    @op
    def nothing() -> None: ...

    @job
    def idle() -> None:
        nothing()

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine, dead = run._process(), run._process(child.pid)
    child.communicate(b"\n")
    elsewhere = "another-host 1 0.00"
    with DagsterInstance.ephemeral() as instance:
        open_runs = {
            tag: instance.create_run_for_job(
                idle, status=DagsterRunStatus.STARTED, tags={"tunegraph/process": tag}
            ).run_id
            for tag in (mine, dead, elsewhere)
        }
        run._close_dead_runs(instance)
        after = {found.run_id: found.status for found in instance.get_runs()}
        status = {tag: after[run_id] for tag, run_id in open_runs.items()}
    assert status == {
        mine: DagsterRunStatus.STARTED,
        dead: DagsterRunStatus.FAILURE,
        elsewhere: DagsterRunStatus.STARTED,
    }
