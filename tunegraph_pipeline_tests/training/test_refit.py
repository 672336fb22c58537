"""A refit: what is served learns from every like, and what is judged from none that is held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.lake.array_spec import declared_fields
from tunegraph_pipeline.models.arrays import ServedArrays
from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData, refit, train

CONFIG = TrainingConfig(
    dimension=16,
    epochs=4,
    batch_users=16,
    ridge_neighbours=10,
    graph_neighbours=10,
    memory_mib=64,
    refit_epochs=1,
)
N_TRACKS = 40
SOLVED = ("neighbour_indptr", "neighbour_indices", "neighbour_weight", "pooling_weight")


def liked() -> np.ndarray:
    """Sixty users over forty tracks, all but the last; a user likes about ten."""
    likes = np.random.default_rng(0).random((60, N_TRACKS)) < 0.25
    likes[:, -1] = False
    return likes


def data_of(train_likes: np.ndarray) -> TrainingData:
    """Data without anything for early stopping, with features and artists, but for the last track."""
    likes = csr_matrix(train_likes.astype(np.float32))
    rng = np.random.default_rng(1)
    artists = np.eye(8, dtype=np.bool_)[rng.integers(0, 8, N_TRACKS)]
    features = rng.random((N_TRACKS, 11)).astype(np.float32)
    artists[-1], features[-1] = False, np.nan
    return TrainingData(
        train=likes,
        context=likes[:0],
        targets=likes[:0],
        features=features,
        track_artists=csr_matrix(artists),
        album=np.full(N_TRACKS, -1, dtype=np.int32),
    )


def everything(likes: np.ndarray, held_out: np.ndarray) -> csr_matrix:
    return csr_matrix((likes | held_out).astype(np.float32))


def held_out(seed: int) -> np.ndarray:
    """A few likes beside those of `liked`, and one of the track that nobody else likes."""
    more: np.ndarray = (np.random.default_rng(seed).random((60, N_TRACKS)) < 0.04) & ~liked()
    more[:, -1] = False
    more[seed, -1] = True
    return more


def refitted(
    model: TrainedModel, more: np.ndarray, config: TrainingConfig = CONFIG, checkpoint: Path | None = None
) -> ServedArrays:
    found = refit(model, data_of(liked()), everything(liked(), more), config, checkpoint=checkpoint)
    assert found is not None
    return found


def assert_same(one: ServedArrays, other: ServedArrays) -> None:
    for name, array in declared_fields(one).items():
        if name in declared_fields(other):
            np.testing.assert_array_equal(array, getattr(other, name), err_msg=name)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return train(data_of(liked()), CONFIG)


def test_it_changes_nothing_of_what_is_judged_and_is_the_same_each_time(model: TrainedModel) -> None:
    before = {name: array.copy() for name, array in declared_fields(model).items()}
    tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    assert_same(refitted(model, held_out(1)), refitted(model, held_out(1)))
    for name, array in before.items():
        np.testing.assert_array_equal(array, getattr(model, name), err_msg=name)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, model.tensors[name], err_msg=name)


def test_what_is_solved_is_that_of_a_training_on_every_like(model: TrainedModel) -> None:
    found = refitted(model, held_out(1))
    of_all = train(data_of(liked() | held_out(1)), CONFIG)
    for name in SOLVED:
        np.testing.assert_array_equal(getattr(found, name), getattr(of_all, name), err_msg=name)


def test_every_held_out_like_counts(model: TrainedModel) -> None:
    one, other = refitted(model, held_out(1)), refitted(model, held_out(2))
    for name in ("embeddings", "prior", "neighbour_weight"):
        assert not np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("epochs", [0, 1])
def test_its_space_is_that_of_the_model_and_a_song_that_only_held_out_likes_know_gets_a_place(
    model: TrainedModel, epochs: int
) -> None:
    found = refitted(model, held_out(1), CONFIG.model_copy(update={"refit_epochs": epochs}))
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)
    cosines = np.einsum("ij,ij->i", found.embeddings, model.embeddings)
    assert cosines[:-1].mean() > 0.9
    assert not model.recommendable[-1]
    # It lies nearer to the songs of its one listener than to others.
    (listener,) = np.flatnonzero(held_out(1)[:, -1])
    near = found.embeddings[:-1] @ found.embeddings[-1]
    theirs = (liked() | held_out(1))[listener, :-1]
    assert near[theirs].mean() > near[~theirs].mean()
    # A single like says little: it is below most songs.
    assert found.prior[-1] < np.median(found.prior[:-1])


def test_with_nothing_held_out_there_is_nothing_to_refit(model: TrainedModel) -> None:
    data = data_of(liked())
    assert refit(model, data, data.train, CONFIG) is None


def test_without_epochs_no_vector_changes_but_by_its_neighbours(model: TrainedModel) -> None:
    """Without a graph in the encoder, tracks stay where they were, and only one new to the model moves."""
    solved_alone = CONFIG.model_copy(update={"refit_epochs": 0})
    found, whole = refitted(model, held_out(1), solved_alone), refitted(model, held_out(1))
    for name in SOLVED:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(found.prior[:-1], model.prior[:-1])
    assert not np.array_equal(found.embeddings, model.embeddings)
    no_graph = solved_alone.model_copy(update={"encoder": "none"})
    alone = train(data_of(liked()), no_graph)
    same = refitted(alone, held_out(1), no_graph)
    np.testing.assert_allclose(same.embeddings[:-1], alone.embeddings[:-1], atol=1e-5)


def test_rules_that_follow_from_the_likes_a_track_stay_those_of_the_judged_model() -> None:
    """Just below two likes a track a model has one space, and from two on four."""
    likes = np.zeros((60, N_TRACKS), dtype=np.bool_)
    likes[np.arange(60), np.arange(60) % 39] = True
    likes[np.arange(17), (np.arange(17) + 1) % 39] = True
    more = np.zeros_like(likes)
    more[np.arange(17, 39), (np.arange(17, 39) + 1) % 39] = True
    config = CONFIG.model_copy(update={"refit_epochs": 1})
    data, of_all = data_of(likes), everything(likes, more)
    assert config.spaces_for(data.likes_per_track) == 1
    assert config.spaces_for(replace(data, train=of_all).likes_per_track) == 4
    model = train(data, config)
    found = refit(model, data, of_all, config)
    fixed = config.model_copy(update={"spaces": 1, "temperature": config.temperature_for(1)})
    expected = refit(model, data, of_all, fixed)
    assert found is not None
    assert expected is not None
    assert_same(found, expected)


def test_one_that_was_stopped_goes_on_to_the_same_arrays(model: TrainedModel, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"refit_epochs": 3})
    undisturbed = refitted(model, held_out(1), config)
    checkpoint = tmp_path / "refit.safetensors"
    data, likes, steps = data_of(liked()), everything(liked(), held_out(1)), []

    def stop_in_the_second_epoch(what: str, done: int, total: int) -> None:
        steps.append(what)
        if what == "learning from all likes, epoch 2 of at most 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refit(model, data, likes, config, checkpoint=checkpoint, progress=stop_in_the_second_epoch)
    assert checkpoint.exists()
    steps.clear()
    resumed = refit(
        model, data, likes, config, checkpoint=checkpoint, progress=lambda what, *_: steps.append(what)
    )
    assert not any("epoch 1" in what for what in steps)
    assert resumed is not None
    assert_same(resumed, undisturbed)
    # Not from that of other likes.
    assert_same(refitted(model, held_out(2), config, checkpoint), refitted(model, held_out(2), config))
