"""What all checks of a lake share.

Here: findings and the report of them, the lake and the files seen so far, and questions that several checks
ask. Not here: the checks themselves (the other modules of this package).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import is_pruned
from tunegraph_pipeline.lake.storage import remove_folder
from tunegraph_pipeline.pipeline.stages import folders_before
from tunegraph_pipeline.progress import Progress


@dataclass(frozen=True)
class Finding:
    """``file``, below the lake; in words, ``what`` is wrong with it, and what ``repairs`` it. ``mend`` is the
    automatic repair: it removes what the next refresh rebuilds, or restores a copy. None where only a person
    can help."""

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
class Report:
    """What was found, and how many files and bytes were read."""

    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes: int = 0


class Inspection:
    """The lake that is verified, and the findings so far. ``alone``: this process holds the lake's lock.
    ``seen``: every file that a check accounts for. ``damaged``: the files with a problem, relative to the
    lake's folder."""

    def __init__(self, lake: Lake, progress: Progress, *, alone: bool) -> None:
        self.lake = lake
        self.alone = alone
        self.progress = progress
        self.found = Report()
        self.seen: set[Path] = set()
        self.damaged: set[str] = set()

    def problem(self, path: Path, what: str, repairs: str, mend: Callable[[], None] | None = None) -> None:
        # Another writer may have removed an old version while it was read.
        if not self.alone and not path.exists():
            return
        if path.exists() and not os.access(path, os.R_OK):
            what, repairs, mend = "cannot be read: permission denied", "verify as its owner", None
        self.damaged.add(self.name(path))
        self.found.problems.append(Finding(self.name(path), what, repairs, mend))

    def note(self, path: Path, what: str, repairs: str = "", mend: Callable[[], None] | None = None) -> None:
        self.found.notes.append(Finding(self.name(path), what, repairs, mend))

    def sound(self, *folders: str) -> bool:
        """Whether nothing below these folders is damaged, so that comparing makes sense."""
        return not any(name.startswith(f"{folder}/") for name in self.damaged for folder in folders)

    def name(self, path: Path) -> str:
        return path.relative_to(self.lake.root).as_posix()

    def remove(self, *paths: Path) -> Callable[[], None]:
        def mend() -> None:
            for path in paths:
                if path.is_dir():
                    remove_folder(path, self.lake.staging)
                else:
                    path.unlink(missing_ok=True)

        return mend

    def filled_days(self) -> list[str]:
        """The days that have a daily table, ascending."""
        return sorted({key for table in DAILY_TABLES for key in self.lake.partitions(table)})

    def has_batches(self, day: str) -> bool:
        """Whether raw still has the batches of a day."""
        return bool(folders(self.lake.raw / f"dt={day}")) and not is_pruned(
            self.lake.raw, date.fromisoformat(day)
        )

    def sound_cut_off(self) -> str | None:
        if not self.sound("current_likes", "current_dislikes") or not self.has("current_likes"):
            return None
        return self.lake.current_version("current_likes")

    def current_graph(self) -> LikeGraph | None:
        if not self.sound("like_graph") or not self.has("like_graph"):
            return None
        return LikeGraph.from_arrays(ArrayFolder.open(self.lake.current_folder("like_graph")))

    def has(self, kind: str) -> bool:
        return self.lake.has_current(kind)

    def behind(self, kind: str) -> bool:
        """Whether an earlier stage was updated after this one: a refresh died between the two. Every refresh
        that reaches a stage rewrites its ``CURRENT``, even if it keeps the version."""
        stamp = written(self.lake.current_file(kind))
        return any(
            self.has(before) and written(self.lake.current_file(before)) > stamp
            for before in folders_before(kind)
        )


def folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def written(path: Path) -> int:
    return path.stat().st_mtime_ns


def named_first(folder: Path, message: str) -> Path:
    """The file below ``folder`` that a message begins with, by default the manifest."""
    start = f"{folder}/"
    if not message.startswith(start):
        return folder / MANIFEST
    return folder / message.removeprefix(start).split(" ")[0]


def short(error: Exception, file: Path | None = None) -> str:
    """The message of an error without the file, which a finding names already, and without its advice."""
    text = " ".join(str(error).split())
    if file is not None:
        text = text.removeprefix(str(file)).strip(" :")
        text = text.replace(str(file), file.name)
    said = text.rpartition("; ")[0] or text
    return said if len(said) <= 300 else said[:299] + "…"
