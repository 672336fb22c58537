"""Read one file: its container decides which of the other readers gets its content.

Here: from a path or bytes to readings. Not here: unpacking (`content`), zips of several files (`archives`),
the readers themselves (`table_reading`, `text_shapes`, `documents`), or which files belong together
(`file_groups`).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import check_nesting
from tunegraph_pipeline.sources import documents, json_documents, playlists, xml_documents
from tunegraph_pipeline.sources.columns import recognise
from tunegraph_pipeline.sources.content import BINARY, as_utf8, is_workbook, parse_json, read_content
from tunegraph_pipeline.sources.limits import beyond, check_document, check_lines, limits
from tunegraph_pipeline.sources.raw_tables import TooWideError, lines_of_json, parquet_table
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows_by_role import read_document
from tunegraph_pipeline.sources.spreadsheets import sheets
from tunegraph_pipeline.sources.table_reading import read_table
from tunegraph_pipeline.sources.text_shapes import read_lines

_UNREADABLE = (b"\xd0\xcf\x11\xe0", b"%PDF", b"\x89PNG", b"GIF8", b"\xff\xd8\xff")
"""How old spreadsheets, PDF documents and images begin."""
_M3U_NAME = re.compile(r"\.m3u8?$", re.IGNORECASE)
_LINK = re.compile(rb"<(https?|spotify):")
_IDOMAAR = re.compile(rb"(event\.\w+|preference|playlist|track|user)\t\d+\t[-\d]*\t\{")


def read_file(path: Path, given: Given) -> list[Reading]:
    """What ``path`` holds: one reading, or one for each sheet of a spreadsheet that has songs.

    Raises InputError if the file is damaged, of no known format, or not of the format named.
    """
    content = read_content(path)
    return read_bytes(content.data, content.name, str(path), given)


def read_bytes(data: bytes, name: str, where: str, given: Given) -> list[Reading]:
    """As `read_file`, for content that is in memory already.

    ``name`` is that of the file, which may tell its format; ``where`` names it in messages.
    """
    if data.startswith(b"PAR1"):
        given.check_container("parquet", where)
        return [read_table(parquet_table(data, where), name, where, given)]
    if is_workbook(data):
        given.check_container("xlsx", where)
        return _read_sheets(data, where, given)
    if data.startswith(_UNREADABLE):
        raise InputError(BINARY.format(where=where))
    if data.startswith(b"bplist00"):
        check_document(data, where)
        return [_read_document(xml_documents.read_plist(data, where), name, where, given)]
    text = as_utf8(data, where)
    reading = _read_text(text.data, name, where, given)
    if text.encoding:
        how = "guessed to be " if text.guessed else ""
        reading.notes.insert(0, f"the text is {how}{text.encoding}, not UTF-8")
    return [reading]


def _read_sheets(data: bytes, where: str, given: Given) -> list[Reading]:
    found = []
    for sheet, table in sheets(data, where):
        columns = recognise(table, {}, where)
        has_songs = bool({"track_id", "name", "isrc"} & columns.roles.keys() or columns.services)
        if has_songs or given.named:
            found.append(read_table(table, sheet, f"{where}, sheet {sheet}", given))
    lists = [one for one in found if one.format.name == "list" and one.tables[0].means == "likes"]
    lists = lists if all(one.format.name in {"list", "catalogue"} for one in found) else []
    if len(lists) > 1 and given.user_id is None:
        raise InputError(
            f"{where} has several sheets of songs, which may be of several people; save each as a file of its"
            " own, or give --user-id if they are one person's"
        )
    if not found:
        raise InputError(
            f"{where} has no sheet of songs; write track_id, or artist and title, above the columns"
        )
    return found


def _read_document(document: documents.Document, name: str, where: str, given: Given) -> Reading:
    if document.format != "table":
        return read_document(document, where, given)
    if not document.table.names:
        raise InputError(f"{where} has no rows; give a file with at least one row")
    return read_table(document.table, name, where, given)


def _read_text(data: bytes, name: str, where: str, given: Given) -> Reading:
    start = data[:4096].lstrip()
    if start.startswith(b"{\\rtf"):
        raise InputError(f"{where} is a Rich Text document; save it as plain text or CSV")
    if start.startswith((b"{", b"[")):
        return _read_json(data, name, where, given)
    if start.startswith(b"<") and not _LINK.match(start):
        document = xml_documents.read_xml(data, where)
    elif start.upper().startswith(b"#EXTM3U") or _M3U_NAME.search(name):
        check_document(data, where, b"\n", b"\r")
        document = playlists.read_m3u(data.decode(), where)
    elif start.startswith(b"#AUDIOSCROBBLER"):
        check_document(data, where, b"\n", b"\r")
        document = playlists.read_scrobbler_log(data.decode())
    elif _IDOMAAR.match(start):
        check_document(data, where, b"\n", b"\r")
        document = playlists.read_idomaar(data.decode(), where)
    else:
        return read_lines(data, name, where, given)
    return _read_document(document, name, where, given)


# --- JSON --------------------------------------------------------------------------------------------------


def _read_json(data: bytes, name: str, where: str, given: Given) -> Reading:
    """A JSON document, or JSON objects, one per line."""
    first, _, rest = data.strip().partition(b"\n")
    alone = not rest.strip()
    check_document(first, where, b"{", b"[")
    if not alone:
        try:
            check_nesting(first, limits().levels)
            parsed = json.loads(first)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            return _read_json_lines(data, parsed, name, where, given)
    document = parse_json(data, where)
    if alone and isinstance(document, dict) and _is_row(document):
        return _read_json_lines(data, document, name, where, given)
    given.check_container("json", where)
    return _read_document(_parsed_document(document, where), name, where, given)


def _parsed_document(document: object, where: str) -> documents.Document:
    try:
        return json_documents.read_json(document, where)
    except TooWideError:
        raise beyond(where, "columns", "columns") from None


def _is_row(document: Mapping[str, object]) -> bool:
    """Whether one object is a table of one line: no value is a list or an object."""
    return bool(document) and not any(isinstance(value, dict | list) for value in document.values())


def _read_json_lines(
    data: bytes, first: Mapping[str, object], name: str, where: str, given: Given
) -> Reading:
    given.check_container("ndjson", where)
    if not any(isinstance(value, dict) for value in first.values()):
        return read_table(lines_of_json(data, where), name, where, given)
    check_lines(data, where)
    check_document(data, where, b"{", b"[")
    lines = enumerate(data.split(b"\n"), start=1)
    rows = [parse_json(line, f"{where}, line {number}") for number, line in lines if line.strip()]
    return _read_document(_parsed_document(rows, where), name, where, given)
