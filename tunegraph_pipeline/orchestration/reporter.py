"""The reporter: the process beside a service that reads the lake for the operator page.

    python -m tunegraph_pipeline.orchestration.reporter LAKE [BLOCKLIST]

Here: answering questions, a line of JSON each, from standard input to standard output, until the input ends.
Not here: what the answers say (`pipeline.report`, `pipeline.playground`, `run_history`), or who may ask
(`serve.operator_routes`). It is a process of its own, so that a service loads nothing of this, and a question
that takes seconds holds up no query.

A question is `{"about": "users", ...}` with the arguments of its answer. An answer is a line with its status,
as HTTP has it, and its length in bytes, then as many bytes: JSON, or for any status but 200 a sentence.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunegraph_pipeline.errors import InputError, TuneGraphError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import report
from tunegraph_pipeline.pipeline.playground import Playground
from tunegraph_pipeline.pipeline.settings import open_lake
from tunegraph_pipeline.pipeline.users import lake_users
from tunegraph_pipeline.recommend.filters import Filters
from tunegraph_pipeline.recommend.recommender import Query
from tunegraph_pipeline.serve.blocklist import Blocklist

if TYPE_CHECKING:
    import polars as pl

_USERS_SECONDS, _USERS_TIMES = 30.0, 20
"""For how long the list of users is kept at least, and how many times as long as it took to make."""
_ATTEMPTS = 3
"""How often a question is asked while a refresh replaces what is being read."""
_PAUSE_SECONDS = 0.05
_NICENESS = 10


class Reporter:
    """Answers questions about the lake at ``root``."""

    def __init__(self, root: Path, blocklist: Blocklist) -> None:
        self._root = root
        self._playground = Playground(open_lake(root), blocklist)
        self._users: tuple[float, date, pl.DataFrame] | None = None
        self._answers: dict[str, Callable[..., dict[str, Any]]] = {
            "overview": report.overview,
            "quality": report.quality,
            "publications": report.published,
            "drift": _drift,
            "tables": report.tables,
            "feedback": report.feedback,
            "runs": _runs,
            "users": self._page_of_users,
            "user": lambda _, **of: self._playground.user(**of),
            "recommendations": self._recommend,
        }

    def answer(self, about: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a question. Raises TuneGraphError where there is none."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                # Opened anew, since its settings may have changed.
                return self._answers[about](open_lake(self._root), **arguments)
            except InputError:
                raise
            except (TuneGraphError, FileNotFoundError):
                # A refresh may just have replaced what it was about to read.
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError

    def _page_of_users(
        self, lake: Lake, search: str, by_likes: bool, offset: int, limit: int
    ) -> dict[str, Any]:
        now, today = time.monotonic(), _today()
        if self._users is None or now >= self._users[0] or self._users[1] != today:
            users = lake_users(lake, today)
            made = time.monotonic()
            self._users = made + max(_USERS_SECONDS, _USERS_TIMES * (made - now)), today, users
        return report.page_of_users(self._users[2], search, by_likes=by_likes, offset=offset, limit=limit)

    def _recommend(self, _lake: Lake, version: str | None, **options: Any) -> dict[str, Any]:
        filters = options.pop("filters")
        query = Query(**options, filters=None if filters is None else Filters(**filters))
        return self._playground.ask(query, version)


def _runs(lake: Lake) -> dict[str, Any]:
    from tunegraph_pipeline.orchestration.run_history import run_history  # Dagster takes seconds to load

    return run_history(lake)


def _drift(lake: Lake) -> dict[str, Any]:
    from tunegraph_pipeline.orchestration.run_history import drift_points

    return {**report.drift(lake), "points": drift_points(lake)}


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()


def _today() -> date:
    return datetime.now(UTC).date()


def serve(reporter: Reporter, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer line by line until ``questions`` end."""
    for line in questions:
        status, content = _answered(reporter, line)
        answers.write(f"{int(status)} {len(content)}\n".encode() + content)
        answers.flush()


def _answered(reporter: Reporter, line: bytes) -> tuple[HTTPStatus, bytes]:
    try:
        return HTTPStatus.OK, _json(reporter.answer(**json.loads(line)))
    except InputError as error:
        return HTTPStatus.NOT_FOUND, str(error).encode()
    except TuneGraphError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode()
    except Exception as error:  # noqa: BLE001  # a bug, or a damaged file: said without what it was asked
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        sys.stderr.write(f"reporter: {type(error).__name__} at {where}\n")
        return HTTPStatus.INTERNAL_SERVER_ERROR, b"this could not be read; the log of the service says where"


def main() -> None:
    """Run as a program."""
    os.nice(_NICENESS)  # queries go first
    # Whatever a library prints must not end up among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    root, *rest = sys.argv[1:]
    try:
        reporter = Reporter(Path(root), Blocklist.read(Path(rest[0]) if rest else None))
    except TuneGraphError as error:
        sys.exit(f"reporter: {error}")
    serve(reporter, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
