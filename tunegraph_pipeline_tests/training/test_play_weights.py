"""How much likes count by their plays, and that nothing but training hears of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.lake.array_spec import declared_fields
from tunegraph_pipeline.training.play_weights import weighed
from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData, refit, train

CONFIG = TrainingConfig(
    dimension=16, epochs=3, batch_users=16, ridge_neighbours=10, graph_neighbours=10, memory_mib=64
)
ALIKE = CONFIG.model_copy(update={"play_weights": False})
USERS, TRACKS = 60, 40


def liked() -> np.ndarray:
    return np.random.default_rng(0).random((USERS, TRACKS)) < 0.25


def held_out() -> np.ndarray:
    """Of half the users, a tenth of their likes."""
    drawn: np.ndarray = liked() & (np.random.default_rng(1).random((USERS, TRACKS)) < 0.1)
    drawn[30:] = False
    return drawn


def plays_of(seed: int) -> np.ndarray:
    """Up to sixty plays of two thirds of the likes."""
    rng = np.random.default_rng(seed)
    played: np.ndarray = liked() & (rng.random((USERS, TRACKS)) < 2 / 3)
    return played * rng.integers(1, 60, played.shape)


def data_of(plays: np.ndarray | None) -> TrainingData:
    train_likes = csr_matrix((liked() & ~held_out()).astype(np.float32))
    rng = np.random.default_rng(2)
    return TrainingData(
        train=train_likes,
        context=train_likes[:30],
        targets=csr_matrix(held_out()[:30].astype(np.float32)),
        features=rng.random((TRACKS, 11)).astype(np.float32),
        track_artists=csr_matrix(np.eye(8, dtype=np.bool_)[rng.integers(0, 8, TRACKS)]),
        album=np.full(TRACKS, -1, dtype=np.int32),
        plays=None if plays is None else csr_matrix(plays),
    )


def same(one: TrainedModel, other: TrainedModel) -> bool:
    """Whether two models are equal to the bit."""
    arrays = {**declared_fields(one), **one.tensors}
    others = {**declared_fields(other), **other.tensors}
    return one.blend == other.blend and all(
        np.array_equal(array, others[name]) for name, array in arrays.items()
    )


def test_a_like_weighs_by_its_plays_beside_the_others_of_its_listener() -> None:
    likes = csr_matrix(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]], dtype=np.float32))
    # The logarithms of 1 + 3 and 1 + 15 are as 2 to 4, so the mean is 3; the third like is from a list.
    plays = csr_matrix(np.array([[3, 15, 0, 99], [0, 0, 7, 0], [5, 1000, 0, 1000]]))
    found = weighed(likes, plays)
    assert found.dtype == np.float32
    expected = np.array([[2 / 3, 4 / 3, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]])
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)


def test_where_plays_say_nothing_the_model_is_the_same_to_the_bit() -> None:
    without = train(data_of(None), CONFIG)
    assert same(train(data_of(None), ALIKE), without)
    assert same(train(data_of(plays_of(0)), ALIKE), without)
    as_often = liked() * np.arange(1, USERS + 1)[:, np.newaxis]  # each user plays all songs alike
    assert same(train(data_of(as_often), CONFIG), without)


def test_plays_move_weights_and_vectors_and_nothing_that_counts_likes() -> None:
    without, model = train(data_of(None), CONFIG), train(data_of(plays_of(0)), CONFIG)
    assert same(train(data_of(plays_of(0)), CONFIG), model)
    for name in ("neighbour_weight", "embeddings"):
        assert not np.array_equal(getattr(model, name), getattr(without, name)), name
    for name in ("neighbour_indptr", "neighbour_indices", "pooling_weight", "validation_of_popularity"):
        np.testing.assert_array_equal(getattr(model, name), getattr(without, name), err_msg=name)


def test_plays_of_held_out_likes_count_in_what_is_served_alone() -> None:
    plays, others = plays_of(0), plays_of(3)
    others[~held_out()] = plays[~held_out()]
    data, other = data_of(plays), data_of(others)
    model = train(data, CONFIG)
    assert same(train(other, CONFIG), model)
    everything = csr_matrix(liked().astype(np.float32))
    served, served_of_other = (refit(model, one, everything, CONFIG) for one in (data, other))
    assert served is not None
    assert served_of_other is not None
    assert not np.array_equal(served.neighbour_weight, served_of_other.neighbour_weight)
    # What is solved is what a training on everything solves.
    again = train(replace(data, train=everything), CONFIG)
    np.testing.assert_array_equal(served.neighbour_weight, again.neighbour_weight)


def test_a_checkpoint_of_other_plays_is_not_gone_on_from(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    train(data_of(plays_of(0)), CONFIG, checkpoint=checkpoint)
    found = train(data_of(plays_of(4)), CONFIG, checkpoint=checkpoint)
    assert same(found, train(data_of(plays_of(4)), CONFIG))


def test_plays_of_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="plays"):
        train(replace(data_of(None), plays=csr_matrix(plays_of(0)[:-1])), CONFIG)
