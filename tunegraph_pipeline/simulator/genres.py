"""The genres of the simulated world: their scenes, their neighbours and how their songs sound.

Here: the table in ``genres.json``, and the affinity between scenes that follows from it. Not here: words and
names (`names`), or anything drawn at random (`catalogue`, `listeners`).
"""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter


@dataclass(frozen=True)
class Genre:
    """A genre, its nearest genres, and its typical song.

    The features are centres, from 0 to 1 except ``loudness`` in dB and ``tempo`` in beats per minute, with
    its spread; ``minutes`` is the typical length.
    """

    name: str
    scenes: tuple[str, ...]
    neighbours: tuple[str, ...]
    share: float
    acousticness: float
    danceability: float
    energy: float
    instrumentalness: float
    liveness: float
    loudness: float
    speechiness: float
    tempo: tuple[float, float]
    valence: float
    major: float
    minutes: float
    explicit: float


GENRES: tuple[Genre, ...] = TypeAdapter(tuple[Genre, ...]).validate_json(
    files(__package__).joinpath("genres.json").read_bytes()
)

SCENES: tuple[tuple[int, str], ...] = tuple(
    (genre, scene) for genre, facts in enumerate(GENRES) for scene in facts.scenes
)
"""Every scene as (number of its genre, name); a scene's number is its place here."""

SCENE_GENRE: NDArray[np.int64] = np.array([genre for genre, _ in SCENES])
"""int64[scenes]: the genre of each scene."""


def scene_affinity() -> NDArray[np.float64]:
    """The probability that a listener of one scene (row) takes up another (column).

    Returns float64[scenes, scenes]; rows sum to 1, the diagonal is 0. Scenes of the same genre are nearest,
    then those of neighbouring genres; all others are possible, in proportion to the genre's share.
    """
    names = [genre.name for genre in GENRES]
    between = np.zeros((len(GENRES), len(GENRES)))
    for row, genre in enumerate(GENRES):
        for nearness, neighbour in enumerate(genre.neighbours):
            between[row, names.index(neighbour)] = 1.0 / (1.5 + nearness)
    between = (between + between.T) / 2 + 0.02 + 1.4 * np.eye(len(GENRES))
    share = np.array([genre.share for genre in GENRES])
    affinity: NDArray[np.float64] = (between * share)[np.ix_(SCENE_GENRE, SCENE_GENRE)]
    np.fill_diagonal(affinity, 0.0)
    affinity /= affinity.sum(axis=1, keepdims=True)
    return affinity
