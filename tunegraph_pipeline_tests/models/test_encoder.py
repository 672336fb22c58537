"""The encoder places tracks: by id, by content, by their neighbours."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph import csr
from tunegraph_pipeline.models import placing
from tunegraph_pipeline.models.content import content_tags
from tunegraph_pipeline.models.encoder import (
    EncoderKind,
    TrackEncoder,
    propagation_graph,
    spectral_start,
)
from tunegraph_pipeline.models.placing import Drawn
from tunegraph_pipeline.models.sparse import SparseMatrix

N, D = 6, 8


def build(
    kind: EncoderKind,
    warm: np.ndarray | None = None,
    tags: csr_matrix | None = None,
    features: np.ndarray | None = None,
    layers: int = 1,
    neighbours: csr_matrix | None = None,
    spaces: int = 1,
) -> TrackEncoder:
    rng = np.random.default_rng(0)
    if neighbours is None:
        neighbours = csr_matrix(np.ones((N, N)) - np.eye(N), dtype=np.float32)
    return TrackEncoder(
        rng.standard_normal((N, D)).astype(np.float32),
        np.ones(N, dtype=np.bool_) if warm is None else warm,
        tags,
        features,
        propagation_graph(neighbours, 3),
        kind=kind,
        layers=layers,
        heads=2,
        seed=1,
        spaces=spaces,
    )


@pytest.mark.parametrize("kind", ["propagation", "transformer", "none"])
def test_every_encoder_gives_unit_rows_and_the_same_seed_the_same_ones(kind: EncoderKind) -> None:
    first, second = build(kind)(), build(kind)()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(N))
    assert torch.equal(first, second)


def test_building_one_leaves_the_global_state_of_torch_alone() -> None:
    before = torch.random.get_rng_state()
    build("transformer")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("most", [1, 2**31 - 1])
def test_sparse_products_have_the_gradient_of_dense_ones(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csr, "_MOST_INT32", most)
    rng = np.random.default_rng(3)
    matrix = csr_matrix(rng.random((5, 4)).astype(np.float32) * (rng.random((5, 4)) < 0.5))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = x.detach().clone().requires_grad_()
    sparse = SparseMatrix(matrix)
    assert (sparse.forward.col_indices().dtype == torch.int64) == (most == 1)
    torch.autograd.backward((sparse @ x).pow(2).sum())
    torch.autograd.backward((torch.from_numpy(matrix.toarray()) @ y).pow(2).sum())
    torch.testing.assert_close(x.grad, y.grad)


def test_products_in_bfloat16_round_the_factors_and_the_rows_alone() -> None:
    rng = np.random.default_rng(3)
    matrix = csr_matrix(rng.random((50, 4000)).astype(np.float32))  # sums of 4,000 rounded terms would be off
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sparse = SparseMatrix(matrix, torch.bfloat16)
    product = sparse @ x
    exact = torch.from_numpy(matrix.toarray()) @ x.detach()
    assert product.dtype == torch.float32
    torch.testing.assert_close(product.detach(), exact, rtol=2**-7, atol=0)
    assert torch.equal(product.detach(), product.detach().bfloat16().float())
    torch.autograd.backward(product.sum())
    gradient = torch.from_numpy(matrix.sum(axis=0).reshape(-1, 1)).expand(-1, 3)
    torch.testing.assert_close(x.grad, gradient, rtol=2**-7, atol=0)
    with torch.no_grad():  # the finished model is not rounded
        torch.testing.assert_close(sparse @ x, exact)
        assert not torch.equal(sparse @ x, (sparse @ x).bfloat16().float())


def test_the_graph_is_symmetric_cut_to_the_strongest_and_normalised() -> None:
    # Track 0 hears 1 alone, its strongest; 2 hears 0, and what is heard one way is heard both ways.
    neighbours = csr_matrix(
        (np.array([4, 1, 4, 1], np.float32), np.array([1, 2, 0, 0]), np.array([0, 2, 3, 4])), shape=(3, 3)
    )
    graph = propagation_graph(neighbours, 1).toarray()
    expected = np.array([[0, 4, 1], [4, 0, 0], [1, 0, 0]]) / np.sqrt(np.outer([5, 4, 1], [5, 4, 1]))
    np.testing.assert_allclose(graph, expected, rtol=1e-6)


def test_a_track_nobody_likes_lies_where_its_artist_lies() -> None:
    warm = np.array([True, True, True, True, True, False])
    artists = csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [1, 0]], dtype=np.bool_))
    tags = content_tags(artists, np.full(N, -1, dtype=np.int32))
    embeddings = build("none", warm, tags)().detach().numpy()
    by_artist = embeddings @ embeddings[5]
    assert by_artist[:2].min() > by_artist[2:5].max()


def test_a_track_of_which_nothing_is_known_stays_at_the_origin() -> None:
    warm = np.array([True] * 5 + [False])
    assert not build("none", warm)()[5].any()


ARTISTS = csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0, 0], [1, 0]], dtype=np.bool_))
ALBUM = np.array([0, 0, 1, 2, -1, 3], dtype=np.int32)
"""Track 5 shares its artist with 0 and 1, its album with nobody; 2 shares nothing, of 4 nothing is known."""


def mask(*tracks: int) -> torch.Tensor:
    return torch.isin(torch.arange(N), torch.tensor(tracks))


@pytest.mark.parametrize("kind", ["propagation", "transformer", "none"])
def test_a_track_placed_as_if_nobody_liked_it_keeps_the_artist_alone_that_others_have(
    kind: EncoderKind,
) -> None:
    encoder = build(kind, tags=content_tags(ARTISTS, ALBUM))
    placed, liked = encoder(mask(5))[5], encoder()[5]
    torch.testing.assert_close(placed, torch.nn.functional.normalize(encoder.tag[0], dim=0))
    with torch.no_grad():  # what it has for itself: its id vector, and the vector of its album
        encoder.id[5] += 1
        encoder.tag[2 + 3] += 1
    torch.testing.assert_close(encoder(mask(5))[5], placed)
    assert (encoder()[5] - liked).norm() > 0.1


def test_an_artist_whose_tracks_are_all_placed_without_likes_is_left_out_with_them() -> None:
    features = np.zeros((N, 3), dtype=np.float32)
    features[:, :2], features[:, 2] = np.random.default_rng(0).random((N, 2)), 1
    encoder = build("none", tags=content_tags(ARTISTS, ALBUM), features=features)
    by_sound = torch.nn.functional.normalize(encoder.feature_network(torch.from_numpy(features)))
    torch.testing.assert_close(encoder(mask(0, 1, 5))[5], by_sound[5])
    assert (encoder(mask(5))[5] - by_sound[5]).norm() > 0.1


def test_a_track_of_which_nothing_would_be_left_keeps_its_likes() -> None:
    encoder = build("propagation", tags=content_tags(ARTISTS, ALBUM))
    kept = [2, 3, 4]
    torch.testing.assert_close(encoder(mask(*kept))[kept], encoder()[kept])
    torch.testing.assert_close(build("none")(mask(0, 1)), build("none")())


def test_what_a_sparse_matrix_keeps_has_the_gradient_of_the_dense_rest() -> None:
    rng = np.random.default_rng(3)
    matrix = csr_matrix(rng.random((5, 4)).astype(np.float32) * (rng.random((5, 4)) < 0.7))
    kept = torch.from_numpy(rng.random(matrix.nnz) < 0.5)
    dense = torch.zeros(5, 4)
    dense[tuple(torch.from_numpy(place[kept.numpy()]) for place in matrix.nonzero())] = torch.from_numpy(
        matrix.data
    )[kept]
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = x.detach().clone().requires_grad_()
    torch.autograd.backward((SparseMatrix(matrix).only(kept) @ x).pow(2).sum())
    torch.autograd.backward((dense @ y).pow(2).sum())
    torch.testing.assert_close(x.grad, y.grad)


RING = csr_matrix(np.roll(np.eye(N), 1, axis=1), dtype=np.float32)
"""Each track hears the next one, and is heard by it."""


@pytest.mark.parametrize("without_likes", [None, (1, 5)])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["propagation", "transformer", "none"])
def test_some_tracks_are_placed_where_all_would_be_with_the_same_gradient(
    kind: EncoderKind, layers: int, without_likes: tuple[int, ...] | None
) -> None:
    features = np.random.default_rng(2).random((N, 3)).astype(np.float32)
    features[:, 2] = [1, 1, 0, 0, 1, 1]
    warm = np.array([True] * 5 + [False])

    def make() -> TrackEncoder:
        tags = content_tags(ARTISTS, ALBUM)
        return build(kind, warm, tags, features, layers=layers, neighbours=RING, spaces=2)

    cold = None if without_likes is None else mask(*without_likes)
    rows = np.array([1, 3, 5])
    whole, part = make(), make()
    everywhere, placed = whole(cold), part.place(rows, cold)
    torch.testing.assert_close(placed.embeddings, everywhere[torch.from_numpy(rows)])
    gradient = torch.randn(len(rows), D, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward(everywhere[torch.from_numpy(rows)], gradient)
    placed.set_gradients(gradient)
    for name, parameter in part.named_parameters():
        expected = whole.get_parameter(name).grad
        found = None if parameter.grad is None else parameter.grad.to_dense()
        assert (found is None) == (expected is None), name
        torch.testing.assert_close(found, expected, msg=name)
    if kind != "transformer":
        assert part.id.grad is not None
        reached = [1, 3, 5] if kind == "none" else [0, 1, 2, 3, 4, 5]
        assert part.id.grad.indices()[0].tolist() == reached


def test_the_expected_message_of_drawn_neighbours_is_that_of_all() -> None:
    rng = np.random.default_rng(4)
    matrix = csr_matrix(rng.random((5, 9)) * (rng.random((5, 9)) < 0.7), dtype=np.float32)
    rows = np.array([1, 2, 4])
    drawn = [placing._messages(matrix, rows, Drawn(2, rng)) for _ in range(6000)]
    assert {tuple(np.diff(one.indptr)) for one in drawn} == {(2, 2, 2)}
    assert len({tuple(one.indices) for one in drawn}) > 20
    mean = sum(one.toarray() for one in drawn) / 6000
    np.testing.assert_allclose(mean, matrix[rows].toarray(), atol=0.05)
    everyone = placing._messages(matrix, rows, Drawn(9, rng)).toarray()
    np.testing.assert_array_equal(everyone, matrix[rows].toarray())


def test_the_spectral_start_is_the_truncated_svd() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((30, 12)) < 0.4).astype(np.float64)
    dense[0] = 1  # nobody and nothing is without a like
    dense[:, 0] = 1
    start = spectral_start(csr_matrix(dense, dtype=np.float32), 3, seed=0, rounds=30)
    normal = dense / np.sqrt(dense.sum(1, keepdims=True)) / np.sqrt(dense.sum(0))
    _, sigma, vt = np.linalg.svd(normal)
    expected = vt[:3].T * np.sqrt(sigma[:3])
    expected /= np.linalg.norm(expected, axis=1).mean()
    np.testing.assert_allclose(np.abs(start), np.abs(expected), atol=1e-3)


def test_a_start_wider_than_the_data_is_filled_up() -> None:
    start = spectral_start(csr_matrix(np.eye(3, dtype=np.float32)), 8, seed=0)
    assert start.shape == (3, 8)
    assert np.isfinite(start).all()
    assert (np.abs(start).sum(axis=0) > 0).all()
