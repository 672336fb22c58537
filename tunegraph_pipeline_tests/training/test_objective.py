"""The set-contrastive loss, by hand, against autograd, and its sampled form against the full one."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tunegraph_pipeline.training.objective import (
    Candidates,
    LossAndGradient,
    ScoreMemory,
    draw_candidates,
    set_contrastive,
    split_lists,
)


def csr(dense: Sequence[Sequence[float]]) -> csr_matrix:
    return csr_matrix(np.array(dense, dtype=np.float32))


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn)


def by_autograd(
    embeddings: torch.Tensor,
    context: csr_matrix,
    targets: csr_matrix,
    tau: float,
    keep: torch.Tensor | None,
    bias: torch.Tensor,
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The definition, written without a thought for speed."""
    E, b = embeddings.clone().requires_grad_(), bias.clone().requires_grad_()
    q = torch.nn.functional.normalize(torch.from_numpy(context.toarray()) @ E)
    q = q if keep is None else q * keep
    logits = (q @ E.T / tau + b).masked_fill(torch.from_numpy(context.toarray()) != 0, -torch.inf)
    chosen = torch.from_numpy(targets.toarray())
    log_p = torch.log_softmax(logits, dim=1)
    loss = -(chosen * torch.where(chosen > 0, log_p, 0.0)).sum(dim=1).mean()
    torch.autograd.backward(loss)
    assert E.grad is not None
    assert b.grad is not None
    return loss.item(), E.grad, b.grad


def test_the_loss_of_three_tracks_by_hand() -> None:
    # Liked: track 0 as context, track 1 as target. q = e_0; q.e_1 = 0.6, q.e_2 = 0; track 0 is masked.
    embeddings = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    loss, *_ = set_contrastive(embeddings, csr([[2.0, 0, 0]]), csr([[0, 1.0, 0]]), temperature=0.5)
    assert loss == pytest.approx(math.log(math.exp(1.2) + math.exp(0.0)) - 1.2, rel=1e-5)


@pytest.mark.parametrize("dropout", [False, True])
def test_loss_and_gradient_are_those_of_the_definition(dropout: bool) -> None:
    rng = np.random.default_rng(1)
    likes = csr_matrix((rng.random((5, 12)) < 0.5).astype(np.float32))
    context, targets = split_lists(likes, rng.random(12).astype(np.float32) + 0.1, rng)
    embeddings = unit(12, 4)
    keep = (torch.rand(5, 4, generator=torch.Generator().manual_seed(2)) > 0.3) / 0.7 if dropout else None
    bias = torch.randn(12, generator=torch.Generator().manual_seed(3))
    found = set_contrastive(embeddings, context, targets, 0.2, bias=bias, keep=keep)
    loss, of_embeddings, of_bias = by_autograd(embeddings, context, targets, 0.2, keep, bias)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found.embeddings, of_embeddings, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias, of_bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_bfloat16_products_give_nearly_the_same_gradient(sampled: bool) -> None:
    rng = np.random.default_rng(5)
    likes = csr_matrix((rng.random((60, 200)) < 0.1).astype(np.float32))
    context, targets = split_lists(likes, rng.random(200).astype(np.float32) + 0.1, rng)
    embeddings, bias = unit(200, 32), torch.randn(200, generator=torch.Generator().manual_seed(3))
    drawn = draw_candidates(np.full(200, 1 / 200), 150, rng) if sampled else None

    def found(scratch: ScoreMemory | None) -> LossAndGradient:
        return set_contrastive(
            embeddings,
            context,
            targets,
            0.1,
            bias=bias,
            candidates=drawn,
            sampled=sampled,
            scratch=scratch,
        )

    exact, rounded = found(None), found(ScoreMemory.of(70, 220, torch.bfloat16))
    again = found(ScoreMemory.of(60, 200, torch.bfloat16))

    assert rounded.loss == pytest.approx(exact.loss, rel=1e-3)
    for near, true in ((rounded.embeddings, exact.embeddings), (rounded.bias, exact.bias)):
        assert near.dtype == torch.float32
        assert 0 < (near - true).norm() < 0.01 * true.norm()
    assert torch.equal(rounded.embeddings, again.embeddings)


