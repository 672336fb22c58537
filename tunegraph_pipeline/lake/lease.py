"""One writer of a lake in an object store: a lease that its holder renews, with a token that only grows.

Here: taking, renewing and releasing the lease, and noticing that it was lost. Not here: what the token keeps
a former holder from (`snapshots`), or the lock among the processes of one machine (`lock`).

    LEASE    {"token": 7, "holder": {…} or null, "ttl": 30.0, "expires": "…", "beat": "…"}

The object is created once and swapped by its tag from then on, never deleted, so that its token never begins
again. A holder changes it every third of the TTL. Who waits takes it over after it has not changed for a
whole TTL by the waiting machine's own clock: no two clocks are compared; ``expires`` is for people to read.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lock import WAITED_SECONDS
from tunegraph_pipeline.lake.object_store import GoneError, ObjectStore, StoreError, TakenError

LEASE = "LEASE"
TTL_VARIABLE = "TUNEGRAPH_LEASE_SECONDS"
_TTL = 30.0


def lease_seconds() -> float:
    """For how long a holder that does not renew its lease keeps it. Raises InputError."""
    given = os.environ.get(TTL_VARIABLE)
    try:
        seconds = _TTL if given is None else float(given)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise InputError(f"{TTL_VARIABLE}={given}: give seconds, from 0.5 to 3600")
    return seconds


class Lease:
    """The lease of a lake, held by this process and renewed by a thread until :meth:`release`.

    ``token`` is greater than that of every earlier holder. ``died`` says who held it before and died.
    """

    def __init__(self, store: ObjectStore, node: str, purpose: str) -> None:
        self._store = store
        self._ttl = lease_seconds()
        self._holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "purpose": purpose,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "node": node,
        }
        self._guard = threading.Lock()
        self._released = threading.Event()
        self._renewed = time.monotonic()
        self._lost: str | None = None
        self._tag = ""
        self.token = 0
        self.died: str | None = None

    @classmethod
    def take(
        cls,
        store: ObjectStore,
        node: str,
        purpose: str,
        wait_seconds: float = 0.0,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> "Lease":
        """Take the lease. ``node`` names the cache of this machine, whose lock this process holds: an earlier
        holder of that lock has died.

        While it waits, ``on_wait`` is called with who holds it, at once and then every minute. Raises
        LakeError naming the holder where the lease is not free within ``wait_seconds``; whether a silent
        holder lives is found out first, which takes up to a TTL. Raises StoreError.
        """
        lease = cls(store, node, purpose)
        began = time.monotonic()
        told: float | None = None
        seen: tuple[str, float] | None = None
        lives = False
        while True:
            found = lease._read()
            if found is None or (holder := found[0]["holder"]) is None or lease._is_dead_here(holder):
                if lease._swap_in(found):
                    break
                continue
            document, tag = found
            now = time.monotonic()
            if seen is None or seen[0] != tag:
                lives = lives or seen is not None
                seen = (tag, now)
            if now - seen[1] >= max(float(document["ttl"]), 0.5):
                if lease._swap_in(found):
                    break
                continue
            who = _describe(holder)
            if lives and now - began >= wait_seconds:
                raise LakeError(f"{store.address.url} is being written by {who}; wait for it and try again")
            if told is None or now - told >= WAITED_SECONDS:
                on_wait(who)
                told = now
            time.sleep(min(1.0, lease._ttl / 10))
        threading.Thread(target=lease._keep, name="lease", daemon=True).start()
        return lease

    def _read(self) -> tuple[dict[str, Any], str] | None:
        try:
            data, tag = self._store.read(LEASE)
        except GoneError:
            return None
        try:
            said = json.loads(data)
            said["token"], said["holder"], said["ttl"] = (
                int(said["token"]),
                said["holder"],
                float(said["ttl"]),
            )
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{self._store.address.url}/{LEASE} is not a lease of a lake; choose another --lake"
            ) from None
        return said, tag

    def _is_dead_here(self, holder: dict[str, Any]) -> bool:
        return (holder.get("node"), holder.get("host")) == (self._holder["node"], self._holder["host"])

    def _swap_in(self, found: tuple[dict[str, Any], str] | None) -> bool:
        """Take what was found, unless somebody else was faster."""
        self.token = 1 + (0 if found is None else found[0]["token"])
        content = self._content(self._holder)
        try:
            if found is None:
                self._tag = self._store.create(LEASE, content)
            else:
                self._tag = self._store.swap(LEASE, content, found[1])
        except TakenError:
            if (now := self._read()) is None or self._bytes(now[0]) != content:
                return False
            self._tag = now[1]  # it was taken here, and the answer was lost
        self._renewed = time.monotonic()
        if found is not None and (holder := found[0]["holder"]) is not None:
            self.died = _describe(holder)
        return True

    def _content(self, holder: dict[str, Any] | None) -> bytes:
        expires = datetime.now(UTC) + timedelta(seconds=self._ttl)
        return self._bytes(
            {
                "token": self.token,
                "holder": holder,
                "ttl": self._ttl,
                "expires": expires.isoformat(timespec="seconds"),
                "beat": uuid.uuid4().hex,
            }
        )

    @staticmethod
    def _bytes(document: dict[str, Any]) -> bytes:
        return json.dumps(document, sort_keys=True).encode()

    def _keep(self) -> None:
        while not self._released.wait(self._ttl / 3):
            with suppress(StoreError):  # tried again; `check` says so once it is too late
                self._renew(self._holder)
            if self._lost is not None:
                return

    def _renew(self, holder: dict[str, Any] | None) -> None:
        with self._guard:
            if self._lost is not None:
                return
            content = self._content(holder)
            try:
                self._tag = self._store.swap(LEASE, content, self._tag)
            except TakenError:
                now = self._read()
                if now is None or self._bytes(now[0]) != content:
                    other = None if now is None else now[0]["holder"]
                    self._lost = "another writer" if other is None else _describe(other)
                    return
                self._tag = now[1]
            self._renewed = time.monotonic()

    def check(self) -> None:
        """Raise LakeError where this process has lost the lease, or could not renew it."""
        if self._lost is None and time.monotonic() - self._renewed > self._ttl / 2:
            self._renew(self._holder)
        if self._lost is not None:
            raise self.lost_error()

    def raise_token(self, least: int) -> None:
        """Hold the lease with a token of at least ``least``, where an operator removed the object and tokens
        began again. Raises LakeError where the lease was lost."""
        self.token = max(self.token, least)
        self._renew(self._holder)
        self.check()

    def lost_error(self) -> LakeError:
        """The error of a holder that was taken over."""
        by = f" by {self._lost}" if self._lost else ""
        return LakeError(
            f"{self._store.address.url} was taken over{by}, since this process did not renew its lease in"
            " time; what it did since its last finished step is not in the lake: run the same command again"
        )

    def release(self) -> None:
        """Let others have the lease, unless it was lost. Raises StoreError."""
        self._released.set()
        self._renew(None)


def _describe(holder: dict[str, Any]) -> str:
    try:
        return f"{holder['purpose']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except KeyError:
        return "another process"
