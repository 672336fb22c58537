"""Progress where there is no terminal: a line now and then."""

import io
import time
from contextlib import redirect_stderr

import pytest

from tunegraph_pipeline.cli.show import progress_bars


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 115.0, 116.0, 175.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    out = io.StringIO()
    with redirect_stderr(out), progress_bars() as progress:
        progress("raw batches", 1, 2)
        progress("rank users", 1_200, 5_000)
        progress("rank users", 1_300, 5_000)
        progress("training, epoch 3 of at most 30 [1]", 4, 9)
    assert out.getvalue().splitlines() == [
        "0:15 rank users: 1,200 of 5,000",
        "1:15 training, epoch 3 of at most 30 [1]: 4 of 9",
    ]


def test_what_is_done_at_once_says_nothing_on_a_pipe() -> None:
    out = io.StringIO()
    with redirect_stderr(out), progress_bars() as progress:
        progress("verify", 1, 1)
    assert out.getvalue() == ""
