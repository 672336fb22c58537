"""The user's own files: likes, dislikes, tracks and audio features in any known format, also as a source.

Here: which files belong together, whose they are, the raw batches made of them, and a summary of each. Not
here: reading one file (`read_file`, and `account_export` for Spotify's), what becomes of its rows (`rows`),
or where batches are kept (`lake`).
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.account_export import export_reading, holds_export, is_export
from tunegraph_pipeline.sources.archives import is_archive, read_archive
from tunegraph_pipeline.sources.cells import as_ids
from tunegraph_pipeline.sources.columns import COLUMN_NAMES, TRACK_FIELDS
from tunegraph_pipeline.sources.content import as_utf8, read_content, readable_name
from tunegraph_pipeline.sources.formats import ENDINGS, FORMAT_NAMES, SEED_FILES, Format
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinions import Rules
from tunegraph_pipeline.sources.read_file import read_file
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows import Part, Table, read_rows
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

DEFAULT_USER = "me"
"""The user of a file of one person, unless --user-id names another."""

_EXPORT, _SEED, _ARCHIVE, _FILE = "spotify-export", "seed", "archive", "file"
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
_EXAMPLES = 5
_PART_COLUMNS: dict[Part, set[str]] = {
    "tracks": set(TRACK_FIELDS),
    "features": set(AUDIO_FEATURES),
}
"""A table fills a part if it has one of these columns; likes and dislikes if it has users."""


@dataclass(frozen=True)
class FileImport:
    """What one file, or files that belong together, become: the batch, and a summary for people.

    ``origin`` is the path; ``shape`` says how the file was cut, ``columns`` which column was taken for which
    role, ``unused`` which columns decided nothing, ``rules`` what counted as what. ``person`` is the user of
    a file of one person, "" for others; ``said_person`` whom the file itself names. ``examples`` are the
    first likes in words.
    """

    batch: RawBatch
    origin: str
    format: Format
    shape: str
    columns: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()
    rules: Sequence[str] = ()
    person: str = ""
    said_person: str = ""

    def examples(self) -> list[str]:
        """The first likes in words, such as "ann likes Intro by The Lanterns"."""
        some = self.batch.likes.head(_EXAMPLES)
        known = {row["track_id"]: row for row in self.batch.tracks.iter_rows(named=True)} if len(some) else {}
        return [f"{user} likes {_in_words(track, known.get(track))}" for user, track, _ in some.iter_rows()]

    def figures(self) -> dict[str, int]:
        """How many users, likes, dislikes and distinct songs the batch has."""
        batch = self.batch
        people = pl.concat([batch.likes["user_id"], batch.feedback["user_id"]])
        songs = pl.concat([batch.likes["track_id"], batch.feedback["track_id"]])
        return {
            "users": people.n_unique(),
            "likes": len(batch.likes),
            "dislikes": len(batch.feedback),
            "tracks": songs.n_unique() if len(songs) else batch.tracks["track_id"].n_unique(),
        }


def _in_words(track_id: str, track: Mapping[str, object] | None) -> str:
    if track is None or not track["name"]:
        return f"the song {track_id}"
    artists = track["artists"]
    by = f" by {', '.join(artists)}" if isinstance(artists, list) and artists else ""
    return f"{track['name']}{by}"


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
    day: date | None = None,
) -> list[FileImport]:
    """What the files become, in their order; a folder stands for the data files in it. Nothing is written.

    The seed project's ``user_like.json``, ``id_map.json`` and ``id_map.csv`` in one folder are read as one.
    So are all Spotify account exports among ``paths``, as the first: they belong to one person.

    The format is found (`formats.FORMATS`) unless ``format`` names one. A file may hold likes, tracks and
    audio features at once; ``kind`` picks one of the three. Columns are recognised by name
    (`columns.COLUMN_NAMES`) unless named here (in a file without a header by position: "1" is the first);
    those in ``ignore`` decide nothing. ``min_plays``, ``min_rating`` and ``like_when`` say what a like is
    (`opinions`). Files of one person belong to ``user_id``, DEFAULT_USER unless given.

    Likes are distinct (user, track) pairs; dislikes become feedback, said on ``day`` (default: today) where
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
        Rules(min_plays, min_rating, like_when or {}),
    )
    groups = [list(_read_group(*group, given)) for group in _groups(paths, format)]
    readings = [one for group in groups for one in group]
    _check_options(readings, given)
    imports = [one for group in groups for one in _import_group(group, kind, given, day)]
    _check_people(imports, user_id)
    return imports


