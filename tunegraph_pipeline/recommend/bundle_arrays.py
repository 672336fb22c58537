"""The arrays of a bundle, declared.

Here: name, dtype, shape and meaning of each. Not here: writing and opening them (`bundle`), or what is
computed from them (`ranking`, `search`).
"""

from tunegraph_pipeline.lake.array_spec import TEXT, ArraySpec, offsets
from tunegraph_pipeline.models.arrays import MODEL

BUNDLE = (
    ArraySpec("track_ids", TEXT, ("tracks",), "the id of each track"),
    ArraySpec("track_hashes", "<u4", ("tracks",), "CRC-32 of the track ids, ascending"),
    ArraySpec("track_hash_order", "<i4", ("tracks",), "the track each of those hashes belongs to"),
    ArraySpec("user_ids", TEXT, ("users",), "the id of each user"),
    ArraySpec("user_hashes", "<u4", ("users",), "CRC-32 of the user ids, ascending"),
    ArraySpec("user_hash_order", "<i4", ("users",), "the user each of those hashes belongs to"),
    *(spec for spec in MODEL if not spec.optional),  # what every model has
    ArraySpec("popularity", "<i4", ("tracks",), "number of users who like each track"),
    ArraySpec("recommendable", "|b1", ("tracks",), "whether a track may be recommended"),
    ArraySpec("canonical", "<i4", ("tracks",), "the canonical track of each track's recording"),
    ArraySpec(
        "popular_order",
        "<i4",
        ("recommendable tracks",),
        "the recommendable tracks, most liked first, the smaller index first on a tie",
    ),
    ArraySpec(
        "screen",
        "<f4",
        ("tracks", "screen width"),
        "the first coordinates of the embedding, the length of the others, the prior (-1e30 if the track must"
        " not be recommended), and the standardised log popularity; it bounds the score of each track",
    ),
    ArraySpec("explicit", "|i1", ("tracks",), "1 if a track is marked explicit, 0 if not, -1 if unknown"),
    ArraySpec("layout", "<f4", ("tracks", 2), "the position of each track on the map, 0 to 1"),
    offsets("user_indptr", "users", "likes", "where the liked list of each user begins"),
    ArraySpec("user_tracks", "<i4", ("likes",), "the liked tracks, ascending within a user"),
    offsets("disliked_indptr", "users", "dislikes", "where the disliked list of each user begins"),
    ArraySpec("disliked_tracks", "<i4", ("dislikes",), "the disliked tracks, ascending within a user"),
    offsets("listener_indptr", "tracks", "listeners", "where the listeners of each track begin"),
    ArraySpec("listeners", "<i4", ("listeners",), "the users who like each track, ascending within a track"),
    ArraySpec("artist_ids", TEXT, ("artists",), "the id of each artist, or the name without one"),
    ArraySpec("artist_names", TEXT, ("artists",), "the name of each artist"),
    offsets("artist_indptr", "tracks", "artists of tracks", "where the artists of each track begin"),
    ArraySpec("artist_indices", "<i4", ("artists of tracks",), "the artists, in the order they are named"),
    ArraySpec("search_tracks", "<i4", ("places",), "the track at each place of the search index"),
    ArraySpec("search_codes", "<u8", ("codes",), "the codes that occur in names, ascending"),
    offsets("search_indptr", "codes", "places of codes", "where the places of each code begin"),
    ArraySpec("search_places", "<i4", ("places of codes",), "the places, ascending within a code"),
    ArraySpec("search_words", "<i8", ("words",), "the words of names, as numbers, ascending"),
    ArraySpec("search_word_sums", "<i8", ("words+1",), "the running sum of how many names have each word"),
    ArraySpec("names", TEXT, ("tracks",), 'the name of each track, "" if unknown'),
    ArraySpec("artists", TEXT, ("tracks",), 'the artists of each track as one text, "" if unknown'),
    ArraySpec("image_urls", TEXT, ("tracks",), 'the URL of the cover, "" if unknown'),
    ArraySpec("preview_urls", TEXT, ("tracks",), 'the URL of the preview, "" if unknown'),
)
