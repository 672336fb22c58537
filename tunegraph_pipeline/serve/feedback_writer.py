"""Write feedback to disk without blocking the event loop.

Here: the thread that writes, and the error a client gets when writing fails. Not here: the spool itself
(`lake.feedback_spool`), or what an event may contain (`schemas`).
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from tunegraph_pipeline.errors import InputError, LakeError, SpoolFullError
from tunegraph_pipeline.lake.feedback_spool import append, spool_size, worker_name
from tunegraph_pipeline.lake.snapshots import outbox_of
from tunegraph_pipeline.serve.access_log import note
from tunegraph_pipeline.serve.problem_details import Problem, unavailable

_MOST_WAITING = 1_000


class FeedbackWriter:
    """Appends to this process's file in a lake's spool, one request after the other.

    ``request_bytes`` is what the events of one request may take on disk, and ``spool_bytes`` what the whole
    spool may. ``refusing``: whether the last feedback was refused because the spool is full.
    """

    def __init__(self, lake: Path, *, request_bytes: int, spool_bytes: int) -> None:
        self._lake = lake
        self._request_bytes = request_bytes
        self.spool_bytes = spool_bytes
        self.refusing = False
        self._worker = worker_name()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._n_waiting = 0

    async def add(
        self, user_id: str, events: Sequence[tuple[str, str]], shown: Sequence[str], bundle_version: str
    ) -> None:
        """Store the (track id, action) pairs of one user; returns once all of them are synced to disk.

        None is stored if it raises Problem: 413 if these take too many bytes, 503 if the spool is full, the
        lake cannot be written, or too many requests are waiting for the disk.
        """
        if self._n_waiting >= _MOST_WAITING:
            raise unavailable(
                "too much feedback is waiting for the disk; send it again in a few seconds", retry_after=5
            )

        def append_events() -> None:
            # On an unmounted disk, the file would be hidden once the disk is mounted again.
            if not (self._lake / "lake.json").is_file():
                raise LakeError(f"there is no lake at {self._lake} at present")
            append(
                self._lake,
                self._worker,
                user_id,
                events,
                shown=shown,
                bundle_version=bundle_version,
                most_bytes=self._request_bytes,
                spool_bytes=self.spool_bytes,
            )

        self._n_waiting += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, append_events)
            self.refusing = False
        except InputError as error:
            detail = str(error)
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, name="feedback-too-large") from None
        except SpoolFullError as error:
            if not self.refusing:
                note(f"feedback is refused: {error}")
            self.refusing = True
            detail = (
                "no more feedback can be stored until it is collected; nothing of this request was stored"
            )
            raise unavailable(detail, name="feedback-full", retry_after=600) from None
        except (LakeError, OSError) as error:
            note(f"feedback was not stored: {error}")  # the file name is for the operator only
            detail = "feedback cannot be written at present; nothing of this request was stored"
            raise unavailable(detail, name="feedback-unwritable", retry_after=60) from None
        finally:
            self._n_waiting -= 1

    def spool_size(self) -> int:
        """The bytes of feedback that no refresh has collected."""
        return spool_size(outbox_of(self._lake))

    def close(self) -> None:
        """Finish all pending writes."""
        self._disk.shutdown()
