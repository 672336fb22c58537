"""Memory is kept while a process trains, and goes back to the system afterwards, also after an error."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.training.kept_memory import kept_memory

MIB = 1 << 20


def resident() -> int:
    """The memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_memory_is_kept_and_goes_back() -> None:
    before = resident()
    with pytest.raises(ZeroDivisionError), kept_memory():
        np.ones(256 * MIB, dtype=np.uint8)
        raise ZeroDivisionError
    assert resident() < before + 64
    np.ones(256 * MIB, dtype=np.uint8)
    assert resident() < before + 64
