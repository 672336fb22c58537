"""Seconds, sampled peak memory and progress of a piece of work, for metadata and for the command line.

Here: what every stage measures about itself. Not here: what it measures about its data.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_watcher: ContextVar[Progress] = ContextVar("tunegraph_progress", default=lambda *_: None)
_reader: ContextVar[Callable[[str], None]] = ContextVar("tunegraph_notes", default=lambda _: None)


def report_note(note: str) -> None:
    """Report a sentence that a person should not miss; the command line prints it."""
    _reader.get()(note)


def report_progress(what: str, done: int, total: int) -> None:
    """Report progress; the command line draws a bar."""
    _watcher.get()(what, done, total)


@contextmanager
def watched_by(watcher: Progress, reader: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Send the progress of everything run inside to ``watcher`` too, and notes to ``reader``."""
    outer, also = _watcher.get(), _reader.get()

    def watch(what: str, done: int, total: int) -> None:
        outer(what, done, total)
        watcher(what, done, total)

    def read(note: str) -> None:
        also(note)
        reader(note)

    token, notes = _watcher.set(watch), _reader.set(read)
    try:
        yield
    finally:
        _watcher.reset(token)
        _reader.reset(notes)


class ProgressLines:
    """Gives ``log`` a line of progress at most every ``seconds``, and none before: for a log, a pipe or a
    file, which show no bars. A line begins with the minutes and seconds since the start.

    >>> watch = ProgressLines(print, seconds=0)
    >>> watch("training", 3, 20)
    0:00 training: 3 of 20
    """

    def __init__(self, log: Callable[[str], None], seconds: float = 15.0) -> None:
        self._log = log
        self._seconds = seconds
        self._began = self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return
        self._last = now
        minutes, seconds = divmod(int(now - self._began), 60)
        self._log(f"{minutes}:{seconds:02} {what}: {done:,} of {total:,}")


class Measured:
    """Wall seconds and the highest resident memory of this process, sampled every 50 ms while inside.

    >>> with Measured() as cost:
    ...     pass
    >>> cost.seconds >= 0
    True
    """

    seconds: float = 0.0
    peak_mib: float = 0.0

    def __enter__(self) -> Self:
        import psutil

        self._process = psutil.Process()
        self._done = threading.Event()
        self._started = time.perf_counter()
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        self.seconds = time.perf_counter() - self._started

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._sample()

    def _sample(self) -> None:
        self.peak_mib = max(self.peak_mib, self._process.memory_info().rss / 2**20)
