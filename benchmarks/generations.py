"""V1, V2, V3 as it was first written, and today's model: one world, one table.

    python benchmarks/generations.py [--users 2950] [--tracks 28700] [--spotify-songs spotify_songs.csv.gz]

All are trained on the same likes: of a simulated world with about as many liked tracks and likes as the first
project had (22,481 and 125,300), or of real songs whose playlists are the users. They stop early on one fold
and are judged on another that influenced no choice, over the whole catalogue. Every model runs in a process
of its own, so that its peak memory is separate; it includes Python, torch and the data. A query is that of a
known user, answered as the model does when it serves: through the K-d tree (V1, V2), over 300 candidates
(V3), from the bundle (today's). A new user is one that no model was trained on. Times are medians. Not here:
other people's methods.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.ablation import merged
from tunegraph_pipeline.evaluation.baselines.closed_form import Popularity
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.contender import Material, Searches, TakesInUsers
from tunegraph_pipeline.evaluation.evaluate import Evaluation, HeldOut, evaluate, held_out_fold
from tunegraph_pipeline.evaluation.plots import metric_bars
from tunegraph_pipeline.generations.recommender import GenerationRanking
from tunegraph_pipeline.generations.training import GenerationConfig
from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.graph.split import GATE
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.model_registry import CONTENDERS, Settings, TuneGraph
from tunegraph_pipeline.pipeline.trained_model import training_data
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData

K = 10
HELD_OUT = 0.2
"""Share of the likes held out, half for early stopping and half for judging: ten times that of a lake,
because few held-out likes cannot distinguish models."""
NEW_USERS = 0.02
"""Share of the users no model is trained on."""

NAMES = {
    "popularity": "popularity",
    "v1": "V1",
    "v2": "V2",
    "v3_seed": "V3, as first written",
    "tunegraph": "TuneGraph",
}


@dataclass(frozen=True)
class Likes:
    """Training likes, judged likes, and the lists of users no model has seen (csr, a row per user)."""

    data: TrainingData
    held_out: HeldOut
    newcomers: csr_matrix


@dataclass(frozen=True)
class Row:
    """A model's row of the table; None where a value does not apply."""

    model: str
    values: dict[str, float]
    seconds: float | None = None
    epochs: int | None = None
    peak_mib: float | None = None
    query_ms: float | None = None
    new_user_ms: float | None = None


def likes_of(options: argparse.Namespace) -> Likes:
    if options.spotify_songs:
        batch = merged(read_files([options.spotify_songs]))
    else:
        world = World(WorldConfig(n_users=options.users, n_tracks=options.tracks))
        batch = world.crawl(date(2026, 12, 31))
    ids = batch.likes["track_id"].unique().sort()
    graph = build_like_graph(
        batch.likes, ids, split_key="generations", held_out=HELD_OUT, calibration_share=NEW_USERS
    )
    everything, known = graph.matrix(), np.flatnonzero(~graph.calibration)
    return Likes(
        training_data(graph, build_catalogue(ids, batch.tracks, batch.features, merge=False)[0]),
        held_out_fold(everything[known], graph.fold_matrix(GATE)[known]),
        everything[np.flatnonzero(graph.calibration)],
    )


def measure(name: str, options: argparse.Namespace) -> Row:
    """Train one model, judge it and time it, in a process of its own."""
    started = time.perf_counter()
    with Measured() as cost:
        likes = likes_of(options)
        popularity = np.bincount(likes.data.train.indices, minlength=likes.data.train.shape[1])
        if name == "popularity":
            floor = Popularity(BaselineConfig())
            floor.fit(likes.data.train)
            return Row(name, evaluate(name, floor.rank, likes.held_out, popularity, K).values)

        def progress(what: str, done: int, total: int) -> None:
            elapsed = time.perf_counter() - started
            print(f"\r{elapsed:6.0f} s  {what}: {done} of {total}   ", end="", file=sys.stderr, flush=True)

        epochs = {} if options.epochs is None else {"epochs": options.epochs}
        settings = Settings(
            training=TrainingConfig.model_validate(epochs),
            generations=GenerationConfig.model_validate(epochs),
        )
        model = CONTENDERS[name](settings)
        assert isinstance(model, TuneGraph | GenerationRanking)
        start = time.perf_counter()
        model.fit(Material(likes.data.train, likes.data), progress)
        seconds = time.perf_counter() - start
    search = model.search if isinstance(model, Searches) else model.rank
    new_user = model.new_user if isinstance(model, TakesInUsers) else model.rank
    values = evaluate(name, model.rank, likes.held_out, popularity, K).values
    return Row(
        name,
        values,
        seconds,
        len(model.trained.curves),
        cost.peak_mib,
        milliseconds(lambda likes: search(likes, K), likes.held_out.likes, 200),
        milliseconds(lambda likes: new_user(likes, K), likes.newcomers, 7 if name == "v2" else 50),
    )


