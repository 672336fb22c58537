"""The best songs for every user of a bundle, as a table.

Here: the stage and its rows. Not here: the ranking (`recommend`).
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.text_columns import as_series
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
            with lake.draft("user_recommendations", version) as table:
                table.inputs = version
                for rows in recommendations_for_everyone(recommender, K):
                    table.append(rows)
            lake.keep_partitions("user_recommendations", version)
    return StageResult(
        version,
        "reused" if reused else "rebuilt",
        cost,
        rows=lake.row_count("user_recommendations", version),
        facts={"bundle version": version},
    )


def recommendations_for_everyone(recommender: Recommender, k: int) -> Iterator[pl.DataFrame]:
    """The ``user_recommendations`` rows of every user of the bundle, a block of users at a time."""
    bundle = recommender.bundle
    tracks, users = as_series(bundle.tracks.ids), as_series(bundle.users.ids)
    versions = {"model_version": bundle.model_version, "bundle_version": bundle.version}
    first = 0
    for best in recommender.rank_everyone(k, progress=report_progress):
        user, place = np.nonzero(best.indices >= 0)
        because = pl.Series(best.because[user, place, 0])
        yield pl.DataFrame(
            {
                "user_id": users.gather(first + user),
                "rank": pl.Series(place + 1, dtype=pl.Int32),
                "track_id": tracks.gather(best.indices[user, place]),
                "score": best.scores[user, place],
                "because_track_id": tracks.gather(because.set(because < 0, None)),
            }
        ).with_columns(pl.lit(text).alias(name) for name, text in versions.items())
        first += len(best.indices)
