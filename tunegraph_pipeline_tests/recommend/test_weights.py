"""An older model over an id map that has grown: what it knows stays, what it cannot know is neutral."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.recommend.weights import Weights, carry_over


@pytest.fixture
def weights() -> Weights:
    return Weights(
        embeddings=np.array([[1, 0], [0, 1]], dtype=np.float32),
        pooling_weight=np.array([1, 2], dtype=np.float32),
        prior=np.array([0.1, 0.2], dtype=np.float32),
        neighbour_indptr=np.array([0, 1, 1]),
        neighbour_indices=np.array([1], dtype=np.int32),
        neighbour_weight=np.array([0.5], dtype=np.float32),
        known=np.ones(2, dtype=np.bool_),
        placed=np.array([True, False]),
        layout=np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32),
    )


def written(folder: Path, weights: Weights, **changes: Any) -> ArrayFolder:
    arrays = {name: value for name, value in (vars(weights) | changes).items() if value is not None}
    arrays.pop("known")
    write_arrays(folder, {name: np.asarray(value) for name, value in arrays.items()}, {})
    return ArrayFolder.open(folder)


def test_a_model_from_before_there_was_a_map_is_neutral_there(weights: Weights, tmp_path: Path) -> None:
    found = Weights.judged_of(written(tmp_path / "new", weights))
    assert found.known.tolist() == [True, True]
    assert found.placed.tolist() == [True, False]
    np.testing.assert_array_equal(found.layout, weights.layout)
    found = Weights.judged_of(written(tmp_path / "old", weights, placed=None, layout=None))
    assert found.placed.tolist() == [False, False]
    assert found.layout.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_a_model_whose_arrays_contradict_each_other_is_refused(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"prior\.npy is <f4 of shape \(1,\), a model needs <f4 of 2"):
        Weights.judged_of(written(tmp_path / "f", weights, prior=weights.prior[:1]))


def test_a_new_track_is_neutral_and_a_new_id_of_a_known_one_has_its_place(weights: Weights) -> None:
    carried = carry_over(weights, np.array([0, 1, 2, 1, 2], dtype=np.int32))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        carried.embeddings, [[1, 0], [0, 1], [half, half], [0, 1], [half, half]], rtol=1e-6
    )
    assert carried.embeddings.dtype == np.float32
    assert carried.known.tolist() == [True, True, False, True, False]
    assert carried.placed.tolist() == [True, False, False, False, False]
    assert carried.pooling_weight.tolist() == [1, 2, 0, 2, 0]
    np.testing.assert_allclose(carried.prior, [0.1, 0.2, 0, 0.2, 0])
    assert carried.neighbour_indptr.tolist() == [0, 1, 1, 1, 1, 1]
    assert carried.neighbour_indices.tolist() == [1]
    np.testing.assert_allclose(carried.layout, [[0.1, 0.2], [0.3, 0.4], [0.5, 0.5], [0.3, 0.4], [0.5, 0.5]])


def test_the_model_of_today_is_left_as_it_is_and_merged_ids_share_a_place(weights: Weights) -> None:
    assert carry_over(weights, np.array([0, 1], dtype=np.int32)) is weights
    merged = carry_over(weights, np.array([0, 0], dtype=np.int32))
    assert merged.embeddings.tolist() == [[1, 0], [1, 0]]
    assert merged.known.all()
    assert merged.placed.all()


def test_directions_that_cancel_out_still_give_a_row_of_unit_length(weights: Weights) -> None:
    opposite = Weights(
        **{**vars(weights), "embeddings": np.array([[1, 0], [-1, 0]], dtype=np.float32)},
    )
    carried = carry_over(opposite, np.arange(3, dtype=np.int32))
    assert np.linalg.norm(carried.embeddings[2]) == pytest.approx(1)


def test_an_id_map_never_shrinks(weights: Weights) -> None:
    with pytest.raises(ValueError, match="has 1 tracks, but the model was trained on 2"):
        carry_over(weights, np.array([0], dtype=np.int32))
