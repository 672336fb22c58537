"""A track without likes is placed beside the liked tracks that are alike, and no other track moves."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.training import content_neighbours
from tunegraph_pipeline.training.content_neighbours import move_beside_alike

EAST, NORTH = (1.0, 0.0), (0.0, 1.0)
E = np.array([EAST, NORTH, EAST], dtype=np.float32)
LAST = np.array([False, False, True])
ONE_LIKE_EACH = np.array([1, 1, 0], dtype=np.float32)
SAME_ARTIST = csr_matrix(np.array([[0], [0.5], [0.5]], dtype=np.float32))  # of the second and the last
LOUD, SOFT, UNKNOWN = (1.0, 1.0), (-1.0, 1.0), (0.0, 0.0)


def sound(*rows: tuple[float, float]) -> np.ndarray:
    """Features as they are encoded: a value, and whether it is known."""
    return np.array(rows, dtype=np.float32)


def moved(
    *,
    tags: csr_matrix | None = None,
    features: np.ndarray | None = None,
    neighbours: int = 1,
    popularity: np.ndarray = ONE_LIKE_EACH,
) -> np.ndarray:
    found = E.copy()
    move_beside_alike(found, popularity, LAST, tags=tags, features=features, neighbours=neighbours)
    np.testing.assert_array_equal(found[:2], E[:2])
    last: np.ndarray = found[2]
    return last


def test_it_moves_towards_the_liked_tracks_of_its_artist() -> None:
    # (1, 0) + 0.5 (0, 1), whose length is the root of 1.25.
    np.testing.assert_allclose(moved(tags=SAME_ARTIST), np.array([1, 0.5]) / 1.25**0.5, rtol=1e-6)


def test_it_moves_towards_the_liked_tracks_that_sound_most_alike() -> None:
    # (1, 0) + 0.3 (0, 1), whose length is the root of 1.09.
    found = moved(features=sound(LOUD, SOFT, SOFT))
    np.testing.assert_allclose(found, np.array([1, 0.3]) / 1.09**0.5, rtol=1e-6)


def test_both_add_up() -> None:
    found = moved(tags=SAME_ARTIST, features=sound(LOUD, SOFT, SOFT))
    np.testing.assert_allclose(found, np.array([1, 0.8]) / 1.64**0.5, rtol=1e-6)


def test_with_fewer_liked_tracks_than_neighbours_all_count() -> None:
    # The two add up to (1, 1), so that the last becomes (1, 0) + 0.3 (1, 1) / sqrt 2.
    found = moved(features=sound(LOUD, SOFT, SOFT), neighbours=50)
    step = 0.3 / 2**0.5
    np.testing.assert_allclose(found, np.array([1 + step, step]) / np.hypot(1 + step, step), rtol=1e-6)


@pytest.mark.parametrize("features", [(LOUD, SOFT, UNKNOWN), (UNKNOWN, UNKNOWN, SOFT)])
def test_unknown_features_sound_like_nothing(features: tuple[tuple[float, float], ...]) -> None:
    np.testing.assert_array_equal(moved(features=sound(*features)), EAST)


def test_an_artist_that_nobody_likes_moves_nothing() -> None:
    found = moved(tags=SAME_ARTIST, popularity=np.array([1, 0, 0], dtype=np.float32))
    np.testing.assert_allclose(found, EAST, rtol=1e-6)


def test_of_more_liked_tracks_than_are_compared_the_most_liked_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_neighbours, "_MOST_COMPARED", 1)
    popular = np.array([1, 3, 0], dtype=np.float32)
    found = moved(features=sound(SOFT, LOUD, SOFT), popularity=popular)
    np.testing.assert_allclose(found, np.array([1, 0.3]) / 1.09**0.5, rtol=1e-6)
