"""Progress where there is no terminal: a line now and then."""

import io
from contextlib import redirect_stderr

from tunegraph_pipeline.cli.show import BETWEEN_LINES, Lines, progress_bars


def test_a_pipe_gets_a_line_now_and_then() -> None:
    times = iter([0.0, 1.0, BETWEEN_LINES, BETWEEN_LINES + 1, 75.0])
    out = io.StringIO()
    with redirect_stderr(out):
        lines = Lines(lambda: next(times))
        lines("raw batches", 1, 2)
        lines("rank users", 1_200, 5_000)
        lines("rank users", 1_300, 5_000)
        lines("training, epoch 3 of at most 30 [1]", 4, 9)
    assert out.getvalue().splitlines() == [
        "0:15 rank users: 1,200 of 5,000",
        "1:15 training, epoch 3 of at most 30 [1]: 4 of 9",
    ]


def test_what_is_done_at_once_says_nothing_on_a_pipe() -> None:
    out = io.StringIO()
    with redirect_stderr(out), progress_bars() as progress:
        progress("verify", 1, 1)
    assert out.getvalue() == ""
