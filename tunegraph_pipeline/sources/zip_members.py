"""Read the files of a zip archive without unpacking it to disk, and without trusting it.

Here: the checks of an archive's list of members, and reading members within limits. Not here: which members
are wanted (`account_export`, `archives`).
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.content import is_hidden
from tunegraph_pipeline.sources.limits import beyond, limits, open_regular

_STEP = 1 << 20
_LONGEST_READ = 1 << 22  # of an archive at once; a list of 10,000 members takes about one megabyte
# What zipfile raises for damage: its own errors, and those of struct, codecs, zlib and seek.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)


@dataclass(frozen=True)
class Member:
    """A file of somebody's data, in an archive or not. ``where`` names it in messages; ``path`` is its path
    within the archive."""

    where: str
    path: str
    open: Callable[[], IO[bytes]]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return re.split(r"[/\\]", self.path)[-1]


class MemberReader:
    """Reads the files of an import within one limit on their total size."""

    def __init__(self) -> None:
        self._left = limits().export_bytes

    def read(self, member: Member) -> bytes:
        """The content of ``member``, measured as it is read, since an archive may declare wrong sizes.

        Raises InputError if it is damaged or too large.
        """
        most = limits().member_bytes
        parts: list[bytes] = []
        size = 0
        try:
            with member.open() as stream:
                while part := stream.read(_STEP):
                    size += len(part)
                    if size > most:
                        raise beyond(member.where, "member_bytes", "bytes")
                    if size > self._left:
                        raise beyond(member.where, "export_bytes", "bytes with the files before it")
                    parts.append(part)
        except _DAMAGE as error:
            raise InputError(
                f"{member.where} is damaged or unreadable ({shown_name(str(error))}); download the export"
                " again"
            ) from error
        self._left -= size
        return b"".join(parts)


def is_zip_file(path: Path) -> bool:
    """Whether ``path`` begins like a zip archive; False if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}
    except (OSError, InputError):
        return False


class _Archive(BufferedReader):
    """A file that refuses long reads, since opening a zip reads its whole list of members."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LONGEST_READ:
            raise zipfile.BadZipFile("the list of members is too long")
        return super().read(size)


def members_of(path: Path, opened: ExitStack) -> list[Member]:
    """The files in the archive ``path``, sorted by name; ``opened`` closes it.

    Raises InputError if it is damaged, encrypted, has too many files, or has one that is not safe to open.
    """
    try:
        raw = opened.enter_context(_Archive(open_regular(path)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        archive = opened.enter_context(zipfile.ZipFile(raw))
    except Exception as error:  # whatever damage makes of it
        raise InputError(f"{path} is a truncated or damaged zip archive; download it again") from error
    entries = archive.infolist()
    if len(entries) > limits().members:
        raise beyond(str(path), "members", "files")
    members = []
    for entry in _checked(entries, path):
        where = f"{path}: {shown_name(entry.filename)}"
        members.append(Member(where, entry.filename, partial(_opened, archive, entry, where)))
    return sorted(members, key=lambda member: member.where)


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> IO[bytes]:
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InputError(f"{where} has an unknown compression; unpack it and give the folder")
    return archive.open(entry)


def _checked(entries: list[zipfile.ZipInfo], path: Path) -> Iterator[zipfile.ZipInfo]:
    """Yield the files among ``entries`` that are not hidden. Raises InputError as `members_of` does."""
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        parts = re.split(r"[/\\]", name)
        shown = shown_name(name)
        if not parts[0] or ":" in parts[0] or ".." in parts or "\x00" in entry.orig_filename:
            raise InputError(f"{path} has a file {shown} that points outside the archive; it is not opened")
        if name in seen:
            raise InputError(f"{path} has {shown} twice; download it again")
        seen.add(name)
        if entry.is_dir() or is_hidden(name):
            continue
        if entry.flag_bits & 0x1:
            raise InputError(f"{path} is encrypted; unpack it with its password and give the folder")
        yield entry


def shown_name(name: str) -> str:
    """A member's name for a message: on one line, and of a readable length."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= 100 else "..." + text[-97:]
