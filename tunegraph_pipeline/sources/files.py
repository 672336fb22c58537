"""The user's own files as a source: lists of likes, tracks and audio features in the formats people have.

Here: which files are meant, what of them is wanted, and the raw batches made of them. Not here: how a format
is found and read (`formats`, and `account_export` for a person's Spotify data), how columns are recognised
and cleaned (`columns`), or where batches are kept (`lake`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.account_export import holds_export, is_export, read_export
from tunegraph_pipeline.sources.columns import TRACK_FIELDS, Part, as_ids, clean
from tunegraph_pipeline.sources.formats import (
    ENDINGS,
    FORMATS,
    SEED_FILES,
    Reading,
    read_format,
    read_seed,
    readable_name,
)

KINDS = ("auto", "likes", "tracks", "features")
"""What --kind can say: one of the three parts of a batch, or all that the file has."""

_EXPORT = "spotify-export"


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

    The seed project's ``user_like.json``, ``id_map.json`` and ``id_map.csv``, lying in one folder, make one
    batch together. So do all Spotify account exports among ``paths``, as the first batch: they are one
    person's, ``user_id``, and ``min_plays`` is for them (`account_export.read_export`).

    The format is found as the opening of `formats` says, unless ``format`` names one of FORMATS. A file may
    hold likes, tracks and audio features at once; ``kind`` picks one of the three. Columns are recognised by
    name (`columns.COLUMN_NAMES`) unless named here (in a file without a header by position: "1" is the
    first); others are ignored.

    Likes are distinct (user, track) pairs; a weight or number of plays decides only whether a row counts (it
    has to be above zero) and is not kept. Last.fm-1K rows without a track MBID are skipped. ``counts`` of a
    batch says how many rows were skipped or values set to null, and why.

    Raises InputError, one line, where a file is missing, unreadable, damaged, of no known format, lacks a
    column it needs or has no row that can be used.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format} is not known; it is one of {', '.join(FORMATS)}")
    if kind not in KINDS:
        raise InputError(f"--kind {kind} is not known; it is one of {', '.join(KINDS)}")
    options = {"user_id": user_column, "track_id": track_column, "liked_at": time_column}
    named = {role: column for role, column in options.items() if column is not None}
    batches = []
    exports_met = False
    for kind_of_group, group in _groups(paths, format):
        if kind_of_group == _EXPORT:
            exports_met = True
            if named:
                raise InputError(
                    f"{group[0]} is {_EXPORT}, which has no columns to name; leave the options out"
                )
            where = str(group[0])
            reading = read_export(group, user_id, min_plays)
        elif kind_of_group == "seed":
            if named:
                raise InputError(f"{group[0]} is seed, which has no columns to name; leave the options out")
            where = str(group[0].parent if len(group) > 1 else group[0])
            reading = read_seed(group)
        else:
            where = str(group[0])
            reading = read_format(group[0], format, named)
        # The files of an export may be named after its person.
        names = ", ".join(readable_name(path) for path in group)
        origin = "Spotify account export" if kind_of_group == _EXPORT else names
        batches.append(_batch(reading, where, origin, kind, time_named=time_column is not None))
    for option, value in (("--user-id", user_id), ("--min-plays", min_plays)):
        if value is not None and not exports_met:
            raise InputError(f"{option} is for a Spotify account export, and none was given; leave it out")
    return batches


def files_together(paths: Sequence[Path]) -> list[list[Path]]:
    """Files in groups of those that :func:`read_files` makes one batch of; every file is in one group."""
    return [group for _, group in _groups(paths, "auto")]


def _groups(paths: Sequence[Path], format_name: str) -> Iterator[tuple[str, list[Path]]]:
    """What ``paths`` mean: files each alone ("file"), but the seed project's files of one folder ("seed")
    and all account exports ("spotify-export"), folders of them included, together."""
    files: list[Path] = []
    exports: list[Path] = []
    for path in paths:
        for file in [path] if not path.is_dir() or _is_export(path, format_name) else _in_folder(path):
            files.append(file)
            if format_name == _EXPORT or _is_export(file, format_name):
                exports.append(file)
    seeds = [file for file in files if file.name in SEED_FILES and format_name in {"auto", "seed"}]
    if exports:
        yield _EXPORT, list(dict.fromkeys(exports))
    for file in files:
        if file in exports:
            continue
        if file not in seeds:
            yield "file", [file]
        elif (group := [seed for seed in seeds if seed.parent == file.parent])[0] == file:
            yield "seed", group


def _is_export(path: Path, format_name: str) -> bool:
    return format_name in {"auto", _EXPORT} and is_export(path)


def _in_folder(folder: Path) -> list[Path]:
    try:
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    files = [file for file in files if not file.name.startswith(".")]
    files = [
        file for file in files if file.suffix in ENDINGS or (file.suffix == ".zip" and holds_export(file))
    ]
    if not files:
        raise InputError(f"{folder} holds no file to import; files there end in {', '.join(sorted(ENDINGS))}")
    return files


def _parts(table: pl.DataFrame) -> list[Part]:
    """The parts that the columns of ``table`` can fill."""
    columns = set(table.columns)
    parts: list[Part] = []
    if "user_id" in columns:
        parts.append("likes")
    if columns & set(TRACK_FIELDS):
        parts.append("tracks")
    if columns & set(AUDIO_FEATURES):
        parts.append("features")
    return parts


def _batch(reading: Reading, where: str, origin: str, kind: str, *, time_named: bool) -> RawBatch:
    counts = Counter(reading.counts)
    made: dict[Part, list[pl.DataFrame]] = {"likes": [], "tracks": [], "features": []}
    held: set[Part] = set()
    for table in reading.tables:
        parts = _parts(table)
        held.update(parts)
        wanted = [part for part in parts if kind in {"auto", part}]
        for part, frame in clean(table, wanted, where, counts, time_named=time_named).items():
            made[part].append(frame)
    if not held:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with --user-column"
        )
    if kind != "auto" and kind not in held:
        raise InputError(f"{where} holds no {kind}, only {' and '.join(sorted(held))}; leave --kind out")
    likes, tracks, features = (
        pl.concat(frames) if frames else empty_frame(part) for part, frames in made.items()
    )
    users = empty_frame("users")
    if kind in {"auto", "likes"}:
        if reading.failed:
            counts["users whose list is unknown"] += len(reading.failed)
        users = _users(likes, reading, where)
    batch = RawBatch(
        "files", origin, users, likes, tracks, features, {what: n for what, n in counts.items() if n}
    )
    if not any(len(frame) for frame in batch.parts().values()):
        why = "; ".join(f"{n:,} {what}" for what, n in batch.counts.items())
        raise InputError(f"{where} has no row that can be used ({why or 'no rows'}); correct it")
    return batch


def _users(likes: pl.DataFrame, reading: Reading, where: str) -> pl.DataFrame:
    """Everybody met: seen whole (``listed``), with or without likes, or not to be seen (``failed``)."""
    named = {"listed": reading.seen_whole, "failed": reading.failed}
    states = []
    for state, users in named.items():
        # Cleaned as in the likes, where what is skipped was counted already.
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
