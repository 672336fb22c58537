"""Updated current lists equal rebuilt ones, whatever changed and in whatever order."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tunegraph_pipeline.lake.current import (
    Basis,
    added_fingerprint,
    moved_pairs,
    pairs_fingerprint,
    pairs_sums,
    rebuilt_lists,
    updated_lists,
)
from tunegraph_pipeline.lake.tables import current_lists, derive_observations, empty_table
from tunegraph_pipeline_tests.conftest import examples

FIRST = date(2026, 3, 1)


@dataclass
class Tables:
    """Daily tables in memory, and a log of which were read."""

    lists: dict[str, dict[tuple[str, str], dict[str, datetime | None]]] = field(default_factory=dict)
    said: dict[str, list[tuple[str, str, str, datetime]]] = field(default_factory=dict)
    reads: list[tuple[str, str]] = field(default_factory=list)

    def read(self, table: str, day: str) -> pl.DataFrame:
        self.reads.append((table, day))
        if table == "feedback":
            return self.feedback([day])
        lists = self.lists[day]
        likes = pl.DataFrame(
            [
                {"user_id": user, "track_id": track, "liked_at": at, "source": source}
                for (source, user), liked in lists.items()
                for track, at in liked.items()
            ],
            schema=empty_table("likes").schema,
        )
        if table == "likes":
            return likes
        users = pl.DataFrame(
            [{"source": source, "user_id": user, "state": "listed"} for source, user in lists],
            schema={"source": pl.String, "user_id": pl.String, "state": pl.String},
        )
        return derive_observations(users, likes)

    def feedback(self, days: list[str]) -> pl.DataFrame:
        rows = [row for day in days for row in self.said.get(day, [])]
        return pl.DataFrame(
            rows,
            schema={
                "user_id": pl.String,
                "track_id": pl.String,
                "action": pl.String,
                "at": pl.Datetime("us", "UTC"),
            },
            orient="row",
        )

    def until(self, cut_off: str) -> tuple[Basis, pl.DataFrame]:
        days = {day: repr(sorted(lists.items())) for day, lists in self.lists.items() if day <= cut_off}
        said = {day: repr(rows) for day, rows in self.said.items() if day <= cut_off and rows}
        batches = {day: list(map(repr, self.said[day])) for day in said}
        return Basis(days, said, batches), self.feedback(sorted(said))


def key(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


def happen(tables: Tables, rng: np.random.Generator, day: int) -> None:
    """Something on a day: lists are seen, a day is filled again or goes, somebody says something."""
    lists = tables.lists.setdefault(key(day), {})
    what = rng.random()
    if what < 0.15:
        del tables.lists[key(day)]
    elif what < 0.25:
        lists.clear()
    elif what < 0.8:
        for _ in range(rng.integers(1, 4)):
            who = (str(rng.choice(["files", "spotify"])), str(rng.choice(list("uvw"))))
            lists[who] = {
                str(track): datetime(2026, 1, 1 + int(rng.integers(3)), tzinfo=UTC)
                if rng.random() < 0.3
                else None
                for track in rng.choice(list("abcde"), rng.integers(0, 5), replace=False)
            }
    else:
        said = tables.said.setdefault(key(day), [])
        at = datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(days=day, seconds=len(said))
        action = str(rng.choice(["like", "dislike"]))
        if said and rng.random() < 0.2:
            del said[int(rng.integers(len(said)))]  # a batch is removed by hand
        said.append((str(rng.choice(list("uvwx"))), str(rng.choice(list("abcde"))), action, at))


@pytest.mark.slow
@settings(max_examples=examples(50))
@given(st.integers(0, 2**32), st.integers(1, 15))
def test_any_history_gives_the_lists_of_a_rebuild(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    tables = Tables()
    for day in range(3):
        happen(tables, rng, day)
    cut_off = key(5)
    basis, said = tables.until(cut_off)
    known = rebuilt_lists(tables.read, basis, said, None)
    fingerprint = pairs_fingerprint(known.likes)
    for _ in range(steps):
        for _ in range(rng.integers(0, 3)):
            happen(tables, rng, int(rng.integers(0, 6)))
        if rng.random() < 0.2:
            cut_off = key(int(rng.integers(0, 6)))
        earlier, (basis, said) = basis, tables.until(cut_off)
        expected = rebuilt_lists(tables.read, basis, said, None)
        found = updated_lists(known, earlier, tables.read, basis, said, None)
        if found is None:  # something that was said is gone
            assert basis.feedback != earlier.feedback
            known, fingerprint = expected, pairs_fingerprint(expected.likes)
            continue
        now, touched = found
        for name in ("likes", "dislikes", "observed"):
            assert_frame_equal(getattr(now, name), getattr(expected, name))
        gone, come = moved_pairs(known.likes, now.likes, touched)
        fingerprint = added_fingerprint(fingerprint, pairs_sums(come) - pairs_sums(gone))
        assert fingerprint == pairs_fingerprint(expected.likes)
        changed = {user for user, _ in {*pairs(known.likes)} ^ {*pairs(now.likes)}}
        assert set(pl.concat([gone, come])["user_id"]) == changed
        known = now


def pairs(likes: pl.DataFrame) -> list[tuple[str, str]]:
    return list(likes.select("user_id", "track_id").iter_rows())


def seen(**lists: str) -> dict[tuple[str, str], dict[str, datetime | None]]:
    return {("files", user): dict.fromkeys(liked) for user, liked in lists.items()}


def test_a_new_day_is_all_that_is_read() -> None:
    tables = Tables({key(0): seen(u="ab", v="c"), key(1): seen(u="abc")})
    earlier, said = tables.until(key(1))
    known = rebuilt_lists(tables.read, earlier, said, None)
    tables.lists[key(2)] = seen(u="abc", v="")
    tables.reads.clear()

    found = updated_lists(known, earlier, tables.read, tables.until(key(2))[0], said, None)

    assert found is not None
    now, touched = found
    assert {day for _, day in tables.reads} == {key(2)}
    assert touched.to_list() == ["v"]  # u was seen with the list they had
    assert pairs(now.likes) == [("u", "a"), ("u", "b"), ("u", "c")]
    assert now.observed["seen"].cast(pl.String).to_list() == [key(2), key(2)]


def test_a_hole_in_the_past_changes_only_who_was_not_seen_since() -> None:
    tables = Tables({key(0): seen(u="a", v="b"), key(3): seen(u="c")})
    earlier, said = tables.until(key(3))
    known = rebuilt_lists(tables.read, earlier, said, None)
    tables.lists[key(1)] = seen(u="x", v="y", w="z")

    found = updated_lists(known, earlier, tables.read, tables.until(key(3))[0], said, None)

    assert found is not None
    assert sorted(found[1]) == ["v", "w"]
    assert pairs(found[0].likes) == [("u", "c"), ("v", "y"), ("w", "z")]


def test_a_day_that_is_gone_brings_back_the_list_before_it() -> None:
    tables = Tables({key(0): seen(u="a"), key(1): seen(u="b", v="c")})
    earlier, said = tables.until(key(1))
    known = rebuilt_lists(tables.read, earlier, said, None)
    del tables.lists[key(1)]

    found = updated_lists(known, earlier, tables.read, tables.until(key(1))[0], said, None)

    assert found is not None
    assert pairs(found[0].likes) == [("u", "a")]
    assert found[0].observed["user_id"].to_list() == ["u"]


def test_the_order_of_rows_does_not_move_the_fingerprint_and_every_pair_does() -> None:
    likes = pl.DataFrame({"user_id": list("uuvw"), "track_id": list("abab")})
    known = pairs_fingerprint(likes)

    assert pairs_fingerprint(likes.sample(fraction=1.0, shuffle=True, seed=3)) == known
    assert len({known, *(pairs_fingerprint(likes.head(n)) for n in range(4))}) == 5
    swapped = likes.select(user_id="track_id", track_id="user_id")
    assert pairs_fingerprint(swapped) != known


@pytest.mark.parametrize(
    "text", [None, "", "0a1b", "{}", "[]", '{"days": 1, "feedback": {}, "recordings": ""}']
)
def test_what_is_no_basis_is_none(text: str | None) -> None:
    assert Basis.from_json(text) is None


def test_a_basis_survives_its_text() -> None:
    basis = Basis({key(0): "x"}, {key(1): "y"}, {key(1): ["a", "b"]}, "z")
    again = Basis.from_json(basis.to_json())
    assert again == basis
    assert again.batches == basis.batches


def test_lists_are_those_of_the_latest_day_whatever_came_before() -> None:
    tables = Tables({key(0): seen(u="ab", v="c"), key(1): seen(u="b")})
    basis, said = tables.until(key(1))
    made = rebuilt_lists(tables.read, basis, said, None)
    newest_first = [(tables.read("observations", key(n)), tables.read("likes", key(n))) for n in (1, 0)]
    assert_frame_equal(made.likes, current_lists(newest_first))
    assert pairs(made.likes) == [("u", "b"), ("v", "c")]
