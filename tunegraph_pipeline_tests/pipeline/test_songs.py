"""From what was received to the answers: ids of one recording, and tracks nobody likes."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.usefixtures("blank_plots")

FIRST, LAST = date(2026, 2, 1), date(2026, 2, 3)


@pytest.fixture
def two_ids(tmp_path: Path) -> Lake:
    """A lake in which every third song has a second id that every other user likes it under."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})  # likes by chance: no model has to foresee them
    rng = np.random.default_rng(5)
    likes, tracks = [], []
    for song in range(30):
        described = {"isrc": f"XTABC26{song:05d}", "duration_ms": 200_000}
        tracks.append({"track_id": f"s{song:02d}", **described})
        if song % 3 == 0:
            tracks.append({"track_id": f"s{song:02d} again", "name": f"Song {song}", **described})
    for user in range(60):
        for song in rng.choice(30, 12, replace=False).tolist():
            again = song % 3 == 0 and user % 2
            likes.append({"user_id": f"u{user}", "track_id": f"s{song:02d}{' again' if again else ''}"})
    # Somebody likes a song under both ids.
    likes += [{"user_id": "both", "track_id": "s00"}, {"user_id": "both", "track_id": "s00 again"}]
    batch = RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(likes, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(tracks, schema=empty_frame("tracks").schema),
    )
    write_batch(lake.raw, FIRST, batch)
    return lake


@pytest.mark.slow
def test_ids_of_one_recording_are_one_node_from_the_graph_to_the_answers_and_back(two_ids: Lake) -> None:
    from tunegraph_pipeline.pipeline.evaluate import judge_held_out_file
    from tunegraph_pipeline.pipeline.like_graph import open_like_graph
    from tunegraph_pipeline.pipeline.status import lake_status
    from tunegraph_pipeline.pipeline.track_ids import known_track_ids
    from tunegraph_pipeline.recommend.recommender import Recommender

    lake = two_ids
    run_stages(lake, "refresh", FIRST, FIRST)
    ids = known_track_ids(lake).to_list()
    aliases = [place for place, name in enumerate(ids) if name.endswith("again")]
    assert len(ids) == 40
    graph = open_like_graph(lake)
    assert graph.canonical[aliases].tolist() == [ids.index(ids[place][:3]) for place in aliases]
    assert graph.track_degrees()[aliases].sum() == 0
    assert len(graph.indices) == 60 * 12 + 1
    said = lake_status(lake)
    assert said["tracks"] == "40, 10 of them other ids of the same recordings"
    assert "40 tracks, 30 of them recommendable, " in said["live bundle"]
    published = stage("serving_bundle").run(lake).facts
    assert (published["tracks"], published["recommendable tracks"]) == (40, 30)

    rows = lake.read("track_embeddings", lake.current_version("models"))
    places = rows["embedding"].to_numpy()
    np.testing.assert_array_equal(places, places[graph.canonical])
    recommender = Recommender.open(lake.serving)
    answer = recommender.recommend(["s00 again", "s01"])
    assert answer == recommender.recommend(["s00", "s01"])
    assert answer.unknown == []
    assert recommender.similar("s03 again") == recommender.similar("s03")
    # The name that only the other id has is shown with the one that is recommended.
    names = {item.song.track_id: item.song.name for item in recommender.recommend(["s01"], 40).items}
    assert names["s03"] == "Song 3"
    shown = lake.read("user_recommendations", recommender.bundle.version)
    assert not any(track.endswith("again") for track in shown["track_id"])

    held_out = pl.DataFrame({"user_id": ["both", "new"], "track_id": ["s03 again", "s06 again"]})
    judged = judge_held_out_file(
        lake, recommender, held_out, "held.csv", k=30, with_baselines=False, run_id="r", progress=_silent
    )
    assert judged.served.values["recall"] == 1.0

    merged = lake.current_version("like_graph")
    lake.set_section("graph", {"held_out": 0.0, "merge_recordings": False})
    run_stages(lake, "refresh", FIRST, FIRST)
    apart = open_like_graph(lake)
    assert lake.current_version("like_graph") != merged
    assert apart.canonical.tolist() == list(range(40))
    assert len(apart.indices) == 60 * 12 + 2
    assert apart.track_degrees()[aliases].min() > 0
    assert lake_status(lake)["tracks"] == "40"
    liked = Recommender.open(lake.serving).recommend(["s00"], 40).items
    assert "s00 again" in {item.song.track_id for item in liked}

    lake.set_section("graph", {"held_out": 0.0})
    run_stages(lake, "refresh", FIRST, FIRST)
    assert lake.current_version("like_graph") == merged


