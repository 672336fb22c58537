"""Watch the calls of the object store, and run a small writer in a process that dies at one of them.

    python -m tunegraph_pipeline_tests.cluster.dies NUMBER before|after ROOT TEXT…

Here: counting the calls, and dying by kill -9 before the given one is sent, or after it was answered. The
number of calls is printed where the process lives. Not here: whole refreshes that die
(`benchmarks/killed_store_calls.py`).
"""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunegraph_pipeline.lake.object_store import ObjectStore

CALLS = ("read", "read_changed", "create", "swap", "_put_in_pieces", "listing", "delete")
"""The methods of `ObjectStore` that send a request, or several of one kind."""
DIED = -signal.SIGKILL


def watch_calls(act: Callable[[int, str, bool], object]) -> None:
    """Have ``act`` called around every call of the store in this process, with the number of the call, from
    1, its kind, such as "create files", and whether it was answered.

    Calls by which a lease is renewed in the background come at any time, so they are not counted.
    """
    counter = itertools.count(1)

    def watched(name: str, call: Any) -> Any:
        def wrapped(self: ObjectStore, *args: Any, **more: Any) -> Any:
            if threading.current_thread().name == "lease":
                return call(self, *args, **more)
            number, kind = next(counter), _kind(name, args)
            act(number, kind, False)
            answer = call(self, *args, **more)
            act(number, kind, True)
            return answer

        return wrapped

    for name in CALLS:
        setattr(ObjectStore, name, watched(name, getattr(ObjectStore, name)))


def _kind(name: str, args: tuple[Any, ...]) -> str:
    below = args[0].split("/")[0] if args and isinstance(args[0], str) else ""
    return f"{name.strip('_')} {below}".strip()


def die() -> None:
    """As of kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def write(root: Path, texts: list[str]) -> None:
    """Write versions of a few files, one commit each, as stages of a refresh would."""
    from tunegraph_pipeline.lake import snapshots
    from tunegraph_pipeline.lake.lock import write_lock

    with write_lock(root, "a test"), snapshots.writing(root, "a test"):
        for text in texts:
            for name in ("lake.json", "table/day=1/data", f"models/{text}/array", "models/CURRENT"):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = path.with_name("draft")
                draft.write_text(f"{name} {text}")
                draft.replace(path)
            for old in (root / "models").iterdir():
                if old.is_dir() and old.name != text:
                    (old / "array").unlink()
                    old.rmdir()
            snapshots.commit(root)


if __name__ == "__main__":
    last, answered = int(sys.argv[1]), sys.argv[2] == "after"
    numbers: list[int] = []

    def at_call(number: int, _: str, done: bool) -> None:
        numbers.append(number)
        if (number, done) == (last, answered):
            die()

    watch_calls(at_call)
    write(Path(sys.argv[3]), sys.argv[4:])
    print("calls", max(numbers))  # noqa: T201  # for whoever started it
