"""First small lakes: what the split and the gate do where there is little to go by."""

import json
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.split import calibration_users, id_hashes
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.pipeline.like_graph import open_like_graph, shares_kept_from_training
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.recommend.publication import live_model, publications
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = pytest.mark.usefixtures("blank_plots")

DAY = date(2026, 2, 1)
SONGS = [f"s{song}" for song in range(8)]


def set_aside(*, calibrated: bool, n: int) -> list[str]:
    """The first ids u0, u1, … that a new lake's split sets aside for calibration, or those it does not."""
    ids = (f"u{number}" for number in count())
    return list(islice((one for one in ids if _is_set_aside(one) == calibrated), n))


def _is_set_aside(user: str) -> bool:
    return bool(calibration_users(id_hashes([user], "tunegraph"))[0])


def receive(lake: Lake, day: date, users: list[str]) -> None:
    rows = [
        {"user_id": user, "track_id": SONGS[(place + step) % 8]}
        for place, user in enumerate(users)
        for step in range(5)
    ]
    likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
    write_batch(lake.raw, day, RawBatch("files", "likes.csv", likes=likes))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    return lake


def test_a_lake_whose_only_users_the_split_would_set_aside_is_served(lake: Lake) -> None:
    only = set_aside(calibrated=True, n=2)
    receive(lake, DAY, only)
    run_stages(lake, "refresh", DAY, DAY)
    assert shares_kept_from_training(lake) == (0.02, 0.0)
    assert Recommender.open(lake.serving).recommend_user(only[0], 3).items

    # With others to learn from they are set aside, as if the lake had always had them.
    others = set_aside(calibrated=False, n=4)
    receive(lake, DAY + timedelta(1), others)
    result = run_stages(lake, "refresh", DAY + timedelta(1), DAY + timedelta(1))
    graph = open_like_graph(lake)
    assert result["like_graph"].how == "rebuilt"
    assert shares_kept_from_training(lake) == (0.02, 0.02)
    assert np.flatnonzero(graph.calibration).tolist() == [
        row for row, user in enumerate(graph.user_ids.tolist()) if user in only
    ]
    # The earlier model learned from them, so no warm start may pass that on.
    assert "other likes or users are held out" in result["trained_model"].facts["trained"]


def say_of_the_model(lake: Lake, **facts: object) -> str:
    """Change what the current model says of its validation; returns its version."""
    manifest = lake.current_folder("models") / "manifest.json"
    kept = read_json(manifest.read_bytes())
    kept["facts"] |= facts
    manifest.write_text(json.dumps(kept))
    return str(kept["facts"]["version"])


WORSE = {"validation": 0.01, "validation_of_popularity": 0.05, "validation_lead": [-0.06, -0.02]}


def refreshed_without_publishing(lake: Lake, users: int) -> str:
    receive(lake, DAY, [f"v{number}" for number in range(6)])
    run_stages(lake, "graph", DAY, DAY)
    stage("trained_model").run(lake)
    stage("track_embeddings").run(lake)
    return say_of_the_model(lake, **WORSE, validation_users=users)


def test_where_too_little_is_held_out_to_tell_the_first_model_goes_live(lake: Lake) -> None:
    model = refreshed_without_publishing(lake, users=4)
    assert "on 4 users with held-out likes that may be chance" in lake_status(lake)["model"]
    with pytest.raises(InputError, match="nothing to override"):
        run_stages(lake, "publish", options={"serving_bundle": {"override": "I like it"}})
    run_stages(lake, "publish")
    assert live_model(lake.serving) == model
    assert publications(lake.serving)[-1].outcome == "first"


def test_status_publish_and_override_agree_on_a_first_model_that_is_clearly_worse(lake: Lake) -> None:
    model = refreshed_without_publishing(lake, users=100)
    with pytest.raises(InputError) as refused:
        run_stages(lake, "publish")
    assert lake_status(lake)["live bundle"] == str(refused.value)
    assert 'tunegraph publish --override "why"' in str(refused.value)
    assert live_model(lake.serving) is None

    # Forgetting somebody is no way round it, and works all the same.
    assert stage("serving_bundle").run(lake, judge=False).ends
    assert live_model(lake.serving) is None

    run_stages(lake, "publish", options={"serving_bundle": {"override": "I like it"}})
    assert live_model(lake.serving) == model
    last = publications(lake.serving)[-1]
    assert last.outcome == "overridden"
    assert last.decision is not None
    assert last.decision.champion is None
    assert f"model {model} published by override (I like it): MAP@10" in lake_status(lake)["gate"]
