"""Every partition of every table, checked alone, and how a damaged one is repaired.

Here: unreadable files, invalid rows, and what rebuilds each table. Not here: comparing a table with another
(`consistency`).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import LakeError, TuneGraphError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import PlaysSettings, bounded_duckdb, repeated_rows
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.pipeline.stages import table_stages
from tunegraph_pipeline.pipeline.track_ids import write_track_ids
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, folders, short, written
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.words import counted

_UNIT_TOLERANCE = 1e-3
_ROWS_A_BLOCK = 100_000


def check_tables(inspection: Inspection) -> None:
    for table, spec in TABLES.items():
        values = [None] if spec.partition is Partition.NONE else inspection.lake.partitions(table)
        for done, value in enumerate(values):
            inspection.progress(f"table {table}", done, len(values))
            _check_partition(inspection, table, value)
        inspection.progress(f"table {table}", len(values), len(values))


def _check_partition(inspection: Inspection, table: str, value: str | None) -> None:
    path = inspection.lake.table_path(table, value)
    if not path.exists():
        if table == "track_ids" and any(inspection.has(kind) for kind in ("like_graph", "models", "serving")):
            # Without it the next refresh would renumber all tracks.
            inspection.problem(path, "is not there", *how_to_rebuild(inspection, table, value))
        return
    inspection.seen.add(path)
    try:
        if table == "plays" and value is not None:
            what = _repeated_plays(inspection.lake, value)
        else:
            what = _wrong_rows(table, inspection.lake.read(table, value))
    except LakeError as error:
        inspection.problem(path, short(error, path), *how_to_rebuild(inspection, table, value))
        return
    if what:
        inspection.problem(path, what, *how_to_rebuild(inspection, table, value))


def _wrong_rows(table: str, frame: pl.DataFrame) -> str | None:
    """What is wrong with the rows of a partition, whatever else the lake holds."""
    key = list(TABLES[table].key)
    if key and len(frame) != frame.select(key).n_unique():
        twice = len(frame) - frame.select(key).n_unique()
        return f"{counted(twice, 'row is a duplicate', 'rows are duplicates')} (by {', '.join(key)})"
    in_order = pl.arange(len(frame), dtype=pl.Int32, eager=True)
    if "track_idx" in frame.columns and not (frame["track_idx"] == in_order).all():
        return "track_idx is not 0, 1, 2, … in order"
    if table == "track_embeddings" and len(frame) and not of_unit_length(frame["embedding"].to_numpy()):
        return "an embedding is not finite and of unit length"
    return None


def _repeated_plays(lake: Lake, day: str) -> str | None:
    """What is wrong with the rows of the table `plays` on a day, which may be larger than memory."""
    with bounded_duckdb(lake.staging, PlaysSettings().memory_gb) as connection:
        twice = repeated_rows(connection, lake.plays_of(day))
    return f"{counted(twice, 'key is there', 'keys are there')} more than once" if twice else None


def of_unit_length(embeddings: NDArray[np.float32]) -> bool:
    for start in range(0, len(embeddings), _ROWS_A_BLOCK):
        block = np.asarray(embeddings[start : start + _ROWS_A_BLOCK], dtype=np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():  # false for NaN too
            return False
    return True


# --- repairs ---


def how_to_rebuild(
    inspection: Inspection, table: str, value: str | None
) -> tuple[str, Callable[[], None] | None]:
    """How a partition is rebuilt, in words, and the repair that removes it first."""
    asset = table_stages()[table]
    path = inspection.lake.table_path(table, value)
    kind = TABLES[table].partition
    if kind is Partition.DAY:
        assert value is not None
        if not inspection.has_batches(value):
            return f"raw/ holds nothing of {value} any more: restore it from a backup", None
        if not inspection.sound(f"raw/dt={value}"):
            return f"repair raw/dt={value} first, then verify again", None
        return f"rematerialise {asset} of {value}", inspection.remove(path.parent)
    if kind is Partition.CUT_OFF:
        # The tables of one stage are rebuilt together.
        tables = [name for name, writer in table_stages().items() if writer == asset]
        paths = [inspection.lake.table_path(name, value).parent for name in tables]
        return f"rematerialise {asset}, cut-off {value}", inspection.remove(*paths)
    if table == "track_ids":
        ids = copy_of_track_ids(inspection)
        if ids is None:
            words = "there is no copy of it: restore it from a backup, or let the repair remove it, and"
            return f"{words} the next refresh renumbers all tracks and retrains", inspection.remove(path)
        return "restore it from the track ids of a bundle", partial(write_track_ids, inspection.lake, ids)
    if table == "evaluation":
        words = "restore it from a backup, or let the repair remove it, which loses the figures of earlier"
        return f"{words} bundles, and rematerialise {asset}", inspection.remove(path)
    named = "" if value is None else f" {value}"
    return f"rematerialise {asset}{named}", inspection.remove(path if value is None else path.parent)


def copy_of_track_ids(inspection: Inspection) -> pl.Series | None:
    """The id map as the latest undamaged bundle holds it, which has all of it at that time."""
    bundles = sorted(folders(inspection.lake.serving), key=written, reverse=True)
    for folder in bundles:
        try:
            return pl.Series("track_id", Bundle.verified(folder).tracks.ids.tolist(), dtype=pl.String)
        except (TuneGraphError, OSError):
            continue
    return None
