"""What a person's Spotify export becomes: likes and names alone, by library or plays, from any safe zip."""

import json
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.sources import account_export, zip_members
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.sources.limits import ImportLimits, limited_by
from tunegraph_pipeline_tests.conftest import examples

Pack = Callable[..., Path]

FOLDER = "Spotify Account Data"
SECRETS = (
    "203.0.113.77", "Secret-Agent/9.9", "ZZ-country", "iPhone of Ann", "ann@example.org", "ann.account.name",
    "4929-card", "Break-up songs", "who sang that", "private-podcast", "2031-12-24",
)  # fmt: skip


def song(letter: str) -> dict[str, Any]:
    return {
        "artist": f"Artist {letter}",
        "album": f"Album {letter}",
        "track": f"Song {letter}",
        "uri": uri(letter),
    }


def uri(letter: str) -> str:
    return f"spotify:track:{letter * 22}"


def track(letter: str) -> str:
    return letter * 22


def play(letter: str, minute: int, ms: Any = 180_000, **other: Any) -> dict[str, Any]:
    """A row of the extended history."""
    return {
        "ts": f"2024-05-01T10:{minute:02}:30Z",
        "username": SECRETS[5],
        "platform": SECRETS[3],
        "ms_played": ms,
        "conn_country": SECRETS[2],
        "ip_addr_decrypted": SECRETS[0],
        "ip_addr": SECRETS[0],
        "user_agent_decrypted": SECRETS[1],
        "master_metadata_track_name": f"Song {letter}",
        "master_metadata_album_artist_name": f"Artist {letter}",
        "master_metadata_album_album_name": f"Album {letter}",
        "spotify_track_uri": uri(letter),
        "episode_name": None,
        "spotify_episode_uri": None,
        "reason_start": "trackdone",
        "skipped": False,
        **other,
    }


def recent(letter: str, minute: int, ms: Any = 180_000) -> dict[str, Any]:
    """A row of the account data's history, which has no ids."""
    return {
        "endTime": f"2024-05-01 10:{minute:02}",
        "artistName": f"Artist {letter}",
        "trackName": f"Song {letter}",
        "msPlayed": ms,
    }


def library(*letters: str) -> dict[str, Any]:
    return {"tracks": [song(letter) for letter in letters], "albums": [], "bannedTracks": [song("x")]}


