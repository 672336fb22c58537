"""The content of a track, which is all inputs but its likes, as matrices for an encoder.

Here: the 11 audio features as comparable numbers, artists and albums as weighted tags. Not here: learning
from them (`encoder.py`), where they come from (`sources`).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_KEY = AUDIO_FEATURES.index("key")
_OTHERS = [i for i in range(len(AUDIO_FEATURES)) if i != _KEY]
N_FEATURE_COLUMNS = len(_OTHERS) + 3
"""Columns of :func:`encode_features`: the ten ordered features, sine and cosine of the key, and whether any
feature is known."""

LONGEST_ROW = 1000
"""Most tracks of an artist or album in :func:`content_rows`: "Various Artists" has more."""

_TAG_WEIGHT = 0.5  # of an artist's or album's vector beside a track's own


def encode_features(features: NDArray[np.float32], reference: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return float32[N, N_FEATURE_COLUMNS] for ``features`` float32[N, 11] in the order of AUDIO_FEATURES.

    - Every feature but the key is standardised with the mean and deviation of the tracks in ``reference``
      (bool[N], the trained ones) and clipped at five deviations; an unknown value (NaN) becomes 0, the mean.
      A feature that does not vary there is 0 throughout.
    - The key is a point on a circle, because B (11) is a semitone from C (0): sin and cos of 2 pi key / 12. A
      track without a key, NaN or -1 as providers write it, is at the centre of the circle.
    - The last column is 1 where any feature is known.
    """
    encoded = np.zeros((len(features), N_FEATURE_COLUMNS), dtype=np.float32)
    for column, feature in enumerate(_OTHERS):
        values = features[:, feature].astype(np.float64)
        known = np.isfinite(values)
        seen = values[known & reference]
        if seen.size == 0:
            continue
        deviation = float(seen.std())
        if deviation > 1e-6 * max(1.0, float(np.abs(seen).max())):
            standard = np.clip((values[known] - seen.mean()) / deviation, -5, 5)
            encoded[known, column] = standard.astype(np.float32)
    key = features[:, _KEY]
    has_key = np.isfinite(key) & (key >= 0)
    angle = 2 * np.pi * key[has_key].astype(np.float64) / 12
    encoded[has_key, -3] = np.sin(angle)
    encoded[has_key, -2] = np.cos(angle)
    encoded[:, -1] = np.isfinite(features).any(axis=1)
    return encoded


def content_tags(track_artists: "csr_matrix", album: NDArray[np.int32]) -> "csr_matrix":
    """Return float32[N, artists + albums]: the weight of each artist's and album's vector in a track.

    ``track_artists`` is tracks x artists, ``album`` int32[N] with -1 for unknown. The artists of a track
    share a weight of one half, its album has one half; a track without either has an empty row.
    """
    from scipy.sparse import csr_matrix, diags_array, hstack

    n_tracks = len(album)
    artists = csr_matrix(track_artists, dtype=np.float32)
    share = _TAG_WEIGHT / np.maximum(np.diff(artists.indptr), 1)
    known = np.flatnonzero(album >= 0)
    albums = csr_matrix(
        (np.full(len(known), _TAG_WEIGHT, dtype=np.float32), (known, album[known])),
        shape=(n_tracks, int(album.max(initial=-1)) + 1),
    )
    return csr_matrix(hstack([diags_array(share) @ artists, albums]), dtype=np.float32)


def content_rows(track_artists: "csr_matrix", album: NDArray[np.int32]) -> "csr_matrix":
    """Return float32[T, N] of ones: a row for each artist and album that two tracks or more have in common.

    Each is a list of tracks, like that of a user who likes nothing else. A row longer than `LONGEST_ROW` is
    left out: it is hardly an artist, and every pair of tracks costs. Arguments as for `content_tags`.
    """
    from scipy.sparse import csr_matrix

    rows = csr_matrix(content_tags(track_artists, album).T)
    rows.data = np.ones_like(rows.data)
    lengths = np.diff(rows.indptr)
    return rows[np.flatnonzero((lengths >= 2) & (lengths <= LONGEST_ROW))]
