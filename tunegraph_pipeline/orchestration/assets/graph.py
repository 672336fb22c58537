"""From daily tables to the graph: the current lists as of the cut-off, the id map, A, and B = AᵀA.

Every stage is versioned by a fingerprint of what it is a function of, so that one whose inputs did not change
is kept. The cut-off is chosen in one place, `current_likes`; what follows is brought to it.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, MetadataValue, asset
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.graph.co_like import CoLike, build_co_like
from tunegraph_pipeline.graph.id_map import extend_track_ids
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.graph.recordings import MAX_IDS, Recordings, all_apart, find_recordings, is_alias
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.feedback import settle
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import current_lists, empty_table, inputs_of, mark_changed, row_count
from tunegraph_pipeline.orchestration.assets import sources
from tunegraph_pipeline.orchestration.assets.forgetting import forgotten_users
from tunegraph_pipeline.orchestration.measure import Measured, report_progress
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource

GROUP = "graph"
_CODE = 2  # of the matrices; raise it when the same likes give other arrays


class GraphSettings(BaseModel):
    """Settings of the graph, section ``graph`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the (user, track) pairs no model is trained on; half for early stopping, half for the gate."""
    calibration_share: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the users no model is trained on, for the neighbour probability alone."""
    merge_recordings: bool = True
    """Whether ids with the same ISRC are one node; off, every id is a song of its own."""
    neighbours: int = Field(default=100, ge=1)
    """How many neighbours a track the pruned form of B keeps."""
    memory_mib: int = Field(default=1024, ge=16)
    """What a block of B may take while it is built."""
    max_exact_entries: int = Field(default=200_000_000, ge=0)
    """Above this many entries B is kept in its pruned form alone."""


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
    they liked since; and beside it (`current_dislikes`) what they do not want to hear."""
    root = lake.open()
    cut_off = choose_cut_off(root, config.cut_off)
    key = cut_off.isoformat()
    with Measured() as cost:
        said = feedback_until(root, cut_off)
        recordings = _recordings_by_id(root, cut_off) if len(said) else None
        earlier = [day for day in root.partitions("current_likes") if day < key]
        previous = earlier[-1] if earlier else None
        whole: list[Any] = [
            root.fingerprint("likes", cut_off),
            previous and inputs_of(root.root, "current_likes", previous),
        ]
        basis = [*whole, *(table.write_csv() for table in (said, recordings) if table is not None)]
        # Written last, the dislikes say that both are there.
        fresh = inputs_of(root.root, "current_dislikes", key) == digest(basis)
        if not fresh:
            lists = current_lists((observed, likes) for _, observed, likes in _seen(root, cut_off))
            settled = settle(lists, said, _seen(root, cut_off), recordings)
            known = root.read("current_likes", previous) if previous else None
            # Of feedback the lists are a function only as far as it changed them: a dislike of a song that
            # is in no list is another bundle, and no reason to train.
            effect = [table.write_csv() for table in _difference(lists, settled.likes) if len(table)]
            root.write("current_likes", key, mark_changed(settled.likes, known), digest([*whole, *effect]))
            root.write("current_dislikes", key, settled.dislikes, digest(basis))
        root.set_current("current_likes", key)
    return MaterializeResult(
        metadata={
            **rows_metadata(row_count(root.root, "current_likes", key)),
            **cost_metadata(cost),
            "cut-off": MetadataValue.text(key),
            "dislikes": MetadataValue.int(row_count(root.root, "current_dislikes", key)),
            "unchanged": MetadataValue.bool(fresh),
        }
    )


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
        recordings = recordings_of(root, settings, cut_off)
        aliases = recordings.aliases
        version = f"{key}-" + digest(
            [
                _CODE,
                settings.merge_recordings,
                # An ISRC may become known, or known to be wrong, without a change to likes or ids.
                [aliases.tolist(), recordings.canonical[aliases].tolist()],
                inputs_of(root.root, "current_likes", key),
                inputs_of(root.root, "track_ids", None),
                [root.file.split_key, settings.held_out, settings.calibration_share],
            ]
        )

        def fill(folder: Path) -> None:
            graph = build_like_graph(
                root.read("current_likes", key),
                known_track_ids(root),
                split_key=root.file.split_key,
                held_out=settings.held_out,
                calibration_share=settings.calibration_share,
                canonical=recordings.canonical,
            )
            facts = {"version": version, "cut_off": key, **recordings.facts()}
            write_arrays(folder, graph.arrays(), facts)

        root.write_version("like_graph", version, fill)
        graph = open_like_graph(root)
    if not len(graph.indices):
        raise LakeError(f"nobody likes anything as of {key}; import likes, then refresh again")
    degrees = graph.track_degrees()
    merged = recordings.facts()
    return MaterializeResult(
        metadata={
            **rows_metadata(len(graph.indices)),
            **cost_metadata(cost),
            "version": MetadataValue.text(version),
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
        graph_version = root.current_version("like_graph")
        options = {
            "k": settings.neighbours,
            "memory_mib": settings.memory_mib,
            "max_exact_nnz": settings.max_exact_entries,
        }
        version = f"{current_cut_off(root)}-" + digest([_CODE, graph_version, options])

        def fill(folder: Path) -> None:
            build_co_like(open_like_graph(root).matrix(), folder, **options, progress=report_progress)

        co_like = CoLike.open(root.write_version("co_like", version, fill))
    facts = co_like.facts
    return MaterializeResult(
        metadata={
            **cost_metadata(cost),
            "version": MetadataValue.text(version),
            "exact": MetadataValue.bool(co_like.exact),
            "entries": MetadataValue.int(facts["nnz"] if co_like.exact else facts["nnz_bound"]),
            "strongest neighbours kept": MetadataValue.int(len(co_like.top_indices)),
        }
    )


ASSETS: list[AssetsDefinition] = [current_likes, track_ids, like_graph, co_like_matrix]


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


def feedback_until(lake: Lake, cut_off: date) -> pl.DataFrame:
    """The likes and dislikes by feedback up to the cut-off: user_id, track_id, action, at. No skips."""
    days = [day for day in lake.partitions("feedback") if day <= cut_off.isoformat()]
    columns = ["user_id", "track_id", "action", "at"]
    found = [
        lake.read("feedback", day, columns).filter(pl.col("action") != "skip")
        for day in days
        if row_count(lake.root, "feedback", day)
    ]
    return pl.concat([empty_table("feedback").select(columns), *found])


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


def _seen(lake: Lake, cut_off: date) -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
    """The day, observations and likes of every day up to the cut-off, the newest first, read one by one."""
    for key in reversed(lake.partitions("observations")):
        if key <= cut_off.isoformat():
            yield date.fromisoformat(key), lake.read("observations", key), lake.read("likes", key)


def _difference(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of lists that are gone, and those that are new."""
    pair = ["user_id", "track_id"]
    return before.join(after, on=pair, how="anti"), after.join(before, on=pair, how="anti")


def _recordings_by_id(lake: Lake, cut_off: date) -> pl.DataFrame:
    """The recording (one of its ids) of every track that is known under several: track_id, recording."""
    settings = lake.section("graph", GraphSettings)
    tracks = lake.known_tracks("tracks", cut_off)
    if not settings.merge_recordings:
        tracks = tracks.clear()
    ids = tracks["track_id"]
    canonical = find_recordings(ids, tracks).canonical
    shared = np.isin(canonical, canonical[is_alias(canonical)])
    return pl.DataFrame({"track_id": ids, "recording": ids.gather(canonical)}).filter(shared)
