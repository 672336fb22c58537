"""Crawl a source for a day, where it may be asked and the lake does not have the day yet.

Here: what a day means for each source. Not here: the crawl (`sources.crawl`), or the asset that starts it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import SIMULATED, Lake
from tunegraph_pipeline.lake.raw import is_pruned, write_batch
from tunegraph_pipeline.lake.retention import RetentionSettings, asked_again_before, expires_before
from tunegraph_pipeline.lake.schemas import DUMPS, FILES
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.dump_days import fetch_day
from tunegraph_pipeline.pipeline.fill_days import NO_SOURCE, is_asked_daily
from tunegraph_pipeline.pipeline.sources import check_known, open_source
from tunegraph_pipeline.simulator.source import SimulatorSettings
from tunegraph_pipeline.simulator.world import World
from tunegraph_pipeline.sources.crawl import Crawl, CrawlReport, CrawlSettings, paused
from tunegraph_pipeline.sources.dumps.fetch import DumpReport
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import AskLater, BudgetSpent

_UNLIMITED = 10**12


def crawl_day(
    lake: Lake,
    source: str,
    day: date,
    tell: Callable[[CrawlReport | DumpReport], None] = lambda _: None,
    *,
    today: date | None = None,
) -> CrawlReport | DumpReport | None:
    """Ask ``source`` for ``day``; None where nothing was asked: the day is known or past its time to live, or
    there is no source to ask.

    ``source`` is empty for the lake's own. The simulated world may be asked for any day, once; a live source
    only for today, as often as its budget lasts; dumps for the days that its mirror has. ``tell`` is called
    with the progress.

    Raises InputError for a source that is unknown or cannot be used as configured, for a past day of a live
    source that was not kept, and (CrawlPaused) where a service asks for a long wait.
    """
    source = source or lake.file.source or NO_SOURCE
    today = today or datetime.now(UTC).date()
    if not is_asked_daily(lake, source):
        return None  # files are imported with `tunegraph import`
    check_known(source)
    lake.admit_source(source, record=False)
    bound = expires_before(lake.section("retention", RetentionSettings), source, today)
    if bound is not None and day < bound:
        return None  # it would have to be removed at once
    if source == DUMPS:
        return fetch_day(lake, day, tell, today=today)
    kept = is_pruned(lake.raw, day) or any(batch.source == source for batch in lake.batches(day))
    if source == SIMULATED:
        return _crawl_world(lake, day, tell, kept=kept)
    if day == today:
        return _crawl(lake, source, day, lake.frontier_path(source), tell)
    if kept or day > today:
        return None
    raise InputError(
        f"{source} cannot be asked for {day}: the day is over, and nothing from it was kept;"
        " ask for today, or use --source none"
    )


def _crawl_world(
    lake: Lake, day: date, tell: Callable[[CrawlReport], None], *, kept: bool
) -> CrawlReport | None:
    """Read a day of the simulated world, directly or over HTTP; a day that is ``kept`` only to finish it."""
    # Every day of the world is a crawl of its own, so that days may be filled in any order.
    path = lake.frontier_path(SIMULATED, day)
    if kept and not path.exists():
        return None
    settings = lake.section(SIMULATED, SimulatorSettings)
    if not settings.over_http:
        write_batch(lake.raw, day, _world(settings.world()).crawl(day))
        lake.admit_source(SIMULATED)
        return None
    report = _crawl(lake, SIMULATED, day, path, tell)
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.unlink()
    return report


def _crawl(
    lake: Lake, source: str, day: date, path: Path, tell: Callable[[CrawlReport], None]
) -> CrawlReport:
    settings = lake.section("crawl", CrawlSettings)
    if source in (SIMULATED, FILES):
        # Budgets are for services; here only those set in `lake.json` apply.
        free = {"users_per_day": _UNLIMITED, "requests_per_day": _UNLIMITED, "revisit_days": 1}
        unset = {name: value for name, value in free.items() if name not in settings.model_fields_set}
        settings = settings.model_copy(update=unset)
    retention = lake.section("retention", RetentionSettings)
    with Frontier(path, day, Tombstones.of(lake.root)) as frontier:
        try:
            opened = open_source(source, lake.section, settings, frontier, day)
        except AskLater as error:
            raise paused(error) from None
        except BudgetSpent as error:
            return CrawlReport(notes=[str(error)], known=frontier.states())
        lake.admit_source(source)  # only now: a source that cannot be opened changes nothing
        try:
            known = FILES if source == SIMULATED else None
            return Crawl(
                opened,
                frontier,
                lake.raw,
                settings,
                retention=retention,
                has_features=_has_features(lake, day, known, retention, settings.revisit_days),
                report=tell,
            ).run()
        finally:
            opened.close()


# One for all days of a run: making a world costs far more than a day of it.
_world = lru_cache(maxsize=1)(World)


def _has_features(
    lake: Lake, day: date, provider: str | None, retention: RetentionSettings, revisit_days: int
) -> Callable[[Sequence[str]], set[str]]:
    """A function that tells which tracks have features in the lake, from ``provider`` or from any; not
    features that will soon expire."""
    known: list[pl.Series] = []
    for key in lake.partitions("audio_features"):
        if (said := date.fromisoformat(key)) > day:
            break
        going = [
            name
            for name in retention.ttl_days
            if (before := asked_again_before(retention, name, day, revisit_days)) and said < before
        ]
        rows = lake.read("audio_features", key).filter(~pl.col("provider").is_in(going))
        if provider is not None:
            rows = rows.filter(pl.col("provider") == provider)
        known.append(rows["track_id"])
    if not known:
        return lambda _: set()
    track_ids = pl.concat(known).unique()
    return lambda asked: set(track_ids.filter(track_ids.is_in(list(asked))).to_list())
