"""How often the songs that people like were played, as of the current cut-off.

Here: lining up the likes from plays with the current like graph. Not here: which plays make a like
(`lake.plays`), or what they weigh in training (`training.play_weights`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.text_columns import as_series
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_COLUMNS = ["user_id", "track_id", "plays"]


def play_counts(lake: Lake, graph: LikeGraph) -> "csr_matrix | None":
    """:func:`counted` of the current ``graph`` and the likes from plays of a lake; None where nobody has any.
    Raises LakeError where they are damaged."""
    key = current_cut_off(lake).isoformat()
    if key not in lake.partitions("likes_from_plays"):
        return None
    return counted(lake.read_in_blocks("likes_from_plays", key, _COLUMNS), graph, known_track_ids(lake))


def counted(
    likes_from_plays: Iterable[pl.DataFrame], graph: LikeGraph, ids: pl.Series
) -> "csr_matrix | None":
    """How often the users of ``graph`` played the songs that they like: csr int64, users x tracks, nothing
    stored of other likes. None where no like has plays.

    ``likes_from_plays``: user_id, track_id and plays, in one block at least; ``ids``: the id map. Plays of
    several ids of a recording are added up.
    """
    from scipy.sparse import csr_matrix

    users = as_series(graph.user_ids, "user_id").to_frame().with_row_index("user")
    tracks = pl.DataFrame({"track_id": ids.cast(pl.String), "track": graph.canonical})
    found = []
    for rows in likes_from_plays:
        known = rows.join(users, on="user_id").join(tracks, on="track_id")
        found.append([known[name].to_numpy() for name in ("user", "track", "plays")])
    user, track, plays = (np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True))
    added_up = csr_matrix((plays, (user, track)), shape=(graph.n_users, graph.n_tracks))
    # Without songs that plays would make likes, but for a dislike.
    of_likes = csr_matrix(added_up.multiply(graph.matrix(np.int8)))
    return of_likes if of_likes.nnz else None
