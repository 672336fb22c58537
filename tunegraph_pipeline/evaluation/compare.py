"""Models side by side on one split: the quality of each, its confidence interval, and its cost.

Here: judging one fitted contender on one split, and the tables that come out. Not here: the splits
(`splits`), the models (`pipeline.model_registry`), training all of them on a lake and sampling memory
(`pipeline.compare`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.bootstrap import Interval, intervals
from tunegraph_pipeline.evaluation.contender import Contender, Material, Searches, TakesInUsers
from tunegraph_pipeline.evaluation.evaluate import check_ranking
from tunegraph_pipeline.evaluation.metrics import (
    BANDS,
    catalogue_metrics,
    intra_list_distance,
    novelty,
    popularity_bands,
    r_precision,
    relevance,
    user_metrics,
)
from tunegraph_pipeline.evaluation.splits import RanksKnown, Split
from tunegraph_pipeline.graph.csr import only
from tunegraph_pipeline.graph.like_ages import moments_of
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.markdown import markdown_table

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.training.train import TrainingData

R_PRECISION_PLACES = 100
"""Most places that R-precision considers, however many likes of a user were held out."""
EARLY_STOPPING_SHARE = 0.01
"""Share of the training likes used for early stopping and the blend, as in a refresh."""
_TIMED_QUERIES = 50
_TIMED_SECONDS = 2.0


@dataclass(frozen=True)
class Cost:
    """What a model cost: seconds to train, MiB of memory above what was used before (NaN where not measured),
    median milliseconds for one list of a user it knows and of one it has never seen."""

    training_seconds: float
    peak_mib: float
    query_ms: float
    new_user_ms: float


@dataclass(frozen=True)
class Outcome:
    """The quality and cost of one model on one split, with one seed.

    ``values``: one per metric, user metrics averaged over all judged users; ``per_user``: float64[m] for each
    user metric; ``bands``: recall@k of the held-out likes in each popularity band, averaged over the users
    who have any there, NaN where nobody has.
    """

    model: str
    protocol: str
    k: int
    seed: int
    values: dict[str, float]
    per_user: dict[str, NDArray[np.float64]]
    bands: dict[str, float]
    cost: Cost


def material_of(split: Split, known: TrainingData, seed: int) -> Material:
    """What the models may learn from on ``split``: ``known`` with the likes replaced.

    `EARLY_STOPPING_SHARE` of the training likes, drawn by ``seed``, are for early stopping.
    """
    from scipy.sparse import csr_matrix

    train = split.train
    drawn = np.random.default_rng([seed, 1]).random(train.nnz) < EARLY_STOPPING_SHARE
    targets, rest = only(train, drawn), only(train, ~drawn)
    users = np.flatnonzero(np.diff(targets.indptr))
    data = replace(known, train=rest, context=csr_matrix(rest[users]), targets=csr_matrix(targets[users]))
    moments = None
    if split.order is not None:
        moments = moments_of(train, split.order, drawn, drawn)
    return Material(train, data, split.ages, moments)


def judge(
    name: str,
    model: Contender,
    split: Split,
    *,
    k: int,
    seed: int,
    training_seconds: float = float("nan"),
    peak_mib: float = float("nan"),
) -> Outcome:
    """Rank for every user of ``split``, judge the first k, and time single queries.

    Raises ValueError for a ranking that repeats a track or recommends a known like.
    """
    held_out = split.held_out
    depth = max(k, min(R_PRECISION_PLACES, int(held_out.n_held_out.max()), split.train.shape[1]))
    ranked = split.ranking(model)(held_out.likes, depth)
    check_ranking(name, ranked, held_out.likes, depth)
    popularity = np.bincount(split.train.indices, minlength=split.train.shape[1]).astype(np.int64)
    per_user = user_metrics(ranked, held_out.relevant, held_out.n_held_out, k)
    per_user["r_precision"] = r_precision(ranked, held_out.relevant, held_out.n_held_out)
    values = {metric: float(figures.mean()) for metric, figures in per_user.items()}
    values |= catalogue_metrics(ranked, popularity, k, held_out.own)
    values["novelty"] = novelty(ranked, popularity, k)
    values["distance"] = intra_list_distance(ranked, split.train.T.tocsr(), k)
    bands = _recall_by_band(ranked[:, :k], held_out.relevant, popularity_bands(popularity))
    cost = Cost(training_seconds, peak_mib, *_times(model, split, k))
    return Outcome(name, split.name, k, seed, values, per_user, bands, cost)


def _recall_by_band(
    ranked: NDArray[np.int32], relevant: csr_matrix, bands: NDArray[np.int8]
) -> dict[str, float]:
    hits = relevance(ranked, relevant)
    found: dict[str, float] = {}
    for number, band in enumerate(BANDS):
        inside = bands == number
        wanted = relevant @ inside.astype(np.float64)
        got = (hits & inside[ranked]).sum(axis=1)
        some = wanted > 0
        found[band] = float((got[some] / wanted[some]).mean()) if some.any() else float("nan")
    return found


def _times(model: Contender, split: Split, k: int) -> tuple[float, float]:
    """Milliseconds for a query and for a new user, each answered as the model does when it serves."""
    everyone, known = np.arange(len(split.users)), np.flatnonzero(split.users >= 0)
    arrive = model.new_user if isinstance(model, TakesInUsers) else model.rank
    new_user_ms = _milliseconds(lambda row, likes: arrive(likes, k), split, everyone)
    if isinstance(model, Searches):
        search = model.search
        return _milliseconds(lambda row, likes: search(likes, k), split, everyone), new_user_ms
    if isinstance(model, RanksKnown) and known.size:
        rank_known = model.rank_known
        return _milliseconds(
            lambda row, likes: rank_known(split.users[[row]], likes, k), split, known
        ), new_user_ms
    return new_user_ms, new_user_ms


def _milliseconds(
    answer: Callable[[int, csr_matrix], object], split: Split, users: NDArray[np.int64]
) -> float:
    """Median time of one list over evenly spaced users, after a warm-up query."""
    chosen = users[np.linspace(0, len(users) - 1, min(_TIMED_QUERIES, len(users))).astype(np.int64)]
    taken: list[float] = []
    began = perf_counter()
    for row in (chosen[0], *chosen):
        likes = split.held_out.likes[[row]]
        started = perf_counter()
        answer(row, likes)
        taken.append(1000 * (perf_counter() - started))
        if perf_counter() - began > _TIMED_SECONDS and len(taken) > 1:
            break
    return float(np.median(taken[1:]))


# --- tables ---


def outcome_rows(outcomes: Sequence[Outcome], *, dataset: str, run_id: str) -> pl.DataFrame:
    """The rows of the ``evaluation`` table, one for each model, protocol, seed and metric with a value."""
    rows = []
    for one in outcomes:
        split, seconds = f"{one.protocol}, seed {one.seed}", one.cost.training_seconds
        figures = one.values | {f"recall of {band}": value for band, value in one.bands.items()}
        rows += [
            (one.model, dataset, split, metric, one.k, value, seconds, run_id)
            for metric, value in figures.items()
            if np.isfinite(value)
        ]
    return pl.DataFrame(rows, empty_table("evaluation").schema, orient="row")


def behind(outcomes: Sequence[Outcome], metric: str = "map") -> dict[str, Interval]:
    """How far each model of one protocol is from the first one, per user and with the first seed.

    Negative where it is behind; the intervals are paired.
    """
    reference, *others = [one for one in outcomes if one.seed == outcomes[0].seed]
    if not others:
        return {}
    differences = [one.per_user[metric] - reference.per_user[metric] for one in others]
    found = intervals(np.stack(differences))
    return {one.model: interval for one, interval in zip(others, found, strict=True)}


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The tables of one protocol: quality and cost, then catalogue metrics and recall by popularity.

    ``outcomes`` are in the order of the table, the seeds of a model among them. Everything but the last four
    columns of the first table is the same for the same likes, settings and seeds.
    """
    by_model: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_model.setdefault(one.model, []).append(one)
    return f"{_quality_and_cost(by_model, behind(outcomes))}\n\n{_effect_on_the_catalogue(by_model)}"


