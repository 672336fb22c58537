"""MusicBrainz's canonical data, published twice a month: names of recordings, and ids that stand for others.

Here: reading of ``musicbrainz-canonical-dump-*.tar.zst`` what concerns given songs. Not here: reading an
archive (`recording_archives`), or what redirects do (`graph.recordings`).

The archive is read twice: first the redirects, since a song that is redirected has its names under the other
id, then the names.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.song_names import credited
from tunegraph_pipeline.sources.recording_archives import (
    Described,
    archive_files,
    recording_ids,
    table_blocks,
    wanted_in,
)

NAMES = "canonical_musicbrainz_data.csv"
REDIRECTS = "canonical_recording_redirect.csv"

_NAME_COLUMNS = (
    *("artist_mbids", "artist_credit_name", "release_mbid", "release_name"),
    *("recording_mbid", "recording_name"),
)
_REDIRECT_COLUMNS = ("recording_mbid", "canonical_recording_mbid")


def read_canonical_data(path: Path, songs: pl.Series) -> Described:
    """What the archive says of ``songs``, ids of any kind: names under every id that is MusicBrainz's, and
    redirects of these ids and to them.

    Raises InputError if none of the ids is MusicBrainz's, or the archive is damaged or lacks a table.
    """
    mbids = recording_ids(path, songs)
    redirects = _redirects(path, mbids)
    own = redirects.filter(pl.col("track_id").is_in(mbids.implode()))
    wanted = pl.concat([mbids, own["recording_id"]]).unique()
    named = _names(path, wanted)
    # A redirected id has the names of the one that stands for it.
    shown = pl.concat(
        [mbids.to_frame("track_id").with_columns(at="track_id"), own.rename({"recording_id": "at"})]
    )
    tracks = (
        shown.join(named, left_on="at", right_on="recording_mbid")
        .unique("track_id", keep="first", maintain_order=True)
        .sort("track_id")
    )
    counts = {"songs of MusicBrainz that it does not have": len(mbids) - len(tracks)}
    return Described({what: n for what, n in counts.items() if n}, _described(tracks), redirects=redirects)


def _redirects(path: Path, mbids: pl.Series) -> pl.DataFrame:
    found = [empty_frame("redirects")]
    for block in _blocks(path, REDIRECTS, _REDIRECT_COLUMNS):
        rows = block.rename({"recording_mbid": "track_id", "canonical_recording_mbid": "recording_id"})
        known = wanted_in(rows["track_id"], mbids) | wanted_in(rows["recording_id"], mbids)
        found.append(rows.filter(known & (pl.col("track_id") != pl.col("recording_id"))))
    return pl.concat(found).unique("track_id", keep="first", maintain_order=True).sort("track_id")


def _names(path: Path, wanted: pl.Series) -> pl.DataFrame:
    found: list[pl.DataFrame] = [pl.DataFrame(schema=dict.fromkeys(_NAME_COLUMNS, pl.String))]
    for block in _blocks(path, NAMES, _NAME_COLUMNS):
        rows = block.filter(wanted_in(block["recording_mbid"], wanted))
        rows = rows.unique("recording_mbid", keep="first", maintain_order=True)
        wanted = wanted.filter(~wanted.is_in(rows["recording_mbid"].implode()))
        found.append(rows)
    return pl.concat(found)


def _described(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of names as tracks, with the names of all artists of a credit, or else the credit as it is."""
    ids = rows["artist_mbids"].str.extract_all("[0-9a-f-]{36}")
    credits_of = zip(rows["artist_credit_name"].to_list(), ids.list.len().to_list(), strict=True)
    names = [None if credit is None else credited(credit, n or 0) for credit, n in credits_of]
    tracks = rows.select(
        "track_id",
        pl.Series("artists", names, dtype=pl.List(pl.String)),
        ids.alias("artist_ids"),
        name="recording_name",
        album_id="release_mbid",
        album="release_name",
    )
    empty = empty_frame("tracks")
    return pl.concat([empty, tracks], how="diagonal").select(empty.columns)


def _blocks(path: Path, table: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of one table of the archive, a block at a time."""
    for name, content in archive_files(path):
        if name == table:
            yield from table_blocks(path, content, columns)
            return
    raise InputError(f"{path} has no {table}; give MusicBrainz's canonical dump as it is published")
