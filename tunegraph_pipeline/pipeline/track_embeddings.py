"""The embedding table: where the current model, as it is served, placed each track.

Here: the rows, and the map of them. Not here: the model (`trained_model`).
"""

from functools import partial

import polars as pl

from tunegraph_pipeline.evaluation.plots import embedding_map
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline.recommend.weights import served_embeddings


def run(lake: Lake) -> StageResult:
    """Write the table of the current model, unless it is there. Raises LakeError where there is no model."""
    with Measured() as cost:
        folder = ArrayFolder.verified(lake.current_folder("models"))
        version = folder.facts["version"]
        embeddings = served_embeddings(folder)
        ids = known_track_ids(lake)
        reused = lake.inputs_of("track_embeddings", version) == version
        if not reused:
            rows = pl.DataFrame(
                {
                    "track_id": ids,
                    "track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True),
                    "embedding": pl.Series(embeddings, dtype=pl.Array(pl.Float32, embeddings.shape[1])),
                    "model_version": pl.Series([version]).new_from_index(0, len(ids)),
                }
            )
            lake.write("track_embeddings", version, rows, inputs=version)
            lake.keep_partitions("track_embeddings", version)
    return StageResult(
        version,
        "reused" if reused else "rebuilt",
        cost,
        rows=lake.row_count("track_embeddings", version),
        facts={"dimension": embeddings.shape[1], "model version": version},
        plots={"map of the songs": partial(_map, lake, folder)},
    )


def _map(lake: Lake, model: ArrayFolder) -> bytes:
    from tunegraph_pipeline.training.song_map import map_of

    genres = read_catalogue(lake)["genre"].fill_null("").to_list()
    degrees = open_like_graph(lake).track_degrees()
    # A model from before there was a map has no layout.
    layout = model["layout"] if "layout" in model else map_of(served_embeddings(model), degrees)
    return embedding_map(layout, degrees, genres)