def _quality_and_cost(by_model: dict[str, list[Outcome]], difference: dict[str, Interval]) -> str:
    first = [runs[0] for runs in by_model.values()]
    sure = intervals(np.stack([one.per_user["map"] for one in first]))
    several = len(next(iter(by_model.values()))) > 1
    best = max(by_model, key=lambda name: _mean(by_model[name], "map"))
    k = first[0].k
    head = ["model", f"MAP@{k}", "95 %", *(["± seeds"] if several else []), f"MAP@{k} − {first[0].model}"]
    head += [f"recall@{k}", f"nDCG@{k}", f"hit rate@{k}", "R-precision"]
    head += ["training, s", "peak, MiB", "query, ms", "new user, ms"]
    rows = []
    for (name, runs), interval in zip(by_model.items(), sure, strict=True):
        mark = "**" if name == best else ""
        apart = difference.get(name)
        rows.append(
            [
                f"{mark}{name}{mark}",
                f"{mark}{_mean(runs, 'map'):.4f}{mark}",
                f"{interval.low:.4f} … {interval.high:.4f}",
                *([f"{np.std([one.values['map'] for one in runs]):.4f}"] if several else []),
                "" if apart is None else f"{apart.mean:+.4f} ({apart.low:+.4f} … {apart.high:+.4f})",
                *(f"{_mean(runs, metric):.4f}" for metric in ("recall", "ndcg", "hit_rate", "r_precision")),
                _figure(np.median([one.cost.training_seconds for one in runs]), 1),
                _figure(np.median([one.cost.peak_mib for one in runs]), 0),
                _figure(np.median([one.cost.query_ms for one in runs]), 2),
                _figure(np.median([one.cost.new_user_ms for one in runs]), 2),
            ]
        )
    return markdown_table(head, rows)


_OF_THE_CATALOGUE = {
    "coverage": "coverage",
    "gini": "Gini",
    "novelty": "novelty, bits",
    "distance": "distance in a list",
}


def _effect_on_the_catalogue(by_model: dict[str, list[Outcome]]) -> str:
    k = next(iter(by_model.values()))[0].k
    head = ["model", *_OF_THE_CATALOGUE.values(), *(f"recall@{k}, {band}" for band in BANDS)]
    rows = []
    for name, runs in by_model.items():
        figures = [_mean(runs, metric) for metric in _OF_THE_CATALOGUE]
        figures += [float(np.mean([one.bands[band] for one in runs])) for band in BANDS]
        rows.append([name, *(_figure(value, 4) for value in figures)])
    return markdown_table(head, rows)


def _mean(runs: Sequence[Outcome], metric: str) -> float:
    return float(np.mean([one.values[metric] for one in runs]))


def _figure(value: float | np.floating, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:,.{digits}f}"


def put_section(text: str, title: str, section: str) -> str:
    """``text`` with the body of its section ``## title`` replaced by ``section``, or put at its end."""
    parts = text.split("\n## ")
    body = title + "\n\n" + section.strip("\n") + "\n"
    for number, part in enumerate(parts[1:], 1):
        if part.splitlines()[0] == title:
            parts[number] = body
            return "\n## ".join(parts)
    return "\n## ".join([text.rstrip("\n") + "\n", body])
