"""The arrays of a trained model, declared.

Here: name, dtype, shape and meaning of each, as fields of the classes that hold them. Not here: training them
(`training`), writing them (`pipeline.trained_model`), or what a bundle takes of them (`recommend.weights`).
numpy and the standard library alone.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final

from tunegraph_pipeline.lake.array_spec import ArraySpec, offsets, optional, specs_of, stored
from tunegraph_pipeline.lake.arrays import Bool, Float32, Int32, Int64, StringColumn


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ScoreArrays:
    """What scores are computed from: every model has it, and a bundle takes it as it is."""

    embeddings: Annotated[Float32, stored("tracks x dimension", "the place of each track, of unit length")]
    pooling_weight: Annotated[
        Float32, stored("tracks", "what a liked track weighs in the direction of a list")
    ]
    prior: Annotated[Float32, stored("tracks", "what is added to every score of a track")]
    neighbour_indptr: Annotated[
        Int64,
        offsets(
            "tracks", "neighbours", "where the row of each liked track begins in the neighbour weights W"
        ),
    ]
    neighbour_indices: Annotated[
        Int32, stored("neighbours", "the candidate of each entry of W", indexes="tracks")
    ]
    neighbour_weight: Annotated[Float32, stored("neighbours", "the value of each entry of W")]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ServedArrays(ScoreArrays):
    """What a bundle takes of a model; a model that was refitted has them twice, judged and refitted."""

    placed: Annotated[Bool, stored("tracks", "whether the content of a track says where it belongs")]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrainedArrays(ServedArrays):
    """What training gives."""

    recommendable: Annotated[Bool, stored("tracks", "whether a track is placed or liked in training")]


class ModelArrays(TrainedArrays):
    """All arrays of a model."""

    layout: Annotated[
        Float32, stored("tracks x 2", "the place of each track on the map, 0 to 1", neutral=0.5)
    ]
    canonical: Annotated[
        Int32,
        stored("tracks", "the track of each recording since the last full training, -1 where that changed"),
    ]
    likes_from_nothing: Annotated[
        Int32, stored("tracks at the last full training", "users in training who liked each track then")
    ]
    artists: Annotated[StringColumn, stored("artists", "the artists that the model has a vector for")]
    albums: Annotated[StringColumn, stored("albums", "the albums that the model has a vector for")]


REFITTED: Final = "refitted_"
"""How the names of the refitted arrays of a model begin."""


def _refitted(spec: ArraySpec) -> ArraySpec:
    """The same array, refitted: it has weights of its own, and so other neighbours."""
    own = "refitted neighbours"
    return replace(
        spec,
        name=REFITTED + spec.name,
        meaning=f"refitted to all likes: {spec.meaning}",
        shape=tuple(own if size == "neighbours" else size for size in spec.shape),
        ends_at=own if spec.ends_at == "neighbours" else spec.ends_at,
    )


_ALWAYS = specs_of(ScoreArrays)
REFITTED_ARRAYS = optional(map(_refitted, specs_of(ServedArrays)))
"""What is served of a model that was refitted."""
MODEL = (*_ALWAYS, *optional(spec for spec in specs_of(ModelArrays) if spec not in _ALWAYS), *REFITTED_ARRAYS)
"""Models of earlier versions of this program lack optional arrays; others only those that are refitted."""
