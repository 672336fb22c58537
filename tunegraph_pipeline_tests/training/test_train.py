"""Training as a whole: it learns what is there to learn, twice the same, and goes on after a kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix, vstack

import tunegraph_pipeline.training.train as training
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.training.blend import ScoreParts, Tuned, Validation, pooled_queries, tune_blend
from tunegraph_pipeline.training.loop import EpochReport
from tunegraph_pipeline.training.train import (
    TrainedModel,
    TrainingConfig,
    TrainingData,
    neighbour_weights,
    refit,
    train,
)
from tunegraph_pipeline.training.warm_start import Start

CONFIG = TrainingConfig(
    dimension=16, epochs=4, batch_users=16, ridge_neighbours=10, graph_neighbours=10, memory_mib=64
)
GROUP = 12  # users and tracks of one half of the checkerboard


def checkerboard() -> tuple[csr_matrix, csr_matrix]:
    """Two groups of users, each liking its own tracks but one apiece: the likes, and the ones left out."""
    block = np.ones((GROUP, GROUP), dtype=np.float32)
    likes = np.kron(np.eye(2, dtype=np.float32), block)
    withheld = np.eye(2 * GROUP, dtype=np.float32)
    return csr_matrix(likes - withheld), csr_matrix(withheld)


def data_of(
    likes: csr_matrix, context: csr_matrix | None = None, targets: csr_matrix | None = None
) -> TrainingData:
    n_tracks = likes.shape[1]
    nobody = csr_matrix(np.zeros((0, n_tracks), dtype=np.float32))
    return TrainingData(
        train=likes,
        context=nobody if context is None else context,
        targets=nobody if targets is None else targets,
        features=np.full((n_tracks, 11), np.nan, dtype=np.float32),
        track_artists=csr_matrix(np.zeros((n_tracks, 0), dtype=np.bool_)),
        album=np.full(n_tracks, -1, dtype=np.int32),
    )


def lists(seed: int = 0) -> TrainingData:
    """Sixty users over forty tracks with features and artists, a few likes held out."""
    rng = np.random.default_rng(seed)
    liked = rng.random((60, 40)) < 0.25
    held_out = liked & (rng.random(liked.shape) < 0.1)
    held_out[30:] = False
    train_likes = csr_matrix((liked & ~held_out).astype(np.float32))
    return replace(
        data_of(train_likes, train_likes[:30], csr_matrix(held_out[:30].astype(np.float32))),
        features=rng.random((40, 11)).astype(np.float32),
        track_artists=csr_matrix(np.eye(8, dtype=np.bool_)[rng.integers(0, 8, 40)]),
        album=rng.integers(-1, 10, 40).astype(np.int32),
    )


def served_scores(model: TrainedModel, likes: csr_matrix) -> np.ndarray:
    """The scoring rule, written out, with liked tracks left out."""
    shape = (len(model.prior), len(model.prior))
    W = csr_matrix((model.neighbour_weight, model.neighbour_indices, model.neighbour_indptr), shape=shape)
    length = np.diff(likes.indptr)[:, np.newaxis].astype(np.float64)
    scores: np.ndarray = model.blend.embedding * (
        pooled_queries(likes, model.embeddings, model.pooling_weight) @ model.embeddings.T
    )
    scores = scores + model.blend.neighbour * length**-model.blend.length_exponent * (likes @ W).toarray()
    scores += model.prior
    scores[likes.nonzero()] = -np.inf
    return scores


def assert_same(one: TrainedModel, other: TrainedModel) -> None:
    for name in ("embeddings", "pooling_weight", "neighbour_indptr", "neighbour_indices", "neighbour_weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name], err_msg=name)
    assert [(r.epoch, r.loss) for r in one.curves] == [(r.epoch, r.loss) for r in other.curves]
    np.testing.assert_array_equal([r.validation for r in one.curves], [r.validation for r in other.curves])
    assert one.blend == other.blend
    assert one.best_epoch == other.best_epoch


@pytest.mark.parametrize("encoder", ["propagation", "transformer", "none"])
def test_the_withheld_diagonal_of_a_checkerboard_comes_first(encoder: str) -> None:
    likes, withheld = checkerboard()
    model = train(data_of(likes), CONFIG.model_copy(update={"encoder": encoder}))
    np.testing.assert_array_equal(served_scores(model, likes).argmax(axis=1), withheld.indices)


def test_either_part_alone_puts_the_diagonal_first() -> None:
    likes, withheld = checkerboard()
    model = train(data_of(likes), CONFIG)
    for embedding, neighbour in ((1.0, 0.0), (0.0, 1.0)):
        alone = replace(model, blend=replace(model.blend, embedding=embedding, neighbour=neighbour))
        np.testing.assert_array_equal(served_scores(alone, likes).argmax(axis=1), withheld.indices)


def test_embeddings_are_finite_of_unit_length_and_the_same_for_the_same_seed() -> None:
    first, second = train(lists(), CONFIG), train(lists(), CONFIG)
    np.testing.assert_allclose(np.linalg.norm(first.embeddings, axis=1), 1, rtol=1e-5)
    assert_same(first, second)
    other = train(lists(), CONFIG.model_copy(update={"seed": 1}))
    assert not np.array_equal(first.embeddings, other.embeddings)


def test_the_loss_falls_and_every_epoch_is_reported() -> None:
    reports: list[EpochReport] = []
    model = train(lists(), CONFIG, on_epoch=reports.append)
    assert reports == model.curves
    assert [report.epoch for report in reports] == list(range(1, len(reports) + 1))
    assert reports[-1].loss < reports[0].loss
    assert all(0 <= report.validation <= 1 for report in reports)


def judged_as(monkeypatch: pytest.MonkeyPatch, epochs: list[list[float]]) -> None:
    """Let validation find these AP@10, one list an epoch, whatever the model; the last one from then on."""
    rest = iter(epochs)
    last = epochs[-1]

    def of_blends(self: Validation, blends: Sequence[Blend], *_: object) -> np.ndarray:
        return np.tile(np.array(next(rest, last)), (len(blends), 1))

    monkeypatch.setattr(Validation, "of_blends", of_blends)


def test_training_stops_when_validation_has_clearly_fallen_and_keeps_the_epoch_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CONFIG.model_copy(update={"epochs": 10, "patience": 3})
    judged_as(monkeypatch, [[0.4] * 9, [0.5] * 9, [0.1] * 9])
    model = train(lists(), config)
    assert [report.validation for report in model.curves] == pytest.approx([0.4, 0.5, 0.1, 0.1, 0.1])
    assert model.best_epoch == 2


def test_of_epochs_that_validation_cannot_tell_apart_the_last_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged_as(monkeypatch, [[1.0, 0.0, 0.5, 0.6], [0.0, 1.0, 0.5, 0.5], [0.9, 0.1, 0.6, 0.4]])
    assert train(lists(), CONFIG.model_copy(update={"patience": 1})).best_epoch == 4


def test_a_run_that_was_stopped_goes_on_to_the_same_model(tmp_path: Path) -> None:
    undisturbed = train(lists(), CONFIG)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def stop_after_two(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(lists(), CONFIG, checkpoint=checkpoint, on_epoch=stop_after_two)
    reports: list[EpochReport] = []
    resumed = train(lists(), CONFIG, checkpoint=checkpoint, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [3, 4]
    assert_same(resumed, undisturbed)


_KILLED = """
import os, signal, sys, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

