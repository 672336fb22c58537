"""What the operator page is told of the feedback that waits."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.object_store import Address
from tunegraph_pipeline.lake.snapshots import Node
from tunegraph_pipeline.pipeline import report


@pytest.mark.parametrize("stored", [False, True], ids=["in a folder", "in the cache of a store"])
def test_feedback_that_no_refresh_has_collected_waits(tmp_path: Path, *, stored: bool) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    if stored:
        Node(tmp_path, Address("bucket", "music", ""), "here").record(probed=True)
    append(lake.root, "w", "ann", [("a", "like"), ("b", "skip")], at=datetime(2026, 2, 3, tzinfo=UTC))
    spool = report.feedback(lake)["spool"]
    assert (spool["waiting"], spool["oldest"]) == (2, "2026-02-03")
    assert spool["bytes"] > 0
