"""Is every file of a lake what it should be? What `tunegraph verify` finds, and what makes it good.

Here: reading everything, comparing what belongs together, and for each finding the file, what is wrong with
it and what repairs it; and the repair itself, which takes away what is damaged so that the next refresh makes
it anew. Not here: how files are read (`lake`, `recommend`), or the checks of a run (`checks`).

A *problem* is damage. A *note* is what a person may want to know: a day not refreshed yet, a half line of
feedback, a file that nobody here knows. What a killed refresh left behind is no damage: the next one goes on.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError, LakeError, TuneGraphError
from tunegraph_pipeline.graph.co_like import CoLike, what_is_wrong
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.feedback import settle
from tunegraph_pipeline.lake.feedback_spool import SPOOL, unreadable_lines
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake, digest
from tunegraph_pipeline.lake.raw import (
    BATCH,
    PRUNED,
    content_id,
    day_fingerprint,
    id_is_comparable,
    is_pruned,
    read_info,
)
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS, TABLES, Partition
from tunegraph_pipeline.lake.storage import STAGING, remove_folder
from tunegraph_pipeline.lake.tables import (
    current_lists,
    derive_observations,
    empty_table,
    inputs_of,
    partitions,
    table_path,
)
from tunegraph_pipeline.lake.tensors import load_tensors
from tunegraph_pipeline.lake.tombstones import TOMBSTONES, Tombstones
from tunegraph_pipeline.pipeline.current_likes import recordings_by_id
from tunegraph_pipeline.pipeline.inbox import INBOX_MEMORY, inbox_status
from tunegraph_pipeline.pipeline.purge import REQUESTS
from tunegraph_pipeline.recommend.bundle import (
    BUNDLE_FORMAT,
    CURRENT,
    Bundle,
    current_version,
    version_folder,
)
from tunegraph_pipeline.recommend.publication import LOG, live_model, publications, readable_lines, write_log

Progress = Callable[[str, int, int], None]

_ASSETS = {"users": "crawled_users", "observations": "liked_lists", "likes": "liked_lists"} | {
    "current_dislikes": "current_likes"
}
"""The asset that makes a table, where it has another name."""
_VERSIONED = {
    "like_graph": "like_graph",
    "co_like": "co_like_matrix",
    "models": "trained_model",
    "v1_model": "v1_model",
    "v2_model": "v2_model",
    "v3_seed_model": "v3_seed_model",
}
"""Folders of versions of arrays, with their assets."""
_UPSTREAM = {
    "like_graph": ("current_likes",),
    "co_like": ("like_graph",),
    "serving": ("like_graph", "models"),
}
_SAMPLED_TRACKS = 200
_SAMPLED_LIKES = 5_000_000
"""Above so many current likes they are compared for a sample of the users."""
_UNIT_TOLERANCE = 1e-3
_ROWS_A_BLOCK = 100_000
_NOT_FILES_OF_THE_LAKE = (".lock", ".lock.holder.json", ".gitignore", ".expired", REQUESTS)


@dataclass(frozen=True)
class Finding:
    """``file``, below the lake; ``what`` is wrong with it, and what ``repairs`` it, both in words.

    ``mend`` is what a repair does by itself: it removes what the next refresh makes anew, or puts right what
    a copy at hand tells. None where only a person can help.
    """

    file: str
    what: str
    repairs: str
    mend: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def line(self) -> str:
        return f"{self.file}: {self.what}" + (f"; {self.repairs}" if self.repairs else "")

    def facts(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {
            "file": self.file,
            "what": self.what,
            "repairs": self.repairs,
            "repairable": self.mend is not None,
        }


@dataclass
class Verification:
    """What was found, and how much was read: files and their bytes."""

    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes: int = 0


def verify(root: Path, progress: Progress | None = None, *, repair: bool = False) -> Verification:
    """Check every file of the lake at ``root``; with ``repair``, mend what can be mended.

    Holds the lake's lock while it looks, so that no refresh changes it meanwhile. Where another process
    writes, the files are read all the same, and what belongs together is not compared; the notes say so. A
    repair has to have the lock. Raises LakeError where there is no lake, or for a repair where the lock is
    not free.
    """
    try:
        lake = Lake.open(root)
    except LakeError as error:
        if not (root / "lake.json").exists():
            raise
        found = Verification()
        found.problems.append(
            Finding("lake.json", _short(error), "restore it from a backup; nothing else was looked at")
        )
        return found
    with _alone(lake, must=repair) as busy:
        inspection = _Inspection(lake, progress or (lambda *_: None), alone=busy is None)
        if busy is not None:
            inspection.note(
                lake.root, f"{busy}: what belongs together was not compared", "verify again later"
            )
        found = inspection.run()
        if repair:
            for finding in found.problems:
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


class _Inspection:
    """One walk through a lake, from what everything is made of to what is served."""

    def __init__(self, lake: Lake, progress: Progress, *, alone: bool) -> None:
        self.lake = lake
        self.alone = alone
        self.found = Verification()
        self._progress = progress
        self._seen: set[Path] = set()
        self._damaged: set[str] = set()

    def run(self) -> Verification:
        checks = [
            self._raw,
            self._crawls,
            self._spool,
            self._tables,
            self._versions,
            self._bundles,
            self._other_files,
        ]
        if self.alone:
            checks += [
                self._days,
                self._lists,
                self._graph,
                self._co_likes,
                self._model,
                self._live_bundle,
                self._unknown_files,
            ]
        for done, check in enumerate(checks):
            self._progress("verify", done, len(checks))
            check()
        self._progress("verify", len(checks), len(checks))
        sizes = [path.stat().st_size for path in self._seen if path.exists()]
        self.found.files, self.found.bytes = len(sizes), sum(sizes)
        return self.found

    # --- what is said of a file ---

    def problem(self, path: Path, what: str, repairs: str, mend: Callable[[], None] | None = None) -> None:
        # Another writer may have taken an old version away while it was read.
        if not self.alone and not path.exists():
            return
        self._damaged.add(self._name(path))
        self.found.problems.append(Finding(self._name(path), what, repairs, mend))

    def note(self, path: Path, what: str, repairs: str = "") -> None:
        self.found.notes.append(Finding(self._name(path), what, repairs))

    def sound(self, *folders: str) -> bool:
        """Whether nothing below these folders is damaged: only then is it worth comparing."""
        return not any(name.startswith(f"{folder}/") for name in self._damaged for folder in folders)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.lake.root).as_posix()

    def _remove(self, *paths: Path) -> Callable[[], None]:
        def mend() -> None:
            for path in paths:
                if path.is_dir():
                    remove_folder(path, self.lake.staging)
                else:
                    path.unlink(missing_ok=True)

        return mend

    # --- what was received ---

    def _raw(self) -> None:
        days = _folders(self.lake.raw)
        for done, folder in enumerate(days):
            self._progress("raw batches", done, len(days))
            if _day(folder.name) is None:
                self.problem(folder, "is not the folder of a day", "move it out of the lake")
                self._seen.update(path for path in folder.rglob("*") if path.is_file())
                continue
            self._seen.add(folder / PRUNED)  # stands for the batches of a day that has tables alone
            for batch in _folders(folder):
                self._batch(batch)
        self._progress("raw batches", len(days), len(days))

    def _batch(self, folder: Path) -> None:
        again = (
            f"restore {self._name(folder)} from a backup, or remove that folder and import its origin again"
        )
        self._seen.add(folder / BATCH)
        try:
            info = read_info(folder)
            comparable = id_is_comparable(folder)
        except LakeError as error:
            # The parts are whole perhaps, and of no use without it.
            self._seen.update(folder.glob("*.parquet"))
            self.problem(folder / BATCH, _short(error, folder / BATCH), again)
            return
        day = folder.parent.name.removeprefix("dt=")
        again += f" (`{info.origin}`) with --as-of {day}"
        tables = {}
        for part, rows in info.rows.items():
            path = folder / f"{part}.parquet"
            self._seen.add(path)
            if part not in RAW_SCHEMAS:
                self.problem(path, "is of a part that this TuneGraph does not know", again)
                return
            try:
                frame = info.read(part)
            except LakeError as error:
                self.problem(path, _short(error, path), again)
                return
            if len(frame) != rows:
                self.problem(path, f"has {len(frame):,} rows, batch.json says {rows:,}", again)
                return
            tables[part] = frame.to_arrow().cast(RAW_SCHEMAS[part])
        if comparable and content_id(info.source, tables) != info.batch_id:
            self.problem(folder / BATCH, "the batch's content is not that of which it has the name", again)

    def _crawls(self) -> None:
        again = "restore it from a backup, or remove it: the crawl then begins anew, what is in raw/ stays"
        for path in sorted((self.lake.root / "crawl").glob("*.sqlite")):
            self._database(path, again)

    def _database(self, path: Path, repairs: str) -> None:
        logs = [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]
        self._seen.update([path, *(log for log in logs if log.exists())])
        if not self.alone:
            return
        try:
            with closing(sqlite3.connect(path, timeout=10)) as database:
                (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error as error:
            said = str(error)
        if said != "ok":
            self.problem(path, f"SQLite finds it damaged ({said})", repairs)

    def _spool(self) -> None:
        self._seen.update(path for path in (self.lake.root / SPOOL).rglob("*.jsonl"))
        for path, lines in unreadable_lines(self.lake.root):
            self.note(path, f"{lines:,} lines cannot be used", "the next refresh puts them aside and says so")

    # --- tables ---

    def _tables(self) -> None:
        for table, spec in TABLES.items():
            values = [None] if spec.partition is Partition.NONE else partitions(self.lake.root, table)
            for done, value in enumerate(values):
                self._progress(f"table {table}", done, len(values))
                self._partition(table, value)
            self._progress(f"table {table}", len(values), len(values))

    def _partition(self, table: str, value: str | None) -> None:
        path = table_path(self.lake.root, table, value)
        if not path.exists():
            if table == "track_ids" and any(self._has(kind) for kind in ("like_graph", "models", "serving")):
                # Without it the next refresh would number all tracks anew.
                self.problem(path, "is not there", *self._remake(table, value))
            return
        self._seen.add(path)
        try:
            frame = self.lake.read(table, value)
        except LakeError as error:
            self.problem(path, _short(error, path), *self._remake(table, value))
            return
        if what := _wrong_rows(table, frame):
            self.problem(path, what, *self._remake(table, value))

    def _remake(self, table: str, value: str | None) -> tuple[str, Callable[[], None] | None]:
        """What makes a partition anew, in words, and how a repair makes way for it."""
        asset = _ASSETS.get(table, table)
        path = table_path(self.lake.root, table, value)
        kind = TABLES[table].partition
        if kind is Partition.DAY:
            assert value is not None
            if not self._has_batches(value):
                return f"raw/ holds nothing of {value} any more: restore it from a backup", None
            if not self.sound(f"raw/dt={value}"):
                return f"put right raw/dt={value} first, then verify again", None
            return f"rematerialise {asset} of {value}", self._remove(path.parent)
        if kind is Partition.CUT_OFF:
            # They are written and known to be fresh together.
            tables = [name for name, spec in TABLES.items() if spec.partition is kind]
            paths = [table_path(self.lake.root, name, value).parent for name in tables]
            return f"rematerialise {asset}, cut-off {value}", self._remove(*paths)
        if table == "track_ids":
            ids = self._copy_of_track_ids()
            if ids is None:
                words = "no copy of it is at hand: restore it from a backup, or let the repair remove it, and"
                return f"{words} the next refresh numbers all tracks anew and trains anew", self._remove(path)
            return "restore it from the track ids of a bundle", partial(self._restore_track_ids, ids)
        if table == "evaluation":
            words = (
                "restore it from a backup, or let the repair remove it, which loses the figures of earlier"
            )
            return f"{words} bundles, and rematerialise {asset}", self._remove(path)
        named = "" if value is None else f" {value}"
        return f"rematerialise {asset}{named}", self._remove(path if value is None else path.parent)

    def _copy_of_track_ids(self) -> pl.Series | None:
        """The id map as the latest sound bundle holds it, which is the whole of it when that was written."""
        bundles = sorted(_folders(self.lake.serving), key=_written, reverse=True)
        for folder in bundles:
            try:
                return pl.Series("track_id", Bundle.verified(folder).tracks.ids.tolist(), dtype=pl.String)
            except (TuneGraphError, OSError):
                continue
        return None

    def _restore_track_ids(self, ids: pl.Series) -> None:
        rows = pl.DataFrame({"track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True), "track_id": ids})
        self.lake.write("track_ids", None, rows, digest(ids.to_list()))

    # --- arrays ---

    def _versions(self) -> None:
        for kind, asset in _VERSIONED.items():
            current = self._current(kind, asset)
            for folder in _folders(self.lake.root / kind):
                again, path = f"rematerialise {asset}", folder
                if folder.name != current:
                    again = "it is not the current version: the repair removes it, and nothing is made anew"
                    if kind == "models" and folder.name == live_model_or_none(self.lake.serving):
                        again = (
                            "the live bundle is of this model: restore it from a backup, or let the repair"
                            ' remove it, and publish the current one by `tunegraph publish --override "why"`'
                        )
                mend = self._remove(folder)
                if kind == "models":  # made of it, and not read again where it is there
                    table = table_path(self.lake.root, "track_embeddings", folder.name).parent
                    mend = self._remove(folder, table)
                arrays = self._arrays(folder, again, mend)
                if arrays is None or kind != "models":
                    continue
                path = folder / "embeddings.npy"
                if not _of_unit_length(arrays["embeddings"]):
                    self.problem(path, "an embedding is not finite and of unit length", again, mend)
        for path in sorted((self.lake.root / "checkpoints").glob("*.safetensors")):
            self._seen.add(path)
            try:
                load_tensors(path)
            except LakeError as error:
                again = "the repair removes it, and the training begins from nothing"
                self.problem(path, _short(error, path), again, self._remove(path))

    def _current(self, kind: str, asset: str) -> str | None:
        """What ``CURRENT`` of a kind names, None where there is none."""
        path = self.lake.root / kind / CURRENT
        if not path.exists():
            if _folders(self.lake.root / kind) and kind != "current_likes":
                self.note(path, "is not there", f"rematerialise {asset}")
            return None
        self._seen.add(path)
        try:
            named = self.lake.current_version(kind)
        except LakeError as error:
            self.problem(path, _short(error, path), f"rematerialise {asset}", self._remove(path))
            return None
        inside = f"cut_off={named}/data.parquet" if kind == "current_likes" else named
        if not _is_name(named) or not (path.parent / inside).exists():
            what = f"names {named[:80]!r}, which is not there"
            self.problem(path, what, f"rematerialise {asset}", self._remove(path))
            return None
        return named

    def _arrays(self, folder: Path, repairs: str, mend: Callable[[], None] | None) -> ArrayFolder | None:
        """Read all that a folder of arrays declares; None where it is not as declared."""
        self._seen.add(folder / MANIFEST)
        try:
            arrays = ArrayFolder.open(folder)
            declared = set(json.loads((folder / MANIFEST).read_bytes())["parts"])
            arrays.verify()
            for name in declared:
                if name.endswith(".safetensors"):
                    load_tensors(folder / name)
        except (BundleError, LakeError, OSError) as error:
            # Which of them it is, the message says first; the others are not to blame, nor unknown.
            self._seen.update(path for path in folder.iterdir() if path.is_file())
            file = _named_first(folder, str(error))
            self.problem(file, _short(error, file), repairs, mend)
            return None
        self._seen.update(folder / name for name in declared)
        return arrays

    # --- bundles ---

    def _bundles(self) -> None:
        serving = self.lake.serving
        if not serving.is_dir():
            return
        live = self._live_version()
        self._publications(live)
        for folder in _folders(serving):
            again = "it is not live: the repair removes it, and it can no more be rolled back to"
            if folder.name == live:
                again = "rematerialise serving_bundle"
            arrays = self._arrays(folder, again, self._remove(folder))
            if arrays is None:
                continue
            if arrays.facts.get("bundle_format") != BUNDLE_FORMAT:
                self.note(folder / MANIFEST, "is of a bundle format that this TuneGraph does not serve")
                continue
            try:
                said = Bundle(arrays).version
            except BundleError as error:
                file = _named_first(folder, str(error))
                self.problem(file, _short(error, file), again, self._remove(folder))
            else:
                if said != folder.name:
                    what = f"says it is bundle {said}"
                    self.problem(folder / MANIFEST, what, again, self._remove(folder))

    def _live_version(self) -> str | None:
        path = self.lake.serving / CURRENT
        if not path.exists():
            if _folders(self.lake.serving):
                self.note(path, "is not there: nothing is live", "rematerialise serving_bundle")
            return None
        self._seen.add(path)
        try:
            version = current_version(self.lake.serving)
            if version_folder(self.lake.serving, version).is_dir():
                return version
            what = f"names {version[:80]!r}, which is not there"
        except BundleError as error:
            what = _short(error, path)
        logged = self._last_logged()
        if logged is None or not (self.lake.serving / logged).is_dir():
            self.problem(path, what, "rematerialise serving_bundle", self._remove(path))
        else:
            name_it = partial(self.lake.set_current, "serving", logged)
            self.problem(path, what, f"`tunegraph rollback {logged}`, which was live last", name_it)
        return None

    def _last_logged(self) -> str | None:
        kept, _ = readable_lines(self.lake.serving)
        return kept[-1].bundle if kept else None

    def _publications(self, live: str | None) -> None:
        path = self.lake.serving / LOG
        if not path.exists():
            if live is not None:
                self.problem(path, "is not there", "rematerialise serving_bundle: a line says what is live")
            return
        self._seen.add(path)
        kept, damaged = readable_lines(self.lake.serving)
        if damaged:
            self.problem(
                path,
                f"{len(damaged):,} lines cannot be read, the first of them is line {damaged[0]}",
                "restore it from a backup, or let the repair drop them; the next refresh says what is live",
                partial(write_log, self.lake.serving, kept),
            )
        elif live is not None and (not kept or kept[-1].bundle != live):
            if kept and kept[-1].replaced == live:
                what = f"{kept[-1].bundle} was about to go live when its refresh died"
                self.note(path, what, "rematerialise serving_bundle")
            else:
                what = f"its last line is not of {live}, which is live"
                self.problem(path, what, "rematerialise serving_bundle", lambda: None)

    # --- other files ---

    def _other_files(self) -> None:
        self._seen.add(self.lake.root / "lake.json")
        self._current("current_likes", "current_likes")
        path = self.lake.root / TOMBSTONES
        self._seen.add(path)
        try:
            Tombstones.of(self.lake.root)
        except LakeError as error:
            self.problem(path, _short(error, path), "restore it from a backup: nothing is added without it")
        path = self.lake.root / INBOX_MEMORY
        self._seen.add(path)
        try:
            inbox_status(self.lake)
        except LakeError as error:
            self.problem(path, _short(error, path), "restore it, or remove it: the inbox is imported again")
        path = self.lake.root / "lake.duckdb"
        if path.exists() and self.alone:
            import duckdb

            self._seen.add(path)
            try:
                with duckdb.connect(str(path), read_only=True) as connection:
                    connection.sql("SELECT * FROM tunegraph.track_ids LIMIT 1").fetchall()
            except duckdb.Error as error:
                # A table whose file is damaged is told where that file is.
                if self.sound("track_ids"):
                    again = "the next refresh writes it anew"
                    self.problem(path, _short(error, path), again, self._remove(path))
        history = self.lake.root / ".dagster"
        for path in sorted(history.rglob("*.db")):
            self._database(
                path, "restore it from a backup, or remove it: the history of runs is lost, no more"
            )

    def _unknown_files(self) -> None:
        unknown: dict[Path, list[Path]] = {}
        for path in sorted(self.lake.root.rglob("*")):
            inside = path.relative_to(self.lake.root).parts
            if path.is_dir() or inside[0] == ".dagster" or inside[0] in _NOT_FILES_OF_THE_LAKE:
                continue
            if STAGING in inside:
                folder = self.lake.root.joinpath(*inside[: inside.index(STAGING) + 1])
                unknown.setdefault(folder, []).append(path)
            elif path not in self._seen:
                unknown.setdefault(path.parent, []).append(path)
        for folder, paths in unknown.items():
            if folder.name == STAGING:
                self.note(
                    folder, f"{len(paths):,} drafts of a writer that died", "the next writer removes them"
                )
            elif len(paths) == 1:
                self.note(paths[0], "is no file of a lake, or of a version from before", "it is left alone")
            else:
                what = f"{len(paths):,} files that are none of a lake, such as {paths[0].name}"
                self.note(folder, what, "they are left alone")

    # --- what belongs together ---

    def _days(self) -> None:
        """Daily tables against raw, and observations against likes."""
        days = self._filled_days()
        received = [day.isoformat() for day in self.lake.raw_days()] if self.sound("raw") else []
        for done, key in enumerate(days):
            self._progress("days", done, len(days))
            if is_pruned(self.lake.raw, date.fromisoformat(key)):
                # The tables are all there is of it.
                for table in DAILY_TABLES:
                    path = table_path(self.lake.root, table, key)
                    if not path.exists():
                        self.problem(path, "is not there", *self._remake(table, key))
            elif key in received:
                self._stale(key)
            if self.sound(*(f"{table}/dt={key}" for table in ("users", "likes", "observations"))):
                self._observations(key)
        self._progress("days", len(days), len(days))
        for key in received:
            if key not in days:
                folder = self.lake.raw / f"dt={key}"
                self.note(folder, "was received and not refreshed yet", "run `tunegraph refresh`")

    def _filled_days(self) -> list[str]:
        """The days that have a daily table, ascending."""
        return sorted({key for table in DAILY_TABLES for key in self.lake.partitions(table)})

    def _has_batches(self, day: str) -> bool:
        """Whether raw still has what the tables of a day were made of."""
        return bool(_folders(self.lake.raw / f"dt={day}")) and not is_pruned(
            self.lake.raw, date.fromisoformat(day)
        )

    def _stale(self, key: str) -> None:
        batches = self.lake.batches(date.fromisoformat(key))
        for table in DAILY_TABLES:
            path = table_path(self.lake.root, table, key)
            if self.sound(f"{table}/dt={key}") and (
                inputs_of(self.lake.root, table, key) != day_fingerprint(batches, table)
            ):
                what = "is not of the batches that raw holds now" if path.exists() else "is not there yet"
                self.note(path, what, f"`tunegraph refresh` fills {key}")

    def _observations(self, key: str) -> None:
        paths = {
            table: table_path(self.lake.root, table, key) for table in ("users", "likes", "observations")
        }
        if not all(path.exists() for path in paths.values()):
            return
        if inputs_of(self.lake.root, "observations", key) != inputs_of(self.lake.root, "likes", key):
            return  # a refresh died between the two, and the day is stale
        columns = ["user_id", "source", "state"]
        expected = derive_observations(
            self.lake.read("users", key, columns), self.lake.read("likes", key)
        ).sort("user_id", "source")
        observed = self.lake.read("observations", key).sort("user_id", "source")
        if not observed.equals(expected):
            what = "lengths or hashes of lists are not those of the table likes"
            path = paths["observations"]
            if not self._has_batches(key):
                self.problem(path, what, f"raw/ holds nothing of {key} any more: restore both from a backup")
                return
            mend = self._remove(path.parent, paths["likes"].parent)
            self.problem(path, what, f"rematerialise liked_lists of {key}", mend)

    def _lists(self) -> None:
        """The current lists against what the daily tables give from nothing."""
        key = self._sound_cut_off()
        if key is None or not self.sound("observations", "likes", "feedback", "tracks"):
            return
        path = table_path(self.lake.root, "current_likes", key)
        stamp = path.parent.parent / CURRENT
        days = [day for day in self._filled_days() if day <= key]
        if not all(table_path(self.lake.root, name, day).exists() for name in DAILY_TABLES for day in days):
            return  # which is told of the day, and has to be filled first
        sources = [
            table_path(self.lake.root, table, day)
            for table in ("observations", "likes", "feedback")
            for day in days
        ]
        if any(_written(source) > _written(stamp) for source in sources):
            self.note(
                path, "is older than the days it is made of", "`tunegraph refresh` brings it up to date"
            )
            return
        stored = self.lake.read("current_likes", key, ["user_id", "track_id", "liked_at"])
        every = len(stored) // _SAMPLED_LIKES + 1

        def sampled(frame: pl.DataFrame) -> pl.DataFrame:
            return frame if every == 1 else frame.filter(pl.col("user_id").hash(0) % every == 0)

        days.reverse()

        def seen() -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
            for done, day in enumerate(days):
                self._progress("current lists", done, len(days))
                yield (
                    date.fromisoformat(day),
                    sampled(self.lake.read("observations", day)),
                    sampled(self.lake.read("likes", day)),
                )
            self._progress("current lists", len(days), len(days))

        lists = current_lists((observed, likes) for _, observed, likes in seen())
        said = [sampled(self.lake.read("feedback", day)) for day in reversed(days)]
        feedback = pl.concat([empty_table("feedback"), *said])
        if len(feedback):
            merge = self.lake.file.settings.get("graph", {}).get("merge_recordings", True)
            recordings = recordings_by_id(self.lake, date.fromisoformat(key), merge=merge)
            lists = settle(lists, feedback, seen(), recordings).likes
        pair = ["user_id", "track_id"]
        if not sampled(stored).sort(pair).equals(lists.sort(pair)):
            self.problem(path, "is not what the daily tables give", *self._remake("current_likes", key))

    def _sound_cut_off(self) -> str | None:
        if not self.sound("current_likes", "current_dislikes") or not self._has("current_likes"):
            return None
        return self.lake.current_version("current_likes")

    def _graph(self) -> None:
        """The like graph against the current likes and the id map."""
        graph = self._current_graph()
        key = self._sound_cut_off()
        if graph is None or key is None or not self.sound("track_ids"):
            return
        path = self.lake.current_folder("like_graph") / "indices.npy"
        if self._behind("like_graph"):
            self.note(path, "is older than the current likes", "`tunegraph refresh` brings it up to date")
            return
        mend = self._remove(path.parent)
        ids = self.lake.read("track_ids")["track_id"]
        if len(ids) != graph.n_tracks:
            what = f"is of {graph.n_tracks:,} tracks, the id map has {len(ids):,}"
            self.problem(path, what, "rematerialise like_graph", mend)
            return
        try:
            expected = build_like_graph(
                self.lake.read("current_likes", key, ["user_id", "track_id"]),
                ids,
                split_key="",
                held_out=0.0,
                calibration_share=0.0,
                canonical=graph.canonical,
            )
        except LakeError as error:
            self.problem(path, _short(error), "rematerialise track_ids", mend)
            return
        same = (
            np.array_equal(expected.indptr, graph.indptr)
            and np.array_equal(expected.indices, graph.indices)
            and expected.user_ids.tolist() == graph.user_ids.tolist()
        )
        if not same:
            self.problem(path, "its likes are not the current likes", "rematerialise like_graph", mend)

    def _co_likes(self) -> None:
        """B against AᵀA on a sample of rows; its strongest entries in order."""
        graph = self._current_graph()
        if graph is None or not self.sound("co_like") or not self._has("co_like"):
            return
        folder = self.lake.current_folder("co_like")
        if self._behind("co_like"):
            self.note(folder, "is older than the like graph", "`tunegraph refresh` brings it up to date")
            return
        if what := what_is_wrong(CoLike.open(folder), graph.matrix(), _SAMPLED_TRACKS):
            self.problem(folder / MANIFEST, what, "rematerialise co_like_matrix", self._remove(folder))

    def _model(self) -> None:
        """The table of embeddings against the model it is of."""
        for version in self.lake.partitions("track_embeddings"):
            folder = self.lake.version_folder("models", version)
            path = table_path(self.lake.root, "track_embeddings", version)
            if not folder.is_dir() or not self.sound(f"models/{version}", self._name(path.parent)):
                continue
            stored = self.lake.read("track_embeddings", version, ["embedding"])["embedding"]
            embeddings = ArrayFolder.open(folder)["embeddings"]
            if not np.array_equal(stored.to_numpy().reshape(embeddings.shape), embeddings):
                what = "is not what the model holds"
                self.problem(path, what, *self._remake("track_embeddings", version))

    def _live_bundle(self) -> None:
        """The live bundle against the graph, and everyone's recommendations against the bundle."""
        if not self.sound("serving") or not (self.lake.serving / CURRENT).exists():
            return
        version = current_version(self.lake.serving)
        folder = self.lake.serving / version
        bundle = Bundle.open(folder)
        told = table_path(self.lake.root, "user_recommendations", version)
        if not told.exists():
            self.note(told, "is not there yet", "rematerialise user_recommendations")
        graph = self._current_graph()
        last = self._last_publication()
        if last is not None and last == "rolled back":
            self.note(
                folder, "was rolled back to, and is of earlier likes", "the next refresh publishes anew"
            )
            return
        key = self._sound_cut_off()
        if graph is None or key is None or not self.sound("track_ids", "models"):
            return
        if self._behind("serving") or bundle.facts.get("cut_off") != key:
            self.note(folder, "is older than graph or model", "`tunegraph refresh` brings it up to date")
            return
        ids = self.lake.read("track_ids")["track_id"].to_list()
        users = graph.n_users
        comparisons: Mapping[str, bool] = {
            "track_ids": bundle.tracks.ids.tolist() == ids,
            "popularity": np.array_equal(bundle.popularity, graph.track_degrees()),
            "user_ids": bundle.users.ids.tolist()[:users] == graph.user_ids.tolist(),
            "user_tracks": np.array_equal(bundle.user_indptr[: users + 1], graph.indptr)
            and np.array_equal(bundle.user_tracks, graph.indices),
        }
        for part, same in comparisons.items():
            if not same:
                what = f"its {part} are not those of the like graph"
                mend = self._remove(folder)
                self.problem(folder / MANIFEST, what, "rematerialise serving_bundle", mend)

    def _last_publication(self) -> str | None:
        log = publications(self.lake.serving)
        return log[-1].outcome if log else None

    def _current_graph(self) -> LikeGraph | None:
        if not self.sound("like_graph") or not self._has("like_graph"):
            return None
        return LikeGraph.from_arrays(ArrayFolder.open(self.lake.current_folder("like_graph")))

    def _has(self, kind: str) -> bool:
        return (self.lake.root / kind / CURRENT).exists()

    def _behind(self, kind: str) -> bool:
        """Whether a stage before this one was brought up to date later: a refresh died between the two.

        Every refresh that comes to a stage writes its ``CURRENT`` anew, also where it keeps the version.
        """
        stamp = _written(self.lake.root / kind / CURRENT)
        return any(
            self._has(before) and _written(self.lake.root / before / CURRENT) > stamp
            for before in _UPSTREAM[kind]
        )


