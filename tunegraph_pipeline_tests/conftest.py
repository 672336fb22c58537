"""Fixtures that several test modules share."""

import gc
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tunegraph_pipeline_tests.lean_command import (
    BLANK_PLOT,
    few_query_times,
    in_a_row,
    keeping_no_events,
    without_migrations,
)

# The tests run in parallel, a process a core: more threads than that mostly wait for one another. It is read
# when torch, BLAS and polars load, and processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

# No test is to depend on the terminal or on the lake of whoever runs it.
os.environ |= {"COLUMNS": "200", "NO_COLOR": "1"}
for variable in ("DAGSTER_HOME", "TUNEGRAPH_LAKE"):
    os.environ.pop(variable, None)

# No test loses power, and syncing to disk takes longer than most of them. Processes that tests start do sync.
os.fsync = lambda _: None  # type: ignore[assignment]

# Imports and tests make a million objects that stay: the garbage collector is not to go through them again
# and again, nor in processes that tests start.
gc.disable()
BRISK = Path(__file__).with_name("brisk")
if str(BRISK) not in os.environ.get("PYTHONPATH", ""):  # a worker has it
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(BRISK), os.environ.get("PYTHONPATH"))))


THOROUGH = bool(os.environ.get("TUNEGRAPH_THOROUGH"))
"""Whether this is the nightly run, which takes its time."""

IN_MEMORY = Path("/dev/shm")
"""A file system in memory. The tests create files by the hundred thousand; on some disks that costs more than
what is done with them. The nightly run stays on the disk, and so does a machine with little room."""
ROOM = 4 << 30
"""How many bytes it has to have free: a run needs one GB. As much again is for the tests themselves."""


def has_room(folder: Path) -> bool:
    """Whether a file system in memory has room for what a run of the tests leaves there."""
    if not os.access(folder, os.W_OK):
        return False
    return shutil.disk_usage(folder).free >= ROOM and psutil.virtual_memory().available >= 2 * ROOM


# The workers inherit it, and need not decide again.
if not THOROUGH and "TMPDIR" not in os.environ and has_room(IN_MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


def examples(thorough: int) -> int:
    """How many random examples a property is tried on: all in the nightly run, else a sixth of them."""
    return thorough if THOROUGH else -(-thorough // 6)


# A slow machine is no failure: how long a test takes is for benchmarks/ to say.
settings.register_profile("tunegraph", deadline=None, max_examples=examples(100))
settings.load_profile("tunegraph")

PROJECT = Path(__file__).parents[1]
LONG = ("slow", "browser", "dagster", "kill", "real_data")
"""The markers of tests that `make fast` leaves out."""


def pytest_xdist_auto_num_workers() -> int:
    """Two processes more than there are cores: some tests wait, for a daemon, a server or a browser."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads real data, directly or through another fixture, before `-m` selects; leave out what is
    for the nightly run.

    Files without a quick test come first: a process that began one last would work alone at the end.
    """
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
    if not THOROUGH:
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    quick = {item.path for item in items if not any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: item.path in quick)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as it is, it takes one second in fourteen
    gc.enable()


@pytest.fixture(scope="module")
def blank_plots() -> Iterator[None]:
    """In this process plots are empty, songs lie in a row on the map, and few queries are timed: that takes
    longer than the rest of a small refresh."""
    from tunegraph_pipeline.evaluation import plots
    from tunegraph_pipeline.pipeline import publish
    from tunegraph_pipeline.training import song_map

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_picture", lambda *_: BLANK_PLOT)
        patch.setattr(song_map, "_laid_out", in_a_row)
        patch.setattr(publish, "query_times", few_query_times)
        yield


_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


@pytest.fixture(scope="module")
def no_history() -> Iterator[None]:
    """Jobs of this process leave no history, in the lake or in memory, which would take half of a small
    refresh; `recorded` says where they do."""
    from dagster import DagsterInstance
    from dagster._core.storage.event_log.in_memory import InMemoryEventLogStorage

    kept = DagsterInstance.from_config

    def instance(home: str) -> DagsterInstance:
        return kept(home) if _recorded.get() else DagsterInstance.ephemeral()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DagsterInstance, "from_config", instance)
        for method, instead in keeping_no_events().items():
            patch.setattr(InMemoryEventLogStorage, method, instead)
        for module in without_migrations():
            patch.setattr(module, "stamp_alembic_rev", lambda *_: None)
        yield


@contextmanager
def recorded() -> Iterator[None]:
    """Dagster's history is kept and read in the block, whatever `no_history` says."""
    token = _recorded.set(True)
    try:
        yield
    finally:
        _recorded.reset(token)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project; its tests are skipped on a machine that does not have it."""
    folder = Path(os.environ.get("TUNEGRAPH_DATA", PROJECT.parent / "shared" / "data"))
    for place in (folder, PROJECT / "shared" / "data"):
        if place.exists():
            return place
    if os.environ.get("CI"):
        pytest.fail(f"{folder} is missing, and in CI the tests on real data may not be skipped")
    pytest.skip(f"no real data at {folder}; set TUNEGRAPH_DATA to a folder that has it")
