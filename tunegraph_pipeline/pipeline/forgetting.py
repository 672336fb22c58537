"""Deletion requests: forgetting users, everywhere in a lake and in what was published from it.

Here: the first stage of a run; removing users from raw batches, daily tables, crawls, feedback, settings and
what was built from them. Not here: the requests (`deletion_requests`), older versions that still name them
(`stale_versions`), the tombstones that keep forgotten users out (`lake.tombstones`), or how each place is
cleaned (`lake.raw`, `sources.frontier`, `lake.feedback_spool`).
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import polars as pl

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake import feedback_spool, raw
from tunegraph_pipeline.lake.daily import fill_day, filter_day
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.storage import STAGING, disk_errors, sweep_staging, write_text
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.current_likes import anybody_likes
from tunegraph_pipeline.pipeline.deletion_requests import (
    PURGED,
    PURGING,
    abandoned_drafts,
    delete_requests,
    has_old_versions,
    move_requests,
    read_user_ids,
    request_files,
)
from tunegraph_pipeline.pipeline.retention import remove_expired
from tunegraph_pipeline.pipeline.sources import PROVIDERS
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stale_versions import (
    drop_old_versions,
    has_damaged_versions,
    remove_built,
    users_of_built,
    withdraw_stale_bundles,
)
from tunegraph_pipeline.progress import Measured, report_note
from tunegraph_pipeline.recommend.bundle import CURRENT
from tunegraph_pipeline.recommend.publication import live_model
from tunegraph_pipeline.sources import frontier

_LOG = logging.getLogger(__name__)


@dataclass
class Purged:
    """What was taken out. ``users`` were asked for, ``known`` of them were in the lake, and ``counts`` says
    how much of what went. ``unfinished``: whether versions built before may still name them."""

    users: int = 0
    known: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    unfinished: bool = False


def run(
    lake: Lake, today: date, *, only_republish: bool = False, log: Callable[[str], None] = _LOG.info
) -> StageResult:
    """The first stage: remove the users whom requests name, and what the sources' time-to-live has ended.

    What was built with them is rebuilt by the stages after it. With ``only_republish`` no model will be
    trained: where none is live, or nobody is left to serve, old versions are removed here, and the result
    ``ends`` the run. ``log`` is called with each note. Raises InputError, LakeError.
    """
    with Measured() as cost:
        check_times_to_live(lake)
        purged = process_requests(lake)
        expired = remove_expired(lake, today)
        retired = retire_if_nobody_is_left(lake) if purged is not None else 0
        ends = only_republish and not can_publish(lake)
        if ends:
            drop_old_versions(lake)
    trained = lake.has_current("models")
    notes = _notes(purged, expired, retired, ends_here=ends, trained=trained)
    for note in notes:
        log(note)
        report_note(note)
    counts = {**(purged.counts if purged else {}), **expired}
    return StageResult(
        None,
        None,
        cost,
        facts={
            "users asked for": purged.users if purged else 0,
            "of them in the lake": purged.known if purged else 0,
            "forgotten ever": len(Tombstones.of(lake.root)),
        },
        tables={"removed or rewritten": counts} if counts else {},
        notes=notes,
        ends=ends,
    )


def _notes(
    purged: Purged | None, expired: dict[str, int], retired: int, *, ends_here: bool, trained: bool
) -> list[str]:
    """What a person has to know, in counts alone."""
    notes = []
    if purged is not None and purged.users:
        went = ", ".join(f"{count:,} {what}" for what, count in purged.counts.items())
        notes.append(
            f"to forget: {purged.users:,} users, of whom the lake knew {purged.known:,}"
            + (f"; removed or rewritten: {went}" if went else "")
        )
        if purged.known < purged.users:
            notes.append(
                f"{purged.users - purged.known:,} of them the lake did not know, or an interrupted run had"
                " removed already; should they ever come, they are kept out all the same"
            )
        if trained:
            notes.append(
                "the weights of the model were trained with whoever was in it, until the next full retrain:"
                " `tunegraph refresh --full`"
            )
    if expired:
        went = ", ".join(f"{count:,} {what}" for what, count in expired.items())
        notes.append(f"past their time-to-live: {went}")
    if retired:
        notes.append(f"nobody is left: {retired:,} bundles were withdrawn, and nothing is served")
    if ends_here and not retired:
        notes.append("nothing was published: the lake has no bundle yet, and the next refresh makes one")
    return notes


# --- processing the requests ---


def process_requests(lake: Lake) -> Purged | None:
    """Take the users of all requests out of the lake, so that only published bundles, and the tables made of
    them, may still name them; None where nobody is to be forgotten.

    The tombstones come first: whatever is killed after them, nobody comes back. What was built of the daily
    tables is removed where it counted one of them, or where a version is damaged so that nobody can tell, to
    be rebuilt. Nothing is removed for a user whom nobody knows. Only for the holder of the lake's
    lock. Raises InputError naming a request that cannot be read; LakeError where something cannot be cleaned,
    or the disk says no.
    """
    folder = lake.deletion_requests
    purging, purged = folder / PURGING, folder / PURGED
    delete_requests(folder, abandoned_drafts(folder))
    interrupted = bool(request_files(purging))
    waiting = request_files(folder)
    if not (interrupted or waiting):
        return Purged(unfinished=True) if has_old_versions(lake) else None
    ids = {user_id for path in (*waiting, *request_files(purging)) for user_id in read_user_ids(path)}
    known = Tombstones.of(lake.root)
    if (tombstones := known.with_users(ids)) is not known:
        tombstones.write(lake.root)
    move_requests(waiting, purging)
    named, counts = _take_out(lake, ids)
    if named or interrupted or has_damaged_versions(lake):
        remove_built(lake)
        move_requests(request_files(purging), purged)
    else:
        delete_requests(purging, request_files(purging))
    return Purged(len(ids), len(named), counts, unfinished=has_old_versions(lake))


def _take_out(lake: Lake, ids: set[str]) -> tuple[Counter[str], dict[str, int]]:
    """Take users out of all that is not built; returns how often each was named, and counts of what went."""
    for staging in (lake.staging, lake.serving / STAGING):
        sweep_staging(staging)
    checkpoints = lake.checkpoints
    if checkpoints.exists():
        with disk_errors(checkpoints):
            shutil.rmtree(checkpoints)
    named: Counter[str] = Counter()
    counts = {"raw batches": 0, "days": 0, "crawls": 0, "lines of feedback": 0, "start users": 0}
    days = {*lake.raw_days(), *(date.fromisoformat(key) for t in DAILY_TABLES for key in lake.partitions(t))}
    for day in sorted(days):
        found = _take_out_of_day(lake, day, ids, counts)
        counts["days"] += bool(found)
        named += found
    for path in lake.frontiers():
        found = frontier.take_users_out(path, ids)
        counts["crawls"] += bool(found)
        named += found
    found = feedback_spool.take_users_out(lake, ids)
    counts["lines of feedback"] = found.total()
    named += found
    _take_out_of_inbox(lake, ids)
    found = _take_out_of_settings(lake, ids)
    counts["start users"] = found.total()
    named += found
    named.update(set(users_of_built(lake)) & ids)
    return named, {what: count for what, count in counts.items() if count}


def _take_out_of_day(lake: Lake, day: date, ids: set[str], counts: dict[str, int]) -> Counter[str]:
    named: Counter[str] = Counter()
    if raw.is_pruned(lake.raw, day):
        raw.prune_day(lake.raw, day)  # what a killed process left of it
    for batch in lake.batches(day):
        found = raw.take_users_out(batch, day, ids)
        counts["raw batches"] += bool(found)
        named += found
    gone = pl.Series(sorted(ids), dtype=pl.String).implode()
    in_tables = Counter(
        user_id
        for table, column in (
            ("users", "user_id"),
            ("users", "discovered_from"),
            ("observations", "user_id"),
            ("likes", "user_id"),
            ("feedback", "user_id"),
        )
        if day.isoformat() in lake.partitions(table)
        for user_id in lake.read(table, day.isoformat(), [column])[column].unique()
        if user_id in ids
    )
    filled = any(day.isoformat() in lake.partitions(table) for table in DAILY_TABLES)
    if filled and (named or in_tables):
        fill_day(lake, day)
        # Of a day whose raw batches were pruned the tables are all there is.
        filter_day(lake, day, lambda rows: _without(rows, gone))
    return named + in_tables


def _without(rows: pl.DataFrame, gone: pl.Series) -> pl.DataFrame:
    if "user_id" not in rows.columns:
        return rows
    rows = rows.filter(~rows["user_id"].is_in(gone))
    if "discovered_from" in rows.columns:
        led_here = rows["discovered_from"].is_in(gone).fill_null(False)
        rows = rows.with_columns(discovered_from=rows["discovered_from"].set(led_here, None))
    return rows


def _take_out_of_inbox(lake: Lake, ids: set[str]) -> None:
    """Why a file of the inbox could not be read may quote a line of it: of one that names them, the reason
    alone goes. The files themselves lie outside of the lake."""
    path = lake.inbox_memory
    if not path.exists():
        return
    try:
        memory = json.loads(path.read_bytes())
        quoting = [one for one in memory["files"].values() if any(who in (one["error"] or "") for who in ids)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(f"{path} cannot be read ({error}); restore or remove it") from error
    for one in quoting:
        one["error"] = "it cannot be imported as it is"
    if quoting:
        write_text(path, json.dumps(memory, indent=1) + "\n", lake.staging)


def _take_out_of_settings(lake: Lake, ids: set[str]) -> Counter[str]:
    named: Counter[str] = Counter()
    for section, values in lake.file.settings.items():
        start = values.get("start_users", [])
        if found := [user_id for user_id in start if user_id in ids]:
            named.update(found)
            left = [user_id for user_id in start if user_id not in ids]
            lake.set_section(section, {**values, "start_users": left})
    return named


# --- what was published ---


def check_times_to_live(lake: Lake) -> None:
    """Raise InputError where the settings limit a source that there is none of: what was meant would stay."""
    for source in lake.section("retention", RetentionSettings).ttl_days:
        if source not in PROVIDERS:
            raise InputError(
                f"settings.retention.ttl_days in {lake.path} names {source!r}, which is no"
                f" source; it is one of {', '.join(PROVIDERS)}"
            )


def can_publish(lake: Lake) -> bool:
    """Whether there is a live model and somebody to publish a bundle for."""
    return (lake.serving / CURRENT).exists() and live_model(lake.serving) is not None


def retire_if_nobody_is_left(lake: Lake) -> int:
    """Withdraw the bundles where nobody's list has a song any more and none waits to be filled: no other will
    take their place, and they name who was forgotten. Returns how many there were."""
    waits = any(
        batch.rows.get(part)
        for day in lake.stale_days()
        for batch in lake.batches(day)
        for part in ("likes", "feedback")
    )
    return 0 if waits or anybody_likes(lake, datetime.now(UTC).date()) else withdraw_stale_bundles(lake)
