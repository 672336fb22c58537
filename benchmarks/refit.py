"""What is gained, and what it costs, to refit a trained model to the likes it was judged without.

    python benchmarks/refit.py LIKES [TRACKS] [--epochs 0 1 2] [--users 20000]

Reads a file of likes, and one that describes the tracks if there is one. A tenth of the likes is hidden from
everything; of the rest, a model is trained on what a lake trains on, so without the likes for early stopping
and the gate and the users for calibration. It is then refitted to all of the rest, with each number of
passes in ``--epochs``; with none, only the neighbour weights are solved and the tracks placed by their new
neighbours. All are asked for the hidden likes by the rest of each list, over the whole catalogue, by the code
that serves. Intervals are 95 % over the users. Seconds are processor seconds of this process, one thread.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.evaluate import HeldOut, evaluate, served
from tunegraph_pipeline.evaluation.gate import paired_bootstrap
from tunegraph_pipeline.graph.csr import only
from tunegraph_pipeline.graph.id_map import extend_track_ids
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.models.arrays import ServedArrays
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.model_registry import bundle_of
from tunegraph_pipeline.pipeline.trained_model import training_data
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline.recommend.ranking import Ranker
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData, refit, train
from tunegraph_pipeline.words import counted

HIDDEN, HELD_OUT, CALIBRATION = 0.1, 0.02, 0.02
SOLVED = ("pooling_weight", "neighbour_indptr", "neighbour_indices", "neighbour_weight")
METRICS = (("map", 10), ("recall", 20))


def material(
    likes_file: Path, tracks_file: Path | None, seed: int
) -> tuple[LikeGraph, TrainingData, csr_matrix]:
    """The graph of all likes but the hidden ones, what a lake trains on of it, and the hidden likes, rows and
    columns as those of the graph."""
    (batch,) = read_files([likes_file], kind="likes")
    likes = batch.likes.select("user_id", "track_id").unique().sort("user_id", "track_id")
    ids = extend_track_ids(likes["track_id"].head(0), likes["track_id"])
    whole = build_like_graph(likes, ids, split_key="refit", held_out=0, calibration_share=0)
    drawn = np.random.default_rng(seed).random(len(likes)) < HIDDEN
    graph = build_like_graph(
        likes.filter(~drawn), ids, split_key="refit", held_out=HELD_OUT, calibration_share=CALIBRATION
    )
    there = np.isin(whole.user_ids.tolist(), graph.user_ids.tolist())
    all_likes = whole.matrix()[np.flatnonzero(there)]
    hidden = csr_matrix(all_likes - graph.matrix())
    hidden.eliminate_zeros()
    described = read_files([tracks_file])[0] if tracks_file else batch
    catalogue, _ = build_catalogue(ids, described.tracks, described.features, merge=False)
    return graph, training_data(graph, catalogue), hidden


def asked(graph: LikeGraph, hidden: csr_matrix, most: int) -> HeldOut:
    """At most ``most`` users, evenly spaced."""
    rows = np.flatnonzero(np.diff(hidden.indptr))
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return HeldOut.of(graph.matrix()[rows], only(hidden[rows], np.ones(hidden[rows].nnz, dtype=np.bool_)))


def figures(
    model: TrainedModel, arrays: ServedArrays, graph: LikeGraph, test: HeldOut
) -> dict[str, NDArray[np.float64]]:
    """The metrics of each user, by name."""
    popularity = graph.track_degrees().astype(np.int64)
    with TemporaryDirectory(prefix="tunegraph-refit-") as folder:
        ranker = Ranker(bundle_of(model, arrays, graph.matrix(), Path(folder) / "bundle"))
        return {
            f"{name}@{k}": evaluate("refit", served(ranker), test, popularity, k).per_user[name]
            for name, k in METRICS
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("likes", type=Path)
    parser.add_argument("tracks", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--users", type=int, default=20_000, help="most users asked")
    parser.add_argument("--seed", type=int, default=0, help="of what is hidden, and of the training")
    arguments = parser.parse_args()
    graph, data, hidden = material(arguments.likes, arguments.tracks, arguments.seed)
    test, config = asked(graph, hidden, arguments.users), TrainingConfig(seed=arguments.seed)
    n_hidden = int(test.n_held_out.sum())
    print(
        f"{len(graph.indices):,} likes, {data.train.nnz:,} of them to train on; {n_hidden:,} hidden likes of"
        f" {test.n_users:,} users are asked for",
        flush=True,
    )

    def tell(report: object) -> None:
        print(f"  {report}", file=sys.stderr, flush=True)

    start = time.process_time()
    with Measured() as cost:
        model = train(data, config, on_epoch=tell)
    seconds = time.process_time() - start
    print(f"training: {seconds:.0f} s, at most {cost.peak_mib:,.0f} MiB; {model.blend}", flush=True)
    # As a bundle without a refit: what only held-out likes know is recommended too.
    judged = figures(model, replace(model), graph, test)
    rows = [["as it was judged", *(f"{one.mean():.4f}" for one in judged.values()), "", "", ""]]

    def compare(name: str, arrays: ServedArrays, cost: str = "") -> None:
        found = figures(model, arrays, graph, test)
        gains = [paired_bootstrap(judged[metric], one) for metric, one in found.items()]
        means = [f"{one.mean():.4f}" for one in found.values()]
        rows.append([name, *means, *(f"{gain.low:+.4f} to {gain.high:+.4f}" for gain in gains), cost])
        print(rows[-1], flush=True)

    for epochs in arguments.epochs:
        start = time.process_time()
        with Measured() as cost:
            arrays = refit(model, data, graph.matrix(), config.model_copy(update={"refit_epochs": epochs}))
        seconds = time.process_time() - start
        assert arrays is not None
        if epochs == min(arguments.epochs):
            solved = {name: getattr(arrays, name) for name in SOLVED}
            compare("the neighbour weights alone", replace(model, **solved))
        compare(
            f"refitted, {counted(epochs, 'pass', 'passes')}",
            arrays,
            f"{seconds:.0f} s, {cost.peak_mib:,.0f} MiB",
        )
    names = [f"{name}@{k}" for name, k in METRICS]
    print(markdown_table(["", *names, *(f"gain in {name}" for name in names), "cost"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
