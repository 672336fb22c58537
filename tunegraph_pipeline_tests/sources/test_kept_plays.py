"""The plays of one person's history stay plays, by day, where the lake's rule is to judge them."""

import json
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.sources.files import read_files

A, B = "a" * 22, "b" * 22
HISTORY = (
    "artist,track,listened_at\n"
    "Ann,One,2026-01-01T23:59:00Z\n"
    "Ann,One,2026-01-02T00:01:00Z\n"
    "Ann,One,2026-01-02T09:00:00Z\n"
    "Ben,Two,\n"
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read_one(*paths: Path, **options: object) -> RawBatch:
    (batch,) = read_files(paths, keep_plays=True, **options)
    return batch


def plays_of(batch: RawBatch) -> set[tuple[object, ...]]:
    return set(batch.plays.rows())


def test_a_history_gives_plays_by_day_in_utc_and_no_likes(tmp_path: Path) -> None:
    batch = read_one(written(tmp_path / "scrobbles.csv", HISTORY))
    assert plays_of(batch) == {
        ("me", "name:ann/one", date(2026, 1, 1), 1),
        ("me", "name:ann/one", date(2026, 1, 2), 2),
        ("me", "name:ben/two", None, 1),
    }
    assert batch.likes.is_empty()
    assert batch.users.is_empty()  # no list was seen, so none is replaced
    assert set(batch.tracks["name"]) == {"One", "Two"}


def test_with_min_plays_they_are_likes_as_without_a_rule(tmp_path: Path) -> None:
    path = written(tmp_path / "scrobbles.csv", HISTORY)
    batch = read_one(path, min_plays=2)
    assert batch.plays.is_empty()
    assert batch.likes["track_id"].to_list() == ["name:ann/one"]
    (before,) = read_files([path], min_plays=2)
    assert batch.likes.equals(before.likes)


def test_a_number_of_plays_beside_a_song_is_a_total_without_a_day(tmp_path: Path) -> None:
    rows = "artist,title,plays,last_played\nAnn,One,7,2026-01-02\nBen,Two,0,2026-01-02\nCas,Three,2.0,\n"
    batch = read_one(written(tmp_path / "most_played.csv", rows))
    assert plays_of(batch) == {("me", "name:ann/one", None, 7), ("me", "name:cas/three", None, 2)}


def test_numbers_of_plays_on_several_days_keep_their_days(tmp_path: Path) -> None:
    rows = "Track Description,Date Played,Play Count\nAnn - One,20260101,2\nAnn - One,20260103,4\n"
    batch = read_one(written(tmp_path / "Apple Music - Play History Daily Tracks.csv", rows))
    assert {row[2:] for row in plays_of(batch)} == {(date(2026, 1, 1), 2), (date(2026, 1, 3), 4)}


def test_in_a_table_of_many_users_a_song_played_at_all_stays_a_like(tmp_path: Path) -> None:
    rows = "user_id,track_id,plays\nann,t1,1\nben,t2,40\n"
    batch = read_one(written(tmp_path / "counts.csv", rows))
    assert batch.plays.is_empty()
    assert set(batch.likes["user_id"]) == {"ann", "ben"}


def streamed(letter: str, day: int) -> dict[str, object]:
    return {
        "ts": f"2026-01-{day:02}T10:00:00Z",
        "ms_played": 180_000,
        "master_metadata_track_name": f"Song {letter}",
        "master_metadata_album_artist_name": "Ann",
        "spotify_track_uri": f"spotify:track:{letter * 22}",
    }


def export(folder: Path, *, with_library: bool) -> Path:
    folder.mkdir()
    rows = [streamed("a", 1), streamed("a", 2), streamed("a", 2), streamed("b", 3)]
    written(folder / "Streaming_History_Audio_2026_0.json", json.dumps(rows))
    if with_library:
        songs = [{"artist": "Ann", "track": "Song b", "uri": f"spotify:track:{B}"}]
        written(folder / "YourLibrary.json", json.dumps({"tracks": songs}))
    return folder


def test_an_account_without_a_library_gives_its_plays(tmp_path: Path) -> None:
    batch = read_one(export(tmp_path / "account", with_library=False))
    # Two rows at one minute are one play.
    assert plays_of(batch) == {
        ("me", A, date(2026, 1, 1), 1),
        ("me", A, date(2026, 1, 2), 1),
        ("me", B, date(2026, 1, 3), 1),
    }
    assert batch.likes.is_empty()
    assert set(batch.tracks["name"]) == {"Song a", "Song b"}


def test_beside_a_library_plays_are_kept_too_and_decide_only_when_asked_to(tmp_path: Path) -> None:
    folder = export(tmp_path / "account", with_library=True)
    batch = read_one(folder)
    assert (len(batch.plays), batch.likes["track_id"].to_list()) == (3, [B])
    assert batch.users["state"].to_list() == ["listed"]
    assert set(read_one(folder, min_plays=2).likes["track_id"]) == {A, B}
    (without,) = read_files([folder])
    assert (without.plays.is_empty(), without.likes["track_id"].to_list()) == (True, [B])


def test_listens_are_kept_beside_feedback(tmp_path: Path) -> None:
    mbids = [f"{letter * 8}-0000-4000-8000-000000000000" for letter in "ab"]
    metadata = [{"track_metadata": {"additional_info": {"recording_mbid": mbid}}} for mbid in mbids]
    listens = "".join(f"{json.dumps({'listened_at': 1767261600 + n, **metadata[0]})}\n" for n in (0, 9))
    feedback = {"recording_mbid": mbids[1], "score": 1, **metadata[1]}
    path = tmp_path / "listenbrainz_ann.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("listens/2026/1.jsonl", listens)
        archive.writestr("feedback.jsonl", f"{json.dumps(feedback)}\n")
    batch = read_one(path)
    assert batch.likes["track_id"].to_list() == mbids[1:]
    assert plays_of(batch) == {("me", mbids[0], date(2026, 1, 1), 2)}


def test_a_history_without_a_play_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "account"
    folder.mkdir()
    short = {**streamed("a", 1), "ms_played": 9}
    written(folder / "Streaming_History_Audio_2026_0.json", json.dumps([short]))
    with pytest.raises(InputError, match="no song in it was played"):
        read_one(folder)
