"""AcousticBrainz's last dump, of 2022: what recordings sound like, as analysed from people's own files.

Here: what of it corresponds to the features and the description of a track. Not here: reading an archive
(`recording_archives`).

Read are documents (``acousticbrainz-highlevel-json-*.tar.zst`` and ``-lowlevel-json-``), one for each
submission of a recording, and tables (``acousticbrainz-lowlevel-features-*-rhythm.tar.zst`` and ``-tonal``).
Of several submissions of a recording that with the smallest number counts, the first one. Means would lie
between a tempo and its double, and between two keys.

What corresponds: the tempo, key and mode; and how sure a classifier is that a recording is danceable,
acoustic, happy (valence) or instrumental. Energy, liveness, loudness in decibels and speechiness have no
counterpart, and stay unknown. So does danceability in the tables, which is another measure.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.sources.cells import without_controls
from tunegraph_pipeline.sources.recording_archives import (
    Described,
    archive_files,
    recording_ids,
    table_blocks,
    wanted_in,
)
from tunegraph_pipeline.sources.source import year_of

_CLASSIFIERS = {
    "danceability": ("danceability", "danceable"),
    "acousticness": ("mood_acoustic", "acoustic"),
    "valence": ("mood_happy", "happy"),
    "instrumentalness": ("voice_instrumental", "instrumental"),
}
"""Feature -> a classifier and its class, whose probability is the feature."""
_NOTES = (
    *("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"),
    *("", "Db", "", "Eb", "", "", "Gb", "", "Ab", "", "Bb", ""),
)
_KEYS = {note: place % 12 for place, note in enumerate(_NOTES) if note}
_MODES = {"minor": 0, "major": 1}
_FASTEST = 500.0
_COLUMNS = ("mbid", "submission_offset", "bpm", "key_key", "key_scale")
_LONGEST_GENRE = 100
_CODE = re.compile(r"\(?\d*\)?")
"""A genre as a number, as in tags of the nineties."""
_AGAIN = "further submissions of a recording, left out"
_UNREADABLE = "documents that cannot be read, left out"

_Values = dict[str, Any]


def read_acousticbrainz(path: Path, songs: pl.Series, redirects: pl.DataFrame) -> Described:
    """What the archive says of ``songs``, ids of any kind, under every id that is MusicBrainz's, and under
    the ids that ``redirects`` (track_id, recording_id) lead from to these.

    Raises InputError if none of the ids is MusicBrainz's, or the archive is damaged or has nothing of use.
    """
    mbids = recording_ids(path, songs)
    others = redirects.filter(pl.col("recording_id").is_in(mbids.implode()))["track_id"]
    wanted = pl.concat([mbids, others]).unique()
    documents = _Documents(wanted)
    tables: list[pl.DataFrame] = []
    has_tables = False
    for name, content in archive_files(path):
        if name.endswith(".json"):
            documents.add(name, content)
        elif name.endswith(".csv"):
            for block in table_blocks(path, content, _COLUMNS, some_missing=True):
                has_tables |= any(block[column].null_count() < len(block) for column in _COLUMNS[2:])
                tables.append(block.filter(wanted_in(block["mbid"], wanted)))
    if not has_tables and not documents.seen:
        raise InputError(
            f"{path} has nothing that songs are described by; of AcousticBrainz give the documents"
            " (-highlevel-json-, -lowlevel-json-) or the tables rhythm and tonal"
        )
    counts = Counter(documents.counts)
    rows = [*documents.rows(), *_rows_of_tables(tables, counts)]
    known = pl.DataFrame(rows, {"track_id": pl.String, "genre": pl.String, "year": pl.Int32, **_FEATURES})
    known = without_controls(known.sort("track_id"), counts)
    return Described(
        {what: n for what, n in counts.items() if n},
        _part(known, "tracks", ("genre", "year")),
        _part(known, "features", tuple(_FEATURES)),
    )


_FEATURES = dict.fromkeys((*_CLASSIFIERS, "tempo", "key", "mode"), pl.Float32)


def _part(known: pl.DataFrame, part: str, columns: Sequence[str]) -> pl.DataFrame:
    """The rows that have any of ``columns``, as a part of a raw batch."""
    empty = empty_frame(part)
    rows = known.filter(pl.any_horizontal(pl.col(columns).is_not_null())).select("track_id", *columns)
    return pl.concat([empty, rows], how="diagonal").select(empty.columns)


class _Documents:
    """Collects the documents of wanted recordings, the first submission of each."""

    def __init__(self, wanted: pl.Series) -> None:
        self.seen = 0
        self.counts = Counter[str]()
        self._wanted = frozenset(wanted)
        self._found: dict[str, tuple[int, _Values]] = {}

    def add(self, name: str, content: IO[bytes]) -> None:
        """Take a document called MBID-SUBMISSION.json."""
        self.seen += 1
        mbid, _, number = name.removesuffix(".json").rpartition("-")
        if mbid not in self._wanted or not number.isdecimal():
            return
        known = self._found.get(mbid)
        if known is not None:
            self.counts[_AGAIN] += 1
        if known is None or int(number) < known[0]:
            try:
                document = json.load(content)
            except (ValueError, RecursionError):
                self.counts[_UNREADABLE] += 1
                return
            self._found[mbid] = int(number), _values(document)

    def rows(self) -> Iterator[_Values]:
        for mbid, (_, values) in self._found.items():
            yield {"track_id": mbid, **values}


def _values(document: Any) -> _Values:
    """What a document says, by column; what it does not say is missing or None."""
    found: _Values = {
        feature: _share(_at(document, "highlevel", classifier, "all", label))
        for feature, (classifier, label) in _CLASSIFIERS.items()
    }
    tonal = [_at(document, "tonal", name) for name in ("key_key", "key_scale")]
    found |= _sound(_at(document, "rhythm", "bpm"), *tonal)
    tags = [_first(_at(document, "metadata", "tags", name)) for name in ("originaldate", "date", "genre")]
    genre = tags[2]
    return found | {
        "year": next((year for date in tags[:2] if (year := year_of(date)) is not None), None),
        "genre": genre if genre and len(genre) <= _LONGEST_GENRE and not _CODE.fullmatch(genre) else None,
    }


def _rows_of_tables(tables: Sequence[pl.DataFrame], counts: Counter[str]) -> Iterator[_Values]:
    """The rows of the first submissions in tables."""
    found = pl.concat([pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.String)), *tables])
    ordered = found.sort(pl.col("submission_offset").cast(pl.Int64, strict=False), nulls_last=True)
    first = ordered.unique("mbid", keep="first", maintain_order=True)
    counts[_AGAIN] += len(found) - len(first)
    for mbid, _, *said in first.iter_rows():
        yield {"track_id": mbid, **_sound(*said)}


def _sound(bpm: Any, key: Any, scale: Any) -> _Values:
    try:
        tempo = math.nan if isinstance(bpm, bool) else float(bpm)
    except (TypeError, ValueError):
        tempo = math.nan
    return {
        "tempo": tempo if 0 < tempo <= _FASTEST else None,
        "key": _KEYS.get(key) if isinstance(key, str) else None,
        "mode": _MODES.get(scale) if isinstance(scale, str) else None,
    }


def _share(value: Any) -> float | None:
    given = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if given else None


def _at(value: Any, *path: str) -> Any:
    """What is at a path of keys in a document; None where it ends before."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _first(values: Any) -> str | None:
    """The first text of a tag, which has a list of them."""
    one = values[0] if isinstance(values, list) and values else values
    return one.strip() or None if isinstance(one, str) else None
