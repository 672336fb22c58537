"""What a lake remembers of the files of its inbox: `<lake>/inbox.json`.

Here: what became of each file, reading and writing it. Not here: which files are imported (`inbox`). Files
are known by a keyed hash of their names.
"""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import write_text


class Remembered(BaseModel):
    """What became of one file."""

    model_config = ConfigDict(extra="forbid")

    size: int
    mtime_ns: int
    sha256: str = ""
    day: date | None = None
    """The day on which its content was, or is being, received."""
    when: datetime
    batches: list[str] | None = None
    """The raw batches made of it; null until they are written."""
    error: str | None = None
    """Why it cannot be imported as it is."""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: dict[str, Remembered] = {}
    """By :func:`hashed_name`."""


class InboxMemory:
    """The files of the inbox that a lake knows, by :func:`hashed_name`."""

    def __init__(self, lake: Lake) -> None:
        """Read it; empty before the first import. Raises LakeError where it cannot be read."""
        self._lake = lake
        path = lake.inbox_memory
        try:
            self.files = _Content.model_validate_json(path.read_bytes()).files
        except FileNotFoundError:
            self.files = {}
        except OSError as error:
            raise LakeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        except ValidationError:
            raise LakeError(
                f"{path} is damaged; restore it, or remove it to import the whole inbox again"
            ) from None

    def finished(self) -> dict[str, Remembered]:
        """The files that were imported, by the hash of their content."""
        return {one.sha256: one for one in self.files.values() if one.batches is not None}

    def day_begun(self, hashes: list[str]) -> date | None:
        """The day on which an import of one of these contents began and was not finished."""
        begun = {one.sha256: one.day for one in self.files.values() if one.day and one.batches is None}
        return next((begun[sha] for sha in hashes if sha in begun), None)

    def is_done_with(self, key: str, state: tuple[int, int]) -> bool:
        """Whether the file, of this size and time of the last change, was imported or found unreadable.

        False if it could not be opened, since permission changes neither size nor time.
        """
        known = self.files.get(key)
        if known is None or (known.size, known.mtime_ns) != state:
            return False
        return known.batches is not None or (known.error is not None and bool(known.sha256))

    def remember(self, entries: Mapping[str, Remembered], **facts: Any) -> None:
        """Set these files, with these ``facts`` of each, and write the memory."""
        self.files.update({key: entry.model_copy(update=facts) for key, entry in entries.items()})
        content = _Content(files=self.files).model_dump_json(indent=1)
        write_text(self._lake.inbox_memory, content + "\n", self._lake.staging)


def hashed_name(lake: Lake, name: str) -> str:
    """A keyed hash that stands for the name of a file, which may be that of a person and is not kept."""
    secret = lake.file.split_key.encode()[:64]
    return hashlib.blake2b(name.encode(errors="surrogateescape"), key=secret, digest_size=10).hexdigest()
