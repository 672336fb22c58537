"""Run jobs in this process, on the Dagster instance in the lake.

Here: running a job, with its failure as an error for people. Not here: the instance (`history`), what the
jobs are (`jobs`), or how progress is drawn (`cli`).
"""

import _thread
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from functools import partial
from typing import Any

from dagster import AssetCheckSeverity, DagsterEventType, DagsterInstance
from dagster._core.errors import (
    DagsterAssetCheckFailedError,
    DagsterExecutionInterruptedError,
    DagsterResourceFunctionError,
)
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.load_target import ModuleTarget

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.dead_runs import PROCESS, this_process
from tunegraph_pipeline.orchestration.history import dagster_home, open_history


def run_job(
    lake: Lake,
    name: str,
    first: date | None = None,
    last: date | None = None,
    ops: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Run a job and wait for it; the UI shows the run.

    A job that fills days fills ``first`` to ``last``; for any other both are None. ``ops`` is the config of
    single assets by name; it overrides that of the job. Raises what the failing asset raised, or LakeError
    naming the check that stopped the run; KeyboardInterrupt on Ctrl-C, which ends the run as failed.
    """
    from tunegraph_pipeline.orchestration.build import build_definitions

    # A job run by hand fails at once if the lake is being written.
    job = build_definitions(lake.root, first=first, wait_seconds=0.0).resolve_job_def(name)
    own: dict[str, Any] = (job.run_config or {}).get("ops", {})
    asked = {asset: {"config": dict(values)} for asset, values in (ops or {}).items()}
    config: dict[str, Any] = {
        "ops": {**own, **asked},
        # The command line draws its own progress; the event log keeps the rest.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    bounds = {"start": first, "end": last}
    tags = {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in bounds.items() if day}
    origin = _origin(name)
    # By these the UI finds the run among those of the job, and can repeat it.
    tags |= {PROCESS: this_process(), ".dagster/repository": origin.repository_origin.get_label()}
    # It warns about each check that was skipped with its asset.
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    home, run_id = dagster_home(lake.root), make_new_run_id()
    try:
        with open_history(home) as instance:
            # Runs in this process are created without an origin.
            create = partial(instance.create_run_for_job, remote_job_origin=origin)
            instance.create_run_for_job = create  # type: ignore[method-assign]
            try:
                with _noticing_interrupts():
                    job.execute_in_process(run_config=config, instance=instance, tags=tags, run_id=run_id)
            except DagsterAssetCheckFailedError as error:
                raise LakeError(_failed_check(instance, run_id) or str(error)) from error
    except DagsterExecutionInterruptedError:
        # Dagster handles the signal and closes the run in its history; then it is Ctrl-C again.
        raise KeyboardInterrupt from None
    except DagsterResourceFunctionError as error:
        raise error.user_exception from None  # the lake is locked, or cannot be opened


def _failed_check(instance: DagsterInstance, run_id: str) -> str:
    """The check that stopped a run, and what it found; "" where there is no history."""
    logged = instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    events = [entry.dagster_event for entry in logged if entry.dagster_event is not None]
    failed = [
        f"the check {found.check_name} of {found.asset_key.to_user_string()} stopped the run:"
        f" {found.description}"
        for found in (event.asset_check_evaluation_data for event in events)
        if not found.passed and found.severity == AssetCheckSeverity.ERROR
    ]
    return "; ".join(failed)


def _origin(job: str) -> RemoteJobOrigin:
    """Where the UI, which loads `workspace.yaml`, knows the job from."""
    (location,) = ModuleTarget(
        "tunegraph_pipeline.definitions", attribute=None, working_directory=None, location_name="tunegraph"
    ).create_origins()
    return RemoteRepositoryOrigin(location, "__repository__").get_job_origin(job)


@contextmanager
def _noticing_interrupts() -> Iterator[None]:
    """Make Ctrl-C end what runs with a KeyboardInterrupt, wherever its exception is raised.

    - An extension module may swallow it while it converts arguments, and report that these do not fit
      (pybind11 does). The signal itself is noticed here in any case.
    - Python swallows it in a finaliser, with a traceback on the terminal. It is sent again.
    - SQLAlchemy raises it when a connection is closed, but logs its traceback first.
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

    seen, wakeup = socket.socketpair()
    with seen, wakeup:
        seen.setblocking(False)
        wakeup.setblocking(False)
        before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
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
