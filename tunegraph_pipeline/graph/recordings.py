"""Which track ids are one recording: the same ISRC under several ids is one node of the graph, and so is a
song that is known by its names alone with one of that artist and title.

Here: the map from every track to the one that stands for its recording, and the description of a recording
under any of its ids. Not here: the id map itself (`id_map.py`), which keeps every id, and the likes
(`like_graph.py`).

A catalogue lists a recording once for every album, single and compilation it is on. Unmerged, its listeners
and neighbours would be split over these ids, and users would be offered a song they like under another id.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tunegraph_pipeline.song_ids import NAME_PREFIX, name_id, name_key

MAX_IDS = 20
"""An ISRC on more ids than this is a placeholder somebody typed in, and identifies no recording."""
LENGTH_TOLERANCE_MS = 10_000
"""Ids whose lengths differ by more than this are two recordings, whatever their ISRC says."""

_ISRC = "^[A-Z]{2}[A-Z0-9]{3}[0-9]{7}$"


@dataclass(frozen=True)
class Recordings:
    """``canonical``: int32[N], the smallest track_idx of each track's recording, its own where the recording
    has one id alone; ``placeholders``: ISRCs on too many ids; ``of_several_lengths``: ISRCs whose ids differ
    in length."""

    canonical: npt.NDArray[np.int32]
    placeholders: int = 0
    of_several_lengths: int = 0

    @property
    def aliases(self) -> npt.NDArray[np.int32]:
        """The tracks that another track of their recording stands for, ascending."""
        return np.flatnonzero(is_alias(self.canonical)).astype(np.int32)

    def facts(self) -> dict[str, int]:
        """The counts shown to people, as JSON."""
        aliases = self.aliases
        return {
            "recordings_merged": len(np.unique(self.canonical[aliases])),
            "ids_merged_away": len(aliases),
            "isrcs_on_too_many_ids": self.placeholders,
            "isrcs_of_several_lengths": self.of_several_lengths,
        }


def all_apart(n_tracks: int) -> Recordings:
    """Every track stands for itself."""
    return Recordings(np.arange(n_tracks, dtype=np.int32))


def is_alias(canonical: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """bool[N]: the tracks that another track of their recording stands for."""
    aliases: npt.NDArray[np.bool_] = canonical != np.arange(len(canonical), dtype=np.int32)
    return aliases


def find_recordings(track_ids: pl.Series, tracks: pl.DataFrame) -> Recordings:
    """Find which tracks of the id map ``track_ids`` share an ISRC, from the columns track_id, isrc and
    duration_ms of ``tracks``, one row per track in any order. Rows of tracks the id map lacks are ignored.
    With the columns name and artists, a track whose id is made of its names (`song_ids.name_id`) joins the
    first other track of that title and of one of its artists, or of all of them together.

    Case, blanks and hyphens of an ISRC do not matter; a malformed one counts as unknown. Where the lengths of
    one ISRC differ too much, ids within the tolerance of the shortest are merged, then those within that of
    the shortest remaining, and so on; an id of unknown length then stays alone, as it could be any of them.
    """
    recordings = all_apart(len(track_ids))
    by_isrc = _sharing_an_isrc(track_ids, tracks)
    lengths = pl.col("length")
    by_isrc = by_isrc.with_columns(
        ids=pl.len().over("isrc"),
        differ=((lengths.max() - lengths.min()).over("isrc") > LENGTH_TOLERANCE_MS).fill_null(value=False),
        first=pl.col("track").min().over("isrc"),
    )
    few = by_isrc.filter(pl.col("ids") <= MAX_IDS)
    alike, unlike = few.filter(~pl.col("differ")), few.filter("differ")
    canonical = recordings.canonical
    canonical[alike["track"].to_numpy()] = alike["first"].to_numpy()
    for together in _of_one_length(unlike):
        canonical[together] = min(together)
    _join_by_name(track_ids, tracks, canonical)
    return Recordings(
        canonical,
        placeholders=by_isrc.filter(pl.col("ids") > MAX_IDS)["isrc"].n_unique(),
        of_several_lengths=unlike["isrc"].n_unique(),
    )


def known_under_any_id(
    track_ids: pl.Series, canonical: npt.NDArray[np.int32], described: pl.DataFrame
) -> pl.DataFrame:
    """Align ``described`` with the id map: row i describes track i, all null where nothing is known.

    ``described`` has track_id, one row per track, and any other columns. A null is filled from the other ids
    of the recording, in order of their track_idx.
    """
    ids = pl.DataFrame({"track_id": track_ids.cast(pl.String), "recording": canonical})
    rows = ids.join(described, on="track_id", how="left", maintain_order="left")
    columns = [name for name in described.columns if name != "track_id"]
    aliases = is_alias(canonical)
    if aliases.any() and columns:
        of_several = pl.Series(np.unique(canonical[aliases]))
        known = (
            rows.filter(pl.col("recording").is_in(of_several.implode()))
            .group_by("recording", maintain_order=True)
            .agg(pl.col(name).drop_nulls().first().alias(f"{name} of any") for name in columns)
        )
        rows = rows.join(known, on="recording", how="left", maintain_order="left").with_columns(
            pl.coalesce(name, f"{name} of any").alias(name) for name in columns
        )
    return rows.select("track_id", *columns)


def _join_by_name(track_ids: pl.Series, tracks: pl.DataFrame, canonical: npt.NDArray[np.int32]) -> None:
    """Let tracks whose ids are made of names join others, in ``canonical``."""
    ids = pl.DataFrame({"track_id": track_ids.cast(pl.String)}).with_row_index("track")
    named = ids.filter(pl.col("track_id").str.starts_with(NAME_PREFIX))
    if named.is_empty() or not {"name", "artists"} <= set(tracks.columns):
        return
    others = ids.join(named, on="track", how="anti").join(
        tracks.select("track_id", "name", "artists").drop_nulls(), on="track_id"
    )
    places = dict(named.select("track_id", "track").iter_rows())
    titles = {track_id.rpartition("/")[2] for track_id in places}
    distinct = others["name"].unique()
    wanted = [name for name in distinct.to_list() if name_key(name) in titles]
    found: dict[int, int] = {}
    for track, _, name, artists in others.filter(pl.col("name").is_in(wanted)).sort("track").iter_rows():
        for artist in dict.fromkeys([*artists, " ".join(artists)]):
            place = places.get(name_id(artist, name) or "")
            if place is not None:
                found.setdefault(place, track)
    for place, track in sorted(found.items()):
        other = canonical[track]
        if place < other:  # the smallest index stands for a recording
            canonical[canonical == other] = place
        else:
            canonical[place] = other


def _of_one_length(tracks: pl.DataFrame) -> Iterator[list[int]]:
    """Yield the tracks of each ISRC that are of one length, from the columns track, isrc and length."""
    together: list[int] = []
    shortest: tuple[str, int] | None = None
    ordered = tracks.drop_nulls("length").sort("isrc", "length", "track")
    for track, isrc, length in ordered.select("track", "isrc", "length").iter_rows():
        if shortest is None or isrc != shortest[0] or length - shortest[1] > LENGTH_TOLERANCE_MS:
            if together:
                yield together
            together, shortest = [], (isrc, length)
        together.append(track)
    if together:
        yield together


def _sharing_an_isrc(track_ids: pl.Series, tracks: pl.DataFrame) -> pl.DataFrame:
    """Return track, isrc and length (ms, null where unknown) of the tracks whose ISRC is on other ids too."""
    code = pl.col("isrc").str.to_uppercase().str.replace_all(r"[\s-]", "")
    return (
        pl.DataFrame({"track_id": track_ids.cast(pl.String)})
        .with_row_index("track")
        .join(tracks.select("track_id", "isrc", "duration_ms"), on="track_id", how="inner")
        .select(
            "track",
            isrc=pl.when(code.str.contains(_ISRC)).then(code),
            length=pl.when(pl.col("duration_ms") > 0).then("duration_ms"),
        )
        .drop_nulls("isrc")
        .filter(pl.col("isrc").is_duplicated())
    )
