"""What a lake tells whoever runs it, as data for the operator page.

Here: a reader for each subject: what is live, quality over time, publications and the gate, drift, feedback,
tables and users. They read what is there, take no lock and write nothing. Not here: the same in lines of text
(`status`), answers of a bundle (`playground`), or runs (`orchestration.run_history`).

Each returns what JSON can hold; times are ISO 8601 in UTC. Each raises LakeError or BundleError where
something cannot be read.
"""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.feedback_settings import feedback_settings
from tunegraph_pipeline.lake.feedback_spool import (
    ACTIONS,
    rejected_lines,
    spool_size,
    waiting_days,
    waiting_lines,
)
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import LEFT_OUT
from tunegraph_pipeline.lake.schemas import FEEDBACK, TABLES, Partition
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.lake.snapshots import outbox_of
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.users import matching_users
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.publication import Decision, Publication, live_version, publications

FEEDBACK_DAYS = 60
"""How many days of feedback are shown."""
MOST_PUBLICATIONS = 200
_GATE = "gate of "
"""How the dataset of a row of `evaluation` begins that judged a bundle in a refresh."""


def overview(lake: Lake) -> dict[str, Any]:
    """The lines of `tunegraph status`, and the kept bundles, the newest first."""
    return {
        "lake": lake.name,
        "source": lake.file.source,
        "status": lake_status(lake),
        "bundles": list(reversed(kept_bundles(lake))),
    }


def kept_bundles(lake: Lake) -> list[dict[str, Any]]:
    """The bundles on disk, the oldest first: version, model, cut_off, users, tracks, mib, written, live."""
    live, found = live_version(lake.serving), []
    for version in lake.versions("serving"):
        manifest = lake.version_folder("serving", version) / MANIFEST
        try:
            facts = read_json(manifest.read_bytes())["facts"]
            written = manifest.stat().st_mtime
            size = sum(path.stat().st_size for path in manifest.parent.iterdir())
        except FileNotFoundError:
            continue  # no bundle, or pruned just now
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{manifest} cannot be read ({error}); `tunegraph verify` says more") from error
        found.append(
            {
                "version": version,
                "model": str(facts.get("model_version", "")),
                "cut_off": None if facts.get("cut_off") is None else str(facts["cut_off"]),
                "mib": round(size / 2**20, 1),
                "written": _iso(datetime.fromtimestamp(written, UTC)),
                "live": version == live,
            }
        )
    return sorted(found, key=lambda bundle: (bundle["written"], bundle["version"]))


def quality(lake: Lake) -> dict[str, Any]:
    """How what was served ranked held-out likes, a point for each bundle that a refresh judged, the oldest
    first: bundle, when it became live (null if that is not known), and for each metric the value of each
    model, what is served first."""
    rows = lake.read("evaluation") if lake.has_table("evaluation") else pl.DataFrame()
    if rows.is_empty():
        return {"metrics": [], "models": [], "points": []}
    rows = rows.filter(pl.col("dataset").str.starts_with(_GATE)).with_columns(
        bundle=pl.col("dataset").str.strip_prefix(_GATE), figure=pl.format("{}@{}", "metric", "k")
    )
    when: dict[str, str] = {}
    for one in publications(lake.serving):
        when.setdefault(one.bundle, one.when)
    points: dict[str, dict[str, dict[str, float | None]]] = {}
    for bundle, figure, model, value in rows.select("bundle", "figure", "model", "value").iter_rows():
        points.setdefault(bundle, {}).setdefault(figure, {})[model] = value if math.isfinite(value) else None
    order = sorted(points, key=lambda bundle: (when.get(bundle, bundle), bundle))
    return {
        "metrics": rows["figure"].unique(maintain_order=True).to_list(),
        "models": rows["model"].unique(maintain_order=True).to_list(),
        "points": [
            {"bundle": bundle, "when": when.get(bundle), "values": points[bundle]} for bundle in order
        ],
    }


def published(lake: Lake) -> dict[str, Any]:
    """The last publications, the newest first, each with the verdict of the gate where it gave one, and which
    bundle ``CURRENT`` names."""
    log, kept = publications(lake.serving), {bundle["version"] for bundle in kept_bundles(lake)}
    return {
        "live": live_version(lake.serving),
        "total": len(log),
        "items": [_publication(one, kept) for one in reversed(log[-MOST_PUBLICATIONS:])],
    }


def _publication(one: Publication, kept: set[str]) -> dict[str, Any]:
    return {
        "when": one.when,
        "outcome": one.outcome,
        "bundle": one.bundle,
        "model": one.model,
        "replaced": one.replaced,
        "reason": one.reason,
        "kept": one.bundle in kept,
        "gate": None if one.decision is None else _verdict(one.decision),
    }


def _verdict(decision: Decision) -> dict[str, Any]:
    return {
        "challenger": decision.challenger,
        "champion": decision.champion,
        "protocol": decision.protocol,
        "users": decision.users,
        "min_users": decision.settings["min_users"],
        "margin": decision.settings["margin"],
        "metric": decision.metric,
        "figures": decision.figures,
        "refusal": decision.refusal,
        "override": decision.override,
        "counts": decision.counts,
    }


