"""MusicBrainz's canonical data, published twice a month: names of recordings, and ids that stand for others.

Here: reading of ``musicbrainz-canonical-dump-*.tar.zst`` what concerns given songs. Not here: other files
(`files`), or what redirects do (`graph.recordings`).

The archive unpacks to more than 8 GB. It is read as a stream, twice: first the redirects, since a song that
is redirected has its names under the other id, then the names. So memory holds a block of rows, and what is
kept. The limits of `imports` on unpacked bytes do not apply, because nothing is kept of the rest.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.song_ids import MBID

NAMES = "canonical_musicbrainz_data.csv"
REDIRECTS = "canonical_recording_redirect.csv"

_ENDING = re.compile(r"\.tar\.zst$", re.IGNORECASE)
_MBID = f"^{MBID}$"
_BLOCK_BYTES = 1 << 25
_NAME_COLUMNS = ("artist_mbids", "artist_credit_name", "release_mbid", "recording_mbid", "recording_name")
_REDIRECT_COLUMNS = ("recording_mbid", "canonical_recording_mbid")


class CanonicalData(NamedTuple):
    """``tracks`` and ``redirects`` as in a raw batch; ``counts`` for people."""

    tracks: pl.DataFrame
    redirects: pl.DataFrame
    counts: dict[str, int]


def is_canonical_data(path: Path, format_name: str) -> bool:
    """Whether ``path`` is to be read as canonical data, by its ending; no other format is a tar archive."""
    return format_name in {"auto", "musicbrainz-canonical"} and bool(_ENDING.search(path.name))


def read_canonical_data(path: Path, songs: pl.Series) -> CanonicalData:
    """What the archive says of ``songs``, ids of any kind: names under every id that is MusicBrainz's, and
    redirects of these ids and to them.

    Raises InputError if none of the ids is MusicBrainz's, or the archive is damaged or lacks a table.
    """
    mbids = songs.filter(songs.str.contains(_MBID)).unique()
    if mbids.is_empty():
        raise InputError(
            f"{path} describes recordings by their MusicBrainz ids, and the lake has no song with one; import"
            " listens or likes of MusicBrainz first"
        )
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
    return CanonicalData(_described(tracks), redirects, {what: n for what, n in counts.items() if n})


def _redirects(path: Path, mbids: pl.Series) -> pl.DataFrame:
    found = [empty_frame("redirects")]
    for block in _blocks(path, REDIRECTS, _REDIRECT_COLUMNS):
        rows = block.rename({"recording_mbid": "track_id", "canonical_recording_mbid": "recording_id"})
        known = _known(rows["track_id"], mbids) | _known(rows["recording_id"], mbids)
        found.append(rows.filter(known & (pl.col("track_id") != pl.col("recording_id"))))
    return pl.concat(found).unique("track_id", keep="first", maintain_order=True).sort("track_id")


def _names(path: Path, wanted: pl.Series) -> pl.DataFrame:
    found: list[pl.DataFrame] = [pl.DataFrame(schema=dict.fromkeys(_NAME_COLUMNS, pl.String))]
    for block in _blocks(path, NAMES, _NAME_COLUMNS):
        rows = block.filter(_known(block["recording_mbid"], wanted))
        rows = rows.unique("recording_mbid", keep="first", maintain_order=True)
        wanted = wanted.filter(~wanted.is_in(rows["recording_mbid"].implode()))
        found.append(rows)
    return pl.concat(found)


def _known(ids: pl.Series, wanted: pl.Series) -> pl.Series:
    """Which of the ids of a block are wanted. The block is the smaller side, by which a hash is built."""
    return ids.is_in(wanted.filter(wanted.is_in(ids.implode())).implode())


def _described(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of names as tracks. A credit is one text; its artists' ids are given where there is one artist."""
    ids = pl.col("artist_mbids").str.extract_all("[0-9a-f-]{36}")
    tracks = rows.select(
        "track_id",
        name="recording_name",
        artists=pl.concat_list("artist_credit_name"),
        artist_ids=pl.when(ids.list.len() == 1).then(ids),
        album_id="release_mbid",
    )
    empty = empty_frame("tracks")
    return pl.concat([empty, tracks], how="diagonal").select(empty.columns)


def _blocks(path: Path, table: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of one table of the archive, a block at a time."""
    with _opened(path) as archive:
        for member in archive:
            if member.name.rpartition("/")[2] != table or not (content := archive.extractfile(member)):
                continue
            with pc.open_csv(
                content,
                read_options=pc.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pc.ParseOptions(newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string())
                ),
            ) as reader:
                for batch in reader:
                    block = pl.from_arrow(batch)
                    assert isinstance(block, pl.DataFrame)
                    yield block.drop_nulls("recording_mbid")
            return
    raise InputError(f"{path} has no {table}; give MusicBrainz's canonical dump as it is published")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        stream: Any = pa.CompressedInputStream(path, "zstd")
        with stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except KeyError as error:
        raise InputError(f"{path} has other columns than expected: {error}") from error
    except (tarfile.TarError, EOFError, OSError, pa.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} is damaged ({reason}); fetch it again and compare its .sha256") from error
