"""Which dumps a mirror has.

Here: the names of dumps and of their files. Not here: requests (`mirror`), or which of the dumps a lake needs
(`pipeline.dump_days`).
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.dumps.mirror import Mirror, MissingFileError

_NAME = re.compile(r"listenbrainz-dump-(\d{1,9})-(\d{8}-\d{6})-(full|incremental)")
_FULL, _INCREMENTAL = "fullexport", "incremental"
_CHECKSUM = re.compile(r"\b[0-9a-f]{64}\b", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Dump:
    """A dump: its number, one sequence for all, when it was made (UTC), and whether it is a full export."""

    number: int
    made_at: datetime
    is_full: bool

    @property
    def name(self) -> str:
        return f"listenbrainz-dump-{self._suffix}"

    @property
    def title(self) -> str:
        """What people read of it, such as "full export 2593"."""
        return f"{'full export' if self.is_full else 'incremental dump'} {self.number}"

    @property
    def day(self) -> date:
        """The day it was made."""
        return self.made_at.date()

    @property
    def folder(self) -> str:
        """Where its files are, below the mirror's address; ends with a slash."""
        return f"{_FULL if self.is_full else _INCREMENTAL}/{self.name}/"

    @property
    def archive(self) -> str:
        """The name of the archive with parquet files."""
        return f"listenbrainz-spark-dump-{self._suffix}.tar"

    @property
    def _suffix(self) -> str:
        kind = "full" if self.is_full else "incremental"
        return f"{self.number}-{self.made_at:%Y%m%d-%H%M%S}-{kind}"


def read_name(name: str) -> Dump | None:
    """The dump of a name, with or without a slash at its end; None where it names no dump.

    >>> read_name("listenbrainz-dump-2593-20260712-000004-full/").day
    datetime.date(2026, 7, 12)
    """
    found = _NAME.fullmatch(name.removesuffix("/"))
    if found is None:
        return None
    try:
        made_at = datetime.strptime(found[2], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Dump(int(found[1]), made_at, found[3] == "full")


def published(mirror: Mirror) -> list[Dump]:
    """The dumps that the mirror lists, by number. Raises InputError where it lists none, and what `Mirror`
    raises."""
    found: set[Dump] = set()
    for folder in (_FULL, _INCREMENTAL):
        try:
            names = mirror.listing(f"{folder}/")
        except MissingFileError:
            raise InputError(
                f"{mirror.url} has no folder {folder}/, so it has no dumps of ListenBrainz; is"
                " settings.listenbrainz_dumps.mirror right?"
            ) from None
        found |= {dump for dump in map(read_name, names) if dump and dump.is_full == (folder == _FULL)}
    return sorted(found)


def has_archive(mirror: Mirror, dump: Dump) -> bool:
    """Whether the archive of a dump is there: while a dump is made, its folder is listed without it."""
    try:
        return dump.archive in mirror.listing(dump.folder)
    except MissingFileError:
        return False


def checksum(mirror: Mirror, dump: Dump) -> str | None:
    """The published SHA-256 of the archive, in lower case; None where there is none, or none in the file."""
    try:
        found = _CHECKSUM.search(mirror.text(f"{dump.folder}{dump.archive}.sha256"))
    except MissingFileError:
        return None
    return found[0].lower() if found else None
