"""The generations: the pairs they learn from, the scores they give, and that training them is repeatable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.generations.training import (
    GENERATIONS,
    V1,
    V2,
    GenerationConfig,
    GenerationName,
    TrainedGeneration,
    V3Seed,
    _Pattern,
    all_pairs,
    some_likes,
    train_generation,
    with_strangers,
)
from tunegraph_pipeline.graph.csr import rows_of
from tunegraph_pipeline.training.loop import EpochReport
from tunegraph_pipeline.training.train import TrainingData


def lists(seed: int = 0) -> TrainingData:
    """Sixty users over forty tracks, a few likes held out; of three tracks no features are known."""
    rng = np.random.default_rng(seed)
    liked = rng.random((60, 40)) < 0.25
    held_out = liked & (rng.random(liked.shape) < 0.1)
    held_out[30:] = False
    likes = csr_matrix((liked & ~held_out).astype(np.float32))
    features = rng.random((40, 11)).astype(np.float32)
    features[[3, 17, 39]] = np.nan
    return TrainingData(
        train=likes,
        context=likes[:30],
        targets=csr_matrix(held_out[:30].astype(np.float32)),
        features=features,
        track_artists=csr_matrix(np.zeros((40, 0), dtype=np.bool_)),
        album=np.full(40, -1, dtype=np.int32),
    )


def config(generation: GenerationName, **others: int | float) -> GenerationConfig:
    return GenerationConfig.model_validate({"generation": generation, "epochs": 4, "steps": 3} | others)


def assert_same(one: TrainedGeneration, other: TrainedGeneration) -> None:
    np.testing.assert_array_equal(one.generation.embeddings, other.generation.embeddings)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name], err_msg=name)
    figures = [[(r.epoch, r.loss, r.validation) for r in model.curves] for model in (one, other)]
    assert figures[0] == figures[1]
    assert one.best_epoch == other.best_epoch


# --- pairs ---

MINI = csr_matrix(np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=np.float32))


def test_some_likes_are_a_choice_without_replacement_in_their_rows() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        sample = some_likes(MINI, 2, rng)
        assert np.diff(sample.indptr).tolist() == [2, 2, 1]
        assert (sample.toarray() <= MINI.toarray()).all()
        seen.add(tuple(sample[0].indices.tolist()))
    assert seen == {(0, 1), (0, 2), (1, 2)}


def test_all_pairs_of_a_list_are_there_once() -> None:
    one, other = all_pairs(MINI, 3)
    assert sorted(zip(one.tolist(), other.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (1, 3)]


def test_strangers_are_never_neighbours_and_all_of_them_come() -> None:
    neighbours = _Pattern(MINI.T.tocsr() @ MINI)
    one, other = all_pairs(MINI, 3)
    pairs = with_strangers(one, other, neighbours, 200, np.random.default_rng(0))
    assert pairs.together.tolist() == [True] * 4 + [False] * 800
    drawn = set(zip(pairs.left[4:].tolist(), pairs.right[4:].tolist(), strict=True))
    assert drawn == {(0, 3), (0, 4), (1, 4)}


def test_who_likes_everything_has_no_strangers_and_that_is_no_endless_search() -> None:
    everything = csr_matrix(np.ones((2, 3), dtype=np.float32))
    pairs = with_strangers(
        rows_of(everything), everything.indices, _Pattern(everything), 2, np.random.default_rng(0)
    )
    assert pairs.together.tolist() == [True] * 6


def test_rows_of_a_batch_are_asked_about_as_the_users_they_are() -> None:
    # The batch is user 1 alone, whose row in it is 0.
    pairs = with_strangers(
        np.zeros(2, dtype=np.int64),
        np.array([1, 3]),
        _Pattern(MINI),
        50,
        np.random.default_rng(0),
        np.array([1]),
    )
    assert set(pairs.right[2:].tolist()) == {0, 2, 4}
    assert set(pairs.left.tolist()) == {0}


# --- scores ---


def test_v1_is_the_cosine_with_the_elementwise_maximum() -> None:
    data = lists()
    v1 = GENERATIONS["v1"](data.train, data.features, config("v1"))
    assert isinstance(v1, V1)
    v1.settle()
    E = v1.embeddings
    liked = [track for track in data.train[0].indices.tolist() if track not in (3, 17, 39)]
    query = E[liked].max(axis=0)
    expected = E @ (query / np.linalg.norm(query))
    expected[[3, 17, 39]] = -np.inf  # unplaced: nothing is known of how they sound
    np.testing.assert_allclose(v1.scores(data.train[:1])[0], expected, rtol=1e-5)
    assert v1.without_features == 3


def test_v2_hears_a_training_user_as_their_node_in_the_graph() -> None:
    import torch

    data = lists()
    v2 = GENERATIONS["v2"](data.train, data.features, config("v2"))
    assert isinstance(v2, V2)
    v2.settle()
    with torch.no_grad():
        _, nodes = v2.module(v2.features, v2.users, v2.edges)
    expected = nodes.numpy() / np.linalg.norm(nodes.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(v2.queries(data.train), expected, atol=1e-5)


def test_v2_graph_is_the_one_of_nodes_in_a_row() -> None:
    """Songs and users as nodes of one homogeneous graph, with edges both ways, give the same."""
    import torch

    data = lists()
    v2 = GENERATIONS["v2"](data.train, data.features, config("v2"))
    assert isinstance(v2, V2)
    v2.module.eval()
    nodes = torch.cat([v2.features, v2.users])
    song, user = v2.edges[0], v2.edges[1] + len(v2.features)
    both_ways = torch.stack([torch.cat([song, user]), torch.cat([user, song])])
    with torch.no_grad():
        songs, users = v2.module(v2.features, v2.users, v2.edges)
        for place, convolution in enumerate(v2.module.convolutions):
            nodes = convolution(nodes, both_ways)
            nodes = nodes.relu() if place < 2 else nodes
    np.testing.assert_allclose(torch.cat([songs, users]).numpy(), nodes.numpy(), atol=1e-5)


def test_v2_moves_the_songs_for_a_new_user_and_leaves_the_graph_as_it_was() -> None:
    data = lists()
    v2 = GENERATIONS["v2"](data.train, data.features, config("v2"))
    assert isinstance(v2, V2)
    v2.settle()
    before = v2.embeddings.copy()
    songs, user = v2.with_new_user(data.train[0])
    assert np.linalg.norm(user) == pytest.approx(1, rel=1e-5)
    assert not np.allclose(songs, before, atol=1e-6)
    v2.settle()
    np.testing.assert_array_equal(v2.embeddings, before)


def test_v3_takes_the_nearest_of_the_liked_songs() -> None:
    data = lists()
    v3 = GENERATIONS["v3_seed"](data.train, data.features, config("v3_seed"))
    assert isinstance(v3, V3Seed)
    v3.settle()
    E = v3.embeddings
    expected = np.max(E[data.train[0].indices] @ E.T, axis=0)
    np.testing.assert_allclose(v3.scores(data.train[:1])[0], expected, rtol=1e-5)


# --- training ---


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_loss_falls_and_a_seed_is_a_model(generation: GenerationName) -> None:
    model = train_generation(lists(), config(generation, epochs=8))
    assert model.curves[-1].loss < model.curves[0].loss
    assert_same(model, train_generation(lists(), config(generation, epochs=8)))
    other = train_generation(lists(), config(generation, epochs=8, seed=1))
    assert not np.array_equal(model.generation.embeddings, other.generation.embeddings)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_run_that_was_stopped_goes_on_to_the_same_model(generation: GenerationName, tmp_path: Path) -> None:
    undisturbed = train_generation(lists(), config(generation))
    checkpoint = tmp_path / "checkpoint.safetensors"

    def stop_after_two(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generation(lists(), config(generation), checkpoint=checkpoint, on_epoch=stop_after_two)
    reports: list[EpochReport] = []
    resumed = train_generation(lists(), config(generation), checkpoint=checkpoint, on_epoch=reports.append)
    assert reports[0].epoch == 3
    assert_same(resumed, undisturbed)


def test_without_features_there_is_nothing_to_know_a_song_by() -> None:
    nothing = np.full((40, 11), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match="no liked track has audio features, the only input of v1"):
        train_generation(replace(lists(), features=nothing), config("v1"))


def test_lists_of_one_like_are_refused() -> None:
    data = lists()
    alone = replace(data, train=csr_matrix(np.eye(40, dtype=np.float32)))
    with pytest.raises(InputError, match="no user has two likes"):
        train_generation(alone, config("v2"))
