"""The names of the audio features.

Here: names alone, because a service needs them and no table. Not here: the tables that have them (`schemas`),
or what is stored of them for queries (`recommend.bundle_arrays`).
"""

AUDIO_FEATURES = (
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "key",
    "liveness",
    "loudness",
    "mode",
    "speechiness",
    "tempo",
    "valence",
)
"""The 11 features of a song, in the order every matrix of features has them."""
