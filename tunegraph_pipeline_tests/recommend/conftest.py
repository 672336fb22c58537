"""Small bundles for the tests of `recommend`: one worked out by hand, and random ones of any size."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tunegraph_pipeline.lake.array_spec import NEUTRAL
from tunegraph_pipeline.recommend import indexing
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.index import Storage
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker, Rankings

MakeContent = Callable[..., BundleContent]
OpenBundle = Callable[[BundleContent], Bundle]


def golden_content(version: str = "v1") -> BundleContent:
    """Four songs in the plane, two stored users, one of whom only ever turned a song down.

    Every score in the tests is worked out from these.
    """
    return BundleContent(
        track_ids=["a", "b", "c", "d"],
        embeddings=np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, -0.6]], dtype=np.float32),
        pooling_weight=np.array([1, 2, 1, 1], dtype=np.float32),
        popularity=np.array([5, 9, 7, 7], dtype=np.int32),
        recommendable=np.array([True, True, True, True]),
        prior=np.array([0, 0, 0.1, 0.2], dtype=np.float32),
        # a -> c 0.5, a -> d 1.0; b -> c 0.25
        neighbour_indptr=np.array([0, 2, 3, 3, 3]),
        neighbour_indices=np.array([2, 3, 2], dtype=np.int32),
        neighbour_weight=np.array([0.5, 1.0, 0.25], dtype=np.float32),
        user_ids=["ann", "no likes"],
        user_indptr=np.array([0, 2, 2]),
        user_tracks=np.array([0, 1], dtype=np.int32),
        user_ages=np.zeros(2, dtype=np.uint16),  # as new as each other
        disliked_indptr=np.array([0, 0, 1]),
        disliked_tracks=np.array([0], dtype=np.int32),
        names=["Song A", "Song B", "Sång C", ""],
        artists=["Ann", "Ben", "Cem, Dee", ""],
        isrcs=["", "GBAYE0601498", "", ""],
        years=np.array([1999, 1967, 0, 2004], dtype=np.int32),
        feature_names=["energy", "loudness"],
        features=np.array([[0.25, 0.75, np.nan, 0.5], [-20, -5, -7.5, np.nan]], dtype=np.float16),
        # a and c are jazz, c is hip-hop too; of b nothing is known, nor of d
        genre_names=["Jazz", "Hip-Hop"],
        genre_indptr=np.array([0, 2, 3]),
        genre_tracks=np.array([0, 2, 2], dtype=np.int32),
        image_urls=["", "", "https://example.org/c.jpg", ""],
        preview_urls=["", "", "https://example.org/c.mp3", ""],
        facts={
            "bundle_version": version,
            "model_version": "m1",
            "blend": {"embedding": 2.0, "neighbour": 3.0, "length_exponent": 1.0},
        },
    )


def undescribed(content: BundleContent) -> BundleContent:
    """The same without ages, years, features and genres."""
    some = ("user_ages", "years", "feature_names", "features", "genre_names", "genre_indptr", "genre_tracks")
    return dataclasses.replace(content, **dict.fromkeys(some, NEUTRAL))


def random_content(
    seed: int, n_tracks: int = 60, dimension: int = 8, n_users: int = 20, decay: float = 1.0
) -> BundleContent:
    """Songs with twins (the same embedding, so that scores tie) and near-twins (off by a last bit).

    Each coordinate is ``decay`` times as large as the one before, as it is on principal axes.
    """
    rng = np.random.default_rng(seed)
    models = rng.standard_normal((max(1, n_tracks // 3), dimension))
    model = rng.integers(len(models), size=n_tracks)
    embeddings = models[model] * decay ** np.arange(dimension)
    near = rng.random(n_tracks) < 0.3
    embeddings[near] *= 1 + 3e-8 * rng.standard_normal((near.sum(), dimension))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cached = np.triu(rng.random((n_tracks, n_tracks)) < 0.1, 1)
    rows, columns = np.nonzero(cached | cached.T)
    liked = [np.flatnonzero(rng.random(n_tracks) < share) for share in rng.random(n_users) * 0.4]
    disliked = [
        np.setdiff1d(np.flatnonzero(rng.random(n_tracks) < 0.05), likes, assume_unique=True)
        for likes in liked
    ]
    n_artists = rng.integers(0, 3, n_tracks)  # artists a track has; of many none is known
    return BundleContent(
        track_ids=[f"t{track}" for track in range(n_tracks)],
        embeddings=embeddings.astype(np.float32),
        pooling_weight=rng.choice([0.5, 1.0, 1.7], n_tracks).astype(np.float32),
        popularity=rng.integers(0, 6, n_tracks, dtype=np.int32),
        recommendable=rng.random(n_tracks) < 0.9,
        prior=(rng.integers(0, 2, n_tracks) * 0.1).astype(np.float32),
        neighbour_indptr=np.searchsorted(rows, np.arange(n_tracks + 1)),
        neighbour_indices=columns.astype(np.int32),
        neighbour_weight=rng.choice([-0.25, 0.1, 0.5], len(columns)).astype(np.float32),
        user_ids=[f"u{user}" for user in range(n_users)],
        user_indptr=np.cumsum([0, *map(len, liked)]),
        user_tracks=np.concatenate([*liked, []]).astype(np.int32),
        disliked_indptr=np.cumsum([0, *map(len, disliked)]),
        disliked_tracks=np.concatenate([*disliked, []]).astype(np.int32),
        explicit=rng.integers(-1, 2, n_tracks).astype(np.int8),
        layout=rng.random((n_tracks, 2), dtype=np.float32),
        by=Artists.of_lists(
            [[f"artist {artist}" for artist in rng.integers(0, 5, size)] for size in n_artists.tolist()],
            [[]] * n_tracks,
        ),
        names=[f"Song {track}" for track in range(n_tracks)],
        artists=[""] * n_tracks,
        image_urls=[""] * n_tracks,
        preview_urls=[""] * n_tracks,
        facts={
            "bundle_version": f"r{seed}",
            "model_version": "m",
            "blend": {
                "embedding": float(rng.choice([0.0, 1.0, 8.0])),
                "neighbour": float(rng.choice([0.0, 0.5, 10.0])),
                "length_exponent": float(rng.choice([0.0, 0.5, 1.0])),
            },
        },
    )


def rank_one(
    ranker: Ranker,
    liked: NDArray[np.int32],
    k: int,
    *,
    explain: bool = True,
    exclude: NDArray[np.int32] | None = None,
) -> Rankings:
    """The best k for one list of liked tracks."""
    excluded = np.zeros(0, dtype=np.int32) if exclude is None else exclude
    return ranker.answer([QuerySpec(liked, excluded=excluded)], [k], explain=explain)[0]


@pytest.fixture
def golden() -> Callable[..., BundleContent]:
    return golden_content


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Write and open a random bundle; the same arguments give the same one, written once."""
    root = tmp_path_factory.mktemp("random_bundles")

    def make(seed: int, **sizes: float) -> Bundle:
        folder = root / "-".join(map(str, [seed, *sizes.values()]))
        if not folder.exists():
            write_bundle(folder, random_content(seed, **sizes))  # type: ignore[arg-type]
        return Bundle.open(folder)

    return make


