"""Decide which model goes live over today's likes, and publish it.

Here: the stage, its policy and the facts of the bundle. Not here: the gate's figures (`gate`), or the
swap (`recommend.publication`).
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.evaluation.plots import paired_intervals
from tunegraph_pipeline.evaluation.query_time import query_times
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.alone import end_run, why_alone
from tunegraph_pipeline.pipeline.bundle import bundle_of, what_is_served
from tunegraph_pipeline.pipeline.gate import against_popularity, decide, refused_first, unjudged
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import ServicesSettings
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured, report_note
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.indexing import RECALL
from tunegraph_pipeline.recommend.publication import Decision, last_judged, live_model, publish
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.words import counted

_LOG = logging.getLogger(__name__)


def run(
    lake: Lake, *, override: str = "", judge: bool = True, log: Callable[[str], None] = _LOG.info
) -> StageResult:
    """Publish as `publish_current` does; ``log`` is called with one line, the verdict of the gate.

    Where no two users like the same song, no bundle could answer; nor does a first model go live that is
    clearly worse than popularity. Raises InputError then, or ends the run if no new model is to be judged.
    """
    why = why_alone(open_like_graph(lake)) or (None if override else refused_first(lake))
    if why is not None:
        if judge:
            raise InputError(why)
        return end_run(lake, why)
    with Measured() as cost:
        bundle, decision = publish_current(lake, override, judge=judge)
    size = sum(path.stat().st_size for path in bundle.folder.iterdir())
    index, recall = index_facts(bundle)
    facts: dict[str, Any] = {
        "bundle version": bundle.version,
        "model version": bundle.model_version,
        "folder": bundle.folder,
        "users": bundle.n_users,
        "dislikes": len(bundle.disliked_tracks),
        "tracks": bundle.n_tracks,
        "recommendable tracks": int(np.count_nonzero(bundle.recommendable)),
        "served": what_is_served(bundle.facts.get("refitted_on")),
        "tracks new to the model": bundle.facts["tracks_new_to_the_model"],
        "tracks with a name": int(np.count_nonzero(np.diff(bundle.names.offsets))),
        "size (MiB)": size / 2**20,
        **index,
        **_query_facts(bundle),
    }
    for url in lake.section("services", ServicesSettings).urls:
        facts[f"served by {url}"] = f"{url.rstrip('/')}/version"
    plots = {}
    if decision is not None:
        log(f"gate: {decision.refusal or 'accepted'}")
    else:
        decision = _last_decision(lake, bundle)
    if decision is not None:
        facts |= {"gate": asdict(decision), "went live": decision.goes_live}
        if decision.figures:
            plots["challenger against champion"] = partial(
                paired_intervals, decision.figures, decision.settings["margin"], decision.users
            )
    return StageResult(bundle.version, None, cost, facts=facts, plots=plots, tables=recall)


def _last_decision(lake: Lake, bundle: Bundle) -> Decision | None:
    """The decision by which the model of the live bundle came or stayed live, if there was one."""
    last = last_judged(lake.serving)
    if last is None or last.decision is None or last.decision.winner != bundle.model_version:
        return None
    return last.decision


def index_facts(bundle: Bundle) -> tuple[dict[str, Any], dict[str, str]]:
    """The index of a bundle: its kind and cost, and a Markdown table of its recall."""
    facts = bundle.facts.get("index")
    if facts is None:
        return {"index": "none: every query reads all tracks"}, {}
    form = f"{counted(facts['lists'], 'list')} of {facts['width']} {facts['storage']} numbers a track"
    if facts["probes"] is None:
        form += f"; left out, because it found too little: below {RECALL}"
    built = {
        "index": f"{facts['library']}, {form}",
        "index build (seconds)": facts["seconds"],
        "index size (MiB)": facts["bytes"] / 2**20,
    }
    recall = markdown_table(
        ["queries", "found"], [(kind, f"{share:.4f}") for kind, share in facts["recall"].items()]
    )
    return built, {f"index recall@{' and @'.join(map(str, facts['k']))}": recall}


def _query_facts(bundle: Bundle) -> dict[str, float]:
    """How long a query of the bundle takes on this machine, now."""
    took = query_times(Recommender(bundle))
    if not took.queries:
        return {}
    return {
        "a query, median (ms)": took.p50_ms,
        "a query, 99th percentile (ms)": took.p99_ms,
        "a query, median, in plain matrix products": took.ratio,
    }


def publish_current(lake: Lake, override: str, *, judge: bool = True) -> tuple[Bundle, Decision | None]:
    """Publish today's likes with the current model, or where the gate refuses it with the live one.

    Without ``judge`` the live model stays, unless there is an ``override``: a model that was rolled back, or
    still has to be judged by a refresh, does not go live because a user is forgotten.

    Returns the bundle that is live now, and the decision, None where there was nothing to decide: the first
    model, unless it was refused, or the live one. Raises InputError for a blank ``override``, or one with
    nothing to override; LakeError where a needed model is missing.
    """
    if override and not override.strip():
        raise InputError("an override has to say why; give a reason")
    live = live_model(lake.serving)
    model = _model_without_decision(lake, live, override, judge=judge)
    decision: Decision | None = None
    if model is not None:
        winner = bundle_of(lake, model)
    elif live is not None:
        winner, decision = _judged(lake, live, override)
    else:
        winner = bundle_of(lake, lake.current_version("models"))
        objection = against_popularity(lake, winner.model_version).objection
        decision = unjudged(lake, None, winner, objection, override.strip())
    return publish(lake.serving, winner.version, decision, keep=lake.kept_versions), decision


def _model_without_decision(lake: Lake, live: str | None, override: str, *, judge: bool) -> str | None:
    """The model to publish without a decision; None where the current one needs a decision."""
    if live is not None and not override and not judge:
        return live
    current = lake.current_version("models")
    n_trained = len(ArrayFolder.open(lake.version_folder("models", current))["embeddings"])
    n_tracks = open_like_graph(lake).n_tracks
    if n_trained != n_tracks:
        if live is not None and not override:
            # Tracks were added and nothing was trained since: the live weights stay, over today's lists, and
            # the next refresh trains and judges a model.
            return live
        raise LakeError(
            f"model {current} has other tracks than the {n_tracks} of the like graph; materialise"
            " trained_model first"
        )
    if live is not None and live != current:
        return None
    if override and refused_first(lake) is not None:
        return None
    if override:
        raise InputError(f"there is nothing to override: no model is refused, {current} goes live anyway")
    return current


def _judged(lake: Lake, live: str, override: str) -> tuple[Bundle, Decision]:
    """Judge the current model against the live one; returns the bundle of the winner and the decision."""
    challenger = bundle_of(lake, lake.current_version("models"))
    try:
        champion = bundle_of(lake, live)
    except TuneGraphError as error:
        if not override:
            why = str(error).rpartition("; ")[0] or error  # without its advice, which is to refresh
            raise LakeError(
                f"the live model {live} cannot be judged against or served on: {why}; restore it, or"
                ' publish the new one unjudged with `tunegraph publish --override "why"`'
            ) from error
        objection = f"it could not be judged against the live model: {error}"
        return challenger, unjudged(lake, live, challenger, objection, override.strip())
    decision = decide(lake, champion, challenger, override=override.strip())
    if decision.refusal is not None:
        report_note(
            f"the new model was refused: {decision.refusal}; "
            + (f"published all the same: {override}" if decision.goes_live else f"model {live} stays live")
        )
    return (challenger if decision.goes_live else champion), decision
