"""Memory that a process keeps while it trains, in place of giving it back after every use.

Here: telling the C library so. Not here: what the memory is used for (`train`).

A sampled step makes tensors of tens to hundreds of MB. By default glibc gets each of them from the system and
gives it back, and the system clears every page anew, which takes a quarter of the step.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt, and what they are by default:
_DEFAULTS = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024}
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed until the end of the ``with`` block; then it goes back to the system. Does nothing
    where the C library is not glibc."""
    if (library := _glibc()) is None:
        yield
        return
    for option, value in _KEPT.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


def give_back_memory() -> None:
    """Free what only refers to itself, and give all that was freed back to the system, before a step that
    needs much at once. Nothing is given back where the C library is not glibc."""
    gc.collect()
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version") else None
