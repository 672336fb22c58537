"""What an earlier model hands on: its rows by track, its tags by name, and a place for what is new."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.training.blend import EVEN
from tunegraph_pipeline.training.warm_start import Start


def start(ids: Any, bias: Any = None, tag: Any = None, artists: Sequence[str] = (), **more: Any) -> Start:
    tensors = {"id": np.array(ids, dtype=np.float32)}
    tensors["bias"] = np.zeros(len(ids), np.float32) if bias is None else np.array(bias, dtype=np.float32)
    if tag is not None:
        tensors["tag"] = np.array(tag, dtype=np.float32)
    albums = more.pop("albums", [])
    tensors |= {name: np.array(value, dtype=np.float32) for name, value in more.items()}
    return Start(tensors, list(artists), albums, EVEN, 8.0, 1)


def neighbours(n: int, *pairs: tuple[int, int, float]) -> csr_matrix:
    matrix = np.zeros((n, n), dtype=np.float32)
    for one, other, strength in pairs:
        matrix[one, other] = matrix[other, one] = strength
    return csr_matrix(matrix)


def everything(n: int) -> NDArray[np.bool_]:
    return np.ones(n, dtype=np.bool_)


def test_known_tracks_keep_their_vectors_and_a_new_one_begins_amid_its_neighbours() -> None:
    one = start([[1, 0], [0, 1]])
    ids, known = one.ids(everything(3), neighbours(3, (2, 0, 3.0), (2, 1, 1.0)), seed=0)
    np.testing.assert_array_equal(ids[:2], one.tensors["id"])
    np.testing.assert_allclose(ids[2], [0.75, 0.25])
    assert known.tolist() == [True, True, False]


def test_a_track_that_only_new_ones_lead_to_gets_its_place_from_those() -> None:
    ids, _ = start([[2, 1]]).ids(everything(4), neighbours(4, (1, 0, 1), (2, 1, 1), (3, 2, 1)), seed=0)
    np.testing.assert_allclose(ids, np.tile([2, 1], (4, 1)))


def test_a_track_that_nothing_leads_to_begins_with_a_little_noise_of_its_own() -> None:
    ids, _ = start([[1, 0]]).ids(everything(3), neighbours(3, (1, 2, 1)), seed=0)
    assert 0 < np.linalg.norm(ids[1]) < 0.1
    assert not np.array_equal(ids[1], ids[2])
    again, _ = start([[1, 0]]).ids(everything(3), neighbours(3, (1, 2, 1)), seed=0)
    np.testing.assert_array_equal(ids, again)


def test_a_track_nobody_liked_is_as_new_as_one_that_was_not_there() -> None:
    # A row of zeros: the earlier model had the track, and nobody to learn from where it lies.
    ids, known = start([[1, 0], [0, 0]]).ids(everything(2), neighbours(2, (0, 1, 1)), seed=0)
    np.testing.assert_allclose(ids[1], [1, 0])
    assert known.tolist() == [True, False]


def test_a_track_nobody_likes_any_more_is_left_alone() -> None:
    warm = np.array([True, False, False])
    ids, _ = start([[1, 0], [0, 1]]).ids(warm, neighbours(3), seed=0)
    np.testing.assert_array_equal(ids[2], 0)


def test_a_new_track_begins_with_the_lowest_bias_so_that_it_is_not_put_before_everyone() -> None:
    one = start([[1, 0], [0, 1]], bias=[0.5, -0.25])
    bias = one.bias(np.array([True, True, False, False]), np.array([True, True, True, False]))
    np.testing.assert_allclose(bias, [0.5, -0.25, -0.25, 0])


def test_tags_are_known_by_name_where_a_new_one_sorts_first() -> None:
    one = start([[0, 0]], tag=[[1, 1], [2, 2], [3, 3]], artists=["b", "c"], albums=["b"])
    fresh = np.full((5, 2), 9, dtype=np.float32)
    tags = one.tags(["a", "b", "c"], ["a", "b"], fresh)
    # The artist b and the album b are not the same.
    np.testing.assert_array_equal(tags[:, 0], [9, 1, 2, 9, 3])
    np.testing.assert_array_equal(fresh, 9)


def test_tags_that_the_earlier_model_did_not_have_begin_anew() -> None:
    fresh = np.full((2, 2), 9, dtype=np.float32)
    np.testing.assert_array_equal(start([[0, 0]]).tags(["a"], ["b"], fresh), fresh)


def test_of_the_network_only_what_has_the_same_shape_is_taken_over() -> None:
    one = start([[0, 0]], weight=[[1, 2]], other=[1, 2, 3], gone=[1])
    taken = one.network({"id": (1, 2), "bias": (1,), "weight": (1, 2), "other": (4,)})
    assert list(taken) == ["weight"]


def test_an_id_map_that_has_shrunk_is_refused() -> None:
    with pytest.raises(ValueError, match="rows are never removed"):
        start([[1, 0], [0, 1]]).ids(everything(1), neighbours(1), seed=0)


def test_any_difference_shows_in_the_fingerprint() -> None:
    one = start([[1, 0]], tag=[[1, 1]], artists=["b"])
    assert one.fingerprint() == start([[1, 0]], tag=[[1, 1]], artists=["b"]).fingerprint()
    others = [
        start([[1, 1]], tag=[[1, 1]], artists=["b"]),
        start([[1, 0]], tag=[[1, 1]], artists=["c"]),
        start([[1, 0]], tag=[[1, 1]], albums=["b"]),
        Start(one.tensors, one.artists, one.albums, EVEN, 8.0, 2),
    ]
    assert all(other.fingerprint() != one.fingerprint() for other in others)
