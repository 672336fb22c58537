"""What a stage answers is shown by Dagster in its own types."""

from dagster import MetadataValue

from tunegraph_pipeline.orchestration.metadata import materialized
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured


def test_facts_become_metadata_of_their_type() -> None:
    with Measured() as cost:
        pass
    facts = {"yes": True, "count": 2, "share": 0.5, "name": "n", "more": {"a": 1}}
    metadata = (
        materialized(StageResult("v", "updated", cost, 3, facts, {"plot": lambda: b"png"})).metadata or {}
    )
    assert metadata["yes"] == MetadataValue.bool(True)
    assert metadata["count"] == MetadataValue.int(2)
    assert metadata["share"] == MetadataValue.float(0.5)
    assert metadata["name"] == MetadataValue.text("n")
    assert metadata["more"] == MetadataValue.json({"a": 1})
    assert metadata["dagster/row_count"] == MetadataValue.int(3)
    assert (metadata["version"], metadata["made"]) == (MetadataValue.text("v"), MetadataValue.text("updated"))
    assert "plot" in metadata
    assert "seconds" in metadata
