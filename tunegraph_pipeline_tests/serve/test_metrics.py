"""The counts, in the text format of Prometheus; those of several workers `test_run` adds up."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tunegraph_pipeline.serve.metrics import ServiceMetrics


def samples(metrics: ServiceMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_what_is_counted_is_exposed() -> None:
    metrics = ServiceMetrics(lambda: ("v1", "m1"), lambda: None, lambda: (70, 100))
    metrics.request("GET", "/map", 200, 0.004)
    metrics.request("GET", "/map", 200, 0.004)
    metrics.request("GET", "/map", 304, 0.004)
    metrics.feedback("like")
    metrics.reload(refused=True)
    metrics.observe_batch(3)
    found = samples(metrics)
    route = (("method", "GET"), ("route", "/map"))
    assert found["tunegraph_requests_total", (*route, ("status", "200"))] == 2
    assert found["tunegraph_requests_total", (*route, ("status", "304"))] == 1
    assert found["tunegraph_request_seconds_count", (("route", "/map"),)] == 3
    assert found["tunegraph_request_seconds_bucket", (("le", "0.0025"), ("route", "/map"))] == 0
    assert found["tunegraph_request_seconds_bucket", (("le", "0.005"), ("route", "/map"))] == 3
    assert found["tunegraph_feedback_events_total", (("action", "like"),)] == 1
    assert found["tunegraph_reloads_total", (("outcome", "refused"),)] == 1
    assert found["tunegraph_batch_queries_sum", ()] == 3
    assert found["tunegraph_feedback_spool_bytes", ()] == 70
    assert found["tunegraph_feedback_spool_limit_bytes", ()] == 100
    assert not [name for name, _ in found if name.endswith("_created")]


@pytest.mark.parametrize("problem", [None, "it is damaged"])
def test_the_bundle_is_the_one_of_now(problem: str | None) -> None:
    served: list[tuple[str, str]] = []
    metrics = ServiceMetrics(lambda: served[-1] if served else None, lambda: problem, lambda: (70, 100))
    assert not [name for name, _ in samples(metrics) if name == "tunegraph_bundle_info"]
    for version in ("v1", "v2"):
        served.append((version, "m1"))
        found = samples(metrics)
        assert [labels for name, labels in found if name == "tunegraph_bundle_info"] == [
            (("bundle_version", version), ("model_version", "m1"))
        ]
        assert found["tunegraph_newest_bundle_refused", ()] == (0.0 if problem is None else 1.0)
