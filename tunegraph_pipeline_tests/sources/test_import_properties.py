"""What holds for every file: likes read back as they were written, nothing but users becomes a user, and no
damage does more than one line says."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.sources.cells import NO_IDS
from tunegraph_pipeline.sources.columns import COLUMN_NAMES
from tunegraph_pipeline.sources.file_import import FileImport
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline.sources.names import letters
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.sources.test_formats import CASES, Case, songs

_TMP = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def _zip(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("folder/likes", data)
    return sink.getvalue()


Quoted = Literal["necessary", "always"]
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": _zip,
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
CONTAINERS = (",", ";", "\t", "|", "parquet", "lines of JSON", "rows of JSON", "columns of JSON")

ids = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z", "Cn")), min_size=1, max_size=8
)
ids = ids.filter(lambda text: not {":", "/"} & set(text) and text not in NO_IDS)
ids |= st.integers(0, 10**12).map(str) | st.sampled_from(["1.0", "007", 'a"b', "x,y", "a;b", "a|b"])


def _written(rows: list[tuple[str, str]], container: str, header: tuple[str, str], quoted: Quoted) -> bytes:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
    sink = io.BytesIO()
    if container == "parquet":
        frame.write_parquet(sink)
    elif container == "lines of JSON":
        frame.write_ndjson(sink)
    elif container == "rows of JSON":
        sink.write(json.dumps(frame.to_dicts(), ensure_ascii=False).encode())
    elif container == "columns of JSON":
        sink.write(json.dumps(frame.to_dict(as_series=False)).encode())
    else:
        frame.write_csv(sink, separator=container, quote_style=quoted)
    return sink.getvalue()


@settings(max_examples=examples(200), suppress_health_check=_TMP, deadline=None)
@given(
    rows=st.lists(st.tuples(ids, ids), min_size=1, max_size=12),
    container=st.sampled_from(CONTAINERS),
    header=st.sampled_from([("user_id", "track_id"), ("User ID", "trackId"), ("playlist_id", "item_id")]),
    quoted=st.sampled_from(["necessary", "always"]),
    encoding=st.sampled_from(ENCODINGS),
    packing=st.sampled_from(sorted(PACKINGS)),
)
def test_likes_are_read_back_as_they_were_written(
    rows: list[tuple[str, str]],
    container: str,
    header: tuple[str, str],
    quoted: Quoted,
    encoding: str,
    packing: str,
    tmp_path: Path,
) -> None:
    data = _written(rows, container, header, quoted)
    if container != "parquet":
        data = data.decode().encode(encoding)
    path = tmp_path / "likes"
    path.write_bytes(PACKINGS[packing](data))
    [one] = import_files([path])
    expected = {(composed(user), composed(track)) for user, track in rows}
    assert set(one.batch.likes.select("user_id", "track_id").iter_rows()) == expected
    assert len(one.batch.likes) == len(expected)
    assert not len(one.batch.feedback)


@pytest.mark.parametrize(
    "encoding", ["cp1252", "cp1251", "cp1253", "shift_jis", "euc_kr", "gb18030", "mac_roman"]
)
def test_text_of_other_encodings_is_read_and_the_guess_is_told(encoding: str, tmp_path: Path) -> None:
    words = {
        "cp1252": "Björk Sigur Rós Mötley Crüe naïve façade déjà vu",
        "mac_roman": "Björk Sigur Rós Mötley Crüe naïve façade déjà vu",
        "cp1251": "Кино Звезда по имени Солнце Группа крови Сплин Выхода нет",
        "cp1253": "Ελευθερία Αρβανιτάκη Δυνατά Χάρις Αλεξίου Μάνος Χατζιδάκις",
        "shift_jis": "宇多田ヒカル 椎名林檎 東京事変 サカナクション 新宝島",
        "euc_kr": "방탄소년단 봄날 아이유 좋은날 소녀시대 다시만난세계",
        "gb18030": "周杰伦 七里香 邓丽君 月亮代表我的心 王菲",
    }[encoding]
    rows = "".join(f"u{n},s{n},{word}\n" for n, word in enumerate(words.split() * 4))
    path = tmp_path / "likes.csv"
    path.write_bytes(f"user,track_id,title\n{rows}".encode(encoding))
    [one] = import_files([path])
    assert len(one.batch.likes) == 4 * len(words.split())
    if encoding != "mac_roman":  # which nothing tells from Windows-1252 but the sense of the words
        assert one.batch.tracks["name"].to_list() == words.split() * 4
    assert any("guessed to be" in rule for rule in one.rules)


def test_zstandard_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "likes.csv.zst"
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"user,track\nu1,s1\n")
    path.write_bytes(sink.getvalue().to_pybytes())
    [one] = import_files([path])
    assert songs(one.batch.likes) == {"u1": {"s1"}}


def _read_or_refused(path: Path, **options: Any) -> list[FileImport]:
    """What a file becomes, nothing if it is refused in one line that names it or an option."""
    try:
        imports = import_files([path], **options)
    except InputError as error:
        message = str(error)
    else:
        assert imports
        return imports
    assert "\n" not in message
    assert str(path.parent) in message or message.startswith("--")
    assert len(message) < 1_500
    return []


# --- who is a user -----------------------------------------------------------------------------------------

_KINDS: Mapping[str, tuple[str, ...]] = {
    "artist": ("artist", "Artist Name", "Artist Name(s)", "artists", "Künstlername(n)", "アーティスト名"),
    "title": ("title", "Track Name", "song", "track", "Song Title", "Titel", "name"),
    "time": ("added_at", "timestamp", "Added At", "date", "Hinzugefügt am", "time", "played_at"),
    "album": ("album", "Album Name", "release", "Album"),
    "other": ("x", "comment", "rank", "Genres", "Energy", "listeners", "plays_total", "", "Unnamed: 0"),
    "user": ("user", "user_id", "Username", "listener", "playlist_id", "uid"),
}
_CELLS = {
    "artist": ("The Lanterns", "Ida Quist", "Bo Reed"),
    "title": ("Blue Harbour", "Paper Moons", "At Home"),
    "time": ("2023-11-14T22:13:20Z", "2023-11-15T22:13:20Z", "2023-11-16T22:13:20Z"),
    "album": ("Tides", "Paper", "Rooms and Walls"),
    "other": ("4", "9", "2"),
    "user": ("ann", "ben", "cyd"),
}


@settings(max_examples=examples(300), suppress_health_check=_TMP, deadline=None)
@given(
    kinds=st.permutations(sorted(_KINDS)).flatmap(lambda some: st.integers(1, 6).map(lambda n: some[:n])),
    names=st.data(),
    separator=st.sampled_from([",", ";", "\t", "|", ", "]),
    headed=st.booleans(),
)
def test_only_what_a_column_of_users_holds_becomes_a_user(
    kinds: list[str], names: st.DataObject, separator: str, headed: bool, tmp_path: Path
) -> None:
    header = [names.draw(st.sampled_from(_KINDS[kind])) for kind in kinds]
    rows = [[_CELLS[kind][row] for kind in kinds] for row in range(3)]
    path = tmp_path / "any.csv"
    lines = [header, *rows] if headed else rows
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n")
    imports = _read_or_refused(path)
    users = {user for one in imports for user in [*one.batch.likes["user_id"], *one.batch.users["user_id"]]}
    assert users <= {"me", *_CELLS["user"]}
    if "user" not in kinds or not headed:
        assert users <= {"me"}
    names_of = {letters(name) for name in header}
    for track in (track for one in imports for track in one.batch.likes["track_id"]):
        assert letters(track) not in names_of
        assert track not in {*_CELLS["artist"], *_CELLS["time"], *_CELLS["user"], *_CELLS["title"]}


def test_the_names_of_columns_are_written_as_they_are_compared() -> None:
    for names in COLUMN_NAMES.values():
        assert [letters(name) for name in names] == list(names)


# --- damage ------------------------------------------------------------------------------------------------


def _bytes(case: Case) -> bytes:
    return case.content.encode() if isinstance(case.content, str) else case.content


def _damaged(data: bytes, draw: st.DataObject) -> bytes:
    damage = draw.draw(st.sampled_from(["cut", "bytes", "lines", "garbage", "twice"]))
    if damage == "cut":
        return data[: draw.draw(st.integers(0, len(data)))]
    if damage == "garbage":
        at = draw.draw(st.integers(0, len(data)))
        return data[:at] + draw.draw(st.binary(max_size=40)) + data[at:]
    if damage == "twice":
        return data + data
    if damage == "lines":
        lines = data.split(b"\n")
        return b"\n".join(draw.draw(st.permutations(lines[:40])))
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    return bytes(changed)


@settings(max_examples=examples(600), suppress_health_check=_TMP, deadline=None)
@given(case=st.sampled_from(CASES), draw=st.data())
def test_damage_gives_a_summary_or_one_line(case: Case, draw: st.DataObject, tmp_path: Path) -> None:
    data = _damaged(_bytes(case), draw)
    path = tmp_path / case.name
    path.write_bytes(data)
    for one in _read_or_refused(path, **case.options):
        assert any(len(frame) for frame in one.batch.parts().values())
        one.figures()
        assert all(example for example in one.examples())


@settings(max_examples=examples(60), suppress_health_check=_TMP, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=400)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_give_a_summary_or_one_line(data: bytes, tmp_path: Path) -> None:
    assume(data.strip())
    path = tmp_path / "any"
    path.write_bytes(data)
    _read_or_refused(path)
