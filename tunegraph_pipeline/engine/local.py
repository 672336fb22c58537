"""The engine of one machine: a loop in this process.

Here: that loop, which copies nothing and writes nothing. Not here: what runs in it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from tunegraph_pipeline.engine.engine import Input, Outputs, Parcel

_Block = TypeVar("_Block")


class LocalEngine:
    """Runs one block after the other, each when its result is asked for."""

    blocks = 1

    @property
    def cores(self) -> int:
        """As `Engine.cores`: all that this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def run(
        self,
        function: Callable[[Parcel, _Block], Outputs],
        blocks: Iterable[_Block],
        shared: Mapping[str, Input],
    ) -> Iterator[Parcel]:
        """As `Engine.run`."""
        inputs = Parcel(shared)
        for block in blocks:
            yield Parcel(function(inputs, block))


LOCAL = LocalEngine()
