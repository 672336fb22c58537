"""A command of `tunegraph` in a process of its own, without what costs most in a small refresh and no test of
such a process looks at: plots, the layout of the map, the times of queries, and syncing to disk.

    python -m tunegraph_pipeline_tests.lean_command refresh --lake DIR

Here: what is left out. Not here: running a command in the process of the tests (`test_cli.tunegraph`), or as
a user starts it (`test_cli.TUNEGRAPH`).
"""

import os
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.query_time import QueryTimes, query_times
from tunegraph_pipeline.recommend.recommender import Recommender

BLANK_PLOT = b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xaeB`\x82"
"""The shortest that is a PNG."""
LEAN = [sys.executable, "-m", "tunegraph_pipeline_tests.lean_command"]
"""How such a command is started."""
NO_HISTORY = "TUNEGRAPH_TESTS_NO_HISTORY"
"""A variable with which a refresh leaves no history of Dagster either."""


def in_a_row(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """A map in which every song lies beside the one before: float64[n, 2]."""
    return np.arange(2.0 * len(embeddings)).reshape(-1, 2)


def few_query_times(recommender: Recommender) -> QueryTimes:
    """The times of five queries, not 200."""
    return query_times(recommender, queries=5)


def make_lean() -> None:
    """Leave these out in this process, from now on."""
    from tunegraph_pipeline.evaluation import plots
    from tunegraph_pipeline.pipeline import publish
    from tunegraph_pipeline.training import song_map

    os.fsync = lambda _: None  # type: ignore[assignment]
    plots._picture = lambda *_: BLANK_PLOT
    song_map._laid_out = in_a_row
    publish.query_times = few_query_times  # type: ignore[assignment, attr-defined]


def keeping_no_events() -> dict[str, Callable[..., object]]:
    """Methods of `InMemoryEventLogStorage` for one that keeps no event, and so has none to look for."""
    from dagster import EventRecordsResult

    nothing = EventRecordsResult([], "", has_more=False)
    return {
        "store_event": lambda *_: None,
        "get_asset_records": lambda *_, **__: [],
        "fetch_observations": lambda *_, **__: nothing,
        "fetch_materializations": lambda *_, **__: nothing,
    }


def without_migrations() -> tuple[ModuleType, ...]:
    """Modules of Dagster's storage in memory. By `stamp_alembic_rev` each new one loads a hundred migrations,
    to note that it needs none."""
    from dagster._core.storage.event_log import in_memory as events
    from dagster._core.storage.runs import in_memory as runs

    return events, runs


def leave_no_history() -> None:
    """Have jobs of this process leave no history, in the lake or in memory."""
    from dagster import DagsterInstance
    from dagster._core.storage.event_log.in_memory import InMemoryEventLogStorage

    DagsterInstance.from_config = lambda *_: DagsterInstance.ephemeral()  # type: ignore[method-assign]
    for method, instead in keeping_no_events().items():
        setattr(InMemoryEventLogStorage, method, instead)
    for module in without_migrations():
        module.stamp_alembic_rev = lambda *_: None  # type: ignore[attr-defined]


if __name__ == "__main__":
    from tunegraph_pipeline.__main__ import main

    make_lean()
    if sys.argv[1] == "refresh" and os.environ.get(NO_HISTORY):
        leave_no_history()
    main()
