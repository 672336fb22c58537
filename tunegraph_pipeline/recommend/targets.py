"""Targets of a query: values that the audio features of songs should be near.

Here: the order of recommended songs in which those near the targets come first. Not here: recommending them
(`recommender`), or ranges that leave songs out (`filters`).

The order depends on places, not on distances, so that no feature needs a scale and none counts more than
another: a song has a place by how much it is recommended and one by its distance from each target. Both go
from 0, the first, to 1, the last; songs at the same distance share the mean of their places. A song of which
the feature is unknown has the place 0.5, neither near nor far.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.filters import NotInBundleError

SONGS_ORDERED = 300
"""So many of the songs that are recommended most are ordered by targets."""
_WEIGHT = 3.0  # of the mean place by the targets; that by the recommendation has 1
_KEYS = 12  # which go round: the last is next to the first
_UNKNOWN = 0.5


def order_by_targets(
    bundle: Bundle, tracks: NDArray[np.int32], targets: Mapping[str, float]
) -> NDArray[np.int64]:
    """The places of ``tracks``, which are the most recommended first, in the order by ``targets``, which has
    a value by feature: int64[n].

    Equally good songs keep their order. Raises NotInBundleError for a feature that the bundle knows of no
    song.
    """
    rows = {name: row for row, name in enumerate(bundle.feature_names.tolist())}
    by_target = np.zeros(len(tracks))
    for feature, target in targets.items():
        if feature not in rows:
            raise NotInBundleError(f"bundle {bundle.version} knows the {feature} of no song")
        distances = np.abs(bundle.features[rows[feature], tracks].astype(np.float64) - target)
        if feature == "key":
            distances = np.minimum(distances % _KEYS, -distances % _KEYS)
        by_target += _places(distances)
    by_recommendation = np.arange(len(tracks)) / max(len(tracks) - 1, 1)
    return np.argsort(by_recommendation + _WEIGHT * by_target / max(len(targets), 1), kind="stable")


def _places(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place of each distance among all, from 0, the smallest, to 1; of NaN `_UNKNOWN`."""
    found = np.full(len(distances), _UNKNOWN)
    known = ~np.isnan(distances)
    _, inverse, counts = np.unique(distances[known], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    if known.sum() > 1:
        found[known] = ((ends - counts + ends - 1) / 2)[inverse] / (ends[-1] - 1)
    return found
