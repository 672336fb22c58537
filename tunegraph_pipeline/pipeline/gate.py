"""Judging the model of today against the live one, on the lake; the publishing asset asks before it acts.

Here: reading both models and the held-out likes, and the decision. Not here: the comparison
(`evaluation.gate`), the rule and its enforcement (`recommend.publication`), or Dagster (`orchestration`).
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.evaluation.gate import (
    GateSettings,
    PairedDifference,
    TrainedOn,
    common_candidates,
    compare_bundles,
    held_out_for_both,
    unseen_gate_likes,
)
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.publication import Decision, last_judged

if TYPE_CHECKING:
    import polars as pl
    from scipy.sparse import csr_matrix

Progress = Callable[[str, int, int], None]


def decide(
    lake: Lake,
    graph: LikeGraph,
    ids: "pl.Series",
    champion: Bundle,
    challenger: Bundle,
    *,
    held_out: float,
    override: str,
    progress: Progress,
) -> Decision:
    """Judge the challenger's bundle against one of the live model over the same likes.

    ``graph`` is what both bundles were made of, ``ids`` the id map, ``held_out`` the share it was split by.
    What was decided about the same two bundles by the same settings before is not judged again.
    """
    settings = lake.section("gate", GateSettings)
    before = _decided(lake, champion, challenger, settings)
    if before is not None:
        figures, users, counts = before.figures, before.users, before.counts
    else:
        models = [champion.model_version, challenger.model_version]
        gate = likes_never_shown_to(models, lake, graph, ids, held_out)
        asked = held_out_for_both(
            graph.matrix(),
            gate,
            common_candidates(champion, challenger),
            max_users=settings.max_users,
            seed=settings.seed,
        )
        users = asked.n_users
        compared = compare_bundles(champion, challenger, asked, settings, progress) if users else {}
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
        objection=objection_to(lake, challenger.model_version),
        override=override,
        counts=counts,
    )


def likes_never_shown_to(
    models: Sequence[str], lake: Lake, graph: LikeGraph, ids: "pl.Series", held_out: float
) -> "csr_matrix":
    """The likes of today's gate fold that none of these versions of the model can have been trained on, see
    `evaluation.gate.unseen_gate_likes`; ``ids`` and ``held_out`` as for `decide`."""
    return unseen_gate_likes(
        graph,
        ids.to_list(),
        split_key=lake.file.split_key,
        held_out=held_out,
        models=[_trained_on(lake, version, held_out, graph) for version in models],
    )


def objection_to(lake: Lake, model_version: str) -> str:
    """Why a model is refused without a comparison: it ranks worse than the most popular songs do. Else ""."""
    facts = ArrayFolder.open(lake.version_folder("models", model_version)).facts
    figure, popularity = facts["validation"], facts["validation_of_popularity"]
    if figure is None or figure >= popularity:
        return ""
    return f"MAP@10 on validation is {figure:.4f}, below the {popularity:.4f} of the most popular songs"


def unjudged(lake: Lake, champion: str, challenger: Bundle, why_not: str, override: str) -> Decision:
    """The decision to publish without a comparison, which there cannot be for the reason ``why_not``."""
    return Decision(
        champion=champion,
        challenger=challenger.model_version,
        bundle=challenger.version,
        users=0,
        figures={},
        settings=lake.section("gate", GateSettings).model_dump(mode="json"),
        objection=f"it could not be judged against the live model: {why_not}",
        override=override,
    )


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
    """What the model says of its training. Of one from before that was kept, or one that is lost and lives in
    its bundle alone, it is taken to be as today: was it shown more, it is judged too well and stays live."""
    try:
        model = ArrayFolder.open(lake.version_folder("models", model_version))
    except BundleError:
        return TrainedOn(held_out, np.asarray(graph.canonical))
    n_tracks = len(model["embeddings"])
    canonical = model["canonical"] if "canonical" in model else graph.canonical[:n_tracks]
    return TrainedOn(float(model.facts.get("held_out", held_out)), np.asarray(canonical))


def _plain(one: PairedDifference) -> dict[str, float | None]:
    values = {"champion": one.champion, "challenger": one.challenger, "low": one.low, "high": one.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