def _import_group(
    group: Sequence[tuple[str, str, Reading]], kind: str, given: Given, day: date | None
) -> list[FileImport]:
    """What the parts of a file become, such as the sheets of a workbook. A part without a like is left out
    and named if another has one; so are plays beside likes, unless an option asks for plays."""
    means = {reading.format.means for _, _, reading in group}
    if means & {"likes", "library"} and given.rules.min_plays is None:
        group = [one for one in group if one[2].format.means != "plays"]
    if "likes" in means:  # where a zip says what somebody likes, its library says no more
        group = [one for one in group if one[2].format.means != "library"]
    done: list[FileImport] = []
    failed: list[InputError] = []
    for where, origin, reading in group:
        try:
            done.append(_imported(where, origin, reading, kind, given, day))
        except InputError as error:
            failed.append(error)
    if failed and not done:
        raise failed[0]
    if failed:
        left_out = [f"left out: {error}" for error in failed]
        done[0] = replace(done[0], rules=[*done[0].rules, *left_out])
    return done


def _read_group(group_kind: str, group: list[Path], given: Given) -> Iterator[tuple[str, str, Reading]]:
    """What messages call each reading of a group, the origin that its batch records, and the reading."""
    names = ", ".join(readable_name(path) for path in group)
    if group_kind != _FILE and given.named:
        raise InputError(f"{group[0]} is {group_kind}, which has no columns to name; leave the options out")
    if group_kind == _EXPORT:
        # Its files may be named after its person.
        yield str(group[0]), "Spotify account export", export_reading(group, given.rules.min_plays)
    elif group_kind == _SEED:
        yield str(group[0].parent if len(group) > 1 else group[0]), names, read_seed(group)
    elif group_kind == _ARCHIVE:
        for member, reading in read_archive(group[0], given):
            yield f"{group[0]}: {member}", f"{names}: {member}", reading
    else:
        for reading in read_file(group[0], given):
            yield str(group[0]), names, reading


def _check_options(readings: Sequence[tuple[str, str, Reading]], given: Given) -> None:
    """Raise InputError for an option that no file can use."""
    one_person = any(reading.format.whose == "one person" for _, _, reading in readings)
    users = any("user_id" in table.rows.columns for _, _, reading in readings for table in reading.tables)
    if given.user_id is not None and not one_person and not users:
        raise InputError("--user-id is for files of one person, and none was given; leave it out")
    tables = [table for _, _, reading in readings for table in reading.tables]
    exports = any(reading.format.name == _EXPORT for _, _, reading in readings)
    if given.rules.min_plays is not None and not exports and not any(table.counts_plays for table in tables):
        raise InputError("--min-plays is for files of plays, and none was given; leave it out")
    if given.rules.min_rating is not None and not any(table.has_numbers for table in tables):
        raise InputError("--min-rating is for files of ratings, and none was given; leave it out")


_NAMED = re.compile(
    r"^(?:recenttracks|lovedtracks|bannedtracks|lastfmstats|listenbrainz)[-_](.+?)(?:[-_]\d+)?\.",
    re.IGNORECASE,
)
"""Files that exporters name after the person."""


def _check_people(imports: Sequence[FileImport], user_id: str | None) -> None:
    """Raise InputError where files of two people would become one person without a word."""
    if user_id is not None:
        return
    people: dict[str, str] = {}
    names: dict[str, str] = {}
    for one in imports:
        if not one.person:
            continue
        name = re.sub(r"\.(gz|bz2|xz|zst)$", "", Path(one.origin).name.lower())
        if (
            names.setdefault(name, one.origin) != one.origin
            and ": " not in one.origin
            and ", sheet " not in one.origin
        ):
            raise InputError(
                f"{names[name]} and {one.origin} have one name, and may be of two people; import each"
                f" alone, with"
                " a --user-id of their own, or both with one --user-id if they are one person's"
            )
        in_name = _NAMED.match(Path(one.origin).name)
        if person := one.said_person or (in_name[1].lower() if in_name else ""):
            people.setdefault(person, one.origin)
    if len(people) > 1:
        (first, second), *_ = [list(people)[:2]]
        raise InputError(
            f"{people[first]} is {first}'s and {people[second]} is {second}'s; import each alone, with a"
            f" --user-id"
            " of their own"
        )


def _user(user_id: str) -> str:
    user = as_ids(pl.Series("user_id", [user_id], dtype=pl.String), "user_id", "--user-id", Counter())[0]
    if not isinstance(user, str):
        raise InputError("--user-id must be a short word or number that is not blank")
    return user


