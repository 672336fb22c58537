"""What a stage answers is shown by Dagster in its own types."""

import pytest

from tunegraph_pipeline.orchestration.metadata import materialized, shortened
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


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (0.20588061465721041, 0.2059),
        (1234.5678, 1235.0),
        (0.5, 0.5),
        (12345678, 12345678),
        (True, True),
        ("0.123456", "0.123456"),
        ({"a": [0.123456, {"b": 2.000049}], "c": None}, {"a": [0.1235, {"b": 2.0}], "c": None}),
    ],
)
def test_fractions_are_shown_to_four_digits_and_stay_numbers(figure: object, shown: object) -> None:
    found = shortened(figure)
    assert found == shown
    assert type(found) is type(figure)
