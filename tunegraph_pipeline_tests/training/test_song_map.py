"""The map keeps neighbours together and clusters apart, and stays within its frame."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tunegraph_pipeline.training import song_map as layout
from tunegraph_pipeline.training.song_map import _framed, map_of, map_with_new


def clustered(
    seed: int, n: int, clusters: int, dimension: int = 24, noise: float = 0.15
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings around so many directions, and which one each is around."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(clusters, size=n)
    embeddings = rng.standard_normal((clusters, dimension))[cluster]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings += noise * rng.standard_normal((n, dimension))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), cluster


def kept(
    embeddings: NDArray[np.float32], places: NDArray[np.floating], near: int = 10, wide: int = 50
) -> float:
    """The share of the nearest on the map that are among the nearest in the embedding."""
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -2)
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    alike = np.argsort(-cosines, axis=1)[:, :wide]
    beside = np.argsort(apart, axis=1)[:, :near]
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(beside, alike, strict=True)]))


def principal(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = embeddings - embeddings.mean(axis=0)
    return np.asarray(centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T)


def test_neighbours_stay_together_far_better_than_on_principal_axes() -> None:
    embeddings, _ = clustered(1, 600, 20)
    places = map_of(embeddings, np.ones(600, dtype=np.int32))
    assert kept(embeddings, places) > 0.8
    assert kept(embeddings, places) > 2 * kept(embeddings, principal(embeddings))


def test_a_cluster_is_a_place_of_its_own() -> None:
    embeddings, cluster = clustered(2, 400, 8)
    places = map_of(embeddings, np.ones(400, dtype=np.int32))
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :10]
    assert (cluster[nearest] == cluster[:, None]).mean() > 0.97


def test_tracks_beyond_the_bound_lie_by_the_ones_they_are_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_LANDMARKS", 300)
    monkeypatch.setattr(layout, "_ROWS", 64)
    embeddings, cluster = clustered(3, 900, 12)
    popularity = np.random.default_rng(0).permutation(900).astype(np.int32)
    places = map_of(embeddings, popularity)
    landmark = popularity >= 600  # the three hundred most liked
    centres = np.array([np.median(places[landmark & (cluster == one)], axis=0) for one in range(12)])
    apart = ((places[~landmark, None] - centres[None]) ** 2).sum(axis=2)
    assert (apart.argmin(axis=1) == cluster[~landmark]).mean() > 0.95


def test_the_same_seed_gives_the_same_map_and_rows_in_another_order_move_with_their_track() -> None:
    embeddings, _ = clustered(4, 150, 5)
    likes = np.arange(150)
    first = map_of(embeddings, likes, seed=7)
    np.testing.assert_array_equal(first, map_of(embeddings, likes, seed=7))
    assert not np.array_equal(first, map_of(embeddings, likes, seed=8))


def test_on_a_map_that_is_kept_only_what_is_new_finds_a_place_beside_what_it_is_like() -> None:
    embeddings, cluster = clustered(6, 600, 8)
    likes = np.ones(600, dtype=np.int32)
    earlier = map_of(embeddings[:500], likes[:500])
    settled = np.arange(500) % 10 != 0  # the others were known, and had no place worth keeping
    places = map_with_new(embeddings, likes, earlier, settled)
    assert places.dtype == np.float32
    np.testing.assert_array_equal(places[:500][settled], earlier[settled])
    new = np.setdiff1d(np.arange(600), np.flatnonzero(settled))
    centres = np.array([np.median(earlier[settled & (cluster[:500] == one)], axis=0) for one in range(8)])
    apart = ((places[new, None] - centres[None]) ** 2).sum(axis=2)
    assert (apart.argmin(axis=1) == cluster[new]).mean() > 0.95
    assert ((places >= 0) & (places <= 1)).all()
    np.testing.assert_array_equal(map_with_new(embeddings, likes, earlier, settled), places)


def test_a_map_on_which_nothing_has_a_place_cannot_be_kept() -> None:
    embeddings, _ = clustered(7, 5, 2)
    with pytest.raises(ValueError, match="nothing has a place"):
        map_with_new(embeddings, np.ones(5, np.int32), np.zeros((3, 2), np.float32), np.zeros(3, np.bool_))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 13, 60])
def test_few_tracks_have_a_map_too(n: int) -> None:
    embeddings, _ = clustered(5, n, 3)
    places = map_of(embeddings, np.zeros(n, dtype=np.int32))
    assert places.shape == (n, 2)
    assert places.dtype == np.float32
    assert ((places >= 0) & (places <= 1)).all()
    assert len(np.unique(places, axis=0)) == n


def test_tracks_of_one_embedding_are_parted() -> None:
    embeddings = np.zeros((40, 6), dtype=np.float32)
    embeddings[:, 2] = 1
    places = map_of(embeddings, np.zeros(40, dtype=np.int32))
    assert np.isfinite(places).all()
    assert len(np.unique(places.round(3), axis=0)) > 30


def test_one_dimension_is_enough() -> None:
    embeddings = np.where(np.arange(50)[:, None] % 2 == 0, np.float32(1), np.float32(-1))
    places = map_of(embeddings, np.zeros(50, dtype=np.int32))
    assert np.isfinite(places).all()


def test_what_is_far_outside_does_not_squash_the_rest() -> None:
    rng = np.random.default_rng(0)
    places = rng.random((1000, 2))
    places[0] = [1e6, -1e6]
    framed = _framed(places)
    assert (framed[0] > [0.97, -1]).all()
    assert framed[0, 1] < 0.03
    assert np.ptp(framed[1:], axis=0).min() > 0.9
    # One scale for both axes: the picture is not stretched.
    flat = _framed(places[1:] * [1, 0.25])
    assert np.ptp(flat[:, 1]) == pytest.approx(np.ptp(flat[:, 0]) / 4, rel=0.05)