def progress(what, done, total):
    if what.startswith("training, epoch 3") and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

cases.train(cases.lists(), cases.CONFIG, checkpoint=Path(sys.argv[2]), progress=progress)
"""


@pytest.mark.kill
def test_a_run_that_was_killed_in_the_middle_of_an_epoch_goes_on_to_the_same_model(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, __file__, str(checkpoint)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    reports: list[EpochReport] = []
    resumed = train(lists(), CONFIG, checkpoint=checkpoint, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [3, 4]
    assert_same(resumed, train(lists(), CONFIG))


def test_a_checkpoint_of_other_data_is_not_gone_on_from(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(lists(seed=1), CONFIG, checkpoint=checkpoint)
    assert_same(train(lists(), CONFIG, checkpoint=checkpoint), train(lists(), CONFIG))


def test_a_track_nobody_likes_is_placed_by_its_artist_and_one_without_anything_is_left_out() -> None:
    likes, _ = checkerboard()
    n_tracks = likes.shape[1] + 2
    likes = csr_matrix((likes.data, likes.indices, likes.indptr), shape=(likes.shape[0], n_tracks))
    artist = np.array([0] * GROUP + [1] * GROUP + [1, -1])
    known = np.flatnonzero(artist >= 0)
    artists = csr_matrix((np.ones(len(known), dtype=np.bool_), (known, artist[known])), shape=(n_tracks, 2))
    model = train(replace(data_of(likes), track_artists=artists), CONFIG)
    cosine = model.embeddings @ model.embeddings[-2]
    assert cosine[GROUP : 2 * GROUP].min() > cosine[:GROUP].max()
    np.testing.assert_array_equal(np.flatnonzero(~model.recommendable), [n_tracks - 1])
    assert np.linalg.norm(model.embeddings[-1]) == pytest.approx(1)


def test_features_alone_place_a_track_nobody_likes_near_what_sounds_alike() -> None:
    likes, _ = checkerboard()
    n_tracks = likes.shape[1] + 1
    likes = csr_matrix((likes.data, likes.indices, likes.indptr), shape=(likes.shape[0], n_tracks))
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.1, (n_tracks, 11)).astype(np.float32)
    features[:GROUP] -= 1
    features[GROUP:] += 1
    config = CONFIG.model_copy(update={"epochs": 12})
    model = train(replace(data_of(likes), features=features), config)
    cosine = model.embeddings @ model.embeddings[-1]
    assert cosine[GROUP:-1].mean() > cosine[:GROUP].mean() + 0.5


def test_likes_that_are_left_out_now_and_then_teach_content_to_place_a_track() -> None:
    # Two genres that sound different, songs that mostly one person each likes: by its likes every song is one
    # of a kind, and what a song without any sounds like has to be learnt from songs that have some.
    rng = np.random.default_rng(1)
    n_users, each, n_cold = 60, 10, 60
    n_tracks = n_users * each + n_cold
    genre = np.concatenate([np.repeat(np.arange(n_users) % 2, each), np.arange(n_cold) % 2])
    liked = np.zeros((n_users, n_tracks), dtype=np.float32)
    liked[np.repeat(np.arange(n_users), each), np.arange(n_users * each)] = 1
    for user in range(n_users):  # and one song of the genre that others like as well
        liked[user, rng.choice(np.flatnonzero(genre[:-n_cold] == user % 2))] = 1
    features = rng.normal(0, 1, (n_tracks, 11)).astype(np.float32)
    features[:, 0] += 2 * genre
    data = replace(data_of(csr_matrix(liked)), features=features)
    found = {}
    for content_likes in (0.0, 1.0):
        model = train(data, CONFIG.model_copy(update={"epochs": 20, "content_likes": content_likes}))
        queries = pooled_queries(csr_matrix(liked), model.embeddings, model.pooling_weight)
        best = np.argsort(-(queries @ model.embeddings[-n_cold:].T), axis=1)[:, :10]
        found[content_likes] = (genre[-n_cold:][best] == np.arange(n_users)[:, np.newaxis] % 2).mean()
    assert found[1.0] > found[0.0] + 0.1


@pytest.mark.parametrize("switches", [{}, {"use_tags": False}, {"use_features": False}])
def test_only_tracks_without_likes_are_placed_beside_what_is_alike(switches: dict[str, bool]) -> None:
    data = lists()
    likes = data.train.toarray()
    likes[:, -5:] = 0
    data = replace(data, train=csr_matrix(likes), context=data.context[:0], targets=data.targets[:0])
    alone, beside = (
        train(data, CONFIG.model_copy(update={"content_neighbours": count, **switches})) for count in (0, 10)
    )
    np.testing.assert_array_equal(beside.embeddings[:-5], alone.embeddings[:-5])
    assert (beside.embeddings[-5:] != alone.embeddings[-5:]).any(axis=1).all()
    np.testing.assert_allclose(np.linalg.norm(beside.embeddings, axis=1), 1, rtol=1e-5)


def test_a_new_song_of_an_artist_is_nearest_to_their_songs_and_goes_to_their_listeners() -> None:
    # Two genres of three artists with six songs; everybody likes most songs of one and some of their genre.
    rng = np.random.default_rng(2)
    artist = np.append(np.repeat(np.arange(6), 6), 1)
    liked = np.zeros((60, 37), dtype=np.float32)
    listens = np.arange(60) % 6
    for user, favourite in enumerate(listens):
        chance = np.where(artist == favourite, 0.7, np.where(artist // 3 == favourite // 3, 0.15, 0))
        liked[user, :-1] = rng.random(36) < chance[:-1]
    data = replace(data_of(csr_matrix(liked)), track_artists=csr_matrix(np.eye(6, dtype=np.bool_)[artist]))
    model = train(data, CONFIG.model_copy(update={"epochs": 12}))
    cosine = model.embeddings[:-1] @ model.embeddings[-1]
    of_artist = artist[:-1] == 1
    assert cosine[of_artist].min() > cosine[~of_artist].max()
    place = (np.argsort(-served_scores(model, csr_matrix(liked)), axis=1) == 36).argmax(axis=1)
    assert np.median(place[listens == 1]) < place[(listens == 0) | (listens == 2)].min()
    assert place[listens < 3].max() < place[listens >= 3].min()


def test_a_catalogue_beyond_the_limit_is_trained_on_samples() -> None:
    likes, withheld = checkerboard()
    sampled = CONFIG.model_copy(update={"full_softmax_tracks": 10, "sampled_tracks": 12, "epochs": 8})
    model = train(data_of(likes), sampled)
    alone = replace(model, blend=replace(model.blend, neighbour=0.0))
    np.testing.assert_array_equal(served_scores(alone, likes).argmax(axis=1), withheld.indices)


def test_lists_of_one_like_teach_nothing_and_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="no user has two likes"):
        train(data_of(csr_matrix(np.eye(3, dtype=np.float32))), CONFIG)


def test_spaces_side_by_side_agree_on_the_answer_and_each_gives_it_alone() -> None:
    likes, withheld = checkerboard()
    config = CONFIG.model_copy(update={"spaces": 2, "epochs": 8})
    model = train(data_of(likes), config)
    np.testing.assert_array_equal(served_scores(model, likes).argmax(axis=1), withheld.indices)
    halves = np.split(model.embeddings, 2, axis=1)
    for half in halves:
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 0.5**0.5, rtol=1e-5)
        alone = replace(model, embeddings=half, blend=replace(model.blend, neighbour=0.0))
        np.testing.assert_array_equal(served_scores(alone, likes).argmax(axis=1), withheld.indices)
    assert np.abs(halves[0] - halves[1]).max() > 0.01  # trained apart, though they start alike


def test_the_prior_says_which_of_two_songs_is_liked_more_whatever_else_is_liked() -> None:
    # Six groups of users with five songs each, in a space too small to be near all of them; of two songs that
    # people of every group like, one is liked six times as often.
    rng = np.random.default_rng(3)
    group = np.arange(300) % 6
    liked = np.zeros((300, 32), dtype=np.float32)
    for user in range(300):
        liked[user, 5 * group[user] + rng.choice(5, 4, replace=False)] = 1
    liked[:, 30] = rng.random(300) < 0.6
    liked[:, 31] = rng.random(300) < 0.1
    config = CONFIG.model_copy(update={"epochs": 12, "dimension": 4, "learning_rate": 0.02})
    model = train(data_of(csr_matrix(liked)), config)
    assert model.prior[30] > model.prior[31] + 0.01


def test_songs_of_one_album_speak_for_each_other_though_nobody_likes_two_of_them() -> None:
    liked = csr_matrix(np.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]], dtype=np.float32))
    data = replace(data_of(liked), album=np.array([0, 0, 1, 2], dtype=np.int32))

    def weight(config: TrainingConfig) -> np.ndarray:
        model = train(data, config.model_copy(update={"epochs": 1}))
        found: np.ndarray = csr_matrix(
            (model.neighbour_weight, model.neighbour_indices, model.neighbour_indptr), shape=(4, 4)
        ).toarray()
        return found

    assert weight(CONFIG)[0, 1] > 0
    assert weight(CONFIG)[2, 3] == 0  # alone on their albums
    assert weight(CONFIG.model_copy(update={"content_weight": 0.0}))[0, 1] == 0
    assert weight(CONFIG.model_copy(update={"use_tags": False}))[0, 1] == 0


def test_spaces_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(InputError, match="3 spaces do not divide the dimension 16"):
        train(lists(), CONFIG.model_copy(update={"spaces": 3}))


def test_heads_that_do_not_divide_the_dimension_are_refused() -> None:
    bad = CONFIG.model_copy(update={"encoder": "transformer", "heads": 3})
    with pytest.raises(InputError, match="3 heads do not divide the dimension 16"):
        train(lists(), bad)


@pytest.mark.parametrize(
    ("users", "batch", "epochs"), [(471, 64, 30), (2_000, 128, 18), (50_000, 1024, 6), (10**6, 1024, 5)]
)
def test_batch_and_epochs_follow_from_the_number_of_users(users: int, batch: int, epochs: int) -> None:
    assert TrainingConfig().batch_for(users) == batch
    assert TrainingConfig().epochs_for(users) == epochs


def test_few_likes_a_track_are_learnt_softly_in_several_spaces_and_with_more_of_content() -> None:
    usual = TrainingConfig()
    assert [usual.temperature_for(likes) for likes in (0.0, 7.5, 25.0, 60.0)] == [0.15, 0.15, 0.1, 0.07]
    assert [usual.refit_epochs_for(from_scratch=one) for one in (True, False)] == [1, 0]
    assert usual.spaces_for(7.5) > usual.spaces_for(50.0) == 1 == usual.spaces_for(1.1)
    assert usual.content_likes_for(7.5) > usual.content_likes_for(50.0) > 0
    set_by_hand = TrainingConfig(temperature=0.3, spaces=2, content_likes=0.0)
    assert set_by_hand.temperature_for(50.0) == 0.3
    assert set_by_hand.spaces_for(50.0) == 2
    assert set_by_hand.content_likes_for(7.5) == 0
    assert TrainingConfig(dimension=6).spaces_for(7.5) == 1


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_products_are_rounded_where_the_processor_is_fast_at_it(
    able: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)

    assert TrainingConfig().precision_here() == precision
    assert TrainingConfig(precision="float32").precision_here() == "float32"
    assert TrainingConfig(precision="bfloat16").precision_here() == "bfloat16"


# --- going on from an earlier model ---

WARM = CONFIG.model_copy(update={"epochs": 8, "warm_epochs": 3})


def named(data: TrainingData) -> TrainingData:
    """The same with names for its artists and albums, in sorted order."""
    artists = [f"artist {number:03}" for number in range(data.track_artists.shape[1])]
    albums = [f"album {number:03}" for number in range(int(data.album.max(initial=-1)) + 1)]
    return replace(data, artists=artists, albums=albums)


def going_on(model: TrainedModel, data: TrainingData, turn: int = 1) -> Start:
    return Start(model.tensors, data.artists, data.albums, model.blend, model.regularisation, turn)


def a_day_later(data: TrainingData, seed: int) -> TrainingData:
    """Some likes gone, as many new ones."""
    rng = np.random.default_rng(seed)
    liked = data.train.toarray() > 0
    free = ~liked & ~(np.vstack([data.targets.toarray() > 0, np.zeros_like(liked[30:])]))
    changed = (liked & (rng.random(liked.shape) < 0.05)) | (free & (rng.random(liked.shape) < 0.02))
    train_likes = csr_matrix((liked ^ changed).astype(np.float32))
    return replace(data, train=train_likes, context=train_likes[:30])


def test_the_reserve_is_set_by_everybodys_list(monkeypatch: pytest.MonkeyPatch) -> None:
    data, found = named(lists()), []

    def noted(*arguments: Any, **more: Any) -> Tuned:
        found.append(arguments[4])
        return tune_blend(*arguments, **more)

    monkeypatch.setattr(training, "tune_blend", noted)
    train(data, CONFIG)
    assert data.context.shape[0] < data.train.shape[0]
    np.testing.assert_array_equal(found[0].toarray(), data.train.toarray())
    train(data, CONFIG.model_copy(update={"validation_users": 3}))
    assert found[1].shape[0] == 3


def test_the_chosen_lambda_is_that_of_the_weights_of_a_warm_start_and_of_a_refit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def the_last(validation: Validation, parts: list[ScoreParts], *others: Any, **more: Any) -> Tuned:
        return tune_blend(validation, parts[-1:], *others, **more)._replace(parts=len(parts) - 1)

    monkeypatch.setattr(training, "tune_blend", the_last)
    data = named(lists())
    model = train(data, CONFIG)
    assert model.regularisation == 4 * CONFIG.regularisation
    assert train(data, CONFIG.model_copy(update={"full_softmax_tracks": 1})).regularisation == 8
    held_out = vstack([data.targets, csr_matrix(np.zeros((30, 40), dtype=np.float32))])
    everything = csr_matrix(data.train + held_out)
    later = train(data, CONFIG, start=going_on(model, data))
    served = refit(model, data, everything, CONFIG)
    assert later.regularisation == model.regularisation
    assert served is not None
    expected = CONFIG.model_copy(update={"regularisation": 32.0, "stronger_regularisation": 1.0})
    for found, likes in ((model, data.train), (later, data.train), (served, everything)):
        (W,) = neighbour_weights(replace(data, train=likes), expected)
        np.testing.assert_array_equal(found.neighbour_weight, W.data)


def test_a_warm_start_is_the_same_each_time_and_has_few_epochs() -> None:
    first = named(lists())
    model, later = train(first, WARM), a_day_later(first, 1)
    start = going_on(model, first)
    one, other = (train(later, WARM, start=start) for _ in range(2))
    assert_same(one, other)
    assert len(one.curves) <= 3
    other_turn = train(later, WARM, start=going_on(model, first, turn=2))
    assert not np.array_equal(one.embeddings, other_turn.embeddings)


def test_a_warm_start_that_was_stopped_goes_on_to_the_same_model_and_not_to_that_of_another_start(
    tmp_path: Path,
) -> None:
    first = named(lists())
    later, start = a_day_later(first, 1), going_on(train(first, WARM), first)
    undisturbed = train(later, WARM, start=start)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def stop(report: EpochReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(later, WARM, start=start, checkpoint=checkpoint, on_epoch=stop)
    reports: list[EpochReport] = []
    resumed = train(later, WARM, start=start, checkpoint=checkpoint, on_epoch=reports.append)
    assert reports[0].epoch == 2
    assert_same(resumed, undisturbed)
    another = replace(start, turn=5)
    assert_same(train(later, WARM, start=another, checkpoint=checkpoint), train(later, WARM, start=another))


def test_what_is_solved_is_that_of_a_training_from_scratch_on_the_same_likes() -> None:
    first = named(lists())
    later = a_day_later(first, 1)
    warm, full = train(later, WARM, start=going_on(train(first, WARM), first)), train(later, WARM)
    for name in ("neighbour_indptr", "neighbour_indices", "neighbour_weight", "pooling_weight"):
        np.testing.assert_array_equal(getattr(warm, name), getattr(full, name))


def two_genres() -> tuple[TrainingData, np.ndarray, np.ndarray]:
    """Two genres of three artists with six songs, and what tells them apart: as below, with names."""
    rng = np.random.default_rng(2)
    artist = np.repeat(np.arange(6), 6)
    liked = np.zeros((90, 36), dtype=np.float32)
    listens = np.arange(90) % 6
    for user, favourite in enumerate(listens):
        chance = np.where(artist == favourite, 0.7, np.where(artist // 3 == favourite // 3, 0.15, 0))
        liked[user] = rng.random(36) < chance
    artists = csr_matrix(np.eye(6, dtype=np.bool_)[artist])
    return named(replace(data_of(csr_matrix(liked)), track_artists=artists)), artist, listens


def with_new_tracks(
    data: TrainingData, columns: np.ndarray, artist: list[int], names: list[str]
) -> TrainingData:
    """``data`` with tracks added: who likes them, users x new, and the column of their artist in ``names``,
    which lists the artists of today in order."""
    liked = np.hstack([data.train.toarray(), columns]).astype(np.float32)
    before = [names.index(name) for name in data.artists]
    made_by = np.zeros((liked.shape[1], len(names)), dtype=np.bool_)
    made_by[: data.train.shape[1], before] = data.track_artists.toarray()
    made_by[np.arange(data.train.shape[1], liked.shape[1]), artist] = True
    grown = data_of(csr_matrix(liked))
    return replace(grown, track_artists=csr_matrix(made_by), artists=names, albums=[])


def test_before_any_training_a_new_song_lies_with_its_artist_and_with_its_neighbours() -> None:
    data, artist, listens = two_genres()
    model = train(data, WARM)
    # One by an artist who is known, liked by nobody; one by somebody new who sorts before all others and so
    # moves all tags, liked by those who listen to artist 4.
    likers = np.zeros((90, 2), dtype=np.float32)
    likers[np.flatnonzero(listens == 4)[:5], 1] = 1
    names = ["aaa", *data.artists]
    later = with_new_tracks(data, likers, [1 + 1, 0], names)
    still = WARM.model_copy(update={"warm_epochs": 1, "warm_learning_rate": 1e-12})
    begun = train(later, still, start=going_on(model, data))
    cosine = begun.embeddings[:36] @ begun.embeddings[36:].T
    assert cosine[artist == 1, 0].min() > cosine[artist != 1, 0].max()
    assert cosine[artist == 4, 1].mean() > cosine[artist != 4, 1].max()
    # Nothing else has moved, though the tags have other numbers today.
    unmoved = np.einsum("ij,ij->i", begun.embeddings[:36], model.embeddings)
    assert unmoved.min() > 0.95
    assert np.median(unmoved) > 0.999


def test_a_chain_of_warm_starts_is_about_as_good_as_a_training_from_scratch() -> None:
    from tunegraph_pipeline.simulator.world import World, WorldConfig

    batch = World(WorldConfig(n_users=300, n_tracks=300)).crawl(date(2026, 12, 31))
    users, tracks = (batch.likes[name].unique().sort() for name in ("user_id", "track_id"))
    user, track = (
        ids.search_sorted(batch.likes[name]).to_numpy()
        for ids, name in ((users, "user_id"), (tracks, "track_id"))
    )
    everything = np.zeros((len(users), len(tracks)), dtype=np.float32)
    everything[user, track] = 1
    rng = np.random.default_rng(0)
    held_out = everything * (rng.random(everything.shape) < 0.2)
    day = rng.integers(-12, 3, everything.shape)  # a fifth of the likes come on three days
    config = TrainingConfig(dimension=32, epochs=10, memory_mib=64)

    def on(number: int) -> TrainingData:
        likes = csr_matrix((everything - held_out) * (day < number))
        return named(data_of(likes))

    def figure(model: TrainedModel) -> float:
        likes = on(3).train
        judged = Validation.draw(likes, csr_matrix(held_out), model.recommendable, 10_000)
        return float(judged.of_scores(lambda lists: served_scores(model, lists).astype(np.float32)).mean())

    model = first = train(on(0), config)
    for turn in range(1, 4):
        model = train(on(turn), config, start=going_on(model, on(turn - 1), turn))
    full = train(on(3), config)
    judged = Validation.draw(on(3).train, csr_matrix(held_out), full.recommendable, 10_000)
    assert figure(full) > 1.5 * judged.of_popularity(on(3).train.toarray().sum(axis=0)).mean()
    assert figure(model) > 0.95 * figure(full)
    assert figure(model) > figure(first)


def test_a_start_that_does_not_fit_is_refused() -> None:
    first = named(lists())
    start = going_on(train(first, CONFIG), first)
    with pytest.raises(ValueError, match="16 dimensions, not 32"):
        train(first, CONFIG.model_copy(update={"dimension": 32}), start=start)
    with pytest.raises(ValueError, match="names of 0 and 0"):
        train(lists(), CONFIG, start=start)


def test_features_that_were_unknown_until_today_begin_as_from_scratch() -> None:
    first = named(replace(lists(), features=np.full((40, 11), np.nan, dtype=np.float32)))
    model = train(first, CONFIG)
    assert not any(name.startswith("feature_network") for name in model.tensors)
    warm = train(named(lists()), WARM, start=going_on(model, first))
    assert any(name.startswith("feature_network") for name in warm.tensors)


@pytest.mark.parametrize(("users", "epochs"), [(471, 4), (2_000, 3), (50_000, 1), (10**6, 1)])
def test_a_warm_start_takes_a_seventh_of_the_epochs(users: int, epochs: int) -> None:
    assert TrainingConfig().warm_epochs_for(users) == epochs
    assert TrainingConfig(warm_epochs=9).warm_epochs_for(users) == 9


def test_how_a_warm_start_goes_is_no_setting_of_a_model_from_scratch() -> None:
    usual = TrainingConfig()
    other = TrainingConfig(warm_epochs=3, warm_learning_rate=0.1, full_after_days=1, full_after_share=0.5)
    assert usual.from_scratch() == other.from_scratch()
    assert usual.from_scratch() != TrainingConfig(seed=1).from_scratch()
