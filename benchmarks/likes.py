"""Generated likes that look like real ones, for benchmarks that need more of them than a real set has.

Here: one function from (number of likes, seed) to a CSR. Popularity is Zipf-Mandelbrot, list lengths are
lognormal, and most of a user's likes come from two of many clusters of tracks, so that co-likes are as uneven
as in real data. The simulator of the product makes believable songs; this makes numbers, quickly.

    python benchmarks/likes.py N_LIKES FOLDER    # writes indptr.npy, indices.npy and shape.npy
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LIKES_PER_USER = 37
"""Mean length of a list; public collections of saved songs have 20 to 50."""


def generate_likes(n_likes: int, seed: int = 7) -> "csr_matrix":
    """Return exactly ``n_likes`` likes as float32 ones: users x tracks, tracks in no particular order.

    There are ``n_likes / 37`` users and ``n_likes ** 0.8`` tracks (catalogues grow more slowly than use).
    """
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    n_users = max(2, n_likes // LIKES_PER_USER)
    n_tracks = int(n_likes**0.8)
    n_clusters = max(2, n_tracks // 400)

    # Tracks lie cluster by cluster here, so that a cluster is an interval of the cumulated weights.
    cluster = np.sort(rng.integers(0, n_clusters, n_tracks))
    weight = (rng.permutation(n_tracks) + 20.0) ** -1.0
    cumulated = np.concatenate(([0.0], np.cumsum(weight)))
    bounds = cumulated[np.searchsorted(cluster, np.arange(n_clusters + 1))]
    listeners = np.cumsum(np.diff(bounds)) / bounds[-1]
    tastes = np.searchsorted(listeners, rng.random((n_users, 2))).clip(max=n_clusters - 1)
    length = rng.lognormal(0.0, 1.0, n_users).clip(0.03, 25)
    length *= n_likes / length.sum()

    keys = np.empty(0, dtype=np.int64)
    while len(keys) < n_likes:  # a user likes a track once, so some draws are lost
        drawn = rng.poisson(length * max(0.02, 1.3 * (1 - len(keys) / n_likes)))
        user = np.repeat(np.arange(n_users), drawn)
        taste = tastes[user, rng.integers(0, 2, len(user))]
        anywhere = rng.random(len(user)) < 0.25
        low = np.where(anywhere, 0.0, bounds[taste])
        high = np.where(anywhere, cumulated[-1], bounds[taste + 1])
        place = rng.random(len(user)) * (high - low) + low
        track = np.searchsorted(cumulated, place, side="right").clip(1, n_tracks) - 1
        keys = np.sort(np.concatenate((keys, user * n_tracks + track)))
        keys = keys[np.diff(keys, prepend=-1) > 0]
    keys = np.delete(keys, rng.choice(len(keys), len(keys) - n_likes, replace=False))
    user, track = keys // n_tracks, rng.permutation(n_tracks)[keys % n_tracks]
    likes = csr_matrix(
        (np.ones(n_likes, dtype=np.float32), (user.astype(np.int32), track.astype(np.int32))),
        shape=(n_users, n_tracks),
    )
    likes.sort_indices()
    return likes


def main() -> None:
    n_likes, folder = int(sys.argv[1]), Path(sys.argv[2])
    likes = generate_likes(n_likes)
    for part in ("indptr", "indices", "shape"):
        np.save(folder / f"{part}.npy", getattr(likes, part))
    print(json.dumps({"users": likes.shape[0], "tracks": likes.shape[1], "likes": likes.nnz}))


if __name__ == "__main__":
    main()
