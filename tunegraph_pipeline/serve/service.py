"""Everything that is alive in one worker, from its start to its end.

Here: putting it together, and the work that goes to a thread beside the event loop. Not here: what is asked
(`routes`), or the processes (`run`).
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from tunegraph_pipeline.serve.access import StoredUserAccess, key_of_environment
from tunegraph_pipeline.serve.access_log import AccessLog
from tunegraph_pipeline.serve.batching import QueryBatcher
from tunegraph_pipeline.serve.blocklist import Blocklist
from tunegraph_pipeline.serve.feedback_writer import FeedbackWriter
from tunegraph_pipeline.serve.live_bundle import LiveBundle
from tunegraph_pipeline.serve.metrics import ServiceMetrics
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.rate_limit import RateLimiter
from tunegraph_pipeline.serve.settings import ServiceSettings

_MOST_ASIDE = 256
# A thread that wants to run while another does waits so long before it asks. 5 ms unless told otherwise, most
# of what a request may take, each time the thread that takes up a bundle has the interpreter.
_SWITCH_SECONDS = 0.0005

P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """One worker's share of the service. ``async with`` it while requests are answered."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.access = StoredUserAccess(key_of_environment(), public=settings.public)
        rate = settings.requests_per_second
        self.limiter = None if rate is None else RateLimiter(rate)
        self.log = AccessLog(requests=settings.access_log)
        self.metrics = ServiceMetrics(self._bundle_labels, lambda: self.live_bundle.problem)
        self.live_bundle = LiveBundle(
            settings.serving,
            Blocklist.read(settings.blocklist),
            every_seconds=settings.reload_seconds,
            run_folder=settings.run_folder,
            reloaded=self.metrics.reload,
        )
        self.batcher = QueryBatcher(lambda: self.live_bundle.current.recommender, self.metrics.observe_batch)
        self.feedback_writer = FeedbackWriter(settings.lake)
        # One thread: what it does holds the interpreter for most of its time, so that two would gain nothing.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._n_aside = 0

    async def __aenter__(self) -> "Service":
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.live_bundle.start()
        # What is alive now stays: a collection need not look through the imported modules again and again.
        gc.collect()
        gc.freeze()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.feedback_writer.close()
        self.live_bundle.stop()
        self.batcher.close()
        self._aside.shutdown()

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do ``work`` in a thread, while the event loop goes on. Raises Problem 503 where too much waits."""
        if self._n_aside >= _MOST_ASIDE:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "more is asked at once than can be answered; ask again in a second",
                name="busy",
                headers={"Retry-After": "1"},
            )
        self._n_aside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._aside, partial(work, *args, **kwargs)
            )
        finally:
            self._n_aside -= 1

    def _bundle_labels(self) -> tuple[str, str] | None:
        served = self.live_bundle.served
        return None if served is None else (served.bundle_version, served.recommender.bundle.model_version)
