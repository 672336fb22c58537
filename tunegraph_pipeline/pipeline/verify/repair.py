"""How a damaged table is repaired.

Here: for each table what rebuilds it, in words, and the repair that makes way for it; and restoring the id
map from a bundle. Not here: finding the damage.
"""

from collections.abc import Callable
from functools import partial

import polars as pl

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.lake.lake import digest
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.pipeline.stages import table_stages
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, folders, written
from tunegraph_pipeline.recommend.bundle import Bundle


def how_to_rebuild(
    inspection: Inspection, table: str, value: str | None
) -> tuple[str, Callable[[], None] | None]:
    """How a partition is rebuilt, in words, and how a repair makes way for it."""
    asset = table_stages()[table]
    path = inspection.lake.table_path(table, value)
    kind = TABLES[table].partition
    if kind is Partition.DAY:
        assert value is not None
        if not inspection.has_batches(value):
            return f"raw/ holds nothing of {value} any more: restore it from a backup", None
        if not inspection.sound(f"raw/dt={value}"):
            return f"put right raw/dt={value} first, then verify again", None
        return f"rematerialise {asset} of {value}", inspection.remove(path.parent)
    if kind is Partition.CUT_OFF:
        # What one stage writes is known to be fresh together.
        tables = [name for name, writer in table_stages().items() if writer == asset]
        paths = [inspection.lake.table_path(name, value).parent for name in tables]
        return f"rematerialise {asset}, cut-off {value}", inspection.remove(*paths)
    if table == "track_ids":
        ids = copy_of_track_ids(inspection)
        if ids is None:
            words = "no copy of it is at hand: restore it from a backup, or let the repair remove it, and"
            return f"{words} the next refresh renumbers all tracks and retrains", inspection.remove(path)
        return "restore it from the track ids of a bundle", partial(restore_track_ids, inspection, ids)
    if table == "evaluation":
        words = "restore it from a backup, or let the repair remove it, which loses the figures of earlier"
        return f"{words} bundles, and rematerialise {asset}", inspection.remove(path)
    named = "" if value is None else f" {value}"
    return f"rematerialise {asset}{named}", inspection.remove(path if value is None else path.parent)


def copy_of_track_ids(inspection: Inspection) -> pl.Series | None:
    """The id map as the latest sound bundle holds it, which is the whole of it when that was written."""
    bundles = sorted(folders(inspection.lake.serving), key=written, reverse=True)
    for folder in bundles:
        try:
            return pl.Series("track_id", Bundle.verified(folder).tracks.ids.tolist(), dtype=pl.String)
        except (TuneGraphError, OSError):
            continue
    return None


def restore_track_ids(inspection: Inspection, ids: pl.Series) -> None:
    rows = pl.DataFrame({"track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True), "track_id": ids})
    inspection.lake.write("track_ids", None, rows, digest(ids.to_list()))
