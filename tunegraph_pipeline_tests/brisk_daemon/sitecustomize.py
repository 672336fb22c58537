"""Dagster's daemon looks every second for what it otherwise looks for every 5 or 30, and has no setting for.

Here: what Python loads at its start where this folder is on its path, as in `running_dagster`. Not here: when
schedules tick, which is every minute.
"""

import sys

if sys.orig_argv[1:3] == ["-m", "dagster._daemon"]:
    from dagster import QueuedRunCoordinator
    from dagster._daemon import controller

    QueuedRunCoordinator.dequeue_interval_seconds = 1  # type: ignore[assignment]
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1  # of backfills
    controller.THREAD_CHECK_INTERVAL = 1  # after which it notices Ctrl-C
