"""The neighbour weights are EASE where the neighbourhood is the catalogue, else EASE on the neighbourhood."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.training.neighbour_weights import local_ridge


def some_likes(users: int = 120, tracks: int = 25) -> csr_matrix:
    rng = np.random.default_rng(4)
    return csr_matrix((rng.random((users, tracks)) < 0.25).astype(np.float32))


def everybody_else(n: int) -> csr_matrix:
    return csr_matrix(1 - np.eye(n, dtype=np.float32))


def dense_ease(likes: csr_matrix, regularisation: float, user_exponent: float) -> np.ndarray:
    """Steck (2019): W = I - P / diag(P), P = (XᵀX + lambda I)^-1."""
    A = likes.toarray().astype(np.float64)
    X = A * np.maximum((A != 0).sum(axis=1, keepdims=True), 1) ** -user_exponent
    P = np.linalg.inv(X.T @ X + regularisation * np.eye(A.shape[1]))
    W: np.ndarray = -P / np.diag(P)
    np.fill_diagonal(W, 0)
    return W


def ridge(likes: csr_matrix, neighbours: csr_matrix, *, regularisation: float, **others: Any) -> csr_matrix:
    (W,) = local_ridge(likes, neighbours, regularisations=(regularisation,), **others)
    return W


@pytest.mark.parametrize("user_exponent", [0.0, 0.25])
def test_with_all_tracks_for_neighbours_it_is_ease(user_exponent: float) -> None:
    likes = some_likes()
    W = ridge(likes, everybody_else(25), regularisation=3.0, user_exponent=user_exponent)
    np.testing.assert_allclose(W.toarray(), dense_ease(likes, 3.0, user_exponent), atol=1e-5)


def test_likes_that_count_more_are_larger_in_the_rows_of_ease() -> None:
    likes = some_likes()
    likes.data = np.random.default_rng(6).uniform(0.3, 2.5, likes.nnz).astype(np.float32)
    W = ridge(likes, everybody_else(25), regularisation=3.0, user_exponent=0.25)
    np.testing.assert_allclose(W.toarray(), dense_ease(likes, 3.0, 0.25), atol=1e-5)


def test_on_few_neighbours_it_is_the_ridge_on_those() -> None:
    likes = some_likes()
    W = ridge(likes, strongest_neighbours(likes, 4), regularisation=2.0, user_exponent=0.0).toarray()
    near = strongest_neighbours(likes, 4)[7].indices
    X = likes.toarray().astype(np.float64)
    expected = np.linalg.solve(X[:, near].T @ X[:, near] + 2 * np.eye(4), X[:, near].T @ X[:, 7])
    np.testing.assert_allclose(W[near, 7], expected, atol=1e-5)
    assert np.count_nonzero(W[:, 7]) <= 4


def test_the_groups_that_little_memory_forces_give_the_same_weights() -> None:
    # 64 tracks a group are what the smallest setting allows, so that 300 tracks have to be cut.
    likes = some_likes(400, 300)
    neighbours = strongest_neighbours(likes, 12)
    whole = ridge(likes, neighbours, regularisation=2.0)
    cut = ridge(likes, neighbours, regularisation=2.0, memory_mib=0)
    np.testing.assert_allclose(cut.toarray(), whole.toarray(), atol=1e-5)


@pytest.mark.parametrize("memory_mib", [0, 64])
def test_several_lambdas_at_once_give_what_each_gives_alone(memory_mib: int) -> None:
    likes = some_likes(400, 300)
    neighbours = strongest_neighbours(likes, 12)
    both = local_ridge(likes, neighbours, regularisations=(2.0, 8.0), memory_mib=memory_mib)
    for W, regularisation in zip(both, (2.0, 8.0), strict=True):
        alone = ridge(likes, neighbours, regularisation=regularisation, memory_mib=memory_mib)
        np.testing.assert_array_equal(W.toarray(), alone.toarray())
        np.testing.assert_array_equal(W.indices, both[0].indices)


def test_content_counts_like_more_users_whose_lists_are_not_scaled() -> None:
    likes = some_likes()
    content = csr_matrix((np.random.default_rng(5).random((7, 25)) < 0.3).astype(np.float32))
    W = ridge(likes, everybody_else(25), regularisation=3.0, content=2 * content, user_exponent=0.25)
    scaled = likes.toarray() * np.maximum(np.diff(likes.indptr), 1)[:, np.newaxis] ** -0.25
    rows = csr_matrix(np.vstack([scaled, 2 * content.toarray()]).astype(np.float32))
    np.testing.assert_allclose(W.toarray(), dense_ease(rows, 3.0, 0.0), atol=1e-4)


def test_a_track_without_neighbours_has_no_weights() -> None:
    likes = csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32))
    W = ridge(likes, strongest_neighbours(likes, 2), regularisation=1.0).toarray()
    assert W[0, 1] > 0
    np.testing.assert_array_equal(W[2], 0)
    np.testing.assert_array_equal(W[:, 2], 0)


def test_systems_without_a_solution_are_said() -> None:
    likes = csr_matrix(np.array([[1, 1, 1], [1, 1, 1]], dtype=np.float32))
    with pytest.raises(np.linalg.LinAlgError, match="track 0"):
        ridge(likes, everybody_else(3), regularisation=0.0)


def test_progress_ends_where_it_said_it_would() -> None:
    likes = csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32))
    told: list[tuple[int, int]] = []
    ridge(
        likes,
        strongest_neighbours(likes, 2),
        regularisation=1.0,
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert told[-1] == (2, 2)
