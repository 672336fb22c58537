"""What a lake holds, in a few lines.

Here: a line for each subject. Not here: how a terminal shows them (`cli`), or checking files (`verify`).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import BundleError, LakeError
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.feedback_settings import feedback_settings
from tunegraph_pipeline.lake.feedback_spool import (
    ACTIONS,
    NEARLY_FULL,
    nearly_full,
    spool_size,
    waiting_lines,
)
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.snapshots import outbox_of, spooled
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.alone import why_alone
from tunegraph_pipeline.pipeline.bundle import what_is_served
from tunegraph_pipeline.pipeline.deletion_requests import pending_requests
from tunegraph_pipeline.pipeline.dump_days import received_line
from tunegraph_pipeline.pipeline.gate import against_popularity, refused_first
from tunegraph_pipeline.pipeline.inbox import inbox_status
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.publication import CONTINUATION, live_model, publications
from tunegraph_pipeline.sources.frontier import crawl_summary
from tunegraph_pipeline.words import counted


def lake_status(lake: Lake) -> dict[str, str]:
    """One line for each subject, in the order of the pipeline; says what is missing and how to make it."""
    lines = {"source": _source(lake), "received": _received(lake), "dumps": received_line(lake)}
    lines |= {"licences": _licences(lake)}
    lines |= {f"crawl of {path.stem}": _crawl(path) for path in lake.frontiers()}
    lines |= {"not refreshed": _stale_days(lake), "inbox": inbox_status(lake), "feedback": _feedback(lake)}
    built: dict[str, Callable[[Lake], str]] = {
        "tracks": _tracks,
        "likes": _likes,
        "co-likes": _co_likes,
        "model": _model,
        "live bundle": _bundle,
        "gate": _gate,
    }
    why_none = _why_none(lake)
    for subject, describe in built.items():
        try:
            lines[subject] = describe(lake)
        except (LakeError, BundleError) as error:
            # A refresh would make none of them, so its advice would not help.
            lines[subject] = "" if why_none and subject in ("model", "live bundle") else str(error)
    lines["no new model"] = why_none
    lines |= {"forgotten": _forgotten(lake), "last evaluation": _last_evaluation(lake)}
    return {subject: line for subject, line in lines.items() if line}


def _source(lake: Lake) -> str:
    return (lake.file.source or "none yet") + (" (mixed)" if lake.file.mixed else "")


def _received(lake: Lake) -> str:
    days = lake.raw_days()
    if not days:
        return "nothing yet; import or refresh"
    until = f" to {days[-1]}" if len(days) > 1 else ""
    return f"{counted(len(days), 'day')}, {days[0]}{until}"


def _licences(lake: Lake) -> str:
    """Under which licences the data came; empty where there is none."""
    try:
        return "; ".join(one.in_words() for one in lake.licences())
    except LakeError as error:
        return str(error)


def _stale_days(lake: Lake) -> str:
    stale = lake.stale_days()
    return ", ".join(map(str, stale[:5])) + (" …" if len(stale) > 5 else "")


def _tracks(lake: Lake) -> str:
    known = f"{lake.row_count('track_ids'):,}"
    try:
        facts = ArrayFolder.open(lake.current_folder("like_graph")).facts
    except (LakeError, BundleError):
        return known  # the line "likes" says what is missing
    merged = facts.get("ids_merged_away", 0)  # a graph from before recordings were merged has no such fact
    return f"{known}, {merged:,} of them other ids of the same recordings" if merged else known


def _feedback(lake: Lake) -> str:
    """The feedback so far, by kind; empty where there is none."""
    days = [day for day in lake.partitions("feedback") if lake.row_count("feedback", day)]
    waiting = waiting_lines(outbox_of(lake.root))
    said = pl.concat(
        [empty_table("feedback").select("user_id", "action")]
        + [lake.read("feedback", day, ["user_id", "action"]) for day in days]
    )
    parts = []
    if len(said):
        counts = dict(said.group_by("action").len().iter_rows())
        kinds = ", ".join(f"{action} {counts.get(action, 0):,}" for action in ACTIONS)
        parts.append(f"{kinds}; listeners {said['user_id'].n_unique():,}")
    if waiting:
        parts.append(f"{waiting:,} waiting for the next refresh")
    if stored := len(spooled(lake.root, lake.spool.name)):
        parts.append(f"{counted(stored, 'file')} in the store waiting for the next refresh")
    fullness = spool_size(outbox_of(lake.root)) / feedback_settings(lake.root).spool_bytes
    if fullness >= NEARLY_FULL:
        parts.append(nearly_full(fullness))
    return "; ".join(parts)


def _crawl(path: Path) -> str:
    states, until = crawl_summary(path)
    known = ", ".join(f"{count:,} {state}" for state, count in states.items())
    if until is None or until <= datetime.now(UTC):
        return f"users: {known or 'none yet'}"
    return f"users: {known}; the service asked to be left alone until {until:%Y-%m-%d %H:%M} UTC"


def _likes(lake: Lake) -> str:
    cut_off = lake.current_version("current_likes")
    graph = ArrayFolder.open(lake.current_folder("like_graph"))
    users = len(graph["indptr"]) - 1
    return f"{len(graph['indices']):,} of {counted(users, 'user')}, as of {cut_off}"


def _co_likes(lake: Lake) -> str:
    folder = ArrayFolder.open(lake.current_folder("co_like"))
    facts = folder.facts
    kept = f"the {facts['k']} strongest a track, normalised"
    if facts["exact"]:
        since = "delta_indices" in folder and len(folder["delta_indices"])
        changed = f" as of {facts['frozen_on']}, {since:,} changed since" if since else ""
        return f"exact, {counted(facts['nnz'], 'entry', 'entries')}{changed}; {kept}"
    return f"only {kept}: up to {facts['nnz_bound']:,} exact entries are more than {facts['max_exact_nnz']:,}"


def _model(lake: Lake) -> str:
    facts = ArrayFolder.open(lake.current_folder("models")).facts
    figure = facts["validation"]
    judged = "nothing held out to judge it by" if figure is None else f"MAP@10 {figure:.4f} on validation"
    against = against_popularity(lake, facts["version"])
    judged = against.objection or against.warning or judged
    return f"{facts['version']}, {facts['settings']['encoder']}, {judged}"


def _bundle(lake: Lake) -> str:
    if lake.has_current("models") and (refused := refused_first(lake)) is not None:
        return refused
    bundle = Bundle.open(read_current(lake.serving))
    megabytes = sum(path.stat().st_size for path in bundle.folder.iterdir()) / 2**20
    recommendable = int(np.count_nonzero(bundle.recommendable))
    tracks = f"{counted(bundle.n_tracks, 'track')}, {recommendable:,} of them recommendable"
    sizes = f"{tracks}, {counted(bundle.n_users, 'user')}"
    line = f"{bundle.version}, {sizes}, {megabytes:.1f} MiB"
    if bundle.model_version != lake.current_version("models"):
        line += f"; of model {bundle.model_version}"
    if (refitted_on := bundle.facts.get("refitted_on")) is not None:
        line += f"; {what_is_served(refitted_on)}"
    return line


def _why_none(lake: Lake) -> str:
    """Why no model can be made of the current likes; empty where one can, or where there is no graph yet."""
    try:
        return why_alone(open_like_graph(lake)) or ""
    except (LakeError, BundleError):
        return ""


def _gate(lake: Lake) -> str:
    """The last decision; empty where no model was ever judged, or made live by hand."""
    decided = [one for one in publications(lake.serving) if one.outcome not in ("first", "same model")]
    if not decided:
        return ""
    last = decided[-1]
    line = f"{last.when[:10]}: "
    if last.outcome == "rolled back" or last.decision is None:
        return f"{line}rolled back to bundle {last.bundle}" + (f": {last.reason}" if last.reason else "")
    decision = last.decision
    if last.outcome == "refused":
        return (
            f"{line}model {decision.challenger} refused, {decision.champion} stays live: {decision.refusal}"
        )
    if last.outcome == "overridden":
        return f"{line}model {decision.challenger} published by override ({last.reason}): {decision.refusal}"
    found = decision.figures.get(decision.metric)
    line += f"model {decision.challenger} accepted"
    if found is None or decision.users < decision.settings["min_users"]:
        return f"{line}: {counted(decision.users, 'user')} with held-out likes, too few to judge by"
    bounds = f"{found['low']:+.4f} to {found['high']:+.4f}"
    by = " of what was liked next" if decision.protocol == CONTINUATION else ""
    return f"{line}: {decision.metric}{by} {found['challenger']:.4f}, {bounds} against {decision.champion}"


def _forgotten(lake: Lake) -> str:
    """How many were forgotten, pending requests, and what still reflects forgotten users; else empty."""
    tombstones, waiting = Tombstones.of(lake.root), pending_requests(lake)
    parts = []
    if tombstones.last is not None:
        parts.append(f"{counted(len(tombstones), 'user')}, the last on {tombstones.last:%Y-%m-%d}")
        if not waiting and not _trained_since(lake, tombstones.last):
            parts.append(
                "the live model may have been trained before that; `tunegraph refresh --full` replaces its"
                " weights"
            )
    if waiting:
        parts.append(f"{counted(waiting, 'request')} waiting for `tunegraph forget` or the next refresh")
    return "; ".join(parts)


def _trained_since(lake: Lake, moment: datetime) -> bool:
    """Whether the live model was trained from scratch after ``moment``; true without a live model."""
    live = live_model(lake.serving)
    if live is None or not lake.has_version("models", live):
        return True
    trained = ArrayFolder.open(lake.version_folder("models", live)).facts.get("from_nothing")
    return trained is not None and datetime.fromisoformat(trained) > moment


def _last_evaluation(lake: Lake) -> str:
    if not lake.has_table("evaluation"):
        return ""
    # A comparison adds rows too, of models that are not served.
    rows = lake.read("evaluation").filter(model="served")
    if rows.is_empty():
        return ""
    last = rows.filter(dataset=rows["dataset"][-1], run_id=rows["run_id"][-1])
    served = last.select("metric", "k", "value").rows()
    figures = ", ".join(f"{metric}@{k} {value:.4f}" for metric, k, value in served[:4])
    return f"{last['dataset'][0]}: {figures}"
