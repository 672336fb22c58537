"""Processes that tests start: a garbage collector that lets what was imported be, which saves a third of what
a short one takes, and a Dagster whose daemon looks more often for some things; it has no settings for that.

Here: what Python loads at its start where this folder is on its path (`conftest`). Not here: when schedules
tick, which is every minute.
"""

import atexit
import gc
import sys


def leave_the_rest() -> None:
    """Do as `tunegraph` does at its end."""
    if sys.modules.keys().isdisjoint(("_duckdb", "sparse_dot_topn")):
        gc.freeze()


gc.set_threshold(20_000, 20, 50)
atexit.register(leave_the_rest)

if sys.orig_argv[1:3] == ["-m", "dagster._daemon"]:
    from dagster import QueuedRunCoordinator
    from dagster._daemon import controller

    QueuedRunCoordinator.dequeue_interval_seconds = 1  # type: ignore[assignment]  # not 5
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 4  # of backfills, not 30; a look takes half a second
    controller.THREAD_CHECK_INTERVAL = 1  # after which it notices Ctrl-C, not 5
