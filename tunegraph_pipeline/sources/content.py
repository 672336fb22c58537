"""The content of a file: its bytes unpacked, its text as UTF-8, its JSON as Python objects.

Here: opening, compression, zip archives of one file, encodings, and JSON. Not here: what the content means
(`formats`), or zips of a person's data (`account_export`, `archives`).
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import NestingError, check_nesting
from tunegraph_pipeline.sources.limits import beyond, check_document, check_unpacked, limits, open_regular

_STEP = 1 << 22
"""Bytes unpacked at a time."""

_DAMAGE = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    pa.ArrowException,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    ValueError,
    LookupError,
)
"""What unpacking raises for damaged data."""

_PACKED: dict[bytes, tuple[str, Callable[[io.BytesIO], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda data: gzip.GzipFile(fileobj=data)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zstandard", lambda data: pa.CompressedInputStream(data, "zstd")),
}
"""Compressions by the first bytes of a file: their names, and what opens them."""
WORKBOOK_MEMBERS = frozenset({"xl/workbook.xml", "content.xml"})
"""The members that tell a spreadsheet of Excel or LibreOffice from other zips."""


class Content(NamedTuple):
    """The bytes of a file, unpacked, and the name it has inside its archive, or its own without the ending
    of a compression."""

    data: bytes
    name: str


def read_content(path: Path) -> Content:
    """The content of ``path``, unpacked if it is gzip, bzip2, xz, zstandard or a zip of one file.

    Raises InputError if it cannot be read, is damaged, empty or too large.
    """
    try:
        with open_regular(path) as file:
            data = _read_within(file, limits().file_bytes)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limits().file_bytes:
        raise beyond(str(path), "file_bytes", "bytes")
    name = readable_name(path)
    for magic, (kind, opened) in _PACKED.items():
        if data.startswith(magic):
            data = _unpacked(data, path, kind, opened)
            name = re.sub(r"\.(gz|gzip|bz2|xz|zst|zstd)$", "", name, flags=re.IGNORECASE)
            break
    if is_zip(data) and not is_workbook(data):
        data, name = only_member(data, path)
        if is_zip(data) and not is_workbook(data):
            raise InputError(f"{path} holds another archive, {name}; unpack it and give that")
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise InputError(f"{path} is empty; give a file with at least one row")
    return Content(data, name)


def _read_within(file: io.FileIO, most: int) -> bytes:
    """The bytes of a file; of a longer one the first ``most``, and some more."""
    parts, size = [], 0
    while size <= most and (part := file.read(_STEP)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def readable_name(path: Path) -> str:
    """The name of a file as valid UTF-8: bytes that are not text are escaped, as in ``caf\\xe9.csv``."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def is_zip(data: bytes) -> bool:
    """Whether bytes start as a zip archive does, be it of one file, of many, or a spreadsheet."""
    return data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_hidden(path: str) -> bool:
    """Whether a file in an archive is one that the system keeps beside those of the user."""
    parts = re.split(r"[/\\\\]", path)
    return "__MACOSX" in parts or (parts[-1].startswith(".") and not parts[-1].startswith(".scrobbler"))


def is_workbook(data: bytes) -> bool:
    """Whether a zip is a spreadsheet of Excel or LibreOffice."""
    try:
        return not WORKBOOK_MEMBERS.isdisjoint(zipfile.ZipFile(io.BytesIO(data)).namelist())
    except _DAMAGE:
        return False


def _unpacked(data: bytes, path: Path, kind: str, opened: Callable[[io.BytesIO], Any]) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        with opened(io.BytesIO(data)) as stream:
            while part := stream.read(_STEP):
                size += len(part)
                check_unpacked(str(path), len(data), size)
                parts.append(part)
    except _DAMAGE as error:
        raise InputError(f"{path} is a truncated or damaged {kind} file; fetch it again") from error
    return b"".join(parts)


def only_member(data: bytes, path: Path) -> Content:
    """The only file of a zip archive, those of the system left out. Raises InputError if there are several or
    none, or it is damaged, encrypted or too large."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = [one for one in archive.infolist() if not one.is_dir() and not is_hidden(one.filename)]
    except _DAMAGE as error:
        raise InputError(f"{path} is a truncated or damaged zip archive; download it again") from error
    if any(one.filename.startswith("Takeout/") for one in members) and len(members) > 1:
        raise InputError(
            f"{path} is a Google Takeout without a list of likes; choose YouTube and YouTube Music there,"
            " with playlists and music library songs"
        )
    if len(members) != 1:
        raise InputError(
            f"{path} is a zip archive of {len(members):,} files, and no account export that is known; unpack"
            " it and give the files with likes"
        )
    [member] = members
    if member.flag_bits & 0x1:
        raise InputError(f"{path} is encrypted; unpack it with its password and give the file in it")
    content = _unpacked(data, path, "zip", lambda _: archive.open(member))
    return Content(content, re.split(r"[/\\]", member.filename)[-1])


# --- text --------------------------------------------------------------------------------------------------

_SAMPLE_BYTES = 1 << 18
"""So much of a text shows whether it is binary."""

BINARY = "{where} is a binary file of no known format; give text, JSON, xlsx or parquet"

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)


class Text(NamedTuple):
    """Text as UTF-8 without a byte order mark. ``encoding`` is what it was written in, ``""`` for UTF-8; it
    is a guess if ``guessed``."""

    data: bytes
    encoding: str = ""
    guessed: bool = False


def as_utf8(data: bytes, where: str) -> Text:
    """Text of any usual encoding as UTF-8: by its byte order mark, by zero bytes (UTF-16), by being valid
    UTF-8, or else by a guess from the first lines that are not ASCII.

    Raises InputError for a binary file, and for text that is damaged or in no known encoding.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding, where)
    sample = data[:_SAMPLE_BYTES]
    if b"\x00" in sample:
        zeros = [sample[start::2].count(0) / max(1, len(sample[start::2])) for start in (0, 1)]
        if max(zeros) > 0.4 and min(zeros) < 0.1:
            return _decoded(data, "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be", where)
        raise InputError(BINARY.format(where=where))
    return _guessed(data, where) if _first_bad_row(data) is not None else Text(data)


