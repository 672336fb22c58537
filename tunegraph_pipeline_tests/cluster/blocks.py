"""Block functions for tests of engines, which the nodes of a cluster import by name."""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl

from tunegraph_pipeline.engine.engine import Outputs, Parcel
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import StringColumn

STUCK_VARIABLE = "TUNEGRAPH_TEST_STUCK"
"""Set on a node whose tasks never end."""


def scaled(inputs: Parcel, block: int) -> Outputs:
    """The shared values times the block."""
    return {"values": inputs.array("values") * block}


def pools(inputs: Parcel, block: int) -> Outputs:
    """How many threads polars has, and those of each other library that has its own."""
    import scipy.linalg  # noqa: F401  # it has one
    from threadpoolctl import threadpool_info

    return {
        "threads": np.array([pl.thread_pool_size(), *(pool["num_threads"] for pool in threadpool_info())])
    }


def stuck_on_some_nodes(inputs: Parcel, block: int) -> Outputs:
    """The same; but on some nodes it only leaves its process id in the folder ``marks``, and on the others it
    waits until one did."""
    if STUCK_VARIABLE in os.environ:
        return stuck(inputs, block)
    while not any(Path(inputs.text("marks")).glob("[0-9]*")):
        time.sleep(0.05)
    return scaled(inputs, block)


def stuck(inputs: Parcel, block: int) -> Outputs:
    """Never ends, after it left its process id in the folder ``marks``."""
    mark = Path(inputs.text("marks")) / f"{os.getpid()}"
    mark.touch()
    time.sleep(3600)
    raise AssertionError(f"block {block} ended")


def refused(inputs: Parcel, block: int) -> Outputs:
    """Raises for every block but the first."""
    if block:
        raise InputError(f"block {block} of {len(inputs.array('values'))} values is refused")
    return {"values": np.zeros(0)}


def read_there(inputs: Parcel, block: str) -> Outputs:
    """The content of a shared file, and where the cache of the node is that read it."""
    content = (inputs.folder("files") / block).read_bytes()
    where = StringColumn.from_strings([os.environ["TUNEGRAPH_CACHE"]])
    return {"content": np.frombuffer(content, np.uint8), "where": where}


def busy(inputs: Parcel, block: float) -> Outputs:
    """Keeps a processor busy for ``block`` seconds of its time."""
    start = time.process_time()
    values = np.arange(1000.0)
    while time.process_time() - start < block:
        values = np.sqrt(values + 1)
    return {"values": values}


def waiting(inputs: Parcel, block: float) -> Outputs:
    """Lasts ``block`` seconds, whatever else the machine does."""
    time.sleep(block)
    return {"values": np.zeros(1)}
