"""Import what was read from files, as one day's raw batches.

Here: what `tunegraph import` and the inbox both do with a lake. Not here: how files are read
(`sources.files`), or which files of the inbox are new (`pipeline.inbox`).
"""

from collections.abc import Iterable
from datetime import date

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch, write_batch


def receive(lake: Lake, day: date, batches: Iterable[RawBatch], *, mix: bool = False) -> list[BatchInfo]:
    """Write what was read from files as received on ``day``.

    Raises InputError where the lake has simulated likes, unless ``mix`` allows both. Needs the lake's lock.
    """
    lake.admit_source("files", mix=mix)
    return [write_batch(lake.raw, day, batch) for batch in batches]
