"""Versions that may still hold what was removed from a lake: forgotten users, expired data.

Here: finding, withdrawing and removing them. Not here: removing the data from where it came from
(`forgetting`, `retention`).
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import BundleError, LakeError
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.lake.storage import remove_folder, write_text
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.deletion_requests import finish_requests, has_old_versions
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline.recommend.bundle import CURRENT, current_version
from tunegraph_pipeline.recommend.publication import prune, withdraw

_BUILT = tuple(
    dict.fromkeys(
        name
        for one in reversed(STAGES)
        if one.holds_users
        for name in (one.folder, *one.tables)
        if name is not None
    )
)
"""The folders that are rebuilt from the daily tables after a user was removed."""
_WITH_USERS = [
    table
    for one in STAGES
    if not one.daily
    for table in one.tables
    if "user_id" in TABLES[table].schema.names
]
"""The tables with users that have a partition for each version."""


# --- what was built ---


def remove_built(lake: Lake) -> None:
    """Remove all versions of the current lists and their matrices. Raises LakeError where the disk cannot be
    written."""
    for name in _BUILT:
        if lake.folder(name).exists():
            remove_folder(lake.folder(name), lake.staging)


def users_left(lake: Lake) -> int:
    """How many forgotten users are still named by something built, old versions included."""
    tombstones = Tombstones.of(lake.root)
    users = pl.Series(list(users_of_built(lake)) if tombstones else [], dtype=pl.String)
    return int(tombstones.buries(users).sum())


def users_of_built(lake: Lake) -> set[str]:
    """The users in any version of the current lists, the like graphs, the bundles and the recommendations."""
    users: set[str] = set()
    for table in _WITH_USERS:
        for key in lake.partitions(table):
            users.update(lake.read(table, key, ["user_id"])["user_id"].unique())
    for folder in _version_folders(lake):
        users.update(_users_of(folder) or ())
    return users


def has_damaged_versions(lake: Lake) -> bool:
    """Whether the users of some version cannot be read."""
    return any(_users_of(folder) is None for folder in _version_folders(lake))


def _users_of(folder: Path) -> list[str] | None:
    """The users of a like graph or a bundle; None where it is damaged."""
    try:
        return ArrayFolder.open(folder).strings("user_ids").tolist()
    except (BundleError, ValueError):  # ids that are not text are a ValueError
        return None


def _version_folders(lake: Lake) -> Iterator[Path]:
    for kind in ("like_graph", "serving"):
        found = (path for what in (MANIFEST, "*.npy") for path in lake.folder(kind).glob(f"[!.]*/{what}"))
        yield from sorted({path.parent for path in found})


# --- the record that something expired ---


def mark_expired(lake: Lake) -> None:
    """Record that older versions hold expired data, before it is removed from its sources."""
    if not has_expired_versions(lake):
        write_text(lake.expired_mark, "", lake.staging)


def has_expired_versions(lake: Lake) -> bool:
    """Whether older versions may still hold expired data."""
    return lake.expired_mark.exists()


def finish_expired(lake: Lake) -> None:
    """Clear that record, once no older version is left."""
    lake.expired_mark.unlink(missing_ok=True)


# --- removing versions ---


def prune_cut_offs(lake: Lake, current: str, keep: int | None = None) -> int:
    """Remove the tables of all but the last ``keep`` cut-offs, by default as the settings say, but never of
    ``current``; returns how many were removed."""
    keep = lake.section("retention", RetentionSettings).cut_offs if keep is None else keep
    gone = 0
    for table in (name for name, spec in TABLES.items() if spec.partition is Partition.CUT_OFF):
        cut_offs = lake.partitions(table)
        for cut_off in cut_offs[: max(len(cut_offs) - keep, 0)]:
            if cut_off != current:
                lake.drop_partition(table, cut_off)
                gone += 1
    return gone


def has_stale_personal_data(lake: Lake) -> bool:
    """Whether older versions may hold forgotten users or expired data."""
    return has_old_versions(lake) or has_expired_versions(lake)


def withdraw_stale_bundles(lake: Lake) -> int:
    """Withdraw the bundles and remove all that was built, if they may hold forgotten users or expired data.
    For a lake without lists to publish instead. Returns how many bundles were withdrawn, 0 if they may
    stay."""
    if not has_stale_personal_data(lake):
        return 0
    remove_built(lake)
    withdrawn = withdraw(lake.serving)
    drop_old_versions(lake)
    return withdrawn


def drop_old_versions(lake: Lake) -> dict[str, int]:
    """If users were removed from the lake or data expired, remove all older bundles, lists, graphs and
    recommendations; returns how many of each. That finishes the deletion requests.

    Raises LakeError, and leaves the requests to the next run, if a current version still names a forgotten
    user.
    """
    if not has_stale_personal_data(lake):
        return {}
    live = current_version(lake.serving) if (lake.serving / CURRENT).exists() else None
    removed = {"bundles": prune(lake.serving, {live}, 0), "tables of recommendations": 0}
    for version in lake.partitions("user_recommendations"):
        if version != live:
            lake.drop_partition("user_recommendations", version)
            removed["tables of recommendations"] += 1
    if lake.has_current("current_likes"):
        current = lake.current_version("current_likes")
        removed["cut-offs"] = prune_cut_offs(lake, current, keep=0)
        for table in ("changed_users", "changed_listeners"):
            if lake.row_count(table, current):
                # It names removed users. Its new inputs match no two lists: what follows is rebuilt.
                lake.write(table, current, empty_table(table), "{}")
    if lake.has_current("like_graph"):
        removed["like graphs"] = lake.prune_versions("like_graph", keep=0)
    if lake.has_current("co_like"):
        removed["co-like matrices"] = lake.prune_versions("co_like", keep=0)
    if left := users_left(lake):
        raise LakeError(
            f"{left} forgotten users are still named by what is current in {lake.name};"
            " run `tunegraph forget` again"
        )
    finish_requests(lake)
    finish_expired(lake)
    return {what: count for what, count in removed.items() if count}
