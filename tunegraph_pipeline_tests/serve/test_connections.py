"""Whose connection makes room for another, and when one is late."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from tunegraph_pipeline.serve.connections import OpenConnections
from tunegraph_pipeline.serve.settings import Limits
from tunegraph_pipeline_tests.serve.conftest import track_id


class Fake:
    """A connection that notes what became of it."""

    def __init__(self, client_name: str = "a", *, late: bool = False) -> None:
        self.client_name = client_name
        self.became = "open"
        self.late = late

    def end_if_late(self, now: float) -> bool:
        self.became = "ended" if self.late else "looked at"
        return self.late

    def make_room(self) -> None:
        self.became = "made room"

    def turn_away(self) -> None:
        self.became = "turned away"


def with_loop(test: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    async def run() -> None:
        test(asyncio.get_running_loop())

    asyncio.run(run())


def opened(
    most: int, clients: str, loop: asyncio.AbstractEventLoop, per_client: int | None = None
) -> tuple[OpenConnections, list[Fake]]:
    connections = OpenConnections(Limits(connections=most), per_client)
    fakes = [Fake(client) for client in clients]
    for fake in fakes:
        connections.opened(fake, loop)
    return connections, fakes


def test_who_has_not_finished_a_request_for_the_longest_time_goes_first_then_who_is_idle() -> None:
    def check(loop: asyncio.AbstractEventLoop) -> None:
        connections, (busy, idle, early, late) = opened(4, "aaaa", loop)
        connections.busy(busy)
        connections.busy(idle)
        connections.idle(idle)
        newer = [Fake() for _ in range(4)]
        for number, gone in enumerate((early, late)):
            connections.opened(newer[number], loop)
            connections.busy(newer[number])
            assert gone.became == "made room"
        connections.opened(newer[2], loop)
        connections.busy(newer[2])
        assert (idle.became, busy.became) == ("made room", "open")
        connections.opened(newer[3], loop)
        assert (newer[3].became, busy.became) == ("turned away", "open")
        for fake in (early, late, idle, newer[3]):
            connections.closed(fake)  # as when the transport is closed
        assert len(connections) == 4

    with_loop(check)


def test_a_client_with_many_connections_makes_room_itself() -> None:
    def check(loop: asyncio.AbstractEventLoop) -> None:
        connections, fakes = opened(100, "abaa", loop, per_client=2)
        assert [fake.became for fake in fakes] == ["made room", "open", "open", "open"]
        assert len(connections) == 3

    with_loop(check)


def test_what_waits_of_unfinished_requests_has_a_limit_and_the_longest_wait_ends() -> None:
    def check(loop: asyncio.AbstractEventLoop) -> None:
        limits = Limits(unfinished_bytes=2**20)
        connections = OpenConnections(limits, None)
        early, done, gone, late = fakes = [Fake() for _ in range(4)]
        for fake in fakes:
            connections.opened(fake, loop)
            connections.unfinished(fake, 2**18)
        connections.unfinished(early, 2**18)  # nothing new
        assert [fake.became for fake in fakes] == ["open"] * 4
        connections.busy(done)
        connections.closed(gone)
        connections.unfinished(late, 3 * 2**18)  # in place of the two
        assert (early.became, late.became) == ("open", "open")
        connections.unfinished(late, 3 * 2**18 + 1)
        assert [early.became, done.became, late.became] == ["made room", "open", "open"]

    with_loop(check)


class Stepping:
    """An event loop of which each step is taken by hand."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, call: Callable[..., None], *arguments: object) -> object:
        self.steps.append((delay, partial(call, *arguments)))
        return self.steps[-1]

    def step(self) -> float:
        """Take the step that is due; after how many seconds the next one is."""
        self.steps.pop()[1]()
        return self.steps[0][0]


def test_many_late_connections_are_ended_a_few_at_a_time_and_each_is_looked_at_once_a_round() -> None:
    loop = Stepping()
    connections = OpenConnections(Limits(), None)
    fakes = [Fake(late=True) for _ in range(40)] + [Fake() for _ in range(1_000)]
    for fake in fakes:
        connections.opened(fake, cast(asyncio.AbstractEventLoop, loop))
    ended = []
    for _ in range(3):
        pause = loop.step()
        ended.append(sum(fake.became == "ended" for fake in fakes))
        if len(ended) == 1:
            assert pause < 0.1
            connections.closed(fakes[-1])  # meanwhile, and so it is not looked at
    assert ended == [16, 32, 40]
    assert pause == 1.0
    assert [fake.became for fake in fakes[40:]] == ["looked at"] * 999 + ["open"]


def test_rounds_go_on_while_connections_are_open() -> None:
    async def run() -> None:
        connections = OpenConnections(Limits(head_seconds=0.01), None)
        fake = Fake()
        connections.opened(fake, asyncio.get_running_loop())
        while fake.became != "looked at":
            await asyncio.sleep(0.005)
        connections.closed(fake)
        assert len(connections) == 0

    asyncio.run(asyncio.wait_for(run(), 20))


_REQUESTS_LEFT = """
import gc, http.client, json, sys, threading, time
from pathlib import Path

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tunegraph_pipeline.serve.app import create_app
from tunegraph_pipeline.serve.settings import ServiceSettings

app = create_app(ServiceSettings(lake=Path(sys.argv[1]), access_log=False))
protocol = "tunegraph_pipeline.serve.protocol:Protocol"
server = Server(Config(app, port=0, http=protocol, log_config=None, proxy_headers=False))
thread = threading.Thread(target=server.run, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.02)
gc.disable()
port = server.servers[0].sockets[0].getsockname()[1]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
json_body = {"content-type": "application/json"}
for _ in range(20):
    connection.request("POST", "/recommendations", json.dumps({"likes": [sys.argv[2]]}), json_body)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
print(sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects()))
connection.close()
server.should_exit = True
thread.join()
"""


def test_an_answered_request_leaves_nothing_for_garbage_collection(serving_lake: Path) -> None:
    command = [sys.executable, "-c", _REQUESTS_LEFT, str(serving_lake), track_id(1)]
    left = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(left) <= 2  # the connection keeps its last one