def drift(lake: Lake) -> dict[str, Any]:
    """How far each kept model moved from its parent, the oldest first; ``moved`` is null for a model that was
    trained from scratch in a space of its own."""
    names = _names(lake)
    models = []
    for version in lake.versions("models"):
        folder = lake.version_folder("models", version)
        try:
            facts, written = ArrayFolder.open(folder).facts, (folder / MANIFEST).stat().st_mtime
        except (BundleError, FileNotFoundError):
            continue  # pruned just now, or damaged, which `verify` says
        models.append(
            {
                "version": version,
                "written": _iso(datetime.fromtimestamp(written, UTC)),
                "trained": facts.get("trained"),
                "parent": facts.get("parent"),
                "epochs": facts.get("epochs"),
                "validation": facts.get("validation"),
                "popularity": facts.get("validation_of_popularity"),
                "moved": None if facts.get("drift") is None else _moved(facts["drift"], names),
            }
        )
    return {"models": sorted(models, key=lambda model: (model["written"], model["version"]))}


def _moved(facts: dict[str, Any], names: Bundle | None) -> dict[str, Any]:
    """The facts of a drift under names of their own, and which songs moved most."""
    figures = {
        name.partition("@")[0]: value
        for name, value in facts.items()
        if name.partition("@")[0] in ("mean_cosine", "overlap", "neighbours_changed")
    }
    songs = []
    for track, cosine in facts.get("moved_most", []):
        known = names is not None and track < names.n_tracks
        songs.append(
            {
                "track_id": names.tracks[track] if names is not None and known else "",
                "name": names.names[track] if names is not None and known else f"track {track}",
                "artists": names.artists[track] if names is not None and known else "",
                "cosine": cosine,
            }
        )
    return {**figures, "tracks": facts.get("tracks"), "songs": songs}


def _names(lake: Lake) -> Bundle | None:
    try:
        return Bundle.open(read_current(lake.serving))
    except BundleError:
        return None


def feedback(lake: Lake) -> dict[str, Any]:
    """The queue of feedback: what waits for a refresh since when, what was put aside and why, and what was
    collected on each of the last `FEEDBACK_DAYS` days of the lake."""
    days = lake.partitions("feedback")[-FEEDBACK_DAYS:]
    received = set(map(str, lake.raw_days()))
    outbox = outbox_of(lake.root)
    waiting = waiting_days(outbox)
    files = list(rejected_lines(lake.root))
    why: Counter[str] = Counter()
    for day in received.intersection(days):
        for batch in lake.batches(date.fromisoformat(day)):
            if batch.source == FEEDBACK:
                why.update(
                    {reason: count for reason, count in batch.counts.items() if reason != LEFT_OUT and count}
                )
    read = {day: lake.read("feedback", day, ["user_id", "action"]) for day in days}
    said = {day: rows for day, rows in read.items() if len(rows)}
    listeners = pl.concat([rows["user_id"] for rows in said.values()]).n_unique() if said else 0
    return {
        "spool": {
            "bytes": spool_size(outbox),
            "limit": feedback_settings(lake.root).spool_bytes,
            "waiting": waiting_lines(outbox),
            "oldest": waiting[0].isoformat() if waiting else None,
        },
        "rejected": {
            "files": len(files),
            "lines": sum(lines for _, lines in files),
            "reasons": dict(why.most_common()),
        },
        "since": days[0] if days else None,
        "listeners": listeners,
        "days": [
            {"day": day, **{action: int((rows["action"] == action).sum()) for action in ACTIONS}}
            for day, rows in said.items()
        ],
    }


def tables(lake: Lake) -> dict[str, Any]:
    """The tables of the lake: what a row is, rows of the newest partition and of all, and size on disk."""
    return {"items": [_table(lake, name) for name in TABLES if lake.folder(name).is_dir()]}


def _table(lake: Lake, name: str) -> dict[str, Any]:
    spec = TABLES[name]
    values = [None] if spec.partition is Partition.NONE else lake.partitions(name)
    rows = [lake.row_count(name, value) for value in values]
    return {
        "name": name,
        "row": spec.row,
        "partitioned_by": None if spec.partition is Partition.NONE else spec.partition.value,
        "partitions": len(values),
        "newest": values[-1] if values else None,
        "newest_rows": rows[-1] if rows else 0,
        "rows": sum(rows),
        "bytes": sum(_sizes(lake.table_path(name, value) for value in values)),
    }


def _sizes(paths: Iterator[Path]) -> Iterator[int]:
    for path in paths:
        try:
            yield path.stat().st_size
        except FileNotFoundError:
            continue


def page_of_users(
    users: pl.DataFrame, search: str, *, by_likes: bool, offset: int, limit: int
) -> dict[str, Any]:
    """Some of the rows of `users.lake_users` that a search finds, and how many it finds."""
    found = matching_users(users, search, by_likes=by_likes)
    return {
        "total": len(found),
        "items": [
            {
                **row,
                "last_observed": None if row["last_observed"] is None else row["last_observed"].isoformat(),
            }
            for row in found.slice(offset, limit).iter_rows(named=True)
        ],
    }


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
