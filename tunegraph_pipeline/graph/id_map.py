"""The append-only map from track ids to the row a track has in every matrix.

Here: how the map grows, and the fingerprint of a map. Not here: where it is kept (the `track_ids` table of
the lake). Users have no such map: nothing that is learned or served has a row per user, so their order may
change from day to day.
"""

import hashlib

import polars as pl

from tunegraph_pipeline.errors import LakeError

_MAX_TRACKS = 2**31 - 1  # every index of a track is an int32


def extend_track_ids(known: pl.Series, seen: pl.Series) -> pl.Series:
    """Return ``known`` with the ids of ``seen`` it lacks appended in sorted order.

    Both are string series without nulls; ``seen`` may contain repeats in any order. The position of an id in
    the result is its ``track_idx``: ids in ``known`` keep theirs, and an id that nobody likes any more stays,
    so that yesterday's embedding still fits its row today.

    Raises LakeError when ``known`` holds an id twice, either holds a null, or the map would outgrow the int32
    that indexes it.
    """
    known, seen = known.cast(pl.String), seen.cast(pl.String)
    for name, ids in (("track id map", known), ("new track ids", seen)):
        if ids.null_count():
            raise LakeError(f"the {name} has {ids.null_count()} empty id(s); every track needs an id")
    if known.n_unique() != len(known):
        twice = known.filter(known.is_duplicated())[0]
        raise LakeError(f"the track id map holds {twice!r} twice; restore it from the raw batches")
    new = seen.unique()
    new = new.filter(~new.is_in(known.implode())).sort()
    if len(known) + len(new) > _MAX_TRACKS:
        raise LakeError(f"{len(known) + len(new)} tracks are more than the {_MAX_TRACKS} a matrix can index")
    return pl.concat([known, new.alias(known.name)], rechunk=True)


def id_map_fingerprint(ids: pl.Series) -> str:
    """A short hash of an id map, order included; that of a prefix shows whether another map continues it."""
    # A length before each id, so that no two maps give the same text. One at a time: a list of all is large.
    hashed = hashlib.blake2b(digest_size=8)
    for one in ids:
        hashed.update(f"{len(one)}:{one}".encode())
    return hashed.hexdigest()
