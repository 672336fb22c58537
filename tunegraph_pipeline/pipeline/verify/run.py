"""Check every file of a lake, for `tunegraph verify`, and repair damage.

Here: the order of the checks, and the lock while they run. A finding names the file, what is wrong and what
repairs it. Not here: the checks (the other modules of this package), how files are read (`lake`,
`recommend`), or the checks of a run (`orchestration.checks`).

A *problem* is damage. A *note* is what a person may want to know: a day not refreshed yet, half a line of
feedback, an unknown file. What a killed refresh left is not damage: the next one continues.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunegraph_pipeline.errors import LakeError, LakeMissingError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.verify import (
    bundles,
    consistency,
    other_files,
    raw,
    seals,
    store,
    tables,
    versions,
)
from tunegraph_pipeline.pipeline.verify.inspection import Finding, Inspection, Report, short
from tunegraph_pipeline.progress import Progress

_CHECKS = (
    raw.check_batches,
    raw.check_crawls,
    raw.check_spool,
    tables.check_tables,
    versions.check_versions,
    bundles.check_bundles,
    other_files.check_other_files,
    seals.check_seals,
    store.check_store,
)
"""Of single files, from what was received to what is served."""
_CHECKS_WITH_LOCK = (
    consistency.check_days,
    consistency.check_lists,
    consistency.check_catalogue,
    consistency.check_graph,
    consistency.check_co_likes,
    consistency.check_embeddings,
    consistency.check_live_bundle,
    other_files.note_unknown_files,
)
"""Of files that must match each other: only while nobody else writes."""


def verify(root: Path, progress: Progress | None = None, *, repair: bool = False) -> Report:
    """Check every file of the lake at ``root``; with ``repair``, mend what can be mended.

    Holds the lake's lock meanwhile, so that no refresh changes it. If another process writes, files are read
    but not compared with each other, and a note says so; a repair needs the lock. Raises LakeError where
    there is no lake, or for a repair where the lock is not free.
    """
    try:
        lake = Lake.open(root)
    except LakeMissingError:
        raise
    except LakeError as error:
        found = Report()
        found.problems.append(
            Finding("lake.json", short(error), "restore it from a backup; nothing else was looked at")
        )
        return found
    with _alone(lake, must=repair) as busy:
        inspection = Inspection(lake, progress or (lambda *_: None), alone=busy is None)
        if busy is not None:
            inspection.note(
                lake.root, f"{busy}: files were not compared with each other", "verify again later"
            )
        found = _run(inspection)
        if repair:
            for finding in (*found.problems, *found.notes):
                if finding.mend is not None:
                    finding.mend()
    return found


@contextmanager
def _alone(lake: Lake, *, must: bool) -> Iterator[str | None]:
    """Hold the lock if it is free; yields why it is not."""
    holding = lake.writing("tunegraph verify")
    try:
        holding.__enter__()
    except LakeError as error:
        if must:
            raise
        yield str(error).partition(";")[0]
        return
    try:
        yield None
    finally:
        holding.__exit__(None, None, None)


def _run(inspection: Inspection) -> Report:
    """All checks that may run."""
    checks = (*_CHECKS, *_CHECKS_WITH_LOCK) if inspection.alone else _CHECKS
    for done, check in enumerate(checks):
        inspection.progress("verify", done, len(checks))
        try:
            check(inspection)
        except PermissionError as error:
            name = inspection.name(Path(error.filename))
            found = Finding(name, "cannot be read: permission denied", "verify as its owner")
            if found not in inspection.found.problems:
                inspection.found.problems.append(found)
    inspection.progress("verify", len(checks), len(checks))
    sizes = [size for path in inspection.seen if (size := _size(path)) is not None]
    inspection.found.files, inspection.found.bytes = len(sizes), sum(sizes)
    return inspection.found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
