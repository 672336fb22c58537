"""The parts of one worker, from its start to its end.

Here: putting them together, and the thread for work outside of the event loop. Not here: the endpoints
(`routes`), or the processes (`run`).
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from starlette.requests import Request

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.feedback_settings import feedback_settings
from tunegraph_pipeline.recommend.recommender import Query, Ranked, Recommendations, Recommender
from tunegraph_pipeline.serve.access import StoredUserAccess, key_of_environment
from tunegraph_pipeline.serve.access_log import AccessLog
from tunegraph_pipeline.serve.answers import charge_request, problem_of, unknown_user
from tunegraph_pipeline.serve.batching import Answered, QueryBatcher, cost_of, is_dear
from tunegraph_pipeline.serve.blocklist import Blocklist
from tunegraph_pipeline.serve.connections import OpenConnections
from tunegraph_pipeline.serve.feedback_writer import FeedbackWriter
from tunegraph_pipeline.serve.list_writer import ListWriter
from tunegraph_pipeline.serve.live_bundle import LiveBundle
from tunegraph_pipeline.serve.matches import ListReader
from tunegraph_pipeline.serve.metrics import ServiceMetrics
from tunegraph_pipeline.serve.problem_details import unavailable
from tunegraph_pipeline.serve.rate_limit import RateLimiter
from tunegraph_pipeline.serve.settings import ServiceSettings

_MOST_WAITING = 256
_GARBAGE = 20_000  # more objects made than freed, after which the youngest are looked at
_DESCRIBED_AS_A_QUERY = 65  # songs of which the description takes as long as a usual query
_DESCRIBED_INLINE = 50  # songs of an answer; more are described in the thread
# How long a thread waits for the interpreter lock before it requests it. A request waits for the lock some
# twenty times, after each system call and larger operation of numpy. With the default of 5 ms it would lose
# 100 ms beside a thread that holds the lock most of the time, as for a dear query or a new bundle.
_SWITCH_SECONDS = 0.0001

Args = TypeVarTuple("Args")
T = TypeVar("T")


class Service:
    """The service in one worker. Use ``async with`` while it answers requests."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.access = StoredUserAccess(key_of_environment(), public=settings.public)
        rate = settings.requests_per_second
        self.limiter = None if rate is None else RateLimiter(rate)
        self.connections = OpenConnections(settings.limits, settings.connections_per_client)
        self.log = AccessLog(requests=settings.access_log)
        self.metrics = ServiceMetrics(
            self._bundle_labels,
            lambda: self.live_bundle.problem,
            lambda: (self.feedback_writer.spool_size(), self.feedback_writer.spool_bytes),
        )
        self.live_bundle = LiveBundle(
            settings.serving,
            Blocklist.read(settings.blocklist),
            every_seconds=settings.reload_seconds,
            run_folder=settings.run_folder,
            reloaded=self.metrics.reload,
        )
        self._batcher = QueryBatcher(self._recommender, self.metrics.observe_batch)
        self._writer: ListWriter | None = None
        self._dear_batcher = QueryBatcher(self._recommender, self.metrics.observe_batch, dear=True)
        self.feedback_writer = FeedbackWriter(
            settings.lake,
            request_bytes=settings.limits.feedback_bytes,
            spool_bytes=feedback_settings(settings.lake).spool_bytes,
        )
        self.lists = ListReader(settings)
        # One thread: its work holds the interpreter lock most of the time, so a second one would not help.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="service")
        self._n_waiting = 0

    async def __aenter__(self) -> "Service":
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.live_bundle.start()
        # Everything alive now stays: garbage collection need not scan the imported modules again.
        gc.collect()
        gc.freeze()
        # Little of what a request makes is left to be collected: not after every few requests.
        gc.set_threshold(_GARBAGE, 10, 10)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.feedback_writer.close()
        self.lists.close()
        self.live_bundle.stop()
        self._batcher.close()
        self._dear_batcher.close()
        self._thread.shutdown()

    def ask(self, query: Query) -> "asyncio.Future[Answered]":
        """A future of the answer to a query. Raises Problem 503 if too many are waiting."""
        # In a large catalogue to find which songs pass a new filter takes as long as dozens of queries.
        dear = is_dear(query) or (
            query.filters is not None and self._recommender().ranker.is_new(query.filters)
        )
        if query.artists or query.not_artists:  # of which an index is built once
            dear = dear or not self._recommender().lookup.knows_artists
        return (self._dear_batcher if dear else self._batcher).ask(query)

    async def recommend(self, query: Query, request: Request) -> tuple[Recommender, Recommendations]:
        """The answer to a query that a request makes, charged to its client. Raises Problem 404 for an
        unknown user or filter, 422 for an option out of range, 503 if too many are waiting."""
        recommender, ranked = await self.ranked(query, request)
        return recommender, await self.described(recommender, ranked, request)

    async def described(self, recommender: Recommender, ranked: Ranked, request: Request) -> Recommendations:
        """What this recommender ranked for a request, with all that is known of the songs, which is charged
        too."""
        charge_request(request, len(ranked.best.indices) / _DESCRIBED_AS_A_QUERY)
        if len(ranked.best.indices) > _DESCRIBED_INLINE:
            (answer,) = await self.in_thread(recommender.described, [ranked])
        else:
            (answer,) = recommender.described([ranked])
        assert isinstance(answer, Recommendations)
        return answer

    def written(self, recommender: Recommender, ranked: Ranked) -> bytes:
        """An answer of this recommender as JSON."""
        if self._writer is None or self._writer.recommender is not recommender:
            self._writer = ListWriter(recommender)
        return self._writer.write(ranked)

    async def ranked(self, query: Query, request: Request) -> tuple[Recommender, Ranked]:
        """The same as `recommend`, not described yet."""
        charge_request(request, cost_of(query) - 1.0)
        recommender, answer = await self.ask(query)
        if isinstance(answer, InputError):
            bundle = recommender.bundle
            if query.user_id is not None and bundle.users.position(query.user_id) < 0:
                raise unknown_user(bundle.version)
            raise problem_of(answer)
        return recommender, answer

    async def in_thread(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run ``work`` in a thread while the event loop continues. Raises Problem 503 if too much waits."""
        if self._n_waiting >= _MOST_WAITING:
            raise unavailable("too many requests are waiting; try again in a second", retry_after=1)
        self._n_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        finally:
            self._n_waiting -= 1

    def _recommender(self) -> Recommender:
        return self.live_bundle.current.recommender

    def _bundle_labels(self) -> tuple[str, str] | None:
        served = self.live_bundle.served
        return None if served is None else (served.bundle_version, served.recommender.bundle.model_version)
