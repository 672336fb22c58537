"""The genres of the simulated world: their scenes, their neighbours and how their songs sound.

Here: one table of plain facts, and the affinity between scenes that follows from it. Not here:
words and names (`names`), and everything drawn at random (`catalogue`, `listeners`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Genre:
    """A genre: who is near to it, and what a typical song of it is like.

    The features are centres, 0 to 1 where the audio features are; ``loudness`` in dB, ``tempo`` in beats a
    minute with its spread, ``minutes`` the typical length.
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


# fmt: off
GENRES: tuple[Genre, ...] = (
    #      share acous dance energ instr liven  loud  speech   tempo     valen major  min  expl
    Genre("pop", ("dance pop", "indie pop", "bedroom pop"), ("r&b", "electronic", "country", "rock"),
          1.60, 0.18, 0.67, 0.66, 0.004, 0.14, -6.2, 0.058, (118, 20), 0.54, 0.62, 3.3, 0.10),
    Genre("rock", ("alternative rock", "classic rock", "garage rock"), ("punk", "metal", "folk", "pop"),
          1.40, 0.08, 0.50, 0.76, 0.020, 0.18, -6.8, 0.048, (124, 24), 0.50, 0.68, 4.0, 0.04),
    Genre("hip-hop", ("boom bap", "trap", "cloud rap"), ("r&b", "lo-fi", "soul & funk", "reggae"),
          1.35, 0.14, 0.74, 0.64, 0.003, 0.17, -6.9, 0.240, (110, 30), 0.46, 0.50, 3.2, 0.68),
    Genre("r&b", ("contemporary r&b", "neo soul", "quiet storm"), ("hip-hop", "soul & funk", "pop", "jazz"),
          0.90, 0.28, 0.66, 0.52, 0.005, 0.13, -7.7, 0.090, (104, 24), 0.47, 0.45, 3.6, 0.28),
    Genre("electronic", ("deep house", "disco house", "future garage"), ("techno", "pop", "soul & funk", "ambient"),
          0.95, 0.05, 0.73, 0.75, 0.250, 0.13, -7.5, 0.060, (123, 5), 0.49, 0.50, 5.1, 0.04),
    Genre("techno", ("minimal techno", "dub techno", "hard techno"), ("electronic", "ambient"),
          0.55, 0.02, 0.74, 0.83, 0.800, 0.11, -8.4, 0.055, (131, 6), 0.28, 0.48, 6.3, 0.01),
    Genre("ambient", ("drone", "space ambient", "field recordings"), ("classical", "techno", "lo-fi", "electronic"),
          0.50, 0.80, 0.26, 0.17, 0.870, 0.10, -19.5, 0.042, (96, 26), 0.14, 0.58, 5.6, 0.00),
    Genre("lo-fi", ("lo-fi beats", "chillhop", "tape loops"), ("hip-hop", "jazz", "ambient", "r&b"),
          0.60, 0.62, 0.64, 0.33, 0.800, 0.12, -12.4, 0.070, (82, 9), 0.42, 0.52, 2.3, 0.01),
    Genre("metal", ("doom metal", "progressive metal", "melodic death metal"), ("rock", "punk"),
          0.60, 0.01, 0.38, 0.92, 0.060, 0.17, -5.6, 0.085, (128, 28), 0.27, 0.52, 5.2, 0.10),
    Genre("punk", ("pop punk", "post-punk", "hardcore"), ("rock", "metal", "pop"),
          0.65, 0.03, 0.48, 0.90, 0.008, 0.22, -5.2, 0.072, (152, 24), 0.53, 0.70, 2.7, 0.16),
    Genre("folk", ("indie folk", "singer-songwriter", "trad revival"), ("country", "rock", "classical", "pop"),
          0.85, 0.76, 0.48, 0.33, 0.015, 0.13, -11.4, 0.038, (113, 24), 0.40, 0.76, 3.7, 0.02),
    Genre("country", ("honky-tonk", "country pop", "alt-country"), ("folk", "rock", "pop"),
          0.80, 0.33, 0.57, 0.63, 0.003, 0.16, -7.0, 0.036, (122, 26), 0.57, 0.86, 3.5, 0.03),
    Genre("jazz", ("modal jazz", "vocal jazz", "jazz fusion"), ("soul & funk", "lo-fi", "r&b", "classical"),
          0.60, 0.74, 0.52, 0.35, 0.420, 0.15, -13.0, 0.050, (112, 28), 0.47, 0.54, 5.2, 0.00),
    Genre("soul & funk", ("vintage soul", "funk", "disco"), ("r&b", "jazz", "electronic", "reggae"),
          0.75, 0.27, 0.69, 0.66, 0.020, 0.16, -8.6, 0.060, (113, 14), 0.73, 0.55, 4.1, 0.02),
    Genre("latin", ("reggaeton", "bachata", "latin alternative"), ("pop", "afrobeats", "reggae"),
          0.95, 0.24, 0.74, 0.70, 0.003, 0.16, -5.9, 0.090, (104, 20), 0.66, 0.54, 3.4, 0.20),
    Genre("afrobeats", ("afropop", "amapiano", "highlife"), ("latin", "r&b", "reggae", "hip-hop"),
          0.65, 0.25, 0.77, 0.68, 0.015, 0.13, -6.6, 0.105, (110, 9), 0.68, 0.47, 3.5, 0.12),
    Genre("reggae", ("roots reggae", "dub", "dancehall"), ("afrobeats", "soul & funk", "latin", "hip-hop"),
          0.45, 0.18, 0.76, 0.57, 0.060, 0.14, -7.9, 0.130, (92, 16), 0.70, 0.62, 4.0, 0.08),
    Genre("classical", ("solo piano", "chamber music", "film score"), ("ambient", "jazz", "folk"),
          0.60, 0.93, 0.28, 0.13, 0.860, 0.11, -21.5, 0.043, (100, 30), 0.17, 0.64, 4.3, 0.00),
)
# fmt: on

SCENES: tuple[tuple[int, str], ...] = tuple(
    (genre, scene) for genre, facts in enumerate(GENRES) for scene in facts.scenes
)
"""Every scene as (number of its genre, name); a scene's number is its place here."""

SCENE_GENRE: NDArray[np.int64] = np.array([genre for genre, _ in SCENES])
"""int64[scenes]: the genre of each scene."""


def scene_affinity() -> NDArray[np.float64]:
    """How likely somebody at home in a scene (row) is to take up another (column).

    Returns float64[scenes, scenes], rows summing to 1, a zero diagonal. Scenes of the same genre are
    nearest, then those of neighbouring genres; anything is possible, in proportion to the genre's share.
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
