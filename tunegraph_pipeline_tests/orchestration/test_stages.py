"""The stages of the graph, called as functions, leave what the assets leave."""

from pathlib import Path

import pytest
from dagster import MetadataValue

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import materialized
from tunegraph_pipeline.pipeline import co_like_matrix, like_graph, track_ids
from tunegraph_pipeline.pipeline.current_likes import update_current_lists
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline_tests.orchestration.test_graph import FIRST, receive, refresh, same_content, twin


def test_stages_called_without_dagster_write_what_the_assets_write(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc", "cho": "cd"})
    other = twin(lake, tmp_path / "twin")
    refresh(other)

    fill_day(lake, FIRST)
    update_current_lists(lake, FIRST, merge_recordings=True)
    ids, A, B = (stage.run(lake) for stage in (track_ids, like_graph, co_like_matrix))
    assert (ids.rows, ids.facts["new tracks"]) == (4, 4)
    assert (A.rows, A.how, A.version) == (7, "rebuilt", other.current_version("like_graph"))
    assert (B.how, B.version) == ("rebuilt", other.current_version("co_like"))
    same_content(lake, other)
    assert [stage.run(lake).how for stage in (like_graph, co_like_matrix)] == ["reused", "reused"]


def test_a_stage_before_its_inputs_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LakeError):
        co_like_matrix.run(Lake.open_or_create(tmp_path / "lake"))


def test_facts_become_metadata_of_their_type() -> None:
    with Measured() as cost:
        pass
    facts = {"yes": True, "count": 2, "share": 0.5, "name": "n", "more": {"a": 1}}
    metadata = materialized(StageResult("v", "updated", cost, 3, facts, {"plot": b"png"})).metadata or {}
    assert metadata["yes"] == MetadataValue.bool(True)
    assert metadata["count"] == MetadataValue.int(2)
    assert metadata["share"] == MetadataValue.float(0.5)
    assert metadata["name"] == MetadataValue.text("n")
    assert metadata["more"] == MetadataValue.json({"a": 1})
    assert metadata["dagster/row_count"] == MetadataValue.int(3)
    assert (metadata["version"], metadata["made"]) == (MetadataValue.text("v"), MetadataValue.text("updated"))
    assert "plot" in metadata
    assert "seconds" in metadata
