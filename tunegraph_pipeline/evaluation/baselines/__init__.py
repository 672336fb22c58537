"""The simple, strong and well-known rankings that every model is compared with.

Here: which baselines make up a comparison; the classes are in `closed_form`, `neighbourhood` and `factors`.
Not here: anything that is served, and the metrics.

All of them rank the whole catalogue, leave out what the user likes, and give ties to the smaller track index.
A user without a known like gets the most popular tracks, as in the service: a comparison should show the
scorer, not how newcomers are treated. Scores are computed for a block of users at a time, so memory does not
grow with the number of users.
"""

from collections.abc import Callable, Mapping

from tunegraph_pipeline.evaluation.baselines.closed_form import (
    CoLike,
    DecayedPopularity,
    Ease,
    Popularity,
)
from tunegraph_pipeline.evaluation.baselines.common import Baseline, BaselineConfig
from tunegraph_pipeline.evaluation.baselines.factors import Als, LightGcn
from tunegraph_pipeline.evaluation.baselines.neighbourhood import ItemKnn, Rp3Beta

ALL: Mapping[str, Callable[[BaselineConfig], Baseline]] = {
    model.name: model
    for model in (Popularity, DecayedPopularity, CoLike, ItemKnn, Rp3Beta, Ease, Als, LightGcn)
}
"""Every baseline by its name, cheapest first."""

QUICK = (Popularity.name, CoLike.name, Ease.name)
"""The baselines that are fast enough for a daily refresh and `tunegraph evaluate --baselines`."""


def baselines(n_tracks: int, config: BaselineConfig) -> tuple[list[Baseline], dict[str, str]]:
    """The `QUICK` baselines that a catalogue of ``n_tracks`` allows, unfitted, and why others are left out.

    Fit, judge and drop them one at a time: EASE holds 4 N² bytes as long as it lives.
    """
    left_out = {name: why for name in QUICK if (why := too_large_for(name, n_tracks, config))}
    return [ALL[name](config) for name in QUICK if name not in left_out], left_out


def too_large_for(name: str, n_tracks: int, config: BaselineConfig) -> str | None:
    """Why the baseline ``name`` cannot be fitted to a catalogue of ``n_tracks``; None where it can."""
    if name == Ease.name and n_tracks > config.ease_max_tracks:
        return f"{n_tracks:,} tracks are more than the {config.ease_max_tracks:,} its dense matrix allows"
    return None
