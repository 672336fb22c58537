"""The rules by content alone, worked out by hand and against their formulas; without content they say so."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.contender import Material
from tunegraph_pipeline.evaluation.content_baselines import FeatureNeighbours, SameArtist
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.models.content import encode_features
from tunegraph_pipeline_tests.evaluation.recommender_contract import material

N = 12
CONFIG = BaselineConfig()


def lists(*rows: list[int]) -> csr_matrix:
    dense = np.zeros((len(rows), N), dtype=np.float32)
    for user, row in enumerate(rows):
        dense[user, row] = 1
    return csr_matrix(dense)


def sound() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((N, len(AUDIO_FEATURES))).astype(np.float32)


def by_artists(features: NDArray[np.float32], artists: list[list[int]], likes: csr_matrix) -> Material:
    """Tracks of which artists[track] are the artists."""
    rows = np.repeat(np.arange(N), [len(names) for names in artists])
    columns = [name for names in artists for name in names]
    table = csr_matrix((np.ones(len(rows), dtype=np.bool_), (rows, columns)), shape=(N, 8))
    known = material(likes, features)
    return replace(known, data=replace(known.data, track_artists=table))


@pytest.mark.parametrize("nearest", [False, True])
def test_feature_neighbours_rank_by_the_cosine_of_standardised_features(nearest: bool) -> None:
    everyone = lists([0, 1, 2, 3], [4, 5, 6, 7])  # the features are standardised by these tracks alone
    model = FeatureNeighbours(CONFIG, nearest=nearest)
    model.fit(material(everyone, sound()))
    encoded = encode_features(sound(), np.arange(N) < 8)[:, :-1].astype(np.float64)
    directions = encoded / np.linalg.norm(encoded, axis=1, keepdims=True)
    for liked in ([0, 3, 9], [5]):
        cosines = directions @ directions[liked].T
        scores = cosines.max(axis=1) if nearest else cosines.mean(axis=1)
        expected = [track for track in np.argsort(-scores).tolist() if track not in liked]
        assert model.rank(lists(liked), N).tolist()[0] == expected + [-1] * len(liked)


def test_what_has_no_features_comes_last_and_who_likes_only_that_gets_what_is_popular() -> None:
    features = sound()
    features[[2, 7]] = np.nan
    model = FeatureNeighbours(CONFIG)
    model.fit(material(lists([5, 7], [5, 9], [5, 9, 3]), features))
    assert model.rank(lists([0, 1, 2]), 9).tolist()[0][-1] == 7
    np.testing.assert_array_equal(model.rank(lists([0, 1, 2]), 8), model.rank(lists([0, 1, 2, 7]), 8))
    assert model.rank(lists([7]), 3).tolist() == [[5, 9, 3]]


def test_more_by_an_artist_is_ranked_by_how_many_likes_share_them() -> None:
    artists = [[0], [0], [1], [1], [1], [2], [0, 1], [3], [], [0], [2], [3]]
    features = sound()
    model = SameArtist(CONFIG)
    model.fit(by_artists(features, artists, lists([0, 1, 2, 3])))
    liked = [0, 1, 2]  # twice artist 0, once artist 1
    best = model.rank(lists(liked), N).tolist()[0]
    assert best[:2] == [6, 9]  # 2 + 1 for the track of both, 2 for the other of artist 0
    assert sorted(best[2:4]) == [3, 4]
    # Within a tie, here of the tracks that share no artist, it is what sounds most alike.
    alike = FeatureNeighbours(CONFIG)
    alike.fit(material(lists([0, 1, 2, 3]), features))
    others = [track for track in alike.rank(lists(liked), N).tolist()[0] if track in {5, 7, 8, 10, 11}]
    assert best[4:9] == others


def test_without_features_more_by_an_artist_is_settled_by_popularity() -> None:
    features = np.full_like(sound(), np.nan)
    model = SameArtist(CONFIG)
    model.fit(by_artists(features, [[0]] * 6 + [[1]] * 6, lists([0, 4], [4, 11], [2, 4, 11], [11], [11])))
    assert model.rank(lists([0]), 4).tolist() == [[4, 2, 1, 3]]
    assert model.rank(lists([6]), 1).tolist() == [[11]]


def test_without_what_they_rank_by_they_say_so() -> None:
    nothing = np.full_like(sound(), np.nan)
    with pytest.raises(InputError, match="audio features"):
        FeatureNeighbours(CONFIG).fit(material(lists([0]), nothing))
    with pytest.raises(InputError, match="artists"):
        SameArtist(CONFIG).fit(material(lists([0]), sound()))
