"""Somebody's own list and nobody else's, on the command line: what each command says, and how another model
answers it."""

import csv
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus

from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline_tests.conftest import recorded
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

ALONE = "recommendations come from what other people like too, and this lake has the list of one user"


def table_of(path: Path, rows: list[tuple[str, str, str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "track_id", "name", "artist", "isrc"), *rows])
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 40 users who like 12 of 24 songs each, with a live bundle."""
    folder = tmp_path_factory.mktemp("other")
    songs = [(f"o{song}", f"Song {song}", "Ann", f"GBAYE06{song:05d}") for song in range(24)]
    pairs = {(f"u{user}", (user * 5 + step * step) % 24) for user in range(40) for step in range(12)}
    rows = [(user, *songs[song]) for user, song in sorted(pairs)]
    likes = table_of(folder / "likes.csv", rows)
    lake = folder / "lake"
    assert tunegraph("import", likes, "--lake", lake).returncode == 0
    Lake.open(lake).set_section("training", {"dimension": 16, "epochs": 4})
    done = tunegraph("refresh", "--lake", lake)
    assert done.returncode == 0, done.stderr
    return lake


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that received one list, and nothing else: four songs of the other lake, and two of nobody."""
    folder = tmp_path_factory.mktemp("mine")
    rows = [
        ("me", "o1", "Song 1", "Ann", ""),
        ("me", "x2", "Another name", "Bob", "GB-AYE-06-00002"),
        ("me", "x3", "SONG  3", "Ánn", ""),
        ("me", "x4", "Song 4", "ann", ""),
        ("me", "x5", "Song 5", "Bob", ""),
        ("me", "x6", "", "", ""),
    ]
    list_of_me = table_of(folder / "Liked_Songs.csv", rows)
    assert tunegraph("import", list_of_me, "--lake", folder / "lake").returncode == 0
    return folder / "lake"


FOUND = "in that model: 4 of 6 songs (1 by id, 1 by ISRC, 2 by artist and title)"


