"""Asking the reporter: whose answer is whose, and what is said when it is slow, idle or gone.

A stand-in answers here, as it is told by the question. The real one is asked in `test_operator`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tunegraph_pipeline.serve import reporter_process
from tunegraph_pipeline.serve.access import KEY_VARIABLE
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.reporter_process import ReporterProcess

STAND_IN = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    time.sleep(asked.get("seconds", 0))
    if asked["about"] == "die" and not os.path.exists(asked["unless"]):
        open(asked["unless"], "w").close()
        os._exit(1)
    if asked["about"] == "never":
        os._exit(1)
    who = " has the key" if "TUNEGRAPH_API_KEY" in os.environ else ""
    text = asked.get("text", "") or f"{os.getpid()}{who}"
    sys.stdout.write(f"{asked.get('status', 200)} {len(text)}\\n{text}")
    sys.stdout.flush()
"""
Ask = Callable[[Callable[[ReporterProcess], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a coroutine function over a reporter, in a loop as a service has it."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(KEY_VARIABLE, "a key of sixteen characters")
    monkeypatch.setattr(reporter_process, "MODULE", "stand_in")

    def asking(test: Callable[[ReporterProcess], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            process = ReporterProcess(tmp_path, None)
            try:
                await test(process)
            finally:
                await process.close()

        uvloop.run(whole())

    return asking


async def refused(answer: Awaitable[bytes]) -> Problem:
    with pytest.raises(Problem) as problem:
        await answer
    return problem.value


def test_one_process_answers_all_in_order_and_has_no_key(reporter: Ask) -> None:
    async def test(process: ReporterProcess) -> None:
        first = await process.ask("pid")
        assert first.decode().isdigit()
        asked = [process.ask("text", text=str(number), seconds=0.01 * (3 - number)) for number in range(3)]
        assert await asyncio.gather(*asked) == [b"0", b"1", b"2"]
        assert await process.ask("pid") == first
        missing = await refused(process.ask("text", text="there is no such user", status=404))
        assert (int(missing.status), missing.detail) == (404, "there is no such user")
        unreadable = await refused(process.ask("text", text="a table is damaged", status=503))
        assert (int(unreadable.status), unreadable.name) == (503, "unreadable-lake")

    reporter(test)


def test_nobody_gets_the_answer_to_what_a_client_no_longer_waits_for(reporter: Ask) -> None:
    async def test(process: ReporterProcess) -> None:
        await process.ask("pid")
        gone = asyncio.ensure_future(process.ask("text", text="of the one who left", seconds=0.2))
        await asyncio.sleep(0.05)
        gone.cancel()
        assert await process.ask("text", text="mine") == b"mine"

    reporter(test)


def test_too_many_questions_and_one_that_takes_too_long_are_refused(
    reporter: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_process, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(reporter_process, "_END_SECONDS", 0.1)

    async def test(process: ReporterProcess) -> None:
        late = await refused(process.ask("text", text="late", seconds=30))
        assert int(late.status) == 503
        assert "no answer within 0.3 s" in late.detail
        monkeypatch.setattr(reporter_process, "_ANSWER_SECONDS", 60)
        waiting = [asyncio.ensure_future(process.ask("pid")) for _ in range(16)]
        await asyncio.sleep(0)
        many = await refused(process.ask("pid"))
        assert "too many questions are waiting" in many.detail
        assert len(set(await asyncio.gather(*waiting))) == 1

    reporter(test)


def test_one_that_died_or_was_idle_is_replaced_unless_it_dies_of_the_question(
    reporter: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(process: ReporterProcess) -> None:
        first = await process.ask("pid")
        second = await process.ask("die", unless=str(tmp_path / "died"))
        assert second != first
        fatal = await refused(process.ask("never"))
        assert int(fatal.status) == 503
        assert "the process that reads them ended" in fatal.detail
        monkeypatch.setattr(reporter_process, "_IDLE_SECONDS", 0.01)
        third = await process.ask("pid")
        await asyncio.sleep(0.2)
        assert await process.ask("pid") != third

    reporter(test)


def test_a_service_that_ends_ends_it_over_a_question_and_starts_no_other(
    reporter: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_process, "_END_SECONDS", 0.1)

    async def test(process: ReporterProcess) -> None:
        await process.ask("pid")
        asked = asyncio.ensure_future(process.ask("text", text="late", seconds=30))
        await asyncio.sleep(0.05)
        await process.close()
        assert int((await refused(asked)).status) == 503
        assert int((await refused(process.ask("pid"))).status) == 503

    reporter(test)
