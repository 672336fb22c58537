"""What recommendations for everybody cost in a large catalogue: processor time and memory a user.

    python benchmarks/everyone.py --folder FOLDER [--tracks 1e6] [--users 8192]

Invents a bundle with an index: embeddings in 256 dimensions, of scenes within genres, with 100 cached
neighbours a song, most of them of its scene, and lists of which most is of two scenes and the rest of
anywhere. FOLDER keeps it for the next run; a million songs take 3 GB and some minutes. Then it makes the rows
of `user_recommendations`, as a refresh does, and compares some users with the exact ranking. Beside the cost
stands the least that those answers need: the embeddings of the liked songs and the rows of their neighbours,
copied by numpy. Exits 1 where a user takes more than 2 ms of processor time, where memory grows with the
users, or where less than 99 % of the best are found. Not here: single queries, and other libraries
(`ann.py`).
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from tunegraph_pipeline.pipeline.user_recommendations import recommendations_for_everyone
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.indexing import add_index, recall_of
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline.recommend.recommender import Recommender

DIMENSION, NEIGHBOURS, MEAN = 256, 100, 37
SCENE, GENRE = 250, 40
"""Songs of a scene, and scenes of a genre."""
K = 10
KS = (10, 100)
JUDGED = 300
MOST_MS, MOST_GROWTH_MIB, RECALL = 2.0, 64.0, 0.99

Floats = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tracks", type=float, default=1e6)
    parser.add_argument("--users", type=int, default=8192)
    arguments = parser.parse_args()
    n_tracks, n_users = int(arguments.tracks), arguments.users
    home = arguments.folder / f"everyone-{n_tracks}-{n_users}"
    if not (home / "manifest.json").exists():
        start = time.process_time()
        write_bundle(home, invented(n_tracks, n_users, home.name), lambda at: {"index": add_index(at)})
        print(f"the bundle took {time.process_time() - start:.0f} processor seconds", flush=True)
    recommender = Recommender(Bundle.open(home))
    bundle, index = recommender.bundle, recommender.ranker
    print(f"{bundle.facts['index']['probes']} of {bundle.facts['index']['lists']} lists", flush=True)

    start, done, memory, said = time.process_time(), 0, [anonymous_mib()], []
    for rows in recommendations_for_everyone(recommender, K):
        done += rows["user_id"].n_unique()
        memory.append(anonymous_mib())
        said.append(f"{memory[-1]:,.0f} MiB after {done:,} users")
    ms = (time.process_time() - start) / n_users * 1e3
    bound = copied(bundle, n_users) / n_users * 1e3
    print(f"{ms:.2f} ms of processor time a user; copying their rows takes {bound:.2f} ms")
    print(f"memory of its own: {memory[0]:,.0f} MiB before, {', '.join(said)}", flush=True)
    growth = memory[-1] - memory[1]

    exact, lists = Ranker(bundle), [bundle.user_list(user) for user in range(JUDGED)]
    specs = [QuerySpec(liked) for liked in lists]
    start = time.process_time()
    truth = exact.rank_specs(specs, max(KS)).indices
    print(f"exact: {(time.process_time() - start) / JUDGED * 1e3:.1f} ms a user")
    worst = 1.0
    for k in KS:
        start = time.process_time()
        found = index.rank_specs(specs, k).indices
        took = (time.process_time() - start) / JUDGED * 1e3
        recall = recall_of(list(found), list(truth[:, :k]))
        worst = min(worst, recall)
        print(f"the best {k}: {recall:.4f} of the exact ones, {took:.2f} ms a user")
    return int(ms > MOST_MS or growth > MOST_GROWTH_MIB or worst < RECALL)


def anonymous_mib() -> float:
    """The memory of this process but for mapped files, of which the system keeps what fits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def copied(bundle: Bundle, n_users: int) -> float:
    """Seconds that copying the rows of all liked songs takes, of embeddings and neighbours."""
    start = time.process_time()
    for user in range(n_users):
        liked = bundle.user_list(user)
        _ = bundle.embeddings[liked]
        for track in liked.tolist():
            row = slice(bundle.neighbour_indptr[track], bundle.neighbour_indptr[track + 1])
            _ = bundle.neighbour_indices[row].copy(), bundle.neighbour_weight[row].copy()
    return time.process_time() - start


