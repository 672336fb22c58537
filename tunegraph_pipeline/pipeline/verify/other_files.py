"""The single files of a lake, and files that nobody knows.

Here: the settings in `lake.json`, tombstones, the inbox's memory, the SQL catalogue and Dagster's history;
then whatever no check saw. Not here: tables, arrays and batches (`tables`, `versions`, `bundles`, `raw`).
"""

from pathlib import Path

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.storage import STAGING
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.inbox import inbox_status
from tunegraph_pipeline.pipeline.settings import check_settings
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, short
from tunegraph_pipeline.pipeline.verify.raw import check_database
from tunegraph_pipeline.pipeline.verify.versions import check_current

_NOT_FILES_OF_THE_LAKE = (".lock", ".lock.holder.json", ".gitignore")


def check_other_files(inspection: Inspection) -> None:
    path = inspection.lake.path
    inspection.seen.add(path)
    try:
        check_settings(inspection.lake)
    except LakeError as error:
        inspection.problem(path, str(error).removeprefix(f"{path}: "), "correct it: nothing runs until then")
    for table in ("current_likes", "catalogue"):
        check_current(inspection, table, table)
    path = inspection.lake.tombstones
    inspection.seen.add(path)
    try:
        Tombstones.of(inspection.lake.root)
    except LakeError as error:
        inspection.problem(path, short(error, path), "restore it from a backup: nothing is added without it")
    path = inspection.lake.inbox_memory
    inspection.seen.add(path)
    try:
        inbox_status(inspection.lake)
    except LakeError as error:
        inspection.problem(path, short(error, path), "restore it, or remove it: the inbox is imported again")
    path = inspection.lake.views
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
    history = inspection.lake.history
    for path in sorted(history.rglob("*.db")):
        check_database(
            inspection, path, "restore it from a backup, or remove it: the history of runs is lost, no more"
        )


def note_unknown_files(inspection: Inspection) -> None:
    lake = inspection.lake
    left_alone = {*_NOT_FILES_OF_THE_LAKE}
    left_alone |= {path.name for path in (lake.history, lake.expired_mark, lake.deletion_requests)}
    unknown: dict[Path, list[Path]] = {}
    for path in sorted(lake.root.rglob("*")):
        inside = path.relative_to(lake.root).parts
        if path.is_dir() or inside[0] in left_alone:
            continue
        if STAGING in inside:
            folder = lake.root.joinpath(*inside[: inside.index(STAGING) + 1])
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
