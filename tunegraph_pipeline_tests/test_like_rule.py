"""What the rule of likes is chosen by: songs that are new to a user and stay, and what each rule keeps."""

import runpy
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import PlaysSettings
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.slow

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "like_rule.py"
FIRST, MOMENT, LAST = date(2026, 1, 1), date(2026, 1, 20), date(2026, 2, 10)
USERS, SONGS = 8, 6
"""Of each of two scenes."""


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARK))


def plays_of(scene: str, other: str, number: int) -> list[tuple[str, str, date, int]]:
    """A listener has three songs of their scene on two days, and let three of the other scene run once. Later
    comes another song on two days, one on one day, and one that was known."""
    user = f"{scene}{number}"
    rows = [
        (user, f"{scene}-{(number + step) % SONGS}", FIRST + timedelta(days=day), 2)
        for step in range(3)
        for day in (step, step + 5)
    ]
    rows += [
        (user, f"{other}-{(number * 5 + step) % SONGS}", FIRST + timedelta(days=9), 1) for step in range(3)
    ]
    for step, days in ((3, 2), (4, 1), (0, 2)):
        rows += [
            (user, f"{scene}-{(number + step) % SONGS}", LAST - timedelta(days=3 * day), 1)
            for day in range(days)
        ]
    return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.open_or_create(tmp_path_factory.mktemp("plays") / "lake")
    lake.admit_source("files")
    rows = [
        row
        for scene, other in (("rock", "jazz"), ("jazz", "rock"))
        for number in range(USERS)
        for row in plays_of(scene, other, number)
    ]
    plays = pl.DataFrame(rows, empty_frame("plays").schema, orient="row")
    write_batch(lake.raw, LAST, RawBatch("files", "history", plays=plays))
    run_stages(lake, "graph", LAST, LAST)
    return Lake.open(lake.root)


def test_what_is_asked_for_is_new_and_played_on_two_days_whatever_the_rule(
    benchmark: dict[str, Any], lake: Lake
) -> None:
    with benchmark["opened"](lake.root) as plays:
        assert plays.last == LAST
        window = benchmark["Window"].of(plays, MOMENT, LAST)
        assert len(window.users) == 2 * USERS
        assert np.diff(window.relevant.indptr).tolist() == [1] * 2 * USERS
        assert np.diff(window.heard.indptr).tolist() == [6] * 2 * USERS
        assert not window.relevant.multiply(window.heard).nnz
        with pytest.raises(InputError, match="nobody came to play a new song"):
            benchmark["Window"].of(plays, LAST - timedelta(days=1), LAST)


def test_a_rule_that_counts_what_just_ran_finds_less(benchmark: dict[str, Any], lake: Lake) -> None:
    often, once = PlaysSettings(), PlaysSettings(min_plays=1, min_days=1)
    with benchmark["opened"](lake.root) as plays:
        window = benchmark["Window"].of(plays, MOMENT, LAST)
        judged = benchmark["validate"](plays, window, [often, once])
    assert [one.learnt.likes.nnz for one in judged] == [2 * USERS * 3, 2 * USERS * 6]
    # Of each user's 15 plays before the moment, three were of what just ran.
    assert [one.learnt.share_of_plays for one in judged] == [12 / 15, 1.0]
    assert judged[0].figures.mean() > judged[1].figures.mean()
    table = benchmark["validation_table"](judged).splitlines()
    assert table[2].startswith("| 3 plays, 2 days, at most 500, the default | 16 | 48 | 80% |")
    assert table[3].startswith("| 1 play, 1 day, at most 500 | 16 | 96 | 100% |")


def test_the_default_is_the_first_of_many_rules(benchmark: dict[str, Any]) -> None:
    rules = benchmark["rules"]()
    assert rules[0] == PlaysSettings()
    assert len(set(rules)) == len(rules) == 15
