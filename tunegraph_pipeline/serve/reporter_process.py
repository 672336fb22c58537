"""The reporter as a service sees it: a process that is started when it is first asked, and ended when idle.

Here: starting, asking and ending it. Not here: what it answers (`orchestration.reporter`, where the form of
questions and answers is described). Its module is named, not imported, so that a service loads nothing of it.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tunegraph_pipeline.serve.access import KEY_VARIABLE
from tunegraph_pipeline.serve.access_log import note
from tunegraph_pipeline.serve.problem_details import Problem, unavailable

MODULE = "tunegraph_pipeline.orchestration.reporter"
_IDLE_SECONDS = 120.0
_ANSWER_SECONDS = 120.0
_END_SECONDS = 5.0
_MOST_WAITING = 16
_ENDED = (OSError, ValueError, asyncio.IncompleteReadError)
"""What is raised where the process has ended."""
_CONCERNS_LAKE = "the tables of the lake cannot be read at present"


class ReporterProcess:
    """Asks the reporter of the lake at ``lake``, one question after the other. For one event loop."""

    def __init__(self, lake: Path, blocklist: Path | None) -> None:
        self._arguments = [str(lake), *([] if blocklist is None else [str(blocklist)])]
        self._process: Process | None = None
        self._asking = asyncio.Lock()
        self._ending: asyncio.TimerHandle | None = None
        self._questions: set[asyncio.Task[bytes]] = set()
        self._closed = False

    async def ask(self, about: str, **arguments: Any) -> bytes:
        """The answer, JSON. Raises Problem: 404 for what the lake does not have, 503 where it cannot be read,
        or too many questions wait, 500 for a fault of the reporter."""
        if len(self._questions) >= _MOST_WAITING:
            raise unavailable("too many questions are waiting; try again in a second", retry_after=1)
        question = asyncio.get_running_loop().create_task(self._ask({"about": about, **arguments}))
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)
        # To the end, even if the client has gone: the next one must not get its answer.
        return await asyncio.shield(question)

    async def close(self) -> None:
        """End the process, if there is one, even over a question; no other is started."""
        self._closed = True
        await self._end()

    async def _ask(self, question: dict[str, Any]) -> bytes:
        async with self._asking:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    status, content = await self._answer(question)
            except TimeoutError:
                await self._end()
                raise unavailable(
                    f"{_CONCERNS_LAKE}: no answer within {_ANSWER_SECONDS:g} s", retry_after=30
                ) from None
            except _ENDED:
                await self._end()
                raise unavailable(
                    f"{_CONCERNS_LAKE}: the process that reads them ended; the log of the service says more",
                    retry_after=5,
                ) from None
            self._end_later()
        if status is HTTPStatus.OK:
            return content
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            raise unavailable(content.decode(), retry_after=5, name="unreadable-lake")
        raise Problem(status, content.decode())

    async def _answer(self, question: dict[str, Any]) -> tuple[HTTPStatus, bytes]:
        """The answer of the process, of a new one if that ends over it, as where somebody killed it."""
        if self._process is not None:
            with suppress(*_ENDED):
                return await self._exchange(question)
            await self._end()
        return await self._exchange(question)

    async def _exchange(self, question: dict[str, Any]) -> tuple[HTTPStatus, bytes]:
        if self._closed:
            raise BrokenPipeError("the service ends")
        if self._process is None:
            # A session of its own: Ctrl-C is for the service, which then ends it.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                env={name: value for name, value in os.environ.items() if name != KEY_VARIABLE},
                start_new_session=True,
            )
            note("the reporter has started")
        writer, reader = self._process.stdin, self._process.stdout
        assert writer is not None
        assert reader is not None
        if writer.is_closing():
            raise BrokenPipeError("the reporter was idle, and has ended")
        writer.write(json.dumps(question).encode() + b"\n")
        await writer.drain()
        status, length = (await reader.readline()).split()
        return HTTPStatus(int(status)), await reader.readexactly(int(length))

    def _end_later(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        # It ends with its input. The next question finds it ended, and starts another.
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if self._ending is not None:
            self._ending.cancel()
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # it ends with its input
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
