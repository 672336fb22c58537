"""How long a query takes, compared with the matrix product it always needs.

Here: timing the recommender that is served. Not here: its quality (`evaluate`), or services under load
(`benchmarks/serving.py`).
"""

import time
from dataclasses import dataclass

import numpy as np

from tunegraph_pipeline.recommend.recommender import Recommender


@dataclass(frozen=True)
class QueryTimes:
    """Milliseconds of ``queries`` queries; ``product_ms`` is the median of ``E @ q``, the product of all
    embeddings with a vector, timed in turn with the queries."""

    queries: int
    p50_ms: float
    p99_ms: float
    product_ms: float

    @property
    def ratio(self) -> float:
        """Median query over median product."""
        return self.p50_ms / self.product_ms


def query_times(recommender: Recommender, *, queries: int = 200, k: int = 10, seed: int = 0) -> QueryTimes:
    """Time ``queries`` queries of random stored users, song names and reasons included, with one BLAS thread,
    as in a worker of the service. Where no user is stored, each query is for one random song."""
    from threadpoolctl import threadpool_limits

    bundle = recommender.bundle
    rng = np.random.default_rng(seed)
    users = rng.integers(bundle.n_users, size=queries).tolist() if bundle.n_users else []
    asked = [[bundle.tracks[track] for track in bundle.user_list(user).tolist()] for user in users]
    if not users and bundle.n_tracks:
        asked = [[bundle.tracks[int(track)]] for track in rng.integers(bundle.n_tracks, size=queries)]
    direction = np.ones(bundle.dimension, dtype=np.float32)
    took = np.empty((2, len(asked)))
    with threadpool_limits(1, user_api="blas"):
        for warm in asked[:5]:  # maps the pages
            recommender.recommend(warm, k)
        for row, likes in enumerate(asked):
            start = time.perf_counter()
            recommender.recommend(likes, k)
            between = time.perf_counter()
            bundle.embeddings @ direction
            took[:, row] = between - start, time.perf_counter() - between
    p50, p99 = np.percentile(took[0], [50, 99]) * 1e3 if asked else (np.nan, np.nan)
    product = float(np.median(took[1])) * 1e3 if asked else np.nan
    return QueryTimes(len(asked), float(p50), float(p99), product)
