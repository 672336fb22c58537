"""What a step of training costs in a large catalogue: processor time and memory.

    python benchmarks/training_step.py [--likes 3.1e7] [--steps 3]
    python benchmarks/training_step.py --products

Invents likes (31 million are of 838,000 users and a million songs), builds the graph of strongest neighbours,
and takes steps of 1,024 users in 256 dimensions, without content. Beside them stands the least that such a
step has to move: its rows of ids, means and gradients, copied by numpy. Exits 1 where the cheapest step takes
more than 2 processor seconds, or the process more than 6 GiB.

``--products`` times the two largest parts of a step over 20,000 songs, one thread, by turns: the softmax in
float32 and in bfloat16, with how far apart their gradients are, and messages along the graph beside torch's
own sparse product. Not here: how good the model gets
(`ablation.py`).
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.likes import generate_likes
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.models.encoder import TrackEncoder, propagation_graph
from tunegraph_pipeline.models.sparse import sparse_product, torch_csr
from tunegraph_pipeline.training.adam import Adam
from tunegraph_pipeline.training.kept_memory import kept_memory
from tunegraph_pipeline.training.objective import ScoreMemory, set_contrastive, split_lists
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData, _Epochs

USERS = 1024
MOST_SECONDS, MOST_GIB = 2.0, 6.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--likes", type=float, default=3.1e7)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--products", action="store_true")
    arguments = parser.parse_args()
    if arguments.products:
        return products()
    config = TrainingConfig(full_softmax_tracks=1)
    likes = generate_likes(int(arguments.likes))
    n_users, n_tracks = likes.shape
    print(f"{likes.nnz:,} likes of {n_users:,} users, {n_tracks:,} songs", flush=True)
    neighbours = strongest_neighbours(likes, config.graph_neighbours)
    graph = propagation_graph(neighbours, config.graph_neighbours)
    del neighbours
    rng = np.random.default_rng(0)
    warm = np.bincount(likes.indices, minlength=n_tracks) > 0
    encoder = TrackEncoder(
        0.06 * rng.standard_normal((n_tracks, config.dimension), dtype=np.float32),
        warm,
        None,
        None,
        graph,
        kind="propagation",
        layers=config.layers,
        heads=config.heads,
        seed=0,
    )
    data = TrainingData(
        likes,
        likes[:0],
        likes[:0],
        np.full((n_tracks, 11), np.nan, dtype=np.float32),
        csr_matrix(np.zeros((n_tracks, 0), dtype=np.bool_)),
        np.full(n_tracks, -1, dtype=np.int32),
    )
    optimiser = Adam(encoder.parameters(), config.learning_rate)
    weight = np.ones(n_tracks, dtype=np.float32)
    epochs = _Epochs(data, config, encoder, optimiser, weight, config.learning_rate, None, None, "training")
    scratch = ScoreMemory.of(USERS, config.sampled_tracks, getattr(torch, config.precision_here()))
    generator = torch.Generator().manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = []
    with kept_memory():
        for number in range(arguments.steps):
            users = np.sort(rng.choice(n_users, USERS, replace=False))
            start = time.process_time()
            optimiser.zero_grad()
            epochs._step([users], scratch, rng, generator)
            optimiser.step()
            seconds.append(time.process_time() - start)
            assert encoder.id.grad is not None
            rows = encoder.id.grad._nnz()
            print(f"step {number + 1}: {seconds[-1]:.2f} processor seconds, {rows:,} rows of ids", flush=True)
    start = time.process_time()
    for _ in range(6):  # ids read and written, means read and written, gradients written and read
        np.copy(encoder.id.detach().numpy()[:rows])
    bound = time.process_time() - start
    best, peak = min(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"copying those rows six times: {bound:.2f} s; a step takes {best / bound:.1f} times as much")
    print(f"{peak:.1f} GiB at most, {before:.1f} of them before the first step")
    return int(best > MOST_SECONDS or peak > MOST_GIB)


def products() -> int:
    """Time the products of a step over 20,000 songs, each the least of five."""
    torch.set_num_threads(1)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    n_tracks, dimension, length, neighbours = 20_000, 256, 24, 80
    unit = torch.nn.functional.normalize(torch.randn(n_tracks, dimension, generator=generator))
    liked = np.concatenate([rng.choice(n_tracks, length, replace=False) for _ in range(USERS)])
    rows = np.arange(USERS + 1) * length
    likes = csr_matrix((np.ones(len(liked), np.float32), liked, rows), shape=(USERS, n_tracks))
    context, targets = split_lists(likes, np.ones(n_tracks, np.float32), rng)
    gradients = []
    for precision in (torch.float32, torch.bfloat16):
        memory = ScoreMemory.of(USERS, n_tracks, precision)
        found, seconds = least(partial(set_contrastive, unit, context, targets, 0.07, scratch=memory))
        gradients.append(found.embeddings)
        print(f"softmax in {precision}: {seconds:.3f} processor seconds")
    apart = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    print(f"  their gradients are {float(apart):.2%} apart")
    near = np.sort(rng.integers(n_tracks, size=(n_tracks, neighbours)), axis=1).ravel()
    rows = np.arange(n_tracks + 1) * neighbours
    graph = csr_matrix((rng.random(len(near), np.float32), near, rows), shape=(n_tracks, n_tracks))
    graph.sum_duplicates()
    matrix = torch_csr(graph)
    _, ours = least(partial(sparse_product, matrix, unit))
    _, theirs = least(partial(torch.matmul, matrix, unit))
    print(f"messages: {ours:.3f} processor seconds, {ours / theirs:.2f} times torch's sparse product")
    exact = sparse_product(matrix, unit)
    found, rounded = least(partial(sparse_product, matrix, unit, torch.bfloat16))
    apart = (found - exact).norm() / exact.norm()
    print(f"  in bfloat16: {rounded:.3f} processor seconds, {float(apart):.2%} apart")
    return 0


def least(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` returns, and the fewest processor seconds of five calls."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        found = work()
        seconds.append(time.process_time() - start)
    return found, min(seconds)


if __name__ == "__main__":
    sys.exit(main())
