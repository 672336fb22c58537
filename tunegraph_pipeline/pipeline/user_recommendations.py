"""The best songs for every user of a bundle, as a table.

Here: the stage and its rows. Not here: the ranking (`recommend`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from tunegraph_pipeline.engine.engine import Engine, Files, Outputs, Parcel, engine_of
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.text_columns import as_series
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured, report_progress
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.recommender import USERS_A_BLOCK, Recommender

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
                with engine_of(lake) as engine:
                    for rows in _ranked(engine, recommender.bundle):
                        table.append(rows)
            lake.keep_partitions("user_recommendations", version)
    return StageResult(
        version,
        "reused" if reused else "rebuilt",
        cost,
        rows=lake.row_count("user_recommendations", version),
        facts={"bundle version": version},
    )


class RangeOfUsers(NamedTuple):
    """A block of the table: the rows of the users from ``start`` to ``stop``, ``k`` songs each."""

    start: int
    stop: int
    k: int


def recommendations_of_range(inputs: Parcel, block: RangeOfUsers) -> Outputs:
    """The ``rows`` of the table of a range of users of the ``bundle``. Raises BundleError."""
    recommender = inputs.once("recommender", lambda: Recommender(Bundle.open(inputs.folder("bundle"))))
    return {
        "rows": pl.concat(
            recommendations_for_everyone(recommender, block.k, among=range(block.start, block.stop))
        )
    }


def _ranked(engine: Engine, bundle: Bundle) -> Iterator[pl.DataFrame]:
    """The rows of the table, in the order of users."""
    n = bundle.n_users
    # Whole blocks of the ranking, in as many tasks as the engine asks for.
    a_task = max(1, n // USERS_A_BLOCK // engine.blocks if engine.blocks > 1 else 1) * USERS_A_BLOCK
    blocks = [RangeOfUsers(start, min(start + a_task, n), K) for start in range(0, n, a_task)]
    files = Files.of(bundle.folder, (path for path in bundle.folder.iterdir() if path.is_file()))
    found = engine.run(recommendations_of_range, blocks, {"bundle": files})
    for block, ranked in zip(blocks, found, strict=True):
        yield ranked.frame("rows")
        report_progress("rank users", block.stop, n)


def recommendations_for_everyone(
    recommender: Recommender, k: int, among: range | None = None
) -> Iterator[pl.DataFrame]:
    """The ``user_recommendations`` rows of every user of the bundle, or of those ``among`` these rows, a
    block of users at a time."""
    bundle = recommender.bundle
    tracks, users = as_series(bundle.tracks.ids), as_series(bundle.users.ids)
    versions = {"model_version": bundle.model_version, "bundle_version": bundle.version}
    first = 0 if among is None else among.start
    for best in recommender.rank_everyone(k, among=among):
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
