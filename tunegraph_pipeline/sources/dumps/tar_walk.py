"""The members of an uncompressed tar, by reading its headers alone.

Here: one header after another, given a function that reads. Not here: where the bytes come from (`archive`,
`published`).
"""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from tunegraph_pipeline.words import counted

_BLOCK = tarfile.BLOCKSIZE
_LARGEST_HEADER = 1 << 20  # of a header before a header; a longer one is no name of a member

Read = Callable[[int, int], bytes]
"""Gives a number of bytes from an offset on."""


class NoTarError(ValueError):
    """What was read is no header of a tar."""


@dataclass(frozen=True)
class Member:
    """A file in the archive: its name, and where its bytes are."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def next_member(read: Read, size: int, after: Member | None) -> Member | None:
    """The file that comes ``after`` another in a tar of ``size`` bytes, or the first one; None at the end.
    Raises NoTarError."""
    at = 0 if after is None else padded(after.end)
    name, length = "", -1  # as a pax or GNU header before the member's own says
    while at + _BLOCK <= size:
        block = read(at, _BLOCK)
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise NoTarError(f"byte {at:,}: {error}") from None
        at += _BLOCK
        if header.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if not 0 < header.size <= _LARGEST_HEADER:
                raise NoTarError(f"byte {at:,}: a header of {counted(header.size, 'byte')}")
            said = read(at, header.size)
            at = padded(at + header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = said.rstrip(b"\0").decode(errors="surrogateescape")
            else:
                name, length = _pax(said, name)
            continue
        size_of_it = header.size if length < 0 else length
        if header.isreg():
            return Member(name or header.name, at, size_of_it)
        name, length = "", -1
        at = padded(at + size_of_it)
    return None


def padded(at: int) -> int:
    """Where the block begins that is at or after a byte."""
    return -(-at // _BLOCK) * _BLOCK


def _pax(said: bytes, name: str) -> tuple[str, int]:
    """The name and the size that a pax header gives: lines of "length field=value"; -1 without a size."""
    length = -1
    while said:
        digits, _, _ = said.partition(b" ")
        if not digits.isdigit() or not 0 < int(digits) <= len(said):
            raise NoTarError("a pax header that cannot be read")
        line, said = said[: int(digits)], said[int(digits) :]
        field, _, value = line[len(digits) + 1 :].removesuffix(b"\n").partition(b"=")
        if field == b"path":
            name = value.decode(errors="surrogateescape")
        elif field == b"size" and value.isdigit():
            length = int(value)
    return name, length
