"""The open connections of one worker: how many there may be, and how long each may keep it waiting.

Here: whose connection makes room for a new one, and the round in which connections past their deadline are
ended. Not here: reading from a connection (`protocol`), or how often a client may ask (`rate_limit`).
"""

import asyncio
from collections import Counter
from typing import Protocol

from tunegraph_pipeline.serve.settings import Limits

_ROUNDS_PER_DEADLINE = 4
_LONGEST_ROUND = 1.0  # seconds
_LATE_AT_ONCE = 16
"""Connections ended at once, a few milliseconds' work; the others of a round wait for requests in between."""
_PAUSE_SECONDS = 0.005


class Connection(Protocol):
    """What is asked of a connection."""

    client_name: str
    """Whose it is, for the limit of each client."""

    def end_if_late(self, now: float) -> bool:
        """End the connection if a deadline has passed, by the time of the event loop; whether one has."""

    def make_room(self) -> None:
        """End the connection, because another one needs its place."""

    def turn_away(self) -> None:
        """End the connection, because there is no place for it."""


class OpenConnections:
    """All open connections of a worker, at most ``limits.connections``.

    When there are as many, a new one takes the place of the one that has kept the service waiting for the
    rest of a request for the longest time, and otherwise of the one that has been idle for the longest. So
    connections that never finish a request cannot keep out others. A connection whose request is being
    answered never makes room; if all are, the new one is turned away. The same applies to the connections of
    one client, of which ``per_client`` may be open (None: any number).

    What arrived of unfinished requests has to wait in memory, of which there is ``limits.unfinished_bytes``:
    beyond it, too, the one that has kept the service waiting for the longest time is ended.
    """

    def __init__(self, limits: Limits, per_client: int | None) -> None:
        self._most = limits.connections
        self._per_client = per_client
        shortest = min(limits.head_seconds, limits.body_seconds, limits.write_seconds)
        self._round = min(_LONGEST_ROUND, shortest / _ROUNDS_PER_DEADLINE)
        # Dictionaries, because they remember the order: the first one has waited for the longest time.
        self._open: dict[Connection, None] = {}
        self._unfinished: dict[Connection, int] = {}  # with the bytes that arrived
        self._bytes = 0  # of all of them
        self._most_bytes = limits.unfinished_bytes
        self._idle: dict[Connection, None] = {}
        self._of_client: Counter[str] = Counter()
        self._next_round: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Take in a new connection, or turn it away."""
        client = connection.client_name
        if self._per_client is not None and self._of_client[client] >= self._per_client:
            placed = self._makes_room(client)
        else:
            placed = len(self._open) < self._most or self._makes_room(None)
        self._open[connection] = None
        self._of_client[client] += 1
        if not placed:
            connection.turn_away()
            return
        self._unfinished[connection] = 0
        if self._next_round is None:
            self._next_round = loop.call_later(self._round, self._end_late_ones, loop)

    def closed(self, connection: Connection) -> None:
        if self._open.pop(connection, self) is self:
            return  # it made room before
        self.busy(connection)
        self._of_client[connection.client_name] -= 1
        if not self._of_client[connection.client_name]:
            del self._of_client[connection.client_name]

    def unfinished(self, connection: Connection, size: int) -> None:
        """The connection has begun a request, of which ``size`` bytes wait for the others."""
        self._idle.pop(connection, None)
        self._bytes += size - self._unfinished.get(connection, 0)
        self._unfinished[connection] = size
        while self._bytes > self._most_bytes:
            self._end(next(iter(self._unfinished)))

    def busy(self, connection: Connection) -> None:
        """Its request has arrived, and is being answered."""
        self._idle.pop(connection, None)
        self._bytes -= self._unfinished.pop(connection, 0)

    def idle(self, connection: Connection) -> None:
        """All of its requests were answered."""
        self._idle[connection] = None

    def _makes_room(self, client: str | None) -> bool:
        """End the connection, of that client if one is given, which may go first. False if there is none."""
        for waiting in (self._unfinished, self._idle):
            for connection in waiting:
                if client is None or connection.client_name == client:
                    self._end(connection)
                    return True
        return False

    def _end(self, connection: Connection) -> None:
        self.closed(connection)
        connection.make_room()

    def _end_late_ones(self, loop: asyncio.AbstractEventLoop, left: list[Connection] | None = None) -> None:
        """Look at those ``left`` of a round, or at all in a new one, until enough were ended at once."""
        now, ended = loop.time(), 0
        left = left or list(reversed(self._open))
        while left and ended < _LATE_AT_ONCE:
            connection = left.pop()
            if connection in self._open:
                ended += connection.end_if_late(now)
        pause = _PAUSE_SECONDS if left else self._round
        self._next_round = loop.call_later(pause, self._end_late_ones, loop, left) if self._open else None
