"""Update `current_likes` and its companion tables to a cut-off, incrementally where that is possible.

Here: the stage, which chooses the cut-off, reads the daily tables, reuses, updates or rebuilds the lists, and
writes them in an order that survives a kill. Not here: what the lists are (`lake.current`).

`last_observations` is removed first and written last, and its fingerprint says what all four tables were made
of: without it none of them counts as complete. The fingerprint of `current_likes` covers only its pairs, so a
day on which nobody's list changed changes nothing downstream. The fingerprint of `changed_users` names the
two versions of the lists between which the users changed.
"""

import json
from contextlib import ExitStack
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from tunegraph_pipeline.engine.engine import Engine, engine_of
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.recordings import find_recordings, is_alias
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.current import (
    Basis,
    CurrentLists,
    Played,
    added_fingerprint,
    pairs_fingerprint,
    rebuilt_lists,
    updated_lists,
)
from tunegraph_pipeline.lake.day_fingerprints import aliased_id, day_fingerprint
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.user_ranges import EVERYBODY, UserRange, user_ranges
from tunegraph_pipeline.pipeline.likes_from_plays import (
    choose_cut_off,
    read_likes_from_plays,
    update_likes_from_plays,
)
from tunegraph_pipeline.pipeline.range_of_lists import (
    LISTS,
    CannotUpdateError,
    KnownLists,
    MadeOf,
    RangeOfLists,
    inputs_of_ranges,
    lists_of_range,
)
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.stage_result import How, StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.stale_versions import (
    has_stale_personal_data,
    prune_cut_offs,
    withdraw_stale_bundles,
)
from tunegraph_pipeline.progress import Measured, report_note, report_progress
from tunegraph_pipeline.words import counted


class ListsUpdate(NamedTuple):
    """``how`` the lists were made; ``changed``: how many users' lists changed, None if rebuilt."""

    how: How
    changed: int | None


_ROWS_A_RANGE = 1_000_000
"""How many rows of all days are brought up to date together, in 0.8 GiB of memory (`benchmarks/scale.py`)."""
_FEWEST_ROWS_A_RANGE = 100_000
"""Fewer are not worth a task of their own on a cluster."""


def run(lake: Lake, *, cut_off: str = "") -> StageResult:
    """Update the lists to ``cut_off``, YYYY-MM-DD, or to the latest day on which anything was received.
    Raises InputError where it is not a day, LakeError where nothing was received or is left."""
    settings = lake.section("graph", GraphSettings)
    if not lake.raw_days() and has_stale_personal_data(lake):
        raise nothing_to_build(lake, "no received data is left")
    day = choose_cut_off(lake, cut_off)
    key = day.isoformat()
    with Measured() as cost:
        update = update_current_lists(lake, day, merge_recordings=settings.merge_recordings)
    facts = {
        "cut-off": key,
        "dislikes": lake.row_count("current_dislikes", key),
    }
    if update.changed is not None:
        facts["users whose list changed"] = update.changed
    return StageResult(None, update.how, cost, rows=lake.row_count("current_likes", key), facts=facts)


def nothing_to_build(lake: Lake, why: str) -> LakeError:
    """The error of a lake with nothing to build from; withdraws bundles that may not be served any longer."""
    if withdrawn := withdraw_stale_bundles(lake):
        withdrawn_now = f"{counted(withdrawn, 'bundle')} with forgotten or expired data withdrawn"
        why += f", and nothing is served: {withdrawn_now}"
    return LakeError(f"{why}; import likes, then refresh again")


def update_current_lists(lake: Lake, cut_off: date, *, merge_recordings: bool) -> ListsUpdate:
    """Update the current lists to ``cut_off`` and make them current, a range of users at a time. Raises
    LakeError."""
    key = cut_off.isoformat()
    played = update_likes_from_plays(lake, cut_off)
    made_of = _made_of(lake, cut_off, played, merge_recordings=merge_recordings)
    if _basis_of(lake, key) == made_of.basis:
        lake.set_current("current_likes", key)
        return ListsUpdate("reused", 0)
    known = _known(lake)
    with engine_of(lake) as engine:
        ranges = _ranges(lake, made_of.basis, engine.blocks)
        if known is not None:
            try:
                return ListsUpdate("updated", _write_ranges(lake, engine, key, made_of, ranges, known))
            except CannotUpdateError as error:
                if why := str(error):
                    report_note(f"the current lists are rebuilt: {why}")
        _write_ranges(lake, engine, key, made_of, ranges, None)
        return ListsUpdate("rebuilt", None)


