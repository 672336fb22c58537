"""From daily tables to the graph: the current lists as of the cut-off, the id map, A, and B = AᵀA.

Every stage is versioned by a fingerprint of what it is a function of, so that one whose inputs did not change
is kept. The cut-off is chosen in one place, `current_likes`; what follows is brought to it.
"""

from typing import Any

from dagster import AssetsDefinition, Config, MaterializeResult

from tunegraph_pipeline.orchestration.metadata import definition_metadata, materialized, stage_asset
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline import catalogue as catalogue_stage
from tunegraph_pipeline.pipeline import co_like_matrix as co_like_stage
from tunegraph_pipeline.pipeline import current_likes as current_likes_stage
from tunegraph_pipeline.pipeline import like_graph as like_graph_stage
from tunegraph_pipeline.pipeline import track_ids as track_id_map

GROUP = "graph"


class CutOffConfig(Config):
    """As of which day the lists are taken."""

    cut_off: str = ""
    """A day as YYYY-MM-DD; empty for the latest day on which anything was received."""


@stage_asset(
    "current_likes",
    group_name=GROUP,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("current_likes"),
)
def current_likes(config: CutOffConfig, lake: LakeResource) -> MaterializeResult[Any]:
    """The current list of every user: that of the latest day they were observed, up to the cut-off, and what
    they liked since; and beside it what they do not want to hear (`current_dislikes`), when each was seen
    last (`last_observations`), and whose list is another one than before (`changed_users`)."""
    return materialized(current_likes_stage.run(lake.open(), cut_off=config.cut_off))


@stage_asset(
    "track_ids", group_name=GROUP, kinds={"parquet", "polars"}, metadata=definition_metadata("track_ids")
)
def track_ids(lake: LakeResource) -> MaterializeResult[Any]:
    """The append-only map from track ids to matrix rows: whatever is liked or described has a row."""
    return materialized(track_id_map.run(lake.open()))


@stage_asset(
    "catalogue", group_name=GROUP, kinds={"parquet", "polars"}, metadata=definition_metadata("catalogue")
)
def catalogue(lake: LakeResource) -> MaterializeResult[Any]:
    """A row for every track of the id map, with all that is known of it as of the cut-off: its recording,
    names, artists, album, links and audio features."""
    return materialized(catalogue_stage.run(lake.open()))


@stage_asset("like_graph", group_name=GROUP, kinds={"numpy", "scipy"})
def like_graph(lake: LakeResource) -> MaterializeResult[Any]:
    """A, users by tracks, with the fold of every like: training, early stopping or gate."""
    return materialized(like_graph_stage.run(lake.open()))


@stage_asset("co_like_matrix", group_name=GROUP, kinds={"numpy", "scipy"})
def co_like_matrix(lake: LakeResource) -> MaterializeResult[Any]:
    """B = AᵀA: how many users like both of two tracks, exact, and its strongest entries, normalised.

    Of all current likes: it says who the neighbours of a song are. What a model is trained on is cut from the
    training likes alone, in training.
    """
    return materialized(co_like_stage.run(lake.open()))


ASSETS: list[AssetsDefinition] = [current_likes, track_ids, catalogue, like_graph, co_like_matrix]
