"""From daily tables to the graph: the current lists as of the cut-off, the id map, A, and B = AᵀA.

Every version is named by a fingerprint of its inputs, so one whose inputs did not change is kept. The cut-off
is chosen in one place, `current_likes`; the stages after it use the same.
"""

from typing import Any

from dagster import AssetsDefinition, Config, MaterializeResult, ResourceParam

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import materialized
from tunegraph_pipeline.orchestration.stage_asset import plain_asset, stage_asset
from tunegraph_pipeline.pipeline.stages import stage

GROUP = "graph"
_MATRIX_KINDS = ("numpy", "scipy")


class CutOffConfig(Config):
    """As of which day the lists are taken."""

    cut_off: str = ""
    """A day as YYYY-MM-DD; empty for the latest day on which anything was received."""


@stage_asset("likes_from_plays", GROUP)
def likes_from_plays(config: CutOffConfig, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """The songs that users like by playing them: often enough, on enough days, as the section `plays` of the
    settings says. Bots and shared accounts are counted, and left out."""
    return materialized(stage("likes_from_plays").run(lake, cut_off=config.cut_off))


@stage_asset("current_likes", GROUP)
def current_likes(config: CutOffConfig, lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
    """The current list of every user: that of the latest day they were observed, up to the cut-off, what they
    liked since, and what they like by playing it. Beside it what they dislike (`current_dislikes`), when each
    was last seen (`last_observations`), and whose list changed (`changed_users`)."""
    return materialized(stage("current_likes").run(lake, cut_off=config.cut_off))


ASSETS: list[AssetsDefinition] = [
    likes_from_plays,
    current_likes,
    plain_asset(
        "track_ids",
        GROUP,
        description="The append-only map from track ids to matrix rows: one per liked or described track.",
    ),
    plain_asset(
        "catalogue",
        GROUP,
        description="A row for every track of the id map, with all that is known of it as of the cut-off: its"
        " recording, names, artists, album, links and audio features.",
    ),
    plain_asset(
        "like_graph",
        GROUP,
        _MATRIX_KINDS,
        description="A, users by tracks, with the fold of every like: training, early stopping or gate.",
    ),
    plain_asset(
        "co_like_matrix",
        GROUP,
        _MATRIX_KINDS,
        description="B = AᵀA: how many users like both of two tracks, exact, and its strongest entries,"
        " normalised.\n\nOf all current likes: it says who the neighbours of a song are. What a model is"
        " trained on comes from the training likes alone.",
    ),
]
