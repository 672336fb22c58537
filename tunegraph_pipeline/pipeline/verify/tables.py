"""Every partition of every table, checked alone.

Here: files that cannot be read, and rows that no partition may have. Not here: comparing a table with
another (`consistency`), or how one is rebuilt (`repair`).
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, short
from tunegraph_pipeline.pipeline.verify.repair import how_to_rebuild

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
        frame = inspection.lake.read(table, value)
    except LakeError as error:
        inspection.problem(path, short(error, path), *how_to_rebuild(inspection, table, value))
        return
    if what := _wrong_rows(table, frame):
        inspection.problem(path, what, *how_to_rebuild(inspection, table, value))


def _wrong_rows(table: str, frame: pl.DataFrame) -> str | None:
    """What is wrong with the rows of a partition, whatever else the lake holds."""
    key = list(TABLES[table].key)
    if key and len(frame) != frame.select(key).n_unique():
        return f"{len(frame) - frame.select(key).n_unique():,} rows are there twice (by {', '.join(key)})"
    in_order = pl.arange(len(frame), dtype=pl.Int32, eager=True)
    if "track_idx" in frame.columns and not (frame["track_idx"] == in_order).all():
        return "track_idx is not 0, 1, 2, … in order"
    if table == "track_embeddings" and len(frame) and not of_unit_length(frame["embedding"].to_numpy()):
        return "an embedding is not finite and of unit length"
    return None


def of_unit_length(embeddings: NDArray[np.float32]) -> bool:
    for start in range(0, len(embeddings), _ROWS_A_BLOCK):
        block = np.asarray(embeddings[start : start + _ROWS_A_BLOCK], dtype=np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():  # false for NaN too
            return False
    return True
