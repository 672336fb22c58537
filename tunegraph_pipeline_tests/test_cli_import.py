"""`tunegraph import`: what it says before and after, and that a look or a refusal changes nothing."""

import hashlib
import json
from pathlib import Path

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = pytest.mark.usefixtures("blank_plots", "no_history")

A, B = "1aaaaaaaaaaaaaaaaaaaaa", "2bbbbbbbbbbbbbbbbbbbbb"
EXPORTIFY = (
    "Track URI,Track Name,Artist Name(s),Record Label,Added At\n"
    f"spotify:track:{A},Intro,The Lanterns,Tides,2024-01-01T00:00:00Z\n"
    f"spotify:track:{B},Home,Ida Quist,Paper,2024-01-02T00:00:00Z\n"
    "spotify:episode:e,Podcast 1,Show,X,2024-01-03T00:00:00Z\n"
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def content(lake: Path) -> dict[str, str]:
    """The bytes of every file of a lake, but for its lock."""
    files = [path for path in sorted(lake.rglob("*")) if path.is_file() and "lock" not in path.name]
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_dry_run_says_how_a_file_is_read_and_makes_no_lake(tmp_path: Path, lake: Path) -> None:
    liked = written(tmp_path / "Liked_Songs.csv", EXPORTIFY)
    done = tunegraph("import", liked, "--dry-run", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{liked}: Exportify of me",
        "  1 user, 2 likes, 2 described songs",
        "  columns: track_id from Track URI, name from Track Name, artists from Artist Name(s), liked_at"
        " from Added At",
        "  not used: Record Label",
        "  podcast episodes: 1",
        "  me likes Intro by The Lanterns",
        "  me likes Home by Ida Quist",
    ]
    assert "nothing was imported" in done.stderr
    assert not lake.exists()


def test_the_summary_is_there_as_json(tmp_path: Path, lake: Path) -> None:
    liked = written(tmp_path / "Liked_Songs.csv", EXPORTIFY)
    rated = written(tmp_path / "rated.csv", "user_id,track_id,rating\nann,t1,5\nann,t2,1\nben,t1,4\n")
    said = json.loads(tunegraph("import", liked, rated, "--dry-run", "--json", "--lake", lake).stdout)
    assert {key: said[key] for key in ("users", "likes", "dislikes", "tracks", "imported", "changes")} == {
        "users": 3,
        "likes": 4,
        "dislikes": 0,
        "tracks": 3,
        "imported": False,
        "changes": None,
    }
    first, second = said["files"]
    assert (first["format"], first["user"], first["skipped"]) == ("exportify", "me", {"podcast episodes": 1})
    assert first["unused_columns"] == ["Record Label"]
    assert (second["format"], second["user"]) == ("table", None)
    assert second["rules"] == ["rating: 4 and more of 5 is a like (--min-rating), less says nothing"]
    done = tunegraph("import", liked, rated, "--json", "--lake", lake)
    assert json.loads(done.stdout)["imported"] is True
    assert Lake.open(lake).raw_days()


def test_what_changes_for_people_in_the_lake_is_said_before(tmp_path: Path, lake: Path) -> None:
    songs = [f"s{number}" for number in range(20)]
    first = written(tmp_path / "likes.csv", "user,track\n" + "".join(f"ann,{song}\n" for song in songs))
    assert tunegraph("import", first, "--lake", lake, "--as-of", "2026-02-01").returncode == 0
    before = content(lake)
    less = written(tmp_path / "less.csv", "user,track\nann,s1\nann,new\nben,s1\n")
    done = tunegraph("import", less, "--lake", lake, "--dry-run")
    assert "in the lake already: 1 of 2 users; 0 unchanged, 1 song added, 19 removed" in done.stdout
    assert (
        "ann had 20 songs and has 2 with this: a list of a later day replaces the earlier one" in done.stdout
    )
    said = json.loads(tunegraph("import", less, "--lake", lake, "--dry-run", "--json").stdout)["changes"]
    assert (said["users"], said["new"], said["unchanged"], said["added"], said["removed"]) == (2, 1, 0, 1, 19)
    assert said["shrunk"] == [["ann", 20, 2]]
    same_day = tunegraph("import", less, "--lake", lake, "--dry-run", "--as-of", "2026-02-01")
    assert "0 unchanged, 1 song added, 0 removed" in same_day.stdout
    earlier = tunegraph("import", less, "--lake", lake, "--dry-run", "--as-of", "2026-01-15")
    assert "1 unchanged, 0 songs added, 0 removed" in earlier.stdout
    assert content(lake) == before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "Track URI,Track Name,Artist Name(s),Added At\nspotify:episode:e,P,S,2024-01-01T00:00:00Z\n",
            "liked.csv",
        ),
        ('{"tracks": [], "albums": [], "bannedTracks": []}', "YourLibrary.json"),
        ("Queen,Bohemian\nABBA,Dancing\n", "songs.txt"),
        ("user_id,track_id,verdict_score\nann,t1,ace\n", "opinions.csv"),
        ("%PDF-1.7", "a.pdf"),
    ],
)
def test_a_refusal_changes_nothing(text: str, name: str, tmp_path: Path, lake: Path) -> None:
    good = written(tmp_path / "good.csv", "user,track\nme,s1\nann,s1\n")
    assert tunegraph("import", good, "--lake", lake).returncode == 0
    before = content(lake)
    line = complaint(tunegraph("import", written(tmp_path / "bad" / name, text), "--lake", lake))
    assert str(tmp_path / "bad" / name) in line
    assert content(lake) == before


