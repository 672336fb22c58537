"""Files that unpack without end, or never end: each is refused in one line that names the limit and its
setting, in little memory and at once."""

import bz2
import gzip
import io
import json
import lzma
import os
import resource
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline.sources.limits import ImportLimits, file_errors, limited_by, longest_line
from tunegraph_pipeline.sources.user_ids import read_user_ids

HEADER = b"user_id,track_id\n"
MEMORY = 1 << 31
"""Bytes of address space for a process that refuses a bomb; Python and its libraries take half of it."""


def _workbook(sheet: str, strings: str = "", name: str = "xl/worksheets/sheet1.xml") -> bytes:
    """The smallest xlsx file that has this sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets><sheet name="a" sheetId="1" r:id="rId1"/>'
            "</sheets></workbook>",
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship'
            f' Id="rId1" Type="{relation}/worksheet" Target="{name.removeprefix("xl/")}"/></Relationships>',
        )
        book.writestr(name, f'<worksheet xmlns="{main}"><sheetData>{sheet}</sheetData></worksheet>')
        if strings:
            book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{main}">{strings}</sst>')
    return sink.getvalue()


def _far_apart() -> bytes:
    """An xlsx file of two cells with 17 thousand million between them."""
    cell = '<c r="{0}" t="inlineStr"><is><t>track_id</t></is></c>'
    return _workbook(
        f'<row r="1">{cell.format("A1")}</row><row r="1048576">{cell.format("XFD1048576")}</row>'
    )


def _repeated_text() -> bytes:
    """An xlsx file of one text of 30 kB in 200,000 cells: 6 GB."""
    rows = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(1, 200_001))
    return _workbook(rows, f"<si><t>{os.urandom(15_000).hex()}</t></si>")


def _repeated_rows() -> bytes:
    """A LibreOffice file of one row, repeated a million times, of a cell repeated 16,000 times."""
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    table = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
    cell = (
        '<table:table-cell office:value-type="string" office:string-value="a"'
        ' table:number-columns-repeated="16384"/>'
    )
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{office}" xmlns:table="{table}"><office:body>'
            '<office:spreadsheet><table:table table:name="a"><table:table-row'
            f' table:number-rows-repeated="1048576">{cell}</table:table-row></table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return sink.getvalue()


def _same_rows(rows: int) -> bytes:
    """A parquet file of a few kB with so many equal rows."""
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"user_id": pa.nulls(rows, pa.int8()), "track_id": pa.nulls(rows, pa.int8())}), sink
    )
    return sink.getvalue()


def _zip(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("likes.csv", content)
    return sink.getvalue()


LONG = HEADER + b"ann,song\n" * (8 << 20)  # 75 MB, which packs to less than 1 MB

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a.csv.gz": (lambda: gzip.compress(LONG[: 1 << 20], 9) * 70, "ratio"),
    "a.csv.bz2": (lambda: bz2.compress(LONG[: 1 << 20]) * 70, "ratio"),
    "a.csv.xz": (lambda: lzma.compress(LONG[: 1 << 20], preset=1) * 70, "ratio"),
    "a.csv.zst": (lambda: pa.compress(LONG, "zstd", asbytes=True), "ratio"),
    "a.zip": (lambda: _zip(LONG), "ratio"),
    "far.xlsx": (_far_apart, "file_bytes"),
    "texts.xlsx": (_repeated_text, "file_bytes"),
    "rows.ods": (_repeated_rows, "file_bytes"),
    "sheet.xlsx": (lambda: _workbook("<row/>" * (12 << 20)), "ratio"),
    "rows.parquet": (lambda: _same_rows(104_000_000), "rows"),
    "wide.json": (
        lambda: json.dumps([{"user_id": "u", "track_id": "t", str(n): 1} for n in range(9_000)]).encode(),
        "columns",
    ),
    "objects.json": (lambda: b"[" + b"{}," * 11_000_000 + b"{}]", "objects"),
    "elements.xml": (lambda: b"<playlist>" + b"<a/>" * 11_000_000 + b"</playlist>", "objects"),
    "deep.xml": (lambda: b"<playlist>" + b"<a>" * 4_000_000 + b"</a>" * 4_000_000, "levels"),
    "line.csv": (lambda: HEADER + b"ann," + b"x" * (40 << 20), "line_bytes"),
    "deep.json": (lambda: b'{"a":' * 1_500 + b"1" + b"}" * 1_500, "levels"),
    "deep.ndjson": (
        lambda: (
            b'{"user_id":"u","track_id":"t"}\n' * 900
            + b'{"user_id":"u","track_id":"t","x":'
            + b"[" * 99_999
            + b"]" * 99_999
            + b"}\n"
        ),
        "levels",
    ),
}

_IMPORT = """
import sys
from pathlib import Path
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.files import import_files
for name in sys.argv[1:]:
    try:
        import_files([Path(name)])
        print("read")
    except InputError as error:
        print(error)
"""


@pytest.mark.slow
def test_what_unpacks_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """In one process whose memory is limited: a bomb that went off would end it."""
    for name, (content, _) in BOMBS.items():
        (tmp_path / name).write_bytes(content())
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, *(str(tmp_path / name) for name in BOMBS)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        env=os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = dict(zip(BOMBS, done.stdout.splitlines(), strict=True))
    for name, (_, setting) in BOMBS.items():
        assert said[name].startswith(str(tmp_path / name)), said[name]
        assert f"imports.{setting}" in said[name], said[name]


def test_a_line_of_blanks_and_breaks_has_its_length() -> None:
    assert longest_line(b"") == 0
    assert longest_line(b"\n\n\r\n") == 0
    assert longest_line(b"abc\nde\r\nfghij\rk") == 5
    assert longest_line(b"a\n" * 5_000 + b"bcd") == 3


def test_what_is_allowed_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "likes.csv"
    path.write_bytes(HEADER + b"ann,a\nann,b\n")
    with (
        limited_by(ImportLimits(rows=2)),
        pytest.raises(InputError, match=r"more than 2 rows.*imports\.rows"),
    ):
        import_files([path])
    with limited_by(ImportLimits(rows=3)):
        assert len(import_files([path])[0].batch.likes) == 2


def test_users_to_ask_about_are_limited_too(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    pl.DataFrame({"user_id": ["a", "b", "c"]}).write_parquet(path)
    with limited_by(ImportLimits(rows=2)), pytest.raises(InputError, match=r"imports\.rows"):
        read_user_ids(path)


def _special(folder: Path) -> dict[str, Path]:
    """Files that are none, each behind a link too."""
    os.mkfifo(folder / "pipe.csv")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s.csv"))
    listener.close()
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    (folder / "zero.csv").symlink_to("/dev/zero")
    (folder / "link.csv").symlink_to(folder / "pipe.csv")
    found = {path.name: path for path in folder.iterdir()}
    return found | {"zero": Path("/dev/zero")}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    for path in _special(tmp_path).values():
        for read in (lambda one: import_files([one]), read_user_ids):
            with pytest.raises(InputError) as refused:
                read(path)
            assert str(path) in str(refused.value)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "error",
    [RecursionError("too deep"), MemoryError(), ValueError("a\nb"), pl.exceptions.PanicException("x")],
)
def test_whatever_a_file_raises_is_one_line(error: BaseException) -> None:
    with pytest.raises(InputError, match=r"^likes\.csv .+; .+$") as refused, file_errors("likes.csv"):
        raise error
    assert "\n" not in str(refused.value)
