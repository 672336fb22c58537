"""The checks between one stage and the next. A failed check stops what is downstream, except the gate's: a
refused model is reported, and the live one stays in service.

Here: what must hold of what an asset wrote. Not here: schemas, which every read and write checks by itself.
"""

from typing import Any

import numpy as np
import polars as pl
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    ResourceParam,
    asset_check,
)

from tunegraph_pipeline.graph.co_like import CoLike, what_is_wrong
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.lake.user_ranges import whole_lists
from tunegraph_pipeline.orchestration.metadata import shortened
from tunegraph_pipeline.orchestration.run_days import days_of_run
from tunegraph_pipeline.pipeline.gate import against_popularity, refused_first
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.services import served_by
from tunegraph_pipeline.pipeline.settings import ServicesSettings
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current
from tunegraph_pipeline.recommend.publication import last_judged, live_model, publications


@asset_check(asset="crawled_users", blocking=True)
def each_user_once_a_day(context: AssetCheckExecutionContext, lake: ResourceParam[Lake]) -> AssetCheckResult:
    """No user is there twice on a day, and every state is a known one."""
    states = {"found", "listed", "private", "gone", "failed"}
    twice = unknown = 0
    for day in days_of_run(context.run):
        users = lake.read("users", day, ["user_id", "source", "state"])
        twice += _repeated(users, ["user_id", "source"])
        unknown += users.filter(~pl.col("state").is_in(states)).height
    return _result(twice + unknown == 0, {"duplicate users": twice, "unknown states": unknown})


@asset_check(asset="liked_lists", blocking=True)
def each_like_once_and_counted(
    context: AssetCheckExecutionContext, lake: ResourceParam[Lake]
) -> AssetCheckResult:
    """No like is there twice on a day, and every list has the length its observation says."""
    twice = wrong = 0
    for day in days_of_run(context.run):
        likes = lake.read("likes", day, ["user_id", "track_id", "source"])
        twice += _repeated(likes, list(TABLES["likes"].key))
        observed = lake.read("observations", day).filter(pl.col("n_likes") > 0)
        counted = likes.group_by("user_id", "source").len()
        both = observed.join(counted, on=["user_id", "source"], how="full")
        wrong += both.filter(pl.col("n_likes").ne_missing(pl.col("len"))).height
    return _result(twice + wrong == 0, {"duplicate likes": twice, "lists of the wrong length": wrong})


