"""The like graph of a lake, built or updated.

Here: reading its inputs, and choosing how it is made. Not here: what a graph is (`graph.like_graph`), or
which ids are one recording (`catalogue`).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tunegraph_pipeline.engine.engine import Files, Parcel, engine_of
from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.evaluation.plots import degree_distribution
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import (
    LikeGraph,
    RangeOfGraph,
    build_like_graph,
    graph_of_range,
    joined_graph,
    spare_the_only,
    update_like_graph,
    what_parts_share,
)
from tunegraph_pipeline.graph.recordings import Recordings
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.parquet import BLOCK_ROWS
from tunegraph_pipeline.lake.user_ranges import whole_lists
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.pipeline.co_like_matrix import graph_of_matrix
from tunegraph_pipeline.pipeline.current_likes import changed_between, nothing_to_build
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.progress import Measured, report_progress

_CODE = stage("like_graph").code
_PAIR = ["user_id", "track_id"]
_FEWEST_ROWS = 100_000
"""Fewer likes are not worth a task of their own on a cluster."""


def open_like_graph(lake: Lake) -> LikeGraph:
    """The current like graph, mapped. Raises BundleError where it is damaged."""
    return LikeGraph.from_arrays(ArrayFolder.verified(lake.current_folder("like_graph")))


def shares_kept_from_training(lake: Lake) -> tuple[float, float]:
    """The shares of likes and of users that the split of the current like graph keeps from training: those
    of the settings, or 0 where it spared the only ones there are."""
    settings = lake.section("graph", GraphSettings)
    facts = ArrayFolder.open(lake.current_folder("like_graph")).facts
    spared = facts.get("spared", ())
    return (
        0.0 if "likes" in spared else settings.held_out,
        0.0 if "users" in spared else settings.calibration_share,
    )


def _graph_to_update(
    lake: Lake, lists: str, rules: str, ids: pl.Series, recordings: Recordings
) -> tuple[LikeGraph, pl.Series] | None:
    """The last graph and the users whose lists changed since; None where it has to be rebuilt."""
    try:
        folder = ArrayFolder.open(lake.current_folder("like_graph"))
        folder.verify()  # damage would spread to every later graph, with valid checksums
        before = LikeGraph.from_arrays(folder)
    except (TuneGraphError, OSError):
        return None  # missing or damaged
    same_ids = folder.facts.get("id_map") == id_map_fingerprint(ids[: before.n_tracks])
    same_recordings = np.array_equal(before.canonical, recordings.canonical[: before.n_tracks])
    if folder.facts.get("spared"):
        return None  # its folds are not those of the split
    if folder.facts.get("rules") != rules or not same_ids or not same_recordings:
        return None
    changed = changed_between(lake, folder.facts.get("lists", ""), lists)
    return None if changed is None else (before, changed)


def _built(
    lake: Lake, key: str, ids: pl.Series, canonical: npt.NDArray[np.int32], settings: GraphSettings
) -> LikeGraph:
    """The graph of all current likes, a range of users at a time."""
    with engine_of(lake) as engine:
        rows = min(BLOCK_ROWS, max(_FEWEST_ROWS, lake.row_count("current_likes", key) // engine.blocks))
        ranges = lake.ranges("current_likes", key, rows)
        shared = {
            **what_parts_share(ids, canonical, lake.file.split_key),
            "lake": Files.of(lake.root, [lake.table_path("current_likes", key)]),
        }
        blocks = [RangeOfGraph(users, key, settings.held_out) for users in ranges]
        parts = engine.run(graph_of_range, blocks, shared)
        return joined_graph(_counted(parts, len(blocks)), canonical, settings.calibration_share)


def _counted(parts: Iterator[Parcel], total: int) -> Iterator[Parcel]:
    """The same parts, with their progress reported."""
    for number, part in enumerate(parts, 1):
        yield part
        report_progress("like graph, ranges of users", number, total)


def run(lake: Lake) -> StageResult:
    """Build or update A as of the current cut-off. Raises LakeError where nobody likes anything."""
    settings = lake.section("graph", GraphSettings)
    with Measured() as cost:
        cut_off = current_cut_off(lake)
        key = cut_off.isoformat()
        ids = known_track_ids(lake)
        recordings = Recordings(read_catalogue(lake)["recording"].to_numpy())
        aliases, merged = recordings.aliases, recordings.facts()
        lists = lake.inputs_of("current_likes", key) or ""
        rules = digest([_CODE, lake.file.split_key, settings.held_out, settings.calibration_share])
        # Recordings may change, by a new or corrected ISRC, without a change to likes or ids.
        same_songs = [aliases.tolist(), recordings.canonical[aliases].tolist()]
        content = digest([rules, same_songs, lists, lake.inputs_of("track_ids")])
        version = f"{key}-{content}"
        known = _graph_to_update(lake, lists, rules, ids, recordings)

        def fill(folder: Path) -> None:
            if known is None:
                graph = _built(lake, key, ids, recordings.canonical, settings)
            else:
                changed = pl.col("user_id").is_in(known[1].implode())
                likes = whole_lists(lake.read_in_blocks("current_likes", key, _PAIR))
                now = build_like_graph(
                    (lists.filter(changed) for lists in likes),
                    ids,
                    split_key=lake.file.split_key,
                    held_out=settings.held_out,
                    calibration_share=settings.calibration_share,
                    canonical=recordings.canonical,
                )
                graph = update_like_graph(*known, now)
            split, graph = graph, spare_the_only(graph)
            facts = {
                "version": version,
                "content": content,
                "cut_off": key,
                "lists": lists,
                "rules": rules,
                "id_map": id_map_fingerprint(ids),
                "spared": [
                    *(["users"] if graph.calibration is not split.calibration else []),
                    *(["likes"] if graph.fold is not split.fold else []),
                ],
                "recordings_merged": merged["recordings_merged"],
                "ids_merged_away": merged["ids_merged_away"],
            }
            write_arrays(folder, graph.arrays(), facts)

        reused = lake.has_version("like_graph", version)
        lake.write_version("like_graph", version, fill, spare=graph_of_matrix(lake))
        graph = open_like_graph(lake)
    if not len(graph.indices):
        raise nothing_to_build(lake, f"nobody likes anything as of {key}")
    degrees = graph.track_degrees()
    return StageResult(
        version,
        "reused" if reused else ("rebuilt" if known is None else "updated"),
        cost,
        rows=len(graph.indices),
        facts={
            "users": graph.n_users,
            "tracks": graph.n_tracks,
            "tracks nobody likes": int((degrees == 0).sum()) - len(aliases),
            "users set aside for calibration": int(graph.calibration.sum()),
        },
        plots={"likes per user and track": partial(degree_distribution, np.diff(graph.indptr), degrees)},
    )
