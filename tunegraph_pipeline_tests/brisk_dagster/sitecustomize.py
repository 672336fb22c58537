"""A Dagster whose daemon looks more often for some things, and whose runs start faster; it has settings for
neither.

Here: what Python loads at its start where this folder is on its path, as in `running_dagster`. Not here: when
schedules tick, which is every minute.
"""

import multiprocessing
import sys

if sys.orig_argv[1:3] == ["-m", "dagster._daemon"]:
    from dagster import QueuedRunCoordinator
    from dagster._daemon import controller

    QueuedRunCoordinator.dequeue_interval_seconds = 1  # type: ignore[assignment]  # not 5
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 4  # of backfills, not 30; a look takes half a second
    controller.THREAD_CHECK_INTERVAL = 1  # after which it notices Ctrl-C, not 5

if sys.orig_argv[1:5] == ["-m", "dagster", "api", "grpc"]:
    # Each run is a process, forked off one that has loaded what takes a run three seconds to load. Not what
    # starts threads, as polars does.
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(
        ["dagster._cli.utils", "dagster._core.storage.event_log", "dagster._grpc.impl", "duckdb", "torch"]
    )
    multiprocessing.get_context = lambda _method=None: forking  # type: ignore[assignment]
