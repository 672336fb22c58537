"""The arrays of a trained model, declared.

Here: name, dtype, shape and meaning of each. Not here: training them (`training`), writing them
(`pipeline.trained_model`), or what a bundle takes of them (`recommend.weights`). numpy and the standard
library alone.
"""

from tunegraph_pipeline.lake.array_spec import TEXT, ArraySpec, optional

MODEL = (
    ArraySpec("embeddings", "<f4", ("tracks", "dimension"), "the place of each track, of unit length"),
    ArraySpec("pooling_weight", "<f4", ("tracks",), "what a liked track weighs in the direction of a list"),
    ArraySpec("prior", "<f4", ("tracks",), "what is added to every score of a track"),
    ArraySpec(
        "neighbour_indptr",
        "<i8",
        ("tracks+1",),
        "where the row of each liked track begins in the neighbour weights W",
        ends_at="neighbours",
    ),
    ArraySpec("neighbour_indices", "<i4", ("neighbours",), "the candidate of each entry of W"),
    ArraySpec("neighbour_weight", "<f4", ("neighbours",), "the value of each entry of W"),
    *optional(
        (
            ArraySpec("placed", "|b1", ("tracks",), "whether the content of a track says where it belongs"),
            ArraySpec(
                "layout", "<f4", ("tracks", 2), "the place of each track on the map, 0 to 1", neutral=0.5
            ),
            ArraySpec("recommendable", "|b1", ("tracks",), "whether a track is placed or liked in training"),
            ArraySpec(
                "canonical",
                "<i4",
                ("tracks",),
                "the track of each recording since the last full training, -1 where that changed",
            ),
            ArraySpec(
                "likes_from_nothing",
                "<i4",
                ("tracks at the last full training",),
                "users in training who liked each track then",
            ),
            ArraySpec("artists", TEXT, ("artists",), "the artists that the model has a vector for"),
            ArraySpec("albums", TEXT, ("albums",), "the albums that the model has a vector for"),
        )
    ),
)
"""Only models of earlier versions of this program lack an optional array."""
