"""Update `likes_from_plays` to a cut-off: which songs everybody likes by playing them often.

Here: the stage, which chooses the cut-off, finds the users whose plays changed, and judges these alone where
that is possible. Not here: the rule (`lake.plays`), or what these likes do to a list (`lake.current`).

The rule looks at each user alone. So the users with plays on the days that changed, and those with plays
dated between two cut-offs, are all whose likes may differ. Where a day may have lost plays, or a whole export
replaced earlier days, everybody is judged again.

The fingerprint of `likes_from_plays` says what it was made of and what is in it. That of `changed_listeners`,
which is written first, names the two versions between which the users' likes changed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.current import Played
from tunegraph_pipeline.lake.day_fingerprints import aliased_id
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import (
    DayOfPlays,
    PlaysSettings,
    as_text,
    bounded_duckdb,
    last_whole,
    liked_by_playing,
    listeners,
)
from tunegraph_pipeline.pipeline.fill_days import as_day
from tunegraph_pipeline.pipeline.stage_result import How, StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.progress import Measured, report_note

if TYPE_CHECKING:
    import duckdb

_ROW = ["user_id", "track_id", "liked_at"]
_NOBODY = pl.Series("user_id", [], dtype=pl.String)


@dataclass(frozen=True)
class _Basis:
    """What likes from plays are made of: the cut-off, the rule, and of each day a fingerprint of its plays,
    the sources of which they are all there is, and the ids of the batches they came in, where these are
    kept."""

    cut_off: str
    rule: Mapping[str, Any]
    days: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, Sequence[str]] = field(default_factory=dict)
    batches: Mapping[str, Sequence[str]] = field(default_factory=dict)


class _Known(NamedTuple):
    """Likes from plays that are there: the partition, what it was made of, and the fingerprint of its
    rows."""

    key: str
    basis: _Basis
    fingerprint: str

    @classmethod
    def of(cls, lake: Lake, key: str) -> Self | None:
        """Those of a partition; None where it is missing, or was made by an earlier version."""
        try:
            said = json.loads(lake.inputs_of("likes_from_plays", key) or "")
            return cls(key, _Basis(**said["basis"]), str(said["fingerprint"]))
        except (ValueError, KeyError, TypeError):
            return None


class _Update(NamedTuple):
    """Likes from plays as of a cut-off. ``before``: the fingerprint of those that were updated, and
    ``changed`` the users whose likes differ from them; None where everybody was judged."""

    how: How
    likes: pl.DataFrame
    fingerprint: str
    before: str
    changed: pl.Series | None
    facts: Mapping[str, int]

    def as_played(self) -> Played:
        return Played(self.likes.select(_ROW), self.fingerprint, self.before, self.changed)


def run(lake: Lake, *, cut_off: str = "") -> StageResult:
    """Update the likes from plays to ``cut_off``, YYYY-MM-DD, or to the latest day on which anything was
    received. Raises InputError where it is not a day, LakeError where plays are damaged."""
    facts: Mapping[str, int] = {}
    how: How = "reused"
    rows = 0
    with Measured() as cost:
        if lake.partitions("plays") and (cut_off or _received(lake)):
            day = choose_cut_off(lake, cut_off)
            update = _written(lake, day)
            if update is not None:
                how, facts = update.how, update.facts
            rows = lake.row_count("likes_from_plays", day.isoformat())
    return StageResult(None, how, cost, rows=rows, facts=facts)


def choose_cut_off(lake: Lake, asked: str) -> date:
    """The day asked for, or the latest on which anything was received. Raises InputError where it is no day,
    LakeError where nothing was received."""
    if (day := as_day("cut_off", asked)) is not None:
        return day
    received = _received(lake)
    if not received:
        raise LakeError(f"{lake.name} has no filled day yet; import files, then run `tunegraph refresh`")
    return date.fromisoformat(received[-1])


def _received(lake: Lake) -> list[str]:
    """The filled days on which anything was received, ascending."""
    days = set(lake.partitions("observations"))
    return [day.isoformat() for day in lake.raw_days() if day.isoformat() in days]


def update_likes_from_plays(lake: Lake, cut_off: date) -> Played:
    """Update the likes from plays to ``cut_off``. Raises LakeError."""
    update = _written(lake, cut_off)
    if update is not None:
        return update.as_played()
    key = cut_off.isoformat()
    known = _Known.of(lake, key)
    if known is None:
        return Played()
    likes = lake.read("likes_from_plays", key, _ROW)
    try:
        span = json.loads(lake.inputs_of("changed_listeners", key) or "")
        if span["after"] == known.fingerprint:
            changed = lake.read("changed_listeners", key)["user_id"] if span["before"] else None
            return Played(likes, known.fingerprint, span["before"], changed)
    except (ValueError, KeyError, TypeError, LakeError):
        pass  # the table is missing or damaged: the current lists are rebuilt
    return Played(likes, known.fingerprint)


def read_likes_from_plays(lake: Lake, cut_off: date, user_id: str | None = None) -> Played:
    """The likes from plays that :func:`update_likes_from_plays` would write, or those of one user; nothing is
    written. Raises LakeError."""
    days = lake.days_until("plays", cut_off)
    if not days:
        return Played()
    settings = lake.section("plays", PlaysSettings)
    if user_id is None:
        return _updated(lake, cut_off, settings, _basis(lake, cut_off, settings)).as_played()
    with bounded_duckdb(lake.staging, settings.memory_gb) as connection:
        chosen = pl.Series("user_id", [user_id])
        found = liked_by_playing(connection, _plays(lake, days), cut_off, settings, chosen)
    return Played(found.likes.select(_ROW))


def has_plays(lake: Lake, cut_off: date, user_id: str) -> bool:
    """Whether a user played anything that was received up to ``cut_off``. Raises LakeError."""
    days = lake.days_until("plays", cut_off)
    if not days:
        return False
    with bounded_duckdb(lake.staging, lake.section("plays", PlaysSettings).memory_gb) as connection:
        return len(listeners(connection, _plays(lake, days), f"user_id = {as_text(user_id)}")) > 0


def _written(lake: Lake, cut_off: date) -> _Update | None:
    """Bring the tables to the cut-off; None where they are there already, or nobody has plays."""
    key = cut_off.isoformat()
    settings = lake.section("plays", PlaysSettings)
    known = _Known.of(lake, key)
    if known is None and not lake.days_until("plays", cut_off):
        return None
    basis = _basis(lake, cut_off, settings)
    if known is not None and known.basis == basis:
        return None
    update = _updated(lake, cut_off, settings, basis)
    changed = _NOBODY if update.changed is None else update.changed
    span = json.dumps({"before": update.before, "after": update.fingerprint})
    lake.write("changed_listeners", key, changed.to_frame("user_id"), span)
    made = {"basis": asdict(basis), "fingerprint": update.fingerprint}
    lake.write("likes_from_plays", key, update.likes, json.dumps(made))
    return update


def _updated(lake: Lake, cut_off: date, settings: PlaysSettings, basis: _Basis) -> _Update:
    """The likes from plays as of a cut-off, which are made of ``basis``, from those that are there where that
    is possible."""
    known, before = _before(lake, cut_off)
    days = _plays(lake, [*basis.days])
    with bounded_duckdb(lake.staging, settings.memory_gb) as connection:
        users = None
        if known is not None and before is not None:
            of = _listening_that_changed(lake, known.basis, basis)
            if of is not None:
                users = _whose(lake, connection, of, known.basis, basis)
        if known is None or before is None or users is None:
            found = liked_by_playing(connection, days, cut_off, settings)
            return _Update("rebuilt", found.likes, _fingerprint(found.likes), "", None, found.facts)
        found = liked_by_playing(connection, days, cut_off, settings, users)
    theirs = pl.col("user_id").is_in(users.implode())
    likes = before.filter(~theirs).merge_sorted(found.likes.select(before.columns), key="user_id")
    moved = [
        one.select(_ROW).join(other.select(_ROW), on=_ROW, how="anti", nulls_equal=True)
        for one, other in ((before.filter(theirs), found.likes), (found.likes, before.filter(theirs)))
    ]
    changed = pl.concat(moved)["user_id"].unique().sort()
    facts = {**found.facts, "users whose likes from plays changed": len(changed)}
    return _Update("updated", likes, _fingerprint(likes), known.fingerprint, changed, facts)


def _basis(lake: Lake, cut_off: date, settings: PlaysSettings) -> _Basis:
    days = {day: lake.inputs_of("plays", day) or "" for day in lake.days_until("plays", cut_off)}
    aliases = Aliases.of(lake.root)
    rule = {**settings.model_dump(exclude={"memory_gb"}), "code": stage("likes_from_plays").code}
    return _Basis(
        cut_off.isoformat(),
        rule,
        days,
        {day: sorted(whole) for day in days if (whole := lake.plays_of(day).whole)},
        {
            day: [aliased_id(batch, "plays", aliases) for batch in batches]
            for day in days
            if (batches := [one for one in lake.batches(date.fromisoformat(day)) if one.rows.get("plays")])
        },
    )


def _before(lake: Lake, cut_off: date) -> tuple[_Known | None, pl.DataFrame | None]:
    """The likes from plays to update: those of the cut-off, else the newest."""
    for key in dict.fromkeys([cut_off.isoformat(), *reversed(lake.partitions("likes_from_plays"))]):
        known = _Known.of(lake, key)
        if known is None:
            continue
        try:
            return known, lake.read("likes_from_plays", key)
        except LakeError as error:
            report_note(f"the likes from plays are made again: {error}")
    return None, None


def _listening_that_changed(lake: Lake, earlier: _Basis, now: _Basis) -> list[str] | None:
    """The days whose users have to be judged again; None where it is unknown who lost plays."""
    if earlier.rule != now.rule or last_whole(earlier.whole) != last_whole(now.whole):
        return None
    changed = [day for day in {*earlier.days, *now.days} if earlier.days.get(day) != now.days.get(day)]
    for day in changed:
        if day not in now.days and lake.inputs_of("plays", day) != earlier.days[day]:
            return None
        if day in now.days and day in earlier.days:
            was, came = earlier.batches.get(day), now.batches.get(day)
            if was is None or came is None or not {*was} <= {*came}:
                return None
    return sorted(changed)


def _whose(
    lake: Lake, connection: "duckdb.DuckDBPyConnection", changed: Sequence[str], earlier: _Basis, now: _Basis
) -> pl.Series:
    """The users with plays on the days ``changed``, or dated between the two cut-offs."""
    first, last = sorted((earlier.cut_off, now.cut_off))
    between = f"played_on > DATE '{first}' AND played_on <= DATE '{last}'"
    others = [day for day in now.days if day not in changed]
    found = listeners(connection, _plays(lake, changed))
    if first == last:
        return found
    return pl.concat([found, listeners(connection, _plays(lake, others), between)]).unique()


def _plays(lake: Lake, days: Sequence[str]) -> dict[str, DayOfPlays]:
    return {day: lake.plays_of(day) for day in days}


def _fingerprint(likes: pl.DataFrame) -> str:
    """A fingerprint of likes from plays, "" where there are none: the sums of two hashes of every row, of the
    installed polars."""
    if likes.is_empty():
        return ""
    sums = [likes.select(_ROW).hash_rows(seed).to_numpy().sum(dtype=np.uint64) for seed in (1, 2)]
    return "".join(f"{int(value):016x}" for value in sums)
