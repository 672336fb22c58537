"""The map of songs as the service answers it.

Here: the points, their genres, and the names of places. Not here: where songs lie (`graph`), how places get
their names (`recommend.map_regions`), or the endpoint (`routes`).
"""

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.map_regions import Labels, regions_of
from tunegraph_pipeline.recommend.recommender import Recommender

_POSITIONS = 65_535  # of columns: finer than any screen, even where the map is a hundred times enlarged


def write_map(recommender: Recommender, tracks: NDArray[np.int32]) -> bytes:
    """The map of these songs as JSON, a point for each."""
    bundle = recommender.bundle
    genre, names = _genres(recommender, tracks)
    # Positions finer than any screen, at half the size.
    positions = [(round(x, 4), round(y, 4)) for x, y in bundle.layout[tracks].tolist()]
    return pydantic_core.to_json(
        {
            "bundle_version": bundle.version,
            "points": [
                {
                    "track_id": bundle.tracks[track],
                    "name": bundle.names[track],
                    "artists": bundle.artists[track],
                    "x": x,
                    "y": y,
                    "popularity": popularity,
                    "genre": genre,
                }
                for track, (x, y), popularity, genre in zip(
                    tracks.tolist(),
                    positions,
                    bundle.popularity[tracks].tolist(),
                    genre.tolist(),
                    strict=True,
                )
            ],
            "genres": names,
            "regions": _regions(recommender, tracks),
        }
    )


def write_columns(recommender: Recommender, tracks: NDArray[np.int32]) -> bytes:
    """The same without texts, as lists that are as long as ``tracks``."""
    bundle = recommender.bundle
    genre, names = _genres(recommender, tracks)
    x, y = np.rint(bundle.layout[tracks].T.astype(np.float64) * _POSITIONS).astype(np.int64)
    return pydantic_core.to_json(
        {
            "bundle_version": bundle.version,
            "x": x.tolist(),
            "y": y.tolist(),
            "genre": genre.tolist(),
            "genres": names,
            "regions": _regions(recommender, tracks),
        }
    )


def _genres(recommender: Recommender, tracks: NDArray[np.int32]) -> tuple[NDArray[np.int64], list[str]]:
    """The place of each song's genre in the names, -1 without one; and the names."""
    first = recommender.genres.table[tracks, 0].astype(np.int64)
    shown = np.unique(first[first >= 0])
    genre = np.where(first >= 0, np.searchsorted(shown, first), -1)
    return genre, [recommender.genres.names[place] for place in shown.tolist()]


def _regions(recommender: Recommender, tracks: NDArray[np.int32]) -> list[dict[str, object]]:
    regions = regions_of(recommender.bundle.layout[tracks], _labels(recommender, tracks))
    return [
        {"name": one.name, "x": round(one.x, 4), "y": round(one.y, 4), "songs": one.songs} for one in regions
    ]


def _labels(recommender: Recommender, tracks: NDArray[np.int32]) -> Labels:
    """The genres of these songs; of a bundle without genres their first artists, as heavy as their songs are
    liked."""
    bundle = recommender.bundle
    song, column = np.nonzero(recommender.genres.table[tracks] >= 0)
    if song.size:
        label = recommender.genres.table[tracks[song], column].astype(np.int64)
        return Labels(recommender.genres.names, song, label, np.ones(len(song)))
    starts = bundle.artist_indptr[tracks]
    (song,) = np.nonzero(bundle.artist_indptr[tracks + 1] > starts)
    artists, label = np.unique(bundle.artist_indices[starts[song]], return_inverse=True)
    names = [bundle.artist_names[artist] for artist in artists.tolist()]
    return Labels(names, song, label.astype(np.int64), bundle.popularity[tracks[song]].astype(np.float64))
