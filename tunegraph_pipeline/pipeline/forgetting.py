"""Deletion requests: forgetting users, everywhere in a lake and in what was published from it.

Here: the folder of requests; removing users from raw batches, daily tables, crawls, feedback, settings and
what was built from them; and which published versions have to go. Not here: the tombstones that keep
forgotten users out (`lake.tombstones`), how each place is cleaned (`lake.raw`, `sources.frontier`,
`lake.feedback_spool`), or rebuilding and publishing.

    <lake>/forget_requests/<any name>     a complete request: one user id a line, UTF-8
    <lake>/forget_requests/.purging/      requests whose users are being removed
    <lake>/forget_requests/.purged/       requests whose users are removed, except from older versions

A request moves to the next folder when everything before is done. If a process is killed, the next one
continues the request, since every step may be repeated. The ids are in these files alone, and are deleted
with them.
"""

import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import BundleError, InputError, LakeError
from tunegraph_pipeline.lake import feedback_spool, raw
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.daily import fill_day, filter_day
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.lake.storage import (
    STAGING,
    disk_errors,
    private_file,
    sweep_staging,
    sync,
    write_text,
)
from tunegraph_pipeline.lake.tables import empty_table, row_count
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.current_likes import anybody_likes
from tunegraph_pipeline.pipeline.retention import finish_expired, has_expired_versions, prune_cut_offs
from tunegraph_pipeline.pipeline.sources import PROVIDERS
from tunegraph_pipeline.recommend.bundle import CURRENT, current_version
from tunegraph_pipeline.recommend.publication import live_model, prune, withdraw
from tunegraph_pipeline.sources import frontier

REQUESTS = "forget_requests"
_PURGING, _PURGED = ".purging", ".purged"
_WRITTEN_WITHIN = 3600  # seconds; no request takes that long to write
_BUILT = ("co_like", "like_graph", *(t.name for t in TABLES.values() if t.partition is Partition.CUT_OFF))
"""The folders that are rebuilt from the daily tables after a user was removed from those."""
_WITH_USERS = [
    table.name
    for table in TABLES.values()
    if table.partition in (Partition.CUT_OFF, Partition.BUNDLE) and "user_id" in table.schema.names
]
"""The tables with users that have a partition a version."""


@dataclass
class Purged:
    """What was taken out. ``users`` were asked for, ``known`` of them were in the lake, and ``counts`` says
    how much of what went. ``unfinished``: whether versions built before may still name them."""

    users: int = 0
    known: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    unfinished: bool = False


# --- requests ---


def request(lake: Lake, user_ids: Iterable[str]) -> Path:
    """Ask that these users are forgotten; on disk for good when this returns, readable by its owner alone.

    Needs no lock: a run in progress processes it or leaves it to the next. Raises InputError for an empty id
    or one that cannot be a line of UTF-8, LakeError where the disk says no.
    """
    lines = list(dict.fromkeys(user_ids))
    for line in lines:
        _check(line, "the id of a user to forget")
    path = lake.root / REQUESTS / f"{uuid.uuid4().hex}.txt"
    private_file(path, "".join(f"{line}\n" for line in lines))
    sync(lake.root)
    return path


def read_user_ids(path: Path) -> list[str]:
    """The user ids of a file with one a line, empty lines left out. Raises InputError naming the file."""
    try:
        # Not splitlines: it would break an id at characters that end no line of a file.
        # A byte order mark, as some editors write, is not of the first id.
        lines = [line.removesuffix("\r") for line in path.read_bytes().decode("utf-8-sig").split("\n")]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as user ids, one a line in UTF-8 ({error})") from None
    ids = [line for line in lines if line]
    for line in ids:
        _check(line, f"{path}: a user id")
    return ids


def _check(user_id: str, what: str) -> None:
    if not user_id.strip() or "\n" in user_id or "\0" in user_id:
        raise InputError(f"{what} is empty or has a line break in it; give it as the source names the user")
    try:
        user_id.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is not valid Unicode text") from None


def pending_requests(lake: Lake) -> int:
    """How many requests are not finished yet."""
    folder = lake.root / REQUESTS
    return sum(len(_files(folder / part)) for part in ("", _PURGING, _PURGED))


def has_old_versions(lake: Lake) -> bool:
    """Whether older versions may still name users who were removed from the lake."""
    return bool(_files(lake.root / REQUESTS / _PURGED))


def finish_requests(lake: Lake) -> None:
    """Delete the requests whose users are out: call it when no older version is left. Raises LakeError where
    the disk says no."""
    folder = lake.root / REQUESTS / _PURGED
    _delete(folder, _files(folder))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _move(paths: list[Path], target: Path) -> None:
    for path in paths:
        with disk_errors(path):
            target.mkdir(exist_ok=True, mode=0o700)
            path.rename(target / f"{uuid.uuid4().hex}.txt")
            sync(target)
            sync(path.parent)


