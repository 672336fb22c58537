"""The places of songs in lists: which files say them, and what becomes of them up to current lists."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, read_batches, write_batch
from tunegraph_pipeline.lake.tables import current_lists, derive_observations, unique_likes
from tunegraph_pipeline.pipeline.user_list import list_in_files, list_in_lake
from tunegraph_pipeline.sources.files import read_files

A, B, C = ("1aaaaaaaaaaaaaaaaaaaaa", "2aaaaaaaaaaaaaaaaaaaaa", "3aaaaaaaaaaaaaaaaaaaaa")
URI = "spotify:track:"
USERS = pl.DataFrame({"source": ["files"], "user_id": ["u"], "state": ["listed"]})
LINK = "https://open.spotify.com/track/"

FILES = {
    "table.csv": f"playlist_id,track_id,position\n7,{A},2\n7,{B},0\n7,{C},\n8,{A},x\n",
    "mpd.json": '{"playlists": [{"pid": 7, "tracks": ['
    f'{{"pos": 2, "track_uri": "{URI}{A}"}}, {{"pos": 0, "track_uri": "{URI}{B}"}}]}}]}}',
    "list.jspf": '{"playlist": {"track": ['
    f'{{"title": "x", "identifier": "{LINK}{A}"}}, {{"title": "y", "identifier": "{LINK}{B}"}}]}}}}',
    "list.m3u": f"#EXTM3U\n#EXTINF:1,Ann - One\n{LINK}{A}\n{LINK}{B}\n",
    "list.xspf": '<playlist xmlns="http://xspf.org/ns/0/"><trackList>'
    f"<track><location>{LINK}{A}</location></track><track><location>{LINK}{B}</location></track>"
    "</trackList></playlist>",
}


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("table.csv", {("7", A): 2, ("7", B): 0, ("7", C): None, ("8", A): None}),
        ("mpd.json", {("7", A): 2, ("7", B): 0}),
        ("list.jspf", {("me", A): 0, ("me", B): 1}),
        ("list.m3u", {("me", A): 0, ("me", B): 1}),
        ("list.xspf", {("me", A): 0, ("me", B): 1}),
    ],
)
def test_a_file_says_the_places_of_its_songs(
    tmp_path: Path, name: str, places: dict[tuple[str, str], int | None]
) -> None:
    (tmp_path / name).write_text(FILES[name])
    options = {} if "7" in {user for user, _ in places} else {"user_id": "me"}
    (batch,) = read_files([tmp_path / name], **options)
    found = {(user, track): place for user, track, _, place in batch.likes.iter_rows()}
    assert found == places


def test_a_song_that_is_there_twice_has_its_first_place(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text(f"playlist_id,track_id,pos\n7,{A},5\n7,{B},1\n7,{A},3\n")
    (batch,) = read_files([tmp_path / "twice.csv"])
    assert dict(batch.likes.select("track_id", "position").iter_rows()) == {A: 3, B: 1}


def likes(*rows: tuple[str, datetime | None, int | None]) -> pl.DataFrame:
    frame = [("u", track, at, place) for track, at, place in rows]
    return pl.DataFrame(frame, empty_frame("likes").schema, orient="row").with_columns(source=pl.lit("files"))


def test_a_moved_song_is_another_list_and_one_without_places_the_same_as_ever() -> None:
    hashes = [
        derive_observations(USERS, unique_likes(rows))["list_hash"][0]
        for rows in (
            likes(("a", None, 0), ("b", None, 1)),
            likes(("a", None, 1), ("b", None, 0)),
            likes(("a", None, None), ("b", None, None)),
        )
    ]
    assert len(set(hashes)) == 3
    assert hashes[2] == hashlib.blake2b(b"a\nb", digest_size=8).hexdigest()


def test_the_earliest_time_counts_then_the_first_place() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    rows = likes(("a", late, 0), ("a", early, 7), ("a", None, 1), ("b", None, 4), ("b", None, 2))
    found = unique_likes(rows)
    assert found.select("track_id", "liked_at", "position").rows() == [("a", early, 7), ("b", None, 2)]
    observed = derive_observations(USERS, found)
    lists = current_lists([(observed, found)])
    assert lists.columns == ["user_id", "track_id", "liked_at", "position"]
    assert lists["position"].to_list() == [7, 2]


def test_a_batch_without_places_has_the_id_it_always_had(tmp_path: Path) -> None:
    without = pl.DataFrame({"user_id": ["u"], "track_id": ["a"]}).with_columns(
        liked_at=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    ids = [
        write_batch(tmp_path / name / "raw", date(2026, 1, 1), RawBatch("files", "x", likes=rows)).batch_id
        for name, rows in (
            ("without", without),
            ("null", without.with_columns(position=pl.lit(None, pl.Int32))),
            ("placed", without.with_columns(position=pl.lit(0, pl.Int32))),
        )
    ]
    assert ids[0] == ids[1] != ids[2]
    (info,) = read_batches(tmp_path / "without" / "raw", date(2026, 1, 1))
    assert info.read("likes")["position"].to_list() == [None]


def test_the_list_of_a_file_or_a_lake_ends_with_its_newest_song(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"user_id,track_id,added_at\nu,{A},2026-01-03\nu,{B},2026-01-02\nu,{C},2026-01-04\n")
    batches = read_files([file])
    assert [song.track_id for song in list_in_files(batches).likes] == [B, A, C]
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    write_batch(lake.raw, date(2026, 1, 5), batches[0])
    found = list_in_lake(lake, "u")
    assert ([song.track_id for song in found.likes], found.is_ordered) == ([B, A, C], True)
    file.write_text(f"user_id,track_id\nv,{A}\nv,{B}\n")
    write_batch(lake.raw, date(2026, 1, 6), read_files([file])[0])
    assert not list_in_lake(lake, "v").is_ordered
