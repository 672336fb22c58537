"""A lake: one folder with a `lake.json`, its tables, raw batches, matrices, models and serving bundles.

Here: making and opening a lake, its paths, format version and migrations, the lock, which days are stale, and
named versions of array folders. Not here: the form of rows (`schemas`, `tables`) or of batches (`raw`).
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from tunegraph_pipeline.errors import InputError, LakeError, LakeMissingError, check_shortage
from tunegraph_pipeline.lake import snapshots, views
from tunegraph_pipeline.lake.aliases import ALIASES, Aliases, id_columns
from tunegraph_pipeline.lake.day_fingerprints import day_fingerprint
from tunegraph_pipeline.lake.licences import Licence, each_once, licence_of
from tunegraph_pipeline.lake.lock import write_lock
from tunegraph_pipeline.lake.plays import DayOfPlays, rows_of_file
from tunegraph_pipeline.lake.raw import (
    BatchInfo,
    RawBatch,
    is_pruned,
    licences_of,
    raw_days,
    read_batches,
    write_batch,
)
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import FEEDBACK, FILES, TABLES, Partition
from tunegraph_pipeline.lake.seals import read_name, sealed_json, sealed_name, without_seal
from tunegraph_pipeline.lake.settings_problem import settings_problem
from tunegraph_pipeline.lake.storage import (
    SPOOL,
    STAGING,
    remove_folder,
    staged_folder,
    sweep_staging,
    write_text,
)
from tunegraph_pipeline.lake.tables import TableFiles, empty_table, latest_known
from tunegraph_pipeline.lake.tombstones import TOMBSTONES

if TYPE_CHECKING:
    import duckdb

FORMAT_VERSION = 1
"""Raised when earlier lakes can no longer be read as they are; each step has its migration below."""

_Section = TypeVar("_Section", bound=BaseModel)

MIGRATIONS: dict[int, Callable[[Path], None]] = {}
"""From format version n, the function that turns a lake's folder into version n + 1, in place. If it is
killed, the lake must still be readable as version n: `lake.json` is updated after it returns."""

FIRST_DAY = date(1990, 1, 1)
"""No lake has a day before this one; where each begins, `Lake.first_day` says."""

SIMULATED = "simulator"
MAY_BE_MISSING = frozenset({"plays", "redirects"})
"""The daily tables without a partition on days that have nothing for them, as in earlier lakes."""
DAILY_TABLES = tuple(name for name, spec in TABLES.items() if spec.partition is Partition.DAY)


class LakeFile(BaseModel):
    """The content of `lake.json`."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    created: datetime
    source: str | None = None
    """Where users and likes come from; None until the first import or crawl."""
    mixed: bool = False
    """Whether simulated and real likes may share this lake."""
    split_key: str = "tunegraph"
    """Key of the hash that decides which pairs are held out; the same for the life of the lake."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings by section (simulator, graph, training); each is validated by what it configures."""


