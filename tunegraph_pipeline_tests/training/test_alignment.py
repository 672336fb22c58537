"""Turning a space: what was rotated is found again, no cosine changes, and drift counts what has moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.training.alignment import drift_of, on_principal_axes, screen_width, turned_onto


def unit(rng: np.random.Generator, n: int, d: int) -> NDArray[np.float32]:
    embeddings = rng.standard_normal((n, d)) * 0.8 ** np.arange(d)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32)


def rotation(rng: np.random.Generator, d: int) -> NDArray[np.float64]:
    """Orthogonal, drawn at random; half of them hold a reflection."""
    found: NDArray[np.float64] = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return found


def test_turning_to_principal_axes_changes_no_cosine_and_puts_the_most_first() -> None:
    rng = np.random.default_rng(5)
    embeddings = (rng.standard_normal((200, 12)) * rng.permutation(0.7 ** np.arange(12))).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    turned = on_principal_axes(embeddings)
    np.testing.assert_allclose(turned @ turned.T, embeddings @ embeddings.T, atol=1e-5)
    assert (np.diff((turned**2).sum(axis=0)) <= 1e-4).all()
    np.testing.assert_allclose(on_principal_axes(turned), turned, atol=1e-5)
    np.testing.assert_array_equal(on_principal_axes(embeddings), turned)


@given(seed=st.integers(0, 10_000), d=st.integers(1, 12), more=st.integers(0, 30))
def test_what_was_rotated_is_turned_back(seed: int, d: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    earlier = unit(rng, 3 * d + more, d)
    rotated = (earlier @ rotation(rng, d)).astype(np.float32)
    turned = turned_onto(rotated, earlier, np.arange(len(earlier)))
    np.testing.assert_allclose(turned, earlier, atol=1e-5)


@given(seed=st.integers(0, 10_000), shared=st.integers(1, 20))
def test_turning_onto_any_space_changes_no_cosine(seed: int, shared: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings, other = unit(rng, 40, 6), unit(rng, 25, 6)
    turned = turned_onto(embeddings, other, np.sort(rng.choice(25, shared, replace=False)))
    np.testing.assert_allclose(turned @ turned.T, embeddings @ embeddings.T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1, rtol=1e-6)


def test_it_is_the_best_rotation_for_the_shared_tracks_alone() -> None:
    rng = np.random.default_rng(3)
    earlier = unit(rng, 50, 5)
    moved = earlier[:40] + 0.1 * rng.standard_normal((40, 5)).astype(np.float32)
    new = np.concatenate([moved @ rotation(rng, 5), rng.standard_normal((30, 5))]).astype(np.float32)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    shared = np.arange(40)
    turned = turned_onto(new, earlier, shared)
    found = np.einsum("ij,ij->", turned[shared], earlier[shared])
    for _ in range(20):
        any_other = np.einsum("ij,ij->", (new @ rotation(rng, 5))[shared], earlier[shared])
        assert any_other < found
    assert found / 40 > 0.95


def test_a_space_of_fewer_directions_than_numbers_keeps_no_rounding_where_nothing_lies() -> None:
    rng = np.random.default_rng(4)
    flat = np.zeros((60, 8), dtype=np.float32)
    flat[:, :3] = unit(rng, 60, 3)
    turned = turned_onto((flat @ rotation(rng, 8)).astype(np.float32), flat, np.arange(60))
    np.testing.assert_allclose(turned, flat, atol=1e-5)
    np.testing.assert_array_equal(turned[:, 3:], 0)


def test_the_same_input_gives_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    embeddings, earlier = unit(rng, 80, 16), unit(rng, 70, 16)
    first = turned_onto(embeddings, earlier, np.arange(70))
    np.testing.assert_array_equal(turned_onto(embeddings, earlier, np.arange(70)), first)


def test_a_space_that_only_was_rotated_has_not_drifted() -> None:
    rng = np.random.default_rng(6)
    earlier = (unit(rng, 300, 10) @ rotation(rng, 10)).astype(np.float32)
    shared = np.arange(0, 300, 2)
    turned = turned_onto((earlier @ rotation(rng, 10)).astype(np.float32), earlier, shared)
    drift = drift_of(turned, earlier, shared)
    assert drift.tracks == 150
    assert drift.mean == pytest.approx(1, abs=1e-5)
    assert drift.overlap == 1
    assert drift.changed == 0
    assert drift.unaligned < 0.9  # the axes of the earlier one are not principal
    assert drift.width == screen_width(earlier) > drift.least_width


def test_tracks_that_moved_are_told_the_farthest_first() -> None:
    rng = np.random.default_rng(7)
    earlier = unit(rng, 200, 6)
    now = earlier.copy()
    now[17] = -now[17]
    now[[40, 41]] = now[[41, 40]]
    drift = drift_of(now, earlier, np.arange(200))
    track, cosine = drift.moved_most[0]
    assert track == 17
    assert cosine == pytest.approx(-1, abs=1e-5)
    assert {track for track, _ in drift.moved_most[1:3]} == {40, 41}
    assert 0.9 < drift.overlap < 1
    assert drift.changed > 0
    assert drift.facts()["tracks"] == 200


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_tracks_than_neighbours_have_a_drift_too(n: int) -> None:
    earlier = unit(np.random.default_rng(8), n, 4)
    drift = drift_of(earlier, earlier, np.arange(n))
    assert drift.mean == pytest.approx(1, abs=1e-6)
    assert drift.overlap == 1
