"""From daily tables to the graph: the current lists as of the cut-off, the id map, A, and B = AᵀA.

Every stage is versioned by a fingerprint of what it is a function of, so that one whose inputs did not change
is kept. The cut-off is chosen in one place, `current_likes`; what follows is brought to it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, MetadataValue, asset

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import CoLike
from tunegraph_pipeline.graph.id_map import extend_track_ids, id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import build_like_graph, update_like_graph
from tunegraph_pipeline.graph.recordings import MAX_IDS
from tunegraph_pipeline.lake.arrays import write_arrays
from tunegraph_pipeline.lake.lake import digest
from tunegraph_pipeline.lake.tables import inputs_of, row_count
from tunegraph_pipeline.orchestration.assets import sources
from tunegraph_pipeline.orchestration.assets.forgetting import forgotten_users
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.co_like_matrix import graph_of_matrix, plan_co_like
from tunegraph_pipeline.pipeline.current_likes import bring_lists_to
from tunegraph_pipeline.pipeline.forgetting import has_stale_personal_data
from tunegraph_pipeline.pipeline.like_graph import (
    _CODE,
    _graph_to_go_on_from,
    _how,
    _nobody,
    choose_cut_off,
    current_cut_off,
    known_track_ids,
    open_like_graph,
    recordings_of,
)
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline.recommend.publication import live_version

GROUP = "graph"


class CutOffConfig(Config):
    """As of which day the lists are taken."""

    cut_off: str = ""
    """A day as YYYY-MM-DD; empty for the latest day on which anything was received."""


@asset(
    group_name=GROUP,
    deps=[forgotten_users, sources.liked_lists, sources.feedback, sources.tracks],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="2",
    metadata=definition_metadata("current_likes"),
)
def current_likes(
    context: AssetExecutionContext, config: CutOffConfig, lake: LakeResource
) -> MaterializeResult[Any]:
    """The current list of every user: that of the latest day they were observed, up to the cut-off, and what
    they liked since; and beside it what they do not want to hear (`current_dislikes`), when each was seen
    last (`last_observations`), and whose list is another one than before (`changed_users`)."""
    root = lake.open()
    settings = root.section("graph", GraphSettings)
    if not root.raw_days() and has_stale_personal_data(root):
        raise _nobody(root, "nothing that was received is left")
    cut_off = choose_cut_off(root, config.cut_off)
    key = cut_off.isoformat()
    with Measured() as cost:
        brought = bring_lists_to(root, cut_off, merge_recordings=settings.merge_recordings)
    metadata: dict[str, Any] = {
        **rows_metadata(row_count(root.root, "current_likes", key)),
        **cost_metadata(cost),
        "cut-off": MetadataValue.text(key),
        "made": MetadataValue.text(brought.how),
        "dislikes": MetadataValue.int(row_count(root.root, "current_dislikes", key)),
        "unchanged": MetadataValue.bool(brought.how == "unchanged"),
    }
    if brought.changed is not None:
        metadata["users whose list changed"] = MetadataValue.int(brought.changed)
    return MaterializeResult(metadata=metadata)


@asset(
    group_name=GROUP,
    deps=[current_likes, sources.tracks, sources.audio_features],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("track_ids"),
)
def track_ids(lake: LakeResource) -> MaterializeResult[Any]:
    """The append-only map from track ids to matrix rows: whatever is liked or described has a row."""
    root = lake.open()
    if not root.has_table("track_ids") and (live := live_version(root.serving)) is not None:
        raise LakeError(
            f"{root.root / 'track_ids'} has no file, and bundle {live} is live with the numbers it gave;"
            " `tunegraph verify --repair` restores it"
        )
    with Measured() as cost:
        cut_off = current_cut_off(root)
        seen = pl.concat(
            [
                root.read("current_likes", cut_off.isoformat(), ["track_id"])["track_id"],
                root.known_tracks("tracks", cut_off)["track_id"],
                root.known_tracks("audio_features", cut_off)["track_id"],
            ]
        )
        known = known_track_ids(root)
        ids = extend_track_ids(known, seen)
        if len(ids) > len(known) or not row_count(root.root, "track_ids", None):
            rows = pl.DataFrame(
                {"track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True), "track_id": ids}
            )
            root.write("track_ids", None, rows, digest(ids.to_list()))
    return MaterializeResult(
        metadata={
            **rows_metadata(len(ids)),
            **cost_metadata(cost),
            "new tracks": MetadataValue.int(len(ids) - len(known)),
        }
    )


@asset(
    group_name=GROUP,
    deps=[track_ids],
    kinds={"numpy", "scipy"},
    owners=OWNERS,
    code_version="1",
)
def like_graph(lake: LakeResource) -> MaterializeResult[Any]:
    """A, users by tracks, with the fold of every like: training, early stopping or gate."""
    from tunegraph_pipeline.evaluation.plots import degree_distribution

    root = lake.open()
    settings = root.section("graph", GraphSettings)
    with Measured() as cost:
        cut_off = current_cut_off(root)
        key = cut_off.isoformat()
        ids = known_track_ids(root)
        recordings = recordings_of(root, settings, cut_off)
        aliases = recordings.aliases
        lists = inputs_of(root.root, "current_likes", key) or ""
        rules = digest([_CODE, root.file.split_key, settings.held_out, settings.calibration_share])
        # An ISRC may become known, or known to be wrong, without a change to likes or ids.
        same_songs = [aliases.tolist(), recordings.canonical[aliases].tolist()]
        content = digest([rules, same_songs, lists, inputs_of(root.root, "track_ids", None)])
        version = f"{key}-{content}"
        known = _graph_to_go_on_from(root, lists, rules, ids, recordings)

        def fill(folder: Path) -> None:
            likes = root.read("current_likes", key, ["user_id", "track_id"])
            if known is not None:
                likes = likes.filter(pl.col("user_id").is_in(known[1].implode()))
            graph = build_like_graph(
                likes,
                ids,
                split_key=root.file.split_key,
                held_out=settings.held_out,
                calibration_share=settings.calibration_share,
                canonical=recordings.canonical,
            )
            if known is not None:
                graph = update_like_graph(*known, graph)
            facts = {
                "version": version,
                "content": content,
                "cut_off": key,
                "lists": lists,
                "rules": rules,
                "id_map": id_map_fingerprint(ids),
                **recordings.facts(),
            }
            write_arrays(folder, graph.arrays(), facts)

        unchanged = root.has_version("like_graph", version)
        root.write_version("like_graph", version, fill, spare=graph_of_matrix(root))
        graph = open_like_graph(root)
    if not len(graph.indices):
        raise _nobody(root, f"nobody likes anything as of {key}")
    degrees = graph.track_degrees()
    merged = recordings.facts()
    return MaterializeResult(
        metadata={
            **rows_metadata(len(graph.indices)),
            **cost_metadata(cost),
            "version": MetadataValue.text(version),
            "made": MetadataValue.text(_how(unchanged, known is not None)),
            "users": MetadataValue.int(graph.n_users),
            "tracks": MetadataValue.int(graph.n_tracks),
            "tracks nobody likes": MetadataValue.int(int((degrees == 0).sum()) - len(aliases)),
            "recordings merged": MetadataValue.int(merged["recordings_merged"]),
            "ids merged away": MetadataValue.int(merged["ids_merged_away"]),
            f"ISRCs on more than {MAX_IDS} ids, not merged": MetadataValue.int(
                merged["isrcs_on_too_many_ids"]
            ),
            "ISRCs of several lengths, kept apart": MetadataValue.int(merged["isrcs_of_several_lengths"]),
            "calibration users": MetadataValue.int(int(graph.calibration.sum())),
            "degrees": picture(degree_distribution(np.diff(graph.indptr), degrees)),
        }
    )


@asset(
    group_name=GROUP,
    deps=[like_graph],
    kinds={"numpy", "scipy"},
    owners=OWNERS,
    code_version="1",
)
def co_like_matrix(lake: LakeResource) -> MaterializeResult[Any]:
    """B = AᵀA: how many users like both of two tracks, exact, and its strongest entries, normalised.

    Of all current likes: it says who the neighbours of a song are. What a model is trained on is cut from the
    training likes alone, in training.
    """
    root = lake.open()
    settings = root.section("graph", GraphSettings)
    with Measured() as cost:
        plan = plan_co_like(root, settings)
        folder = root.write_version("co_like", plan.version, plan.fill)
        co_like = CoLike.open(folder)
    facts = co_like.facts
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            "version": MetadataValue.text(plan.version),
            "made": MetadataValue.text(plan.how),
            "exact": MetadataValue.bool(co_like.exact),
            "entries": MetadataValue.int(facts["nnz"] if co_like.exact else facts["nnz_bound"]),
            "entries that changed since": MetadataValue.int(len(co_like.delta.indices)),
            "degrees frozen on": MetadataValue.text(facts["frozen_on"]),
            "strongest neighbours kept": MetadataValue.int(len(co_like.top.indices)),
        }
    )


ASSETS: list[AssetsDefinition] = [current_likes, track_ids, like_graph, co_like_matrix]
