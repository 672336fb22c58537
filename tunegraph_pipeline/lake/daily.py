"""The daily tables of one day, updated to what was received on it.

Here: which function derives which table, writing tables whose raw batches have changed, and removing rows
from a day that has no raw batches any more. Not here: the functions themselves (`tables`), or which days are
filled when (`pipeline.fill_days`).
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from datetime import date
from io import BytesIO

import polars as pl

from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import BatchInfo, day_fingerprint, is_pruned
from tunegraph_pipeline.lake.tables import (
    derive_audio_features,
    derive_feedback,
    derive_likes,
    derive_observations,
    derive_tracks,
    derive_users,
)


def derive(names: Collection[str], batches: Sequence[BatchInfo], day: date) -> dict[str, pl.DataFrame]:
    """The daily tables of these names, each a pure function of the batches of the day."""
    made: dict[str, pl.DataFrame] = {}
    if {"users", "observations"} & set(names):
        made["users"] = derive_users(batches, day)
    if {"likes", "observations"} & set(names):
        made["likes"] = derive_likes(batches)
    if "observations" in names:
        made["observations"] = derive_observations(made["users"], made["likes"])
    if "tracks" in names:
        made["tracks"] = derive_tracks(batches)
    if "audio_features" in names:
        made["audio_features"] = derive_audio_features(batches)
    if "feedback" in names:
        made["feedback"] = derive_feedback(batches)
    return {name: made[name] for name in names}


def fill_day(lake: Lake, day: date, names: Collection[str] = DAILY_TABLES) -> bool:
    """Write the tables of these names unless all are up to date; returns whether they were.

    Tables of a day whose raw batches were pruned stay as they are. Raises LakeError where a batch cannot be
    read, a table of a pruned day is missing, or the disk cannot be written.
    """
    key = day.isoformat()
    if is_pruned(lake.raw, day):
        for name in names:
            lake.read(name, key, columns=[])
        return True
    batches = lake.batches(day)
    inputs = {name: day_fingerprint(batches, name) for name in names}
    if all(lake.inputs_of(name, key) == inputs[name] for name in names):
        return True
    for name, frame in derive(names, batches, day).items():
        lake.write(name, key, frame, inputs[name])
    return False


def filter_day(lake: Lake, day: date, kept: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
    """Apply ``kept``, which may remove or change rows, to every table of a day; returns how many rows were
    removed or changed.

    For a day whose raw batches were pruned; any other is derived from them. Raises LakeError where a table
    cannot be read or written.
    """
    key, touched = day.isoformat(), 0
    for name in DAILY_TABLES:
        if key not in lake.partitions(name):
            continue
        rows = lake.read(name, key)
        left = kept(rows)
        if left.equals(rows):
            continue
        touched += len(rows) - len(left) or 1
        content = BytesIO()
        left.write_ipc_stream(content)
        # A new fingerprint, so that what is derived from the day is updated.
        lake.write(name, key, left, hashlib.blake2b(content.getvalue(), digest_size=10).hexdigest())
    return touched
