"""What `tunegraph verify` finds.

Here: one finding, the report of all of them, and how an error of a reader becomes a finding's words. Not
here: looking for them (the other modules of this package).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunegraph_pipeline.lake.arrays import MANIFEST


@dataclass(frozen=True)
class Finding:
    """``file``, below the lake; ``what`` is wrong with it, and what ``repairs`` it, both in words.

    ``mend`` is what a repair does by itself: it removes what the next refresh rebuilds, or restores
    what a copy holds. None where only a person can help.
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
class Report:
    """What was found, and how much was read: files and their bytes."""

    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes: int = 0


def named_first(folder: Path, message: str) -> Path:
    """The file below ``folder`` that a message begins with; the manifest where it begins with none."""
    start = f"{folder}/"
    if not message.startswith(start):
        return folder / MANIFEST
    return folder / message.removeprefix(start).split(" ")[0]


def short(error: Exception, file: Path | None = None) -> str:
    """What an error says, without the file, which is named already, and without its advice, the last part."""
    text = " ".join(str(error).split())
    if file is not None:
        text = text.removeprefix(str(file)).strip(" :")
        text = text.replace(str(file), file.name)
    said = text.rpartition("; ")[0] or text
    return said if len(said) <= 300 else said[:299] + "…"
