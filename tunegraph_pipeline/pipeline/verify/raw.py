"""What was received: raw batches, the databases of crawls, and the spool of feedback.

Here: checking each file alone. Not here: the tables made of raw batches (`tables`, `consistency`).
"""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.feedback_spool import unreadable_lines
from tunegraph_pipeline.lake.raw import BATCH, PRUNED, content_id, id_is_comparable, read_info
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, folders, short
from tunegraph_pipeline.words import counted


def check_batches(inspection: Inspection) -> None:
    days = folders(inspection.lake.raw)
    for done, folder in enumerate(days):
        inspection.progress("raw batches", done, len(days))
        try:
            date.fromisoformat(folder.name.removeprefix("dt="))
        except ValueError:
            inspection.problem(folder, "is not the folder of a day", "move it out of the lake")
            inspection.seen.update(path for path in folder.rglob("*") if path.is_file())
            continue
        _check_mark(inspection, folder / PRUNED)
        for batch in folders(folder):
            _check_batch(inspection, batch)
    inspection.progress("raw batches", len(days), len(days))


def _check_mark(inspection: Inspection, path: Path) -> None:
    """The file that is there instead of the batches of a pruned day."""
    inspection.seen.add(path)
    try:
        read_json(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError as error:
        inspection.note(path, f"cannot be read ({error})", "only that it is there counts")


def _check_batch(inspection: Inspection, folder: Path) -> None:
    again = (
        f"restore {inspection.name(folder)} from a backup, or remove that folder and import its origin again"
    )
    inspection.seen.add(folder / BATCH)
    try:
        info = read_info(folder)
        comparable = id_is_comparable(folder)
    except LakeError as error:
        # Without it the parts are useless, even if undamaged.
        inspection.seen.update(folder.glob("*.parquet"))
        inspection.problem(folder / BATCH, short(error, folder / BATCH), again)
        return
    day = folder.parent.name.removeprefix("dt=")
    again += f" (`{info.origin}`) with --as-of {day}"
    tables = {}
    for part, rows in info.rows.items():
        path = folder / f"{part}.parquet"
        inspection.seen.add(path)
        if part not in RAW_SCHEMAS:
            inspection.problem(path, "is a part that this TuneGraph does not know", again)
            return
        try:
            # Parts that are checked by their seal alone may be larger than memory.
            frame = None if info.is_streamed else info.read_as_written(part)
            there = info.check(part) if frame is None else len(frame)
        except LakeError as error:
            inspection.problem(path, short(error, path), again)
            return
        if there != rows:
            inspection.problem(path, f"has {counted(there, 'row')}, batch.json says {rows:,}", again)
            return
        if frame is not None:
            tables[part] = frame.to_arrow().cast(RAW_SCHEMAS[part])
    if comparable and content_id(info.source, tables) != info.batch_id:
        inspection.problem(folder / BATCH, "the content of the batch does not match its name", again)


def check_crawls(inspection: Inspection) -> None:
    again = "restore it from a backup, or remove it: the crawl then starts again, what is in raw/ stays"
    for path in inspection.lake.frontiers():
        check_database(inspection, path, again)


def check_database(inspection: Inspection, path: Path, repairs: str) -> None:
    logs = [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]
    inspection.seen.update([path, *(log for log in logs if log.exists())])
    if not inspection.alone:
        return
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        inspection.problem(path, f"SQLite finds it damaged ({said})", repairs)


def check_spool(inspection: Inspection) -> None:
    inspection.seen.update(inspection.lake.spool.rglob("*.jsonl"))
    for path, lines in unreadable_lines(inspection.lake.root):
        again = "the next refresh puts them aside and says so"
        inspection.note(path, f"{counted(lines, 'line')} cannot be used", again)
