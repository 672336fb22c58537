"""Remove what a lake may not or need not keep any longer.

Here: expired raw batches, old cut-offs and raw days. Not here: the settings (`lake.retention`), or users
who asked to be forgotten (`pipeline.forgetting`).
"""

from datetime import date, timedelta
from functools import partial

import polars as pl

from tunegraph_pipeline.lake.daily import fill_day, filter_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import is_pruned, prune_day, remove_batch
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.lake.storage import write_text
from tunegraph_pipeline.sources import frontier


def remove_expired(lake: Lake, today: date) -> dict[str, int]:
    """Remove data that is past its time to live from the raw batches, the daily tables and the frontiers of
    crawls; returns how many batches, rows of days without batches, and entries of frontiers.

    Tables of the other days stay as they are. Raises LakeError where the disk says no.
    """
    settings = lake.section("retention", RetentionSettings)
    removed = {"raw batches expired": 0, "rows expired": 0, "entries of crawls expired": 0}
    if not settings.ttl_days:
        return {}
    bounds = {source: today - timedelta(days=days) for source, days in settings.ttl_days.items()}
    for day in sorted({*lake.raw_days(), *map(date.fromisoformat, lake.partitions("users"))}):
        expired = [source for source, bound in bounds.items() if day < bound]
        if not expired:
            continue
        filled = day.isoformat() in lake.partitions("users")
        if is_pruned(lake.raw, day):
            removed["rows expired"] += filter_day(lake, day, partial(_of_others, lake, expired))
            continue
        batches = [batch for batch in lake.batches(day) if batch.source in expired]
        for batch in batches:
            _mark(lake)
            remove_batch(batch)
        removed["raw batches expired"] += len(batches)
        if filled:
            # Also where no batch is left: the last run may have been killed between the two.
            fill_day(lake, day)
    for path in lake.frontiers():
        source, _, _ = path.stem.partition("-")  # a day may follow
        removed["entries of crawls expired"] += frontier.expire(path, source, bounds)
    return {what: count for what, count in removed.items() if count}


def _of_others(lake: Lake, sources: list[str], rows: pl.DataFrame) -> pl.DataFrame:
    theirs = rows["source" if "source" in rows.columns else "provider"].is_in(sources)
    if theirs.any():
        _mark(lake)
    return rows.filter(~theirs)


def _mark(lake: Lake) -> None:
    """Record that older versions hold expired data, before it is removed from where it came from."""
    if not has_expired_versions(lake):
        write_text(lake.expired_mark, "", lake.staging)


def has_expired_versions(lake: Lake) -> bool:
    """Whether older versions may still hold expired data."""
    return lake.expired_mark.exists()


def finish_expired(lake: Lake) -> None:
    """Clear that record: call it when no older version is left."""
    lake.expired_mark.unlink(missing_ok=True)


def prune_cut_offs(lake: Lake, current: str, keep: int | None = None) -> int:
    """Remove the current lists of all but the last cut-offs, as many as the settings say or ``keep``, and
    never of ``current``; returns how many went."""
    keep = lake.section("retention", RetentionSettings).cut_offs if keep is None else keep
    gone = 0
    for table in (name for name, spec in TABLES.items() if spec.partition is Partition.CUT_OFF):
        cut_offs = lake.partitions(table)
        for cut_off in cut_offs[: max(len(cut_offs) - keep, 0)]:
            if cut_off != current:
                lake.drop_partition(table, cut_off)
                gone += 1
    return gone


def prune_raw(lake: Lake, today: date) -> int:
    """Remove the raw batches of days older than the settings say whose tables are written; returns how many
    batches went."""
    days = lake.section("retention", RetentionSettings).raw_days
    if days is None:
        return 0
    stale = set(lake.stale_days())
    old = [day for day in lake.raw_days() if day < today - timedelta(days=days) and day not in stale]
    return sum(prune_day(lake.raw, day) for day in old)
