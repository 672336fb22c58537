"""Runs whose process died (kill -9, a power cut): which they are, and ending them in Dagster's history.

Here: the tag that tells in which process a run is, and the end of the dead ones. Not here: the lake's lock,
which notices a dead holder by itself (`lake.lock`).
"""

import os
import socket

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

PROCESS = "tunegraph/process"
"""Tag of a run with the process it is in: host, pid and the moment that process began."""


def this_process() -> str:
    """The value of the tag for a run of this process."""
    return _process(os.getpid())


def close_dead_runs(instance: DagsterInstance) -> None:
    """End in the history the runs whose process died.

    Dagster takes them for running, shows them so for ever, and keeps their place in the queue and the pools:
    the next run would wait for it without end.
    """
    # Also those that were killed before they began; runs that wait for the daemon have no such tag.
    statuses = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    open_runs = instance.get_runs(RunsFilter(statuses=statuses))
    for run in open_runs:
        if _is_dead(run.tags.get(PROCESS, "")):
            instance.report_run_failed(run, "the process of this run died")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _process(pid: int) -> str:
    import psutil

    process = psutil.Process(pid)
    return f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"


def _is_dead(process: str) -> bool:
    """Whether a process of this host is gone; pids are used again, beginnings are not."""
    import psutil

    host, _, rest = process.partition(" ")
    if host != socket.gethostname():
        return False
    try:
        return _process(int(rest.split()[0])) != process
    except psutil.NoSuchProcess:
        return True
