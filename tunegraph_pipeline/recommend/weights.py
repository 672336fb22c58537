"""What a model contributes to a bundle, and the same over an id map that has grown since it was trained.

Here: the arrays of a model, one row a track, and carrying them over to later likes. Not here: the rest of a
bundle (`bundle`), or which model goes live (`publication`).
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.array_spec import checked_arrays
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.models.arrays import MODEL


@dataclass(frozen=True)
class Weights:
    """The model's part of :class:`~.bundle.BundleContent`, for N tracks; ``known`` bool[N]: which of them the
    model has a place for. A row that is not known stands for nothing and must not be recommended. ``placed``
    bool[N]: which of them have that place by their content, even if nobody likes them."""

    embeddings: NDArray[np.float32]  # [N, d], rows of unit length
    pooling_weight: NDArray[np.float32]  # [N]
    prior: NDArray[np.float32]  # [N]
    neighbour_indptr: NDArray[np.int64]  # [N + 1]
    neighbour_indices: NDArray[np.int32]
    neighbour_weight: NDArray[np.float32]
    known: NDArray[np.bool_]  # [N]
    placed: NDArray[np.bool_]  # [N]
    layout: NDArray[np.float32]  # [N, 2], places on the map

    @classmethod
    def of_model(cls, model: ArrayFolder) -> Self:
        """Those of a model's folder, mapped; every track it has is known.

        A model from before content was taught places none by it. One from before there was a map has all of
        its tracks in the middle of it. Raises BundleError where an array is not as `MODEL` declares it.
        """
        arrays, sizes = checked_arrays(model, _TAKEN, "a model")
        return cls(**arrays, known=np.ones(sizes["tracks"], dtype=np.bool_))

    @property
    def n_tracks(self) -> int:
        return len(self.known)


_TAKEN = tuple(spec for spec in MODEL if spec.name in Weights.__annotations__)


def carry_over(weights: Weights, canonical: NDArray[np.int32]) -> Weights:
    """The weights of an older model over the id map of today, of which its own is the beginning.

    ``canonical`` int32[N] is the track that stands for the recording each track is of. A new id of a
    recording the model knows has the place of the id that stands for it. Every other new track gets a neutral
    row that says nothing: the mean direction of all embeddings (of unit length, as every row must be),
    pooling weight 0, prior 0, no neighbours, the middle of the map, and is not ``known``. Raises ValueError
    where the id map is shorter than the model: indices are never taken back.
    """
    n_old, n = weights.n_tracks, len(canonical)
    if n < n_old:
        raise ValueError(f"{n} tracks, {n_old} of which a model was trained on before")
    other_ids = np.flatnonzero(canonical != np.arange(n))
    if n == n_old and (weights.embeddings[other_ids] == weights.embeddings[canonical[other_ids]]).all():
        return weights  # as it was trained: mapped arrays stay mapped
    known = (canonical < n_old) & weights.known[np.minimum(canonical, max(n_old - 1, 0))]
    source = canonical[known]
    rows = {}
    for spec in _TAKEN:
        if spec.shape[0] == "tracks":
            before = getattr(weights, spec.name)
            rows[spec.name] = np.full((n, *before.shape[1:]), spec.neutral, dtype=before.dtype)
            rows[spec.name][known] = before[source]
    rows["embeddings"][~known] = _mean_direction(weights.embeddings)
    no_neighbours = np.full(n - n_old, weights.neighbour_indptr[-1], dtype=np.int64)
    neighbour_indptr = np.concatenate([weights.neighbour_indptr, no_neighbours])
    return replace(weights, **rows, neighbour_indptr=neighbour_indptr, known=known)


def _mean_direction(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-9:  # they cancel out, and any direction is as neutral as another
        mean, length = np.eye(1, mean.size)[0], 1.0
    direction: NDArray[np.float32] = (mean / length).astype(np.float32)
    return direction
