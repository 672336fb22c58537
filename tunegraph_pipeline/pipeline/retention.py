"""Remove what a lake must not or need not keep any longer.

Here: the last stage of a run, and the removal of expired raw batches and of raw days. Not here: the settings
(`lake.retention`), old versions (`stale_versions`), or users who asked to be forgotten (`forgetting`).
"""

import logging
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial

import polars as pl

from tunegraph_pipeline.lake.daily import fill_day, filter_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import is_pruned, prune_day, remove_batch
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.pipeline.deletion_requests import pending_requests
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stale_versions import drop_old_versions, mark_expired, prune_cut_offs
from tunegraph_pipeline.progress import Measured, report_note
from tunegraph_pipeline.sources import frontier

_LOG = logging.getLogger(__name__)


def run(lake: Lake, today: date, *, log: Callable[[str], None] = _LOG.info) -> StageResult:
    """The last stage, when everything current is in place: remove old versions that may hold forgotten users
    or expired data, then what is older than the settings allow.

    ``log`` is called with one line where old versions were removed. Raises LakeError.
    """
    settings = lake.section("retention", RetentionSettings)
    with Measured() as cost:
        removed = drop_old_versions(lake)
        if removed:
            note = f"removed, since they may hold forgotten users or expired data: {in_words(removed)}"
            log(note)
            report_note(note)
        removed["raw batches"] = prune_raw(lake, today)
        removed["cut-offs"] = removed.get("cut-offs", 0) + prune_cut_offs(
            lake, lake.current_version("current_likes")
        )
    return StageResult(
        None,
        None,
        cost,
        facts={"settings": settings.model_dump(), "pending deletion requests": pending_requests(lake)},
        tables={"removed": removed},
    )


def in_words(counts: Mapping[str, int]) -> str:
    """Counts in one line, as "bundles 3, like graphs 1"."""
    return ", ".join(f"{what} {count:,}" for what, count in counts.items())


def remove_expired(lake: Lake, today: date) -> dict[str, int]:
    """Remove data past its time to live from the raw batches, the daily tables and the frontiers of crawls;
    returns how many batches, rows of days without batches, and entries of frontiers.

    Raises LakeError where the disk cannot be written.
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
            mark_expired(lake)
            remove_batch(batch)
        removed["raw batches expired"] += len(batches)
        if filled:
            # Even if no batch is left: the last run may have been killed between the two steps.
            fill_day(lake, day)
    for path in lake.frontiers():
        source, _, _ = path.stem.partition("-")  # a day may follow
        removed["entries of crawls expired"] += frontier.expire(path, source, bounds)
    return {what: count for what, count in removed.items() if count}


def _of_others(lake: Lake, sources: list[str], rows: pl.DataFrame) -> pl.DataFrame:
    theirs = rows["source" if "source" in rows.columns else "provider"].is_in(sources)
    if theirs.any():
        mark_expired(lake)
    return rows.filter(~theirs)


def prune_raw(lake: Lake, today: date) -> int:
    """Remove the raw batches of days older than the settings allow whose tables are written; returns how many
    batches were removed."""
    days = lake.section("retention", RetentionSettings).raw_days
    if days is None:
        return 0
    stale = set(lake.stale_days())
    old = [day for day in lake.raw_days() if day < today - timedelta(days=days) and day not in stale]
    return sum(prune_day(lake.raw, day) for day in old)
