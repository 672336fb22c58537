"""Write feedback to disk without blocking the event loop.

Here: the thread that writes, and the error a client gets when writing fails. Not here: the spool itself
(`lake.feedback_spool`), or what an event may contain (`schemas`).
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.feedback_spool import append, worker_name
from tunegraph_pipeline.serve.access_log import note
from tunegraph_pipeline.serve.problem_details import unavailable

_MOST_WAITING = 1_000


class FeedbackWriter:
    """Appends to this process's file in a lake's spool, one request after the other."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._worker = worker_name()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._n_waiting = 0

    async def add(
        self, user_id: str, events: Sequence[tuple[str, str]], shown: Sequence[str], bundle_version: str
    ) -> None:
        """Store the (track id, action) pairs of one user; returns once all of them are synced to disk.

        Raises Problem 503 if the lake cannot be written, in which case none is stored, or if too many
        requests are waiting for the disk.
        """
        if self._n_waiting >= _MOST_WAITING:
            raise unavailable(
                "too much feedback is waiting for the disk; send it again in a few seconds", retry_after=5
            )

        def append_events() -> None:
            # On an unmounted disk, the file would be hidden once the disk is mounted again.
            if not (self._lake / "lake.json").is_file():
                raise LakeError(f"there is no lake at {self._lake} at present")
            append(self._lake, self._worker, user_id, events, shown=shown, bundle_version=bundle_version)

        self._n_waiting += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, append_events)
        except (LakeError, OSError) as error:
            note(f"feedback was not stored: {error}")  # the file name is for the operator only
            detail = "feedback cannot be written at present; nothing of this request was stored"
            raise unavailable(detail, name="feedback-unwritable", retry_after=60) from None
        finally:
            self._n_waiting -= 1

    def close(self) -> None:
        """Finish all pending writes."""
        self._disk.shutdown()
