"""From sources to daily tables: who was met, what they like, what they said, and what is known of the tracks.

First `forgotten_users` removes users who asked for it. Then `crawled_users` collects what listeners said
through the service and asks the lake's source for a day; it keeps both as raw batches. The tables of a day
depend on its batches alone, so days may be filled again, in any order, and give the same files.
"""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    Config,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    RetryRequested,
)
from pydantic import Field

from tunegraph_pipeline.lake.feedback_spool import collect
from tunegraph_pipeline.lake.lake import SIMULATED, Lake
from tunegraph_pipeline.orchestration.metadata import (
    counts_table,
    materialized,
    materialized_unless_ended,
    notes_list,
)
from tunegraph_pipeline.orchestration.resources import is_demo
from tunegraph_pipeline.orchestration.stage_asset import stage_asset
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.fill_days import NO_SOURCE, as_day
from tunegraph_pipeline.pipeline.sources import check_known
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.progress import report_note, report_progress
from tunegraph_pipeline.sources.crawl import CrawlReport
from tunegraph_pipeline.sources.dumps.fetch import DumpReport
from tunegraph_pipeline.sources.dumps.listens import LISTENS
from tunegraph_pipeline.sources.source import NoAnswer
from tunegraph_pipeline.words import counted

GROUP = "sources"
API_POOL = "api"
"""Two runs that crawl at once would double the rate a service sees; the pool lets one at a time."""
_OBSERVE_SECONDS = 5.0


class ForgetConfig(Config):
    """What follows in this run."""

    only_republish: bool = False
    """Whether the run only publishes an existing model again; then it ends here where no model is live, or
    nobody is left to serve."""


@stage_asset("forgotten_users", GROUP, ("parquet",), output_required=False)
def forgotten_users(
    context: AssetExecutionContext, config: ForgetConfig, lake: ResourceParam[Lake]
) -> Iterator[MaterializeResult[Any]]:
    """Removes from the lake the users whom the files in `forget_requests/` name, and data past its time to
    live. What was built with them is rebuilt by what follows.

    In the job `forget` nothing follows where there is no bundle yet, or nobody is left to serve.
    """
    today, log = datetime.now(UTC).date(), context.log.info
    result = stage("forgotten_users").run(lake, today=today, only_republish=config.only_republish, log=log)
    yield from materialized_unless_ended(context, result)


class CrawlConfig(Config):
    """What to ask for users and likes on the days of this run."""

    source: str = ""
    """A name of `pipeline.sources.SOURCES`; none to use only what was received already; empty for the source
    in lake.json, and for the simulator in a demo that has none yet."""
    first: str = ""
    """The first day to ask the source for, empty for that of the run. Days that are not asked for are filled
    from what was received on them."""
    last: str = ""
    """The last day to ask the source for, empty for that of the run."""
    retries: int = Field(default=3, ge=0, le=3)
    """How often a source that does not answer is asked again in this run; what it said before is kept."""
    retry_after: float = Field(default=60.0, ge=0, le=600)
    """Seconds until the first retry; each further one waits twice as long."""


def crawled_users(context: AssetExecutionContext, config: CrawlConfig, lake: ResourceParam[Lake]) -> None:
    """Who was met on each day. First collects the feedback in the spool, and asks the source for what of the
    day it has not answered yet."""
    first, last = as_day("first", config.first), as_day("last", config.last)
    if config.source not in ("", NO_SOURCE):
        check_known(config.source)
    for note in collect(lake).sentences():
        context.log.warning(note)
        report_note(note)
    source = config.source or lake.file.source or (SIMULATED if is_demo(lake.root) else NO_SOURCE)
    for key in context.partition_keys:
        day = date.fromisoformat(key)
        if (first and day < first) or (last and day > last):
            continue
        observer = _CrawlObserver(context, key)
        try:
            report = crawl_day(lake, source, day, observer.observe)
        except NoAnswer as error:
            if context.retry_number >= config.retries:
                raise
            wait = config.retry_after * 2**context.retry_number
            context.log.warning(f"{error}; asked again in {counted(round(wait), 'second')}")
            raise RetryRequested(config.retries, wait) from error
        if report is not None:
            observer.finish(report)
    _fill(context, lake)