def _delete(folder: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        with disk_errors(path):
            path.unlink()
            sync(folder)


def _abandoned(folder: Path) -> list[Path]:
    """Drafts of requests whose writers were killed: they hold ids, and nobody will rename them."""
    hidden = folder.glob(".*") if folder.is_dir() else ()
    before = time.time() - _WRITTEN_WITHIN
    return [path for path in hidden if path.is_file() and path.stat().st_mtime < before]


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
    folder = lake.root / REQUESTS
    purging, purged = folder / _PURGING, folder / _PURGED
    _delete(folder, _abandoned(folder))
    interrupted = bool(_files(purging))
    waiting = _files(folder)
    if not (interrupted or waiting):
        return Purged(unfinished=True) if has_old_versions(lake) else None
    ids = {user_id for path in (*waiting, *_files(purging)) for user_id in read_user_ids(path)}
    known = Tombstones.of(lake.root)
    if (tombstones := known.with_users(ids)) is not known:
        tombstones.write(lake.root)
    _move(waiting, purging)
    named, counts = _take_out(lake, ids)
    if named or interrupted or _has_damaged_versions(lake):
        remove_built(lake)
        _move(_files(purging), purged)
    else:
        _delete(purging, _files(purging))
    return Purged(len(ids), len(named), counts, unfinished=has_old_versions(lake))


def _take_out(lake: Lake, ids: set[str]) -> tuple[Counter[str], dict[str, int]]:
    """Take users out of all that is not built; returns how often each was named, and counts of what went."""
    for staging in (lake.staging, lake.serving / STAGING):
        sweep_staging(staging)
    checkpoints = lake.root / "checkpoints"
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
    for path in sorted((lake.root / "crawl").glob("*.sqlite")):
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
    named.update(set(_users_of_built(lake)) & ids)
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
    path = lake.root / "inbox.json"
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


def remove_built(lake: Lake) -> None:
    """Remove the current lists and the matrices of them, all versions. Raises LakeError where the disk says
    no."""
    for name in _BUILT:
        folder = lake.root / name
        if folder.exists():
            with disk_errors(folder):
                lake.staging.mkdir(exist_ok=True)
                # Renamed first: nobody takes what is half deleted for a version.
                shutil.rmtree(folder.rename(lake.staging / f"{uuid.uuid4().hex}-{name}"))


def users_left(lake: Lake) -> int:
    """How many forgotten users something that was built still names, old versions included; 0 where nobody
    was forgotten."""
    tombstones = Tombstones.of(lake.root)
    if not tombstones:
        return 0
    users = pl.Series(list(_users_of_built(lake)), dtype=pl.String)
    return int(tombstones.buries(users).sum())


def _users_of_built(lake: Lake) -> set[str]:
    """Whoever is named by the current lists, the like graphs, the bundles and the recommendations, in any
    version."""
    users: set[str] = set()
    for table in _WITH_USERS:
        for key in lake.partitions(table):
            users.update(lake.read(table, key, ["user_id"])["user_id"].unique())
    for folder in _version_folders(lake):
        users.update(_users_of(folder) or ())
    return users


def _has_damaged_versions(lake: Lake) -> bool:
    """Whether there is a version that nobody can be read from, whoever it names."""
    return any(_users_of(folder) is None for folder in _version_folders(lake))


def _users_of(folder: Path) -> list[str] | None:
    """The users of a like graph or a bundle; None where it is damaged."""
    try:
        return ArrayFolder.open(folder).strings("user_ids").tolist()
    except (BundleError, ValueError):  # ids that are no text are a ValueError
        return None


def _version_folders(lake: Lake) -> Iterator[Path]:
    for kind in ("like_graph", "serving"):
        found = (path for what in (MANIFEST, "*.npy") for path in (lake.root / kind).glob(f"[!.]*/{what}"))
        yield from sorted({path.parent for path in found})


# --- what was published ---


def check_times_to_live(lake: Lake) -> None:
    """Raise InputError where the settings limit a source that there is none of: what was meant would stay."""
    for source in lake.section("retention", RetentionSettings).ttl_days:
        if source not in PROVIDERS:
            raise InputError(
                f"settings.retention.ttl_days in {lake.root / 'lake.json'} names {source!r}, which is no"
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


def has_stale_personal_data(lake: Lake) -> bool:
    """Whether older versions may hold forgotten users or expired data."""
    return has_old_versions(lake) or has_expired_versions(lake)


def withdraw_stale_bundles(lake: Lake) -> int:
    """Withdraw the bundles and remove all that was built, if they may hold forgotten users or expired data.

    For a lake that has no list to publish in their place. Returns how many bundles were withdrawn; 0 where
    they may stay live.
    """
    if not has_stale_personal_data(lake):
        return 0
    remove_built(lake)
    withdrawn = withdraw(lake.serving)
    drop_old_versions(lake)
    return withdrawn


def drop_old_versions(lake: Lake) -> dict[str, int]:
    """Where users were taken out of the lake, or something has expired, remove every version from before:
    bundles, lists, graphs, recommendations; returns how many of each went. Then the requests are done with.

    Raises LakeError, and leaves the requests to the next run, where a version that is current still names
    somebody who was forgotten.
    """
    if not has_stale_personal_data(lake):
        return {}
    live = current_version(lake.serving) if (lake.serving / CURRENT).exists() else None
    went = {"bundles": prune(lake.serving, {live}, 0), "tables of recommendations": 0}
    for version in lake.partitions("user_recommendations"):
        if version != live:
            lake.drop_partition("user_recommendations", version)
            went["tables of recommendations"] += 1
    if (lake.root / "current_likes" / "CURRENT").exists():
        current = lake.current_version("current_likes")
        went["cut-offs"] = prune_cut_offs(lake, current, keep=0)
        if row_count(lake.root, "changed_users", current):
            # It names those who vanished. Of no two lists that there are, as its inputs say now, it has the
            # next graph rebuilt.
            lake.write("changed_users", current, empty_table("changed_users"), "{}")
    if (lake.root / "like_graph" / "CURRENT").exists():
        went["like graphs"] = lake.prune_versions("like_graph", keep=0)
    if (lake.root / "co_like" / "CURRENT").exists():
        went["co-like matrices"] = lake.prune_versions("co_like", keep=0)
    if left := users_left(lake):
        raise LakeError(
            f"{left} forgotten users are still named by what is current in {lake.root};"
            " run `tunegraph forget` again"
        )
    finish_requests(lake)
    finish_expired(lake)
    return {what: count for what, count in went.items() if count}
