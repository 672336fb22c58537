import dataclasses
import math
from pathlib import Path

import numpy as np

from tunegraph_pipeline.evaluation.query_time import query_times
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender


def songs(n_tracks: int, n_users: int) -> BundleContent:
    rng = np.random.default_rng(3)
    embeddings = rng.standard_normal((n_tracks, 16), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = [""] * n_tracks
    return BundleContent(
        track_ids=[f"t{track}" for track in range(n_tracks)],
        embeddings=embeddings,
        pooling_weight=np.ones(n_tracks, dtype=np.float32),
        popularity=np.ones(n_tracks, dtype=np.int32),
        recommendable=np.ones(n_tracks, dtype=np.bool_),
        prior=np.zeros(n_tracks, dtype=np.float32),
        neighbour_indptr=np.zeros(n_tracks + 1, dtype=np.int64),
        neighbour_indices=np.zeros(0, dtype=np.int32),
        neighbour_weight=np.zeros(0, dtype=np.float32),
        user_ids=[f"u{user}" for user in range(n_users)],
        user_indptr=np.arange(n_users + 1) * 3,
        user_tracks=np.tile(np.array([0, 2, 5], dtype=np.int32), n_users),
        names=texts,
        artists=texts,
        image_urls=texts,
        preview_urls=texts,
        facts={
            "bundle_version": "v1",
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.0},
        },
    )


def test_every_query_is_timed_with_and_without_stored_users(tmp_path: Path) -> None:
    for n_users in (4, 0):
        folder = tmp_path / f"of {n_users}"
        write_bundle(folder, songs(50, n_users))
        took = query_times(Recommender(Bundle.open(folder)), queries=20)
        assert took.queries == 20
        assert 0 < took.p50_ms <= took.p99_ms
        assert took.product_ms > 0
        assert took.ratio == took.p50_ms / took.product_ms


def test_of_an_empty_catalogue_nothing_is_timed(tmp_path: Path) -> None:
    content = songs(0, 0)
    write_bundle(tmp_path / "v1", dataclasses.replace(content, user_tracks=content.user_tracks[:0]))
    took = query_times(Recommender(Bundle.open(tmp_path / "v1")))
    assert took.queries == 0
    assert math.isnan(took.p50_ms)
