"""Micro-batching: to everybody their own answer, together where they wait together; faults stay apart."""

import asyncio
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.recommender import Query, Ranked, Recommender
from tunegraph_pipeline.serve import batching
from tunegraph_pipeline.serve.batching import MOST_QUERIES, QueryBatcher, is_dear
from tunegraph_pipeline.serve.problem_details import Problem

QUERIES = [Query(likes=[f"track{track:017d}"], k=1 + track % 5) for track in range(150)]


class Watched(Recommender):
    """A recommender that keeps the sizes of its batches and the threads they ran in; it fails where told."""

    def __init__(self, bundle: Bundle, poison: str = "") -> None:
        super().__init__(bundle)
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.poison = poison

    def ranked(self, queries: Sequence[Query]) -> list[Ranked | InputError]:
        self.sizes.append(len(queries))
        self.threads.add(threading.current_thread().name)
        if any(self.poison in query.likes for query in queries):
            raise RuntimeError("poisoned")
        return super().ranked(queries)


@pytest.fixture
def bundle(serving_lake: Path) -> Bundle:
    return Bundle.open(serving_lake / "serving" / "v1")


def asked(recommender: Recommender, queries: Sequence[Query], *, seconds_each: float = 0.0001) -> list[Any]:
    """The answers to queries that wait at the same time, exceptions among them."""

    async def ask() -> list[Any]:
        batcher = QueryBatcher(lambda: recommender, lambda _size: None)
        batcher._seconds_each = seconds_each
        futures = [batcher.ask(query) for query in queries]
        try:
            return await asyncio.gather(*futures, return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("seconds_each", [0.00001, 0.001, 10.0])
def test_everybody_gets_the_answer_they_would_get_alone(bundle: Bundle, seconds_each: float) -> None:
    recommender = Watched(bundle)
    answers = asked(recommender, QUERIES, seconds_each=seconds_each)
    alone = Recommender(bundle)
    described = recommender.described([found.answer for found in answers])
    assert described == [alone.answer([query])[0] for query in QUERIES]
    assert all(found.recommender is recommender for found in answers)
    assert sum(recommender.sizes) == len(QUERIES)
    assert max(recommender.sizes) <= MOST_QUERIES
    assert len(recommender.sizes) < len(QUERIES)


def test_quick_batches_run_on_the_loop_and_slow_ones_beside_it(bundle: Bundle) -> None:
    quick, slow = Watched(bundle), Watched(bundle)
    asked(quick, QUERIES[:5], seconds_each=0.0001)
    asked(slow, QUERIES[:5], seconds_each=10.0)
    assert quick.threads == {threading.main_thread().name}
    assert all(name.startswith("queries") for name in slow.threads)


def test_the_loop_goes_on_while_a_slow_batch_runs(bundle: Bundle) -> None:
    class Slow(Watched):
        def ranked(self, queries: Sequence[Query]) -> list[Ranked | InputError]:
            assert ticked.wait(10)
            return super().ranked(queries)

    ticked = threading.Event()
    recommender = Slow(bundle)

    async def ask() -> int:
        batcher = QueryBatcher(lambda: recommender, lambda _size: None)
        batcher._seconds_each = 10.0
        answer = batcher.ask(QUERIES[0])
        for _ in range(5):
            await asyncio.sleep(0)
        ticked.set()
        found = await answer
        batcher.close()
        assert isinstance(found.answer, Ranked)
        return len(found.answer.best.indices)

    assert asyncio.run(ask()) == QUERIES[0].k


@pytest.mark.parametrize("seconds_each", [0.0001, 10.0])
def test_a_fault_hits_only_the_query_that_has_it(bundle: Bundle, seconds_each: float) -> None:
    poison = QUERIES[3].likes[0]
    answers = asked(Watched(bundle, poison), QUERIES[:8], seconds_each=seconds_each)
    assert [type(found).__name__ for found in answers] == [
        "RuntimeError" if at == 3 else "Answered" for at in range(8)
    ]


def test_an_error_of_one_query_is_its_answer(bundle: Bundle) -> None:
    answers = asked(Recommender(bundle), [Query(user_id="nobody"), QUERIES[0]])
    assert isinstance(answers[0].answer, InputError)
    assert isinstance(answers[1].answer, Ranked)


def test_who_is_gone_is_not_computed_for(bundle: Bundle) -> None:
    recommender = Watched(bundle)

    async def ask() -> None:
        batcher = QueryBatcher(lambda: recommender, lambda _size: None)
        futures = [batcher.ask(query) for query in QUERIES[:4]]
        futures[1].cancel()
        futures[2].cancel()
        await asyncio.gather(futures[0], futures[3])
        batcher.close()

    asyncio.run(ask())
    assert recommender.sizes == [2]


def test_where_too_many_wait_the_next_is_told_to_come_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_MOST_WAITING", 3)

    async def ask() -> None:
        batcher = QueryBatcher(lambda: Recommender(bundle), lambda _size: None)
        waiting = [batcher.ask(query) for query in QUERIES[:3]]
        with pytest.raises(Problem, match="too many requests are waiting") as refused:
            batcher.ask(QUERIES[3])
        assert refused.value.status == 503
        await asyncio.gather(*waiting)
        assert (await batcher.ask(QUERIES[3])).answer
        batcher.close()

    asyncio.run(ask())


def test_where_nothing_is_served_everybody_is_told_so_and_the_next_are_asked_again(bundle: Bundle) -> None:
    async def ask() -> None:
        served: list[Recommender] = []

        def current() -> Recommender:
            if not served:
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "no bundle")
            return served[0]

        batcher = QueryBatcher(current, lambda _size: None)
        refused = await asyncio.gather(*map(batcher.ask, QUERIES[:70]), return_exceptions=True)
        assert all(isinstance(found, Problem) for found in refused)
        served.append(Recommender(bundle))
        assert isinstance((await batcher.ask(QUERIES[0])).answer, Ranked)
        batcher.close()

    asyncio.run(ask())


def test_what_costs_as_much_as_many_is_dear() -> None:
    ids = [str(number) for number in range(2_000)]
    for usual in (Query(likes=ids[:300]), Query(k=500), Query(k=30, diversity=0.3, likes=ids[:50])):
        assert not is_dear(usual)
    for dear in (Query(likes=ids, dislikes=ids), Query(k=500, diversity=0.1), Query(likes=ids, k=500)):
        assert is_dear(dear)


def test_dear_queries_are_answered_one_at_a_time_and_few_may_wait(bundle: Bundle) -> None:
    recommender = Watched(bundle)

    async def ask() -> list[Any]:
        batcher = QueryBatcher(lambda: recommender, lambda _size: None, dear=True)
        futures = [batcher.ask(query) for query in QUERIES[:16]]
        with pytest.raises(Problem) as refused:
            batcher.ask(QUERIES[16])
        assert (refused.value.status, refused.value.name) == (HTTPStatus.SERVICE_UNAVAILABLE, "busy")
        found = await asyncio.gather(*futures)
        batcher.close()
        return found

    assert len(asyncio.run(ask())) == 16
    assert recommender.sizes == [1] * 16
    assert threading.current_thread().name not in recommender.threads