class Lake(TableFiles):
    """A lake on disk. Open it with :meth:`open` or :meth:`open_or_create`; write inside :meth:`writing`."""

    def __init__(self, root: Path, file: LakeFile) -> None:
        super().__init__(root)
        self.file = file
        self.name = snapshots.shown(root)
        """What people call the lake: its folder, or its address in an object store."""
        # The one place that joins a path below a lake.
        self.path = root / "lake.json"
        """The file that describes the lake, with its settings."""
        self.staging = root / STAGING
        """The folder of drafts that are not complete yet."""
        self.raw = root / "raw"
        """The folder of raw batches."""
        self.serving = root / "serving"
        """The folder of serving bundles, with its ``CURRENT``."""
        self.checkpoints = root / "checkpoints"
        """The folder of checkpoints of trainings."""
        self.spool = root / SPOOL
        """The folder of feedback that no refresh has collected yet."""
        self.tombstones = root / TOMBSTONES
        """The file of the keyed hashes of forgotten users."""
        self.aliases = root / ALIASES
        """The file of the other ids of users."""
        self.deletion_requests = root / "forget_requests"
        """The folder of requests to forget users."""
        self.inbox_memory = root / "inbox.json"
        """The file that records what was imported from the inbox."""
        self.expired_mark = root / ".expired"
        """The file that is there while older versions may hold expired data."""
        self.views = root / "lake.duckdb"
        """The DuckDB file with a view of every table."""
        self.figures = root / "figures"
        """The folder of what is shown of each version."""
        self.history = self.history_of(root)
        """The folder of Dagster's history of this lake."""
        self.crawl = root / "crawl"
        """The folder of the frontiers of crawls."""
        self.downloads = root / "downloads"
        """The folder of what was fetched and is not a raw batch yet."""

    # --- opening ---

    @classmethod
    def open(cls, root: Path, *, only_served: bool = False) -> Self:
        """Open an existing lake; ``root`` is its folder, or the cache of one in an object store, which is
        brought to the newest snapshot: with ``only_served`` its live bundle and the files at its top alone.
        Raises LakeError where there is none, or one from a newer TuneGraph.
        """
        snapshots.pull(root, only_served=only_served)
        path = root / "lake.json"
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise LakeMissingError(
                f"there is no lake at {snapshots.shown(root)};"
                " `tunegraph import` or `tunegraph refresh` makes one"
            ) from None
        except OSError as error:
            check_shortage(error, f"cannot read {path}")
            raise LakeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        version = _format_version(content)
        if version is not None and version > FORMAT_VERSION:
            raise LakeError(
                f"{path} has format version {version}, this TuneGraph reads up to {FORMAT_VERSION};"
                " install a newer TuneGraph to use this lake"
            )
        try:
            # People edit the file, so it may differ from its seal; `verify` says so.
            file = LakeFile.model_validate_json(without_seal(content))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}".lstrip(": ")
            raise LakeError(f"{path} is not a lake's description: {what}; restore it") from None
        lake = cls(root, file)
        if file.format_version < FORMAT_VERSION:
            lake._migrate()
        return lake

    @classmethod
    def open_or_create(cls, root: Path) -> Self:
        """Open the lake at ``root``, making an empty one where nothing is. Raises LakeError where the folder
        holds other things, so that nothing is written into it by mistake."""
        snapshots.pull(root)
        if (root / "lake.json").exists():
            return cls.open(root)
        try:
            # Hidden files may be what a first run that died left, or Dagster's history.
            others = [path.name for path in root.iterdir() if not path.name.startswith(".")]
        except FileNotFoundError:
            others = []
        except OSError as error:
            check_shortage(error, f"cannot read {root}")
            raise LakeError(f"{root} cannot hold a lake ({error.strerror}); choose another --lake") from error
        if others:
            raise LakeError(
                f"{root} holds other things ({others[0]}, ...) and no lake.json; choose another --lake"
            )
        snapshots.unsettle(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / ".gitignore").write_text("*\n")
        except OSError as error:
            raise LakeError(
                f"cannot make a lake at {root} ({error.strerror}); choose another --lake"
            ) from error
        lake = cls(root, LakeFile(format_version=FORMAT_VERSION, created=datetime.now(UTC)))
        lake.save()
        lake.refresh_views()
        return lake

    def save(self) -> None:
        """Write `lake.json` as it is known here. Raises LakeError where the disk cannot be written."""
        write_text(self.path, sealed_json(self.file.model_dump_json(indent=1)), self.staging)

    def _migrate(self) -> None:
        with self.writing("migration"):
            while self.file.format_version < FORMAT_VERSION:
                MIGRATIONS[self.file.format_version](self.root)
                self.file.format_version += 1
                self.save()

    # --- paths that depend on a name ---

    @staticmethod
    def history_of(root: Path) -> Path:
        """Where Dagster's history of the lake at ``root`` is, also before there is a lake."""
        return root / ".dagster"

    def checkpoint(self, name: str) -> Path:
        """Where the training ``name`` keeps its checkpoint."""
        return self.checkpoints / f"{name}.safetensors"

    def figures_of(self, stage: str, version: str) -> Path:
        """The folder of what is shown of a version that ``stage`` made."""
        return self.figures / stage / version

    def frontier_path(self, source: str, day: date | None = None) -> Path:
        """The file of a crawl's frontier; one for every day where ``day`` is given."""
        return self.crawl / (f"{source}.sqlite" if day is None else f"{source}-{day}.sqlite")

    def downloads_of(self, source: str) -> Path:
        """The folder of what was fetched from a source and is not a raw batch yet."""
        return self.downloads / source

    def frontiers(self) -> list[Path]:
        """The files of all frontiers, sorted."""
        return sorted(self.crawl.glob("*.sqlite"))

    def resolve(self, path: str) -> Path:
        """A path from the settings: relative to the lake's folder unless it is absolute."""
        return self.root / path

    # --- writing ---

    @contextmanager
    def writing(
        self, purpose: str, wait_seconds: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
    ) -> Iterator[str | None]:
        """Be the lake's one writer. Yields a warning where the last writer died, else None. Waits up to
        ``wait_seconds`` for another writer, and tells ``on_wait`` who it is; see :func:`write_lock`."""
        with (
            write_lock(self.root, purpose, wait_seconds, on_wait, name=self.name) as died_here,
            snapshots.writing(self.root, purpose, wait_seconds, on_wait) as died_elsewhere,
        ):
            warning = died_elsewhere or died_here
            if snapshots.Node.of(self.root) is not None and not self.path.exists():
                self.save()  # new, in an object store that has no snapshot yet
            if warning:
                # Also in folders with drafts of their own, such as `serving`.
                for staging in (self.staging, *self.root.glob(f"*/{STAGING}")):
                    sweep_staging(staging)
            yield warning

    def commit(self) -> None:
        """Keep what was written so far in the object store, if this is a lake in one. For the holder of the
        lock, after a step that need not be done again. Raises LakeError where another writer took over."""
        snapshots.commit(self.root)

    def admit_source(self, source: str, *, mix: bool = False, record: bool = True) -> None:
        """Record where likes come from, or only check; refuse to mix simulated with real ones. Raises
        InputError saying which source the lake has and what to do."""
        known = self.file.source
        if (
            known is not None
            and (known == SIMULATED) != (source == SIMULATED)
            and not (mix or self.file.mixed)
        ):
            raise InputError(
                f"{self.name} holds likes from {known}; adding {source} would mix simulated and real likes:"
                " use another --lake, or --mix-sources if that is what you want"
            )
        # An import adds to what the lake crawls; the next refresh asks the source crawled last.
        kept = known if known is not None and source == FILES else source
        file = self.file.model_copy(update={"source": kept, "mixed": self.file.mixed or mix})
        if record and file != self.file:
            self.file = file
            self.save()

    def section(self, name: str, model: type[_Section]) -> _Section:
        """The settings of a section, validated. Raises LakeError naming the setting that is wrong."""
        try:
            return model.model_validate(self.file.settings.get(name, {}))
        except ValidationError as error:
            raise LakeError(f"{self.path}: {settings_problem(model, error, name)}") from None

    def set_section(self, name: str, values: Mapping[str, Any]) -> None:
        self.file = self.file.model_copy(update={"settings": {**self.file.settings, name: dict(values)}})
        self.save()

    # --- tables ---

    def append(self, table: str, rows: pl.DataFrame) -> int:
        """Add rows to an unpartitioned table by replacing its one file; returns the new length."""
        path = self.table_path(table)
        known = [self.read(table)] if path.exists() else []
        return self.write(table, None, pl.concat([*known, rows.cast(empty_table(table).schema)]))

    def has_table(self, table: str) -> bool:
        """Whether an unpartitioned table has been written yet."""
        return self.table_path(table).exists()

    def keep_partitions(self, table: str, current: str) -> None:
        """Drop all but the last few partitions of a table that has one a version, never the current one."""
        paths = [self.table_path(table, value) for value in self.partitions(table)]
        by_age = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in by_age[self.kept_versions :]:
            if not path.parent.name.endswith(f"={current}"):
                remove_folder(path.parent, self.staging)

    def drop_partition(self, table: str, partition: str) -> None:
        """Remove a partition of a table. Raises LakeError where the disk cannot be written."""
        remove_folder(self.table_path(table, partition).parent, self.staging)

    def receive_files(self, day: date, batches: Iterable[RawBatch], *, mix: bool = False) -> list[BatchInfo]:
        """Write what was read from files as received on ``day``. Needs the lake's lock. Raises InputError
        where the lake has simulated likes, unless ``mix`` allows both."""
        self.admit_source(FILES, mix=mix)
        return [write_batch(self.raw, day, batch) for batch in batches]

    def batches(self, day: date) -> list[BatchInfo]:
        return read_batches(self.raw, day)

    def raw_days(self) -> list[date]:
        return raw_days(self.raw)

    def licences(self) -> list[Licence]:
        """The licences under which all came that the lake received from others, each once: feedback is its
        own. Raises LakeError where a raw batch cannot be read."""
        found = {day: licences_of(self.raw, day) for day in self.raw_days()}
        # A day that an earlier version pruned has its sources in its tables alone.
        bare = [day.isoformat() for day, licences in found.items() if not licences]
        sources = {
            source
            for day in bare
            for table in ("users", "tracks")
            if day in self.partitions(table)
            for source in self.count_values(table, day, "source")
        }
        licences = each_once([*chain.from_iterable(found.values()), *map(licence_of, sources)])
        return [one for one in licences if one != licence_of(FEEDBACK)]

    def first_day(self, today: date) -> date:
        """The day on which the lake begins: the first on which it received anything or that was filled;
        ``today`` for a new one."""
        filled = self.partitions("observations")[:1]
        return min([today, *self.raw_days()[:1], *map(date.fromisoformat, filled)])

    def stale_days(self) -> list[date]:
        """Days with :meth:`stale_tables`, ascending."""
        aliases = Aliases.of(self.root)
        return [day for day in self.raw_days() if self.stale_tables(day, DAILY_TABLES, aliases)]

    def stale_tables(self, day: date, names: Collection[str], aliases: Aliases) -> list[str]:
        """Of the daily tables ``names`` of a day those that are missing, or are not made of its raw batches
        and the ``aliases``; of a day whose batches were pruned, those that name an alias or have ids in
        other Unicode forms."""
        key = day.isoformat()
        if is_pruned(self.raw, day):
            return [
                name
                for name in names
                if (aliases.links and self._names_alias(name, key, aliases))
                or self.has_other_forms(name, key)
            ]
        batches = self.batches(day)
        return [
            name
            for name in names
            if self.inputs_of(name, key) != day_fingerprint(batches, name, aliases)
            and not (name in MAY_BE_MISSING and self._needs_none(name, key, batches))
        ]

    def _needs_none(self, table: str, day: str, batches: Collection[BatchInfo]) -> bool:
        """Whether a day has no partition of a table, and nothing that would go into it."""
        return not self.table_path(table, day).exists() and not any(info.rows.get(table) for info in batches)

    def _names_alias(self, table: str, day: str, aliases: Aliases) -> bool:
        if not self.table_path(table, day).exists():
            return False
        columns = id_columns(TABLES[table].schema.names)
        return any(aliases.links.keys() & self.count_values(table, day, column) for column in columns)

    def plays_of(self, day: str) -> DayOfPlays:
        """The table `plays` on a day. Raises LakeError where it is missing or damaged."""
        return DayOfPlays(rows_of_file(self.check("plays", day)), self.whole_sources("plays", day))

    def days_until(self, table: str, cut_off: date) -> list[str]:
        """The partitions of a daily table up to the cut-off, ascending."""
        return [day for day in self.partitions(table) if day <= cut_off.isoformat()]

    def known_tracks(self, table: str, cut_off: date) -> pl.DataFrame:
        """A daily table of tracks over all days up to the cut-off, one row for each track."""
        frames = [frame for day in self.days_until(table, cut_off) if len(frame := self.read(table, day))]
        return latest_known(frames) if frames else empty_table(table)

    def fingerprint(self, table: str, cut_off: date) -> str:
        """Changes when any partition of a daily table up to the cut-off does."""
        return digest({day: self.inputs_of(table, day) for day in self.days_until(table, cut_off)})

    # --- versions ---

    def folder(self, kind: str) -> Path:
        """The folder of a table, or of all versions of ``kind`` (like_graph, co_like, models, ...)."""
        return self.root / kind

    def version_folder(self, kind: str, version: str) -> Path:
        return self.folder(kind) / version

    def versions(self, kind: str) -> list[str]:
        """The names of the versions of ``kind``, sorted; whether they are complete is not checked."""
        folder = self.folder(kind)
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")

    def current_file(self, kind: str) -> Path:
        """The file that names the current version of ``kind``."""
        return self.folder(kind) / "CURRENT"

    def has_current(self, kind: str) -> bool:
        """Whether a version of ``kind`` was ever made current."""
        return self.current_file(kind).exists()

    def has_version(self, kind: str, version: str) -> bool:
        return self.version_folder(kind, version).exists()

    def current_version(self, kind: str) -> str:
        """The version of ``kind`` (like_graph, co_like, models, ...) that is current. Raises LakeError where
        there is none yet."""
        try:
            return read_name(self.current_file(kind).read_text())
        except FileNotFoundError:
            raise LakeError(f"{self.name} has no {kind} yet; run `tunegraph refresh`") from None
        except (OSError, ValueError) as error:
            path = self.current_file(kind)
            raise LakeError(
                f"{path} cannot be read ({error}); `tunegraph verify --repair` and a refresh rebuild it"
            ) from error

    def current_folder(self, kind: str) -> Path:
        return self.version_folder(kind, self.current_version(kind))

    def write_version(
        self,
        kind: str,
        version: str,
        fill: Callable[[Path], None],
        *,
        replace: bool = False,
        spare: Collection[str] = (),
    ) -> Path:
        """Fill a new version's folder, make it current, and drop all but the last few and those to ``spare``.
        A version names its content, so an existing one is only made current, unless ``replace``."""
        folder = self.version_folder(kind, version)
        if replace or not folder.exists():
            with staged_folder(folder, self.staging) as draft:
                fill(draft)
        self.set_current(kind, version)
        self.prune_versions(kind, spare=spare)
        return folder

    @property
    def kept_versions(self) -> int:
        """How many versions of each kind the settings keep."""
        return self.section("retention", RetentionSettings).versions

    def set_current(self, kind: str, version: str) -> None:
        """Make a version of ``kind`` the current one, by one rename."""
        write_text(self.current_file(kind), sealed_name(version), self.staging)

    def prune_versions(self, kind: str, *, keep: int | None = None, spare: Collection[str] = ()) -> int:
        """Drop all versions of ``kind`` but the last few (``keep``, or as the settings say), the current one
        and those to ``spare``; returns how many went."""
        keep = self.kept_versions if keep is None else keep
        spared = {self.current_version(kind), *spare}
        folders = [self.version_folder(kind, version) for version in self.versions(kind)]
        # Names begin with a day, which orders folders written at the same moment.
        newest_first = sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        doomed = [path for path in newest_first[keep:] if path.name not in spared]
        for path in doomed:
            remove_folder(path, self.staging)
        return len(doomed)

    # --- DuckDB ---

    def connect(self) -> "duckdb.DuckDBPyConnection":
        """An in-memory DuckDB with a view of every table in schema ``tunegraph``. Raises LakeError where a
        file that they show does not match its checksum, which DuckDB does not compare."""
        self.check_seals()
        for kind in views.POINTERS:
            if self.has_current(kind):
                self.current_version(kind)
        return views.connect(self.root)

    def refresh_views(self) -> str | None:
        """Bring `lake.duckdb` to the tables there are, the same views for any DuckDB client; a person's own
        views and tables in it stay. Returns why it could not, since nothing else depends on the file."""
        try:
            views.update_file(self.views, self.root)
        except views.OpenElsewhereError as error:
            return f"{error}: it may not show tables that are new; the next refresh adds them"
        except LakeError as error:
            return f"{error}: SQL in it may fail; `tunegraph verify` says what to do"
        return None


def digest(value: Any) -> str:
    """A short hash of any JSON, for fingerprints and version names."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """What `digest` says of the list of these texts, which is never in memory."""
    hashed = hashlib.blake2b(b"[", digest_size=6)
    for number, text in enumerate(texts):
        hashed.update((", " if number else "").encode() + json.dumps(text).encode())
    hashed.update(b"]")
    return hashed.hexdigest()


def _format_version(content: bytes) -> int | None:
    try:
        version = json.loads(content)["format_version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None
