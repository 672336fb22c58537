"""Decide which model goes live over the likes of today, and publish it.

Here: the stage, its policy and what it says of the bundle. Not here: the gate's figures (`gate`), or the
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
from tunegraph_pipeline.pipeline.bundle import bundle_of
from tunegraph_pipeline.pipeline.gate import decide, unjudged
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import GraphSettings, ServicesSettings
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.progress import Measured, report_note, report_progress
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.indexing import RECALL
from tunegraph_pipeline.recommend.publication import Decision, live_model, publish
from tunegraph_pipeline.recommend.recommender import Recommender

_LOG = logging.getLogger(__name__)


def run(
    lake: Lake, *, override: str = "", judge: bool = True, log: Callable[[str], None] = _LOG.info
) -> StageResult:
    """Publish as `publish_current` does; ``log`` is called with one line, the verdict of the gate."""
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
        "tracks new to the model": bundle.facts["tracks_new_to_the_model"],
        "tracks with a name": int(np.count_nonzero(np.diff(bundle.names.offsets))),
        "mib": round(size / 2**20, 1),
        **index,
        **_query_facts(bundle),
    }
    for url in lake.section("services", ServicesSettings).urls:
        facts[f"served by {url}"] = f"{url.rstrip('/')}/version"
    plots = {}
    if decision is not None:
        log(f"gate: {decision.refusal or 'accepted'}")
        facts |= {"gate": asdict(decision), "went live": decision.goes_live}
        if decision.figures:
            plots["challenger against champion"] = partial(
                paired_intervals, decision.figures, decision.settings["margin"], decision.users
            )
    return StageResult(bundle.version, None, cost, facts=facts, plots=plots, tables=recall)


def index_facts(bundle: Bundle) -> tuple[dict[str, Any], dict[str, str]]:
    """The index of a bundle: its kind and what it took, and as a Markdown table what it finds."""
    facts = bundle.facts.get("index")
    if facts is None:
        return {"index": "none: every query looks at all tracks"}, {}
    form = f"{facts['lists']:,} lists of {facts['width']} {facts['storage']} numbers a track"
    if facts["probes"] is None:
        form += f"; left out, because it found too little: below {RECALL}"
    built = {
        "index": f"{facts['library']}, {form}",
        "index build (s)": facts["seconds"],
        "index mib": round(facts["bytes"] / 2**20, 1),
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
        "query p50 (ms)": round(took.p50_ms, 3),
        "query p99 (ms)": round(took.p99_ms, 3),
        "query p50 / plain E @ q": round(took.ratio, 2),
    }


def publish_current(lake: Lake, override: str, *, judge: bool = True) -> tuple[Bundle, Decision | None]:
    """Publish the likes of today with the current model, or where the gate refuses it with the live one.

    Without ``judge`` the live model stays, unless there is an ``override``: a model that was rolled back
    from, or waits for a refresh to judge it, does not go live because a user is forgotten.

    Returns the bundle that is live now, and the decision, None where there was nothing to decide: the first
    model, or the one that is live. Raises InputError for an ``override`` without a reason, or of nothing;
    LakeError where a model is needed that is not there.
    """
    if override and not override.strip():
        raise InputError("an override has to say why; give a reason")
    graph = open_like_graph(lake)
    live, keep = live_model(lake.serving), lake.kept_versions
    if live is not None and not override and not judge:
        return publish(lake.serving, bundle_of(lake, live).version, keep=keep), None
    current = lake.current_version("models")
    if live is not None and not override and _lacks_tracks(lake, current, graph.n_tracks):
        # Nothing was trained since tracks were added: the weights that are live stay, over the lists of
        # today, and the next model is for a refresh to train and to judge.
        return publish(lake.serving, bundle_of(lake, live).version, keep=keep), None
    require_tracks(lake, current, graph.n_tracks)
    if live is None or live == current:
        if override:
            raise InputError(f"there is nothing to override: no model is refused, {current} goes live anyway")
        return publish(lake.serving, bundle_of(lake, current).version, keep=keep), None
    challenger = bundle_of(lake, current)
    try:
        champion = bundle_of(lake, live)
    except TuneGraphError as error:
        if not override:
            why = str(error).rpartition("; ")[0] or error  # a refresh is what came to this, and no advice
            raise LakeError(
                f"the live model {live} cannot be judged against or served on: {why}; restore it, or"
                ' publish the new one unjudged with `tunegraph publish --override "why"`'
            ) from error
        decision = unjudged(lake, live, challenger, str(error), override.strip())
        return publish(lake.serving, challenger.version, decision, keep=keep), decision
    decision = decide(
        lake,
        graph,
        known_track_ids(lake),
        champion,
        challenger,
        held_out=lake.section("graph", GraphSettings).held_out,
        override=override.strip(),
        progress=report_progress,
    )
    if decision.refusal is not None:
        report_note(
            f"the new model was refused: {decision.refusal}; "
            + (f"published all the same: {override}" if decision.goes_live else f"model {live} stays live")
        )
    winner = challenger if decision.goes_live else champion
    return publish(lake.serving, winner.version, decision, keep=keep), decision


def require_tracks(lake: Lake, model_version: str, n_tracks: int) -> None:
    """Raise LakeError where the current model is older than the graph and lacks some of its tracks."""
    if _lacks_tracks(lake, model_version, n_tracks):
        raise LakeError(
            f"model {model_version} has other tracks than the {n_tracks} of the like graph; materialise"
            " trained_model first"
        )


def _lacks_tracks(lake: Lake, model_version: str, n_tracks: int) -> bool:
    return len(ArrayFolder.open(lake.version_folder("models", model_version))["embeddings"]) != n_tracks