# --- which files belong together ---------------------------------------------------------------------------


def files_together(paths: Sequence[Path]) -> list[list[Path]]:
    """Files in groups of those that :func:`import_files` reads as one; every file is in one group."""
    return [group for _, group in _groups(paths, "auto")]


def _groups(paths: Sequence[Path], format_name: str) -> Iterator[tuple[str, list[Path]]]:
    """``paths`` in groups: all account exports ("spotify-export"), folders of them included, the seed
    project's files of one folder ("seed"), and every other file alone: a zip of somebody's data ("archive"),
    or any ("file")."""
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} is a pipe or device, which is read once; write it into a file first")
    files = [file for path in paths for file in _files_of(path, format_name)]
    exports = [file for file in files if format_name == _EXPORT or _is_export(file, format_name)]
    if exports:
        yield _EXPORT, list(dict.fromkeys(exports))
    seeds = defaultdict[Path, list[Path]](list)
    for file in files:
        if file.name in SEED_FILES and format_name in {"auto", _SEED}:
            seeds[file.parent].append(file)
    for file in files:
        group = seeds[file.parent]
        if file in exports:
            continue
        if file not in group:
            yield (_ARCHIVE if is_archive(file) else _FILE), [file]
        elif group[0] == file:
            yield _SEED, group


def _is_export(path: Path, format_name: str) -> bool:
    if format_name not in {"auto", _EXPORT} or not is_export(path):
        return False
    return path.is_dir() or path.suffix.lower() == ".json" or holds_export(path)


def _files_of(path: Path, format_name: str) -> list[Path]:
    """``path`` itself, or if it is a folder and no account export, the data files in it."""
    if not path.is_dir() or _is_export(path, format_name):
        return [path]
    try:
        files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    files = [
        file
        for file in files
        if file.suffix.lower() in ENDINGS
        or (file.suffix.lower() == ".zip" and (holds_export(file) or is_archive(file)))
    ]
    if not files:
        raise InputError(f"{path} has no file to import; expected are {', '.join(sorted(ENDINGS))}")
    return files


# --- from a reading to a batch -----------------------------------------------------------------------------


def _imported(
    where: str, origin: str, reading: Reading, kind: str, given: Given, day: date | None
) -> FileImport:
    if reading.format.means in {"unlikes", "undislikes"}:
        raise InputError(
            f"{where} takes opinions back and gives none; import multi_event.parquet, which has both"
        )
    counts = Counter(reading.counts)
    named = any("user_id" in table.rows.columns for table in reading.tables)
    person = given.user_id or DEFAULT_USER if reading.format.whose == "one person" and not named else ""
    tables = [_with_person(table, person, given.user_id, where) for table in reading.tables]
    parts, rules = _clean_parts(tables, reading, where, counts, kind, given)
    users = empty_frame("users")
    if kind in {"auto", "likes"}:
        counts["users whose list is unknown"] += len(reading.failed)
        users = _users(parts["likes"], parts["dislikes"], reading, where)
    counted = {what: n for what, n in counts.items() if n}
    batch = RawBatch(
        "files",
        origin,
        users,
        parts["likes"],
        parts["tracks"],
        parts["features"],
        counted,
        _feedback(parts["dislikes"], day),
    )
    why = "; ".join(f"{n:,} {what}" for what, n in counted.items())
    if kind in {"auto", "likes"} and not len(batch.likes) and not len(batch.feedback):
        if person:
            raise InputError(
                f"{where} has no like that can be read ({why or 'no rows'}); the list of {person} stays as"
                f" it is"
            )
        if named and (len(batch.tracks) or len(batch.features)):
            raise InputError(
                f"{where} has no like that can be read ({why or 'no rows'}); --kind tracks takes its songs"
                f" alone"
            )
    if not any(len(frame) for frame in batch.parts().values()):
        raise InputError(f"{where} has no usable row ({why or 'no rows'}); correct it")
    return FileImport(
        batch,
        where,
        reading.format,
        reading.shape,
        reading.columns,
        reading.unused,
        [*reading.notes, *rules],
        person,
        reading.person.lower(),
    )


def _with_person(table: Table, person: str, user_id: str | None, where: str) -> Table:
    """The table with the user of a file of one person, or of a file with one user whom --user-id names."""
    rows = table.rows
    if "user_id" not in rows.columns:
        if not person or table.means == "catalogue":
            return table
        return replace(table, rows=rows.with_columns(pl.lit(person).alias("user_id")))
    if user_id is None:
        return table
    users = rows["user_id"].drop_nulls().n_unique()
    if users > 1:
        raise InputError(f"{where} names {users:,} users itself; leave --user-id out")
    return replace(table, rows=rows.with_columns(pl.lit(user_id).alias("user_id")))