def test_an_old_library_without_ids_replaces_a_list_by_the_same_songs(tmp_path: Path, lake: Path) -> None:
    songs = [("The Lanterns", "Blue Harbour", A), ("Ida Quist", "Paper Moons", B)]
    rows = [{"artist": by, "track": title, "uri": f"spotify:track:{song}"} for by, title, song in songs]
    new = written(tmp_path / "day1" / "YourLibrary.json", json.dumps({"tracks": rows}))
    old = [{"artist": row["artist"], "track": row["track"]} for row in rows]
    without = written(tmp_path / "day2" / "YourLibrary.json", json.dumps({"tracks": old}))
    assert tunegraph("import", new, "--lake", lake, "--as-of", "2026-01-01").returncode == 0
    done = tunegraph("import", without, "--lake", lake, "--as-of", "2026-01-02", "--json")
    assert (json.loads(done.stdout)["likes"], done.returncode) == (2, 0)
    assert tunegraph("refresh", "--source", "none", "--lake", lake).returncode == 0
    opened = Lake.open(lake)
    catalogue = opened.read("catalogue", opened.current_version("catalogue"))
    assert catalogue["recording"].n_unique() == 2


def test_options_are_checked(tmp_path: Path, lake: Path) -> None:
    likes = written(tmp_path / "likes.csv", "user,track,mood\nann,s1,happy\n")
    assert "--like-when mood must be COLUMN=VALUE" in complaint(
        tunegraph("import", likes, "--like-when", "mood", "--lake", lake)
    )
    done = tunegraph("import", likes, "--like-when", "mood=happy,glad", "--dry-run", "--lake", lake)
    assert "mood: glad or happy is a like, anything else says nothing" in done.stdout
    assert "--min-rating is for files of ratings" in complaint(
        tunegraph("import", likes, "--min-rating", 4, "--lake", lake)
    )
    assert not lake.exists()


def test_a_new_user_whose_list_is_anothers_is_told(tmp_path: Path, lake: Path) -> None:
    songs = "".join(f"X,Song {number}\n" for number in range(12))
    mine = written(tmp_path / "mine.csv", f"artist,title\n{songs}")
    assert tunegraph("import", mine, "--lake", lake).returncode == 0
    assert tunegraph("refresh", "--source", "none", "--lake", lake).returncode == 0
    done = tunegraph("import", mine, "--user-id", "ann", "--dry-run", "--lake", lake)
    assert "ann shares 12 songs with me; if they are one person" in done.stdout
    assert "tunegraph users --alias ann=me" in done.stdout


def test_plays_and_the_songs_that_they_make_likes_are_said(tmp_path: Path, lake: Path) -> None:
    plays = [("One", 1), ("One", 2), ("One", 2), ("Two", 1)]
    rows = "".join(f"Ann,{song},2026-01-0{day}T1{n}:00:00Z\n" for n, (song, day) in enumerate(plays))
    history = written(tmp_path / "scrobbles.csv", f"artist,track,listened_at\n{rows}")
    said = tunegraph("import", history, "--dry-run", "--lake", lake).stdout
    assert "  1 user, 4 plays, 2 described songs" in said
    assert "by their plays, 1 song is a like: 3 plays or more on 2 days of the last 365" in said
    assert tunegraph("import", history, "--lake", lake).returncode == 0
    Lake.open(lake).set_section("plays", {"min_days": 1, "min_plays": 1})
    summary = json.loads(tunegraph("import", history, "--json", "--lake", lake).stdout)
    assert (summary["plays"], summary["likes"], summary["likes_by_plays"]) == (4, 0, 2)
    with_option = tunegraph("import", history, "--dry-run", "--min-plays", "3", "--lake", lake).stdout
    assert "1 user, 1 like" in with_option
