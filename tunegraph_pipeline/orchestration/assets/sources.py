"""From sources to daily tables: who was met, what they like, what they said, and what is known of the tracks.

`crawled_users` takes in what listeners said through the service, asks the lake's source for a day, and keeps
both as raw batches; the tables are each a pure function of the day's batches, so filling a day again, in any
order, gives the same files. Before it, `forgotten_users` has taken out who asked to go.
"""

import time
from datetime import date
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    BackfillPolicy,
    Config,
    MetadataValue,
    RetryRequested,
)
from pydantic import Field

from tunegraph_pipeline.lake.feedback_spool import collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import (
    counts_table,
    definition_metadata,
    materialized,
    notes_list,
    stage_asset,
)
from tunegraph_pipeline.orchestration.partitions import DAILY
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.progress import report_note, report_progress
from tunegraph_pipeline.sources.crawl import CrawlReport
from tunegraph_pipeline.sources.source import NoAnswer

GROUP = "sources"
API_POOL = "api"
"""Two runs that crawl at once would double the rate a service sees; the pool lets one at a time."""
_OBSERVE_SECONDS = 5.0
ONE_RUN = BackfillPolicy.single_run()  # a backfill of many days is one run


class CrawlConfig(Config):
    """What to ask for users and likes on the days of this run."""

    source: str = ""
    """simulator, listenbrainz, spotify or files; none to use only what was received already; empty for the
    source in lake.json."""
    first: str = ""
    """The first day to ask the source for, empty for that of the run. Days that are not asked for are filled
    from what was received on them."""
    last: str = ""
    """The last day to ask the source for, empty for that of the run."""
    retries: int = Field(default=3, ge=0, le=3)
    """How often a source that does not answer is asked again in this run; what it said before is kept."""
    retry_after: float = Field(default=60.0, ge=0, le=600)
    """Seconds until the first of these; each further one comes after twice the time."""


@stage_asset(
    "crawled_users",
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    pool=API_POOL,
    metadata=definition_metadata("users"),
)
def crawled_users(context: AssetExecutionContext, config: CrawlConfig, lake: LakeResource) -> None:
    """Who was met on each day. Takes in the feedback that lies in the spool, and asks the source for what of
    the day has not been answered yet, first."""
    root = lake.open()
    for note in collect(root).sentences():
        context.log.warning(note)
        report_note(note)
    for key in context.partition_keys:
        if key < config.first or (config.last and key > config.last):
            continue
        observer = _Observer(context, key)
        try:
            report = crawl_day(root, config.source, date.fromisoformat(key), observer.hear)
        except NoAnswer as error:
            if context.retry_number >= config.retries:
                raise
            wait = config.retry_after * 2**context.retry_number
            context.log.warning(f"{error}; asked again in {wait:.0f} seconds")
            raise RetryRequested(config.retries, wait) from error
        if report is not None:
            observer.finish(report)
    _fill(context, root)


@stage_asset(
    "liked_lists",
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("likes"),
)
def liked_lists(context: AssetExecutionContext, lake: LakeResource) -> None:
    """The complete list of every user seen whole on each day, and that they were seen (`observations`)."""
    _fill(context, lake.open())


@stage_asset(
    "tracks",
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("tracks"),
)
def tracks(context: AssetExecutionContext, lake: LakeResource) -> None:
    """What became known of tracks on each day: names, artists, album, genre, cover, preview."""
    _fill(context, lake.open())


@stage_asset(
    "audio_features",
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("audio_features"),
)
def audio_features(context: AssetExecutionContext, lake: LakeResource) -> None:
    """The 11 audio features that were fetched on each day; what nobody knows stays null."""
    _fill(context, lake.open())


@stage_asset(
    "feedback",
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    metadata=definition_metadata("feedback"),
)
def feedback(context: AssetExecutionContext, lake: LakeResource) -> None:
    """What listeners said of single songs through the service on each day: like, dislike or skip."""
    _fill(context, lake.open())


ASSETS: list[AssetsDefinition] = [crawled_users, liked_lists, tracks, audio_features, feedback]


class _Observer:
    """Tells Dagster, and whoever watches, how a crawl goes; in figures alone, never by a user's name."""

    def __init__(self, context: AssetExecutionContext, partition: str) -> None:
        self._context = context
        self._partition = partition
        self._observed = time.monotonic()

    def hear(self, report: CrawlReport) -> None:
        visited = sum(n for state, n in report.known.items() if state != "found")
        report_progress("crawled_users: visits", visited, sum(report.known.values()))
        if time.monotonic() - self._observed >= _OBSERVE_SECONDS:
            self._observed = time.monotonic()
            self._context.log_event(
                AssetObservation(
                    self._context.asset_key, partition=self._partition, metadata=_crawl_metadata(report)
                )
            )

    def finish(self, report: CrawlReport) -> None:
        for note in report.notes:
            self._context.log.warning(note)
            report_note(note)
        metadata = _crawl_metadata(report)
        if report.notes:
            metadata["notes"] = notes_list(report.notes)
        self._context.add_asset_metadata(metadata, partition_key=self._partition)


def _crawl_metadata(report: CrawlReport) -> dict[str, Any]:
    counts = report.counts
    return {
        "users visited": MetadataValue.int(report.users),
        "requests": MetadataValue.int(counts["requests"]),
        "429": MetadataValue.int(counts["429"]),
        "retries": MetadataValue.int(counts["retries"]),
        "users known, by state": counts_table(report.known),
        "requests, by what became of them": counts_table(dict(sorted(counts.items()))),
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
            context.log.info(f"{name} {key}: {result.rows:,} rows from {result.facts['raw batches']} batches")
    report_progress(name, len(days), len(days))
