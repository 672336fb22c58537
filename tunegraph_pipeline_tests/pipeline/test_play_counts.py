"""How often likes were played, from a lake to its model: what is counted, and when it trains again."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.play_counts import counted, play_counts
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.training.play_weights import weighed
from tunegraph_pipeline_tests.run_stages import run_stages

FIRST, SECOND = date(2026, 2, 1), date(2026, 2, 2)
TRAINING = {"dimension": 8, "epochs": 2, "memory_mib": 64}
SONGS, USERS = 40, 60

Plays = Mapping[tuple[str, str], Sequence[int]]
"""By user and song the plays on each of some days, which end with 31 January."""


def test_plays_of_two_ids_of_a_recording_add_up_and_a_saved_song_weighs_one() -> None:
    ids = pl.Series("track_id", ["a", "b", "a again", "saved"])
    likes = [("u", "a"), ("u", "a again"), ("u", "b"), ("u", "saved"), ("v", "b")]
    graph = build_like_graph(
        pl.DataFrame(likes, ["user_id", "track_id"], orient="row"),
        ids,
        split_key="k",
        held_out=0.0,
        calibration_share=0.0,
        canonical=np.array([0, 1, 0, 3], dtype=np.int32),
    )
    columns = ["user_id", "track_id", "plays"]
    # v dislikes a, which plays would make a like; nobody knows w.
    rows = [("u", "a", 5), ("u", "a again", 10), ("u", "b", 3), ("v", "a", 7), ("w", "b", 9)]
    blocks = [pl.DataFrame(some, columns, orient="row") for some in (rows[:2], rows[2:])]
    plays = counted(blocks, graph, ids)
    assert plays is not None
    assert plays.toarray().tolist() == [[15, 3, 0, 0], [0, 0, 0, 0]]
    # The logarithms of 16 and 4 are as 4 to 2.
    expected = np.array([[4 / 3, 2 / 3, 0, 1], [0, 1, 0, 0]])
    np.testing.assert_allclose(weighed(graph.matrix(), plays).toarray(), expected, rtol=1e-6)
    assert counted([blocks[1].filter(user_id="v")], graph, ids) is None


def songs_of(user: int) -> list[str]:
    """Nine songs, mostly those of one artist of three."""
    chance = np.where(np.arange(SONGS) % 3 == user % 3, 8.0, 1.0)
    drawn = np.random.default_rng(user).choice(SONGS, 9, replace=False, p=chance / chance.sum())
    return [f"song {song:02}" for song in drawn.tolist()]


def listening() -> dict[tuple[str, str], Sequence[int]]:
    rng = np.random.default_rng(0)
    return {(f"u{n}", song): rng.integers(2, 30, 2).tolist() for n in range(USERS) for song in songs_of(n)}


def receive(lake: Lake, day: date, plays: Plays, saved: Mapping[str, Sequence[str]]) -> None:
    rows = [
        (user, song, FIRST - timedelta(days=len(times) - n), one)
        for (user, song), times in plays.items()
        for n, one in enumerate(times)
    ]
    batch = RawBatch(
        "files",
        "history",
        plays=pl.DataFrame(rows, empty_frame("plays").schema, orient="row"),
        likes=pl.DataFrame(
            [{"user_id": user, "track_id": song} for user, songs in saved.items() for song in songs],
            schema=empty_frame("likes").schema,
        ),
    )
    write_batch(lake.raw, day, batch)


def new_lake(root: Path, **training: object) -> Lake:
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {**TRAINING, **training})
    return lake


def refresh(lake: Lake, day: date) -> str:
    """How the model was made."""
    return str(run_stages(lake, "refresh", day, day)["trained_model"].how)


def likes_version(lake: Lake) -> str:
    """The version of the like graph, but for the cut-off it begins with."""
    return lake.current_version("like_graph")[len("2026-02-01") :]


def weights_of(lake: Lake) -> dict[tuple[str, str], float]:
    graph, ids = open_like_graph(lake), known_track_ids(lake).to_list()
    plays = play_counts(lake, graph)
    assert plays is not None
    found = weighed(graph.matrix(), plays).tocoo()
    return {
        (graph.user_ids[int(user)], ids[track]): float(weight)
        for user, track, weight in zip(found.row, found.col, found.data, strict=True)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("blank_plots")
def test_more_plays_of_the_same_likes_are_another_model_and_a_day_without_any_is_not(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake")
    saved = {"u0": ["song 00", "song 01"], "v": songs_of(0)}
    receive(lake, FIRST, listening(), saved)
    assert refresh(lake, FIRST) == "rebuilt"
    likes, model = likes_version(lake), lake.current_version("models")
    assert refresh(lake, FIRST) == "reused"

    more = {("u3", songs_of(3)[0]): [40, 90]}
    receive(lake, SECOND, more, {})
    assert refresh(lake, SECOND) == "updated"
    assert likes_version(lake) == likes
    facts = ArrayFolder.open(lake.current_folder("models")).facts
    assert facts["version"] != model
    assert facts["trained"] == f"warm start from {model}"
    day = SECOND + timedelta(days=1)
    receive(lake, day, {}, {"v": songs_of(0)})
    assert refresh(lake, day) == "reused"
    assert verify(lake.root).problems == []

    # A lake that was told everything at once weighs its likes the same.
    other = new_lake(tmp_path / "other")
    receive(other, FIRST, listening(), saved)
    receive(other, SECOND, more, {})
    receive(other, day, {}, {"v": songs_of(0)})
    run_stages(other, "graph", FIRST, day)
    weights = weights_of(lake)
    assert weights == weights_of(other)
    assert weights["v", songs_of(0)[0]] == 1
    assert weights["u3", songs_of(3)[0]] > 1


@pytest.mark.slow
@pytest.mark.usefixtures("blank_plots")
def test_without_plays_or_with_the_weights_off_a_model_keeps_its_version(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake")
    receive(lake, FIRST, {}, {f"u{n}": songs_of(n) for n in range(USERS)})
    refresh(lake, FIRST)
    assert play_counts(lake, open_like_graph(lake)) is None
    lake.set_section("training", {**TRAINING, "play_weights": False})
    assert refresh(lake, FIRST) == "reused"

    played = new_lake(tmp_path / "played", play_weights=False)
    receive(played, FIRST, listening(), {})
    refresh(played, FIRST)
    # The same likes, so the same model, whatever made them likes.
    assert played.current_version("models") == lake.current_version("models")
    receive(played, SECOND, {("u3", songs_of(3)[0]): [40, 90]}, {})
    assert refresh(played, SECOND) == "reused"
    played.set_section("training", TRAINING)
    assert refresh(played, SECOND) == "updated"
