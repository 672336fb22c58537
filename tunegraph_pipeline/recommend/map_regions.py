"""Names of places on the map of songs.

Here: cutting the map into places of equally many songs, and what is typical of each. Not here: the positions
of songs (`graph`), or the answer that has them (`serve.map_answer`). numpy alone.

The map is halved again and again across its longer side. Typical of a place is the label with the largest
``w log(s / t)``: its weight there, and its share there and on the whole map. Neighbouring places of one label
are one region.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_REGIONS = 30
_HALVINGS = 5
_LEAST_SONGS = 12  # of a place
_TOUCHING = 1e-6


class Labels(NamedTuple):
    """What songs may be called: entry i says that the label ``label[i]``, a place in ``names``, applies to
    the song ``song[i]`` with a weight."""

    names: Sequence[str]
    song: NDArray[np.int64]
    label: NDArray[np.int64]
    weight: NDArray[np.float64]


class Region(NamedTuple):
    """A name, the middle of the songs of that name in a place, and how many these are."""

    name: str
    x: float
    y: float
    songs: int


class _Place(NamedTuple):
    """Songs, and the corners of the rectangle that they are in."""

    songs: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def regions_of(positions: NDArray[np.floating], labels: Labels) -> list[Region]:
    """At most `MOST_REGIONS` regions, those of most songs first. ``positions`` [n, 2] of the songs."""
    if not len(positions) or not labels.song.size:
        return []
    places = _places(positions.astype(np.float64))
    place_of = np.empty(len(positions), dtype=np.int64)
    for number, place in enumerate(places):
        place_of[place.songs] = number
    n_labels = len(labels.names)
    cells = place_of[labels.song] * n_labels + labels.label
    weights = np.bincount(cells, labels.weight, minlength=len(places) * n_labels).astype(np.float64)
    typical = _typical(weights.reshape(-1, n_labels))
    regions = []
    for name, together in _joined(places, typical):
        here = (labels.label == name) & np.isin(place_of[labels.song], together)
        songs = np.unique(labels.song[here])
        middle = positions[songs].mean(axis=0)
        regions.append(Region(labels.names[name], float(middle[0]), float(middle[1]), len(songs)))
    return sorted(regions, key=lambda one: (-one.songs, one.name, one.x))[:MOST_REGIONS]


def _places(positions: NDArray[np.float64]) -> list[_Place]:
    places = [_Place(np.arange(len(positions)), positions.min(axis=0), positions.max(axis=0))]
    for _ in range(_HALVINGS):
        if min(len(place.songs) for place in places) < 2 * _LEAST_SONGS:
            break
        places = [half for place in places for half in _halved(place, positions)]
    return places


def _halved(place: _Place, positions: NDArray[np.float64]) -> tuple[_Place, _Place]:
    axis = int((place.high - place.low).argmax())
    order = place.songs[np.argsort(positions[place.songs, axis], kind="stable")]
    half = len(order) // 2
    high, low = place.high.copy(), place.low.copy()
    high[axis] = low[axis] = positions[order[half], axis]
    return _Place(order[:half], place.low, high), _Place(order[half:], low, place.high)


def _typical(weights: NDArray[np.float64]) -> list[int]:
    """The most typical label of each place, -1 of one without any; ``weights`` [places, labels]."""
    of_places = weights.sum(axis=1, keepdims=True)
    usual = weights.sum(axis=0) / max(float(weights.sum()), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = np.where(weights > 0, np.log(weights / of_places / usual), 0.0)
    score = np.where(weights > 0, weights * np.maximum(lift, 0.0) + 1e-9 * weights, -1.0)
    best: list[int] = score.argmax(axis=1).tolist()
    return [label if row[label] >= 0 else -1 for label, row in zip(best, score, strict=True)]


def _joined(places: Sequence[_Place], typical: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Each label with the places that touch each other and have it."""
    groups: list[tuple[int, list[int]]] = []
    for number, label in enumerate(typical):
        if label < 0:
            continue
        near = [
            group
            for group in groups
            if group[0] == label and any(_touch(places[number], places[other]) for other in group[1])
        ]
        groups = [group for group in groups if group not in near]
        groups.append((label, sorted({number, *(one for group in near for one in group[1])})))
    return groups


def _touch(one: _Place, other: _Place) -> bool:
    return bool((one.low <= other.high + _TOUCHING).all() and (other.low <= one.high + _TOUCHING).all())
