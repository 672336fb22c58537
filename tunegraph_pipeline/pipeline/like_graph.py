"""The like graph of a lake: its cut-off, id map and recordings, built or updated.

Here: reading what it is made of, and choosing how it is made. Not here: what a graph is (`graph.like_graph`).
"""

from datetime import date

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.graph.recordings import Recordings, all_apart, find_recordings
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.tables import row_count
from tunegraph_pipeline.pipeline.current_likes import changed_between
from tunegraph_pipeline.pipeline.forgetting import withdraw_stale_bundles
from tunegraph_pipeline.pipeline.settings import GraphSettings

_CODE = 3  # of the matrices; raise it when the same likes give other arrays


def _nobody(lake: Lake, why: str) -> LakeError:
    """The error of a lake of which nothing can be built; what it may not serve any longer is withdrawn."""
    if withdrawn := withdraw_stale_bundles(lake):
        why += (
            f", and {withdrawn:,} bundles with forgotten users or what has expired were withdrawn: nothing is"
            " served"
        )
    return LakeError(f"{why}; import likes, then refresh again")


def choose_cut_off(lake: Lake, asked: str) -> date:
    """The day asked for, or the latest on which anything was received."""
    if asked:
        try:
            return date.fromisoformat(asked)
        except ValueError:
            raise InputError(f"cut_off {asked!r} is not a day; write it as YYYY-MM-DD") from None
    days = lake.partitions("observations")
    received = [day.isoformat() for day in lake.raw_days() if day.isoformat() in days]
    if not received:
        raise LakeError(f"{lake.root} has no filled day yet; materialise the daily tables first")
    return date.fromisoformat(received[-1])


def current_cut_off(lake: Lake) -> date:
    """The cut-off everything is brought to."""
    return date.fromisoformat(lake.current_version("current_likes"))


def known_track_ids(lake: Lake) -> pl.Series:
    """The id map, empty before the first refresh: position is track_idx."""
    if not row_count(lake.root, "track_ids", None):
        return pl.Series("track_id", [], dtype=pl.String)
    return lake.read("track_ids")["track_id"]


def recordings_of(lake: Lake, settings: GraphSettings, cut_off: date) -> Recordings:
    """Which ids are one recording by what is known up to the cut-off; each its own where not to be merged."""
    ids = known_track_ids(lake)
    if not settings.merge_recordings:
        return all_apart(len(ids))
    return find_recordings(ids, lake.known_tracks("tracks", cut_off))


def open_like_graph(lake: Lake) -> LikeGraph:
    """The current like graph, mapped."""
    return LikeGraph.from_arrays(ArrayFolder.open(lake.current_folder("like_graph")))


def _graph_to_go_on_from(
    lake: Lake, lists: str, rules: str, ids: pl.Series, recordings: Recordings
) -> tuple[LikeGraph, pl.Series] | None:
    """The last graph and the users whose lists changed since; None where the graph has to be built anew."""
    try:
        folder = ArrayFolder.open(lake.current_folder("like_graph"))
        folder.verify()  # what is damaged would go on in every graph from here, under right checksums
        before = LikeGraph.from_arrays(folder)
    except (TuneGraphError, OSError):
        return None  # there is none, or it is damaged
    same_ids = folder.facts.get("id_map") == id_map_fingerprint(ids[: before.n_tracks])
    same_recordings = np.array_equal(before.canonical, recordings.canonical[: before.n_tracks])
    if folder.facts.get("rules") != rules or not same_ids or not same_recordings:
        return None
    changed = changed_between(lake, folder.facts.get("lists", ""), lists)
    return None if changed is None else (before, changed)


def _how(unchanged: bool, brought_up: bool) -> str:
    if unchanged:
        return "unchanged"
    return "brought up to date" if brought_up else "made from nothing"
