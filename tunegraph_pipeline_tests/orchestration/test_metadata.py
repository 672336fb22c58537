"""What a stage answers is shown by Dagster in its own types."""

from tunegraph_pipeline.orchestration.metadata import materialized
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured


def test_facts_become_metadata_of_their_type() -> None:
    with Measured() as cost:
        pass
    facts = {"yes": True, "count": 2, "share": 0.5, "name": "n", "more": {"a": 1}}
    plots = {"plot": lambda: b"png"}
    metadata = materialized(StageResult("v", "updated", cost, 3, facts, plots)).metadata or {}
    assert {name: metadata[name] for name in facts} == facts
    assert metadata["dagster/row_count"] == 3
    assert (metadata["version"], metadata["made"]) == ("v", "updated")
    assert "plot" in metadata
    assert "seconds" in metadata
