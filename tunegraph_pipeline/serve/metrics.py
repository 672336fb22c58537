"""Prometheus metrics of the service.

Here: the metrics and their exposition, of one process or of all workers together. Not here: counting at the
right moment (`middleware`, `routes`). No label contains a user, a track or a path; routes are templates, so
that the number of series is bounded.
"""

import os
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client reads this variable at import, so it must be set before a worker starts."""

MEDIA_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per metric, not needed here

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServiceMetrics(Collector):
    """The metrics of this process, exposed together with those of the other workers if there are any.

    ``bundle`` returns the bundle and model version that are served, None if none is. ``problem`` returns why
    the newest bundle is not served, None if it is. ``spool`` returns the bytes of feedback that wait, and how
    many may.
    """

    def __init__(
        self,
        bundle: Callable[[], tuple[str, str] | None],
        problem: Callable[[], str | None],
        spool: Callable[[], tuple[int, int]],
    ) -> None:
        self._spool = spool
        self._shared = MULTIPROCESS_FOLDER in os.environ
        self._bundle = bundle
        self._problem = problem
        self._registry = CollectorRegistry()
        # With several workers, each counts in a mapped file, and the collector adds up the files.
        own = None if self._shared else self._registry
        self._requests = Counter(
            "tunegraph_requests", "Requests by route and status.", ["method", "route", "status"], registry=own
        )
        self._seconds = Histogram(
            "tunegraph_request_seconds",
            "From the first byte of a request to the last byte of its response.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        batches = Histogram(
            "tunegraph_batch_queries",
            "Queries answered in one batch.",
            buckets=_SIZES,
            registry=own,
        )
        self.observe_batch = batches.observe
        self._feedback = Counter(
            "tunegraph_feedback_events", "Feedback events stored.", ["action"], registry=own
        )
        self._reloads = Counter(
            "tunegraph_reloads", "New bundles loaded or refused.", ["outcome"], registry=own
        )
        self._ended = Counter(
            "tunegraph_connections_ended", "Connections ended without an answer.", ["reason"], registry=own
        )
        self._children: dict[tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        if not self._shared:
            self._registry.register(self)
            ProcessCollector(registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            counted = self._requests.labels(method, route, str(status))
            child = (counted.inc, self._seconds.labels(route).observe)
            self._children[key] = child
        count, observe = child
        count()
        observe(seconds)

    def feedback(self, action: str) -> None:
        self._feedback.labels(action).inc()

    def connection_ended(self, reason: str) -> None:
        self._ended.labels(reason).inc()

    def reload(self, *, refused: bool) -> None:
        self._reloads.labels("refused" if refused else "taken").inc()

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The served bundle, read at each scrape, so that no label of an older version remains, and the
        feedback spool."""
        waiting, most = self._spool()
        yield GaugeMetricFamily(
            "tunegraph_feedback_spool_bytes", "Feedback that no refresh has collected.", value=waiting
        )
        yield GaugeMetricFamily(
            "tunegraph_feedback_spool_limit_bytes", "Size at which feedback is refused.", value=most
        )
        live = GaugeMetricFamily(
            "tunegraph_bundle_info", "The served bundle.", labels=["bundle_version", "model_version"]
        )
        served = self._bundle()
        if served is not None:
            live.add_metric(served, 1.0)
        yield live
        refused = 0.0 if self._problem() is None else 1.0
        yield GaugeMetricFamily(
            "tunegraph_newest_bundle_refused", "1 if the newest bundle cannot be served.", value=refused
        )
