"""Close runs whose process died (kill -9, a power cut) in Dagster's history.

Here: the tag that names the process of a run, and ending dead runs. Not here: the lake's lock, which notices
a dead holder by itself (`lake.lock`).
"""

import os
import socket

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

PROCESS = ".dagster/tunegraph_process"
"""Tag of a run with its process: host, pid, and how many seconds after the host the process started. The UI
hides tags of this prefix."""

_EARLIER_PROCESS = "tunegraph/process"
"""The same tag of runs that earlier versions started."""


def this_process() -> str:
    """The value of the tag for a run of this process."""
    return _process(os.getpid())


def process_of(run: DagsterRun) -> str:
    """The process of a run; "" of one that waits for the daemon."""
    return run.tags.get(PROCESS) or run.tags.get(_EARLIER_PROCESS, "")


def close_dead_runs(instance: DagsterInstance) -> None:
    """Mark the runs whose process died as failed. Dagster would show them as running forever, and keep their
    place in the queue and the pools, for which the next run would wait without end."""
    # Also runs that were killed before they began; runs that wait for the daemon have no such tag.
    statuses = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    open_runs = instance.get_runs(RunsFilter(statuses=statuses))
    for run in open_runs:
        process = process_of(run)
        if _is_dead(process) and not _is_of_parent(instance, run, process):
            instance.report_run_failed(run, "the process of this run died")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _process(pid: int) -> str:
    import psutil

    # Relative to the start of the host: the clock may be changed while the process runs.
    began = psutil.Process(pid).create_time() - psutil.boot_time()
    return f"{socket.gethostname()} {pid} {began:.2f}"


def _is_of_parent(instance: DagsterInstance, run: DagsterRun, process: str) -> bool:
    """Whether the tag is that of the run which this one retries; its own process, which replaces the tag, has
    not opened the lake yet."""
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return parent is not None and process_of(parent) == process


def _is_dead(process: str) -> bool:
    """Whether a process of this host ended; a pid may be reused, but not with the same start."""
    import psutil

    host, _, rest = process.partition(" ")
    if host != socket.gethostname():
        return False
    try:
        return _process(int(rest.split()[0])) != process
    except psutil.NoSuchProcess:
        return True