def _ranges(lake: Lake, basis: Basis, least: int) -> list[UserRange]:
    """The ranges of users whose lists are brought up to date together: at least about ``least`` of many
    rows."""
    rows = sum(lake.row_count("likes", day) for day in basis.days)
    a_range = min(_ROWS_A_RANGE, max(rows // least, _FEWEST_ROWS_A_RANGE))
    if rows <= a_range:
        return [EVERYBODY]
    blocks = (
        block
        for day in basis.days
        for block in lake.read_in_blocks("observations", day, ["user_id", "n_likes"])
    )
    return user_ranges(((block["user_id"], block["n_likes"]) for block in blocks), a_range)


def _write_ranges(
    lake: Lake,
    engine: Engine,
    key: str,
    made_of: MadeOf,
    ranges: list[UserRange],
    known: KnownLists | None,
) -> int:
    """Write the tables of ``key``: updated from ``known``, or rebuilt where that is None. Returns how many
    users' lists were found to have changed. Raises LakeError, or CannotUpdateError; then nothing is
    written."""
    nothing = pairs_fingerprint(empty_table("current_likes"))
    before, after = ("", nothing) if known is None else (known.fingerprint, known.fingerprint)
    dislikes, changed = nothing, 0
    # A block of each day is in memory: together they are not more than a range.
    a_block = max(1024, _ROWS_A_RANGE // (2 * max(1, len(made_of.basis.days))))
    blocks = [RangeOfLists(users, a_block) for users in ranges]
    with ExitStack() as drafts:
        # They are replaced in the reverse order, `last_observations` last.
        tables = ("last_observations", "changed_users", "current_dislikes", "current_likes")
        written = {table: drafts.enter_context(lake.draft(table, key)) for table in tables}
        found = engine.run(lists_of_range, blocks, inputs_of_ranges(lake, made_of, known))
        for number, theirs in enumerate(found, 1):
            if "moved" in theirs:
                moved = theirs.frame("moved")
                written["changed_users"].append(moved)
                changed += len(moved)
            after = added_fingerprint(after, theirs.array("moved_sums"))
            dislikes = added_fingerprint(dislikes, theirs.array("dislike_sums"))
            for table, rows in zip(LISTS, ("likes", "dislikes", "observed"), strict=True):
                written[table].append(theirs.frame(rows))
            if len(ranges) > 1:
                report_progress("current lists, ranges of users", number, len(ranges))
        written["current_likes"].inputs = after
        written["current_dislikes"].inputs = dislikes
        written["changed_users"].inputs = json.dumps({"before": before, "after": after})
        written["last_observations"].inputs = made_of.basis.to_json()
        if key in lake.partitions("last_observations"):
            # A kill between the writes would leave new lists beside the old basis. A later refresh with that
            # basis again, such as after a batch received by mistake is removed, would reuse them.
            lake.drop_partition("last_observations", key)
    lake.set_current("current_likes", key)
    prune_cut_offs(lake, key)
    return changed


def read_current_lists(lake: Lake, cut_off: date) -> CurrentLists:
    """The lists that :func:`update_current_lists` would write; nothing is written. Raises LakeError."""
    merge = lake.section("graph", GraphSettings).merge_recordings
    played = read_likes_from_plays(lake, cut_off)
    made_of = _made_of(lake, cut_off, played, merge_recordings=merge)
    known = _known(lake)
    if known is not None:
        try:
            before = CurrentLists(*(lake.read(table, known.key) for table in LISTS))
        except LakeError:
            return rebuilt_lists(lake.read, *made_of)
        if known.basis == made_of.basis:
            return before
        found = updated_lists(before, known.basis, lake.read, *made_of)
        if found is not None:
            return found[0]
    return rebuilt_lists(lake.read, *made_of)


def changed_between(lake: Lake, before: str, after: str) -> pl.Series | None:
    """The users whose lists changed between two fingerprints of `current_likes`; None where the last
    refresh recorded others."""
    key = lake.current_version("current_likes")
    try:
        span = json.loads(lake.inputs_of("changed_users", key) or "")
        if before and span == {"before": before, "after": after}:
            return lake.read("changed_users", key)["user_id"]
    except (ValueError, LakeError):
        pass  # the table is missing or damaged: the graph is rebuilt
    return None


def feedback_until(lake: Lake, cut_off: date) -> pl.DataFrame:
    """The likes and dislikes by feedback up to the cut-off: user_id, track_id, action, at. No skips."""
    columns = ["user_id", "track_id", "action", "at"]
    found = [
        lake.read("feedback", day, columns).filter(pl.col("action") != "skip")
        for day in lake.days_until("feedback", cut_off)
        if lake.row_count("feedback", day)
    ]
    return pl.concat([empty_table("feedback").select(columns), *found])


def anybody_likes(lake: Lake, cut_off: date) -> bool:
    """Whether any list as of the cut-off has a song; usually the newest day tells."""
    known = empty_table("observations").select("source", "user_id")
    for day in reversed(lake.days_until("observations", cut_off)):
        seen = lake.read("observations", day, ["source", "user_id", "n_likes"])
        if (seen.join(known, on=["source", "user_id"], how="anti")["n_likes"] > 0).any():
            return True
        known = pl.concat([known, seen.select("source", "user_id")]).unique()
    said = feedback_until(lake, cut_off)
    played = read_likes_from_plays(lake, cut_off)
    return not rebuilt_lists(
        lake.read, _basis(lake, cut_off, None, played), said, None, played
    ).likes.is_empty()


def _made_of(lake: Lake, cut_off: date, played: Played, *, merge_recordings: bool) -> MadeOf:
    said = feedback_until(lake, cut_off)
    recordings = (
        recordings_by_id(lake, cut_off, said["track_id"], merge=merge_recordings) if len(said) else None
    )
    return MadeOf(_basis(lake, cut_off, recordings, played), said, recordings, played)


def _basis(lake: Lake, cut_off: date, recordings: pl.DataFrame | None, played: Played) -> Basis:
    days = {
        day: "-".join(lake.inputs_of(table, day) or "" for table in ("observations", "likes"))
        for day in lake.days_until("observations", cut_off)
        if lake.row_count("observations", day)
    }
    feedback, batches, aliases = {}, {}, Aliases.of(lake.root)
    for day in lake.days_until("feedback", cut_off):
        if not lake.row_count("feedback", day):
            continue
        feedback[day] = lake.inputs_of("feedback", day) or ""
        said = lake.batches(date.fromisoformat(day))
        if day_fingerprint(said, "feedback", aliases) == feedback[day]:
            given = [batch for batch in said if batch.rows.get("feedback")]
            batches[day] = [aliased_id(batch, "feedback", aliases) for batch in given]
    same = "" if recordings is None else digest(recordings.write_csv())
    return Basis(days, feedback, batches, same, played.fingerprint)


def _basis_of(lake: Lake, key: str) -> Basis | None:
    """What the tables of a cut-off were computed from; None where one is missing or cannot be opened."""
    if any(lake.inputs_of(table, key) is None for table in stage("current_likes").tables):
        return None
    return Basis.from_json(lake.inputs_of("last_observations", key))


def _known(lake: Lake) -> KnownLists | None:
    """The current lists, if any, by their partition."""
    try:
        key = lake.current_version("current_likes")
    except LakeError:
        return None
    basis = _basis_of(lake, key)
    return None if basis is None else KnownLists(key, basis, lake.inputs_of("current_likes", key) or "")


def recordings_by_id(lake: Lake, cut_off: date, songs: pl.Series, *, merge: bool) -> pl.DataFrame:
    """The recording (one of its ids) of every id of those of ``songs`` that have several: track_id,
    recording. Others are left out, so that their joins make no list to be built again."""
    tracks = lake.known_tracks("tracks", cut_off)
    if not merge:
        tracks = tracks.clear()
    ids = tracks["track_id"]
    redirects = lake.known_tracks("redirects", cut_off)
    join_by = lake.section("graph", GraphSettings).join_by
    canonical = find_recordings(ids, tracks, redirects, join_by=join_by).canonical
    shared = np.isin(canonical, canonical[is_alias(canonical)])
    rows = pl.DataFrame({"track_id": ids, "recording": ids.gather(canonical)}).filter(shared)
    asked = rows.filter(pl.col("track_id").is_in(songs.implode()))
    return rows.join(asked, on="recording", how="semi", maintain_order="left")
