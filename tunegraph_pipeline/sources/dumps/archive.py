"""An uncompressed tar on a mirror, read by ranges, and what was fetched of it on disk.

Here: the index of its members, small pieces, and whole members or the whole archive, each byte fetched once.
Not here: requests (`mirror`), the form of a tar (`tar_walk`), or what is in a member (`window`, `listens`).

All that was fetched lies in one folder. `archive.json` has the archive's size and marks; if they change, the
folder is emptied, since nothing in it can be trusted to fit what comes. A piece or a file is complete under
its name; `.part` files are begun and continue where they end. So a process may be killed at any byte, and
only what was in flight is fetched again.
"""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import disk_errors, make_folder, sync
from tunegraph_pipeline.sources.dumps.mirror import Identity, Mirror
from tunegraph_pipeline.sources.dumps.tar_walk import Member, NoTarError, Read, next_member, padded


class Archive:
    """The archive at ``path`` of ``mirror``, and what there is of it in ``folder``.

    Opening it asks for its size and marks. What fetches raises what `Mirror.fetch` does.
    """

    def __init__(self, mirror: Mirror, path: str, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.identity = mirror.identity(path)
        self._mirror = mirror
        self._pieces = folder / "pieces"
        self._index = folder / "members.jsonl"
        about = folder / "archive.json"
        with disk_errors(folder):
            if _known(about) != self.identity:
                shutil.rmtree(folder, ignore_errors=True)
                make_folder(folder)
                _replace(about, json.dumps(asdict(self.identity)).encode())
            self._pieces.mkdir(exist_ok=True)
        names = (path.name.split("-") for path in self._pieces.iterdir() if not path.suffix)
        self._header_size = 0
        self._ahead_from, self._ahead = 0, bytearray()
        self._cached = sorted((int(first), int(length)) for first, length in names)

    @property
    def url(self) -> str:
        return f"{self._mirror.url}/{self.path}"

    def read(self, offset: int, length: int) -> bytes:
        """A small piece, kept on disk: it is not fetched again, nor by the download of what contains it."""
        found = bytearray()
        for start, end, known in self._segments(offset, offset + length):
            if known is None:
                piece = bytearray()
                self._fetch(start, end, piece.extend)
                with disk_errors(self._pieces):
                    _replace(self._piece(start, end - start), bytes(piece))
                self._cached = sorted([*self._cached, (start, end - start)])
                found += piece
            else:
                found += known
        return bytes(found)

    def members(self, on_found: Callable[[Member], None] = lambda _: None) -> list[Member]:
        """All members in their order. Walks the headers once; the index is kept. Raises InputError where a
        header cannot be read."""
        members, is_whole = self._known_members()
        for member in members[-1:]:
            on_found(member)
        with disk_errors(self._index), self._index.open("a") as index:
            while not is_whole:
                found = self.member_after(members[-1] if members else None, self._read_ahead)
                index.write(json.dumps(found and asdict(found)) + "\n")
                index.flush()
                if found is None:
                    break
                self._header_size = found.offset - (padded(members[-1].end) if members else 0)
                members.append(found)
                on_found(found)
        return members

    def member_after(self, member: Member | None, read: Read) -> Member | None:
        """The file after ``member`` by the headers that ``read`` gives, or the first one; None at the end.
        Raises InputError where the archive is damaged."""
        try:
            found = next_member(read, self.identity.size, member)
        except NoTarError as error:
            raise InputError(f"{self.url} is no tar archive: {error}") from None
        if found is not None and found.end > self.identity.size:
            raise InputError(
                f"{self.url} ends in the middle of {found.name}: the mirror has a part of it; run it again"
                " later"
            )
        return found

    def download(
        self, start: int, end: int, target: Path, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        """Write the bytes ``start`` to ``end`` (not included) into ``target``, continuing what was begun.
        ``on_bytes`` hears how many came, also of those that were there."""
        if target.exists():
            on_bytes(end - start)
            return
        part = begun(target)
        with disk_errors(target):
            target.parent.mkdir(exist_ok=True)
            with part.open("ab", buffering=0) as file:

                def write(chunk: bytes) -> None:
                    file.write(chunk)
                    on_bytes(len(chunk))

                have = file.tell()
                on_bytes(have)
                for first, last, known in self._segments(start + have, end):
                    if known is None:
                        self._fetch(first, last, write)
                    else:
                        write(known)
            sync(part)
            part.replace(target)

    def clear(self) -> None:
        """Forget all that was fetched."""
        with disk_errors(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _fetch(self, start: int, end: int, write: Callable[[bytes], object]) -> None:
        if end > self.identity.size:
            raise InputError(
                f"{self.url} ends in the middle of a file: the mirror has a part of it; run it again later"
            )
        self._mirror.fetch(self.path, self.identity, start, end, write)

    def _segments(self, start: int, end: int) -> Iterator[tuple[int, int, bytes | None]]:
        """From ``start`` to ``end`` what is on disk as a piece, with its bytes, and what is not."""
        while start < end:
            covering = next(((at, n) for at, n in self._cached if at <= start < at + n), None)
            if covering is None:
                last = min([end, *(at for at, _ in self._cached if at > start)])
                yield start, last, None
            else:
                at, length = covering
                last = min(end, at + length)
                yield start, last, self._piece(at, length).read_bytes()[start - at : last - at]
            start = last

    def _piece(self, offset: int, length: int) -> Path:
        return self._pieces / f"{offset}-{length}"

    def _known_members(self) -> tuple[list[Member], bool]:
        """The members of the index, and whether these are all; a last line that a kill cut off is removed."""
        try:
            lines = self._index.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return [], False
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            _replace(self._index, b"".join(whole))
        found = [json.loads(line) for line in whole]
        return [Member(**one) for one in found if one], None in found

    def _read_ahead(self, offset: int, length: int) -> bytes:
        """A part of a header. They are alike: one request for as much as the last one took."""
        if not self._ahead_from <= offset <= offset + length <= self._ahead_from + len(self._ahead):
            end = min(offset + max(length, self._header_size), self.identity.size)
            self._ahead_from, self._ahead = offset, bytearray()
            self._fetch(offset, end, self._ahead.extend)
        return bytes(self._ahead[offset - self._ahead_from : offset - self._ahead_from + length])


class MemberReader(io.RawIOBase):
    """A member as a file that can be read at any place, by small pieces."""

    def __init__(self, archive: Archive, member: Member) -> None:
        self._archive = archive
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._member.size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        length = max(0, min(len(view), self._member.size - self._at))
        if length:
            view[:length] = self._archive.read(self._member.offset + self._at, length)
        self._at += length
        return length


def _known(about: Path) -> Identity | None:
    try:
        return Identity(**json.loads(about.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def begun(target: Path) -> Path:
    """The file that becomes ``target`` once it is complete."""
    return target.with_name(f"{target.name}.part")


def _replace(target: Path, content: bytes) -> None:
    draft = begun(target)
    draft.write_bytes(content)
    draft.replace(target)
