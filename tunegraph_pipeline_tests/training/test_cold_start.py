"""Tracks are drawn to be placed without their likes: the fewer they have, the more often."""

import pytest
import torch

from tunegraph_pipeline.training.objective import drawn_as_cold


def drawn(likes: list[int], content_likes: float, seed: int, times: int) -> torch.Tensor:
    """bool[times, N]: what one generator draws, time after time."""
    generator = torch.Generator().manual_seed(seed)
    found = [drawn_as_cold(torch.tensor(likes).numpy(), content_likes, generator) for _ in range(times)]
    return torch.stack([one for one in found if one is not None])


def test_a_track_is_drawn_the_more_often_the_fewer_likes_it_has() -> None:
    share = drawn([0, 1, 3, 99], 1.0, seed=0, times=4000).double().mean(dim=0)
    assert share.tolist() == pytest.approx([1, 1 / 2, 1 / 4, 1 / 100], abs=0.03)


def test_a_seed_draws_the_same_and_no_weight_draws_nothing() -> None:
    assert torch.equal(drawn([1] * 50, 2.0, seed=3, times=2), drawn([1] * 50, 2.0, seed=3, times=2))
    assert drawn_as_cold(torch.ones(50, dtype=torch.int64).numpy(), 0.0, torch.Generator()) is None