def test_tracks_that_are_no_candidates_count_for_nothing() -> None:
    embeddings, bias = unit(5, 3), torch.tensor([0.1, -0.2, 0.3, 0.0, 5.0])
    context, targets = csr([[1, 0, 0, 0, 0]]), csr([[0, 1, 0, 0, 0]])
    four = Candidates(np.arange(4), np.ones(4, dtype=np.float32))
    found = set_contrastive(embeddings, context, targets, 0.3, bias=bias, candidates=four)
    without = set_contrastive(embeddings[:4], context[:, :4], targets[:, :4], 0.3, bias=bias[:4])
    assert found.loss == pytest.approx(without.loss, rel=1e-6)
    torch.testing.assert_close(found.bias[:4], without.bias)
    assert not found.embeddings[4].any()
    assert found.bias[4] == 0


def test_a_sample_that_holds_every_track_once_is_the_full_softmax() -> None:
    embeddings = unit(6, 3)
    context, targets = csr([[1, 1, 0, 0, 0, 0]]), csr([[0, 0, 0.5, 0.5, 0, 0]])
    everything = Candidates(np.arange(6), np.ones(6, dtype=np.float32))
    bias = torch.linspace(-1, 1, 6)
    full = set_contrastive(embeddings, context, targets, 0.2, bias=bias)
    sampled = set_contrastive(
        embeddings, context, targets, 0.2, bias=bias, candidates=everything, sampled=True
    )
    assert sampled.loss == pytest.approx(full.loss, rel=1e-6)
    torch.testing.assert_close(sampled.embeddings, full.embeddings, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sampled.bias, full.bias, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_sampled_sum_is_the_full_one_in_expectation() -> None:
    embeddings = unit(40, 4)
    rng = np.random.default_rng(0)
    context, targets = csr([[1, 1] + [0] * 38]), csr([[0, 0, 1] + [0] * 37])
    probability = rng.random(40) + 0.1
    probability /= probability.sum()
    full, *_ = set_contrastive(embeddings, context, targets, 0.5)
    losses = [
        set_contrastive(
            embeddings,
            context,
            targets,
            0.5,
            candidates=draw_candidates(probability, 20, rng),
            sampled=True,
        )[0]
        for _ in range(2000)
    ]
    # Z is estimated without bias; the loss is log Z minus the same target term.
    assert np.exp(np.array(losses) - full).mean() == pytest.approx(1.0, abs=0.02)


def test_a_list_is_split_into_two_halves_that_make_it_up() -> None:
    likes = csr([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
    weight = np.array([1, 2, 3, 4, 5], dtype=np.float32)
    context, targets = split_lists(likes, weight, np.random.default_rng(0))
    in_context, in_targets = context.toarray() > 0, targets.toarray() > 0
    np.testing.assert_array_equal(in_context ^ in_targets, likes.toarray() > 0)
    np.testing.assert_array_equal(np.diff(targets.indptr), [2, 1])
    np.testing.assert_allclose(targets.sum(axis=1).ravel(), 1)
    np.testing.assert_array_equal(context.data, weight[context.indices])


def test_likes_that_count_more_have_more_of_the_context_and_of_the_targets() -> None:
    likes = csr([[0.5, 1, 1.5, 3]])
    pooling = np.array([1, 2, 3, 4], dtype=np.float32)
    for seed in range(4):
        context, targets = split_lists(likes, pooling, np.random.default_rng(seed))
        expected = {
            (0, 1): ([1 / 3, 2 / 3], [4.5, 12.0]),
            (0, 2): ([1 / 4, 3 / 4], [2.0, 12.0]),
            (0, 3): ([1 / 7, 6 / 7], [2.0, 4.5]),
            (1, 2): ([2 / 5, 3 / 5], [0.5, 12.0]),
            (1, 3): ([1 / 4, 3 / 4], [0.5, 4.5]),
            (2, 3): ([1 / 3, 2 / 3], [0.5, 2.0]),
        }
        first, second = targets.indices.tolist()
        shares, pooled = expected[first, second]
        np.testing.assert_allclose(targets.data, shares, rtol=1e-6)
        np.testing.assert_allclose(context.data, pooled, rtol=1e-6)
