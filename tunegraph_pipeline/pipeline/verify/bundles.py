"""The bundles, which of them is live, and the log of publications.

Here: checking each alone. Not here: comparing the live bundle with the graph (`consistency`).
"""

from functools import partial

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, folders, named_first, short
from tunegraph_pipeline.pipeline.verify.versions import check_arrays
from tunegraph_pipeline.recommend.bundle import (
    BUNDLE_FORMAT,
    CURRENT,
    Bundle,
    current_version,
    version_folder,
)
from tunegraph_pipeline.recommend.publication import LOG, readable_lines, write_log
from tunegraph_pipeline.words import counted


def check_bundles(inspection: Inspection) -> None:
    serving = inspection.lake.serving
    if not serving.is_dir():
        return
    live = _live_version(inspection)
    _check_publications(inspection, live)
    for folder in folders(serving):
        again = "it is not live: the repair removes it, and it can no longer be rolled back to"
        if folder.name == live:
            again = "rematerialise serving_bundle"
        arrays = check_arrays(inspection, folder, again, inspection.remove(folder))
        if arrays is None:
            continue
        if arrays.facts.get("bundle_format") != BUNDLE_FORMAT:
            inspection.note(folder / MANIFEST, "is of a bundle format that this TuneGraph does not serve")
            continue
        try:
            named = Bundle(arrays).version
        except BundleError as error:
            file = named_first(folder, str(error))
            inspection.problem(file, short(error, file), again, inspection.remove(folder))
        else:
            if named != folder.name:
                what = f"says it is bundle {named}"
                inspection.problem(folder / MANIFEST, what, again, inspection.remove(folder))


def _live_version(inspection: Inspection) -> str | None:
    path = inspection.lake.serving / CURRENT
    if not path.exists():
        if folders(inspection.lake.serving):
            inspection.note(path, "is not there: nothing is live", "rematerialise serving_bundle")
        return None
    inspection.seen.add(path)
    try:
        version = current_version(inspection.lake.serving)
        if version_folder(inspection.lake.serving, version).is_dir():
            return version
        what = f"names {version[:80]!r}, which is not there"
    except BundleError as error:
        what = short(error, path)
    logged = _last_logged(inspection)
    if logged is None or not (inspection.lake.serving / logged).is_dir():
        inspection.problem(path, what, "rematerialise serving_bundle", inspection.remove(path))
    else:
        name_it = partial(inspection.lake.set_current, "serving", logged)
        inspection.problem(path, what, f"`tunegraph rollback {logged}`, which was live last", name_it)
    return None


def _last_logged(inspection: Inspection) -> str | None:
    kept, _ = readable_lines(inspection.lake.serving)
    return kept[-1].bundle if kept else None


def _check_publications(inspection: Inspection, live: str | None) -> None:
    path = inspection.lake.serving / LOG
    if not path.exists():
        if live is not None:
            inspection.problem(path, "is not there", "rematerialise serving_bundle: a line says what is live")
        return
    inspection.seen.add(path)
    kept, damaged = readable_lines(inspection.lake.serving)
    if damaged:
        inspection.problem(
            path,
            f"{counted(len(damaged), 'line')} cannot be read, the first of them line {damaged[0]}",
            "restore it from a backup, or let the repair drop them; the next refresh says what is live",
            partial(write_log, inspection.lake.serving, kept),
        )
    elif live is not None and (not kept or kept[-1].bundle != live):
        if kept and kept[-1].replaced == live:
            what = f"{kept[-1].bundle} was about to go live when its refresh died"
            inspection.note(path, what, "rematerialise serving_bundle")
        else:
            what = f"its last line is not of {live}, which is live"
            inspection.problem(path, what, "rematerialise serving_bundle", lambda: None)
