"""The genres of a catalogue, as arrays.

Here: which genres a text of a source names, joining spellings of one genre, the songs of each, and the genres
of each song. Not here: the bundle that stores them (`bundle`), or choosing songs by genre (`filters`).

A text may name several genres: "Rock, Pop; Folk". Spellings that differ in case, spaces and signs alone
("Hip-Hop", "hip hop") are one genre, shown in the spelling of the most songs.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.ids import composed

MOST_OF_A_SONG = 3
"""So many genres of a song are shown."""
_BETWEEN = re.compile("[,;|]")


class Genres(NamedTuple):
    """The genres, those of most songs first: CSR of genres over tracks, ascending within a genre."""

    names: list[str]
    indptr: NDArray[np.int64]  # [genres + 1]
    tracks: NDArray[np.int32]

    @classmethod
    def of_texts(cls, texts: Sequence[str], text_of: NDArray[np.int32]) -> Self:
        """From distinct texts of a source, and for each track the place of its text, -1 if it has none."""
        order = np.argsort(text_of, kind="stable").astype(np.int32)
        starts = np.searchsorted(text_of[order], np.arange(len(texts) + 1))
        spellings: dict[str, Counter[str]] = {}
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            songs = int(starts[place + 1] - starts[place])
            named = {folded(name): name for name in names_in(text)} if songs else {}
            for key, name in named.items():
                spellings.setdefault(key, Counter())[name] += songs
                places.setdefault(key, []).append(place)
        sizes = {key: counts.total() for key, counts in spellings.items()}
        keys = sorted(sizes, key=lambda key: (-sizes[key], key))
        tracks = [
            np.sort(np.concatenate([order[starts[place] : starts[place + 1]] for place in places[key]]))
            for key in keys
        ]
        return cls(
            [min(spellings[key], key=lambda name: (-spellings[key][name], name)) for key in keys],
            np.cumsum([0, *map(len, tracks)]).astype(np.int64),
            np.concatenate([np.zeros(0, dtype=np.int32), *tracks]),
        )


class GenresOfSongs:
    """At most `MOST_OF_A_SONG` genres of each of N songs, those of most songs first.

    ``table`` int16[N, MOST_OF_A_SONG]: places in ``names``, -1 where there are no more.
    """

    def __init__(self, genres: Genres, n_tracks: int) -> None:
        self.names = genres.names[: np.iinfo(np.int16).max]
        self.table = np.full((n_tracks, MOST_OF_A_SONG), -1, dtype=np.int16)
        n_known = np.zeros(n_tracks, dtype=np.int8)
        bounds = genres.indptr.tolist()
        for genre in range(len(self.names)):
            tracks = genres.tracks[bounds[genre] : bounds[genre + 1]]
            tracks = tracks[n_known[tracks] < MOST_OF_A_SONG]
            self.table[tracks, n_known[tracks]] = genre
            n_known[tracks] += 1

    def of(self, tracks: NDArray[np.int32]) -> list[tuple[str, ...]]:
        """The names of the genres of each of these songs."""
        if not self.names:
            return [()] * len(tracks)
        names = self.names
        return [tuple([names[place] for place in row if place >= 0]) for row in self.table[tracks].tolist()]


def names_in(text: str) -> list[str]:
    """The genres that a text names, as it spells them.

    >>> names_in("Folk, World, & Country")
    ['Folk', 'World', 'Country']
    """
    names = (" ".join(part.split()).strip("& ") for part in _BETWEEN.split(composed(text)))
    return [name for name in names if name]


def folded(name: str) -> str:
    """The same for all spellings of a genre.

    >>> folded("Hip-Hop") == folded("hip hop")
    True
    """
    plain = composed(name).casefold()
    return "".join(filter(str.isalnum, plain)) or plain
