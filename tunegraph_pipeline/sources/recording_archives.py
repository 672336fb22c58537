"""Archives that describe recordings by their MusicBrainz ids, as projects publish them: ``.tar.zst``.

Here: which of these an archive is, and reading its files and tables as a stream. Not here: what the tables
mean (`canonical_data`, `acousticbrainz`), or other files (`files`).

An archive unpacks to many times the disk and memory there is. Nothing is unpacked to disk, and memory holds
a block of rows and what is kept. The limits of `imports` on unpacked bytes do not apply, because nothing is
kept of the rest.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.song_ids import MBID

CANONICAL, ACOUSTICBRAINZ = "musicbrainz-canonical", "acousticbrainz"
"""The formats (`formats.FORMATS`) that are such archives."""

_FILES_OF = {
    CANONICAL: re.compile(r"canonical_\w+\.csv"),
    ACOUSTICBRAINZ: re.compile(rf"acousticbrainz-lowlevel-features-.*\.csv|{MBID}-\d+\.json"),
}
"""Format -> what the files in its archive are called."""
_ENDING = re.compile(r"\.tar\.zst$", re.IGNORECASE)
_MBID = f"^{MBID}$"
_BLOCK_BYTES = 1 << 25


class KnownSongs(NamedTuple):
    """The songs of a lake: ``ids`` of any kind, and the ``redirects`` (track_id, recording_id) it knows."""

    ids: pl.Series = pl.Series("track_id", [], dtype=pl.String)
    redirects: pl.DataFrame = empty_frame("redirects")


class Described(NamedTuple):
    """What an archive says of given songs: ``tracks``, ``features`` and ``redirects`` as in a raw batch;
    ``counts`` for people."""

    counts: dict[str, int]
    tracks: pl.DataFrame = empty_frame("tracks")
    features: pl.DataFrame = empty_frame("features")
    redirects: pl.DataFrame = empty_frame("redirects")


def archive_format(path: Path, format_name: str) -> str | None:
    """The format of an archive of recordings, by the files in it; None for another file. Raises InputError
    for a damaged archive, and one of anything else."""
    if format_name not in {"auto", *_FILES_OF} or not _ENDING.search(path.name):
        return None
    if format_name != "auto":
        return format_name
    for name, _ in archive_files(path):
        for known, pattern in _FILES_OF.items():
            if pattern.fullmatch(name):
                return known
    raise InputError(
        f"{path} is no archive that is known; give the canonical data of MusicBrainz, or data of"
        " AcousticBrainz, as it is published"
    )


def recording_ids(path: Path, songs: pl.Series) -> pl.Series:
    """The ids of MusicBrainz among ``songs``, each once. Raises InputError where there is none."""
    mbids = songs.filter(songs.str.contains(_MBID)).unique()
    if mbids.is_empty():
        raise InputError(
            f"{path} describes recordings by their MusicBrainz ids, and the lake has no song with one; import"
            " listens or likes of MusicBrainz first"
        )
    return mbids


def archive_files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the files of an archive in their order: the name without folders, and the content, to be read
    before the next one. Raises InputError where the archive is missing or damaged."""
    with _opened(path) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)):
                yield member.name.rpartition("/")[2], content


def table_blocks(
    path: Path, content: IO[bytes], columns: Sequence[str], *, some_missing: bool = False
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a table (CSV), a block at a time, as text. A column that it lacks is null with
    ``some_missing``, else an error. Raises InputError where it is damaged."""
    with (
        _errors(path),
        pc.open_csv(
            content,
            read_options=pc.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=pc.ParseOptions(newlines_in_values=True),
            convert_options=pc.ConvertOptions(
                include_columns=list(columns),
                include_missing_columns=some_missing,
                column_types=dict.fromkeys(columns, pa.string()),
            ),
        ) as reader,
    ):
        for batch in reader:
            block = pl.from_arrow(batch)
            assert isinstance(block, pl.DataFrame)
            yield block


def wanted_in(ids: pl.Series, wanted: pl.Series) -> pl.Series:
    """Which of the ids of a block are wanted. The block is the smaller side, by which a hash is built."""
    return ids.is_in(wanted.filter(wanted.is_in(ids.implode())).implode())


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with _errors(path):
        stream: Any = pa.CompressedInputStream(path, "zstd")
        with stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except KeyError as error:
        raise InputError(f"{path} has other columns than expected: {error}") from error
    except (tarfile.TarError, EOFError, OSError, pa.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} is damaged ({reason}); fetch it again and compare its checksum") from error
