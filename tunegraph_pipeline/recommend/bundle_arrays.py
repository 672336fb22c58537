"""The arrays of a bundle, declared.

Here: name, dtype, shape and meaning of each, as fields of two classes: what a bundle is given, and what it
stores. Not here: writing and opening them (`bundle`), or what is computed from them (`ranking`, `search`).
"""

from dataclasses import dataclass
from typing import Annotated, Generic

from tunegraph_pipeline.lake.array_spec import NEUTRAL, Texts, offsets, specs_of, stored
from tunegraph_pipeline.lake.arrays import (
    Bool,
    Float16,
    Float32,
    Int8,
    Int32,
    Int64,
    StringColumn,
    UInt16,
    UInt32,
    UInt64,
)
from tunegraph_pipeline.models.arrays import ScoreArrays


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GivenArrays(ScoreArrays, Generic[Texts]):
    """What a bundle is given and stores as it is. What is NEUTRAL here may be left out; what is optional as
    well is then not stored."""

    track_ids: Annotated[Texts, stored("tracks", "the id of each track")]
    user_ids: Annotated[Texts, stored("users", "the id of each user")]
    popularity: Annotated[Int32, stored("tracks", "number of users who like each track")]
    recommendable: Annotated[Bool, stored("tracks", "whether a track may be recommended")]
    canonical: Annotated[
        Int32,
        stored("tracks", "the canonical track of each track's recording", neutral="row", indexes="tracks"),
    ] = NEUTRAL
    explicit: Annotated[
        Int8, stored("tracks", "1 if a track is marked explicit, 0 if not, -1 if unknown", neutral=-1)
    ] = NEUTRAL
    years: Annotated[
        Int32, stored("tracks", "the year of release of each track, 0 if unknown", neutral=0, optional=True)
    ] = NEUTRAL
    layout: Annotated[
        Float32, stored("tracks x 2", "the position of each track on the map, 0 to 1", neutral=0.5)
    ] = NEUTRAL
    user_indptr: Annotated[Int64, offsets("users", "likes", "where the liked list of each user begins")]
    user_tracks: Annotated[
        Int32, stored("likes", "the liked tracks, ascending within a user", indexes="tracks")
    ]
    user_ages: Annotated[
        UInt16,
        stored(
            "likes",
            "for each like, how many of the user are newer, 65,535 at most; 0 in a list without an order."
            " Missing where no list has one",
            optional=True,
        ),
    ] = NEUTRAL
    disliked_indptr: Annotated[
        Int64, offsets("users", "dislikes", "where the disliked list of each user begins")
    ] = NEUTRAL
    disliked_tracks: Annotated[
        Int32, stored("dislikes", "the disliked tracks, ascending within a user", indexes="tracks")
    ] = NEUTRAL
    names: Annotated[Texts, stored("tracks", 'the name of each track, "" if unknown')]
    artists: Annotated[Texts, stored("tracks", 'the artists of each track as one text, "" if unknown')]
    isrcs: Annotated[Texts, stored("tracks", 'the ISRC of each track, "" if unknown', optional=True)] = (
        NEUTRAL
    )
    image_urls: Annotated[Texts, stored("tracks", 'the URL of the cover, "" if unknown')]
    preview_urls: Annotated[Texts, stored("tracks", 'the URL of the preview, "" if unknown')]
    feature_names: Annotated[
        Texts, stored("features", "the audio features that are known of any track", optional=True)
    ] = NEUTRAL
    features: Annotated[
        Float16,
        stored("features x tracks", "each feature of each track, NaN if unknown, never -0", optional=True),
    ] = NEUTRAL
    genre_names: Annotated[
        Texts, stored("genres", "the name of each genre, those of most tracks first", optional=True)
    ] = NEUTRAL
    genre_indptr: Annotated[
        Int64, offsets("genres", "tracks of genres", "where the tracks of each genre begin", optional=True)
    ] = NEUTRAL
    genre_tracks: Annotated[
        Int32,
        stored(
            "tracks of genres",
            "the canonical tracks of each genre, ascending within a genre",
            optional=True,
            indexes="tracks",
        ),
    ] = NEUTRAL


class BundleArrays(GivenArrays[StringColumn]):
    """All arrays of a bundle: what it was given, and what `bundle.write_bundle` computes of that."""

    track_hashes: Annotated[UInt32, stored("tracks", "CRC-32 of the track ids, ascending")]
    track_hash_order: Annotated[
        Int32, stored("tracks", "the track each of those hashes belongs to", indexes="tracks")
    ]
    user_hashes: Annotated[UInt32, stored("users", "CRC-32 of the user ids, ascending")]
    user_hash_order: Annotated[
        Int32, stored("users", "the user each of those hashes belongs to", indexes="users")
    ]
    popular_order: Annotated[
        Int32,
        stored(
            "recommendable tracks",
            "the recommendable tracks, most liked first, the smaller index first on a tie",
            indexes="tracks",
        ),
    ]
    screen: Annotated[
        Float32,
        stored(
            "tracks x screen width",
            "the first coordinates of the embedding, the length of the others, the prior (-1e30 if the track"
            " must not be recommended), and the standardised log popularity; it bounds the score of each"
            " track",
        ),
    ]
    listener_indptr: Annotated[
        Int64, offsets("tracks", "listeners", "where the listeners of each track begin")
    ]
    listeners: Annotated[
        Int32, stored("listeners", "the users who like each track, ascending within a track", indexes="users")
    ]
    artist_ids: Annotated[StringColumn, stored("artists", "the id of each artist, or the name without one")]
    artist_names: Annotated[StringColumn, stored("artists", "the name of each artist")]
    artist_indptr: Annotated[
        Int64, offsets("tracks", "artists of tracks", "where the artists of each track begin")
    ]
    artist_indices: Annotated[
        Int32, stored("artists of tracks", "the artists, in the order they are named", indexes="artists")
    ]
    search_tracks: Annotated[
        Int32, stored("places", "the track at each place of the search index", indexes="tracks")
    ]
    search_codes: Annotated[UInt64, stored("codes", "the codes that occur in names, ascending")]
    search_indptr: Annotated[
        Int64, offsets("codes", "places of codes", "where the places of each code begin")
    ]
    search_places: Annotated[
        Int32, stored("places of codes", "the places, ascending within a code", indexes="places")
    ]
    search_words: Annotated[Int64, stored("words", "the words of names, as numbers, ascending")]
    search_word_sums: Annotated[Int64, stored("words+1", "the running sum of how many names have each word")]


BUNDLE = specs_of(BundleArrays)
