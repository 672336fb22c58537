"""A path between two songs: steps of songs that the same people like.

Here: finding it over the neighbour weights of a bundle. Not here: how near two songs are (`ranking`).

Two songs are neighbours if one is in the other's row of the weights. The path has as few steps as the search
finds, and of several such paths the strongest, by the product of the weights. The search goes out from both
ends until it meets; of each round only the strongest songs go on, so the cost is bounded in any catalogue.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.csr_rows import row_places
from tunegraph_pipeline.recommend.recommender import Recommender, SongView

_GOING_ON = 1_000
"""So many songs of a round, the strongest, are looked at in the next."""
_UNMET = -2


class NoPathError(InputError):
    """The search found no path of at most the wanted length."""


class Step(NamedTuple):
    """A song on a path, and how many stored users like both it and the one before; 0 for the first."""

    song: SongView
    listeners: int


def find_path(recommender: Recommender, start: str, end: str, most: int = 12) -> list[Step]:
    """The songs from ``start`` to ``end``, both included, ``most`` of them at most.

    Songs that must not be recommended are on no path, except at its ends. Raises InputError for an unknown
    song and ``most`` below 2, and NoPathError where no path is found.

    >>> [step.song.name for step in find_path(recommender, ids[0], ids[1])]  # doctest: +SKIP
    ['Together Forever', 'Take On Me', 'Ms. Jackson']
    """
    if most < 2:
        raise InputError(f"most is {most}; a path has at least two songs")
    first, last = recommender.known(start), recommender.known(end)
    tracks = np.array(_search(recommender, first, last, most), dtype=np.int32)
    if not tracks.size:
        raise NoPathError(f"no path of at most {most} songs leads from the one song to the other")
    both = recommender.ranker.listeners_of_both(tracks[:-1], tracks[1:]).tolist()
    return list(map(Step, recommender.describe(tracks), [0, *both]))


class _Side:
    """What was met from one end: for each track the one before it, and the strength of the way there."""

    def __init__(self, recommender: Recommender, end: int) -> None:
        n_tracks = recommender.bundle.n_tracks
        self._bundle = recommender.bundle
        self._allowed = recommender.ranker.allowed
        self.before = np.full(n_tracks, _UNMET, dtype=np.int32)
        self.strength = np.zeros(n_tracks, dtype=np.float32)
        self.before[end] = -1
        self.front = np.array([end], dtype=np.int32)

    def go_on(self, goal: int) -> None:
        """One round: the neighbours of the front that were not met before."""
        bundle = self._bundle
        places, lengths = row_places(bundle.neighbour_indptr, self.front)
        found, weights = bundle.neighbour_indices[places], bundle.neighbour_weight[places]
        source = self.front.repeat(lengths)
        new = (self.before[found] == _UNMET) & (weights > 0) & (self._allowed[found] | (found == goal))
        found, source = found[new], source[new]
        strength = self.strength[source] + np.log(weights[new])
        # Of several ways to a song the last one written stays, which is the strongest.
        order = np.argsort(strength, kind="stable")
        self.before[found[order]] = source[order]
        self.strength[found[order]] = strength[order]
        met = np.unique(found)
        if len(met) > _GOING_ON:
            strongest = np.argsort(-self.strength[met], kind="stable")[:_GOING_ON]
            met = np.sort(met[strongest])
        self.front = met

    def way_to(self, track: int) -> list[int]:
        """The tracks from this one to the end."""
        way: list[int] = []
        while track >= 0:
            way.append(track)
            track = int(self.before[track])
        return way


def _search(recommender: Recommender, first: int, last: int, most: int) -> list[int]:
    if first == last:
        return [first]
    one, other = _Side(recommender, first), _Side(recommender, last)
    # Where rows point one way only, one side may go astray while the other finds the way.
    for _ in range(2 * (most - 1)):
        if not one.front.size and not other.front.size:
            break
        forward = bool(one.front.size) and (len(one.front) <= len(other.front) or not other.front.size)
        side, opposite = (one, other) if forward else (other, one)
        side.go_on(last if forward else first)
        meeting = side.front[opposite.before[side.front] != _UNMET]
        if meeting.size:
            strength: NDArray[np.float32] = one.strength[meeting] + other.strength[meeting]
            middle = int(meeting[int(strength.argmax())])
            way = [*reversed(one.way_to(middle)), *other.way_to(middle)[1:]]
            return way if len(way) <= most else []
    return []
