"""From what a listener says through the service to what they are recommended after the next refresh."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.bundle import with_dislikes
from tunegraph_pipeline.pipeline.evaluate import recommend_for_users
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.usefixtures("blank_plots")

DAY, NEXT = date(2026, 2, 1), date(2026, 2, 2)


def at(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def likes_frame(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    rows = [{"user_id": user, "track_id": track} for user, track in pairs]
    return pl.DataFrame(rows, schema=empty_frame("likes").schema)


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users who like 8 of 20 songs by chance; song s03 has a second id that some like it under."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("feedback") / "lake")
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})  # likes by chance: no model has to foresee them
    rng = np.random.default_rng(3)
    likes = []
    for user in range(40):
        for song in rng.choice(20, 8, replace=False).tolist():
            likes.append((f"u{user}", "s03 again" if song == 3 and user % 2 else f"s{song:02d}"))
    known = [
        {"track_id": track, "isrc": "XTABC2600003", "duration_ms": 200_000} for track in ("s03", "s03 again")
    ]
    tracks = pl.DataFrame(known, schema=empty_frame("tracks").schema)
    write_batch(lake.raw, DAY, RawBatch("files", "test", likes=likes_frame(likes), tracks=tracks))
    run_stages(lake, "refresh", DAY, DAY)
    return lake.root


@pytest.fixture
def lake(refreshed: Path, tmp_path: Path) -> Lake:
    """A copy of that lake, to be changed."""
    return Lake.open(shutil.copytree(refreshed, tmp_path / "lake"))


def liked_by(lake: Lake, user: str) -> set[str]:
    lists = lake.read("current_likes", lake.current_version("current_likes"))
    return set(lists.filter(user_id=user)["track_id"])


def shown_to(recommender: Recommender, user: str) -> set[str]:
    return {item.song.track_id for item in recommender.recommend_user(user, 40).items}


def test_what_was_said_is_in_the_next_refresh_and_what_was_disliked_comes_no_more(
    lake: Lake, tmp_path: Path
) -> None:
    before = Recommender.open(lake.serving)
    first, second = (item.song.track_id for item in before.recommend_user("u0", 2).items)
    own = min(liked_by(lake, "u0"))
    append(lake.root, "w", "u0", [(first, "like"), (second, "dislike"), (own, "dislike")], at=at(DAY))
    append(lake.root, "w", "new", [("s00", "like"), ("s01", "like"), ("s02", "skip")], at=at(DAY))
    append(lake.root, "w", "picky", [("s05", "dislike")], at=at(DAY))
    assert lake_status(lake)["feedback"] == "7 waiting for the next refresh"
    lake.set_section("feedback", {"spool_mib": 1})
    (lake.spool / "rejected.jsonl").write_bytes(b"x" * 900_000)
    assert "the feedback spool has used 86% of settings.feedback.spool_mib" in lake_status(lake)["feedback"]
    (lake.spool / "rejected.jsonl").unlink()

    run_stages(lake, "refresh", DAY, DAY)
    assert lake_status(lake)["feedback"] == "like 3, dislike 3, skip 1; listeners 3"
    assert first in liked_by(lake, "u0")
    assert own not in liked_by(lake, "u0")
    assert liked_by(lake, "new") == {"s00", "s01"}
    recommender = Recommender.open(lake.serving)
    assert recommender.bundle.version != before.bundle.version
    assert {first, second, own}.isdisjoint(shown_to(recommender, "u0"))
    assert {"s00", "s01"}.isdisjoint(shown_to(recommender, "new"))
    assert recommender.recommend_user("new").degraded is None
    # Who only ever turned something down is known, and does not get it either.
    assert recommender.recommend_user("picky").degraded is not None
    assert "s05" not in shown_to(recommender, "picky")
    assert "s05" in {item.song.track_id for item in recommender.recommend([], 40).items}

    rows = lake.read("user_recommendations", recommender.bundle.version)
    assert {first, second, own}.isdisjoint(rows.filter(user_id="u0")["track_id"])
    assert "s05" not in set(rows.filter(user_id="picky")["track_id"])
    assert set(rows["user_id"]) == {*(f"u{user}" for user in range(40)), "new", "picky"}
    asked = pl.Series("user_id", ["u0", "picky", "nobody"])
    output = tmp_path / "answers.parquet"
    assert recommend_for_users(recommender, asked, output, Query(k=40), progress=lambda *_: None) == 1
    answers = pl.read_parquet(output)
    assert set(answers.filter(user_id="u0")["track_id"]) == shown_to(recommender, "u0")
    assert set(answers.filter(user_id="picky")["track_id"]) == shown_to(recommender, "picky")


@pytest.mark.slow
def test_what_changes_no_list_trains_no_model(lake: Lake) -> None:
    kinds = ("current_likes", "like_graph", "models", "serving")
    versions = [lake.current_version(kind) for kind in kinds]
    append(lake.root, "w", "u0", [("s00", "skip")], at=at(DAY))
    run_stages(lake, "refresh", DAY, DAY)
    assert len(lake.read("feedback", DAY.isoformat())) == 1
    assert lake.stale_days() == []
    assert [lake.current_version(kind) for kind in kinds] == versions

    turned_down = next(f"s{song:02d}" for song in range(20) if f"s{song:02d}" not in liked_by(lake, "u0"))
    append(lake.root, "w", "u0", [(turned_down, "dislike")], at=at(DAY))
    run_stages(lake, "refresh", DAY, DAY)
    after = [lake.current_version(kind) for kind in kinds]
    assert after[:3] == versions[:3]
    assert after[3] != versions[3]
    assert turned_down not in shown_to(Recommender.open(lake.serving), "u0")


@pytest.mark.slow
def test_a_dislike_alone_is_a_new_bundle_and_only_who_said_something_has_changed(lake: Lake) -> None:
    append(lake.root, "w", "u0", [(min(liked_by(lake, "u0")), "dislike")], at=at(NEXT))
    run_stages(lake, "refresh", NEXT, NEXT)
    assert lake.read("changed_users", NEXT.isoformat())["user_id"].to_list() == ["u0"]
    assert lake.read("current_dislikes", NEXT.isoformat())["user_id"].to_list() == ["u0"]
    # As of the day before, nobody had said it.
    run_stages(lake, "refresh", DAY, DAY, {"current_likes": {"cut_off": DAY.isoformat()}})
    assert lake.read("current_dislikes", DAY.isoformat()).is_empty()
    assert not len(Recommender.open(lake.serving).bundle.disliked_tracks)


def test_a_later_list_settles_what_was_said_before_it(lake: Lake) -> None:
    append(lake.root, "w", "u0", [("s19", "like"), ("s18", "like"), ("s17", "dislike")], at=at(DAY))
    after = likes_frame([("u0", track) for track in ("s00", "s17", "s18")])
    write_batch(lake.raw, NEXT, RawBatch("files", "later", likes=after))
    had = "s17" in liked_by(lake, "u0")
    run_stages(lake, "refresh", DAY, NEXT)
    assert liked_by(lake, "u0") == ({"s00", "s18"} if had else {"s00", "s17", "s18"})


def test_a_dislike_of_one_id_is_of_the_recording(lake: Lake) -> None:
    odd = next(f"u{user}" for user in range(1, 40, 2) if "s03 again" in liked_by(lake, f"u{user}"))
    even = next(f"u{user}" for user in range(0, 40, 2) if "s03" not in liked_by(lake, f"u{user}"))
    append(lake.root, "w", odd, [("s03", "dislike")], at=at(DAY))
    append(lake.root, "w", even, [("s03 again", "dislike")], at=at(DAY))
    run_stages(lake, "refresh", DAY, DAY)
    assert "s03 again" not in liked_by(lake, odd)
    bundle = Recommender.open(lake.serving).bundle
    stands_for_it = bundle.canonical[bundle.tracks.position("s03")]
    for user in (odd, even):
        assert bundle.user_dislikes(bundle.users.position(user)).tolist() == [stands_for_it]
        assert not {"s03", "s03 again"} & shown_to(Recommender.open(lake.serving), user)


def test_dislikes_are_lined_up_with_the_graph(lake: Lake) -> None:
    graph, ids = open_like_graph(lake), known_track_ids(lake)
    users = graph.user_ids.tolist()
    liked = ids[int(graph.indices[graph.indptr[1]])]
    free = next(track for place, track in enumerate(ids) if place not in graph.indices[: graph.indptr[1]])
    said = [(users[0], free), (users[0], "unheard of"), (users[1], liked), ("zoe", "s01"), ("amy", "s01")]
    dislikes = pl.DataFrame(said, ["user_id", "track_id"], orient="row")
    found = with_dislikes(graph, dislikes, ids)
    assert found.user_ids.tolist() == [*users, "amy", "zoe"]
    assert found.user_indptr.tolist() == [*graph.indptr.tolist(), *[len(graph.indices)] * 2]
    turned_down = [
        [ids[track] for track in found.disliked_tracks[start:end].tolist()]
        for start, end in zip(found.disliked_indptr[:-1], found.disliked_indptr[1:], strict=True)
    ]
    # Of a song that the graph has them like, the like holds: a bundle may not say both.
    assert turned_down == [[free], *[[]] * (len(users) - 1), ["s01"], ["s01"]]
