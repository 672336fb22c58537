"""A Dagster whose daemon looks more often for some things; it has no settings for that.

Here: what Python loads at its start where this folder is on its path, as in `running_dagster`. Not here: when
schedules tick, which is every minute.
"""

import sys

if sys.orig_argv[1:3] == ["-m", "dagster._daemon"]:
    from dagster import QueuedRunCoordinator
    from dagster._daemon import controller

    QueuedRunCoordinator.dequeue_interval_seconds = 1  # type: ignore[assignment]  # not 5
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 4  # of backfills, not 30; a look takes half a second
    controller.THREAD_CHECK_INTERVAL = 1  # after which it notices Ctrl-C, not 5
