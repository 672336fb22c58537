"""The best songs for every user of a bundle, as a table.

Here: the stage and its rows. Not here: the ranking (`recommend`).
"""

import numpy as np
import polars as pl

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured, report_progress
from tunegraph_pipeline.recommend.recommender import Recommender

K = 10
"""How many songs each user gets in the table, and how many are judged."""


def run(lake: Lake) -> StageResult:
    """Write the table of the live bundle, unless it is there. Raises BundleError where nothing is live."""
    recommender = Recommender.verified(lake.serving)
    version = recommender.bundle.version
    with Measured() as cost:
        reused = lake.inputs_of("user_recommendations", version) == version
        if not reused:
            rows = recommendations_for_everyone(recommender, K)
            lake.write("user_recommendations", version, rows, inputs=version)
            lake.keep_partitions("user_recommendations", version)
    return StageResult(
        version,
        "reused" if reused else "rebuilt",
        cost,
        rows=lake.row_count("user_recommendations", version),
        facts={"bundle version": version},
    )


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
