"""The single files of a lake, and unknown files.

Here: the settings in `lake.json`, aliases, tombstones, the inbox's memory, kept figures, the SQL views and
Dagster's history; then files that no check saw. Not here: tables, arrays and batches (`tables`, `versions`,
`bundles`, `raw`).
"""

from pathlib import Path

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import views
from tunegraph_pipeline.lake.aliases import RESTORE, Aliases
from tunegraph_pipeline.lake.storage import STAGING
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.inbox import inbox_status
from tunegraph_pipeline.pipeline.kept_figures import damaged_figures
from tunegraph_pipeline.pipeline.settings import check_settings
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, short
from tunegraph_pipeline.pipeline.verify.raw import check_database
from tunegraph_pipeline.pipeline.verify.versions import check_current
from tunegraph_pipeline.words import counted

_NOT_FILES_OF_THE_LAKE = (".lock", ".lock.holder.json", ".lock.holder.draft", ".gitignore")


def check_other_files(inspection: Inspection) -> None:
    lake = inspection.lake
    inspection.seen |= {lake.path, lake.tombstones, lake.aliases, lake.inbox_memory}
    try:
        check_settings(lake)
    except LakeError as error:
        what = str(error).removeprefix(f"{lake.path}: ")
        inspection.problem(lake.path, what, "correct it: nothing runs until then")
    for table in ("current_likes", "catalogue"):
        check_current(inspection, table, table)
    try:
        Tombstones.of(lake.root)
    except LakeError as error:
        what = short(error, lake.tombstones)
        inspection.problem(lake.tombstones, what, "restore it from a backup: nothing is added without it")
    try:
        Aliases.of(lake.root)
    except LakeError as error:
        what = short(error, lake.aliases)
        inspection.problem(lake.aliases, what, RESTORE)
    try:
        inbox_status(lake)
    except LakeError as error:
        what = short(error, lake.inbox_memory)
        inspection.problem(lake.inbox_memory, what, "restore it, or remove it: the inbox is imported again")
    for path, damaged in damaged_figures(lake):
        inspection.seen.add(path)
        if damaged:
            again = "remove it: only what the UI shows of that version is lost"
            inspection.problem(path, "is damaged", again, inspection.remove(path))
    _check_views(inspection)
    for path in sorted(lake.history.rglob("*.db")):
        again = "restore it from a backup, or remove it: only the history of runs is lost"
        check_database(inspection, path, again)


def _check_views(inspection: Inspection) -> None:
    lake, path = inspection.lake, inspection.lake.views
    if not path.exists():
        return
    inspection.seen |= {path, views.log_of(path)}

    def mend() -> None:
        views.update_file(path, lake.root, anew=True)

    def begin_anew() -> None:
        views.set_aside(path)
        mend()

    try:
        named = views.check_file(path)
    except views.OpenElsewhereError:
        inspection.note(path, "is open in another program, and was not looked into")
    except views.ViewsError as error:
        # A damaged table file is a finding of its own.
        if inspection.sound("track_ids"):
            inspection.problem(path, short(error, path), "its views are made again, in place", mend)
    except LakeError as error:
        again = "it is kept under another name, and a new one is made"
        inspection.problem(path, short(error, path), again, begin_anew)
    else:
        if named is not None:
            where = f", which name files such as {named}" if named else ""
            what = f"has views of an earlier version{where}"
            inspection.note(path, what, "the next refresh or `verify --repair` makes them again", mend)


def note_unknown_files(inspection: Inspection) -> None:
    lake = inspection.lake
    left_alone = {*_NOT_FILES_OF_THE_LAKE}
    left_alone |= {
        path.name for path in (lake.history, lake.downloads, lake.expired_mark, lake.deletion_requests)
    }
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
            what = f"{counted(len(paths), 'draft')} of a writer that died"
            inspection.note(folder, what, "the next writer removes them")
        elif len(paths) == 1:
            what = "is not a file of a lake, or from an earlier version"
            inspection.note(paths[0], what, "it is left alone")
        else:
            what = f"{len(paths):,} files that do not belong to a lake, such as {paths[0].name}"
            inspection.note(folder, what, "they are left alone")
