"""Which track ids are one recording, and so one node of the graph, whatever service each id is of.

Here: the stages by which ids are joined, the map from every track to the one that stands for its recording,
and the description of a recording under any of its ids. Not here: the id map itself (`id_map`), which keeps
every id, the keys of names (`name_keys`), or how keys join tracks (`joined_tracks`).

A catalogue lists a recording once for every album, single and compilation it is on, and every service has
ids of its own. Unmerged, its listeners and neighbours would be split over these ids, and users would be
offered a song they like under another id. The stages, in the order of trust:

1. ``isrc``: the same ISRC, unless it is on so many ids that it is a placeholder.
2. ``mbid``: MusicBrainz redirects the ids to one.
3. ``name``: the same artists and title, but for case, accents and signs.
4. ``stripped name``: the same but for remarks on the issue, guests and the script, and only for recordings of
   which no id is written plainly. So is an id that is made of names, and of one artist of several.

No recording has lengths that differ by more than ten seconds. What could be one of several stays apart.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import polars as pl

from tunegraph_pipeline.graph.joined_tracks import JoinedTracks, by_length, is_spread
from tunegraph_pipeline.graph.name_keys import exact_keys, song_keys
from tunegraph_pipeline.lake.schemas import JOINED_BY, JoinedBy
from tunegraph_pipeline.song_ids import MBID, NAME_PREFIX

MAX_IDS = 20
"""An ISRC on more ids than this is a placeholder somebody typed in, and identifies no recording."""

_ISRC = "^[A-Z]{2}[A-Z0-9]{3}[0-9]{7}$"
_ISRC_ID = "isrc:"
_MBID = f"^{MBID}$"


@dataclass(frozen=True)
class Recordings:
    """``canonical``: int32[N], the smallest track_idx of each track's recording, its own where the recording
    has one id alone; ``joined_by``: the stage by which each track came to that one, null for itself;
    ``placeholders``: ISRCs on too many ids; ``apart``: by stage, the keys of which something stayed apart."""

    canonical: npt.NDArray[np.int32]
    joined_by: pl.Series = field(default_factory=lambda: pl.Series("joined_by", [], dtype=pl.String))
    placeholders: int = 0
    apart: dict[str, int] = field(default_factory=dict)

    @property
    def aliases(self) -> npt.NDArray[np.int32]:
        """The tracks that another track of their recording stands for, ascending."""
        return np.flatnonzero(is_alias(self.canonical)).astype(np.int32)

    def facts(self) -> dict[str, int]:
        """The counts shown to people, as JSON."""
        aliases = self.aliases
        by = self.joined_by.drop_nulls().value_counts()
        counts = dict(by.iter_rows())
        return {
            "recordings_merged": len(np.unique(self.canonical[aliases])),
            "ids_merged_away": len(aliases),
            **{f"joined by {stage}": counts.get(stage, 0) for stage in JOINED_BY},
            "isrcs_on_too_many_ids": self.placeholders,
            **{f"left apart by {stage}": self.apart.get(stage, 0) for stage in JOINED_BY},
        }


def all_apart(n_tracks: int) -> Recordings:
    """Every track stands for itself."""
    return Recordings(
        np.arange(n_tracks, dtype=np.int32), pl.repeat(None, n_tracks, dtype=pl.String, eager=True)
    )


def is_alias(canonical: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """bool[N]: the tracks that another track of their recording stands for."""
    aliases: npt.NDArray[np.bool_] = canonical != np.arange(len(canonical), dtype=np.int32)
    return aliases


def find_recordings(
    track_ids: pl.Series,
    tracks: pl.DataFrame,
    redirects: pl.DataFrame | None = None,
    *,
    join_by: Collection[JoinedBy] = JOINED_BY,
) -> Recordings:
    """Find which tracks of the id map ``track_ids`` are one recording.

    ``tracks`` has track_id, isrc and duration_ms, and perhaps name and artists, one row per track in any
    order; rows of tracks the id map lacks are ignored. ``redirects`` (track_id, recording_id) names the id
    that MusicBrainz redirects another to, which need not be in the id map. ``join_by`` are the stages to use.

    Case, blanks and hyphens of an ISRC do not matter; a malformed one counts as unknown. Where the lengths of
    one key differ too much, ids within the tolerance of the shortest are joined, then those within that of
    the shortest remaining, and so on; an id of unknown length then stays alone, as it could be any of them.
    """
    described = (
        pl.DataFrame({"track_id": track_ids.cast(pl.String)})
        .with_row_index("track")
        .join(_whole(tracks), on="track_id", how="left", maintain_order="left")
    )
    lengths = described.select(pl.when(pl.col("duration_ms") > 0).then("duration_ms").cast(pl.Float64))
    groups = JoinedTracks(lengths.to_series().fill_null(np.nan).to_numpy())
    labels: list[npt.NDArray[np.int32]] = []
    apart: dict[str, int] = dict.fromkeys(JOINED_BY, 0)
    placeholders = 0
    names: pl.DataFrame | None = None
    for stage in JOINED_BY:
        if stage in join_by:
            if stage == "isrc":
                keys, placeholders = _isrcs(described)
                apart[stage] = groups.join(keys)
            elif stage == "mbid":
                apart[stage] = 0 if redirects is None else groups.join(_mbids(described, redirects))
            else:
                names = song_keys(described) if names is None else names
                if stage == "name":
                    apart[stage] = groups.join(names.select("track", key="exact").drop_nulls())
                else:
                    _join_stripped(groups, names, "of_all")
                    apart[stage] = _join_stripped(groups, names, "loose") + _join_guests(groups, described)
        labels.append(groups.label)
    return Recordings(groups.label, _joined_by(labels), placeholders, apart)


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


def _whole(tracks: pl.DataFrame) -> pl.DataFrame:
    """The columns of ``tracks`` that say which recording a track is of."""
    wanted: dict[str, pl.DataType] = {
        "track_id": pl.String(),
        "isrc": pl.String(),
        "duration_ms": pl.Int64(),
        "name": pl.String(),
        "artists": pl.List(pl.String),
    }
    return tracks.select(
        (pl.col(name) if name in tracks.columns else pl.lit(None).alias(name)).cast(kind)
        for name, kind in wanted.items()
    )


def _joined_by(labels: list[npt.NDArray[np.int32]]) -> pl.Series:
    """The first stage after which each track was with the one that stands for its recording."""
    canonical = labels[-1]
    found = np.full(len(canonical), len(JOINED_BY), dtype=np.int8)
    for stage in reversed(range(len(JOINED_BY))):
        found[(labels[stage] == canonical) & is_alias(canonical)] = stage
    return pl.Series("joined_by", [*JOINED_BY, None], dtype=pl.String).gather(found)


def _isrcs(described: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The ISRC of each track that has one, as track and key, and how many are placeholders. It is one on too
    many ids, and then none of them has it."""
    written = pl.coalesce("isrc", pl.when(pl.col("track_id").str.starts_with(_ISRC_ID)).then("track_id"))
    code = written.str.to_uppercase().str.replace("^ISRC:", "").str.replace_all(r"[\s-]", "")
    keys = described.select("track", key=pl.when(code.str.contains(_ISRC)).then(code)).drop_nulls()
    ids = pl.len().over("key")
    return keys.filter(ids <= MAX_IDS), keys.filter(ids > MAX_IDS)["key"].n_unique()


