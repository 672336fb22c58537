"""The checks that stand between one stage and the next. One that fails stops what is downstream, but for the
gate's: a refused model is shown, and the live one is served on.

Here: what must hold of what an asset wrote. Not here: schemas, which every read and write checks by itself.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    MetadataValue,
    PartitionKeyRange,
    asset_check,
)

from tunegraph_pipeline.graph.co_like import CoLike, what_is_wrong
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.orchestration.assets import graph, model, serving, sources
from tunegraph_pipeline.orchestration.partitions import DAILY
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.services import served_by
from tunegraph_pipeline.pipeline.settings import ServicesSettings
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current
from tunegraph_pipeline.recommend.publication import last_judged, live_model, publications


@asset_check(asset=sources.crawled_users, blocking=True)
def each_user_once_a_day(context: AssetCheckExecutionContext, lake: LakeResource) -> AssetCheckResult:
    """No user is there twice on a day, and every state is one of those that are known."""
    states = {"found", "listed", "private", "gone", "failed"}
    twice = strange = 0
    for day in _days_of(context):
        users = lake.open().read("users", day, ["user_id", "source", "state"])
        twice += _repeated(users, ["user_id", "source"])
        strange += users.filter(~pl.col("state").is_in(states)).height
    return _result(twice + strange == 0, {"users there twice": twice, "unknown states": strange})


@asset_check(asset=sources.liked_lists, blocking=True)
def each_like_once_and_counted(context: AssetCheckExecutionContext, lake: LakeResource) -> AssetCheckResult:
    """No like is there twice on a day, and every list has the length its observation says."""
    twice = wrong = 0
    for day in _days_of(context):
        likes = lake.open().read("likes", day, ["user_id", "track_id", "source"])
        twice += _repeated(likes, list(TABLES["likes"].key))
        said = lake.open().read("observations", day).filter(pl.col("n_likes") > 0)
        counted = likes.group_by("user_id", "source").len()
        both = said.join(counted, on=["user_id", "source"], how="full")
        wrong += both.filter(pl.col("n_likes").ne_missing(pl.col("len"))).height
    return _result(twice + wrong == 0, {"likes there twice": twice, "lists of another length": wrong})


@asset_check(asset=graph.current_likes, blocking=True)
def each_pair_once(lake: LakeResource) -> AssetCheckResult:
    """No (user, track) pair is there twice: B would count it twice."""
    root = lake.open()
    pairs = root.read("current_likes", root.current_version("current_likes"), ["user_id", "track_id"])
    twice = _repeated(pairs, ["user_id", "track_id"])
    return _result(twice == 0, {"pairs there twice": twice})


@asset_check(asset=graph.current_likes, blocking=True)
def nobody_forgotten_in_the_lists(lake: LakeResource) -> AssetCheckResult:
    """No current list is of a user who was forgotten; it is found before anything is made of the lists."""
    root = lake.open()
    current = root.current_version("current_likes")
    users = pl.concat(
        [
            root.read(table, current, ["user_id"])["user_id"].unique()
            for table in ("current_likes", "current_dislikes")
            if current in root.partitions(table)
        ]
    )
    return _nobody_forgotten(root, users)


@asset_check(asset=serving.serving_bundle, blocking=True)
def nobody_forgotten_in_the_live_bundle(lake: LakeResource) -> AssetCheckResult:
    """The live bundle names no user who was forgotten."""
    root = lake.open()
    users = Bundle.open(read_current(root.serving)).users.ids.tolist()
    return _nobody_forgotten(root, pl.Series(users, dtype=pl.String))


@asset_check(asset=graph.track_ids, blocking=True)
def indices_contiguous(lake: LakeResource) -> AssetCheckResult:
    """track_idx is exactly 0..N-1 in order, and no id is there twice."""
    ids = lake.open().read("track_ids")
    in_order = bool((ids["track_idx"] == pl.arange(len(ids), dtype=pl.Int32, eager=True)).all())
    twice = _repeated(ids, ["track_id"])
    return _result(in_order and twice == 0, {"in order": in_order, "ids there twice": twice})


@asset_check(asset=graph.co_like_matrix, blocking=True)
def counts_are_those_of_the_likes(lake: LakeResource) -> AssetCheckResult:
    """On a sample of tracks, B has the counts that the likes themselves give, and the strongest neighbours
    are those of these counts."""
    root = lake.open()
    co_like = CoLike.open(root.current_folder("co_like"))
    what = what_is_wrong(co_like, open_like_graph(root).matrix())
    return _result(what is None, {"B": what or "as the likes say"})


@asset_check(asset=model.trained_model, blocking=True)
def better_than_popularity(lake: LakeResource) -> AssetCheckResult:
    """On likes it was not trained on, the model ranks no worse than the most popular songs do.

    Stops the run where there is no live model to keep in its place; the gate refuses it where there is.
    """
    root = lake.open()
    facts = ArrayFolder.open(root.current_folder("models")).facts
    figure, popularity = facts["validation"], facts["validation_of_popularity"]
    if figure is None:
        return AssetCheckResult(
            passed=True,
            severity=AssetCheckSeverity.WARN,
            description="a lake this small holds out no like for early stopping: nothing was compared",
        )
    live = live_model(root.serving)
    return _result(
        figure >= popularity,
        {"MAP@10": figure, "MAP@10 of popularity": popularity, "live model": live or "none"},
        AssetCheckSeverity.ERROR if live is None else AssetCheckSeverity.WARN,
    )


@asset_check(asset=model.track_embeddings, blocking=True)
def finite_and_of_unit_length(lake: LakeResource) -> AssetCheckResult:
    """Every embedding is finite and of length 1, and there is one for every track of the id map."""
    root = lake.open()
    rows = root.read("track_embeddings", root.current_version("models"))
    embeddings = rows["embedding"].to_numpy()
    finite = bool(np.isfinite(embeddings).all())
    furthest = float(np.abs(np.linalg.norm(embeddings, axis=1) - 1).max(initial=0.0))
    complete = len(rows) == len(known_track_ids(root))
    facts = {"finite": finite, "furthest from unit length": furthest, "one a track": complete}
    return _result(finite and furthest < 1e-3 and complete, facts)


@asset_check(asset=serving.serving_bundle, blocking=True)
def live_bundle_opens(lake: LakeResource) -> AssetCheckResult:
    """CURRENT names a bundle that opens and matches its checksums, of the current likes, and of the current
    model, of the one that the gate kept in its place, or of the one that was live and not to be replaced."""
    root = lake.open()
    bundle = Bundle.open(read_current(root.serving))
    bundle.verify()
    cut_off = bundle.facts.get("cut_off") == current_cut_off(root).isoformat()
    current = bundle.model_version == root.current_version("models")
    kept = not current and _refused(root, bundle.model_version) is not None
    last = publications(root.serving)[-1]
    stayed = last.bundle == bundle.version and last.outcome in ("same model", "rolled back")
    facts = {
        "bundle": bundle.version,
        "of the current model": current,
        "kept by the gate": kept,
        "not to be replaced": stayed,
    }
    return _result(cut_off and (current or kept or stayed), facts)


@asset_check(asset=serving.serving_bundle, blocking=False)
def no_worse_than_the_live_model(lake: LakeResource) -> AssetCheckResult:
    """On likes that neither was trained on, the current model is not worse than the one it was to replace by
    more than the margin; where it is, the live one is served on, with the likes of today."""
    root = lake.open()
    live = live_model(root.serving)
    refusal = _refused(root, live)
    if refusal is not None:
        facts = {"refused": root.current_version("models"), "live": live, "because": refusal}
        return _result(False, facts, AssetCheckSeverity.WARN)
    last = last_judged(root.serving)
    if last is None or last.decision is None or last.decision.challenger != live:
        return _result(True, {"live": live, "because": "nothing was to be replaced"}, AssetCheckSeverity.WARN)
    decision = last.decision
    figures = {
        name: f"{one['challenger']:.4f} against {one['champion']:.4f}"
        for name, one in decision.figures.items()
        if one["challenger"] is not None and one["champion"] is not None
    }
    override = {"published by override": decision.override} if decision.override else {}
    replaced = {"instead of": decision.champion, "users": f"{decision.users:,}"}
    facts = {"live": live, **replaced, **figures, **override}
    return _result(True, facts, AssetCheckSeverity.WARN)


@asset_check(asset=serving.serving_bundle, blocking=False)
def services_serve_it(lake: LakeResource) -> AssetCheckResult:
    """Every service named in the lake's settings serves the version that is live; none is named unless the
    section `services` says so."""
    root = lake.open()
    live = current_version(root.serving)
    answers = served_by(root.section("services", ServicesSettings), live)
    facts = {"live": live, **(answers or {"services": "none is named in the settings"})}
    return _result(all(said == live for said in answers.values()), facts, AssetCheckSeverity.WARN)


def _nobody_forgotten(lake: Lake, users: pl.Series) -> AssetCheckResult:
    tombstones = Tombstones.of(lake.root)
    left = int(tombstones.buries(users).sum())
    return _result(left == 0, {"forgotten ever": len(tombstones), "of them still there": left})


CHECKS: list[AssetChecksDefinition] = [
    each_user_once_a_day,
    each_like_once_and_counted,
    each_pair_once,
    nobody_forgotten_in_the_lists,
    indices_contiguous,
    counts_are_those_of_the_likes,
    better_than_popularity,
    finite_and_of_unit_length,
    live_bundle_opens,
    nobody_forgotten_in_the_live_bundle,
    no_worse_than_the_live_model,
    services_serve_it,
]


def _days_of(context: AssetCheckExecutionContext) -> Iterator[str]:
    """The days of the run: one partition, or a range of them."""
    tags = context.run.tags
    if one := tags.get("dagster/partition"):
        yield one
        return
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    if first and last:
        yield from DAILY.get_partition_keys_in_range(PartitionKeyRange(first, last))


def _repeated(rows: pl.DataFrame, key: list[str]) -> int:
    return len(rows) - rows.select(key).n_unique() if len(rows) else 0


def _refused(lake: Lake, live: str | None) -> str | None:
    """Why the gate kept the live model and not the current one, None where it did not."""
    last = last_judged(lake.serving)
    if last is None or last.decision is None or last.decision.goes_live:
        return None
    judged = last.decision.champion == live and last.decision.challenger == lake.current_version("models")
    return last.decision.refusal if judged else None


def _result(
    passed: bool, facts: dict[str, Any], severity: AssetCheckSeverity = AssetCheckSeverity.ERROR
) -> AssetCheckResult:
    return AssetCheckResult(
        passed=bool(passed),
        severity=severity,
        metadata={name: MetadataValue.text(str(value)) for name, value in facts.items()},
        description="; ".join(f"{name}: {value}" for name, value in facts.items()),
    )
