"""What a bundle knows of years, genres and sound is what the catalogue knows."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline.bundle import genres_of, known_features
from tunegraph_pipeline.pipeline.catalogue import described, read_catalogue
from tunegraph_pipeline.recommend.filters import Filters
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.usefixtures("blank_plots")

FIRST = date(2026, 2, 1)


def test_features_known_of_no_track_take_nothing_and_the_others_have_their_values() -> None:
    rows = (
        empty_frame("features")
        .clear(4)
        .with_columns(
            pl.Series("tempo", [120.3, None, float("nan"), 1e6], dtype=pl.Float32),
            pl.Series("loudness", [-0.0, -7.5, None, 0.0], dtype=pl.Float32),
        )
    )
    names, features = known_features(rows)
    assert names == ["loudness", "tempo"]
    assert features.dtype == np.float16
    np.testing.assert_array_equal(
        features, np.array([[0, -7.5, np.nan, 0], [120.3, *[np.nan] * 3]], np.float16)
    )
    assert np.signbit(features).tolist() == [[False, True, False, False], [False] * 4]


def test_genres_are_those_of_canonical_tracks() -> None:
    texts = pl.Series("genre", ["Rock; Pop", None, "pop", "rock", "Pop"], dtype=pl.String)
    genres = genres_of(texts, np.array([True, True, True, False, True]))
    assert genres.names == ["Pop", "Rock"]
    assert [part.tolist() for part in np.split(genres.tracks, genres.indptr[1:-1])] == [[0, 2, 4], [0]]


@pytest.mark.slow
def test_a_bundle_has_what_the_catalogue_says_and_is_made_anew_when_that_changes(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    rng = np.random.default_rng(3)
    n = 60
    likes = [
        {"user_id": f"u{user}", "track_id": f"t{track}"}
        for user in range(40)
        for track in rng.choice(n, 12, replace=False).tolist()
    ]
    tracks = [
        {"track_id": f"t{track}", "genre": (None, "Rock", "jazz; Soul")[track % 3], "year": 1980 + track}
        for track in range(n)
    ]
    features = [{"track_id": f"t{track}", "tempo": 60.0 + track} for track in range(0, n, 2)]

    def receive(day: date, **parts: Sequence[Mapping[str, object]]) -> None:
        frames: dict[str, Any] = {
            part: pl.DataFrame(rows, schema=empty_frame(part).schema) for part, rows in parts.items()
        }
        write_batch(lake.raw, day, RawBatch("files", "test", **frames))

    receive(FIRST, likes=likes, tracks=tracks, features=features)
    run_stages(lake, "refresh", FIRST, FIRST)
    recommender = Recommender.open(lake.serving)
    bundle, catalogue = recommender.bundle, described(read_catalogue(lake))
    assert bundle.tracks.ids.tolist() == catalogue["track_id"].to_list()
    assert bundle.years.tolist() == catalogue["year"].to_list()
    assert bundle.feature_names.tolist() == ["tempo"]
    np.testing.assert_array_equal(bundle.features[0], catalogue["tempo"].fill_null(np.nan).to_numpy())
    assert recommender.ranker.filter.genre_counts() == {"Rock": 20, "Soul": 20, "jazz": 20}
    found = recommender.recommend(["t0"], n, filters=Filters(["soul"], features={"tempo": (80, 100)}))
    shown = {item.song.track_id for item in found.items}
    assert shown == {
        f"t{track}" for track in range(n) if track % 3 == 2 and track % 2 == 0 and 20 <= track <= 40
    }

    before = bundle.version
    day = FIRST + timedelta(days=1)
    receive(day, features=[{"track_id": "t1", "tempo": 90.0}])
    run_stages(lake, "refresh", day, day)
    bundle = Recommender.open(lake.serving).bundle
    assert bundle.version != before
    assert bundle.features[0, bundle.tracks.position("t1")] == 90
