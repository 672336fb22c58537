"""The arrays of a bundle, declared.

Here: name, dtype, shape and meaning of each. Not here: writing and opening them (`bundle`), or what is
computed from them (`ranking`, `search`).
"""

from tunegraph_pipeline.lake.array_spec import TEXT, ArraySpec

BUNDLE = (
    ArraySpec("track_ids", TEXT, ("tracks",), "the id of each track"),
    ArraySpec("track_hashes", "<u4", ("tracks",), "CRC-32 of the track ids, ascending"),
    ArraySpec("track_hash_order", "<i4", ("tracks",), "the track each of those hashes belongs to"),
    ArraySpec("user_ids", TEXT, ("users",), "the id of each user"),
    ArraySpec("user_hashes", "<u4", ("users",), "CRC-32 of the user ids, ascending"),
    ArraySpec("user_hash_order", "<i4", ("users",), "the user each of those hashes belongs to"),
    ArraySpec("embeddings", "<f4", ("tracks", "dimension"), "the place of each track, of unit length"),
    ArraySpec("pooling_weight", "<f4", ("tracks",), "what a liked track weighs in the direction of a list"),
    ArraySpec("popularity", "<i4", ("tracks",), "users who like each track now"),
    ArraySpec("recommendable", "|b1", ("tracks",), "whether a track may be recommended"),
    ArraySpec("prior", "<f4", ("tracks",), "what is added to every score of a track"),
    ArraySpec(
        "canonical",
        "<i4",
        ("tracks",),
        "the track that stands for the recording each track is of, the smallest index among its ids",
    ),
    ArraySpec(
        "popular_order",
        "<i4",
        ("recommendable tracks",),
        "the recommendable tracks, most liked first, the smaller index on a tie",
    ),
    ArraySpec(
        "screen",
        "<f4",
        ("tracks", "screen width"),
        "what a first look over all tracks reads: some coordinates of the embedding, the length of the"
        " others, the prior (-1e30 where the track may not be recommended), standardised log popularity",
    ),
    ArraySpec("explicit", "|i1", ("tracks",), "1 where a track is marked explicit, 0 where not, -1 unknown"),
    ArraySpec("layout", "<f4", ("tracks", 2), "the place of each track on the map, 0 to 1"),
    ArraySpec(
        "neighbour_indptr",
        "<i8",
        ("tracks+1",),
        "where the row of each liked track begins in the neighbour weights W",
        ends_at="neighbours",
    ),
    ArraySpec("neighbour_indices", "<i4", ("neighbours",), "the candidate of each entry of W"),
    ArraySpec("neighbour_weight", "<f4", ("neighbours",), "the value of each entry of W"),
    ArraySpec(
        "user_indptr", "<i8", ("users+1",), "where the liked list of each user begins", ends_at="likes"
    ),
    ArraySpec("user_tracks", "<i4", ("likes",), "the liked tracks, ascending within a user"),
    ArraySpec(
        "disliked_indptr",
        "<i8",
        ("users+1",),
        "where the disliked list of each user begins",
        ends_at="dislikes",
    ),
    ArraySpec("disliked_tracks", "<i4", ("dislikes",), "the disliked tracks, ascending within a user"),
    ArraySpec(
        "listener_indptr",
        "<i8",
        ("tracks+1",),
        "where the listeners of each track begin: the liked lists, transposed",
        ends_at="listeners",
    ),
    ArraySpec("listeners", "<i4", ("listeners",), "the users who like each track, ascending within a track"),
    ArraySpec("artist_ids", TEXT, ("artists",), "the id of each artist, or the name where there is none"),
    ArraySpec("artist_names", TEXT, ("artists",), "the name of each artist"),
    ArraySpec(
        "artist_indptr",
        "<i8",
        ("tracks+1",),
        "where the artists of each track begin",
        ends_at="artists of tracks",
    ),
    ArraySpec("artist_indices", "<i4", ("artists of tracks",), "the artists, the one named first first"),
    ArraySpec("search_tracks", "<i4", ("places",), "the track at each place of the index of names"),
    ArraySpec("search_codes", "<u8", ("codes",), "the codes that occur in names, ascending"),
    ArraySpec(
        "search_indptr",
        "<i8",
        ("codes+1",),
        "where the places of each code begin",
        ends_at="places of codes",
    ),
    ArraySpec("search_places", "<i4", ("places of codes",), "the places, ascending within a code"),
    ArraySpec("search_words", "<i8", ("words",), "the words of names, as numbers, ascending"),
    ArraySpec("search_word_sums", "<i8", ("words+1",), "the running sum of how many names have each word"),
    ArraySpec("names", TEXT, ("tracks",), 'the name of each track, "" where unknown'),
    ArraySpec("artists", TEXT, ("tracks",), 'the artists of each track as one text, "" where unknown'),
    ArraySpec("image_urls", TEXT, ("tracks",), 'the address of a picture, "" where unknown'),
    ArraySpec("preview_urls", TEXT, ("tracks",), 'the address of an excerpt, "" where unknown'),
)
