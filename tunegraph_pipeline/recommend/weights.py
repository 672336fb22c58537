"""The part of a bundle that comes from the model, also for an id map that has grown since training.

Here: the arrays of a model, one row per track, and extending them to a larger id map. Not here: the rest of a
bundle (`bundle`), or which model goes live (`publication`).
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.array_spec import checked_arrays, neutral_value
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.models.arrays import MODEL, REFITTED, REFITTED_ARRAYS, ServedArrays


@dataclass(frozen=True)
class Weights(ServedArrays):
    """The model's part of :class:`~.bundle.BundleContent`, for N tracks.

    ``known`` bool[N]: the tracks that the model has an embedding of; others have a neutral row and must not
    be recommended. ``placed`` bool[N]: the tracks whose embedding comes from content, even if nobody likes
    them.
    """

    known: NDArray[np.bool_]  # [N]
    layout: NDArray[np.float32]  # [N, 2], positions on the map

    @classmethod
    def served_of(cls, model: ArrayFolder) -> Self:
        """The arrays that are served of a model's folder, mapped: the refitted ones, or those of `judged_of`
        where the model was not refitted. Raises BundleError as that."""
        if not is_refitted(model):
            return cls.judged_of(model)
        arrays, sizes = checked_arrays(model, (*REFITTED_ARRAYS, *_NOT_REFITTED), "a refitted model")
        named = {name.removeprefix(REFITTED): array for name, array in arrays.items()}
        return cls(**named, known=np.ones(sizes["tracks"], dtype=np.bool_))

    @classmethod
    def judged_of(cls, model: ArrayFolder) -> Self:
        """The arrays that a model is judged by, mapped, which no held-out like had a part in; all of its
        tracks are known.

        Models of earlier versions may lack ``placed`` (then no track is) and ``layout`` (then all tracks are
        in the middle of the map). Raises BundleError if an array is not as `MODEL` declares it.
        """
        arrays, sizes = checked_arrays(model, _SPECS, "a model")
        return cls(**arrays, known=np.ones(sizes["tracks"], dtype=np.bool_))


_SPECS = tuple(spec for spec in MODEL if spec.name in Weights.__dataclass_fields__)
_NOT_REFITTED = tuple(spec for spec in _SPECS if spec.name not in ServedArrays.__dataclass_fields__)


def is_refitted(model: ArrayFolder) -> bool:
    """Whether a model serves arrays that it is not judged by."""
    return f"{REFITTED}embeddings" in model


def served_embeddings(model: ArrayFolder) -> NDArray[np.float32]:
    """The embeddings that are served of a model, float32[N, d]."""
    return model[f"{REFITTED}embeddings" if is_refitted(model) else "embeddings"]


def carry_over(weights: Weights, canonical: NDArray[np.int32]) -> Weights:
    """The weights of an older model over the current id map, which continues the model's.

    ``canonical`` int32[N] is the canonical track of each track's recording. A new id of a recording that the
    model knows gets the row of its canonical track. Every other new track gets a neutral row and is not
    ``known``: the mean direction of all embeddings (of unit length, as every row), pooling weight 0, prior 0,
    no neighbours, the middle of the map. Raises ValueError if the id map is shorter than the model, since
    indices are never removed.
    """
    n_old, n = len(weights.known), len(canonical)
    if n < n_old:
        raise ValueError(f"the id map has {n} tracks, but the model was trained on {n_old}")
    other_ids = np.flatnonzero(canonical != np.arange(n))
    if n == n_old and (weights.embeddings[other_ids] == weights.embeddings[canonical[other_ids]]).all():
        return weights  # unchanged: mapped arrays stay mapped
    known = (canonical < n_old) & weights.known[np.minimum(canonical, max(n_old - 1, 0))]
    source = canonical[known]
    sizes = {"tracks": n, "dimension": weights.embeddings.shape[1]}
    rows: dict[str, Any] = {}
    for spec in _SPECS:
        if spec.shape[0] == "tracks":
            rows[spec.name] = neutral_value(spec, sizes)
            rows[spec.name][known] = getattr(weights, spec.name)[source]
    rows["embeddings"][~known] = _mean_direction(weights.embeddings)
    no_neighbours = np.full(n - n_old, weights.neighbour_indptr[-1], dtype=np.int64)
    neighbour_indptr = np.concatenate([weights.neighbour_indptr, no_neighbours])
    return replace(weights, **rows, neighbour_indptr=neighbour_indptr, known=known)


def _mean_direction(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-9:  # they cancel out, so any direction is neutral
        mean, length = np.eye(1, mean.size)[0], 1.0
    direction: NDArray[np.float32] = (mean / length).astype(np.float32)
    return direction
