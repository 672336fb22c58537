"""Process deletion requests: remove users from a lake and from what was published from it.

Here: the first stage of a run; removing users from raw batches, daily tables, crawls, feedback, settings and
what was built from them. Not here: the requests (`deletion_requests`), older versions that still name the
users (`stale_versions`), the tombstones that keep them out (`lake.tombstones`), or how each place is cleaned
(`lake.raw`, `sources.frontier`, `lake.feedback_spool`).
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
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake import feedback_spool, raw
from tunegraph_pipeline.lake.aliases import Aliases, id_columns
from tunegraph_pipeline.lake.daily import fill_day, filter_day
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.seals import read_json, sealed_json
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
from tunegraph_pipeline.pipeline.retention import in_words, remove_expired
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
from tunegraph_pipeline.words import counted

_LOG = logging.getLogger(__name__)


@dataclass
class Purged:
    """What was removed. ``users`` were named by requests, each under all of their ids; ``known`` of them were
    in the lake, and ``counts`` says how much of what was removed. ``unfinished``: whether older versions may
    still name them."""

    users: int = 0
    known: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    unfinished: bool = False


def run(
    lake: Lake, today: date, *, only_republish: bool = False, log: Callable[[str], None] = _LOG.info
) -> StageResult:
    """The first stage: remove the users whom requests name, and data past its time to live.

    The stages after it rebuild what was built with them. With ``only_republish`` no model will be trained:
    where none is live, or nobody is left to serve, old versions are removed here, and the result ``ends`` the
    run. ``log`` is called with each note. Raises InputError, LakeError.
    """
    with Measured() as cost:
        check_times_to_live(lake)
        purged = process_requests(lake)
        expired = remove_expired(lake, today)
        retired = retire_if_nobody_is_left(lake) if purged is not None else 0
        live = (lake.serving / CURRENT).exists() and live_model(lake.serving) is not None
        ends = only_republish and not live
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
            "users to forget": purged.users if purged else 0,
            "of them in the lake": purged.known if purged else 0,
            "users forgotten so far": len(Tombstones.of(lake.root)),
        },
        tables={"removed or rewritten": counts} if counts else {},
        notes=notes,
        ends=ends,
    )


def _notes(
    purged: Purged | None, expired: dict[str, int], retired: int, *, ends_here: bool, trained: bool
) -> list[str]:
    """What a person should know, in counts only."""
    notes = []
    if purged is not None and purged.users:
        removed = in_words(purged.counts)
        notes.append(
            f"to forget: {counted(purged.users, 'user')}, of whom the lake knew {purged.known:,}"
            + (f"; removed or rewritten: {removed}" if removed else "")
        )
        if purged.known < purged.users:
            unknown = purged.users - purged.known
            notes.append(
                f"unknown to the lake, or already removed by an interrupted run: {unknown:,}; if they ever"
                " appear, they are kept out"
            )
        if trained:
            notes.append(
                "the model's weights were trained with these users until the next full retrain:"
                " `tunegraph refresh --full`"
            )
    if expired:
        notes.append(f"past their time to live: {in_words(expired)}")
    if retired:
        notes.append(f"nobody is left and nothing is served: {counted(retired, 'bundle')} withdrawn")
    if ends_here and not retired:
        notes.append("nothing was published: the lake has no bundle yet; the next refresh makes one")
    return notes


# --- processing the requests ---


def process_requests(lake: Lake) -> Purged | None:
    """Remove the users of all requests from the lake, so that only published bundles, and the tables made of
    them, may still name them; None where there is no request.

    The tombstones are written first: after a kill at any later point nobody comes back. A user with aliases
    is removed under all ids. What was built from the daily tables is removed, to be rebuilt, if it named one
    of the users, or if a damaged version may have. Nothing is removed for unknown users. Only for the holder
    of the lake's lock. Raises InputError naming a request that cannot be read; LakeError where something
    cannot be cleaned, or the disk cannot be written.
    """
    folder = lake.deletion_requests
    purging, purged = folder / PURGING, folder / PURGED
    delete_requests(folder, abandoned_drafts(folder))
    interrupted = bool(request_files(purging))
    waiting = request_files(folder)
    if not (interrupted or waiting):
        return Purged(unfinished=True) if has_old_versions(lake) else None
    asked = {user_id for path in (*waiting, *request_files(purging)) for user_id in read_user_ids(path)}
    aliases = Aliases.of(lake.root)
    ids = aliases.all_ids(asked)
    known = Tombstones.of(lake.root)
    if (tombstones := known.with_users(ids)) is not known:
        tombstones.write(lake.root)
    move_requests(waiting, purging)
    named, counts = _remove_users(lake, ids)
    if named or interrupted or has_damaged_versions(lake):
        remove_built(lake)
        move_requests(request_files(purging), purged)
    else:
        delete_requests(purging, request_files(purging))
    people, known_people = ({*map(aliases.user_id, some)} for some in (ids, named))
    return Purged(len(people), len(known_people), counts, unfinished=has_old_versions(lake))


def _remove_users(lake: Lake, ids: set[str]) -> tuple[Counter[str], dict[str, int]]:
    """Remove users from everything that is not built; returns how often each was named, and what was
    removed."""
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
        found = _remove_from_day(lake, day, ids, counts)
        counts["days"] += bool(found)
        named += found
    for path in lake.frontiers():
        found = frontier.take_users_out(path, ids)
        counts["crawls"] += bool(found)
        named += found
    found = feedback_spool.take_users_out(lake, ids)
    counts["lines of feedback"] = found.total()
    named += found
    _remove_from_inbox_memory(lake, ids)
    found = _remove_from_settings(lake, ids)
    counts["start users"] = found.total()
    named += found
    named.update({*map(composed, users_of_built(lake))} & ids)
    # Last, so that an interrupted run finds all ids of a user again.
    aliases = Aliases.of(lake.root)
    if (left := aliases.without(ids)) is not aliases:
        left.write(lake.root)
        counts["aliases"] = len(aliases.links) - len(left.links)
    return named, {what: count for what, count in counts.items() if count}


def _remove_from_day(lake: Lake, day: date, ids: set[str], counts: dict[str, int]) -> Counter[str]:
    named: Counter[str] = Counter()
    if raw.is_pruned(lake.raw, day):
        raw.prune_day(lake.raw, day)  # finish a killed pruning
    for batch in lake.batches(day):
        found = raw.take_users_out(batch, day, ids)
        counts["raw batches"] += bool(found)
        named += found
    gone = pl.Series(sorted(ids), dtype=pl.String).implode()
    in_tables = Counter(
        user_id
        for table in DAILY_TABLES
        if day.isoformat() in lake.partitions(table)
        for column in id_columns(TABLES[table].schema.names)
        for user_id in {*map(composed, lake.count_values(table, day.isoformat(), column))} & ids
    )
    filled = any(day.isoformat() in lake.partitions(table) for table in DAILY_TABLES)
    if filled and (named or in_tables):
        fill_day(lake, day)
        # A day whose raw batches were pruned has only its tables.
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


def _remove_from_inbox_memory(lake: Lake, ids: set[str]) -> None:
    """Replace recorded errors that quote a line with one of these users. The files of the inbox are
    outside the lake."""
    path = lake.inbox_memory
    if not path.exists():
        return
    try:
        memory = read_json(path.read_bytes())
        quoting = [
            one for one in memory["files"].values() if any(who in composed(one["error"] or "") for who in ids)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(f"{path} cannot be read ({error}); restore or remove it") from error
    for one in quoting:
        one["error"] = "it cannot be imported"
    if quoting:
        write_text(path, sealed_json(json.dumps(memory, indent=1)), lake.staging)


def _remove_from_settings(lake: Lake, ids: set[str]) -> Counter[str]:
    named: Counter[str] = Counter()
    for section, values in lake.file.settings.items():
        start = values.get("start_users", [])
        if found := [user_id for user_id in start if composed(user_id) in ids]:
            named.update(found)
            left = [user_id for user_id in start if composed(user_id) not in ids]
            lake.set_section(section, {**values, "start_users": left})
    return named


# --- what was published ---


def check_times_to_live(lake: Lake) -> None:
    """Raise InputError where the settings limit an unknown source: data that was meant would stay."""
    for source in lake.section("retention", RetentionSettings).ttl_days:
        if source not in PROVIDERS:
            raise InputError(
                f"settings.retention.ttl_days in {lake.path} names {source!r}, which is not a source;"
                f" choose from {', '.join(PROVIDERS)}"
            )


def retire_if_nobody_is_left(lake: Lake) -> int:
    """Withdraw the bundles if no list has a song any more and no day waits to be filled: no bundle will
    replace them, and they name forgotten users. Returns how many there were."""
    waits = any(
        batch.rows.get(part)
        for day in lake.stale_days()
        for batch in lake.batches(day)
        for part in ("likes", "feedback", "plays")
    )
    return 0 if waits or anybody_likes(lake, datetime.now(UTC).date()) else withdraw_stale_bundles(lake)
