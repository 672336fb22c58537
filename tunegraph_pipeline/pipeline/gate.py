"""Judge today's model against the live one, before a publication.

Here: reading both models and the held-out likes, and the decision. Not here: the comparison
(`evaluation.gate`), or the rule and its enforcement (`recommend.publication`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.evaluation.evaluate import HeldOut
from tunegraph_pipeline.evaluation.gate import (
    AgainstPopularity,
    GateSettings,
    PairedDifference,
    TrainedOn,
    common_candidates,
    compare_bundles,
    continued_for_both,
    held_out_for_both,
    most_have_an_order,
    unseen_gate_likes,
)
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.models.blend import Continuation
from tunegraph_pipeline.pipeline.bundle import judged_bundle
from tunegraph_pipeline.pipeline.like_ages import like_ages
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.progress import report_note, report_progress
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.publication import CONTINUATION, SETS, Decision, last_judged, live_model

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def decide(lake: Lake, champion: Bundle, challenger: Bundle, *, override: str) -> Decision:
    """Judge the challenger's bundle against one of the live model, both made of the current like graph. The
    same two bundles are not judged again by the same settings.

    A model that was refitted is judged as it was before, by `judged_bundle`; the decision is about the bundle
    that is served of it. Where that of the live model is lost, it is judged as it is served, and reported: it
    has learned from the likes that it is judged by, so it is judged too well and rather stays live.
    """
    settings = lake.section("gate", GateSettings)
    before = _decided(lake, champion, challenger, settings)
    if before is not None:
        figures, users, counts, protocol = before.figures, before.users, before.counts, before.protocol
    else:
        with judged_bundle(lake, champion) as old, judged_bundle(lake, challenger) as new:
            if old is None:
                report_note(
                    f"the live model {champion.model_version} is lost, so it is judged as it is served, which"
                    " has learned from the held-out likes; if a good model is refused, publish it with"
                    ' `tunegraph publish --override "why"`'
                )
            protocol, asked, compared = _compared(lake, old or champion, new or challenger, settings)
        users = asked.n_users
        figures = {f"{name}@{settings.k}": _plain(one) for name, one in compared.items()}
        counts = {
            "held-out likes judged": int(asked.n_held_out.sum()),
            "tracks new to the live model": int(champion.facts.get("tracks_new_to_the_model", 0)),
        }
    return Decision(
        champion=champion.model_version,
        challenger=challenger.model_version,
        bundle=challenger.version,
        users=users,
        figures=figures,
        settings=settings.model_dump(mode="json"),
        objection=against_popularity(lake, challenger.model_version).objection,
        override=override,
        counts=counts,
        protocol=protocol,
    )


def _compared(
    lake: Lake, champion: Bundle, challenger: Bundle, settings: GateSettings
) -> tuple[str, HeldOut, dict[str, PairedDifference]]:
    """By which protocol two bundles were judged, on what, and what came out; without users, nothing did."""
    graph = open_like_graph(lake)
    likes = graph.matrix()
    unseen = gate_likes_unseen_by(lake, [champion.model_version, challenger.model_version])
    candidates, most = common_candidates(champion, challenger), settings.max_users
    continues = any(_continues(bundle) for bundle in (champion, challenger))
    ages = like_ages(lake, graph) if continues else None
    if ages is not None and most_have_an_order(likes, unseen, ages):
        protocol = CONTINUATION
        asked = continued_for_both(likes, unseen, candidates, ages, max_users=most)
    else:
        protocol = SETS
        asked = held_out_for_both(likes, unseen, candidates, max_users=most, seed=settings.seed)
    if not asked.n_users:
        return protocol, asked, {}
    return protocol, asked, compare_bundles(champion, challenger, asked, settings, report_progress)


def gate_likes_unseen_by(lake: Lake, models: Sequence[str]) -> "csr_matrix":
    """The likes of today's gate fold that no model of these versions can have been trained on, see
    `evaluation.gate.unseen_gate_likes`."""
    graph = open_like_graph(lake)
    held_out = lake.section("graph", GraphSettings).held_out
    return unseen_gate_likes(
        graph,
        known_track_ids(lake).to_list(),
        split_key=lake.file.split_key,
        held_out=held_out,
        models=[_trained_on(lake, version, held_out, graph) for version in models],
    )


def against_popularity(lake: Lake, model_version: str) -> AgainstPopularity:
    """How a model ranks beside the most popular songs. One that is clearly worse is refused, whatever the
    comparison with the live model says, and even where none is live."""
    facts = ArrayFolder.open(lake.version_folder("models", model_version)).facts
    users = facts.get("validation_users")
    if users is None:  # an earlier model: those of today, without an interval
        users = len(open_like_graph(lake).early_stopping_users)
    return AgainstPopularity(
        facts["validation"],
        facts["validation_of_popularity"],
        facts.get("validation_lead", (None, None))[1],
        users,
        lake.section("gate", GateSettings).min_users,
    )


def refused_first(lake: Lake) -> str | None:
    """Why the current model may not be the first one to go live, and what to do; None where it may, or where
    there is a live one already."""
    if live_model(lake.serving) is not None:
        return None
    version = lake.current_version("models")
    objection = against_popularity(lake, version).objection
    return (
        f"nothing is live, and model {version} was refused: {objection}; add likes and run `tunegraph"
        ' refresh`, or publish it all the same with `tunegraph publish --override "why"`'
        if objection
        else None
    )


def unjudged(lake: Lake, champion: str | None, challenger: Bundle, objection: str, override: str) -> Decision:
    """The decision to publish without a comparison, in spite of ``objection``."""
    return Decision(
        champion=champion,
        challenger=challenger.model_version,
        bundle=challenger.version,
        users=0,
        figures={},
        settings=lake.section("gate", GateSettings).model_dump(mode="json"),
        objection=objection,
        override=override,
    )


def _continues(bundle: Bundle) -> bool:
    """Whether stored users are answered by the order of their lists."""
    return Continuation.from_facts(bundle.facts).for_users


def _decided(lake: Lake, champion: Bundle, challenger: Bundle, settings: GateSettings) -> Decision | None:
    last = last_judged(lake.serving)
    if last is None or last.decision is None or not last.decision.figures:
        return None
    same = (
        last.decision.champion == champion.model_version
        and last.decision.bundle == challenger.version
        and last.decision.settings == settings.model_dump(mode="json")
    )
    return last.decision if same else None


def _trained_on(lake: Lake, model_version: str, held_out: float, graph: LikeGraph) -> TrainedOn:
    """What a model was trained on, by its facts. Where they are missing, or only its bundle is left, today's
    split is assumed: if it saw more, it is judged too well and stays live."""
    try:
        model = ArrayFolder.verified(lake.version_folder("models", model_version))
    except BundleError:
        return TrainedOn(held_out, np.asarray(graph.canonical))
    n_tracks = len(model["embeddings"])
    canonical = model["canonical"] if "canonical" in model else graph.canonical[:n_tracks]
    return TrainedOn(float(model.facts.get("held_out", held_out)), np.asarray(canonical))


def _plain(one: PairedDifference) -> dict[str, float | None]:
    values = {"champion": one.champion, "challenger": one.challenger, "low": one.low, "high": one.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
