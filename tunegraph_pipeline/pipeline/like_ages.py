"""The order of the lists of a lake: the age of each like of the current like graph.

Here: reading times and positions, a range of users at a time. Not here: what an age is (`graph.like_ages`).
"""

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.like_ages import ages_of_lists
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import UInt16
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.schemas import EARLIEST
from tunegraph_pipeline.lake.user_ranges import whole_lists
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids

_COLUMNS = ["user_id", "track_id", *EARLIEST]


def like_ages(lake: Lake, graph: LikeGraph) -> UInt16 | None:
    """For each like of the current ``graph``, in its order, how many of the same user are newer: uint16; None
    where no list has an order. Raises LakeError where the graph is not that of the current lists."""
    ids = known_track_ids(lake)
    tracks = pl.DataFrame({"track_id": ids.cast(pl.String), "track": graph.canonical})
    found = [np.zeros(0, dtype=np.uint16)]
    blocks = lake.read_in_blocks("current_likes", current_cut_off(lake).isoformat(), _COLUMNS)
    for rows in whole_lists(blocks):
        known = rows.join(tracks, on="track_id", maintain_order="left")
        found.append(ages_of_lists(known.with_columns(user=pl.col("user_id").rle_id())))
    ages = np.concatenate(found)
    if len(ages) != len(graph.indices):
        raise LakeError("the like graph is not that of the current lists; run `tunegraph refresh`")
    return ages if ages.any() else None


def order_fingerprint(lake: Lake) -> str:
    """A fingerprint of the current likes with their times and positions, whatever these come from."""
    sums = np.zeros(2, dtype=np.uint64)
    for rows in lake.read_in_blocks("current_likes", current_cut_off(lake).isoformat(), _COLUMNS):
        sums += [rows.hash_rows(seed).to_numpy().sum(dtype=np.uint64) for seed in (1, 2)]
    return digest(sums.tolist())