def test_a_lake_of_one_list_is_refreshed_and_says_what_it_lacks(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    rows = [("me", f"t{song}", f"Song {song}", "Ann", "") for song in range(746)]
    assert tunegraph("import", table_of(tmp_path / "l.csv", rows), "--lake", lake).returncode == 0
    with recorded():
        done = tunegraph("refresh", "--lake", lake)
        assert done.returncode == 0, done.stderr
        assert ALONE in done.stderr
        with DagsterInstance.from_config(str(lake / ".dagster")) as instance:
            (run,) = instance.get_runs()
            assert run.status == DagsterRunStatus.SUCCESS
            made = {key.to_user_string() for key in instance.get_asset_keys() if _made(instance, key)}
            (seen,) = instance.fetch_observations(AssetKey("trained_model"), limit=9).records
            assert seen.asset_observation is not None
            assert ALONE in str(seen.asset_observation.metadata["notes"].value)
    assert {"current_likes", "catalogue", "like_graph", "co_like_matrix"} <= made
    assert not {"trained_model", "serving_bundle", "retention"} & made
    for command in (
        ("recommend", "--user", "me"),
        ("similar", "t1"),
        ("publish",),
        ("publish", "--override", "why not"),
        ("serve", "--port", 0),
    ):
        assert ALONE in complaint(tunegraph(*command, "--lake", lake)), command
    status = tunegraph("status", "--lake", lake)
    assert status.returncode == 0
    assert "run `tunegraph refresh`" not in status.stdout
    assert tunegraph("verify", "--lake", lake).returncode == 0


def _made(instance: DagsterInstance, key: AssetKey) -> bool:
    return instance.get_latest_materialization_event(key) is not None


def test_a_list_is_answered_from_another_lake_before_its_own_was_refreshed(other: Path, mine: Path) -> None:
    assert ALONE in complaint(tunegraph("recommend", "--lake", mine, "--user", "me"))
    asked = ("recommend", "--lake", mine, "--user", "me", "--bundle", other, "-k", 20)
    done = tunegraph(*asked)
    assert done.returncode == 0, done.stderr
    assert FOUND in done.stderr
    assert "Song 1 (Ann), Song 2 (Ann), Song 3 (Ann), Song 4 (Ann)" in done.stdout
    answer = json.loads(tunegraph(*asked, "--json").stdout)
    found = {"id": 1, "ISRC": 1, "artist and title": 2, "artist and title without remarks": 0}
    assert answer["found"] == found
    assert answer["unknown"] == ["x5", "x6"]
    assert len(answer["missing"]) == 2
    shown = [item["track_id"] for item in answer["items"]]
    assert len(shown) == 20
    assert not {"o1", "o2", "o3", "o4"} & set(shown)
    left = json.loads(tunegraph(*asked, "--json", "--dislikes", shown[0], "--exclude", shown[1]).stdout)
    assert not {shown[0], shown[1]} & {item["track_id"] for item in left["items"]}


def test_a_file_is_answered_without_a_lake_from_a_bundle_or_a_lake(other: Path, mine: Path) -> None:
    of_lake = tunegraph("recommend", "--lake", mine, "--user", "me", "--bundle", other, "--json")
    file = mine.parent / "Liked_Songs.csv"
    version = (other / "serving" / "CURRENT").read_text().strip()
    for place in (("--bundle", other), ("--bundle", other / "serving" / version), ("--lake", other)):
        done = tunegraph("recommend", "--file", file, *place, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads(of_lake.stdout)
    likes = tunegraph("recommend", "--likes", "o1,x2", "--bundle", other, "--json")
    assert json.loads(likes.stdout)["unknown"] == ["x2"]


def test_one_of_several_lists_of_a_file_is_chosen_by_its_user(other: Path, tmp_path: Path) -> None:
    rows = [("me", "o1", "", "", ""), ("you", "o2", "", "", ""), ("you", "o3", "", "", "")]
    file = table_of(tmp_path / "both.csv", rows)
    assert "choose one with --user" in complaint(tunegraph("recommend", "--file", file, "--bundle", other))
    done = tunegraph("recommend", "--file", file, "--user", "you", "--bundle", other)
    assert "in that model: 2 of 2 songs (2 by id)" in done.stderr


def test_who_was_imported_since_the_last_refresh_is_answered_and_told_what_was_found(
    other: Path, tmp_path: Path
) -> None:
    lake = shutil.copytree(other, tmp_path / "lake")
    songs = [("Song 1 - Remastered 2011", "Ann"), ("song 2", "Ann"), ("Unheard", "Nobody")]
    file = tmp_path / "Liked_Songs.csv"
    file.write_text("title,artist\n" + "".join(f"{title},{by}\n" for title, by in songs))
    found = (
        "in that model: 2 of 3 songs (1 by artist and title, 1 by artist and title without remarks)",
        "not in it: Unheard by Nobody",
    )
    done = tunegraph("import", file, "--lake", lake)
    assert all(line in done.stderr for line in found), done.stderr
    answer = tunegraph("recommend", "--user", "me", "--lake", lake)
    assert answer.returncode == 0, answer.stderr
    assert all(line in answer.stderr for line in found), answer.stderr
    refreshed = tunegraph("refresh", "--lake", lake)
    assert refreshed.returncode == 0, refreshed.stderr
    table = pl.read_parquet(max(lake.glob("catalogue/*/*.parquet"), key=lambda path: path.stat().st_mtime_ns))
    joined = dict(
        table.filter(pl.col("track_id").str.starts_with("name:")).select("name", "joined_by").iter_rows()
    )
    assert joined == {"Song 1 - Remastered 2011": "stripped name", "song 2": "name", "Unheard": None}
    assert "in that model" not in tunegraph("recommend", "--user", "me", "--lake", lake).stderr


def test_what_the_refreshed_lake_says_of_dislikes_counts_elsewhere_too(
    other: Path, mine: Path, tmp_path: Path
) -> None:
    home = Lake.open(shutil.copytree(mine, tmp_path / "lake"))
    asked = ("recommend", "--lake", home.root, "--user", "me", "--bundle", other, "--json", "-k", 20)
    first = json.loads(tunegraph(*asked).stdout)["items"][0]["track_id"]
    append(home.root, "w", "me", [(first, "dislike")])
    assert tunegraph("refresh", "--lake", home.root).returncode == 0
    assert first in pl.read_parquet(next(home.root.glob("current_dislikes/*/*.parquet")))["track_id"]
    assert first not in [item["track_id"] for item in json.loads(tunegraph(*asked).stdout)["items"]]


def test_a_list_of_which_nothing_is_known_is_answered_by_popularity(other: Path, tmp_path: Path) -> None:
    file = table_of(tmp_path / "l.csv", [("me", "x", "Unheard", "Nobody", "")])
    done = tunegraph("recommend", "--file", file, "--bundle", other)
    assert done.returncode == 0
    assert "in that model: 0 of 1 song" in done.stderr
    assert "not personal: no given song is known" in done.stderr


def test_what_cannot_be_answered_from_elsewhere_is_one_line(other: Path, mine: Path, tmp_path: Path) -> None:
    users = mine.parent / "Liked_Songs.csv"
    refused = {
        ("--user", "me", "--bundle", tmp_path): "neither a bundle nor a lake",
        ("--user", "nobody", "--bundle", other): "user 'nobody' is not in",
        ("--user", "me", "--bundle", mine): ALONE,
        ("--users", users, "--output", tmp_path / "o.parquet", "--bundle", other): "leave --bundle out",
        ("--likes", "a", "--file", users): "give one of",
        ("--file", tmp_path / "none.csv", "--bundle", other): "none.csv",
    }
    for options, why in refused.items():
        assert why in complaint(tunegraph("recommend", "--lake", mine, *options)), options
