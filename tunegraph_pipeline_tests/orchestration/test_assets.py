"""The daily assets over ranges of days and the checks that stop a run, on small lakes and a real instance."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dagster import AssetCheckResult, AssetCheckSeverity, DagsterInstance

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.orchestration import checks
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.trained_model import training_data

pytestmark = pytest.mark.dagster

FIRST, LAST = date(2026, 2, 1), date(2026, 2, 3)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake that received one list on each of two days, with a day without anything between them."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    for day, tracks in ((FIRST, "abc"), (LAST, "ab")):
        rows = [{"user_id": user, "track_id": track, "liked_at": None} for user in "uv" for track in tracks]
        likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
        write_batch(lake.raw, day, RawBatch("files", "test", likes=likes))
    return lake


def _files(lake: Lake) -> dict[str, bytes]:
    paths = [path for name in DAILY_TABLES for path in sorted((lake.root / name).rglob("*.parquet"))]
    return {str(path.relative_to(lake.root)): path.read_bytes() for path in paths}


def test_a_range_of_days_is_one_run_with_metadata_a_day(lake: Lake) -> None:
    run_job(lake, "daily_tables", FIRST, LAST)
    assert lake.partitions("likes") == ["2026-02-01", "2026-02-02", "2026-02-03"]
    assert [len(lake.read("likes", day)) for day in lake.partitions("likes")] == [6, 0, 4]
    assert lake.stale_days() == []
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        (run,) = instance.get_runs()
        events = [
            entry.dagster_event.step_materialization_data.materialization
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None and entry.dagster_event.is_step_materialization
        ]
    rows = {
        event.partition: event.metadata["dagster/row_count"].value
        for event in events
        if event.asset_key.to_user_string() == "liked_lists"
    }
    assert rows == {"2026-02-01": 6, "2026-02-02": 0, "2026-02-03": 4}


def test_days_give_the_same_files_in_any_order_and_when_filled_again(lake: Lake) -> None:
    run_job(lake, "daily_tables", FIRST, LAST)
    at_once = _files(lake)
    for name in DAILY_TABLES:
        for key in lake.partitions(name):
            lake.table_path(name, key).unlink()
    for day in (LAST, FIRST, date(2026, 2, 2), LAST):
        run_job(lake, "daily_tables", day, day)
    assert _files(lake) == at_once


def test_a_later_batch_makes_its_day_stale_and_is_added(lake: Lake) -> None:
    run_job(lake, "daily_tables", FIRST, LAST)
    row = {"user_id": "w", "track_id": "z", "liked_at": None}
    late = pl.DataFrame([row], schema=empty_frame("likes").schema)
    write_batch(lake.raw, FIRST, RawBatch("files", "late", likes=late))
    assert lake.stale_days() == [FIRST]
    run_job(lake, "daily_tables", FIRST, FIRST)
    assert len(lake.read("likes", FIRST.isoformat())) == 7


@pytest.mark.slow
def test_a_hole_in_the_past_that_is_filled_later_and_twice_changes_that_day_alone(lake: Lake) -> None:
    run_job(lake, "daily_tables", FIRST, LAST)
    before = _files(lake)
    row = {"user_id": "w", "track_id": "z", "liked_at": None}
    hole, missed = date(2026, 2, 2), pl.DataFrame([row], schema=empty_frame("likes").schema)
    write_batch(lake.raw, hole, RawBatch("files", "found again", likes=missed))
    assert lake.stale_days() == [hole]
    for _ in range(2):
        run_job(lake, "daily_tables", hole, hole)
    after = _files(lake)
    assert {path for path in before if before[path] != after[path]} <= {
        path for path in before if f"dt={hole}" in path
    }
    for name in DAILY_TABLES:
        for key in lake.partitions(name):
            lake.table_path(name, key).unlink()
    run_job(lake, "daily_tables", FIRST, LAST)  # as if it had been there from the start
    assert _files(lake) == after


def test_a_day_of_a_live_run_is_crawled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("simulator", {"n_users": 20, "n_tracks": 60})
    for _ in range(2):
        run_job(lake, "daily_tables", FIRST, FIRST, {"crawled_users": {"source": "simulator"}})
    assert len(lake.batches(FIRST)) == 1
    assert Lake.open(lake.root).file.source == "simulator"
    assert len(lake.read("audio_features", FIRST.isoformat())) > 0


def test_an_empty_lake_has_nothing_to_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = Lake.open_or_create(tmp_path / "lake")
    with pytest.raises(LakeError, match="has no filled day yet"):
        run_job(lake, "refresh", FIRST, FIRST)


# --- checks ---


def _passed(result: object) -> bool:
    assert isinstance(result, AssetCheckResult)
    return bool(result.passed)


def test_a_pair_that_is_there_twice_fails_its_check(lake: Lake) -> None:
    rows = pl.DataFrame({"user_id": ["u", "u"], "track_id": ["a", "b"], "liked_at": None})
    lake.set_current("current_likes", "2026-02-01")
    lake.write("current_likes", "2026-02-01", rows)
    assert _passed(checks.each_pair_once(lake=lake))
    lake.write("current_likes", "2026-02-01", pl.concat([rows, rows[:1]]))
    assert not _passed(checks.each_pair_once(lake=lake))


@pytest.mark.parametrize(
    ("track_idx", "track_id", "holds"),
    [
        ([0, 1], ["b", "a"], True),
        ([1, 0], ["a", "b"], False),
        ([0, 2], ["a", "b"], False),
        ([0, 1], ["a", "a"], False),
    ],
)
def test_indices_that_are_not_contiguous_or_unique_fail(
    lake: Lake, track_idx: list[int], track_id: list[str], holds: bool
) -> None:
    lake.write("track_ids", None, pl.DataFrame({"track_idx": track_idx, "track_id": track_id}))
    assert _passed(checks.indices_contiguous(lake=lake)) == holds


@pytest.mark.parametrize(
    ("vectors", "holds"),
    [
        ([[1.0, 0.0], [0.6, 0.8]], True),
        ([[1.0, 0.0], [0.6, 0.6]], False),
        ([[1.0, 0.0], [float("nan"), 0.0]], False),
        ([[1.0, 0.0]], False),
    ],
)
def test_embeddings_that_are_not_finite_unit_and_complete_fail(
    lake: Lake, vectors: list[list[float]], holds: bool
) -> None:
    lake.write("track_ids", None, pl.DataFrame({"track_idx": [0, 1], "track_id": ["a", "b"]}))
    n = len(vectors)
    rows = pl.DataFrame(
        {
            "track_id": ["a", "b"][:n],
            "track_idx": pl.Series(range(n), dtype=pl.Int32),
            "embedding": pl.Series(np.array(vectors, dtype=np.float32), dtype=pl.Array(pl.Float32, 2)),
            "model_version": ["m"] * n,
        }
    )
    lake.write("track_embeddings", "m", rows)
    lake.set_current("models", "m")
    assert _passed(checks.finite_and_of_unit_length(lake=lake)) == holds


def _model(lake: Lake, **facts: object) -> None:
    folder = lake.version_folder("models", "m")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"facts": facts, "parts": {}}))
    lake.set_current("models", "m")


@pytest.mark.parametrize(("model", "holds"), [(0.12, True), (0.01, False), (None, True)])
def test_a_model_worse_than_popularity_fails(lake: Lake, model: float | None, holds: bool) -> None:
    _model(lake, validation=model, validation_of_popularity=0.05)
    assert _passed(checks.better_than_popularity(lake=lake)) == holds


def test_a_model_worse_than_popularity_stops_the_run_only_where_no_live_one_can_be_kept(lake: Lake) -> None:
    from tunegraph_pipeline.pipeline.gate import objection_to

    _model(lake, validation=0.01, validation_of_popularity=0.05)

    def severity() -> AssetCheckSeverity:
        found = checks.better_than_popularity(lake=lake)
        assert isinstance(found, AssetCheckResult)
        return found.severity

    assert severity() == AssetCheckSeverity.ERROR
    bundle = lake.serving / "b1"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text(json.dumps({"facts": {"model_version": "m0"}, "parts": {}}))
    (lake.serving / "CURRENT").write_text("b1\n")
    assert severity() == AssetCheckSeverity.WARN
    # The gate takes over: such a model is refused whatever the comparison says.
    assert objection_to(lake, "m") == (
        "MAP@10 on validation is 0.0100, below the 0.0500 of the most popular songs"
    )


# --- what training is given ---


def test_content_is_lined_up_with_the_id_map(lake: Lake) -> None:
    from tunegraph_pipeline.graph.like_graph import build_like_graph
    from tunegraph_pipeline.lake.tables import empty_table

    ids = pl.Series("track_id", ["c", "a", "b"])
    likes = pl.DataFrame({"user_id": ["u", "u", "v"], "track_id": ["a", "b", "c"]})
    graph = build_like_graph(likes, ids, split_key="k", held_out=0.0, calibration_share=0.0)
    rows = [
        {"track_id": "a", "artist_ids": ["x", "y"], "album_id": "A", "source": "files"},
        {"track_id": "b", "artists": ["Z"], "album_id": "B", "source": "files"},
    ]
    tracks = pl.DataFrame(rows, schema=empty_table("tracks").schema)
    heard = pl.DataFrame(
        [{"track_id": "b", "provider": "files", "tempo": 120.0}], schema=empty_table("audio_features").schema
    )
    data = training_data(graph, build_catalogue(ids, tracks, heard)[0])
    assert data.album.tolist() == [-1, 0, 1]
    assert data.track_artists.sum(axis=1).ravel().tolist()[0] == [0, 2, 1]
    tempo = data.features[:, 9]
    assert np.isnan(tempo[:2]).all()
    assert tempo[2] == 120.0
    assert data.train.toarray().tolist() == [[0, 1, 1], [1, 0, 0]]


# --- one song, one node ---


def test_training_is_told_what_is_known_of_a_recording_once() -> None:
    from tunegraph_pipeline.graph.like_graph import build_like_graph
    from tunegraph_pipeline.lake.tables import empty_table

    ids = pl.Series("track_id", ["a", "b", "a again"])
    likes = pl.DataFrame({"user_id": ["u", "u", "v"], "track_id": ["a again", "b", "a"]})
    canonical = np.array([0, 1, 0], dtype=np.int32)
    graph = build_like_graph(
        likes, ids, split_key="k", held_out=0.0, calibration_share=0.0, canonical=canonical
    )
    rows = [
        {"track_id": "a", "album_id": "A", "source": "files"},
        {"track_id": "a again", "artist_ids": ["x"], "album_id": "Best of", "source": "files"},
        {"track_id": "b", "artist_ids": ["x"], "source": "files"},
    ]
    heard = [{"track_id": "a again", "provider": "files", "tempo": 120.0}]
    catalogue, _ = build_catalogue(
        ids,
        pl.DataFrame(rows, schema=empty_table("tracks").schema),
        pl.DataFrame(heard, schema=empty_table("audio_features").schema),
    )
    data = training_data(graph, catalogue.with_columns(recording=pl.Series(canonical)))
    assert data.album.tolist() == [0, -1, -1]
    assert data.track_artists.toarray().tolist() == [[True], [True], [False]]
    assert data.features[0, 9] == 120.0
    assert np.isnan(data.features[1:]).all()
    assert data.train.toarray().tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.fixture
def two_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake in which every third song has a second id that every other user likes it under."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
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
    run_job(lake, "refresh", FIRST, FIRST)
    ids = known_track_ids(lake).to_list()
    aliases = [place for place, name in enumerate(ids) if name.endswith("again")]
    assert len(ids) == 40
    graph = open_like_graph(lake)
    assert graph.canonical[aliases].tolist() == [ids.index(ids[place][:3]) for place in aliases]
    assert graph.track_degrees()[aliases].sum() == 0
    assert len(graph.indices) == 60 * 12 + 1
    assert lake_status(lake)["tracks known"] == "40, 10 of them other ids of the same recordings"

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
    run_job(lake, "refresh", FIRST, FIRST)
    apart = open_like_graph(lake)
    assert lake.current_version("like_graph") != merged
    assert apart.canonical.tolist() == list(range(40))
    assert len(apart.indices) == 60 * 12 + 2
    assert apart.track_degrees()[aliases].min() > 0
    assert lake_status(lake)["tracks known"] == "40"
    liked = Recommender.open(lake.serving).recommend(["s00"], 40).items
    assert "s00 again" in {item.song.track_id for item in liked}

    lake.set_section("graph", {"held_out": 0.0})
    run_job(lake, "refresh", FIRST, FIRST)
    assert lake.current_version("like_graph") == merged


# --- tracks nobody likes ---


@pytest.fixture
def two_genres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Two genres of four artists with eight songs each, whose listeners like most songs of two of the four;
    a song of x0 that nobody likes, one of an artist nobody knows, and one of which nothing is said."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
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
    run_job(lake, "refresh", FIRST, FIRST)
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
    run_job(lake, "refresh", FIRST, FIRST)
    model = lake.current_version("models")
    row = {"track_id": "later of x0", "artists": ["x0"], "source": "files"}
    later = pl.DataFrame([row], schema=empty_frame("tracks").schema)
    write_batch(lake.raw, LAST, RawBatch("files", "later", tracks=later))
    run_job(lake, "refresh", LAST, LAST)
    place = bundle_of(lake, model).tracks.position("later of x0")
    assert place >= 0
    assert not bundle_of(lake, model).recommendable[place]
    recommender = Recommender.open(lake.serving)
    assert recommender.bundle.model_version != model
    assert recommender.bundle.recommendable[place]


def _silent(label: str, done: int, total: int) -> None:
    """A progress bar nobody looks at."""
