"""The single files of a lake, and files that nobody knows.

Here: tombstones, the inbox's memory, the SQL catalogue and Dagster's history; then whatever no check saw.
Not here: tables, arrays and batches (`tables`, `versions`, `bundles`, `raw`).
"""

from pathlib import Path

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.storage import STAGING
from tunegraph_pipeline.lake.tombstones import TOMBSTONES, Tombstones
from tunegraph_pipeline.pipeline.deletion_requests import REQUESTS
from tunegraph_pipeline.pipeline.inbox import inbox_status
from tunegraph_pipeline.pipeline.inbox_memory import INBOX_MEMORY
from tunegraph_pipeline.pipeline.verify.findings import short
from tunegraph_pipeline.pipeline.verify.inspection import Inspection
from tunegraph_pipeline.pipeline.verify.raw import check_database
from tunegraph_pipeline.pipeline.verify.versions import check_current

_NOT_FILES_OF_THE_LAKE = (".lock", ".lock.holder.json", ".gitignore", ".expired", REQUESTS)


def check_other_files(inspection: Inspection) -> None:
    inspection.seen.add(inspection.lake.root / "lake.json")
    check_current(inspection, "current_likes", "current_likes")
    path = inspection.lake.root / TOMBSTONES
    inspection.seen.add(path)
    try:
        Tombstones.of(inspection.lake.root)
    except LakeError as error:
        inspection.problem(path, short(error, path), "restore it from a backup: nothing is added without it")
    path = inspection.lake.root / INBOX_MEMORY
    inspection.seen.add(path)
    try:
        inbox_status(inspection.lake)
    except LakeError as error:
        inspection.problem(path, short(error, path), "restore it, or remove it: the inbox is imported again")
    path = inspection.lake.root / "lake.duckdb"
    if path.exists() and inspection.alone:
        import duckdb

        inspection.seen.add(path)
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                connection.sql("SELECT * FROM tunegraph.track_ids LIMIT 1").fetchall()
        except duckdb.Error as error:
            # A table whose file is damaged is told where that file is.
            if inspection.sound("track_ids"):
                again = "the next refresh rewrites it"
                inspection.problem(path, short(error, path), again, inspection.remove(path))
    history = inspection.lake.root / ".dagster"
    for path in sorted(history.rglob("*.db")):
        check_database(
            inspection, path, "restore it from a backup, or remove it: the history of runs is lost, no more"
        )


def note_unknown_files(inspection: Inspection) -> None:
    unknown: dict[Path, list[Path]] = {}
    for path in sorted(inspection.lake.root.rglob("*")):
        inside = path.relative_to(inspection.lake.root).parts
        if path.is_dir() or inside[0] == ".dagster" or inside[0] in _NOT_FILES_OF_THE_LAKE:
            continue
        if STAGING in inside:
            folder = inspection.lake.root.joinpath(*inside[: inside.index(STAGING) + 1])
            unknown.setdefault(folder, []).append(path)
        elif path not in inspection.seen:
            unknown.setdefault(path.parent, []).append(path)
    for folder, paths in unknown.items():
        if folder.name == STAGING:
            inspection.note(
                folder, f"{len(paths):,} drafts of a writer that died", "the next writer removes them"
            )
        elif len(paths) == 1:
            inspection.note(paths[0], "is no file of a lake, or of a version from before", "it is left alone")
        else:
            what = f"{len(paths):,} files that are none of a lake, such as {paths[0].name}"
            inspection.note(folder, what, "they are left alone")
