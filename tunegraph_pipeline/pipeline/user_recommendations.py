"""The best songs for every user of a bundle, as a table.

Here: the rows. Not here: the ranking (`recommend`).
"""

import numpy as np
import polars as pl

from tunegraph_pipeline.progress import report_progress
from tunegraph_pipeline.recommend.recommender import Recommender


def recommendations_for_everyone(recommender: Recommender, k: int) -> pl.DataFrame:
    """The ``user_recommendations`` rows of every user of the bundle."""
    bundle = recommender.bundle
    best = recommender.rank_everyone(k, progress=report_progress)
    user, place = np.nonzero(best.indices >= 0)
    tracks = pl.Series(bundle.tracks.ids.tolist(), dtype=pl.String)
    users = pl.Series(bundle.users.ids.tolist(), dtype=pl.String)
    because = pl.Series(best.because[user, place, 0])
    return pl.DataFrame(
        {
            "user_id": users.gather(user),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "track_id": tracks.gather(best.indices[user, place]),
            "score": best.scores[user, place],
            "because_track_id": tracks.gather(because.set(because < 0, None)),
        }
    ).with_columns(model_version=pl.lit(bundle.model_version), bundle_version=pl.lit(bundle.version))
