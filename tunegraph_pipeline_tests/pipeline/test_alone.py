"""A lake whose users share no song: its tables are filled, nothing is made of them, and it says so."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import BundleError, InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.alone import check_live, open_live, why_alone
from tunegraph_pipeline.pipeline.deletion_requests import request
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.user_list import list_in_files, list_in_lake
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.publication import live_version
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.usefixtures("blank_plots")

DAY, NEXT = date(2026, 2, 1), date(2026, 2, 2)
COMMON = [f"s{song}" for song in range(8)]


def batch(lists: dict[str, list[str]], isrcs: dict[str, str] | None = None) -> RawBatch:
    likes = [{"user_id": user, "track_id": track} for user, songs in lists.items() for track in songs]
    tracks = [
        {"track_id": track, "name": f"Song {track}", "artists": ["Ann"], "isrc": (isrcs or {}).get(track)}
        for track in dict.fromkeys(track for songs in lists.values() for track in songs)
    ]
    return RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(likes, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(tracks, schema=empty_frame("tracks").schema),
    )


def lake_of(root: Path, lists: dict[str, list[str]], isrcs: dict[str, str] | None = None) -> Lake:
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})
    write_batch(lake.raw, DAY, batch(lists, isrcs))
    return lake


def crowd(users: int) -> dict[str, list[str]]:
    """Users who like five of the eight common songs."""
    return {f"u{user}": [COMMON[(user + step) % 8] for step in range(5)] for user in range(users)}


@pytest.mark.parametrize(
    ("lists", "fact"),
    [
        ({"me": [f"mine{song}" for song in range(746)]}, "this lake has the list of one user"),
        ({"me": ["a", "b"], "you": ["c", "d"], "her": ["e"]}, "no two of the 3 users of this lake"),
    ],
)
def test_the_tables_are_filled_and_the_run_ends_where_the_model_would_begin(
    tmp_path: Path, lists: dict[str, list[str]], fact: str
) -> None:
    lake = lake_of(tmp_path / "lake", lists)
    results = run_stages(lake, "refresh", DAY, DAY)
    assert list(results)[-1] == "trained_model"
    (why,) = results["trained_model"].notes
    assert results["trained_model"].ends
    assert fact in why
    assert "\n" not in why
    assert lake.stale_days() == []
    assert lake.row_count("current_likes", DAY.isoformat()) == sum(map(len, lists.values()))
    assert not lake.has_current("models")
    assert live_version(lake.serving) is None
    assert verify(lake.root).problems == []
    status = lake_status(lake)
    assert status["no new model"] == why
    assert not {"model", "live bundle"} & status.keys()
    for refusing in (open_live, check_live, stage("serving_bundle").run):
        with pytest.raises(InputError) as error:
            refusing(lake)
        assert str(error.value) == why


def test_ids_of_one_recording_are_one_song(tmp_path: Path) -> None:
    lists = {"me": ["a", "b"], "you": ["c", "d"]}
    lake = lake_of(tmp_path / "lake", lists, {"a": "GBAYE0601498", "c": "GBAYE0601498"})
    run_stages(lake, "graph", DAY, DAY)
    assert why_alone(open_like_graph(lake)) is None


def test_before_the_first_refresh_one_list_is_told_and_of_several_the_refresh_tells(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    with pytest.raises(InputError, match="this lake has no list yet"):
        open_live(lake)
    write_batch(lake.raw, DAY, batch({"me": ["a"]}))
    with pytest.raises(InputError, match="the list of one user"):
        open_live(lake)
    run_stages(lake, "graph", DAY, DAY)
    write_batch(lake.raw, NEXT, batch({"you": ["a"]}))
    with pytest.raises(BundleError, match="tunegraph refresh"):
        open_live(lake)


def test_the_live_bundle_stays_and_a_model_is_made_once_lists_are_shared(tmp_path: Path) -> None:
    lake = lake_of(tmp_path / "lake", crowd(12))
    run_stages(lake, "refresh", DAY, DAY)
    live, model = live_version(lake.serving), lake.current_version("models")
    write_batch(lake.raw, NEXT, batch({user: [f"only {user}"] for user in crowd(12)}))
    assert run_stages(lake, "refresh", NEXT, NEXT)["trained_model"].ends
    assert (live_version(lake.serving), lake.current_version("models")) == (live, model)
    assert open_live(lake).recommend_user("u0", k=3).items
    assert "no new model" in lake_status(lake)
    later = date(2026, 2, 3)
    write_batch(lake.raw, later, batch(crowd(12)))
    assert "serving_bundle" in run_stages(lake, "refresh", later, later)
    assert live_version(lake.serving) != live
    assert "no new model" not in lake_status(lake)


@pytest.mark.parametrize("job", ["forget", "refresh"])
def test_a_live_bundle_that_names_forgotten_users_does_not_stay(tmp_path: Path, job: str) -> None:
    lake = lake_of(tmp_path / "lake", crowd(12))
    run_stages(lake, "refresh", DAY, DAY)
    request(lake, [f"u{user}" for user in range(1, 12)])
    days = (DAY, DAY) if job == "refresh" else ()
    last = list(run_stages(lake, job, *days).values())[-1]
    assert last.ends
    assert "1 bundle with forgotten or expired data withdrawn" in last.notes[1]
    assert live_version(lake.serving) is None
    assert list(lake.serving.rglob("*.npy")) == []
    assert not any(lake.deletion_requests.rglob("*.txt"))
    with pytest.raises(InputError, match="the list of one user"):
        open_live(lake)


# --- the list of one person ---


def test_a_list_is_the_same_before_and_after_a_refresh(tmp_path: Path) -> None:
    lake = lake_of(tmp_path / "lake", {"me": ["a", "b"], "you": ["c"]}, {"a": "GBAYE0601498"})
    write_batch(lake.raw, NEXT, batch({"me": ["b", "c"]}))
    said = [("me", "d", "like"), ("me", "c", "dislike"), ("you", "a", "like")]
    rows = [
        {"user_id": user, "track_id": track, "action": action, "at": datetime(2026, 2, 2, 12, tzinfo=UTC)}
        | {"shown": [], "bundle_version": ""}
        for user, track, action in said
    ]
    feedback = pl.DataFrame(rows, schema=empty_frame("feedback").schema)
    write_batch(lake.raw, NEXT, RawBatch("feedback", "test", feedback=feedback))
    before = list_in_lake(lake, "me")
    assert [song.track_id for song in before.likes] == ["b", "d"]
    assert [song.track_id for song in before.dislikes] == ["c"]
    assert before.likes[0] == ("b", "", "Song b", ["Ann"])
    run_stages(lake, "refresh", DAY, NEXT)
    assert list_in_lake(lake, "me") == before
    current = lake.read("current_likes", NEXT.isoformat()).filter(user_id="me")
    assert current["track_id"].to_list() == ["b", "d"]
    with pytest.raises(InputError, match="user 'nobody' is not in"):
        list_in_lake(lake, "nobody")


def test_a_file_of_one_list_needs_no_name_and_one_of_several_does() -> None:
    mine = batch({"me": ["b", "a"]}, {"a": "GBAYE0601498"})
    found = list_in_files([mine])
    assert [(song.track_id, song.isrc) for song in found.likes] == [("b", ""), ("a", "GBAYE0601498")]
    both = [mine, batch({"you": ["c"]})]
    assert [song.track_id for song in list_in_files(both, "you").likes] == ["c"]
    with pytest.raises(InputError, match=r"the lists of 2 users \(me, you\); choose one with --user"):
        list_in_files(both)
    with pytest.raises(InputError, match="no list of user 'her'"):
        list_in_files(both, "her")
