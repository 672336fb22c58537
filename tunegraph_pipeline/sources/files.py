"""The user's own files: likes, dislikes, tracks and audio features in any known format, also as a source.

Here: importing files, checking the options against them, and whether they are all one person's. Not here:
which files belong together (`file_groups`), reading one (`read_file`), or its batch (`file_import`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import MOST_ID_BYTES
from tunegraph_pipeline.lake import licences
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES, EARLIEST
from tunegraph_pipeline.sources.account_export import export_reading
from tunegraph_pipeline.sources.acousticbrainz import read_acousticbrainz
from tunegraph_pipeline.sources.archives import read_archive
from tunegraph_pipeline.sources.canonical_data import read_canonical_data
from tunegraph_pipeline.sources.cells import as_ids
from tunegraph_pipeline.sources.content import readable_name
from tunegraph_pipeline.sources.file_groups import ARCHIVE, EXPORT, FILE, SEED, group_files
from tunegraph_pipeline.sources.file_import import FileImport, import_reading
from tunegraph_pipeline.sources.formats import BY_NAME, FORMAT_NAMES, Format
from tunegraph_pipeline.sources.limits import file_errors
from tunegraph_pipeline.sources.opinions import Rules
from tunegraph_pipeline.sources.read_file import read_file
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.recording_archives import ACOUSTICBRAINZ, CANONICAL, KnownSongs
from tunegraph_pipeline.sources.seed_project import read_seed
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    Features,
    Like,
    LikedList,
    Track,
    UserGone,
    UserPrivate,
)

KINDS = ("auto", "likes", "tracks", "features")
"""What --kind can say: one of three parts of a batch, or all that the file has. Dislikes go with likes."""

_PACKED = re.compile(r"\.(gz|bz2|xz|zst)$")
_NAMED = re.compile(
    r"^(?:recenttracks|lovedtracks|bannedtracks|lastfmstats|listenbrainz)[-_](.+?)(?:[-_]\d+)?\.",
    re.IGNORECASE,
)
"""Files that exporters name after the person."""


class _Found(NamedTuple):
    """A reading, what messages call it, and the origin that its batch records."""

    where: str
    origin: str
    reading: Reading


def read_files(paths: Sequence[Path], **options: object) -> list[RawBatch]:
    """The raw batches of :func:`import_files`, with its options."""
    return [one.batch for one in import_files(paths, **options)]  # type: ignore[arg-type]


def import_files(
    paths: Sequence[Path],
    *,
    format: str = "auto",  # noqa: A002  (the word of the option)
    kind: str = "auto",
    user_column: str | None = None,
    track_column: str | None = None,
    time_column: str | None = None,
    user_id: str | None = None,
    min_plays: int | None = None,
    min_rating: float | None = None,
    like_when: Mapping[str, frozenset[str]] | None = None,
    ignore: Sequence[str] = (),
    keep_plays: bool = False,
    day: date | None = None,
    known_songs: Callable[[], KnownSongs] | None = None,
) -> list[FileImport]:
    """What the files become, in their order; a folder stands for the data files in it. Nothing is written.

    The seed project's ``user_like.json``, ``id_map.json`` and ``id_map.csv`` in one folder are read as one.
    So are all Spotify account exports among ``paths``, which belong to one person and come first.

    The format is recognised (`formats.FORMATS`) unless ``format`` names one. A file may hold likes, tracks
    and audio features at once; ``kind`` picks one of the three. Columns are recognised by name
    (`columns.COLUMN_NAMES`) unless named here (in a file without a header by position: "1" is the first);
    those in ``ignore`` decide nothing. ``min_plays``, ``min_rating`` and ``like_when`` say what a like is
    (`opinions`); with ``keep_plays`` and without ``min_plays``, one person's plays stay plays, for the rule
    of the lake. Files of one person belong to ``user_id`` (default: `file_import.DEFAULT_USER`).

    ``known_songs`` gives the songs that archives of recordings are read for, such as MusicBrainz's canonical
    data, beside those in the other files; without it such an archive is refused.

    Likes are distinct (user, track) pairs. Dislikes become feedback, given on ``day`` (default: today) where
    the file has no time. ``counts`` of a batch says how many rows were skipped or values set to null, and
    why.

    Raises InputError, one line, if a file is missing, unreadable, damaged, of no known format, lacks a column
    it needs, has no usable row, or if files of two people would become one person.
    """
    for option, value, known in (("--format", format, FORMAT_NAMES), ("--kind", kind, KINDS)):
        if value not in known:
            raise InputError(f"{option} {value} is not known; choose one of {', '.join(known)}")
    if min_plays is not None and min_plays < 1:
        raise InputError(f"--min-plays {min_plays} must be at least 1")
    named = {"user_id": user_column, "track_id": track_column, "liked_at": time_column}
    given = Given(
        format,
        {role: column for role, column in named.items() if column is not None},
        tuple(ignore),
        None if user_id is None else _user(user_id),
        kind == "likes",
        Rules(min_plays, min_rating, like_when or {}, keep_plays),
    )
    groups: list[list[_Found]] = []
    archives: list[tuple[Path, str]] = []
    for group_kind, group in group_files(paths, format):
        if group_kind in {CANONICAL, ACOUSTICBRAINZ}:
            archives += [(path, group_kind) for path in group]
            continue
        with file_errors(str(group[0])):
            groups.append(list(_read_group(group_kind, group, given)))
    _check_options([one.reading for found in groups for one in found], given)
    imports: list[FileImport] = []
    for found in groups:
        with file_errors(found[0].where):
            imports += _import_group(found, kind, given, day)
    for path, name in archives:
        with file_errors(str(path)):
            imports.append(_import_recordings(path, BY_NAME[name], kind, imports, known_songs))
    _check_people(imports, user_id)
    return imports


def _read_group(group_kind: str, group: list[Path], given: Given) -> Iterator[_Found]:
    """Yield the readings of a group of files. Raises InputError as their readers do."""
    names = ", ".join(readable_name(path) for path in group)
    if group_kind != FILE and given.named:
        raise InputError(f"{group[0]} is {group_kind}, which has no columns to name; leave the options out")
    if group_kind == EXPORT:
        # The batch records no path, since the files may be named after their person.
        yield _Found(str(group[0]), "Spotify account export", export_reading(group, given.rules))
    elif group_kind == SEED:
        where = group[0].parent if len(group) > 1 else group[0]
        yield _Found(str(where), names, read_seed(group))
    elif group_kind == ARCHIVE:
        for member, reading in read_archive(group[0], given):
            yield _Found(f"{group[0]}: {member}", f"{names}: {member}", reading)
    else:
        for reading in read_file(group[0], given):
            yield _Found(str(group[0]), names, reading)


def _import_group(group: Sequence[_Found], kind: str, given: Given, day: date | None) -> list[FileImport]:
    """What the parts of a file become, such as the sheets of a workbook.

    A part without a like is left out, and named, if another has one. Plays beside likes are left out unless
    an option asks for plays, or one person's are kept.
    """
    means = {one.reading.format.means for one in group}
    left_out = set()
    if means & {"likes", "library"} and given.rules.min_plays is None:
        left_out.add("plays")
    if "likes" in means:  # a zip that says what somebody likes says no more by its library
        left_out.add("library")
    done: list[FileImport] = []
    failed: list[InputError] = []
    for where, origin, reading in group:
        kept = given.rules.keep_plays and reading.format.whose == "one person"
        if reading.format.means in left_out and not (reading.format.means == "plays" and kept):
            continue
        try:
            done.append(import_reading(reading, where, origin, kind, given, day))
        except InputError as error:
            failed.append(error)
    if failed and not done:
        raise failed[0]
    if failed:
        done[0] = replace(done[0], rules=[*done[0].rules, *(f"left out: {error}" for error in failed)])
    return done


def _import_recordings(
    path: Path,
    of: Format,
    kind: str,
    others: Sequence[FileImport],
    known_songs: Callable[[], KnownSongs] | None,
) -> FileImport:
    """What an archive of recordings says of the known songs and those of the other files."""
    if known_songs is None:
        raise InputError(f"{path} describes the songs of a lake; add it with tunegraph import")
    held = {"tracks"} if of.name == CANONICAL else {"tracks", "features"}
    if kind not in {"auto", *held}:
        raise InputError(f"{path} holds no {kind}, only {' and '.join(sorted(held))}; leave --kind out")
    parts = ("likes", "tracks", "features", "feedback", "plays")
    given = [one.batch.parts()[part]["track_id"] for one in others for part in parts]
    known = known_songs()
    songs = pl.concat([known.ids, *given]).unique()
    if of.name == CANONICAL:
        found = read_canonical_data(path, songs)
    else:
        found = read_acousticbrainz(path, songs, known.redirects)
    batch = RawBatch(
        "files",
        readable_name(path),
        tracks=found.tracks if kind != "features" else empty_frame("tracks"),
        features=found.features if kind != "tracks" else empty_frame("features"),
        redirects=found.redirects,
        counts=found.counts,
        licence=licences.MUSICBRAINZ if of.name == CANONICAL else licences.ACOUSTICBRAINZ,
    )
    return FileImport(batch, str(path), of, of.seen_by)


def _check_options(readings: Sequence[Reading], given: Given) -> None:
    """Raise InputError for an option that no file can use."""
    rules = given.rules
    if given.user_id is not None and not _have_people(readings):
        raise InputError("--user-id is for files of one person, and none was given; leave it out")
    if rules.min_plays is not None and not _have_plays(readings):
        raise InputError("--min-plays is for files of plays, and none was given; leave it out")
    if rules.min_rating is not None and not any(
        table.has_opinions for one in readings for table in one.tables
    ):
        raise InputError("--min-rating is for files of ratings, and none was given; leave it out")


def _have_people(readings: Sequence[Reading]) -> bool:
    return any(
        one.format.whose == "one person" or any("user_id" in table.rows.columns for table in one.tables)
        for one in readings
    )


def _have_plays(readings: Sequence[Reading]) -> bool:
    return any(
        one.format.name == EXPORT or any(table.counts_plays for table in one.tables) for one in readings
    )


def _check_people(imports: Sequence[FileImport], user_id: str | None) -> None:
    """Raise InputError if files of two people would become one person without a word."""
    if user_id is not None:
        return
    people: dict[str, str] = {}
    names: dict[str, str] = {}
    for one in imports:
        if not one.person:
            continue
        name = _PACKED.sub("", Path(one.origin).name.lower())
        alone = ": " not in one.origin and ", sheet " not in one.origin
        if names.setdefault(name, one.origin) != one.origin and alone:
            raise InputError(
                f"{names[name]} and {one.origin} have one name, and may be of two people; import each alone,"
                " with a --user-id of their own, or both with one --user-id if they are one person's"
            )
        in_name = _NAMED.match(Path(one.origin).name)
        if person := one.said_person or (in_name[1].lower() if in_name else ""):
            people.setdefault(person, one.origin)
    if len(people) > 1:
        first, second, *_ = people
        raise InputError(
            f"{people[first]} is {first}'s and {people[second]} is {second}'s; import each alone, with a"
            " --user-id of their own"
        )


def _user(user_id: str) -> str:
    user = as_ids(pl.Series("user_id", [user_id], dtype=pl.String), "user_id", "--user-id", Counter())[0]
    if not isinstance(user, str):
        raise InputError(f"--user-id must be a word or number, not blank, of at most {MOST_ID_BYTES:,} bytes")
    return user


class FileSource:
    """The files named in `lake.json` as a source: read when it is made, so once per crawl.

    If several files name a user, their likes are merged. Raises InputError as `read_files` does.
    """

    name = "files"
    batch_size = describe_size = 5_000

    def __init__(self, paths: Sequence[str | Path], batches: Sequence[RawBatch] | None = None) -> None:
        read = read_files([Path(path) for path in paths]) if batches is None else batches
        self._users = _joined(read, "users")
        self._states = dict(self._users.select("user_id", "state").iter_rows())
        likes = _joined(read, "likes").sort("user_id", "track_id", *EARLIEST, nulls_last=True)
        self._likes = likes.unique(["user_id", "track_id"], keep="first", maintain_order=True)
        lengths = self._likes["user_id"].rle().struct.unnest()
        ends = lengths["len"].cum_sum()
        self._rows = dict(
            zip(lengths["value"], zip(ends - lengths["len"], lengths["len"], strict=True), strict=True)
        )
        self._tracks = _joined(read, "tracks").unique("track_id", keep="first", maintain_order=True)
        features = _joined(read, "features")
        self._features = features.unique("track_id", keep="first", maintain_order=True)

    def start_users(self) -> list[str]:
        """Every user in the files, since no user leads to another."""
        return list(dict.fromkeys([*self._states, *self._rows]))

    def discover(self, user_id: str) -> list[str]:
        self._check(user_id)
        return []

    def liked_list(self, user_id: str) -> LikedList:
        self._check(user_id)
        start, length = self._rows.get(user_id, (0, 0))
        rows = self._likes.slice(start, length).select("track_id", *EARLIEST).iter_rows()
        return LikedList([Like(*row) for row in rows])

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        found = self._tracks.filter(pl.col("track_id").is_in(list(track_ids)))
        return [Track(*row) for row in found.iter_rows()]

    def feature_providers(self) -> list[FeatureProvider]:
        return [self]

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        found = self._features.filter(pl.col("track_id").is_in(list(track_ids)))
        return {
            row["track_id"]: {name: row[name] for name in AUDIO_FEATURES}
            for row in found.iter_rows(named=True)
        }

    def close(self) -> None:
        """Nothing to close: the files were read at once."""

    def _check(self, user_id: str) -> None:
        if user_id not in self._rows and user_id not in self._states:
            raise UserGone(user_id)
        if self._states.get(user_id) == "failed" and user_id not in self._rows:
            raise UserPrivate(user_id)  # the file says that their list is unknown


def _joined(batches: Sequence[RawBatch], part: str) -> pl.DataFrame:
    return pl.concat([empty_frame(part), *(batch.parts()[part] for batch in batches)])