def live_model_or_none(serving: Path) -> str | None:
    """The live model, None also where what says so cannot be read, which is told elsewhere."""
    try:
        return live_model(serving)
    except BundleError:
        return None


def _wrong_rows(table: str, frame: pl.DataFrame) -> str | None:
    """What is wrong with the rows of a partition, whatever else the lake holds."""
    key = list(TABLES[table].key)
    if key and len(frame) != frame.select(key).n_unique():
        return f"{len(frame) - frame.select(key).n_unique():,} rows are there twice (by {', '.join(key)})"
    in_order = pl.arange(len(frame), dtype=pl.Int32, eager=True)
    if "track_idx" in frame.columns and not (frame["track_idx"] == in_order).all():
        return "track_idx is not 0, 1, 2, … in order"
    if table == "track_embeddings" and len(frame) and not _of_unit_length(frame["embedding"].to_numpy()):
        return "an embedding is not finite and of unit length"
    return None


def _of_unit_length(embeddings: NDArray[np.float32]) -> bool:
    for start in range(0, len(embeddings), _ROWS_A_BLOCK):
        block = np.asarray(embeddings[start : start + _ROWS_A_BLOCK], dtype=np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():  # false for NaN too
            return False
    return True


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name.removeprefix("dt="))
    except ValueError:
        return None


def _is_name(version: str) -> bool:
    return (
        bool(version)
        and version == Path(version).name
        and not version.startswith(".")
        and "\0" not in version
    )


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _named_first(folder: Path, message: str) -> Path:
    """The file below ``folder`` that a message begins with; the manifest where it begins with none."""
    start = f"{folder}/"
    if not message.startswith(start):
        return folder / MANIFEST
    return folder / message.removeprefix(start).split(" ")[0]


def _short(error: Exception, file: Path | None = None) -> str:
    """What an error says, without the file, which is named already, and without its advice, the last part."""
    text = " ".join(str(error).split())
    if file is not None:
        text = text.removeprefix(str(file)).strip(" :")
        text = text.replace(str(file), file.name)
    said = text.rpartition("; ")[0] or text
    return said if len(said) <= 300 else said[:299] + "…"
