"""From sources to daily tables: who was met, what they like, and what is known of the tracks.

`crawled_users` asks the lake's source for a day and keeps what it said as a raw batch; the four tables are
each a pure function of the day's batches, so filling a day again, in any order, gives the same files.
"""

from collections.abc import Callable, Iterable
from datetime import date

import polars as pl
from dagster import AssetExecutionContext, AssetsDefinition, BackfillPolicy, Config, MetadataValue, asset

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import SIMULATED, Lake
from tunegraph_pipeline.lake.raw import BatchInfo, day_fingerprint, write_batch
from tunegraph_pipeline.lake.tables import (
    derive_audio_features,
    derive_likes,
    derive_observations,
    derive_tracks,
    derive_users,
    inputs_of,
    row_count,
)
from tunegraph_pipeline.orchestration.measure import Measured, report_progress
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    counts_table,
    definition_metadata,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.partitions import DAILY
from tunegraph_pipeline.orchestration.resources import LakeResource

GROUP = "sources"
ONE_RUN = BackfillPolicy.single_run()  # a backfill of many days is one run
Derive = Callable[[list[BatchInfo], date], dict[str, pl.DataFrame]]


class CrawlConfig(Config):
    """What to ask for users and likes on the days of this run."""

    source: str = ""
    """simulator, or none to use only what was received already; empty for the source in lake.json."""


@asset(
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("users"),
)
def crawled_users(context: AssetExecutionContext, config: CrawlConfig, lake: LakeResource) -> None:
    """Who was met on each day. Crawls the source first where the day has not been crawled yet."""
    root = lake.open()
    for key in context.partition_keys:
        crawl(root, config.source, date.fromisoformat(key))
    _fill(context, root, lambda batches, day: {"users": derive_users(batches, day)})


@asset(
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[crawled_users],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("likes"),
)
def liked_lists(context: AssetExecutionContext, lake: LakeResource) -> None:
    """The complete list of every user seen whole on each day, and that they were seen (`observations`)."""

    def derive(batches: list[BatchInfo], day: date) -> dict[str, pl.DataFrame]:
        likes = derive_likes(batches)
        return {"observations": derive_observations(derive_users(batches, day), likes), "likes": likes}

    _fill(context, lake.open(), derive)


@asset(
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[crawled_users],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("tracks"),
)
def tracks(context: AssetExecutionContext, lake: LakeResource) -> None:
    """What became known of tracks on each day: names, artists, album, genre, cover, preview."""
    _fill(context, lake.open(), lambda batches, day: {"tracks": derive_tracks(batches)})


@asset(
    group_name=GROUP,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[crawled_users],
    kinds={"parquet", "polars"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("audio_features"),
)
def audio_features(context: AssetExecutionContext, lake: LakeResource) -> None:
    """The 11 audio features that were fetched on each day; what nobody knows stays null."""
    _fill(context, lake.open(), lambda batches, day: {"audio_features": derive_audio_features(batches)})


ASSETS: list[AssetsDefinition] = [crawled_users, liked_lists, tracks, audio_features]


def crawl(lake: Lake, source: str, day: date) -> None:
    """Ask ``source`` for ``day`` unless its answer is in the lake already.

    ``source`` is empty for the lake's own. Raises InputError for a source that nobody knows.
    """
    source = source or lake.file.source or "none"
    if source in ("none", "files"):
        return  # files come in through `tunegraph import`
    if source != SIMULATED:
        raise InputError(f"source {source!r} is not known; use simulator or none")
    from tunegraph_pipeline.sources.simulator import World, WorldConfig

    lake.admit_source(source)
    if not any(batch.source == source for batch in lake.batches(day)):
        write_batch(lake.raw, day, World(lake.section("simulator", WorldConfig)).crawl(day))


def _fill(context: AssetExecutionContext, lake: Lake, derive: Derive) -> None:
    """Bring the tables that ``derive`` gives up to date for every day of the run."""
    days = context.partition_keys
    name = context.asset_key.to_user_string()
    for done, key in enumerate(days):
        report_progress(name, done, len(days))
        with Measured() as cost:
            batches = lake.batches(date.fromisoformat(key))
            inputs = day_fingerprint(batches)
            tables = _tables_of(name)
            fresh = all(inputs_of(lake.root, table, key) == inputs for table in tables)
            if not fresh:
                for table, frame in derive(batches, date.fromisoformat(key)).items():
                    lake.write(table, key, frame, inputs)
        rows = row_count(lake.root, tables[-1], key)
        metadata = {
            **rows_metadata(rows),
            **cost_metadata(cost),
            "raw batches": MetadataValue.int(len(batches)),
            "unchanged": MetadataValue.bool(fresh),
        }
        if skipped := _total_counts(batches):
            metadata["skipped or noticed"] = counts_table(skipped)
        context.add_asset_metadata(metadata, partition_key=key)
        if not fresh:
            context.log.info(f"{name} {key}: {rows:,} rows from {len(batches)} batches")
    report_progress(name, len(days), len(days))


def _tables_of(asset_name: str) -> list[str]:
    return {
        "crawled_users": ["users"],
        "liked_lists": ["observations", "likes"],
        "tracks": ["tracks"],
        "audio_features": ["audio_features"],
    }[asset_name]


def _total_counts(batches: Iterable[BatchInfo]) -> dict[str, int]:
    total: dict[str, int] = {}
    for batch in batches:
        for what, count in batch.counts.items():
            total[what] = total.get(what, 0) + count
    return total
