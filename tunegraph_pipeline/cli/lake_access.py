"""Open a lake, lock it for writing, and run a Dagster job on it with progress bars.

Here: what commands that open a lake share. Not here: the lake itself. `Lake` is imported lazily: it pulls in
polars, which `serve` does not need.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunegraph_pipeline.cli.show import progress_bars, warn

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake


def open_lake(root: Path) -> "Lake":
    """An existing lake, its settings checked."""
    from tunegraph_pipeline.pipeline import settings

    with _fetching(root):
        return settings.open_lake(root)


def open_served_lake(root: Path) -> "Lake":
    """The same, for a command that asks the live bundle: of a lake in an object store no more is fetched."""
    from tunegraph_pipeline.pipeline import settings

    with _fetching(root):
        lake = settings.open_lake(root, only_served=True)
        # Where nothing is live, the rest of the lake says why.
        return lake if lake.has_current("serving") else settings.open_lake(root)


def has_lake(root: Path) -> bool:
    """Whether there is a lake, also one in an object store whose cache ``root`` is."""
    from tunegraph_pipeline.lake.snapshots import pull

    with _fetching(root):
        pull(root, only_served=True)
    return (root / "lake.json").exists()


@contextmanager
def _fetching(root: Path) -> Iterator[None]:
    """Show how far a lake in an object store was fetched to this machine."""
    from tunegraph_pipeline.lake.snapshots import Node
    from tunegraph_pipeline.progress import watched_by

    if Node.of(root) is None:
        yield
        return
    with progress_bars() as bar, watched_by(bar):
        yield


def open_or_create_lake(root: Path) -> "Lake":
    from tunegraph_pipeline.pipeline import settings

    return settings.open_or_create_lake(root)


@contextmanager
def import_limits(root: Path) -> Iterator[None]:
    """Read files by the limits of the lake at ``root``; by the defaults where there is none."""
    from tunegraph_pipeline.sources.limits import ImportLimits, limited_by

    limits = ImportLimits()
    if has_lake(root):
        limits = open_served_lake(root).section("imports", ImportLimits)
    with limited_by(limits):
        yield


@contextmanager
def writing(lake: "Lake", purpose: str, wait: float = 0) -> Iterator["Lake"]:
    """Hold the lake's write lock; yields the lake reopened, since the previous writer may have changed it."""

    def on_wait(holder: str) -> None:
        warn(f"waiting for {holder}")

    with lake.writing(purpose, wait, on_wait) as warning:
        if warning:
            warn(warning)
        yield open_lake(lake.root)


def warn_of_future_days(lake: "Lake") -> None:
    """Warn of received days in the future: this machine's clock was wrong then, or is now."""
    today = datetime.now(UTC).date()
    to_come = [day for day in lake.raw_days() if day > today]
    if to_come:
        warn(
            f"the lake has received lists dated {to_come[-1]}, but this machine's clock says {today}:"
            " they are used once their day has come, and then replace everything received before;"
            " correct the clock"
        )


def run_with_bars(
    lake: "Lake",
    job: str,
    first: date | None = None,
    last: date | None = None,
    *,
    ops: dict[str, dict[str, Any]],
) -> None:
    """Run a Dagster job on the lake, with progress bars."""
    from tunegraph_pipeline.orchestration.in_process import run_job
    from tunegraph_pipeline.progress import watched_by

    def on_note(note: str) -> None:
        warn(note)

    with progress_bars() as bar, watched_by(bar, on_note):
        run_job(lake, job, first, last, ops)
