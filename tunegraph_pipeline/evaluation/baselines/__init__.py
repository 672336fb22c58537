"""The rankings that every model has to be seen beside, each with the values it was tuned to.

Here: simple, strong and well-known scorers, each a small class with ``fit`` and ``rank``, and which of them
make up a comparison. Not here: anything that is served, and the metrics.

All of them rank the whole catalogue, leave out what the user likes, and give ties to the smaller track index.
A user without a known like gets what is popular, as they do from what is served: a comparison is to show the
scorer, not how a newcomer is greeted. Scores are made a block of users at a time, so memory does not grow
with the number of users.
"""

from collections.abc import Callable, Mapping

from tunegraph_pipeline.evaluation.baselines.closed_form import CoLike, Ease, Popularity
from tunegraph_pipeline.evaluation.baselines.common import (
    Baseline,
    BaselineConfig,
    Progress,
    likes_per_track,
    rank_in_blocks,
    top_k,
)
from tunegraph_pipeline.evaluation.baselines.factors import Als, LightGcn
from tunegraph_pipeline.evaluation.baselines.neighbourhood import ItemKnn, Rp3Beta

__all__ = [
    "ALL",
    "QUICK",
    "Als",
    "Baseline",
    "BaselineConfig",
    "CoLike",
    "Ease",
    "ItemKnn",
    "LightGcn",
    "Popularity",
    "Progress",
    "Rp3Beta",
    "baselines",
    "likes_per_track",
    "rank_in_blocks",
    "top_k",
]

ALL: Mapping[str, Callable[[BaselineConfig], Baseline]] = {
    model.name: model for model in (Popularity, CoLike, ItemKnn, Rp3Beta, Ease, Als, LightGcn)
}
"""Every baseline by its name, cheapest first."""

QUICK = (Popularity.name, CoLike.name, Ease.name)
"""Those that a daily refresh and `tunegraph evaluate --baselines` have time for."""


def baselines(n_tracks: int, config: BaselineConfig) -> tuple[list[Baseline], dict[str, str]]:
    """The `QUICK` baselines a catalogue of ``n_tracks`` allows, unfitted, and why each other was left out.

    Fit, judge and drop them one after the other: EASE holds 4 N² bytes for as long as it is kept.
    """
    left_out = {name: why for name in QUICK if (why := too_large_for(name, n_tracks, config))}
    return [ALL[name](config) for name in QUICK if name not in left_out], left_out


def too_large_for(name: str, n_tracks: int, config: BaselineConfig) -> str | None:
    """Why the baseline ``name`` cannot be fitted to a catalogue of ``n_tracks``; None where it can."""
    if name == Ease.name and n_tracks > config.ease_max_tracks:
        return (
            f"{n_tracks:,} tracks are more than the {config.ease_max_tracks:,} its dense matrix is made for"
        )
    return None
