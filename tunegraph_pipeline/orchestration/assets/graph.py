"""From daily tables to the graph: the current lists as of the cut-off, the id map, A, and B = AᵀA.

Every stage is versioned by a fingerprint of what it is a function of, so that one whose inputs did not change
is kept. The cut-off is chosen in one place, `current_likes`; what follows is brought to it.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, MetadataValue, asset
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.graph.co_like import CoLike
from tunegraph_pipeline.graph.id_map import extend_track_ids, id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph, update_like_graph
from tunegraph_pipeline.graph.recordings import MAX_IDS, Recordings, all_apart, find_recordings
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import inputs_of, row_count
from tunegraph_pipeline.orchestration.assets import sources
from tunegraph_pipeline.orchestration.assets.forgetting import forgotten_users
from tunegraph_pipeline.orchestration.co_likes import graph_of_matrix, plan_co_like
from tunegraph_pipeline.orchestration.forgetting import something_has_to_go, withdraw_what_has_to_go
from tunegraph_pipeline.orchestration.lists import bring_lists_to, changed_between
from tunegraph_pipeline.orchestration.measure import Measured
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.recommend.publication import live_version

GROUP = "graph"
_CODE = 3  # of the matrices; raise it when the same likes give other arrays


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
    max_exact_entries: int = Field(default=1_000_000_000, ge=0)
    """Above this many entries B is kept in its pruned form alone, and built anew whenever a like changed."""
    refreeze_days: int = Field(default=7, ge=0)
    """After how many days B is built anew, with the degrees of that day to normalise by."""
    drift: float = Field(default=0.2, ge=0)
    """Share of its degree by which that of a track may be another one before it is normalised by the new."""
    delta_share: float = Field(default=0.1, gt=0)
    """How many entries may have been added to the base of B, as a share of it, before they are merged."""


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
    if not root.raw_days() and something_has_to_go(root):
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


def _nobody(lake: Lake, why: str) -> LakeError:
    """The error of a lake of which nothing can be built; what it may not serve any longer is withdrawn."""
    if withdrawn := withdraw_what_has_to_go(lake):
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
