"""A day of many lists has the tables that it would have if it were derived at once."""

from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import large_days
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.daily import derive, fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline_tests.conftest import examples

DAY = date(2026, 9, 6)
OF_LISTS = ("users", "likes", "observations")
USERS = ["a", "b", "e\u0301", "\u00e9", "z", "\U0001f3b5", "u1", "u2", "u3"]


def batch(rng: np.random.Generator, source: str) -> RawBatch:
    """Some lists in no order, with pairs that are there twice, and users who like nothing."""
    n = int(rng.integers(0, 40))
    at = [datetime(2026, 1, 1 + int(day), tzinfo=UTC) if day else None for day in rng.integers(0, 3, n)]
    likes = {
        "user_id": rng.choice(USERS, n).tolist(),
        "track_id": rng.choice(list("stuvw"), n).tolist(),
        "liked_at": at,
        "position": [int(place) if place < 3 else None for place in rng.integers(0, 5, n)],
    }
    users = {
        "user_id": rng.choice(USERS, 3, replace=False).tolist(),
        "discovered_from": [None, "a", None],
        "depth": [0, 1, 2],
        "state": rng.choice(["listed", "found", "private"], 3).tolist(),
    }
    return RawBatch(
        source,
        str(rng.random()),
        users=pl.DataFrame(users, empty_frame("users").schema),
        likes=pl.DataFrame(likes, empty_frame("likes").schema),
    )


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.booleans())
def test_ranges_of_users_give_the_tables_of_the_whole_day(seed: int, rows: int, joined: bool) -> None:
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lake = Lake.open_or_create(Path(folder) / "lake")
        for source in ("files", "spotify", "files"):
            write_batch(lake.raw, DAY, batch(rng, source))
        aliases = Aliases({"u2": "b"} if joined else {})
        aliases.write(lake.root)
        patch.setattr(large_days, "ROWS_A_RANGE", rows)
        fill_day(lake, DAY)
        for name, expected in derive(OF_LISTS, lake.batches(DAY), DAY, aliases).items():
            assert_frame_equal(lake.read(name, DAY.isoformat()), expected)
            assert not lake.has_other_forms(name, DAY.isoformat())
        assert not lake.stale_tables(DAY, OF_LISTS, aliases)
        assert not [*lake.staging.glob("*.arrow")]


def test_a_damaged_batch_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    info = write_batch(lake.raw, DAY, batch(np.random.default_rng(1), "files"))
    content = bytearray(info.path("likes").read_bytes())
    content[len(content) // 3] ^= 1
    info.path("likes").write_bytes(bytes(content))
    monkeypatch.setattr(large_days, "ROWS_A_RANGE", 3)
    with pytest.raises(LakeError, match=r"likes\.parquet cannot be read"):
        fill_day(lake, DAY)
    assert not lake.partitions("likes")
    assert not [*lake.staging.iterdir()]
