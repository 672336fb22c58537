"""The user's own files: likes, tracks and audio features in common formats, also as a source; and user ids.

Here: which files belong together, and the raw batches made of them. Not here: how a format is found and read
(`formats`, and `account_export` for a person's Spotify data), how columns are recognised and cleaned
(`columns`), or where batches are kept (`lake`).
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.account_export import holds_export, is_export, read_export
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, TRACK_FIELDS, Part, as_ids, clean, letters, shown
from tunegraph_pipeline.sources.formats import (
    ENDINGS,
    FORMATS,
    SEED_FILES,
    Reading,
    read_content,
    read_format,
    read_seed,
    readable_name,
)
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
"""What --kind can say: one of the three parts of a batch, or all that the file has."""

_EXPORT = "spotify-export"
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
_PART_COLUMNS: dict[Part, set[str]] = {
    "likes": {"user_id"},
    "tracks": set(TRACK_FIELDS),
    "features": set(AUDIO_FEATURES),
}
"""A table fills a part if it has one of these columns."""


def read_files(
    paths: Sequence[Path],
    *,
    format: str = "auto",  # noqa: A002  (the word of the option)
    kind: str = "auto",
    user_column: str | None = None,
    track_column: str | None = None,
    time_column: str | None = None,
    user_id: str | None = None,
    min_plays: int | None = None,
) -> list[RawBatch]:
    """One raw batch for each file of ``paths``, in their order; a folder stands for the data files in it.

    The seed project's ``user_like.json``, ``id_map.json`` and ``id_map.csv`` in one folder make one batch.
    So do all Spotify account exports among ``paths``, as the first batch: they belong to one person,
    ``user_id``, and ``min_plays`` applies to them (`account_export.read_export`).

    The format is detected (`detect_format`) unless ``format`` names one of FORMATS. A file may hold likes,
    tracks and audio features at once; ``kind`` picks one of the three. Columns are recognised by name
    (`columns.COLUMN_NAMES`) unless named here (in a file without a header by position: "1" is the first);
    others are ignored.

    Likes are distinct (user, track) pairs. A weight or number of plays only decides whether a row counts (if
    above zero) and is not kept. Last.fm-1K rows without a track MBID are skipped. ``counts`` of a batch says
    how many rows were skipped or values set to null, and why.

    Raises InputError, one line, if a file is missing, unreadable, damaged, of no known format, lacks a column
    it needs or has no usable row.
    """
    for option, value, known in (("--format", format, FORMATS), ("--kind", kind, KINDS)):
        if value not in known:
            raise InputError(f"{option} {value} is not known; choose one of {', '.join(known)}")
    options = {"user_id": user_column, "track_id": track_column, "liked_at": time_column}
    named = {role: column for role, column in options.items() if column is not None}
    groups = list(_groups(paths, format))
    batches = []
    for group_kind, group in groups:
        if group_kind != "file" and named:
            raise InputError(
                f"{group[0]} is {group_kind}, which has no columns to name; leave the options out"
            )
        if group_kind == _EXPORT:
            reading = read_export(group, user_id, min_plays)
        else:
            reading = read_seed(group) if group_kind == "seed" else read_format(group[0], format, named)
        where, origin = _names_of(group_kind, group)
        batches.append(_batch(reading, where, origin, kind, time_named=time_column is not None))
    for option, given in (("--user-id", user_id), ("--min-plays", min_plays)):
        if given is not None and all(group_kind != _EXPORT for group_kind, _ in groups):
            raise InputError(f"{option} is for a Spotify account export, and none was given; leave it out")
    return batches


def files_together(paths: Sequence[Path]) -> list[list[Path]]:
    """Files in groups of those that :func:`read_files` makes one batch of; every file is in one group."""
    return [group for _, group in _groups(paths, "auto")]


def _groups(paths: Sequence[Path], format_name: str) -> Iterator[tuple[str, list[Path]]]:
    """``paths`` in groups: all account exports ("spotify-export"), folders of them included, the seed
    project's files of one folder ("seed"), and every other file alone ("file")."""
    files = [file for path in paths for file in _files_of(path, format_name)]
    exports = [file for file in files if format_name == _EXPORT or _is_export(file, format_name)]
    if exports:
        yield _EXPORT, list(dict.fromkeys(exports))
    seeds = defaultdict[Path, list[Path]](list)
    for file in files:
        if file.name in SEED_FILES and format_name in {"auto", "seed"}:
            seeds[file.parent].append(file)
    for file in files:
        group = seeds[file.parent]
        if file in exports:
            continue
        if file not in group:
            yield "file", [file]
        elif group[0] == file:
            yield "seed", group


def _names_of(group_kind: str, group: Sequence[Path]) -> tuple[str, str]:
    """What messages call a group, and the origin that its batch records."""
    if group_kind == _EXPORT:
        return str(group[0]), "Spotify account export"  # its files may be named after its person
    where = group[0].parent if len(group) > 1 else group[0]
    return str(where), ", ".join(readable_name(path) for path in group)


def _is_export(path: Path, format_name: str) -> bool:
    return format_name in {"auto", _EXPORT} and is_export(path)


def _files_of(path: Path, format_name: str) -> list[Path]:
    """``path`` itself, or if it is a folder and no account export, the data files in it."""
    if not path.is_dir() or _is_export(path, format_name):
        return [path]
    try:
        files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    files = [
        file for file in files if file.suffix in ENDINGS or (file.suffix == ".zip" and holds_export(file))
    ]
    if not files:
        raise InputError(f"{path} has no file to import; expected are {', '.join(sorted(ENDINGS))}")
    return files


