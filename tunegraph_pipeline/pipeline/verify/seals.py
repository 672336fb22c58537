"""Files without a checksum of their own, as earlier versions wrote them.

Here: counting them, and giving one to those that passed every other check. Not here: comparing checksums,
which is part of reading a file (`lake.seals`).
"""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tunegraph_pipeline.lake.seals import is_sealed, keeps_seal, seal
from tunegraph_pipeline.lake.storage import staged_file
from tunegraph_pipeline.pipeline.verify.inspection import Inspection
from tunegraph_pipeline.recommend.bundle import CURRENT
from tunegraph_pipeline.recommend.publication import LOG
from tunegraph_pipeline.words import counted

_SEALED = (".parquet", ".json")


def check_seals(inspection: Inspection) -> None:
    _check_lake_file(inspection)
    unsealed = list(_unsealed(inspection))
    if unsealed:
        what = f"{counted(len(unsealed), 'file has', 'files have')} no checksum: earlier versions wrote none"
        again = "each gets one when it is written again, or from `verify --repair`"
        inspection.note(inspection.lake.root, what, again, partial(_seal_all, inspection, unsealed))


def _check_lake_file(inspection: Inspection) -> None:
    """`lake.json` is for people to edit: what differs from what TuneGraph wrote counts."""
    path = inspection.lake.path
    if keeps_seal(path.read_bytes()) is False and inspection.name(path) not in inspection.damaged:
        what = "has changed since TuneGraph wrote it, and counts as it is"
        again = "restore it if nobody edited it; `verify --repair` takes the edit over"
        inspection.note(path, what, again, inspection.lake.save)


def _unsealed(inspection: Inspection) -> Iterator[Path]:
    for path in sorted(inspection.seen):
        if path.suffix not in _SEALED and path.name not in (CURRENT, LOG):
            continue
        if inspection.name(path) in inspection.damaged or not path.is_file():
            continue
        try:
            if not is_sealed(path):
                yield path
        except (OSError, ValueError):
            continue  # a finding of another check, or gone since


def _seal_all(inspection: Inspection, paths: list[Path]) -> None:
    for path in paths:
        folder, name = inspection.name(path.parent), inspection.name(path)
        if path.exists() and inspection.sound(folder) and name not in inspection.damaged:
            with staged_file(path, inspection.lake.staging) as draft:
                shutil.copyfile(path, draft)
                seal(draft)
                # When it was written says which files are older than others.
                shutil.copystat(path, draft)
