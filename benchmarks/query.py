"""One user's query against numpy's plain ``E @ q``, in the same run, and the ranking of many users.

    python benchmarks/query.py [--bundle DIR] [--users 10000] [--rounds 300]

Printed is the ratio of the medians of a stored user's query and of the product, with one BLAS thread, as each
of several serving processes has, and with all of them; the exit code is 1 where the latter is above the
target. Without ``--bundle`` a synthetic bundle of the size of the 2018 playlists is made: 20,635 tracks,
d=256, 100 cached neighbours a track, long-tailed popularity, lists of 23 songs on average.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender

TARGET = 2.0  # times the median of E @ q
N_TRACKS, DIMENSION, NEIGHBOURS, N_USERS, MEAN_LIST = 20_635, 256, 100, 10_000, 23


def synthetic_content(rng: np.random.Generator) -> BundleContent:
    """A bundle whose sizes and tails are those of real playlists; its songs are noise."""
    popularity = np.floor(5_000 * (np.arange(N_TRACKS) + 5.0) ** -0.75 + 2).astype(np.int32)
    rng.shuffle(popularity)
    share = popularity / popularity.sum()
    embeddings = rng.standard_normal((N_TRACKS, DIMENSION), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    # Every candidate keeps 100 liked tracks, popular ones more often: so their rows are the long ones.
    reach = np.cumsum(np.sqrt(share) / np.sqrt(share).sum())
    liked = np.minimum(np.searchsorted(reach, rng.random(N_TRACKS * NEIGHBOURS)), N_TRACKS - 1)
    candidate = np.repeat(np.arange(N_TRACKS), NEIGHBOURS)
    cells = np.unique(liked * N_TRACKS + candidate)
    rows, columns = np.divmod(cells, N_TRACKS)
    sizes = np.minimum(1 + rng.geometric(1 / (MEAN_LIST - 1), N_USERS), 500)
    picks = np.minimum(np.searchsorted(np.cumsum(share), rng.random(sizes.sum())), N_TRACKS - 1)
    pairs = np.unique(np.repeat(np.arange(N_USERS), sizes) * N_TRACKS + picks)
    users, tracks = np.divmod(pairs, N_TRACKS)
    return BundleContent(
        track_ids=[f"{track:022x}" for track in range(N_TRACKS)],
        embeddings=embeddings,
        pooling_weight=(popularity**-0.25).astype(np.float32),
        popularity=popularity,
        recommendable=np.ones(N_TRACKS, dtype=np.bool_),
        prior=(0.05 * np.log(popularity)).astype(np.float32),
        neighbour_indptr=np.searchsorted(rows, np.arange(N_TRACKS + 1)).astype(np.int64),
        neighbour_indices=columns.astype(np.int32),
        neighbour_weight=rng.random(len(columns), dtype=np.float32),
        user_ids=[f"user {user}" for user in range(N_USERS)],
        user_indptr=np.searchsorted(users, np.arange(N_USERS + 1)).astype(np.int64),
        user_tracks=tracks.astype(np.int32),
        names=[f"Song {track}" for track in range(N_TRACKS)],
        artists=[f"Artist {track // 7}" for track in range(N_TRACKS)],
        image_urls=[""] * N_TRACKS,
        preview_urls=[""] * N_TRACKS,
        facts={
            "bundle_version": "synthetic",
            "model_version": "noise",
            "blend": {"embedding": 8.0, "neighbour": 10.0, "length_exponent": 0.5},
        },
    )


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(bundle: Bundle, rounds: int, rng: np.random.Generator, threads: int) -> float:
    """Time the query and its peers in turn, so that all see the same neighbours on the machine."""
    recommender = Recommender(bundle)
    embeddings = bundle.embeddings
    users = rng.choice(bundle.n_users, size=rounds)
    lists = [bundle.user_list(user) for user in users.tolist()]
    likes = [[bundle.tracks[track] for track in tracks.tolist()] for tracks in lists]
    directions = embeddings[rng.integers(bundle.n_tracks, size=rounds)]
    ids = [bundle.users[user] for user in users.tolist()]
    peers: dict[str, list[float]] = {
        "a stored user": [],
        "a list of ids": [],
        "E @ q": [],
        "E @ q + argpartition": [],
    }

    def partitioned(direction: NDArray[np.float32]) -> NDArray[np.intp]:
        return np.argpartition(embeddings @ direction, -10)[-10:]

    for warm in range(10):  # maps the pages and wakes the threads of BLAS
        recommender.recommend_user(ids[warm % rounds], 10)
        partitioned(directions[warm % rounds])
    for user, given, direction in zip(ids, likes, directions, strict=True):
        peers["a stored user"].append(seconds(partial(recommender.recommend_user, user, 10)))
        peers["a list of ids"].append(seconds(partial(recommender.recommend, given, 10)))
        peers["E @ q"].append(seconds(partial(np.matmul, embeddings, direction)))
        peers["E @ q + argpartition"].append(seconds(partial(partitioned, direction)))
    ratio = float(np.median(peers["a stored user"]) / np.median(peers["E @ q"]))
    print(f"query / plain matvec: {ratio:.2f} (target at most {TARGET}), {threads} BLAS threads")
    likes_a_user = np.mean([len(tracks) for tracks in lists])
    print(f"{bundle.n_tracks:,} tracks, d={bundle.dimension}, {likes_a_user:.1f} likes a user,")
    print(f"{bundle.neighbour_indices.size:,} cached neighbours; 10 named songs with reasons out")
    for name, times in peers.items():
        p50, p99 = np.percentile(times, [50, 99]) * 1e3
        print(f"  {name:<22} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms")
    return ratio


def measure_everyone(bundle: Bundle, n_users: int) -> None:
    recommender = Recommender(bundle)
    lists = [bundle.user_list(user % bundle.n_users) for user in range(n_users)]
    for explain in (False, True):
        took = seconds(partial(recommender.rank_indices, lists, 10, explain=explain))
        what = "with reasons" if explain else "without reasons"
        print(f"  {n_users:,} users ranked {what}: {took:.1f} s, {took / n_users * 1e6:.0f} µs a user")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="a bundle folder (default: a synthetic one)")
    parser.add_argument("--users", type=int, default=10_000, help="how many to rank in one call; 0 for none")
    parser.add_argument("--rounds", type=int, default=300, help="queries timed")
    options = parser.parse_args()
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundle
        if folder is None:
            folder = Path(scratch) / "synthetic"
            write_bundle(folder, synthetic_content(rng))
        bundle = Bundle.open(folder)
        with threadpool_limits(1, user_api="blas"):  # as in one of several serving processes
            measure(bundle, options.rounds, rng, 1)
        ratio = measure(bundle, options.rounds, rng, os.cpu_count() or 1)
        if options.users:
            measure_everyone(bundle, options.users)
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
