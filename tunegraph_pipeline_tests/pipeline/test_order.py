"""The order of lists from the received rows to what is served, and what the gate makes of it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.like_ages import like_ages, order_fingerprint
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.publication import CONTINUATION, last_judged
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

FIRST = date(2026, 2, 1)
SONGS, USERS, LENGTH = 40, 120, 12
TRAINING = {"dimension": 8, "epochs": 2, "encoder": "none"}


def walk(user: int) -> dict[str, int]:
    """Songs one after the other, with the place of each."""
    return {f"s{(7 * user + step) % SONGS:02d}": step for step in range(LENGTH)}


def receive(lake: Lake, day: date, lists: Mapping[str, Mapping[str, int | None]]) -> None:
    rows = [
        {"user_id": user, "track_id": song, "position": place}
        for user, songs in lists.items()
        for song, place in songs.items()
    ]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    write_batch(lake.raw, day, RawBatch("files", "lists.csv", likes=likes))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("training", TRAINING)
    lake.set_section("graph", {"held_out": 0.3})
    return lake


def order_of(music: Recommender, user: str) -> list[str]:
    """The list of a user, the newest song first."""
    place = music.bundle.users.position(user)
    ages = music.bundle.user_order(place)
    assert ages is not None
    songs = [music.bundle.tracks[track] for track in music.bundle.user_list(place).tolist()]
    return [song for _, song in sorted(zip(ages.tolist(), songs, strict=True))]


def test_the_order_is_served_chosen_by_judged_by_and_follows_changes(lake: Lake) -> None:
    receive(
        lake, FIRST, {f"u{user}": walk(user) for user in range(USERS)} | {"set": {"s00": None, "s09": None}}
    )
    run_stages(lake, "refresh", FIRST, FIRST)
    music = Recommender.open(lake.serving)
    newest_first = list(walk(3))[::-1]
    assert order_of(music, "u3") == newest_first
    assert music.bundle.user_order(music.bundle.users.position("set")) is None
    facts = ArrayFolder.open(lake.current_folder("models")).facts
    assert facts["continuation_moments"] > 100
    assert facts["continuation"] == music.bundle.facts["continuation"]
    as_given = music.recommend(newest_first[::-1], 5, mode="continue").items
    assert music.recommend_user("u3", 5, mode="continue").items == as_given
    table = lake.read("user_recommendations", music.bundle.version).filter(user_id="u3")
    assert table["track_id"].to_list() == [one.song.track_id for one in music.recommend_user("u3").items]

    # The same songs the other way round: the graph stays, the bundle does not. Another model is judged.
    day = FIRST + timedelta(days=1)
    turned = {song: LENGTH - place for song, place in walk(3).items()}
    receive(lake, day, {"u3": turned})
    lake.set_section("training", {**TRAINING, "seed": 1})
    run_stages(lake, "refresh", day, day)
    again = Recommender.open(lake.serving)
    assert again.bundle.version != music.bundle.version
    assert order_of(again, "u3") == newest_first[::-1]
    last = last_judged(lake.serving)
    assert last is not None
    assert last.decision is not None
    assert last.decision.protocol == CONTINUATION
    assert "liked next" in lake_status(lake)["gate"]
    assert verify(lake.root).problems == []


def test_where_no_list_has_an_order_nothing_is_stored_of_it(lake: Lake) -> None:
    receive(lake, FIRST, {f"u{user}": dict.fromkeys(walk(user)) for user in range(USERS)})
    run_stages(lake, "refresh", FIRST, FIRST)
    assert like_ages(lake, open_like_graph(lake)) is None
    music = Recommender.open(lake.serving)
    assert not music.bundle.has_order
    assert not (music.bundle.folder / "user_ages.npy").exists()
    assert not music.bundle.facts["continuation"]["for_users"]
    assert music.recommend_user("u3", mode="continue") == music.recommend_user("u3")


def test_a_song_that_is_liked_again_later_is_another_order_of_the_same_songs(lake: Lake) -> None:
    def say(hour: int, *said: tuple[str, str]) -> str:
        rows = [
            {
                "user_id": "u0",
                "track_id": song,
                "action": action,
                "at": datetime(2026, 2, 1, hour, minute, tzinfo=UTC),
                "shown": [],
                "bundle_version": "",
            }
            for minute, (song, action) in enumerate(said)
        ]
        feedback = pl.DataFrame(rows, schema=empty_frame("feedback").schema)
        write_batch(lake.raw, FIRST, RawBatch("feedback", "spool", feedback=feedback))
        run_stages(lake, "graph", FIRST, FIRST)
        return order_fingerprint(lake)

    receive(lake, FIRST, {f"u{user}": dict.fromkeys(walk(user)) for user in range(USERS)})
    before = say(1, ("s20", "like"), ("s21", "like"))
    graph = lake.current_version("like_graph")
    assert say(2, ("s00", "skip")) == before
    assert say(3, ("s20", "dislike"), ("s20", "like")) != before
    assert lake.current_version("like_graph") == graph
