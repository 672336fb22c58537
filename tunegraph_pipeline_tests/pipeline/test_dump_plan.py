"""Which of ListenBrainz's dumps are due, of invented lists of them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.pipeline.dump_days import DatedDump, Plan, Planner, gaps, newest_base
from tunegraph_pipeline.sources.dumps.published import Dump
from tunegraph_pipeline_tests.conftest import examples


def dump(number: int, day: int, *, full: bool = False) -> Dump:
    return Dump(
        number, datetime(2026, 9, 1, 0, 0, 4 if full else 2, tzinfo=UTC) + timedelta(days=day - 1), full
    )


def on_its_day(one: Dump) -> DatedDump:
    return DatedDump(one, one.day)


def plan(
    known: list[DatedDump],
    there: list[Dump],
    *,
    today: int = 28,
    full_days: int = 14,
    incomplete: Dump | None = None,
    closed: date | None = None,
) -> Plan:
    """As if each incremental dump began where the one with the number before it ends."""
    ends = {one.number: one.made_at for one in there} | {one.dump.number: one.dump.made_at for one in known}
    return Planner(
        known,
        there,
        today=date(2026, 9, today),
        full_days=full_days,
        begins=lambda one: ends.get(one.number - 1, one.made_at - timedelta(days=1)),
        is_complete=lambda one: one != incomplete,
        is_closed=lambda day: day == closed,
    ).plan()


BEGIN = dump(10, 1, full=True)
NEXT = [dump(10 + i, 1 + i) for i in range(1, 6)]


def test_a_new_lake_takes_the_newest_full_export_and_what_came_after_it() -> None:
    older = dump(3, 1, full=True)
    found = plan([], [older, dump(9, 1), BEGIN, *NEXT])
    assert found.due == list(map(on_its_day, [BEGIN, *NEXT]))
    assert found.notes == []


def test_a_lake_goes_on_where_it_ended() -> None:
    known = list(map(on_its_day, [BEGIN, *NEXT[:2]]))
    assert plan(known, [BEGIN, *NEXT]).due == list(map(on_its_day, NEXT[2:]))
    assert plan(list(map(on_its_day, [BEGIN, *NEXT])), [BEGIN, *NEXT]) == Plan()
    skipped = dump(16, 6, full=True)
    assert plan(list(map(on_its_day, [BEGIN, *NEXT])), [BEGIN, *NEXT, skipped]).wanted == {skipped}


def test_a_dump_of_tomorrow_is_not_due_yet() -> None:
    assert [one.dump.number for one in plan([on_its_day(BEGIN)], [BEGIN, *NEXT], today=3).due] == [11, 12]


GONE = "the incremental dumps between 10 and 20 are missing, with what was submitted from 2026-09-01 to"


def test_dumps_after_a_gap_are_taken_and_what_is_missing_is_said() -> None:
    later = [dump(20, 11), dump(21, 12)]
    found = plan([], [BEGIN, *later])
    assert [one.dump.number for one in found.due] == [10, 20, 21]
    assert found.notes == [f"{GONE} 2026-09-10; the next full export fills the gap"]
    # In a lake that has them, it is said until the gap is filled.
    known = [*map(on_its_day, [BEGIN, NEXT[0]]), *found.due[1:]]
    again = plan(known, [*later, dump(22, 13)])
    assert [one.dump.number for one in again.due] == [22]
    assert again.notes == [
        found.notes[0]
        .replace("between 10 and", "between 11 and")
        .replace("from 2026-09-01", "from 2026-09-02")
    ]


def test_the_next_full_export_fills_a_gap_and_keeps_what_came_after_it() -> None:
    known = [on_its_day(BEGIN), *plan([], [BEGIN, dump(20, 11), dump(21, 12)]).due[1:]]
    full = dump(22, 12, full=True)
    filled = plan(known, [dump(21, 12), full, dump(23, 13)])
    assert [(one.dump.number, one.day.day) for one in filled.due] == [(22, 13), (23, 13)]
    assert filled.notes == [f"{GONE} 2026-09-10; full export 22 fills the gap"]
    # It was made for days, and what came meanwhile counts.
    known.append(on_its_day(dump(23, 13)))
    assert [one.dump.number for one in plan(known, [full, dump(23, 13)]).due] == [22]
    assert plan([*known, *filled.due[:1]], [full, dump(23, 13)]).due == []


def test_a_full_export_inside_a_gap_is_taken_and_the_rest_of_it_is_said() -> None:
    inside = dump(15, 6, full=True)
    found = plan([on_its_day(BEGIN)], [BEGIN, inside, dump(20, 11)])
    assert [one.dump.number for one in found.due] == [15, 20]
    assert [note.split(", ")[0] for note in found.notes] == [
        "the incremental dumps between 10 and 20 are missing",
        "the incremental dumps between 15 and 20 are missing",
    ]


def test_a_full_export_before_a_gap_does_not_fill_it() -> None:
    before = dump(12, 2, full=True)
    there = [BEGIN, NEXT[0], before, dump(20, 11)]
    known = list(map(on_its_day, [BEGIN, NEXT[0]]))
    assert [one.dump.number for one in plan(known, there).due] == [20]


def test_a_dump_that_turns_up_late_closes_its_gap() -> None:
    known = [*map(on_its_day, [BEGIN, NEXT[0]]), DatedDump(NEXT[2], NEXT[2].day, NEXT[1].made_at)]
    waiting = plan(known, [BEGIN, *NEXT[:3]], incomplete=NEXT[1])
    assert waiting.due == []
    assert NEXT[1] in waiting.wanted
    assert [note.split(", ")[0] for note in waiting.notes] == [
        "incremental dump 12 is listed",
        "the incremental dumps between 11 and 13 are missing",
    ]
    assert plan(known, [BEGIN, *NEXT[:3]]) == Plan([on_its_day(NEXT[1])], [], frozenset({NEXT[1]}))


def test_no_older_dump_counts_beside_or_after_a_full_export() -> None:
    """Because days were closed, older dumps lie on later days."""
    older, newer = DatedDump(dump(11, 2), date(2026, 9, 9)), DatedDump(dump(13, 3), date(2026, 9, 9))
    full = dump(12, 2, full=True)
    found = plan([on_its_day(BEGIN), older, newer], [full, newer.dump], full_days=1)
    assert [(one.dump.number, one.day.day) for one in found.due] == [(12, 10), (13, 10)]


def test_a_full_export_between_two_incremental_dumps_is_no_gap() -> None:
    between = dump(12, 2, full=True)
    found = plan([on_its_day(BEGIN)], [BEGIN, NEXT[0], between, dump(13, 3)], full_days=30)
    assert [one.dump.number for one in found.due] == [11, 13]


def test_a_full_export_is_taken_again_after_some_days_with_what_came_since() -> None:
    known = list(map(on_its_day, [BEGIN, *NEXT]))
    full = dump(25, 15, full=True)
    there = [*NEXT, full, dump(26, 16)]
    assert [one.dump.number for one in plan(known, there).due] == [25, 26]
    # Later dumps that the lake has are not fetched again.
    known.append(on_its_day(dump(26, 16)))
    assert [one.dump.number for one in plan(known, [*there, dump(27, 17)]).due] == [25, 27]


def test_no_older_dump_lies_on_the_day_of_a_full_export() -> None:
    same_day = dump(24, 15)
    full = dump(25, 15, full=True)
    known = [*map(on_its_day, [BEGIN, *NEXT]), on_its_day(same_day)]
    found = plan(known, [same_day, full, dump(26, 16)])
    assert [(one.dump.number, one.day.day) for one in found.due] == [(25, 16), (26, 16)]
    assert plan(known, [same_day, full], today=15).due == []  # tomorrow


def test_what_is_listed_without_its_archive_is_left_for_later() -> None:
    found = plan([on_its_day(BEGIN)], [BEGIN, *NEXT], incomplete=NEXT[-1])
    assert [one.dump.number for one in found.due] == [11, 12, 13, 14]
    assert found.notes == ["incremental dump 15 is listed, and its archive is not there yet"]
    assert NEXT[-1] in found.wanted  # what was fetched of it stays
    older = dump(3, 1, full=True)
    assert plan([], [older, dump(4, 2), BEGIN], incomplete=BEGIN).due[0].dump == older


def test_a_day_that_takes_no_more_batches_leaves_its_dump_to_the_next() -> None:
    found = plan([on_its_day(BEGIN)], [BEGIN, *NEXT], closed=date(2026, 9, 3))
    assert [one.day.day for one in found.due] == [2, 4, 4, 5, 6]


def test_a_mirror_without_a_full_export_is_refused() -> None:
    with pytest.raises(InputError, match="no full export"):
        plan([], NEXT)


ALL = [dump(100 + 2 * day + full, day, full=full) for day in range(1, 29) for full in (False, True)]
"""An incremental dump of every day; the numbers between them are of full exports that may have been made."""


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_whatever_a_mirror_has_and_when_it_is_asked_each_submission_counts_once_or_is_said_to_be_missing(
    data: st.DataObject,
) -> None:
    fulls = data.draw(st.sets(st.integers(1, 28), min_size=1, max_size=4), label="days of full exports")
    made = [one for one in ALL if not one.is_full or one.day.day in fulls]
    asked = data.draw(st.sets(st.integers(min(fulls), 28), min_size=1, max_size=8), label="days of refreshes")
    before = {one: made[at - 1].made_at for at, one in enumerate(made) if at}
    known: list[DatedDump] = []
    for today in sorted(asked):
        late = data.draw(st.sets(st.sampled_from(made), max_size=4), label="without an archive yet")
        kept = data.draw(st.integers(0, 9), label="days that the mirror keeps")
        there = [one for one in made if one.is_full or one.day.day > today - kept]
        planner = Planner(
            known,
            there,
            today=date(2026, 9, today),
            full_days=7,
            begins=before.__getitem__,
            is_complete=lambda one, late=late: one not in late,  # type: ignore[misc]
        )
        try:
            found = planner.plan()
        except InputError:
            assert not known
            continue
        # A raw batch says from when on an incremental dump has what was submitted.
        new = [
            DatedDump(one.dump, one.day, before[one.dump] if not one.dump.is_full else None)
            for one in found.due
        ]
        known = sorted([*known, *new], key=lambda one: one.dump)
        base = newest_base(known)
        assert base is not None
        counts = [one for one in known if one.dump >= base.dump and one.day >= base.day]
        assert len({one.dump for one in counts}) == len(counts)
        assert all(one.day < base.day for one in known if one.dump.number < base.dump.number)
        assert all(one.dump.day <= one.day <= date(2026, 9, today) for one in known)
        assert {one.dump for one in found.due} <= found.wanted
        # Of every incremental dump up to the last that is there.
        missing = {one for one in made if not one.is_full and base.dump < one < counts[-1].dump}
        missing -= {one.dump for one in counts}
        holes = gaps(counts)
        assert missing == {
            one
            for one in made
            if any(hole.since < one.made_at <= hole.until for hole in holes) and not one.is_full
        }
        assert [note for note in found.notes if note.endswith("; the next full export fills the gap")] == [
            f"{hole}; the next full export fills the gap" for hole in holes
        ]
