"""Intervals against what statistics says they are."""

import numpy as np
import pytest

from tunegraph_pipeline.evaluation.bootstrap import intervals, resampled_means, wilson_interval


def test_an_interval_is_about_two_standard_errors_to_either_side() -> None:
    values = np.random.default_rng(1).random((1, 4000))
    (found,) = intervals(values)
    error = values.std() / np.sqrt(4000)
    assert found.mean == values.mean()
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.3 * error)


def test_the_truth_lies_inside_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        (found,) = intervals(rng.exponential(size=(1, 100)), resamples=300)
        inside += found.low <= 1 <= found.high
    assert 175 <= inside <= 199


def test_all_rows_see_the_same_users() -> None:
    values = np.random.default_rng(3).random((1, 50))
    rows = np.concatenate([values, 2 * values, np.ones((1, 50))])
    means = resampled_means(rows, resamples=200, seed=4)
    assert np.allclose(means[1], 2 * means[0])
    assert np.allclose(means[2], 1)
    assert np.array_equal(means, resampled_means(rows, resamples=200, seed=4))
    assert not np.array_equal(means, resampled_means(rows, resamples=200, seed=5))


def test_a_paired_difference_is_surer_than_two_intervals_side_by_side() -> None:
    rng = np.random.default_rng(6)
    one = rng.random(500)
    other = one + 0.02 + 0.05 * rng.standard_normal(500)
    first, second, difference = intervals(np.stack([one, other, other - one]))
    assert first.high > second.low
    assert difference.low > 0
    assert difference.mean == pytest.approx(second.mean - first.mean)


def test_nobody_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="no user"):
        resampled_means(np.zeros((1, 0)))


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).random((2, 20))
    at_once = resampled_means(values, resamples=50)
    monkeypatch.setattr("tunegraph_pipeline.evaluation.bootstrap._BLOCK_ENTRIES", 60)
    assert np.allclose(resampled_means(values, resamples=50), at_once)


def test_the_interval_of_a_share_is_that_of_the_textbook() -> None:
    """10 of 20, none of 10 and all of 10, as tables of Wilson's interval have them."""
    low, high = wilson_interval(np.array([0.5, 0.0, 1.0]), np.array([20, 10, 10]))
    assert low == pytest.approx([0.2993, 0.0, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.7007, 0.2775, 1.0], abs=1e-4)