def _mbids(described: pl.DataFrame, redirects: pl.DataFrame) -> pl.DataFrame:
    """The id that MusicBrainz uses for each of its tracks, as track and key."""
    known = redirects.select("track_id", "recording_id")
    rows = described.filter(pl.col("track_id").str.contains(_MBID)).join(known, on="track_id", how="left")
    return rows.select("track", key=pl.coalesce("recording_id", "track_id"))


def _join_stripped(groups: JoinedTracks, names: pl.DataFrame, key: str) -> int:
    """Join recordings without a plainly written id to those with the same stripped name, the column ``key``
    of ``names``; returns of how many names something stayed apart."""
    named = (
        names.drop_nulls(key)
        .with_columns(group=pl.lit(pl.Series(groups.label)).gather(pl.col("track")))
        .with_columns(any_plain=pl.col("plain").any().over("group"))
        .filter(pl.col("plain") | ~pl.col("any_plain"))
        .filter(pl.col("group").n_unique().over(key) > 1)
    )
    # Most names are simple: one guest list and, at most, one recording that is written plainly.
    simple = (pl.col("credited").n_unique().over(key) == 1) & (
        pl.col("group").filter("plain").n_unique().over(key) <= 1
    )
    rows = named.filter(~simple).sort(key).select(key, "group", "credited", "plain").iter_rows()
    keys: list[str] = []
    tracks: list[int] = []
    apart = 0
    for name, of_name in groupby(rows, itemgetter(0)):
        found, clear = _of_one_name(groups, of_name)
        apart += not clear
        for place, together in enumerate(found):
            keys += [f"{name}/{place}"] * len(together)
            tracks += together
    others = pl.DataFrame({"track": tracks, "key": keys}, {"track": pl.UInt32, "key": pl.String})
    return apart + groups.join(pl.concat([named.filter(simple).select("track", key=key), others]))


