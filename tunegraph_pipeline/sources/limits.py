"""How much of a file is read: limits that keep one small file from filling the memory.

Here: the limits, which of them are in force, the errors that name them, and opening regular files alone. Not
here: what is counted, which each reader does for its own kind of file.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import FileIO
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError, TuneGraphError


class ImportLimits(BaseModel):
    """What a file to import may hold, section ``imports`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_bytes: int = Field(default=4 << 30, ge=1)
    """Bytes of a file once it is unpacked, and of the table that it becomes."""
    document_bytes: int = Field(default=1 << 30, ge=1)
    """Bytes of a document that is read as a whole: JSON, XML, a playlist."""
    member_bytes: int = Field(default=1 << 28, ge=1)
    """Bytes of one file in a zip of somebody's data."""
    export_bytes: int = Field(default=1 << 31, ge=1)
    """Bytes of all files that are read of such a zip."""
    ratio: int = Field(default=100, ge=1)
    """How many times longer than packed the content may be, from 64 MiB on."""
    rows: int = Field(default=100_000_000, ge=1)
    """Rows of a table."""
    columns: int = Field(default=2_000, ge=1)
    """Columns of a table."""
    objects: int = Field(default=10_000_000, ge=1)
    """Objects and lists of a JSON document, elements of an XML one, lines of a playlist."""
    members: int = Field(default=10_000, ge=1)
    """Files in an archive or a folder."""
    levels: int = Field(default=100, ge=1, le=300)
    """How deep JSON and XML may nest."""
    line_bytes: int = Field(default=16 << 20, ge=1)
    """Bytes of one line of a table, or of one cell."""


SMALL_BYTES = 1 << 26
"""Content up to this length, 64 MiB, may be packed as tightly as it likes."""

_DEFAULTS = ImportLimits()
_in_force: ContextVar[ImportLimits] = ContextVar("limits", default=_DEFAULTS)


def limits() -> ImportLimits:
    """The limits in force: the defaults, unless `limited_by` says otherwise."""
    return _in_force.get()


@contextmanager
def limited_by(settings: ImportLimits) -> Iterator[None]:
    """Read files by these limits in the block."""
    token = _in_force.set(settings)
    try:
        yield
    finally:
        _in_force.reset(token)


def beyond(where: str, setting: str, what: str) -> InputError:
    """The error for a file that is beyond the limit ``setting``, which counts ``what``."""
    most = getattr(limits(), setting)
    return InputError(
        f"{where} has more than {most:,} {what}, the limit; split it, or raise imports.{setting} in the"
        " settings of lake.json if you trust it"
    )


def check_unpacked(where: str, packed: int, unpacked: int) -> None:
    """Raise InputError if ``packed`` bytes became too many ``unpacked`` ones, so far or in all."""
    if unpacked > limits().file_bytes:
        raise beyond(where, "file_bytes", "bytes unpacked")
    if unpacked > max(SMALL_BYTES, packed * limits().ratio):
        raise beyond(where, "ratio", "times as many bytes unpacked as packed")


def check_document(data: bytes, where: str, *starts: bytes) -> None:
    """Raise InputError for a document that is too long, or has too many of the marks ``starts``."""
    if len(data) > limits().document_bytes:
        raise beyond(where, "document_bytes", "bytes in one document")
    if sum(data.count(start) for start in starts) > limits().objects:
        raise beyond(where, "objects", "objects, elements or lines in one document")


def longest_line(data: bytes) -> int:
    """The number of bytes of the longest line."""
    longest, start = 0, 0
    while start < len(data) - longest:
        # Looks back from where a longer line would have to reach.
        end = max(data.rfind(mark, start, start + longest + 1) for mark in (b"\n", b"\r"))
        if end < 0:
            ends = [at for mark in (b"\n", b"\r") if (at := data.find(mark, start + longest)) >= 0]
            end = min(ends, default=len(data))
            longest = max(longest, end - start)
        start = end + 1
    return longest


def check_lines(data: bytes, where: str) -> int:
    """The length of the longest line, in bytes. Raises InputError if it is too long, or there are too many
    lines."""
    longest = longest_line(data)
    if longest > limits().line_bytes:
        raise beyond(where, "line_bytes", "bytes in one line")
    if data.count(b"\n") > limits().rows:
        raise beyond(where, "rows", "rows")
    return longest


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, unbuffered. Raises InputError for a pipe, a device or a folder, which are
    never waited for; OSError as `open` does."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder; give a file")
        raise InputError(f"{path} is a pipe or device, which is read once; write it into a file first")
    return FileIO(handle, "rb")


@contextmanager
def file_errors(where: str) -> Iterator[None]:
    """Turn whatever reading a file raises into an InputError of one line that names it, so that one file does
    not stop the others."""
    try:
        yield
    except TuneGraphError:
        raise
    except MemoryError as error:
        raise InputError(f"{where} takes more memory than there is; split it, or free some") from error
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # polars panics with one that is no Exception
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise InputError(
            f"{where} cannot be read ({type(error).__name__}{': ' if reason else ''}{reason}); save it again,"
            " or in another format"
        ) from error
