"""The likes and observations of a day on which many lists were received, a range of users at a time.

Here: sorting the rows of raw batches into ranges on disk, and deriving both tables from one range after the
other. Not here: how a table is derived (`tables`), or when (`daily`).

Raw batches are in the order of their source. So their rows are read twice, a block at a time: once to cut the
users into ranges, and once to put the rows of each range together, in a file of Arrow's that is gone at the
end.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.parquet import as_frame
from tunegraph_pipeline.lake.raw import BatchInfo
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.storage import disk_errors
from tunegraph_pipeline.lake.tables import derive_observations, unique_likes
from tunegraph_pipeline.lake.user_ranges import UserRange, user_ranges

ROWS_A_RANGE = 1_000_000
"""How many received likes are made into tables together, in half a GiB of memory (`benchmarks/scale.py`)."""

_LIKES = TABLES["likes"].schema


def is_large(batches: Sequence[BatchInfo]) -> bool:
    """Whether a day received more likes than are made into tables at a time."""
    return sum(batch.rows.get("likes", 0) for batch in batches) > ROWS_A_RANGE


def lists_in_ranges(
    batches: Sequence[BatchInfo], users: pl.DataFrame, aliases: Aliases, staging: Path
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The tables `likes` and `observations` of a day, of ranges of users that ascend: joined, the rows of
    `derive_likes` and `derive_observations`, which take the same.

    ``users`` is the derived table of the day. What is kept below ``staging`` meanwhile goes with the last
    range. Raises LakeError where a batch cannot be read or the disk cannot be written.
    """
    ranges = user_ranges((_counts(rows) for rows in _received(batches, ["user_id"], aliases)), ROWS_A_RANGE)
    with _sorted_into(ranges, _received(batches, None, aliases), staging) as of_range:
        for number, some in enumerate(ranges):
            likes = unique_likes(of_range(number))
            yield likes, derive_observations(some.of(users), likes)


def _received(
    batches: Sequence[BatchInfo], columns: list[str] | None, aliases: Aliases
) -> Iterator[pl.DataFrame]:
    """The likes of all batches with their source, a block of rows at a time."""
    for batch in batches:
        for rows in batch.read_in_blocks("likes", columns):
            yield aliases.renamed(rows).with_columns(source=pl.lit(batch.source))


def _counts(rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    counts = rows["user_id"].value_counts().sort("user_id")
    return counts["user_id"], counts["count"]


@contextmanager
def _sorted_into(
    ranges: list[UserRange], blocks: Iterator[pl.DataFrame], staging: Path
) -> Iterator[Callable[[int], pl.DataFrame]]:
    """A function that gives the rows of the n-th range."""
    cuts = pl.Series([one.until for one in ranges[:-1]], dtype=pl.String)
    places: list[list[int]] = [[] for _ in ranges]
    path = staging / f"{uuid.uuid4().hex}-lists.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with disk_errors(path):
        staging.mkdir(parents=True, exist_ok=True)
        try:
            with pa.ipc.new_file(str(path), _LIKES, options=options) as file:
                written = 0
                for block in blocks:
                    rows = block.select(_LIKES.names)
                    number = cuts.search_sorted(rows["user_id"], side="left").to_numpy()
                    order = np.argsort(number, kind="stable")
                    rows, ends = rows[order], np.bincount(number, minlength=len(ranges)).cumsum().tolist()
                    for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                        if end > start:
                            (batch,) = rows[start:end].rechunk().to_arrow().cast(_LIKES).to_batches()
                            file.write_batch(batch)
                            places[place].append(written)
                            written += 1
            with pa.OSFile(str(path), "r") as handle, pa.ipc.open_file(handle) as received:

                def of_range(number: int) -> pl.DataFrame:
                    found = [received.get_batch(place) for place in places[number]]
                    return as_frame(pa.Table.from_batches(found, _LIKES))

                yield of_range
        finally:
            path.unlink(missing_ok=True)