def _clean_parts(
    tables: Sequence[Table], reading: Reading, where: str, counts: Counter[str], kind: str, given: Given
) -> tuple[Mapping[Part, pl.DataFrame], list[str]]:
    """The parts that ``kind`` asks for, from all tables, and the rules that decided; empty if no table fills
    one."""
    cleaned: dict[Part, list[pl.DataFrame]] = {
        part: [] for part in ("likes", "dislikes", "tracks", "features")
    }
    held: set[Part] = set()
    rules: list[str] = []
    for table in tables:
        parts: list[Part] = [
            part for part, columns in _PART_COLUMNS.items() if columns & set(table.rows.columns)
        ]
        parts = ["likes", "dislikes", *parts] if "user_id" in table.rows.columns else parts
        parts = ["tracks", *parts] if "pair" in table.rows.columns and "tracks" not in parts else parts
        held.update(parts)
        asked = [part for part in parts if kind in {"auto", "likes" if part == "dislikes" else part}]
        done = read_rows(table, asked, given.rules, where, counts)
        rules += [rule for rule in done.rules if rule not in rules]
        for part, frame in done.frames.items():
            cleaned[part].append(frame)
    if not held and reading.tables:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with"
            f" --user-column, or"
            " whose list it is with --user-id"
        )
    if kind != "auto" and kind not in held:
        holds = " and ".join(sorted(held - {"dislikes"}))
        raise InputError(f"{where} holds no {kind}, only {holds}; leave --kind out")
    if given.named.get("liked_at") is not None and cleaned["likes"]:
        _check_times(cleaned["likes"], where)
    parts_of: dict[Part, str] = {
        "likes": "likes",
        "dislikes": "likes",
        "tracks": "tracks",
        "features": "features",
    }
    return {
        part: pl.concat(frames) if frames else empty_frame(parts_of[part]) for part, frames in cleaned.items()
    }, rules


def _check_times(likes: Sequence[pl.DataFrame], where: str) -> None:
    """Raise InputError where no time of the column that an option names is readable."""
    if any(len(frame) for frame in likes) and all(frame["liked_at"].is_null().all() for frame in likes):
        raise InputError(
            f"{where}: no time in --time-column is readable; write ISO 8601, or seconds since 1970"
        )


def _feedback(dislikes: pl.DataFrame, day: date | None) -> pl.DataFrame:
    """Dislikes as feedback; said at the start of ``day`` where the file does not say when."""
    at = datetime.combine(day or datetime.now(UTC).date(), datetime.min.time(), UTC)
    empty = empty_frame("feedback")
    return dislikes.select(
        "user_id",
        "track_id",
        pl.lit("dislike").alias("action"),
        pl.col("liked_at").fill_null(at).alias("at"),
        pl.lit([], dtype=empty.schema["shown"]).alias("shown"),
        pl.lit("").alias("bundle_version"),
    ).cast(pl.Schema(empty.schema))


def _users(likes: pl.DataFrame, dislikes: pl.DataFrame, reading: Reading, where: str) -> pl.DataFrame:
    """Every user: ``listed``, with or without likes, ``failed`` if the list is unknown, or ``found`` if only
    dislikes are known. Where the file has no like, nobody is listed: it must not empty a list."""
    states = []
    seen_whole = reading.seen_whole if len(likes) else []
    for state, users in (("listed", seen_whole), ("failed", reading.failed)):
        # Cleaned like the likes, which counted already what is skipped.
        met = as_ids(pl.Series("user_id", users, dtype=pl.String), "user_id", where, Counter())
        met = pl.concat([met, likes["user_id"]]) if state == "listed" else met
        distinct = met.drop_nulls().unique(maintain_order=True).to_frame()
        states.append(distinct.with_columns(pl.lit(state).alias("state")))
    known = pl.concat(states)
    others = dislikes.select(pl.col("user_id").unique(maintain_order=True)).join(
        known, on="user_id", how="anti"
    )
    known = pl.concat([known, others.with_columns(pl.lit("found").alias("state"))])
    empty = empty_frame("users")
    return known.select(
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
    data = read_content(path).data
    data = data if data.startswith(b"PAR1") else as_utf8(data, str(path)).data
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