def invented(n_tracks: int, n_users: int, version: str) -> BundleContent:
    """The content of a bundle in which songs are of scenes, and scenes of genres."""
    rng = np.random.default_rng(1)
    n_scenes = max(2, n_tracks // SCENE)
    scene = np.sort(rng.integers(0, n_scenes, n_tracks))
    weight = (rng.permutation(n_tracks) + 50.0) ** -0.8
    popularity = rng.poisson(17 * weight * n_tracks / weight.sum()).astype(np.int32) + 1
    embeddings = embedded(scene, n_scenes, rng)
    indptr, indices, strength = neighbours_of(embeddings, scene, weight, rng)
    user_indptr, user_tracks = lists_of(scene, n_scenes, weight, n_users, rng)
    nothing = [""] * n_tracks
    return BundleContent(
        track_ids=[f"{track:022x}" for track in range(n_tracks)],
        embeddings=embeddings,
        pooling_weight=(1.0 / np.sqrt(popularity + 5.0)).astype(np.float32),
        popularity=popularity,
        recommendable=np.ones(n_tracks, dtype=np.bool_),
        prior=(0.01 * np.log1p(popularity)).astype(np.float32),
        neighbour_indptr=indptr,
        neighbour_indices=indices,
        neighbour_weight=strength,
        user_ids=[f"user {user}" for user in range(n_users)],
        user_indptr=user_indptr,
        user_tracks=user_tracks,
        names=nothing,
        artists=nothing,
        image_urls=nothing,
        preview_urls=nothing,
        facts={
            "bundle_version": version,
            "model_version": "invented",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.5},
        },
    )


def embedded(scene: NDArray[Any], n_scenes: int, rng: np.random.Generator) -> Floats:
    """Unit vectors, float32[N, d]: along principal axes, ever shorter ones."""
    spectrum = ((np.arange(DIMENSION) + 4.0) ** -0.6).astype(np.float32)
    genres = rng.standard_normal((n_scenes // GENRE + 1, DIMENSION), dtype=np.float32)
    centres = 0.7 * genres[rng.integers(0, len(genres), n_scenes)]
    centres += 0.7 * rng.standard_normal((n_scenes, DIMENSION), dtype=np.float32)
    rows = np.empty((len(scene), DIMENSION), dtype=np.float32)
    for start in range(0, len(scene), 1 << 16):
        block = scene[start : start + (1 << 16)]
        some = rng.standard_normal((len(block), DIMENSION), dtype=np.float32)
        some = (some + centres[block]) * spectrum
        rows[start : start + len(block)] = some / np.linalg.norm(some, axis=1, keepdims=True)
    return rows


def neighbours_of(
    embeddings: Floats, scene: NDArray[Any], weight: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
    """Cached rows: nine tenths of a row are the nearest of the scene, as far as it has them; the rest is of
    anywhere."""
    n = len(scene)
    starts = np.searchsorted(scene, np.arange(scene[-1] + 2))
    cumulated = np.cumsum(weight) / weight.sum()
    lengths, indices, strength = [], [], []
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        block = embeddings[first:last]
        cosines = block @ block.T
        np.fill_diagonal(cosines, -2)
        near = min(NEIGHBOURS * 9 // 10, max(0, last - first - 1))
        order = (
            np.argpartition(-cosines, near - 1, axis=1)[:, :near]
            if near
            else np.zeros((last - first, 0), int)
        )
        far = np.searchsorted(cumulated, rng.random((last - first, NEIGHBOURS // 10))).clip(max=n - 1)
        for row in range(last - first):
            some = np.unique(np.concatenate([first + order[row], far[row]]))
            indices.append(some.astype(np.int32))
            lengths.append(len(some))
            strength.append(rng.exponential(0.01, len(some)).astype(np.float32))
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return indptr, np.concatenate(indices), np.concatenate(strength)


def lists_of(
    scene: NDArray[Any], n_scenes: int, weight: NDArray[Any], n_users: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lists as `likes.py` makes them: lognormal lengths, three quarters of a list of two scenes."""
    cumulated = np.concatenate([[0.0], np.cumsum(weight)])
    bounds = cumulated[np.searchsorted(scene, np.arange(n_scenes + 1))]
    lengths = rng.lognormal(0.0, 1.0, n_users).clip(0.05, 25)
    lengths *= MEAN / lengths.mean()
    lists = []
    for length in rng.poisson(lengths).clip(min=1).tolist():
        of = rng.integers(0, n_scenes, 2)[rng.integers(0, 2, length)]
        anywhere = rng.random(length) < 0.25
        low = np.where(anywhere, 0.0, bounds[of])
        high = np.where(anywhere, cumulated[-1], bounds[of + 1])
        place = low + rng.random(length) * (high - low)
        liked = np.searchsorted(cumulated, place, side="right").clip(1, len(scene)) - 1
        lists.append(np.unique(liked).astype(np.int32))
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return indptr, np.concatenate(lists)


if __name__ == "__main__":
    sys.exit(main())