def _daily_table(name: str, days: DailyPartitionsDefinition, description: str) -> AssetsDefinition:
    @stage_asset(name, GROUP, partitions_def=days, description=description)
    def fill(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> None:
        _fill(context, lake)

    return fill


def assets(days: DailyPartitionsDefinition) -> list[AssetsDefinition]:
    """The assets of this module, with a partition for each of ``days``."""
    return [
        forgotten_users,
        stage_asset("crawled_users", GROUP, pool=API_POOL, partitions_def=days)(crawled_users),
        _daily_table(
            "liked_lists",
            days,
            "The complete list of every user seen whole on each day, and that they were seen"
            " (`observations`).",
        ),
        _daily_table(
            "tracks",
            days,
            "What became known of tracks on each day: names, artists, album, genre, cover, preview.",
        ),
        _daily_table(
            "audio_features",
            days,
            "The 11 audio features that were fetched on each day; unknown ones are null.",
        ),
        _daily_table(
            "redirects",
            days,
            "The MusicBrainz ids that stand for others, as imported on each day with MusicBrainz's names.",
        ),
        _daily_table(
            "feedback",
            days,
            "What listeners said of single songs through the service on each day: like, dislike or skip.",
        ),
        _daily_table(
            "plays",
            days,
            "How often users played tracks, by the day of the plays, as received on each day: from dumps and"
            " histories.",
        ),
    ]


class _CrawlObserver:
    """Reports how a crawl goes to Dagster and to whoever watches: figures only, never a user's name."""

    def __init__(self, context: AssetExecutionContext, partition: str) -> None:
        self._context = context
        self._partition = partition
        self._observed = time.monotonic()

    def observe(self, report: CrawlReport | DumpReport) -> None:
        if isinstance(report, CrawlReport):
            visited = sum(n for state, n in report.known.items() if state != "found")
            report_progress("crawled_users: visits", visited, sum(report.known.values()))
        if time.monotonic() - self._observed >= _OBSERVE_SECONDS:
            self._observed = time.monotonic()
            key, metadata = self._context.asset_key, _crawl_metadata(report)
            self._context.log_event(AssetObservation(key, partition=self._partition, metadata=metadata))

    def finish(self, report: CrawlReport | DumpReport) -> None:
        for note in report.notes:
            self._context.log.warning(note)
            report_note(note)
        metadata = _crawl_metadata(report)
        if report.notes:
            metadata["notes"] = notes_list(report.notes)
        self._context.add_asset_metadata(metadata, partition_key=self._partition)


def _crawl_metadata(report: CrawlReport | DumpReport) -> dict[str, Any]:
    if isinstance(report, DumpReport):
        return {
            "dumps": ", ".join(report.dumps),
            "bytes fetched": report.traffic["bytes"],
            "requests": report.traffic["requests"],
            "retries": report.traffic["retries"],
            "listens": report.counts[LISTENS],
            "rows of plays": report.rows["plays"],
            "rows of tracks": report.rows["tracks"],
            "listens, by what became of them": counts_table(dict(sorted(report.counts.items()))),
        }
    counts = report.counts
    return {
        "users visited": report.users,
        "requests": counts["requests"],
        "told to slow down (429)": counts["429"],
        "retries": counts["retries"],
        "users known, by state": counts_table(report.known),
        "requests, by outcome": counts_table(dict(sorted(counts.items()))),
    }


def _fill(context: AssetExecutionContext, lake: Lake) -> None:
    """Fill the tables of the asset for every day of the run."""
    days = context.partition_keys
    name = context.asset_key.to_user_string()
    for done, key in enumerate(days):
        report_progress(name, done, len(days))
        result = stage(name).run(lake, day=date.fromisoformat(key))
        context.add_asset_metadata(materialized(result).metadata or {}, partition_key=key)
        if result.how != "reused":
            batches = counted(result.facts["raw batches"], "batch", "batches")
            context.log.info(f"{name} {key}: {counted(result.rows or 0, 'row')} from {batches}")
    report_progress(name, len(days), len(days))
