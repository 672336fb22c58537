"""Run a command or a small writer in a process that dies at a call of the object store.

    python -m tunegraph_pipeline_tests.cluster.dies NUMBER before|after write ROOT TEXT…
    python -m tunegraph_pipeline_tests.cluster.dies NUMBER before|after command refresh …

Here: counting the calls, and dying as of kill -9 before the given one is sent, or after it was answered. The
number of calls is printed where the process lives.
"""

import itertools
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tunegraph_pipeline.lake.object_store import ObjectStore
from tunegraph_pipeline_tests.lean_command import make_lean

CALLS = ("read", "create", "swap", "_put_in_pieces", "listing", "delete")
DIED = 9


def count_calls(last: int, when: str) -> "itertools.count[int]":
    """Let this process die at the call ``last`` of the store; never where it is 0."""
    counter, guard = itertools.count(1), threading.Lock()

    def counted(call: Any) -> Any:
        def wrapped(self: ObjectStore, *args: Any, **more: Any) -> Any:
            if "LEASE" in args:  # renewed by a thread, at any time
                return call(self, *args, **more)
            with guard:
                number = next(counter)
                if number == last and when == "before":
                    os._exit(DIED)
                answer = call(self, *args, **more)
                if number == last:
                    os._exit(DIED)
                return answer

        return wrapped

    for name in CALLS:
        setattr(ObjectStore, name, counted(getattr(ObjectStore, name)))
    return counter


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
    calls = count_calls(int(sys.argv[1]), sys.argv[2])
    make_lean()
    if sys.argv[3] == "write":
        write(Path(sys.argv[4]), sys.argv[5:])
    else:
        from tunegraph_pipeline.cli import app

        sys.argv = ["tunegraph", *sys.argv[4:]]
        try:
            app.main()
        except SystemExit as ended:
            if ended.code:
                raise
    print("calls", next(calls) - 1)  # noqa: T201  # for whoever started it
