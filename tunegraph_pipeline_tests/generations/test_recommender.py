"""Searching as each generation did: the tree agrees with the full ranking, the candidates are a fair draw."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.generations.recommender import CANDIDATES, GenerationRanking
from tunegraph_pipeline.generations.training import GenerationConfig, GenerationName
from tunegraph_pipeline_tests.evaluation.recommender_contract import material

N_USERS, N_TRACKS = 40, 400


def world() -> tuple[csr_matrix, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    likes = csr_matrix((rng.random((N_USERS, N_TRACKS)) < 0.05).astype(np.float32))
    features = rng.random((N_TRACKS, 11)).astype(np.float32)
    features[:5] = np.nan
    return likes, features


def fitted(generation: GenerationName) -> GenerationRanking:
    model = GenerationRanking(GenerationConfig(generation=generation, epochs=2, steps=2))
    model.fit(material(*world()))
    return model


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_the_tree_finds_what_the_full_ranking_does(generation: GenerationName) -> None:
    model = fitted(generation)
    likes, _ = world()
    np.testing.assert_array_equal(model.search(likes, 10), model.rank(likes, 10))


@pytest.mark.parametrize("generation", ["v1", "v2", "v3_seed"])
def test_a_list_without_a_placed_song_gets_what_is_popular_among_other_lists(
    generation: GenerationName,
) -> None:
    likes, features = world()
    features[likes[0].indices] = np.nan  # V1 knows none of user 0's songs
    model = GenerationRanking(GenerationConfig(generation=generation, epochs=1, steps=1))
    model.fit(material(likes, features))
    lists = csr_matrix(np.stack([likes[0].toarray()[0], np.zeros(N_TRACKS), likes[1].toarray()[0]]))
    found = model.search(lists, 5)
    popularity = np.bincount(likes.indices, minlength=N_TRACKS)
    popular = np.argsort(-popularity, kind="stable")
    assert found[1].tolist() == popular[:5].tolist()
    if generation == "v1":
        own = likes[0].indices
        assert found[0].tolist() == [track for track in popular if track not in own][:5]
    np.testing.assert_array_equal(found[2], model.search(likes[1], 5)[0])
    assert model.new_user(lists[1], 5).tolist() == found[1:2].tolist()


def test_songs_without_features_are_not_ranked_by_v1() -> None:
    ranked = fitted("v1").rank(world()[0], N_TRACKS)
    assert not np.isin(ranked, np.arange(5)).any()


def test_a_new_user_of_v2_is_answered_nearly_as_one_nobody_hears() -> None:
    model = fitted("v2")
    newcomer = csr_matrix((np.random.default_rng(1).random((1, N_TRACKS)) < 0.05).astype(np.float32))
    answer = model.new_user(newcomer, 20)
    assert answer.shape == (1, 20)
    assert answer.dtype == np.int32
    assert not np.isin(answer, newcomer.indices).any()
    assert len(np.intersect1d(answer, model.search(newcomer, 20))) >= 10


def test_a_query_of_the_first_v3_ranks_a_seeded_draw_of_candidates() -> None:
    model = fitted("v3_seed")
    likes, _ = world()
    found = model.search(likes, 30)
    assert found.shape == (N_USERS, 30)
    np.testing.assert_array_equal(found, model.search(likes, 30))
    np.testing.assert_array_equal(found[:1], model.search(likes[:1], 30))
    # 300 of 400 tracks: of the true best 30 about three in four, in the same order.
    best = model.rank(likes, 30)
    shared = [[track for track in row if track in set(true)] for row, true in zip(found, best, strict=True)]
    assert 0.6 < np.mean([len(row) for row in shared]) / 30 < 0.9
    for row, true in zip(shared, best.tolist(), strict=True):
        assert row == [track for track in true if track in set(row)]
    everything = model.search(likes, N_TRACKS)
    assert ((everything >= 0).sum(axis=1) == CANDIDATES).all()
    for user, row in enumerate(everything):
        assert not np.isin(row, likes[user].indices).any()


def test_another_seed_draws_other_candidates() -> None:
    likes, features = world()
    first = fitted("v3_seed")
    config = first.config.model_copy(update={"seed": 1})
    second = GenerationRanking(config)
    second.fit(material(likes, features))
    asked = [set(model.search(likes[:1], N_TRACKS)[0].tolist()) for model in (first, second)]
    assert asked[0] != asked[1]
