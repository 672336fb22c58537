"""Dumps of ListenBrainz: the archive read by ranges, the window, and what listens become."""

import io
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dump_server import DumpServer
from tunegraph_pipeline.song_ids import name_id
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.dumps.archive import Archive
from tunegraph_pipeline.sources.dumps.listens import (
    Listens,
    Parts,
    Span,
    UnreadableListensError,
    month_before,
)
from tunegraph_pipeline.sources.dumps.mirror import Mirror, ReplacedFileError
from tunegraph_pipeline.sources.dumps.published import Dump, has_archive, published, read_name
from tunegraph_pipeline.sources.dumps.window import first_listen, members_since
from tunegraph_pipeline.sources.source import NoAnswer
from tunegraph_pipeline_tests.conftest import examples

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
MBID = "4f7e5c1a-0000-4000-8000-0000000000aa"
ARTIST, OTHER, ALBUM = (f"4f7e5c1a-0000-4000-8000-0000000000{end}" for end in ("01", "02", "0b"))


# --- the archive and its window ---


def member_of(hours: range, *, unit: str = "ms", statistics: bool = True) -> bytes:
    """A parquet file with a listen an hour."""
    times = pa.array([BEGIN + timedelta(hours=hour) for hour in hours], pa.timestamp("us", "UTC"))
    buffer = io.BytesIO()
    table = pa.table(
        {
            "artist_credit_mbids": pa.array([[ARTIST]] * len(hours), pa.list_(pa.string())),
            "listened_at": times.cast(pa.timestamp(unit)),
            "noise": pa.array([f"{hour:0300}" for hour in hours]),
        }
    )
    pq.write_table(table, buffer, row_group_size=50, write_statistics=statistics)
    return buffer.getvalue()


MEMBERS = {
    "0.parquet": member_of(range(100)),
    "1.parquet": member_of(range(100, 250), unit="ns", statistics=False),
    "2.parquet": member_of(range(0)),
    "3.parquet": member_of(range(250, 400)),
    f"{'long-' * 30}4.parquet": member_of(range(400, 500)),
}


