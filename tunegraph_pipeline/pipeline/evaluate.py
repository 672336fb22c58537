"""Evaluate what is served on held-out likes, and recommend for a list of users.

Here: the stage of a refresh, and the same for the command line: reading the lake, calling the pure functions
of `evaluation`, writing the rows. Not here: metrics and baselines (`evaluation`), or output (`cli`).
"""

import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines import baselines
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.evaluate import (
    Evaluation,
    HeldOut,
    comparison,
    evaluate,
    evaluation_rows,
    held_out_fold,
    held_out_pairs,
    served,
)
from tunegraph_pipeline.evaluation.plots import metric_bars
from tunegraph_pipeline.ids import all_composed
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import staged_file
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.bundle import judged_bundle
from tunegraph_pipeline.pipeline.gate import gate_likes_unseen_by
from tunegraph_pipeline.pipeline.kept_figures import has_figures
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.user_recommendations import K
from tunegraph_pipeline.progress import Measured, Progress, report_progress
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.recommend.bundle import Bundle
    from tunegraph_pipeline.recommend.recommender import Query, Recommender

SERVED = "served"
MAX_EASE_TRACKS_IN_A_REFRESH = 8_000
"""EASE takes minutes on a large catalogue, so the daily refresh judges it on smaller ones only."""


@dataclass(frozen=True)
class Judgement:
    """``evaluations``: what is served first, then the baselines; ``notes``: what a reader should know."""

    evaluations: list[Evaluation]
    notes: list[str]

    @property
    def served(self) -> Evaluation:
        return self.evaluations[0]


def run(lake: Lake, *, run_id: str) -> StageResult:
    """Judge the live bundle on the gate fold, beside the baselines, unless that was done.

    The rows name ``run_id``. Where no like is held out, the fact "not judged" says so. Raises BundleError
    where nothing is live.
    """
    from tunegraph_pipeline.recommend.recommender import Recommender

    recommender = Recommender.verified(lake.serving)
    version = recommender.bundle.version
    dataset = f"gate of {version}"
    with Measured() as cost:
        rows, judged, why_not = None, None, ""
        earlier = lake.read("evaluation") if lake.has_table("evaluation") else empty_table("evaluation")
        others = earlier.filter(pl.col("dataset") != dataset)
        if len(others) == len(earlier) or not has_figures(lake, "evaluation", version):
            try:
                judged = judge_gate(lake, recommender, k=K)
            except InputError as error:
                why_not = str(error)
            else:
                rows = evaluation_rows(judged.evaluations, dataset=dataset, split="gate", run_id=run_id)
                lake.write("evaluation", None, pl.concat([others, rows]))
    if judged is None or rows is None:
        if why_not:
            return StageResult(version, None, cost, facts={"not judged": why_not})
        return StageResult(version, "reused", cost)
    table = comparison(judged.evaluations)
    figures = ([model, *(f"{value:.4f}" for value in row)] for model, *row in table.iter_rows())
    return StageResult(
        version,
        "rebuilt",
        cost,
        rows=len(rows),
        facts={f"{name}@{K}": value for name, value in judged.served.values.items()},
        plots={"beside the baselines": partial(metric_bars, judged.evaluations)},
        tables={"figures": markdown_table(table.columns, figures)},
        notes=judged.notes,
    )


def bundle_likes(bundle: "Bundle") -> "csr_matrix":
    """The lists of a bundle as CSR (users x tracks) of float32 ones."""
    from scipy.sparse import csr_matrix

    ones = np.ones(len(bundle.user_tracks), dtype=np.float32)
    return csr_matrix((ones, bundle.user_tracks, bundle.user_indptr), shape=(bundle.n_users, bundle.n_tracks))


def judge_gate(lake: Lake, recommender: "Recommender", *, k: int) -> Judgement:
    """Judge what is served on the gate fold of the lake's own likes, beside baselines fitted to the training
    likes. Likes of the fold that a live model of an earlier day saw are left out, and a model that was
    refitted is judged as it was before.

    Raises InputError where no like is held out, or the judged model is lost.
    """
    from tunegraph_pipeline.recommend.recommender import Recommender

    graph = open_like_graph(lake)
    own = graph.canonical == np.arange(graph.n_tracks)
    gate = gate_likes_unseen_by(lake, [recommender.bundle.model_version])
    held_out = replace(held_out_fold(graph.matrix(), gate), own=own)
    config, train = BaselineConfig(ease_max_tracks=MAX_EASE_TRACKS_IN_A_REFRESH), graph.training_matrix()
    with judged_bundle(lake, recommender.bundle) as bundle:
        if bundle is None:
            raise InputError(
                f"model {recommender.bundle.model_version} is lost, and what is served of it has learned from"
                " the held-out likes"
            )
        judged = recommender if bundle is recommender.bundle else Recommender(bundle)
        found = _judge(judged, held_out, train, config, k=k, progress=report_progress)
    if judged is not recommender:
        found.notes.append("judged before the model was refitted to all likes, these included")
    return found


