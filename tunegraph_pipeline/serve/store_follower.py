"""Follow a lake in an object store while a service runs.

Here: one thread a service, which brings the cache of this machine to the newest snapshot and sends the
feedback that the workers stored. Not here: the snapshots (`lake.snapshots`), or noticing that
the cache has another bundle (`live_bundle`). For a lake in a folder there is nothing to follow.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.lake.snapshots import Node, pull, send
from tunegraph_pipeline.serve.access_log import note


@contextmanager
def following_store(lake: Path, every_seconds: float) -> Iterator[None]:
    """Keep the cache ``lake`` up with its store until the end, when the last feedback is sent. While the
    store cannot be used, the service goes on with what the cache has, and a note says why, once."""
    if Node.of(lake) is None:
        yield
        return
    stopping = threading.Event()
    problem = ""

    def follow() -> None:
        nonlocal problem
        before, problem = problem, ""
        for step in (lambda: send(lake), lambda: pull(lake, only_served=True)):
            try:
                step()
            except (TuneGraphError, OSError) as error:
                problem = str(error)
        if problem and problem != before:
            note(f"the store of the lake cannot be followed at present: {problem}")

    def watch() -> None:
        while not stopping.wait(every_seconds):
            follow()

    thread = threading.Thread(target=watch, name="store-follower", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        follow()