# --- tracks nobody likes ---


@pytest.fixture
def two_genres(tmp_path: Path) -> Lake:
    """Two genres of four artists with eight songs each, whose listeners like most songs of two of the four;
    a song of x0 that nobody likes, one of an artist nobody knows, and one of which nothing is said."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 16, "epochs": 8})
    rng = np.random.default_rng(7)
    artists = {genre: [f"{genre}{number}" for number in range(4)] for genre in "xy"}
    songs = {
        who: [f"{who} song {number}" for number in range(8)] for names in artists.values() for who in names
    }
    likes = []
    for user in range(80):
        for who in rng.choice(artists["xy"[user % 2]], 2, replace=False).tolist():
            heard = rng.choice(songs[who], 5, replace=False).tolist()
            likes += [{"user_id": f"u{user}", "track_id": song} for song in heard]
    tracks = [
        {"track_id": song, "name": song, "artists": [who], "source": "files"}
        for who, names in songs.items()
        for song in names
    ]
    tracks += [
        {"track_id": "new of x0", "name": "New", "artists": ["x0"], "source": "files"},
        {"track_id": "of nobody known", "artists": ["z"], "source": "files"},
        {"track_id": "of nobody at all", "name": "Untold", "source": "files"},
    ]
    batch = RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(likes, schema=empty_frame("likes").schema),
        tracks=pl.DataFrame(tracks, schema=empty_frame("tracks").schema),
    )
    write_batch(lake.raw, FIRST, batch)
    return lake


@pytest.mark.slow
def test_a_track_nobody_likes_is_shown_to_listeners_of_its_artist_and_an_unplaced_one_to_nobody(
    two_genres: Lake,
) -> None:
    from tunegraph_pipeline.recommend.recommender import Recommender

    lake = two_genres
    run_stages(lake, "refresh", FIRST, FIRST)
    recommender = Recommender.open(lake.serving)
    bundle = recommender.bundle
    left_out = np.flatnonzero(~bundle.recommendable)
    assert sorted(bundle.tracks.ids.tolist()[track] for track in left_out) == [
        "of nobody at all",
        "of nobody known",
    ]

    near = recommender.similar("new of x0", 8)
    assert [song.song.track_id.split()[0] for song in near] == ["x0"] * 8
    assert near[0].cosine > near[-1].cosine > 0
    assert "new of x0" in {song.song.track_id for song in recommender.similar("x0 song 0", 8)}

    heard = [f"x0 song {number}" for number in range(6)]
    shown = recommender.recommend(heard, 5).items
    (new,) = [item for item in shown if item.song.track_id == "new of x0"]
    assert new.reasons[0].track_id in heard
    other_genre = recommender.recommend([f"y0 song {number}" for number in range(6)], 10).items
    assert "new of x0" not in {item.song.track_id for item in other_genre}

    rows = lake.read("user_recommendations", bundle.version)
    to_whom = set(rows.filter(track_id="new of x0")["user_id"])
    likes = lake.read("current_likes", FIRST.isoformat())
    of_artist = likes.filter(pl.col("track_id").str.starts_with("x0"))["user_id"].unique()
    assert to_whom
    assert to_whom <= set(of_artist)
    # One song of 65 takes about that share of all places.
    assert len(to_whom) <= 2 * len(rows) / 65
    assert not rows["track_id"].str.starts_with("of nobody").any()


@pytest.mark.slow
def test_a_described_track_that_arrives_after_the_training_waits_for_the_next_model(two_genres: Lake) -> None:
    from tunegraph_pipeline.pipeline.bundle import bundle_of
    from tunegraph_pipeline.recommend.recommender import Recommender

    lake = two_genres
    run_stages(lake, "refresh", FIRST, FIRST)
    model = lake.current_version("models")
    row = {"track_id": "later of x0", "artists": ["x0"], "source": "files"}
    later = pl.DataFrame([row], schema=empty_frame("tracks").schema)
    write_batch(lake.raw, LAST, RawBatch("files", "later", tracks=later))
    run_stages(lake, "refresh", LAST, LAST)
    place = bundle_of(lake, model).tracks.position("later of x0")
    assert place >= 0
    assert not bundle_of(lake, model).recommendable[place]
    recommender = Recommender.open(lake.serving)
    assert recommender.bundle.model_version != model
    assert recommender.bundle.recommendable[place]


def _silent(label: str, done: int, total: int) -> None:
    """A progress bar nobody looks at."""
