"""Roll back to an earlier bundle.

Here: which bundles may go live again when users were forgotten. Not here: the swap itself
(`recommend.publication`), or who was forgotten (`lake.tombstones`).
"""

import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.recommend import publication
from tunegraph_pipeline.recommend.bundle import Bundle


def roll_back(lake: Lake, version: str | None, reason: str) -> Bundle:
    """Make an earlier bundle live: ``version``, or the one before the live one. Keeps as many bundles as the
    settings say.

    Raises LakeError where the bundle names a forgotten user: a run that is killed while it forgets users may
    leave such bundles.
    """
    tombstones = Tombstones.of(lake.root)

    def allowed(bundle: Bundle) -> None:
        if named := int(tombstones.buries(pl.Series(bundle.users.ids.tolist(), dtype=pl.String)).sum()):
            raise LakeError(
                f"bundle {bundle.version} names {named:,} forgotten users, and must not go live again;"
                " `tunegraph forget` or a refresh removes it"
            )

    return publication.roll_back(lake.serving, version, reason, keep=lake.kept_versions, allowed=allowed)