def judge_held_out_file(
    lake: Lake,
    recommender: "Recommender",
    pairs: "pl.DataFrame",
    origin: str,
    *,
    k: int,
    with_baselines: bool,
    run_id: str,
    progress: Progress,
) -> Judgement:
    """Judge what is served on pairs (user_id, track_id) that are not in the lake, and add the figures to the
    ``evaluation`` table. Baselines are fitted to every like of the bundle. Raises InputError where a pair is
    in the lake."""
    bundle = recommender.bundle
    likes = bundle_likes(bundle)
    held_out = held_out_pairs(
        pairs,
        user_ids=all_composed(bundle.users.ids.tolist()),
        track_ids=all_composed(bundle.tracks.ids.tolist()),
        likes=likes,
        origin=origin,
        canonical=bundle.canonical,
    )
    config = BaselineConfig() if with_baselines else None
    judged = _judge(recommender, held_out, likes, config, k=k, progress=progress)
    rows = evaluation_rows(judged.evaluations, dataset=origin, split="held_out_file", run_id=run_id)
    lake.append("evaluation", rows)
    return judged


def _judge(
    recommender: "Recommender",
    held_out: HeldOut,
    train: "csr_matrix",
    config: BaselineConfig | None,
    *,
    k: int,
    progress: Progress,
) -> Judgement:
    popularity = recommender.bundle.popularity.astype(np.int64)

    progress("served", 0, 1)
    judged = [evaluate(SERVED, served(recommender.ranker), held_out, popularity, k)]
    progress("served", 1, 1)
    likes = counted(int(held_out.n_held_out.sum()), "held-out like")
    notes = [f"judged on {counted(held_out.n_users, 'user')} and {likes}"]
    missed = {
        "of the users are not in the lake; what they are served counts": held_out.unknown_users,
        "of the held-out likes are of unknown tracks; they count as missed": held_out.unknown_tracks,
        "of the held-out likes are of recordings with several ids that the user is known to like; they count"
        " as missed": held_out.liked_already,
    }
    notes += [f"{count:,} {what}" for what, count in missed.items() if count]
    if config is not None:
        chosen, too_large = baselines(recommender.bundle.n_tracks, config)
        notes += [f"{name} was left out: {why}" for name, why in too_large.items()]
        while chosen:
            # Freed once judged: EASE holds gigabytes.
            baseline = chosen.pop(0)
            progress(f"baseline {baseline.name}", 0, 1)
            baseline.fit(train, progress)
            judged.append(evaluate(baseline.name, baseline.rank, held_out, popularity, k))
            progress(f"baseline {baseline.name}", 1, 1)
    return Judgement(judged, notes)


def recommend_for_users(
    recommender: "Recommender", users: "pl.Series", output: Path, query: "Query", *, progress: Progress
) -> int:
    """Write the answer to ``query`` for each of ``users`` to the parquet file ``output``; returns how many
    users are unknown.

    Columns: user_id of the type of ``users``, rank from 1, track_id, score. Unknown users have no rows.
    """
    bundle = recommender.bundle
    ids = users.cast(pl.String).to_list()
    known = np.flatnonzero(bundle.users.find(ids) >= 0)
    specs = [recommender.resolve(replace(query, user_id=ids[at])).spec for at in known.tolist()]
    best = recommender.ranker.rank_specs(specs, query.k, progress=progress)
    row, place = np.nonzero(best.indices >= 0)
    tracks = pl.Series(bundle.tracks.ids.tolist(), dtype=pl.String)
    rows = pl.DataFrame(
        {
            "user_id": users.gather(known[row]),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "track_id": tracks.gather(best.indices[row, place]),
            "score": best.scores[row, place],
        }
    )
    file = io.BytesIO()  # polars has its own error for a full disk; Python's is handled
    rows.write_parquet(file)
    with staged_file(output, output.parent) as draft:
        draft.write_bytes(file.getbuffer())
    return len(users) - len(known)