def _of_one_name(
    groups: JoinedTracks, rows: Iterable[tuple[str, int, str, bool]]
) -> tuple[list[list[int]], bool]:
    """The recordings of one stripped name that are joined, and whether none stayed apart. ``rows`` are the
    name, group, credited and plain of its tracks."""
    credited: dict[int, set[str]] = {}
    plain: set[int] = set()
    for _, group, words, is_plain in rows:
        credited.setdefault(group, set()).update(words.split())
        if is_plain:
            plain.add(group)
    spans = groups.spans(credited)
    clear = not is_spread(spans)
    found: list[list[int]] = []
    for together in [spans] if clear else by_length(spans):
        members = [one.group for one in together]
        if len(plain.intersection(members)) > 1:
            clear = False
            continue
        everybody = set().union(*(credited[one] for one in members))
        if any(credited[one] == everybody for one in members):
            found.append(members)
            continue
        # Guests that exclude each other: the same names are one recording, and no more is known.
        clear = False
        alike: dict[frozenset[str], list[int]] = {}
        for one in members:
            alike.setdefault(frozenset(credited[one]), []).append(one)
        found += alike.values()
    return [one for one in found if len(one) > 1], clear


def _join_guests(groups: JoinedTracks, described: pl.DataFrame) -> int:
    """Join ids made of names, which are still alone, to the one recording of that title with that artist
    among others; returns how many could be one of several."""
    alone = np.bincount(groups.label, minlength=len(groups.label)) == 1
    names = described.select("track", "track_id").filter(
        pl.col("track_id").str.starts_with(NAME_PREFIX) & pl.Series(alone[groups.label])
    )
    several = (
        described.filter(pl.col("artists").list.len() > 1).select("track", "name", "artists").drop_nulls()
    )
    if names.is_empty() or several.is_empty():
        return 0
    rows = (
        several.with_columns(title=exact_keys(several["name"]))
        .explode("artists", empty_as_null=True)
        .with_columns(group=pl.lit(pl.Series(groups.label)).gather(pl.col("track")))
    )
    keys = rows.select(
        "track",
        "group",
        track_id=pl.format("{}{}/{}", pl.lit(NAME_PREFIX), pl.Series(exact_keys(rows["artists"])), "title"),
    ).join(names.select("track_id", wanted="track"), on="track_id")
    one = pl.col("group").n_unique().over("track_id") == 1
    found = keys.filter(one)
    pairs = pl.concat(
        [found.select("track", key="track_id"), found.select(track="wanted", key="track_id").unique()]
    )
    return keys.filter(~one)["track_id"].n_unique() + groups.join(pairs)
