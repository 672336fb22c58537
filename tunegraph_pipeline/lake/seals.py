"""Seals: a checksum of a whole file, written into that very file.

Here: sealing parquet files, JSON documents and the names in ``CURRENT``, and comparing a seal with what it
seals. Not here: who writes or reads those files. The standard library alone: bundles are read with this.

A seal inside the file is there exactly when the file is, whatever kills a writer, and is copied and moved
with it. Readers that know nothing of it skip it:

- **parquet**: 48 bytes between the last page and the footer, where a reader never looks: a mark, a checksum
  of the footer, and one of all that comes before. That of the footer is compared wherever it alone is read.
- **JSON**: the last member ``checksum`` of the object, of the bytes before it.
- **CURRENT**: a CRC-32 after the name, a blank or a line break for each bit: whoever strips the text, as all
  readers do, SQL included, reads the name alone.

Files without a seal are of earlier versions, or of other hands, and are read like before.
"""

import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any, BinaryIO

BROKEN = "it does not match its checksum"
_MARK = b"\xf5\xf6tunegraph seal"
"""No valid UTF-8, so no text in a file has it."""
_DIGEST = 16
_SEAL = len(_MARK) + 2 * _DIGEST
_ENDING = 8
"""The bytes after a footer of parquet: its length and the magic number."""
_BLOCK = 1 << 20
_IN_JSON = re.compile(rb',?\s*"checksum": "([0-9a-f]{32})"\s*}\s*\Z')
_IN_NAME = str.maketrans("01", " \n")
_MOST_REMEMBERED = 100_000
_whole: dict[tuple[str, int, int, int], bool] = {}
"""The files that this process found whole (path, size, time of the last change, inode): have they a seal?"""


# --- any file of a kind that has seals ---


def is_sealed(path: Path) -> bool:
    """Whether a readable file of a lake has a seal: a parquet file, a JSON document, a log of one JSON
    document a line, or ``CURRENT``. Raises as the functions below."""
    if path.suffix == ".parquet":
        return check_parquet(path)
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        documents = [data] if path.suffix == ".json" else data.splitlines()
        return all(keeps_seal(one) is not None for one in documents)
    return data != f"{read_name(data.decode())}\n".encode()


def seal(path: Path) -> None:
    """Put a seal into a file without one that nobody reads yet. Raises as the functions below."""
    if path.suffix == ".parquet":
        seal_parquet(path)
    elif path.suffix == ".json":
        path.write_text(sealed_json(path.read_text("utf-8")), "utf-8")
    elif path.suffix == ".jsonl":
        lines = [
            sealed_json(json.dumps(read_json(one), ensure_ascii=False))
            for one in path.read_bytes().splitlines()
        ]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    else:
        path.write_text(sealed_name(read_name(path.read_text())))


# --- parquet ---


def seal_parquet(path: Path) -> None:
    """Put a seal into a parquet file that nobody reads yet, in place of an earlier one. Raises ValueError
    where it has no footer."""
    with path.open("r+b") as file:
        start, footer = _footer(file)
        file.seek(max(start - _SEAL, 0))
        if file.read(len(_MARK)) == _MARK:
            start -= _SEAL
        body = _hash(file, start)
        file.seek(start)
        file.write(_MARK + _digest(footer) + body + footer)
        file.truncate()


def check_parquet(path: Path) -> bool:
    """Compare a parquet file with its seal, once a process; whether it has one. Raises ValueError where they
    differ, OSError where it cannot be read."""
    stat = path.stat()
    known = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if known in _whole:
        return _whole[known]
    with path.open("rb") as file:
        start, footer = _footer(file)
        seal = _seal_of(file, start)
        if seal is None:
            _refuse_hidden_seal(file)
        elif seal != _digest(footer) + _hash(file, start - _SEAL):
            raise ValueError(BROKEN)
    if len(_whole) >= _MOST_REMEMBERED:
        _whole.clear()
    _whole[known] = seal is not None
    return _whole[known]


def check_footer(path: Path) -> None:
    """Compare the footer of a parquet file with its seal, if it has one. Raises as :func:`check_parquet`."""
    with path.open("rb") as file:
        start, footer = _footer(file)
        seal = _seal_of(file, start)
        if seal is not None and seal[:_DIGEST] != _digest(footer):
            raise ValueError(BROKEN)


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and all bytes from there."""
    size = file.seek(0, 2)
    file.seek(max(size - _ENDING, 0))
    ending = file.read()
    start = size - _ENDING - int.from_bytes(ending[:4], "little")
    if ending[4:] != b"PAR1" or start < 4:
        raise ValueError("it is cut short, or no parquet file")
    file.seek(start)
    return start, file.read()


def _seal_of(file: BinaryIO, start: int) -> bytes | None:
    """The two checksums before a footer that begins at ``start``; None where there is no seal."""
    if start < _SEAL:
        return None
    file.seek(start - _SEAL)
    seal = file.read(_SEAL)
    return seal[len(_MARK) :] if seal.startswith(_MARK) else None


def _refuse_hidden_seal(file: BinaryIO) -> None:
    """Raise ValueError where a file has a seal elsewhere, as the length of its footer is wrong."""
    file.seek(0)
    before = b""
    while block := file.read(_BLOCK):
        if _MARK in before + block:
            raise ValueError(BROKEN)
        before = block[-len(_MARK) :]


def _hash(file: BinaryIO, length: int) -> bytes:
    """The checksum of the first bytes of a file."""
    digest = hashlib.sha256()
    file.seek(0)
    while length and (block := file.read(min(length, _BLOCK))):
        digest.update(block)
        length -= len(block)
    return digest.digest()[:_DIGEST]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST]


# --- JSON ---


def sealed_json(text: str) -> str:
    """An object, as `json.dumps` gives it, with its seal; one of several lines ends with a line break."""
    body = text.rstrip().removesuffix("}").rstrip()
    before, after = ("\n ", "\n}\n") if "\n" in body else (" ", "}")
    comma = "" if body == "{" else ","
    return f'{body}{comma}{before}"checksum": "{_digest(body.encode()).hex()}"{after}'


def read_json(data: bytes) -> Any:
    """What :func:`sealed_json` or any other JSON says, without its seal. Raises ValueError where it is no
    JSON, or differs from its seal."""
    kept = keeps_seal(data)
    said = json.loads(data)
    if kept is False or (isinstance(said, dict) and said.pop("checksum", None) is not None and not kept):
        raise ValueError(BROKEN)
    return said


def without_seal(data: bytes) -> bytes:
    """A JSON document without its seal, right or wrong; anything else as it is."""
    try:
        said = json.loads(data)
    except ValueError:
        return data
    if not isinstance(said, dict) or said.pop("checksum", None) is None:
        return data
    return json.dumps(said).encode()


def keeps_seal(data: bytes) -> bool | None:
    """Whether a JSON document is as it was sealed; None where it has no seal."""
    found = _IN_JSON.search(data)
    return None if found is None else found[1].decode() == _digest(data[: found.start()]).hex()


# --- names ---


def sealed_name(name: str) -> str:
    """The text of a file that names a version, with its seal."""
    return f"{name}\n" + f"{zlib.crc32(name.encode()):032b}".translate(_IN_NAME)


def read_name(text: str) -> str:
    """The name in what :func:`sealed_name` gave, or in a file without a seal. Raises ValueError where it
    differs from its seal."""
    name = text.strip()
    sealed = len(text) > len(name) + 2
    if (sealed and text != sealed_name(name)) or any(map(str.isspace, name)):
        raise ValueError(BROKEN)
    return name