def _batch(reading: Reading, where: str, origin: str, kind: str, *, time_named: bool) -> RawBatch:
    counts = Counter(reading.counts)
    parts = _clean_parts(reading, where, counts, kind, time_named=time_named)
    users = empty_frame("users")
    if kind in {"auto", "likes"}:
        counts["users whose list is unknown"] += len(reading.failed)
        users = _users(parts["likes"], reading, where)
    counted = {what: n for what, n in counts.items() if n}
    batch = RawBatch("files", origin, users, parts["likes"], parts["tracks"], parts["features"], counted)
    if not any(len(frame) for frame in batch.parts().values()):
        why = "; ".join(f"{n:,} {what}" for what, n in counted.items())
        raise InputError(f"{where} has no usable row ({why or 'no rows'}); correct it")
    return batch


def _clean_parts(
    reading: Reading, where: str, counts: Counter[str], kind: str, *, time_named: bool
) -> Mapping[Part, pl.DataFrame]:
    """The parts that ``kind`` asks for, from all tables; empty if no table fills one."""
    cleaned: dict[Part, list[pl.DataFrame]] = {part: [] for part in _PART_COLUMNS}
    held: set[Part] = set()
    for table in reading.tables:
        parts = [part for part, columns in _PART_COLUMNS.items() if columns & set(table.columns)]
        held.update(parts)
        asked = [part for part in parts if kind in {"auto", part}]
        for part, frame in clean(table, asked, where, counts, time_named=time_named).items():
            cleaned[part].append(frame)
    if not held:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with --user-column"
        )
    if kind != "auto" and kind not in held:
        raise InputError(f"{where} holds no {kind}, only {' and '.join(sorted(held))}; leave --kind out")
    return {part: pl.concat(frames) if frames else empty_frame(part) for part, frames in cleaned.items()}


def _users(likes: pl.DataFrame, reading: Reading, where: str) -> pl.DataFrame:
    """Every user: ``listed``, with or without likes, or ``failed`` if the list is unknown."""
    states = []
    for state, users in (("listed", reading.seen_whole), ("failed", reading.failed)):
        # Cleaned like the likes, which counted already what is skipped.
        met = as_ids(pl.Series("user_id", users, dtype=pl.String), "user_id", where, Counter())
        met = pl.concat([met, likes["user_id"]]) if state == "listed" else met
        distinct = met.drop_nulls().unique(maintain_order=True).to_frame()
        states.append(distinct.with_columns(pl.lit(state).alias("state")))
    empty = empty_frame("users")
    return pl.concat(states).select(
        "user_id",
        pl.lit(None, dtype=empty.schema["discovered_from"]).alias("discovered_from"),
        pl.lit(0, dtype=empty.schema["depth"]).alias("depth"),
        "state",
    )


def read_user_ids(path: Path, user_column: str | None = None) -> pl.Series:
    """The distinct ids of a file in their order, as ``user_id``; integers if it holds integers.

    Parquet, or text with or without a header, gzip or not; of several columns the one named like a user, or
    by ``user_column``. Raises InputError if the file is unreadable or the column unclear.
    """
    data = read_content(path)
    try:
        if data.startswith(b"PAR1"):
            table = pl.read_parquet(io.BytesIO(data))
        else:
            first = data.split(b"\n", 1)[0].decode()
            separator = next((mark for mark in "\t;," if mark in first), ",")
            header = _user_column(first.strip().split(separator), user_column) is not None
            table = pl.read_csv(data, separator=separator, has_header=header, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a table of user ids ({error}); give parquet, CSV or TSV") from error
    name = _user_column(table.columns, user_column)
    if name is None and (table.width > 1 or user_column is not None):
        raise InputError(
            f"{path} has columns {shown(table.columns)}, none known to hold users; name it with --user-column"
        )
    ids = table[name or table.columns[0]].drop_nulls().unique(maintain_order=True).alias("user_id")
    if ids.dtype == pl.String and ids.str.contains(_WHOLE_NUMBER).all():
        numbers = ids.cast(pl.Int64, strict=False)
        ids = ids if numbers.has_nulls() else numbers  # longer than 64 bits: they stay text
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise InputError(f"{path}: column {name} holds {ids.dtype}, and ids are text or whole numbers")
    return ids


def _user_column(columns: list[str], named: str | None) -> str | None:
    if named is not None:
        return named if named in columns else None
    known = {letters(column): column for column in columns}
    return next((known[name] for name in COLUMN_NAMES["user_id"] if name in known), None)


class FileSource:
    """The files named in `lake.json` as a source: read once when it is made, so again for every crawl.

    If several files name a user, their likes are merged. Raises InputError as `read_files` does.
    """

    name = "files"
    batch_size = describe_size = 5_000

    def __init__(self, paths: Sequence[str | Path], batches: Sequence[RawBatch] | None = None) -> None:
        read = read_files([Path(path) for path in paths]) if batches is None else batches
        self._users = _joined(read, "users")
        self._states = dict(self._users.select("user_id", "state").iter_rows())
        likes = _joined(read, "likes").sort("user_id", "track_id", "liked_at", nulls_last=True)
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
        rows = self._likes.slice(start, length).select("track_id", "liked_at").iter_rows()
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
