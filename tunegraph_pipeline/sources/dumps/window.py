"""Which members of a full export hold the listens since a moment.

Here: reading the first listen of a member by small pieces, and a binary search. Not here: the archive
(`archive`), or what becomes of the listens (`listens`).

The members of a full export are in the order of `listened_at`, without overlap.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.dumps.archive import Archive, MemberReader
from tunegraph_pipeline.sources.dumps.tar_walk import Member

LISTENED_AT = "listened_at"


def members_since(archive: Archive, members: Sequence[Member], since: datetime) -> list[Member]:
    """Of the parquet ``members``, in their order, those that may hold listens from ``since`` (UTC) on. Raises
    InputError where one cannot be read."""

    @cache
    def first(at: int) -> datetime | None:
        return first_listen(archive, members[at])

    low, high = 0, len(members)  # members before low begin no later than since, those from high on after it
    while low < high:
        middle = (low + high) // 2
        at = middle
        while at < high and first(at) is None:  # a member without listens says nothing
            at += 1
        begins = first(at) if at < high else None
        if begins is None or begins > since:
            high = middle
        else:
            low = at + 1
    # The one before may begin earlier and reach into the window.
    return list(members[max(0, low - 1) :])


def first_listen(archive: Archive, member: Member) -> datetime | None:
    """When the first listen of a member was (UTC); None where it has none."""
    try:
        with pq.ParquetFile(cast(IO[bytes], MemberReader(archive, member))) as file:
            groups = file.metadata.num_row_groups
            for number in range(groups):
                if file.metadata.row_group(number).num_rows:
                    return _earliest(file, number)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{member.name} in {archive.url} cannot be read as parquet ({error}); the dump is damaged"
        ) from error
    return None


def _earliest(file: pq.ParquetFile, number: int) -> datetime | None:
    """The earliest `listened_at` of a row group: by its statistics, which columns in ns do not have, or by
    reading the column."""
    at = file.schema_arrow.get_field_index(LISTENED_AT)
    if at < 0:
        raise KeyError(f"no column {LISTENED_AT}")
    kind = file.schema_arrow.field(at).type
    chunk = file.metadata.row_group(number).column(_leaf(file, LISTENED_AT))
    stats: Any = chunk.statistics
    if kind.unit != "ns" and stats is not None and stats.has_min_max:
        earliest: Any = stats.min
    else:
        column = file.read_row_group(number, columns=[LISTENED_AT])[LISTENED_AT]
        earliest = pc.min(column.cast(pa.timestamp("us", kind.tz), safe=False)).as_py()
    if earliest is None:
        return None
    moment: datetime = earliest
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _leaf(file: pq.ParquetFile, name: str) -> int:
    """The place of a column among the leaves of the parquet schema, where a list has one too."""
    schema = file.schema
    return next(at for at in range(len(schema)) if schema.column(at).path == name)
