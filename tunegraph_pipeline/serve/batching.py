"""Micro-batching: queries that wait at the same time are answered by one matrix product.

Here: gathering queries, when a batch runs, and how large it may be. Not here: the answer (`recommend`).

There is no timer: a query that arrives alone is answered at once. Queries that arrive while a batch is being
computed form the next batch. A query takes a fraction of a millisecond, less than handing it to a thread, so
batches run on the event loop. Batches expected to take longer, as over a huge catalogue without an index, run
in a thread, one at a time, while the loop keeps gathering.

A query with thousands of ids, or for hundreds of songs that have to differ, takes as long as dozens of
others. Such dear queries have a batcher of their own, so that no other query waits for one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import thread_time
from typing import NamedTuple

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.recommender import SONGS_OF_AN_ARTIST, Query, Ranked, Recommender
from tunegraph_pipeline.serve.problem_details import Problem, unavailable

MOST_QUERIES = 64
_MOST_WAITING = 1_024
_BATCH_SECONDS = 0.008  # target duration of a batch, for which all queries behind it wait
_MIN_BATCH = 8  # cheaper together than one by one, however long they take
_INLINE_SECONDS = 0.02  # batches expected to take longer run in a thread
_MOST_DEAR_WAITING = 16
_DEAR = 4.0  # times as much as a usual query
_FIRST_GUESS = 0.0005
_SMOOTHING = 0.2


def cost_of(query: Query) -> float:
    """How many usual queries, of a few likes and songs, cost about as much as this one."""
    listed = len(query.likes) + len(query.dislikes) + len(query.exclude)
    listed += SONGS_OF_AN_ARTIST * (len(query.artists) + len(query.not_artists))
    return 1.0 + listed / 1_000 + query.k / 250 + (query.k / 20 if query.diversity > 0 else 0.0)


def is_dear(query: Query) -> bool:
    """Whether a query is one for the batcher of dear ones."""
    return cost_of(query) > _DEAR


class Answered(NamedTuple):
    """An answer, not described yet, or the error of an invalid query, and the recommender that gave it."""

    recommender: Recommender
    answer: Ranked | InputError


class QueryBatcher:
    """Answers queries in batches, within one event loop.

    ``current`` returns the recommender to use, or raises Problem if there is none. ``observe`` is called with
    the size of each batch. ``dear``: its queries are, so each is answered alone in a thread, and few wait.
    """

    def __init__(
        self,
        current: Callable[[], Recommender],
        observe: Callable[[float], None],
        *,
        dear: bool = False,
    ) -> None:
        self._dear = dear
        self._most_waiting = _MOST_DEAR_WAITING if dear else _MOST_WAITING
        self._current = current
        self._observe = observe
        self._waiting: deque[tuple[Query, asyncio.Future[Answered]]] = deque()
        self._running = False
        self._seconds_each = _FIRST_GUESS
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queries")

    def ask(self, query: Query) -> "asyncio.Future[Answered]":
        """A future of the answer. Raises Problem 503 if too many queries are waiting."""
        if len(self._waiting) >= self._most_waiting:
            raise unavailable("too many requests are waiting; try again in a second", retry_after=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answered] = loop.create_future()
        self._waiting.append((query, future))
        if not self._running:
            self._running = True
            # Not at once, but after the loop has read again: queries that came along with this one join its
            # batch, and those of clients who have just had an answer. A query alone waits microseconds.
            loop.call_soon(loop.call_soon, self._run)
        return future

    def close(self) -> None:
        self._thread.shutdown()

    def _run(self) -> None:
        fitting = min(MOST_QUERIES, max(_MIN_BATCH, int(_BATCH_SECONDS / self._seconds_each)))
        most = 1 if self._dear else fitting
        batch: list[tuple[Query, asyncio.Future[Answered]]] = []
        while self._waiting and len(batch) < most:
            query, future = self._waiting.popleft()
            if not future.done():  # the client may have disconnected
                batch.append((query, future))
        if not batch:
            self._running = False
            return
        try:
            recommender = self._current()
        except Problem as problem:
            for _, future in batch:
                future.set_exception(problem)
            self._run_next()
            return
        queries = [query for query, _ in batch]
        if not self._dear and self._seconds_each * len(batch) <= _INLINE_SECONDS:
            self._finish(recommender, batch, *_timed_answers(recommender, queries))
            return
        job = asyncio.get_running_loop().run_in_executor(self._thread, _timed_answers, recommender, queries)
        job.add_done_callback(lambda done: self._finish(recommender, batch, *done.result()))

    def _finish(
        self,
        recommender: Recommender,
        batch: Sequence[tuple[Query, "asyncio.Future[Answered]"]],
        answers: Sequence[Ranked | InputError | Exception],
        seconds: float,
    ) -> None:
        self._seconds_each += _SMOOTHING * (seconds / len(batch) - self._seconds_each)
        self._observe(len(batch))
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception) and not isinstance(answer, InputError):
                future.set_exception(answer)
            else:
                future.set_result(Answered(recommender, answer))
        self._run_next()

    def _run_next(self) -> None:
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        else:
            self._running = False


def _timed_answers(
    recommender: Recommender, queries: Sequence[Query]
) -> tuple[Sequence[Ranked | InputError | Exception], float]:
    """An answer or an error for each query, and the seconds that all of them took of the processor: not what
    other programs took meanwhile, for which no thread would help."""
    started = thread_time()
    answers: Sequence[Ranked | InputError | Exception]
    try:
        answers = recommender.ranked(queries)
    except Exception:  # noqa: BLE001  # retried one by one, so that only the query at fault fails
        answers = [_answer_or_error(recommender, query) for query in queries]
    return answers, thread_time() - started


def _answer_or_error(recommender: Recommender, query: Query) -> Ranked | InputError | Exception:
    try:
        return recommender.ranked([query])[0]
    except Exception as error:  # noqa: BLE001  # raised again by the request that waits for it
        return error
