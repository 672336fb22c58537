"""Features and tags as an encoder sees them: worked by hand."""

import math

import numpy as np
from scipy.sparse import csr_matrix

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.models.content import (
    LONGEST_ROW,
    N_FEATURE_COLUMNS,
    content_rows,
    content_tags,
    encode_features,
)

KEY = AUDIO_FEATURES.index("key")
ENERGY = AUDIO_FEATURES.index("energy")


def songs(**columns: list[float]) -> np.ndarray:
    rows = len(next(iter(columns.values())))
    features = np.full((rows, len(AUDIO_FEATURES)), np.nan, dtype=np.float32)
    for name, values in columns.items():
        features[:, AUDIO_FEATURES.index(name)] = values
    return features


def everyone(n: int) -> np.ndarray:
    return np.ones(n, dtype=np.bool_)


def test_the_key_is_a_place_on_a_circle() -> None:
    encoded = encode_features(songs(key=[0, 3, 6, 11]), everyone(4))
    np.testing.assert_allclose(encoded[:, -3], [0, 1, 0, math.sin(2 * math.pi * 11 / 12)], atol=1e-6)
    np.testing.assert_allclose(encoded[:, -2], [1, 0, -1, math.cos(2 * math.pi * 11 / 12)], atol=1e-6)


def test_b_is_as_near_to_c_as_c_sharp_is() -> None:
    c, c_sharp, b = encode_features(songs(key=[0, 1, 11]), everyone(3))[:, -3:-1]
    assert np.linalg.norm(c - b) == np.float32(np.linalg.norm(c - c_sharp))


def test_no_key_is_the_centre_of_the_circle() -> None:
    encoded = encode_features(songs(key=[-1, np.nan]), everyone(2))
    np.testing.assert_array_equal(encoded[:, -3:-1], 0)


def test_a_feature_is_standardised_by_the_tracks_that_are_trained_on() -> None:
    encoded = encode_features(songs(energy=[1, 3, 4]), np.array([True, True, False]))
    np.testing.assert_allclose(encoded[:, ENERGY - (ENERGY > KEY)], [-1, 1, 2])


def test_what_is_unknown_is_the_mean_and_a_track_of_which_nothing_is_known_is_zero() -> None:
    encoded = encode_features(songs(energy=[1, 3, np.nan], tempo=[90, np.nan, np.nan]), everyone(3))
    assert encoded.shape == (3, N_FEATURE_COLUMNS)
    np.testing.assert_array_equal(encoded[2], 0)
    np.testing.assert_array_equal(encoded[:, -1], [1, 1, 0])


def test_a_feature_that_does_not_vary_says_nothing() -> None:
    encoded = encode_features(songs(energy=[0.1, 0.1, 0.1]), everyone(3))
    np.testing.assert_array_equal(encoded[:, :-1], 0)


def test_artists_share_half_and_the_album_has_half() -> None:
    artists = csr_matrix(np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=np.bool_))
    tags = content_tags(artists, np.array([0, -1, -1], dtype=np.int32)).toarray()
    np.testing.assert_array_equal(tags, [[0.25, 0.25, 0, 0.5], [0, 0, 0.5, 0], [0, 0, 0, 0]])


def test_artists_and_albums_of_two_songs_or_more_are_lists_of_songs() -> None:
    artists = csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=np.bool_))
    rows = content_rows(artists, np.array([0, 1, 1, -1], dtype=np.int32)).toarray()
    np.testing.assert_array_equal(rows, [[1, 1, 0, 0], [0, 1, 1, 0]])
    various = csr_matrix(np.ones((LONGEST_ROW + 1, 1), dtype=np.bool_))
    assert content_rows(various, np.full(LONGEST_ROW + 1, -1, np.int32)).shape[0] == 0
    assert content_rows(various[1:], np.full(LONGEST_ROW, -1, np.int32)).shape[0] == 1
    nothing = csr_matrix(np.zeros((4, 0), dtype=np.bool_))
    assert content_rows(nothing, np.full(4, -1, np.int32)).shape == (0, 4)