def _decoded(data: bytes, encoding: str, where: str) -> Text:
    """Text after a byte order mark, or with the zero bytes of UTF-16."""
    if encoding == "utf-8":
        if (row := _first_bad_row(data)) is not None:
            raise InputError(f"{where} is not the UTF-8 text its first bytes say (row {row})")
        return Text(data)
    try:
        text = data.decode(encoding)
        _check_readable(text, where)
        return Text(text.encode(), encoding.upper())
    except UnicodeError as error:
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise InputError(f"{where} is truncated or damaged {name} text; save it as UTF-8") from error


_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝœŒšŠžŽ’‘“”–—…·°¿¡«»€£´")


def _guessed(data: bytes, where: str) -> Text:
    """Text that is not UTF-8: Windows-1252 if its letters make sense in it, else what charset-normalizer says
    of the first lines that are not ASCII."""
    lines = [line[:_SAMPLE_BYTES] for line in _lines_not_ascii(data)]
    encoding = "cp1252" if _reads_as_western(lines) else _detected(lines)
    try:
        text = data.decode(encoding)
        written = text.encode()  # some encodings give half a surrogate pair
    except (UnicodeError, LookupError):
        row = _first_bad_row(data) or 1
        raise InputError(f"{where} is text in no known encoding (row {row}); save it as UTF-8") from None
    _check_readable(text, where)
    return Text(written, encoding, guessed=True)


def _lines_not_ascii(data: bytes) -> list[bytes]:
    """The first lines that are not ASCII."""
    every = (found[0] for found in re.finditer(rb"[^\r\n]+", data))
    return list(islice((line for line in every if not line.isascii()), 2_000))


def _check_readable(text: str, where: str) -> None:
    """Raise InputError for bytes that only chance made text: control characters, or runs of 255."""
    sample = text[:_SAMPLE_BYTES]
    if any(ord(letter) < 32 and letter not in "\t\r\n\f\v" for letter in sample) or "ÿÿÿ" in sample:
        raise InputError(BINARY.format(where=where))


_KANA = re.compile(r"[\u3040-\u30ff]")


def _detected(lines: list[bytes]) -> str:
    """The encoding that charset-normalizer finds, or Japanese if kana prove it."""
    try:
        japanese = b"\n".join(lines).decode("cp932")
    except UnicodeDecodeError:
        japanese = ""
    strange = [letter for letter in japanese if not letter.isascii()]
    # Few lines are not enough for statistics, but kana are written in no other encoding by chance.
    if strange and 5 * len(_KANA.findall(japanese)) > len(strange):
        return "cp932"
    from charset_normalizer import from_bytes

    found = from_bytes(b"\n".join(lines), cp_exclusion=["utf_16", "utf_32", "utf_7"]).best()
    return "cp1252" if found is None else found.encoding


def _reads_as_western(lines: list[bytes]) -> bool:
    """Whether lines are words with Western letters in Windows-1252."""
    try:
        text = b"\n".join(lines).decode("cp1252")
    except UnicodeDecodeError:
        return False
    strange = [letter for letter in text if not letter.isascii()]
    in_words = not re.search(r"[^\x00-\x7f]{3}", text)
    return in_words and sum(letter in _WESTERN for letter in strange) >= 0.9 * len(strange)


def _first_bad_row(data: bytes) -> int | None:
    """The number of the first line that is not UTF-8, from 1; None without one."""
    try:
        if not data.isascii():  # many times faster than decoding
            data.decode()
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1
    return None


# --- JSON --------------------------------------------------------------------------------------------------


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape of half a surrogate pair, perhaps beside the other half."""


def parse_json(data: bytes, where: str, fields: Collection[str] | None = None, remedy: str = "") -> Any:
    """A JSON document in UTF-8, its objects reduced to ``fields`` as they are parsed, if given. Half a
    surrogate pair, which JSON may escape and no text may have, becomes a question mark.

    Raises InputError, ending in ``remedy``, if it is damaged, not UTF-8, nested too deep, or has a number too
    long to read.
    """
    reduce = None if fields is None else lambda pairs: {key: value for key, value in pairs if key in fields}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{where} is not UTF-8 text (row {row}){remedy or '; save it as UTF-8'}") from error
    check_document(data, where, b"{", b"[")
    try:
        check_nesting(data, limits().levels)
        value = json.loads(text, object_pairs_hook=reduce)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is damaged or truncated JSON (line {error.lineno}, column {error.colno}: {error.msg})"
            + remedy
        ) from error
    except NestingError as error:
        raise InputError(
            f"{where} is JSON nested too deep to be a list of likes: more than {limits().levels} levels"
            f" (imports.levels){remedy}"
        ) from error
    except ValueError as error:
        raise InputError(f"{where} is JSON with a number too long to read{remedy}") from error
    if _SURROGATE.search(data):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return value
