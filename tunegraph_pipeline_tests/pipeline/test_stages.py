"""The stages of a lake, called as functions, leave what the refresh job leaves; and their list holds."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import DAILY_TABLES, MAY_BE_MISSING, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.schemas import TABLES, Partition
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.stages import STAGES, array_stages, folders_before, table_stages
from tunegraph_pipeline.recommend.bundle import current_version

DAY = date(2026, 2, 1)


def lake_with_lists(root: Path) -> Lake:
    """A lake that received one file with the lists of 40 users, in two tastes."""
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {"epochs": 2, "dimension": 16})
    lake.set_section("graph", {"held_out": 0.2, "calibration_share": 0.2})
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"u{user:02d}", "track_id": f"t{20 * (user % 2) + track:02d}", "liked_at": None}
        for user in range(40)
        for track in rng.choice(24, 8, replace=False)
    ]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    write_batch(lake.raw, DAY, RawBatch("files", "test", likes=likes))
    return lake


@pytest.mark.slow
@pytest.mark.dagster
@pytest.mark.usefixtures("blank_plots", "no_history")
def test_the_stages_leave_what_the_refresh_job_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = lake_with_lists(tmp_path / "stages")
    other = lake_with_lists(tmp_path / "job")
    run_job(other, "refresh", DAY, DAY)

    options: dict[str, dict[str, Any]] = {
        "forgotten_users": {"today": DAY},
        "evaluation": {"run_id": "test"},
        "retention": {"today": DAY},
    }
    idle = {*MAY_BE_MISSING, "likes_from_plays"}  # nothing was received for them
    for one in STAGES:
        if one.in_refresh:
            result = one.run(lake, **({"day": DAY} if one.daily else options.get(one.name, {})))
            assert result.how in ((None, "rebuilt") if one.name not in idle else ("reused",)), one.name
            assert not result.ends, one.name

    for table in TABLES:
        assert lake.partitions(table) == other.partitions(table), table
        keys: list[str | None] = [*lake.partitions(table)]
        if TABLES[table].partition is Partition.NONE:
            keys = [None]
        for key in keys:
            left, right = (where.read(table, key) for where in (lake, other))
            of_the_run = ["run_id", "seconds"] if table == "evaluation" else []
            assert_frame_equal(left.drop(of_the_run), right.drop(of_the_run))
    for folder in array_stages():
        if (other.root / folder).exists():
            assert lake.current_version(folder) == other.current_version(folder)
            same_arrays(lake.current_folder(folder), other.current_folder(folder))
    live = current_version(lake.serving)
    assert live == current_version(other.serving)
    same_arrays(lake.serving / live, other.serving / live)


def same_arrays(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.npy"))
    assert names
    assert names == sorted(path.name for path in other.glob("*.npy"))
    for name in names:
        np.testing.assert_array_equal(np.load(one / name), np.load(other / name), err_msg=name)
    assert ArrayFolder.open(one).facts.keys() == ArrayFolder.open(other).facts.keys()


def test_a_stage_comes_after_its_inputs_and_every_table_has_one() -> None:
    seen: set[str] = set()
    for one in STAGES:
        assert set(one.inputs) <= seen, one.name
        assert one.name not in seen
        seen.add(one.name)
    assert set(table_stages()) == set(TABLES), "every table has a stage that writes it"
    assert {table for one in STAGES if one.daily for table in one.tables} == set(DAILY_TABLES)
    for one in STAGES:
        for table in one.tables:
            assert one.daily == (table in DAILY_TABLES)


def test_what_holds_users_is_removed_when_one_is_forgotten() -> None:
    for one in STAGES:
        for spec in (TABLES[table] for table in one.tables):
            # Days are cleaned row by row, and tables of a bundle go with it.
            if "user_id" in spec.schema.names and spec.partition not in (Partition.DAY, Partition.BUNDLE):
                assert one.holds_users, f"{spec.name} has users: {one.name} needs holds_users=True"


def test_a_version_is_older_than_those_it_is_built_from() -> None:
    assert folders_before("like_graph") == {"catalogue", "current_likes"}
    assert folders_before("co_like") == {"like_graph"}
    assert folders_before("serving") == {"like_graph", "models"}