def milliseconds(answer: Callable[[csr_matrix], object], lists: csr_matrix, n: int) -> float:
    """Median over at most n lists, one at a time; the first one, which may build a tree, is not counted.

    NaN where there are not two of them.
    """
    took = []
    for row in range(min(n + 1, lists.shape[0])):
        start = time.perf_counter()
        answer(lists[row])
        took.append(time.perf_counter() - start)
    return 1e3 * float(np.median(took[1:])) if len(took) > 1 else float("nan")


def table(rows: list[Row]) -> str:
    head = ["", f"MAP@{K}", f"recall@{K}", f"nDCG@{K}", "coverage"]
    head += ["training, s", "epochs", "peak memory, MB", "a query, ms", "a new user, ms"]
    cells = []
    for row in rows:
        quality = [f"{row.values[metric]:.4f}" for metric in ("map", "recall", "ndcg", "coverage")]
        cost = [
            "" if row.seconds is None else f"{row.seconds:,.0f}",
            "" if row.epochs is None else str(row.epochs),
            "" if row.peak_mib is None else f"{row.peak_mib * 2**20 / 1e6:,.0f}",
            "" if row.query_ms is None else f"{row.query_ms:,.2f}",
            "" if row.new_user_ms is None else f"{row.new_user_ms:,.2f}",
        ]
        cells.append([NAMES[row.model], *quality, *cost])
    return markdown_table(head, cells)


def picture(rows: list[Row]) -> bytes:
    """The qualities as bars, PNG."""
    return metric_bars([Evaluation(NAMES[row.model], K, row.values, {}, 0.0) for row in rows])


def describe(likes: Likes) -> str:
    data, held_out = likes.data, likes.held_out
    n_likes = data.train.nnz + data.targets.nnz + held_out.relevant.nnz + likes.newcomers.nnz
    warm = np.bincount(data.train.indices, minlength=data.train.shape[1]) > 0
    without = int((warm & ~np.isfinite(data.features).any(axis=1)).sum())
    return (
        f"{data.train.shape[1]:,} tracks, {data.train.shape[0]:,} users, about {n_likes:,} likes: "
        f"{data.train.nnz:,} to train on, {data.targets.nnz:,} for early stopping, {held_out.relevant.nnz:,} "
        f"of {held_out.n_users:,} users to judge on; {likes.newcomers.shape[0]} users are new. "
        f"{without:,} tracks in training have no known features."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=2950, help="of the simulated world")
    parser.add_argument("--tracks", type=int, default=28_700, help="of it, liked by somebody or not")
    parser.add_argument("--spotify-songs", type=Path, help="spotify_songs.csv.gz instead of the world")
    parser.add_argument("--epochs", type=int, help="most epochs of every model (default: its own)")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--figure", type=Path, help="draw the qualities into this PNG")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rows.append(process.submit(measure, name, options).result())
        print(f"\n{rows[-1]}", file=sys.stderr, flush=True)
    print(f"{describe(likes_of(options))}\n\n{table(rows)}\n")
    if options.figure:
        options.figure.write_bytes(picture(rows))
    new_user = {row.model: row.new_user_ms for row in rows if row.new_user_ms is not None}
    if {"v2", "tunegraph"} <= new_user.keys():
        ratio = new_user["v2"] / new_user["tunegraph"]
        print(f"a new user costs V2 {ratio:,.0f} times what they cost TuneGraph")


if __name__ == "__main__":
    main()