@pytest.fixture(scope="module", params=[tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive in one of the formats of tar."""
    made = tmp_path_factory.mktemp("mirror")
    with tarfile.open(made / "a.tar", "w", format=request.param) as tar:
        tar.addfile(tarfile.TarInfo("dump"))
        for name, content in {"SCHEMA_SEQUENCE": b"1", **MEMBERS}.items():
            long = request.param == tarfile.USTAR_FORMAT and len(name) > 90
            member = tarfile.TarInfo(name[-20:] if long else name)
            member.size = len(content)
            if request.param == tarfile.PAX_FORMAT:
                member.mtime = 1_780_000_000.25
            tar.addfile(member, io.BytesIO(content))
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[DumpServer]:
    with DumpServer(folder) as running:
        yield running


def mirror_of(server: DumpServer, attempts: int = 2) -> Mirror:
    return Mirror(server.url, RequestPolicy(attempts=attempts), timeout=5.0)


def test_the_index_is_that_of_tarfile_and_is_walked_once(
    folder: Path, server: DumpServer, tmp_path: Path
) -> None:
    archive = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    with tarfile.open(folder / "a.tar") as tar:
        expected = [(one.name, one.offset_data, one.size) for one in tar if one.isreg()]
    found = archive.members()
    assert [(one.name, one.offset, one.size) for one in found] == expected
    sent = server.bytes_sent().total()
    assert sent < 20_000
    assert Archive(mirror_of(server), "a.tar", tmp_path / "a").members() == found
    assert server.bytes_sent().total() == sent
    # A kill cut off the last lines: the walk goes on from there.
    index = tmp_path / "a" / "members.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:-2]) + lines[-2][:9])
    assert Archive(mirror_of(server), "a.tar", tmp_path / "a").members() == found
    assert server.bytes_sent().total() < sent + 4_000


@pytest.mark.parametrize("hour", [-5, 0, 40, 99, 100, 180, 249, 250, 300, 399, 400, 450, 600])
def test_the_window_begins_with_the_member_that_reaches_into_it(
    server: DumpServer, tmp_path: Path, hour: int
) -> None:
    archive = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    listed = [one for one in archive.members() if one.name.endswith(".parquet")]
    window = members_since(archive, listed, BEGIN + timedelta(hours=hour))
    starts = [0, 100, None, 250, 400]
    inside = [at for at, start in enumerate(starts) if start is not None and start <= max(hour, 0)]
    assert window == listed[inside[-1] :]


def test_of_a_member_only_a_part_is_read_for_its_first_listen(server: DumpServer, tmp_path: Path) -> None:
    archive = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    members = [one for one in archive.members() if one.name.endswith(".parquet")]
    found = [first_listen(archive, one) for one in members]
    assert found == [
        BEGIN + timedelta(hours=hour) if hour is not None else None for hour in (0, 100, None, 250, 400)
    ]
    sent = server.bytes_sent().total()
    # What was read for it is not fetched again, neither by the same question nor by a download.
    again = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    assert [first_listen(again, one) for one in members] == found
    assert server.bytes_sent().total() == sent
    for one in members:
        again.download(one.offset, one.end, tmp_path / "a" / "files" / one.name[-12:])
        assert (tmp_path / "a" / "files" / one.name[-12:]).read_bytes() in MEMBERS.values()
    assert server.bytes_sent_again() == {}


def test_a_download_goes_on_from_any_byte(folder: Path, server: DumpServer, tmp_path: Path) -> None:
    content = (folder / "a.tar").read_bytes()
    archive = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    archive.read(3_000, 500)
    archive.read(3_200, 900)
    for have in (0, 1, 2_999, 3_000, 3_400, 4_099, 4_100, 9_000):
        target = tmp_path / "a" / f"from-{have}"
        target.with_name(f"{target.name}.part").write_bytes(content[1_000 : 1_000 + have])
        before = server.bytes_sent().total()
        came: list[int] = []
        archive.download(1_000, 11_000, target, came.append)
        assert target.read_bytes() == content[1_000:11_000]
        assert sum(came) == 10_000
        known = max(0, 4_100 - max(3_000, 1_000 + have))
        assert server.bytes_sent().total() - before == 10_000 - have - known


def test_a_replaced_archive_is_noticed_and_nothing_of_it_is_kept(server: DumpServer, tmp_path: Path) -> None:
    archive = Archive(mirror_of(server), "a.tar", tmp_path / "a")
    archive.read(0, 512)
    server.replace("/a.tar")
    with pytest.raises(ReplacedFileError):
        archive.read(1_000, 512)
    Archive(mirror_of(server), "a.tar", tmp_path / "a").read(0, 512)
    assert server.bytes_sent_again().total() == 512


def test_what_is_no_mirror_is_refused_in_one_line(server: DumpServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder fullexport/"):
        published(mirror_of(server))
    with pytest.raises(InputError, match=r"--mirror|settings\.listenbrainz_dumps\.mirror"):
        Mirror("data.metabrainz.org", RequestPolicy())
    (server.folder / "sub").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="leads to /sub/; give the address"):
        mirror_of(server).text("sub")
    url = server.url
    server.close()
    with pytest.raises(NoAnswer, match="2 times in a row; what was fetched is kept"):
        Mirror(url, RequestPolicy(attempts=2)).text("a.sha256")


def test_names_of_dumps(tmp_path: Path) -> None:
    full = Dump(2593, datetime(2026, 7, 12, 0, 0, 4, tzinfo=UTC), is_full=True)
    assert full.name == "listenbrainz-dump-2593-20260712-000004-full"
    assert full.archive == "listenbrainz-spark-dump-2593-20260712-000004-full.tar"
    assert read_name(f"{full.name}/") == full
    assert read_name("listenbrainz-dump-2593-20261312-000004-full") is None
    assert read_name("listenbrainz-spark-dump-2593-20260712-000004-full.tar") is None
    for name in (full.name, "listenbrainz-dump-1-2026-full", "latest", ".hidden"):
        (tmp_path / "fullexport" / name).mkdir(parents=True)
    (tmp_path / "incremental" / "listenbrainz-dump-2594-20260713-000002-incremental").mkdir(parents=True)
    with DumpServer(tmp_path) as server:
        mirror = mirror_of(server)
        found = published(mirror)
        assert [(one.number, one.day, one.is_full) for one in found] == [
            (2593, date(2026, 7, 12), True),
            (2594, date(2026, 7, 13), False),
        ]
        assert not has_archive(mirror, full)
        (tmp_path / full.folder / full.archive).touch()
        assert has_archive(mirror, full)


# --- listens ---


def listen(at: datetime, **fields: Any) -> dict[str, Any]:
    song = {
        "listened_at": at,
        "created": at,
        "user_id": 7,
        "artist_name": "Lanterns",
        "artist_credit_mbids": [ARTIST],
        "release_mbid": ALBUM,
        "release_name": "First\tLight",
        "recording_name": "Blue Harbour",
        "recording_mbid": MBID,
    }
    return song | fields


def write(path: Path, rows: list[dict[str, Any]], unit: str = "ms") -> Path:
    text = ("artist_name", "release_mbid", "release_name", "recording_name", "recording_mbid")
    schema = pa.schema(
        [
            ("listened_at", pa.timestamp(unit)),
            ("created", pa.timestamp(unit)),
            ("user_id", pa.int64()),
            *((name, pa.string()) for name in text),
            ("artist_credit_mbids", pa.list_(pa.string())),
        ]
    )
    bare = [
        {name: at.replace(tzinfo=None) if isinstance(at, datetime) else at for name, at in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(bare, schema), path)
    return path


def count(
    tmp_path: Path, files: list[list[dict[str, Any]]], span: Span, unit: str = "ms"
) -> tuple[list[tuple[Any, ...]], dict[str, dict[str, Any]], dict[str, int]]:
    """The plays, the tracks by id, and the counts of some files."""
    counts: dict[str, int] = {}
    with Listens(0.5, tmp_path / "scratch") as listens:
        parts = []
        for number, rows in enumerate(files):
            parts.append(Parts.of(tmp_path, f"{number}-"))
            for what, n in listens.count(
                write(tmp_path / f"{number}.in", rows, unit), span, parts[-1]
            ).items():
                counts[what] = counts.get(what, 0) + n
        listens.merge(parts, Parts.of(tmp_path))
    tracks = {row["track_id"]: row for row in pl.read_parquet(tmp_path / "tracks.parquet").to_dicts()}
    return sorted(pl.read_parquet(tmp_path / "plays.parquet").rows()), tracks, counts


END = BEGIN + timedelta(days=30)


@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_listens_are_added_up_by_user_track_and_day(tmp_path: Path, unit: str) -> None:
    late = BEGIN.replace(hour=23, minute=59, second=59)
    files = [
        [listen(BEGIN), listen(late), listen(late + timedelta(seconds=1)), listen(BEGIN, user_id=8)],
        [listen(BEGIN, recording_mbid=MBID.upper()), listen(END + timedelta(seconds=1))],
    ]
    plays, tracks, counts = count(tmp_path, files, Span(END), unit)
    first = BEGIN.date()
    assert plays == [
        ("listenbrainz:7", MBID, first, 3),
        ("listenbrainz:7", MBID, first + timedelta(days=1), 1),
        ("listenbrainz:8", MBID, first, 1),
    ]
    assert counts == {"listens": 6, "listens dated after the dump, left out": 1}
    assert tracks[MBID]["name"] == "Blue Harbour"
    assert (tracks[MBID]["artists"], tracks[MBID]["artist_ids"]) == (["Lanterns"], [ARTIST])
    assert (tracks[MBID]["album_id"], tracks[MBID]["album"]) == (ALBUM, "First Light")


def test_a_listen_without_mbid_is_known_by_its_names_or_left_out(tmp_path: Path) -> None:
    unmapped = {"recording_mbid": None, "artist_credit_mbids": None, "release_mbid": None}
    rows = [
        listen(BEGIN, **unmapped),
        listen(BEGIN, **unmapped | {"artist_name": "LANTERNS", "recording_name": "Blue  harbour!"}),
        listen(BEGIN, **unmapped | {"recording_mbid": "no mbid"}),
        listen(BEGIN, **unmapped | {"recording_name": None}),
        listen(BEGIN, **unmapped | {"artist_name": "x" * 3_000}),
    ]
    plays, tracks, counts = count(tmp_path, [rows], Span(END))
    assert plays == [("listenbrainz:7", "name:lanterns/blue harbour", BEGIN.date(), 3)]
    assert counts == {
        "listens": 5,
        "listens without MBID, known by names": 3,
        "listens without MBID and names, left out": 2,
    }
    assert tracks["name:lanterns/blue harbour"]["name"] == "Blue Harbour"
    assert tracks["name:lanterns/blue harbour"]["artist_ids"] is None


def test_the_most_frequent_writing_names_a_track_whatever_the_files(tmp_path: Path) -> None:
    rare, frequent = (
        listen(BEGIN, recording_name="Blue Harbor"),
        listen(BEGIN, recording_name="Blue\tHarbour\x00"),
    )
    tied = listen(BEGIN, recording_name="Blue Zarbour", user_id=1)
    for number, files in enumerate(
        [[[rare, rare, frequent], [frequent, frequent]], [[frequent] * 3, [rare] * 2]]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, tracks, _ = count(folder, [*files, [tied]], Span(END))
        assert tracks[MBID]["name"] == "Blue Harbour"


@given(
    st.lists(
        st.builds(
            lambda user, hour, mbid, artist, title, album: listen(
                BEGIN + timedelta(hours=hour),
                user_id=user,
                recording_mbid=mbid,
                artist_name=artist,
                recording_name=title,
                release_mbid=album,
            ),
            st.integers(1, 2),
            st.integers(0, 50),
            st.sampled_from([MBID, MBID.upper(), OTHER, None, "no mbid"]),
            st.sampled_from(["Lanterns", "LANTERNS", "Ida Moss"]),
            st.sampled_from(["Blue Harbour", "blue harbour!", "Sea"]),
            st.sampled_from([ALBUM, ALBUM.upper(), None]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 3),
)
@settings(max_examples=examples(40))
def test_files_are_added_up_as_one_by_one_in_python(rows: list[dict[str, Any]], n_files: int) -> None:
    expected: Counter[tuple[str, str, date]] = Counter()
    written: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for row in rows:
        mbid = row["recording_mbid"]
        named = name_id(row["artist_name"], row["recording_name"])
        track = mbid.lower() if mbid and mbid != "no mbid" else named
        assert track is not None
        expected[f"listenbrainz:{row['user_id']}", track, row["listened_at"].date()] += 1
        written[track][row["recording_name"], row["artist_name"], (row["release_mbid"] or "").lower()] += 1
    with tempfile.TemporaryDirectory() as folder:
        files = [rows[number::n_files] for number in range(n_files)]
        plays, tracks, _ = count(Path(folder), files, Span(END))
    assert plays == sorted((*key, n) for key, n in expected.items())
    assert tracks.keys() == written.keys()
    for track, ways in written.items():
        shown = (tracks[track]["name"], tracks[track]["artists"][0], tracks[track]["album_id"] or "")
        assert ways[shown] == max(ways.values())


@pytest.mark.parametrize(
    ("credit", "mbids", "artists"),
    [
        ("Lanterns feat. Ida Moss", [ARTIST, OTHER], ["Lanterns", "Ida Moss"]),
        ("Lanterns & Ida Moss", [ARTIST, OTHER], ["Lanterns", "Ida Moss"]),
        ("Salt & Tar", [ARTIST], ["Salt & Tar"]),
        ("Salt & Tar, Ida Moss", [ARTIST, OTHER], ["Salt & Tar, Ida Moss"]),
        ("Lanterns", [], ["Lanterns"]),
    ],
)
def test_a_credit_is_split_where_its_parts_are_as_many_as_its_artists(
    tmp_path: Path, credit: str, mbids: list[str], artists: list[str]
) -> None:
    _, tracks, _ = count(
        tmp_path, [[listen(BEGIN, artist_name=credit, artist_credit_mbids=mbids)]], Span(END)
    )
    assert tracks[MBID]["artists"] == artists
    assert tracks[MBID]["artist_ids"] == (mbids or None)


def test_a_span_leaves_out_what_is_older_or_was_there_and_counts_what_is_late(tmp_path: Path) -> None:
    rows = [
        listen(BEGIN - timedelta(seconds=1)),
        listen(BEGIN),
        listen(BEGIN + timedelta(days=2), created=BEGIN),
        listen(BEGIN + timedelta(days=3), created=BEGIN + timedelta(days=9)),
    ]
    span = Span(END, BEGIN, BEGIN + timedelta(days=1), BEGIN + timedelta(days=4))
    plays, _, counts = count(tmp_path, [rows], span)
    assert [play[2] for play in plays] == [BEGIN.date() + timedelta(days=3)]
    assert counts == {
        "listens": 4,
        "listens from before the window, left out": 1,
        "listens of an earlier dump, left out": 2,
        "listens that came late, of days before the dump": 1,
    }


def test_a_file_that_holds_no_listens_is_refused_in_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with Listens(0.5, tmp_path) as listens:
        for name in ("other.parquet", "broken.parquet"):
            with pytest.raises(UnreadableListensError, match=name) as raised:
                listens.count(tmp_path / name, Span(END), Parts.of(tmp_path))
            assert "\n" not in str(raised.value)


def test_months_before_a_day_that_a_month_lacks() -> None:
    assert month_before(datetime(2026, 5, 31, 12), 3) == datetime(2026, 2, 28)
    assert month_before(datetime(2026, 1, 31), 2) == datetime(2025, 11, 30)
    assert month_before(datetime(2026, 7, 12, 1), 12) == datetime(2025, 7, 12)
