"""What forgetting users means for what was published: what may go on, what has to go, and when it is done.

Here: functions over a lake and its bundles. Not here: the lake's own files (`pipeline.purge`), or the assets.
"""

from datetime import UTC, datetime

import polars as pl

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.tables import empty_table, row_count
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.current_likes import anybody_likes
from tunegraph_pipeline.pipeline.purge import finish_requests, has_old_versions, remove_built, users_left
from tunegraph_pipeline.pipeline.retention import finish_expired, has_expired_versions, prune_cut_offs
from tunegraph_pipeline.pipeline.sources import SAYING
from tunegraph_pipeline.recommend.bundle import CURRENT, Bundle, current_version
from tunegraph_pipeline.recommend.publication import live_model, prune, roll_back, withdraw


def check_times_to_live(lake: Lake) -> None:
    """Raise InputError where the settings limit a source that there is none of: what was meant would stay."""
    for source in lake.section("retention", RetentionSettings).ttl_days:
        if source not in SAYING:
            raise InputError(
                f"settings.retention.ttl_days in {lake.root / 'lake.json'} names {source!r}, which is no"
                f" source; it is one of {', '.join(SAYING)}"
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
    return 0 if waits or anybody_likes(lake, datetime.now(UTC).date()) else withdraw_what_has_to_go(lake)


def something_has_to_go(lake: Lake) -> bool:
    """Whether what was built before may hold who was forgotten, or what has expired."""
    return has_old_versions(lake) or has_expired_versions(lake)


def withdraw_what_has_to_go(lake: Lake) -> int:
    """Where there is no list to publish in their place: withdraw the bundles, and remove all that was built,
    if they may hold who was forgotten or what has expired. Returns how many bundles went; 0 where they may
    stay live."""
    if not something_has_to_go(lake):
        return 0
    remove_built(lake)
    withdrawn = withdraw(lake.serving)
    drop_old_versions(lake)
    return withdrawn


def go_back(lake: Lake, version: str | None, reason: str) -> Bundle:
    """Roll back to a bundle as :func:`~tunegraph_pipeline.recommend.publication.roll_back` does, keeping as
    many as the settings say. Raises LakeError where it names somebody who was forgotten: a run that forgets
    and is killed before it removes the older bundles leaves such ones."""
    tombstones = Tombstones.of(lake.root)

    def allowed(bundle: Bundle) -> None:
        if named := int(tombstones.buries(pl.Series(bundle.users.ids.tolist(), dtype=pl.String)).sum()):
            raise LakeError(
                f"bundle {bundle.version} names {named:,} users who were forgotten, and may not be live"
                " again; `tunegraph forget` or a refresh removes it"
            )

    return roll_back(lake.serving, version, reason, keep=lake.kept_versions, allowed=allowed)


def drop_old_versions(lake: Lake) -> dict[str, int]:
    """Where users were taken out of the lake, or something has expired, remove every version from before:
    bundles, lists, graphs, recommendations; returns how many of each went. Then the requests are done with.

    Raises LakeError, and leaves the requests to the next run, where a version that is current still names
    somebody who was forgotten.
    """
    if not something_has_to_go(lake):
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
            # next graph built from nothing.
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