def playlists(*letters: str) -> dict[str, Any]:
    items: list[Any] = [
        {
            "track": {
                "trackName": f"Song {letter}",
                "artistName": f"Artist {letter}",
                "albumName": f"Album {letter}",
                "trackUri": uri(letter),
            },
            "episode": None,
            "localTrack": None,
            "addedDate": SECRETS[10],
        }
        for letter in letters
    ]
    items += [{"track": None, "episode": None, "localTrack": {"uri": "spotify:local:x"}}, None]
    return {"playlists": [{"name": SECRETS[7], "lastModifiedDate": SECRETS[10], "items": items}]}


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes files (a text or bytes as they are, anything else as JSON) into a zip and gives its path."""

    def to_zip(
        files: Mapping[str, Any], name: str = "my_spotify_data.zip", folder: str = f"{FOLDER}/"
    ) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, content in files.items():
                archive.writestr(folder + file, as_bytes(content))
        return path

    return to_zip


def as_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


def read_one(*paths: Path, **options: Any) -> RawBatch:
    [batch] = read_files(paths, **options)
    for part, frame in batch.parts().items():
        assert frame.schema == empty_frame(part).schema
    return batch


def liked(batch: RawBatch) -> set[str]:
    assert set(batch.likes["user_id"]) <= set(batch.users["user_id"])
    return set(batch.likes["track_id"])


def pairs_of(batch: RawBatch) -> set[tuple[str, str]]:
    return set(batch.likes.select("user_id", "track_id").iter_rows())


def refusal(*paths: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_files(paths, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def read_or_refused(path: Path, **options: Any) -> RawBatch | None:
    try:
        return read_one(path, **options)
    except InputError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message
    return None


# --- the library -------------------------------------------------------------------------------------------


def test_the_songs_of_the_library_are_the_likes_whatever_was_played_or_put_in_a_playlist(pack: Pack) -> None:
    path = pack(
        {
            "YourLibrary.json": library("a", "b"),
            "Playlist1.json": playlists("c"),
            "StreamingHistory_music_0.json": [recent("b", minute) for minute in range(9)],
        }
    )
    batch = read_one(path)
    assert batch.likes.drop("position").rows() == [("me", track("a"), None), ("me", track("b"), None)]
    assert batch.users.rows() == [("me", None, 0, "listed")]
    assert batch.tracks.select("track_id", "name", "artists", "album_id").rows() == [
        (track("a"), "Song a", ["Artist a"], None),
        (track("b"), "Song b", ["Artist b"], None),
        (track("x"), "Song x", ["Artist x"], None),
    ]
    assert batch.feedback.select("user_id", "track_id", "action").rows() == [("me", track("x"), "dislike")]
    assert batch.counts == {"songs of the library": 2}
    assert (batch.source, batch.origin) == ("files", "Spotify account export")


def test_library_songs_that_cannot_be_used_are_skipped_and_counted(pack: Pack) -> None:
    rows: list[Any] = [song("a"), song("a"), {**song("b"), "uri": None}, {**song("c"), "uri": 7}, "nothing"]
    rows += [
        {**song("d"), "uri": "spotify:episode:abc"},
        {**song("e"), "uri": "spotify:local:Ann:Home:Tape:99"},
        {"uri": "https://open.spotify.com/track/link?si=1"},
        {"uri": uri("f"), "artist": ["x"], "track": "half a letter \ud800"},
    ]
    batch = read_one(pack({"YourLibrary.json": {"tracks": rows}}))
    assert liked(batch) == {track("a"), "name:artist b/song b", "link", track("f")}
    assert batch.tracks["name"].to_list() == ["Song a", "Song b", "half a letter ?"]
    assert batch.counts == {
        "songs of the library": 4,
        "songs known by their names alone": 1,
        "repeated likes": 1,
        "library songs without a track id": 2,
        "local files, which have no id": 1,
        "misshapen rows": 1,
    }


def test_an_empty_library_never_empties_a_list(pack: Pack) -> None:
    assert "no like that can be read" in refusal(pack({"YourLibrary.json": {"tracks": []}}))


@pytest.mark.parametrize("name", ["YourLibrary (1).json", "YourLibrary(12).json", "YourLibrary - copy.json"])
def test_a_second_download_is_read_like_the_first(name: str, pack: Pack, tmp_path: Path) -> None:
    assert liked(read_one(pack({name: library("a")}))) == {track("a")}
    for other in (name, "spotify_library.json"):
        (tmp_path / other).write_text(json.dumps(library("b")))
        batch = read_one(tmp_path / other)
        assert liked(batch) == {track("b")}
        assert batch.feedback["track_id"].to_list() == [track("x")]


def test_a_library_from_before_2021_names_its_songs(pack: Pack) -> None:
    old = {
        "tracks": [{"artist": "The Lanterns", "album": "Tides", "track": "Blue Harbour"}, {"track": "Alone"}]
    }
    batch = read_one(pack({"YourLibrary.json": old}))
    assert liked(batch) == {"name:the lanterns/blue harbour"}
    assert batch.counts["library songs without a track id"] == 1


def test_two_people_keep_apart_by_the_user_id_that_is_given(pack: Pack) -> None:
    path = pack({"YourLibrary.json": library("a")})
    assert read_one(path, user_id=" ann ").users["user_id"].to_list() == ["ann"]
    for bad in ("", " ", "a\nb", "x" * 2000):
        assert "--user-id must be" in refusal(path, user_id=bad)


def test_two_libraries_are_refused_since_they_are_of_two_people_or_two_days(pack: Pack) -> None:
    ann = pack({"YourLibrary.json": library("a")}, "ann.zip")
    bob = pack({"YourLibrary.json": library("b")}, "bob.zip")
    assert "two libraries" in refusal(ann, bob)
    assert liked(read_one(ann, ann)) == {track("a")}


# --- plays -------------------------------------------------------------------------------------------------


def test_without_a_library_songs_played_five_times_are_liked_at_their_first_play(pack: Pack) -> None:
    rows = [play("a", minute) for minute in (9, 3, 5, 7, 20)] + [
        play("b", minute) for minute in range(30, 34)
    ]
    path = pack(
        {"Streaming_History_Audio_2024_1.json": rows[:3], "Streaming_History_Audio_2024_2.json": rows[3:]}
    )
    batch = read_one(path)
    assert batch.likes.drop("position").rows() == [
        ("me", track("a"), datetime(2024, 5, 1, 10, 3, 30, tzinfo=UTC))
    ]
    assert batch.tracks["name"].to_list() == ["Song a"]
    assert batch.counts == {"songs played at least 5 times": 1}
    fewer = read_one(path, min_plays=4)
    assert liked(fewer) == {track("a"), track("b")}
    assert fewer.counts == {"songs played at least 4 times": 2}


def test_min_plays_adds_songs_to_those_of_the_library(pack: Pack) -> None:
    path = pack(
        {
            "YourLibrary.json": library("a", "b"),
            "endsong_0.json": [play(letter, minute) for minute, letter in enumerate("bbccd")],
        }
    )
    batch = read_one(path, min_plays=2)
    assert dict(batch.likes.select("track_id", "liked_at").iter_rows()) == {
        track("a"): None,
        track("b"): None,
        track("c"): datetime(2024, 5, 1, 10, 2, 30, tzinfo=UTC),
    }
    assert batch.counts == {"songs of the library": 2, "further songs played at least 2 times": 1}


def test_plays_that_do_not_count_are_skipped_and_counted_by_what_is_wrong_with_them(pack: Pack) -> None:
    rows: list[Any] = [
        play("a", 0, ms=30_000),
        play("a", 1, ms=29_999),
        play("a", 2, ms=None),
        play("a", 3, ms=True),
        play("a", 4, ms=float("nan")),
        play("a", 5, ts="yesterday"),
        play("a", 6, ts="1970-01-01T00:00:00Z"),
        play("a", 7, ts="2024-02-31T00:00:00Z"),
        play(
            "b", 8, spotify_track_uri=None, spotify_episode_uri="spotify:episode:x", episode_name=SECRETS[9]
        ),
        play("b", 9, spotify_track_uri=None, audiobook_uri="spotify:show:x"),
        play("b", 10, spotify_track_uri=None),
        play("b", 11, spotify_track_uri="spotify:local:a:b:c:1"),
        [],
    ]
    path = pack(
        {"Streaming_History_Audio_2024.json": rows, "Streaming_History_Video_2024.json": "not even JSON"}
    )
    batch = read_one(path, min_plays=1)
    assert liked(batch) == {track("a")}
    assert batch.counts == {
        "songs played at least 1 time": 1,
        "plays shorter than 30 seconds": 1,
        "misshapen rows": 4,
        "plays at a time not understood": 3,
        "plays of podcasts and audiobooks": 2,
        "plays without a track id": 1,
        "local files, which have no id": 1,
        "files of podcasts, audiobooks and videos": 1,
    }


def test_plays_without_ids_find_them_by_name_elsewhere_in_the_export(pack: Pack) -> None:
    account = pack(
        {
            "Playlist1.json": playlists("b"),
            "StreamingHistory_music_0.json": [recent(letter, m) for m, letter in enumerate("abcd")],
            "StreamingHistory_podcast_0.json": [{"podcastName": SECRETS[9]}],
        }
    )
    history = pack({"Streaming_History_Audio_2019.json": [play("c", 40, ms=1)]}, "extended.zip", "Musik/")
    batch = read_one(account, history, min_plays=1)
    by_name = {f"name:artist {letter}/song {letter}" for letter in "ad"}
    assert liked(batch) == {track("b"), track("c"), *by_name}
    assert batch.likes["liked_at"].min() == datetime(2024, 5, 1, 10, 0, tzinfo=UTC)


def test_a_play_that_both_histories_tell_of_counts_once(pack: Pack) -> None:
    path = pack(
        {
            "Streaming_History_Audio_2024.json": [play("a", 1), play("a", 2), play("a", 3)],
            "StreamingHistory_music_0.json": [recent("a", 2), recent("a", 3), recent("a", 4)],
        }
    )
    assert liked(read_one(path, min_plays=4)) == {track("a")}
    assert "was played 5 times (at most 4)" in refusal(path)
    assert read_one(path, min_plays=4).counts["plays told twice"] == 2


def test_a_history_in_which_nothing_was_played_often_is_refused(pack: Pack) -> None:
    path = pack({"StreamingHistory0.json": [recent("a", 1), {**recent("b", 2), "artistName": None}]})
    message = refusal(path, min_plays=2)
    assert "has no library, and no song in it was played 2 times (at most 1)" in message
    assert "plays without a track id: 1" in message
    assert "leave --min-plays out" in refusal(pack({"YourLibrary.json": library("a")}), min_plays=3)


# --- what is never kept ------------------------------------------------------------------------------------


def test_no_byte_of_the_lake_holds_anything_personal(pack: Pack, tmp_path: Path) -> None:
    account = pack(
        {
            "YourLibrary.json": {**library("a"), "other": [SECRETS[9]]},
            "Playlist1.json": playlists("b"),
            "StreamingHistory_music_0.json": [recent("b", minute) for minute in range(6)],
            "Userdata.json": {"email": SECRETS[4], "username": SECRETS[5], "country": SECRETS[2]},
            "Payments.json": {"card": SECRETS[6]},
            "SearchQueries.json": [{"searchQuery": SECRETS[8]}],
            "Identity.json": "this is not even JSON",
        },
        f"{SECRETS[5]}.zip",
    )
    history = [play("c", minute) for minute in range(30, 36)]
    extended = pack({"Streaming_History_Audio_2024.json": history}, f"{SECRETS[4]}.zip", f"{SECRETS[7]}/")
    batch = read_one(account, extended, min_plays=5)
    assert liked(batch) == {track("a"), track("b"), track("c")}
    written = write_batch(tmp_path / "lake" / "raw", date(2026, 1, 1), batch).folder
    found = b""
    for file in sorted((tmp_path / "lake").rglob("*")):
        found += str(file.relative_to(tmp_path)).encode()
        if file.is_file():
            found += file.read_bytes()
        if file.suffix == ".parquet":
            # A column's pages are compressed; its buffers are what is in them.
            table = pq.read_table(file, partitioning=None)
            columns = [column.combine_chunks() for column in table.columns]
            found += b"".join(bytes(b) for column in columns for b in column.buffers() if b is not None)
    assert written.is_dir()
    assert b"Song c" in found
    assert [secret for secret in SECRETS if secret.encode() in found] == []
    assert b"Album" not in found


def test_only_the_files_that_are_needed_are_opened(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "YourLibrary.json": library("a"),
        "Userdata.json": {},
        "Playlist1.json": playlists("b"),
        "Streaming_History_Audio_2024.json": [play("a", 1)],
        "Streaming_History_Video_2024.json": [],
    }
    path = pack(files)
    opened: list[str] = []
    really_open = zipfile.ZipFile.open

    def noted(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *rest: Any) -> Any:
        opened.append(Path(entry.filename).name)
        return really_open(archive, entry, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "open", noted)
    read_one(path)
    assert opened == ["YourLibrary.json"]
    read_one(path, min_plays=1)
    assert opened[1:] == ["YourLibrary.json", "Streaming_History_Audio_2024.json"]


# --- where the files may lie -------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "Spotify Account Data", "MyData", "Datos de tu cuenta/más"])
@pytest.mark.parametrize("format_name", ["auto", "spotify-export"])
def test_an_export_is_found_unpacked_in_any_folder(inside: str, format_name: str, tmp_path: Path) -> None:
    folder = tmp_path / inside
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "YourLibrary.json").write_text(json.dumps(library("a")))
    (folder / "Payments.json").write_text(json.dumps({"card": [SECRETS[6]]}))
    (folder / "ReadMeFirst.pdf").write_bytes(b"%PDF")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "YourLibrary.json").write_bytes(b"\x00\x05")
    assert liked(read_one(tmp_path, format=format_name)) == {track("a")}
    assert liked(read_one(folder / "YourLibrary.json", format=format_name)) == {track("a")}


def test_a_zip_is_read_in_any_folder_and_by_the_exact_names_alone(pack: Pack) -> None:
    files = {
        "Übersicht/YourLibrary.json": library("a"),
        "Übersicht/yourlibrary.json": library("b"),
        "old/YourLibrary.json.bak": library("c"),
        "__MACOSX/x/YourLibrary.json": b"\x00\x05\x16\x07",
        "x/._YourLibrary.json": b"\x00\x05\x16\x07",
    }
    assert liked(read_one(pack(files, "renamed", ""), format="spotify-export")) == {track("a")}


def test_a_folder_of_zips_and_other_files_gives_the_exports_and_leaves_other_zips(
    pack: Pack, tmp_path: Path
) -> None:
    pack({"YourLibrary.json": library("a")}, "one.zip")
    pack({"Streaming_History_Audio_2024.json": [play("b", 1)]}, "two.zip")
    pack({"holiday.jpg": b"jpg"}, "photos.zip")
    (tmp_path / "likes.csv").write_text("u1,s1\n")
    both, others = read_files([tmp_path], min_plays=1)
    assert liked(both) == {track("a"), track("b")}
    assert liked(others) == {"s1"}
    pack({}, "cut.zip").write_bytes(b"PK\x03\x04 cut off")
    assert "cut.zip is a truncated or damaged zip archive" in refusal(tmp_path)


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"readme.txt": "hello"}, "is not a table of users and tracks: its first line is 'hello'"),
        ({"readme.txt": "hello", "more.txt": "hello"}, "is a zip archive of 2 files, and no account export"),
        ({}, "is a zip archive of 0 files, and no account export that is known"),
        ({"Playlist1.json": playlists("a")}, "holds the playlists of a Spotify account export"),
        ({"inner.ZIP": b"PK\x03\x04"}, "holds another archive, inner.ZIP"),
        ({"YourLibrary.json": '{"tracks": [{"uri'}, "YourLibrary.json is damaged or truncated JSON (line 1"),
        ({"YourLibrary.json": b'{"tracks": "\xff"}'}, "YourLibrary.json is not UTF-8 text"),
        ({"YourLibrary.json": "9" * 5000}, "YourLibrary.json is JSON with a number too long to read"),
        ({"YourLibrary.json": "[" * 100_000}, "YourLibrary.json is JSON nested too deep"),
        ({"YourLibrary.json": "[" * 101 + "]" * 101}, "YourLibrary.json is JSON nested too deep"),
        ({"YourLibrary.json": b""}, "YourLibrary.json is damaged or truncated JSON"),
        ({"YourLibrary.json": []}, "YourLibrary.json is no library: it has no list of tracks"),
        ({"YourLibrary.json": {"tracks": {}}}, "YourLibrary.json is no library: it has no list of tracks"),
        ({"endsong_0.json": {"a": 1}}, "endsong_0.json is no streaming history"),
        ({"StreamingHistory_music_0.json": [], "Playlist1.json": []}, "Playlist1.json has no list of play"),
        ({"YourLibrary.json": library("a"), "../x.json": ""}, "points outside the archive"),
        ({"YourLibrary.json": library("a"), "x\\..\\y": ""}, "points outside the archive"),
    ],
)  # fmt: skip
def test_a_bad_export_is_refused_in_one_line_that_names_zip_and_member(
    files: dict[str, Any], says: str, pack: Pack
) -> None:
    path = pack(files, folder="Data/")
    message = refusal(path)
    assert message.startswith(str(path))
    assert says in message


@pytest.mark.parametrize("name", ["/etc/passwd", "C:/x.json", "\\\\host\\x.json"])
def test_a_member_with_an_absolute_path_is_refused(name: str, pack: Pack) -> None:
    path = pack({"YourLibrary.json": library("a"), name: "x"}, folder="")
    assert "points outside the archive" in refusal(path)


def test_a_member_that_is_there_twice_is_refused(pack: Pack, tmp_path: Path) -> None:
    path = pack({"YourLibrary.json": library("a")})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{FOLDER}/YourLibrary.json", json.dumps(library("b")))
    assert "YourLibrary.json twice" in refusal(path)


def test_an_encrypted_zip_and_an_unknown_packing_are_refused(pack: Pack, tmp_path: Path) -> None:
    path = pack({"YourLibrary.json": library("a")})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "is encrypted; unpack it with its password" in refusal(path)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("YourLibrary.json", json.dumps(library("a")))
    assert "has an unknown compression" in refusal(packed)


def test_what_is_unpacked_is_bounded_by_what_comes_and_not_by_what_is_declared(
    pack: Pack,
) -> None:
    bomb = pack({"YourLibrary.json": b" " * (1 << 23)})
    with limited_by(ImportLimits(member_bytes=1 << 21)):
        assert "YourLibrary.json has more than 2,097,152 bytes" in refusal(bomb)
    data = bytearray(bomb.read_bytes())
    # The size that the table of members declares: a hundred bytes.
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    bomb.write_bytes(data)
    assert "YourLibrary.json is damaged" in refusal(bomb)
    spread = {f"endsong_{number}.json": b"[" + b" " * (3 << 18) + b"]" for number in range(3)}
    with limited_by(ImportLimits(export_bytes=1 << 21)):
        assert "endsong_2.json has more than 2,097,152 bytes with the files before" in refusal(pack(spread))


def test_the_number_of_members_is_bounded(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"YourLibrary.json": library("a"), **{f"{number}.json": b"" for number in range(20)}}
    with limited_by(ImportLimits(members=20)):
        assert "has more than 20 files" in refusal(pack(files))
    monkeypatch.setattr(zip_members, "_LONGEST_READ", 1000)
    assert "damaged zip archive" in refusal(pack(files))


def test_a_missing_path_and_another_file_are_refused_when_the_format_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.zip")
    assert "does not exist" in refusal(tmp_path / "nowhere.zip", format="spotify-export")
    (tmp_path / "likes.csv").write_text("u1,s1\n")
    assert "no Spotify account export" in refusal(tmp_path / "likes.csv", format="spotify-export")
    assert "no Spotify account export" in refusal(tmp_path, format="spotify-export")


def test_options_that_do_not_fit_are_refused(pack: Pack, tmp_path: Path) -> None:
    path = pack({"YourLibrary.json": library("a")})
    assert "has no columns to name" in refusal(path, user_column="x")
    assert "holds no features" in refusal(path, kind="features")
    assert "must be at least 1" in refusal(path, min_plays=0)
    table = tmp_path / "likes.csv"
    table.write_text("u1,s1\n")
    assert "no usable row (songs played fewer than 2 times: 1)" in refusal(table, min_plays=2)
    assert pairs_of(read_one(table, user_id="ann")) == {("ann", "s1")}
    table.write_text("u1,s1\nu2,s1\n")
    assert "names 2 users itself; leave --user-id out" in refusal(table, user_id="ann")
    table.write_text("track_id,name\ns1,Intro\n")
    assert "--min-plays is for files of plays" in refusal(table, min_plays=2)
    assert "--min-rating is for files of ratings" in refusal(table, min_rating=4)
    assert len(read_one(path, kind="tracks").users) == 0


# --- anything else -----------------------------------------------------------------------------------------

_leaves: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [uri("a"), uri("b"), "spotify:local:x", "2024-05-01T10:00:00Z", "2024-05-01 10:00", 40_000]
    )
)
_names = st.sampled_from(
    [*sorted({name for kind in account_export._KINDS.values() for name in kind.fields}), "ip_addr"]
)
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=20,
)
_rows = st.lists(st.dictionaries(_names, _leaves, max_size=7) | _json, max_size=6)
_documents = (
    _json
    | _rows
    | st.builds(lambda rows: {"tracks": rows}, _rows)
    | st.builds(lambda rows: {"playlists": [{"items": rows}, *rows]}, _rows)
)
_file_names = st.sampled_from(
    ["YourLibrary.json", "Playlist1.json", "StreamingHistory_music_0.json", "Streaming_History_Audio_1.json"]
)


@pytest.mark.slow
@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(_file_names, _documents, max_size=4), min_plays=st.none() | st.integers(1, 3))
def test_json_of_any_shape_is_read_or_refused_but_never_a_crash_or_a_bad_row(
    files: dict[str, Any], min_plays: int | None, pack: Pack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = pack(files)
    batch = read_or_refused(path, format="spotify-export", min_plays=min_plays)
    if batch is None:
        return
    assert batch.users["user_id"].to_list() == ["me"]
    assert batch.likes["track_id"].is_unique().all()
    assert batch.likes["track_id"].str.contains("^[0-9A-Za-z]+$").all()
    assert all(count > 0 for count in batch.counts.values())
    # Strict about nulls where the schema has none.
    write_batch(tmp_path_factory.mktemp("lake") / "raw", date(2026, 1, 1), batch)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.data())
def test_a_damaged_zip_is_read_or_refused_but_never_a_crash(damage: st.DataObject, pack: Pack) -> None:
    path = pack({"YourLibrary.json": library(*"abcdefgh"), "Playlist1.json": playlists("a")})
    data = bytearray(path.read_bytes())
    for _ in range(damage.draw(st.integers(1, 4))):
        # Most of what can go wrong is in the last few bytes, the table of members.
        at = damage.draw(st.integers(0, len(data) - 1) | st.integers(len(data) - 250, len(data) - 1))
        data[at] = damage.draw(st.integers(0, 255))
    path.write_bytes(bytes(data[: damage.draw(st.just(len(data)) | st.integers(4, len(data)))]))
    batch = read_or_refused(path, format="spotify-export")
    assert batch is None or set(batch.users["user_id"]) == {"me"}
