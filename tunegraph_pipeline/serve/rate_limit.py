"""The rate limit: a token bucket per client, in bounded memory.

Here: the buckets, and which requests count as one client's. Not here: the response to a client over its limit
(`middleware`).
"""

import ipaddress
from collections import OrderedDict
from math import ceil
from typing import NamedTuple

MOST_CLIENTS = 20_000
_BURST_SECONDS = 2.0
_UNKNOWN = "unknown"


class _Bucket(NamedTuple):
    tokens: float
    at: float


class RateLimiter:
    """Allows each client ``per_second`` requests a second, and a burst of twice as many after a pause. A
    request that costs as much as several counts as several.

    Only the ``most_clients`` seen last are remembered. A forgotten client starts with a full bucket, which it
    would have after two seconds anyway.
    """

    def __init__(self, per_second: float, most_clients: int = MOST_CLIENTS) -> None:
        self._rate = per_second
        self._capacity = max(1.0, per_second * _BURST_SECONDS)
        self._most = most_clients
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_of(self, client: str, now: float, cost: float = 1.0) -> int:
        """Count a request of ``client`` at ``now`` (seconds of any steady clock).

        Returns 0 if it is allowed, else the whole seconds until the next one is. A client who has a token
        may use more than it has, and waits longer for the next. A refused request uses none.
        """
        last = self._buckets.get(client)
        tokens = self._capacity
        if last is not None:
            tokens = min(self._capacity, last.tokens + max(0.0, now - last.at) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[client] = _Bucket(tokens - cost if allowed else tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, ceil((1.0 - tokens) / self._rate))

    def charge(self, client: str, cost: float) -> None:
        """Take tokens for a request that was allowed and turned out to cost more."""
        last = self._buckets.get(client)
        if last is not None:
            self._buckets[client] = last._replace(tokens=last.tokens - cost)

    def __len__(self) -> int:
        return len(self._buckets)


def client_of(peer: str | None, forwarded_for: list[bytes], proxies: int) -> str:
    """The client of a request: the address of the connection, or the one that the outermost own proxy saw.

    Each proxy appends the address it was called from to X-Forwarded-For, so with ``proxies`` own proxies, the
    client is the entry that many places from the end; the client may have forged the entries before it. An
    IPv6 client is identified by its /64, which is what one subscriber gets. Some proxies write a port behind
    the address (``1.2.3.4:5678``, ``[2001:db8::1]:5678``), which differs from connection to connection and is
    left out.
    """
    if proxies:
        entries = [part.strip() for value in forwarded_for for part in value.decode("latin-1").split(",")]
        if len(entries) >= proxies:
            peer = entries[-proxies]
    if not peer:
        return _UNKNOWN
    if peer.startswith("["):
        peer = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        peer = peer.partition(":")[0]
    if ":" not in peer:
        return peer[:64] or _UNKNOWN
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer[:64]
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
