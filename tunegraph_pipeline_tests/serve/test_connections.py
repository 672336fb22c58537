"""Whose connection makes room for another, and when one is late."""

import asyncio
from collections.abc import Callable

from tunegraph_pipeline.serve.connections import OpenConnections
from tunegraph_pipeline.serve.settings import Limits


class Fake:
    """A connection that notes what became of it."""

    def __init__(self, client_name: str = "a") -> None:
        self.client_name = client_name
        self.became = "open"

    def end_if_late(self, now: float) -> None:
        self.became = "looked at"

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