@pytest.fixture
def golden_bundle(tmp_path: Path) -> Bundle:
    write_bundle(tmp_path / "serving" / "v1", golden_content())
    return Bundle.open(tmp_path / "serving" / "v1")


def clustered_content(n_tracks: int = 6_000, n_clusters: int = 80, dimension: int = 16) -> BundleContent:
    """Songs in clusters, neighbours and liked lists within them, popularity with a long tail: a small
    catalogue that an index can cut into lists. One song in ten may not be recommended."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((n_clusters, dimension)) * 0.97 ** np.arange(dimension)
    cluster = rng.integers(n_clusters, size=n_tracks)
    embeddings = centres[cluster] + 0.35 * rng.standard_normal((n_tracks, dimension))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    members = [np.flatnonzero(cluster == one) for one in range(n_clusters)]
    rows = [np.sort(rng.permutation(members[one])[:15]) for one in cluster.tolist()]
    homes = rng.integers(n_clusters, size=(300, 2))
    liked = [
        np.unique(rng.permutation(np.concatenate([members[a], members[b]]))[:14]) for a, b in homes.tolist()
    ]
    return BundleContent(
        track_ids=[f"t{track}" for track in range(n_tracks)],
        embeddings=embeddings.astype(np.float32),
        pooling_weight=rng.choice([0.5, 1.0], n_tracks).astype(np.float32),
        popularity=rng.lognormal(2.0, 1.0, n_tracks).astype(np.int32),
        recommendable=rng.random(n_tracks) < 0.9,
        prior=(0.05 * rng.standard_normal(n_tracks)).astype(np.float32),
        neighbour_indptr=np.cumsum([0, *map(len, rows)]),
        neighbour_indices=np.concatenate(rows).astype(np.int32),
        neighbour_weight=(0.05 * rng.random(sum(map(len, rows)))).astype(np.float32),
        user_ids=[f"u{user}" for user in range(len(liked))],
        user_indptr=np.cumsum([0, *map(len, liked)]),
        user_tracks=np.concatenate(liked).astype(np.int32),
        explicit=rng.integers(-1, 2, n_tracks).astype(np.int8),
        names=[f"Song {track}" for track in range(n_tracks)],
        artists=[f"Artist {track % 500}" for track in range(n_tracks)],
        image_urls=[""] * n_tracks,
        preview_urls=[""] * n_tracks,
        facts={
            "bundle_version": "clustered",
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.5},
        },
    )


def add_small_index(folder: Path, storage: Storage = "int8") -> dict[str, Any]:
    """`add_index`, with its recall measured on a third of the queries: the measurement is what takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "_QUERIES", 100)
        return indexing.add_index(folder, storage)


@pytest.fixture(scope="session")
def clustered_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With an index in 8 bits."""
    folder = tmp_path_factory.mktemp("clustered") / "clustered"
    write_bundle(folder, clustered_content(), lambda draft: {"index": add_small_index(draft)})
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def clustered() -> Callable[..., BundleContent]:
    return clustered_content
