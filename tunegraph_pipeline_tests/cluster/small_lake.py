"""A lake that has received lists, of which a model is made in seconds.

Here: the lists and the settings. Not here: refreshing it.
"""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch

TODAY = datetime.now(UTC).date()
REFRESH = ("refresh", "--source", "none", "--date", str(TODAY))


def small_lake(root: Path, **sections: Mapping[str, Any]) -> Lake:
    """40 users in three scenes, and a model that takes no time; with these sections of its settings."""
    rng = random.Random(3)
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})  # likes by chance: no model has to foresee them
    for name, section in sections.items():
        lake.set_section(name, section)
    rows = [
        {"user_id": f"u{user}", "track_id": f"t{user % 3}.{track}", "liked_at": None}
        for user in range(40)
        for track in rng.sample(range(12), 6)
    ]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    with lake.writing("a test"):
        write_batch(lake.raw, TODAY, RawBatch("files", "test", likes=likes))
    return lake
