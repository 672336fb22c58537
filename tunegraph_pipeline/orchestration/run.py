"""Running the jobs in this process, on the Dagster instance that lives in the lake.

Here: the instance, and one function that runs a job and turns its failure into the error a person reads.
Not here: what the jobs are (`jobs`), or how progress is drawn (`cli`).
"""

import _thread
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from sqlalchemy.exc import OperationalError

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import staged_file

_PROCESS = "tunegraph/process"
"""Tag of a run with the process it is in: host, pid and the moment that process began."""

_PACKAGE = Path(__file__).parents[1]


def project_file(name: str) -> Path:
    """`dagster.yaml` or `workspace.yaml`: inside an installed package, at the top of a checkout."""
    installed = _PACKAGE / name
    return installed if installed.exists() else _PACKAGE.parent / name


def dagster_home(lake: Lake) -> Path:
    """The folder of the lake's Dagster history, ready for use; `DAGSTER_HOME` overrules it."""
    if chosen := os.environ.get("DAGSTER_HOME"):
        return Path(chosen)
    home = lake.root.resolve() / ".dagster"
    settings = home / "dagster.yaml"
    if not settings.exists():
        with staged_file(settings, home) as draft:
            shutil.copyfile(project_file("dagster.yaml"), draft)
    return home


def run_job(
    lake: Lake,
    name: str,
    first: date | None = None,
    last: date | None = None,
    ops: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Run a job and wait for it; the UI shows the run.

    One that fills days does so from ``first`` to ``last``; for any other both are None.
    ``ops`` is the config of single assets by name. Raises what the failing asset raised, or LakeError
    naming the check that stopped the run; KeyboardInterrupt on Ctrl-C, which ends the run as failed.
    """
    from tunegraph_pipeline.orchestration.build import build_definitions

    config: dict[str, Any] = {
        "ops": {asset: {"config": dict(values)} for asset, values in (ops or {}).items()},
        "resources": {"lake": {"config": {"root": str(lake.root.resolve())}}},
        # The command line draws its own progress; the event log keeps the rest.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    bounds = {"start": first, "end": last}
    tags = {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in bounds.items() if day}
    tags[_PROCESS] = _process()
    job = build_definitions().resolve_job_def(name)
    home = dagster_home(lake)
    try:
        with DagsterInstance.from_config(str(home)) as instance:
            _close_dead_runs(instance)
            with _noticing_interrupts():
                job.execute_in_process(run_config=config, instance=instance, tags=tags)
    except DagsterExecutionInterruptedError:
        # Dagster takes the signal, so that the run is closed in its history; then it is Ctrl-C again.
        raise KeyboardInterrupt from None
    except DagsterAssetCheckFailedError as error:
        raise LakeError(f"a check stopped the run: {error}") from error
    except OperationalError as error:
        raise LakeError(
            f"Dagster's history in {home} cannot be written ({error.orig});"
            " free some space, or end what holds it"
        ) from error


@contextmanager
def _noticing_interrupts() -> Iterator[None]:
    """Let Ctrl-C end what runs, and end it as a KeyboardInterrupt, wherever its exception strikes.

    - An extension module may swallow it while it looks at its arguments, and say that these do not fit
      (pybind11 does so). The signal itself is seen here, whatever became of it.
    - Python swallows it in a finaliser, with a traceback on the terminal. It is sent again.
    - SQLAlchemy passes it on when a connection is closed, but logs its traceback first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    pool = logging.getLogger("sqlalchemy.pool")
    level = pool.level
    unraisable = sys.unraisablehook

    def resend(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt | DagsterExecutionInterruptedError):
            threading.Timer(0.01, _thread.interrupt_main).start()  # once this hook has ended
        else:
            unraisable(lost)

    seen, told = socket.socketpair()
    with seen, told:
        seen.setblocking(False)
        told.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        pool.setLevel(logging.CRITICAL)
        sys.unraisablehook = resend
        try:
            yield
        except Exception as error:
            with suppress(BlockingIOError):
                if signal.SIGINT in seen.recv(4096):
                    raise KeyboardInterrupt from error
            raise
        finally:
            sys.unraisablehook = unraisable
            pool.setLevel(level)
            signal.set_wakeup_fd(before)


def _close_dead_runs(instance: DagsterInstance) -> None:
    """End in the history the runs whose process died (kill -9, a power cut).

    Dagster takes them for running, shows them so for ever, and keeps their place in the pools: the next run
    would wait for it without end.
    """
    open_runs = instance.get_runs(
        RunsFilter(
            statuses=[
                DagsterRunStatus.NOT_STARTED,
                DagsterRunStatus.STARTING,
                DagsterRunStatus.STARTED,
                DagsterRunStatus.CANCELING,
            ]
        )
    )
    for run in open_runs:
        if _is_dead(run.tags.get(_PROCESS, "")):
            instance.report_run_failed(run, "the process of this run died")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _process(pid: int | None = None) -> str:
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
