"""The parts of other methods that the ablation puts in the place of ours, against their definitions."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.other_parts import Weights, chebyshev, cut_ease, full_ease, plateau, two_interests, with_pairs
from tunegraph_pipeline.training.blend import ScoreParts
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData

N = 12
CONFIG = TrainingConfig(ridge_neighbours=N - 1)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    likes = csr_matrix((np.random.default_rng(0).random((60, N)) < 0.3).astype(np.float32))
    likes = likes[np.diff(likes.indptr) > 1]
    features = np.full((N, 11), np.nan, dtype=np.float32)
    no_artist, no_album = csr_matrix(np.zeros((N, 0), np.bool_)), np.full(N, -1, dtype=np.int32)
    return TrainingData(likes, likes[:0], likes[:0], features, no_artist, no_album)


@pytest.fixture(scope="module")
def parts(data: TrainingData) -> ScoreParts:
    embeddings = np.random.default_rng(1).standard_normal((N, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    nothing = csr_matrix(np.zeros((N, N), np.float32))
    return Weights().parts(ScoreParts(embeddings, np.ones(N, dtype=np.float32), nothing), data, CONFIG)


def test_full_ease_has_the_weights_of_a_ridge_on_all_other_songs(
    parts: ScoreParts, data: TrainingData
) -> None:
    full = full_ease(parts, data, CONFIG)
    assert full.matrix == pytest.approx(parts.weights.toarray(), abs=1e-6)
    assert full.neighbours(data.train) == pytest.approx(parts.neighbours(data.train), abs=1e-5)
    few = cut_ease(parts, data, CONFIG.model_copy(update={"ridge_neighbours": 3})).weights
    assert np.diff(few.tocsc().indptr).tolist() == [3] * N
    least = np.sort(np.abs(full.matrix), axis=0)[-3]
    assert np.abs(few.toarray()).max(axis=0) == pytest.approx(np.abs(full.matrix).max(axis=0))
    assert (np.abs(few.toarray()).sum(axis=0) >= 3 * least - 1e-6).all()


def test_edlae_is_a_ridge_with_a_larger_diagonal(parts: ScoreParts, data: TrainingData) -> None:
    X = data.train.toarray() * np.diff(data.train.indptr)[:, np.newaxis] ** -0.25
    gram = X.T @ X
    inverse = np.linalg.inv(gram + np.diag(CONFIG.regularisation + np.diag(gram) / 3))  # p = 0.25
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    assert Weights(0.25).parts(parts, data, CONFIG).weights.toarray() == pytest.approx(expected, abs=1e-5)


def test_a_chebyshev_filter_is_that_of_the_spectrum(parts: ScoreParts, data: TrainingData) -> None:
    found = chebyshev(0.0)(parts, data, CONFIG)
    R = found.normalised.toarray()
    frequencies, V = np.linalg.eigh(np.eye(N) - R.T @ R)
    response = np.array([plateau(2 * one - 1) for one in frequencies])
    d = np.sqrt(found.degrees)
    expected = data.train.toarray() / d @ (V * response) @ V.T * d
    assert found.filtered(data.train) == pytest.approx(expected, abs=0.005)
    assert expected.std() > 0.1
    half = chebyshev(0.5)(parts, data, CONFIG).neighbours(data.train)
    both = (found.neighbours(data.train), parts.neighbours(data.train))
    assert half == pytest.approx(np.mean(both, axis=0), abs=1e-5)


def test_two_interests_of_a_list_are_two_queries(parts: ScoreParts) -> None:
    embeddings = np.zeros((N, 8), dtype=np.float32)
    embeddings[:6, 0], embeddings[6:, 1] = 1, 1  # two kinds of music
    two = two_interests(ScoreParts(embeddings, parts.pooling_weight, parts.weights), None, CONFIG)  # type: ignore[arg-type]
    lists = csr_matrix(np.array([[1] * 3 + [0] * 3 + [1] * 2 + [0] * 4, [1] + [0] * 10 + [1]], np.float32))
    cosines = two.cosines(lists)
    assert cosines[0] == pytest.approx(np.ones(N))
    assert cosines[1] == pytest.approx(np.full(N, 0.5**0.5))  # too short to divide


def test_a_pair_says_nothing_of_its_own_songs(parts: ScoreParts, data: TrainingData) -> None:
    found = with_pairs(parts, data, CONFIG)
    number = np.arange(len(found.first))
    assert found.of_pairs.nnz
    for songs in (found.first, found.second):
        assert not found.of_pairs[number, songs].any()
    one = csr_matrix(np.eye(N, dtype=np.float32))
    assert found.neighbours(one) == pytest.approx(found.weights.toarray())  # nobody has two songs
    first, second = int(found.first[0]), int(found.second[0])
    both = csr_matrix(one[first] + one[second])
    expected = found.weights[first] + found.weights[second] + found.of_pairs[0]
    assert found.neighbours(both) == pytest.approx(expected.toarray(), abs=1e-6)
