"""Memory is kept while a process trains, and goes back to the system afterwards, also after an error."""

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.training.kept_memory import give_back_memory, kept_memory

MIB = 1 << 20


class Holder:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_only_refers_to_itself_is_freed() -> None:
    gc.disable()
    try:
        holder = weakref.ref(Holder())
        assert holder() is not None
        give_back_memory()
        assert holder() is None
    finally:
        gc.enable()


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_was_freed_is_given_back() -> None:
    before = resident()
    blocks = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(256 * 16)]
    last = blocks.pop()  # at the end of the heap, which glibc would shrink otherwise
    blocks.clear()
    assert resident() > before + 192

    give_back_memory()

    assert resident() < before + 64
    assert last.all()