@asset_check(asset="current_likes", blocking=True)
def each_pair_once(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """No (user, track) pair is there twice: B would count it twice."""
    columns = ["user_id", "track_id"]
    blocks = lake.read_in_blocks("current_likes", lake.current_version("current_likes"), columns)
    twice = sum(_repeated(lists, columns) for lists in whole_lists(blocks))
    return _result(twice == 0, {"duplicate pairs": twice})


@asset_check(asset="current_likes", blocking=True)
def nobody_forgotten_in_the_lists(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """No current list is of a forgotten user; checked before anything is built from the lists."""
    current = lake.current_version("current_likes")
    users = pl.concat(
        [
            block["user_id"].unique()
            for table in ("current_likes", "current_dislikes")
            if current in lake.partitions(table)
            for block in lake.read_in_blocks(table, current, ["user_id"])
        ]
    )
    return _nobody_forgotten(lake, users)


@asset_check(asset="serving_bundle", blocking=True)
def nobody_forgotten_in_the_live_bundle(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """The live bundle names no forgotten user."""
    users = Bundle.open(read_current(lake.serving)).users.ids.tolist()
    return _nobody_forgotten(lake, pl.Series(users, dtype=pl.String))


@asset_check(asset="track_ids", blocking=True)
def indices_contiguous(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """track_idx is exactly 0..N-1 in order, and no id is there twice."""
    ids = lake.read("track_ids")
    in_order = bool((ids["track_idx"] == pl.arange(len(ids), dtype=pl.Int32, eager=True)).all())
    twice = _repeated(ids, ["track_id"])
    return _result(in_order and twice == 0, {"in order": in_order, "duplicate ids": twice})


@asset_check(asset="co_like_matrix", blocking=True)
def counts_are_those_of_the_likes(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """On a sample of tracks, the counts of B and its strongest neighbours match the likes."""
    matrix = CoLike.open(lake.current_folder("co_like"))
    what = what_is_wrong(matrix, open_like_graph(lake).shortened(matrix.facts.get("longest_list")).matrix())
    return _result(what is None, {"co-like matrix": what or "matches the likes"})


@asset_check(asset="trained_model", blocking=True)
def better_than_popularity(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """On likes it was not trained on, the model ranks no worse than the most popular songs do. One that is
    clearly worse stops the run where no live model can stay in its place; where one can, the gate refuses the
    new one. Where too little is held out to tell, this is a warning."""
    against = against_popularity(lake, lake.current_version("models"))
    if against.model is None:
        return AssetCheckResult(
            passed=True,
            severity=AssetCheckSeverity.WARN,
            description="a lake this small holds out no like for early stopping: nothing was compared",
        )
    stops = refused_first(lake)
    because = stops or against.objection or against.warning
    facts = {
        "MAP@10": against.model,
        "MAP@10 of popularity": against.popularity,
        "users": against.users,
        "live model": live_model(lake.serving) or "none",
    }
    return AssetCheckResult(
        passed=not because,
        severity=AssetCheckSeverity.ERROR if stops else AssetCheckSeverity.WARN,
        metadata=shortened(facts),
        description=because or "it ranks no worse than the most popular songs do",
    )


@asset_check(asset="track_embeddings", blocking=True)
def finite_and_of_unit_length(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """Every embedding is finite and of length 1, and every track of the id map has one."""
    rows = lake.read("track_embeddings", lake.current_version("models"))
    embeddings = rows["embedding"].to_numpy()
    finite = bool(np.isfinite(embeddings).all())
    deviation = float(np.abs(np.linalg.norm(embeddings, axis=1) - 1).max(initial=0.0))
    complete = len(rows) == len(known_track_ids(lake))
    facts = {"finite": finite, "largest deviation from unit length": deviation, "one per track": complete}
    return _result(finite and deviation < 1e-3 and complete, facts)


@asset_check(asset="serving_bundle", blocking=True)
def live_bundle_opens(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """CURRENT names a bundle that opens and matches its checksums. It is of the current likes, and of the
    current model or of a live one that stays: kept by the gate, rolled back to, or the same as before."""
    bundle = Bundle.open(read_current(lake.serving))
    bundle.verify()
    cut_off = bundle.facts.get("cut_off") == current_cut_off(lake).isoformat()
    current = bundle.model_version == lake.current_version("models")
    kept = not current and _refusal(lake, bundle.model_version) is not None
    last = publications(lake.serving)[-1]
    stayed = last.bundle == bundle.version and last.outcome in ("same model", "rolled back")
    facts = {
        "bundle": bundle.version,
        "of the current model": current,
        "kept by the gate": kept,
        "not to be replaced": stayed,
    }
    return _result(cut_off and (current or kept or stayed), facts)


@asset_check(asset="serving_bundle", blocking=False)
def no_worse_than_the_live_model(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """On likes that neither was trained on, the current model is not worse than the live one by more than the
    margin. If it is, the live model stays, with the likes of today."""
    live = live_model(lake.serving)
    refusal = _refusal(lake, live)
    if refusal is not None:
        facts = {"refused": lake.current_version("models"), "live": live, "because": refusal}
        return _result(False, facts, AssetCheckSeverity.WARN)
    last = last_judged(lake.serving)
    if last is None or last.decision is None or last.decision.challenger != live:
        facts = {"live": live, "because": "there was no other model to replace"}
        return _result(True, facts, AssetCheckSeverity.WARN)
    decision = last.decision
    figures = {
        f"{metric}{of}": one[whose]
        for metric, one in decision.figures.items()
        for of, whose in (("", "challenger"), (" of the replaced model", "champion"))
        if one[whose] is not None
    }
    override = {"published by override": decision.override} if decision.override else {}
    replaced = {"replaced": decision.champion or "none", "users": decision.users}
    return _result(True, {"live": live, **replaced, **figures, **override}, AssetCheckSeverity.WARN)


@asset_check(asset="serving_bundle", blocking=False)
def services_serve_it(lake: ResourceParam[Lake]) -> AssetCheckResult:
    """Every service named in the section `services` of the lake's settings serves the live version."""
    live = current_version(lake.serving)
    answers = served_by(lake.section("services", ServicesSettings), live)
    facts = {"live": live, **(answers or {"services": "the settings name none"})}
    return _result(all(version == live for version in answers.values()), facts, AssetCheckSeverity.WARN)


CHECKS = [check for check in globals().values() if isinstance(check, AssetChecksDefinition)]


def _nobody_forgotten(lake: Lake, users: pl.Series) -> AssetCheckResult:
    tombstones = Tombstones.of(lake.root)
    found = int(tombstones.buries(users).sum())
    return _result(found == 0, {"forgotten users": len(tombstones), "of them found": found})


def _repeated(rows: pl.DataFrame, key: list[str]) -> int:
    return len(rows) - rows.select(key).n_unique() if len(rows) else 0


def _refusal(lake: Lake, live: str | None) -> str | None:
    """Why the gate kept the live model and not the current one, None where it did not."""
    last = last_judged(lake.serving)
    if last is None or last.decision is None or last.decision.goes_live:
        return None
    judged = last.decision.champion == live and last.decision.challenger == lake.current_version("models")
    return last.decision.refusal if judged else None


def _result(
    passed: bool, found: dict[str, Any], severity: AssetCheckSeverity = AssetCheckSeverity.ERROR
) -> AssetCheckResult:
    facts = shortened(found)
    return AssetCheckResult(
        passed=bool(passed),
        severity=severity,
        metadata=facts,
        description="; ".join(f"{name}: {_in_words(value)}" for name, value in facts.items()),
    )


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
