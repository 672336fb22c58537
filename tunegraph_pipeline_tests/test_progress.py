"""Progress reaches everyone who watches, and a log only now and then."""

import time

import pytest

from tunegraph_pipeline.progress import ProgressLines, report_note, report_progress, watched_by


def test_who_watches_inside_takes_nothing_from_who_watches_outside() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with watched_by(lambda what, *_: outer.append(what), outer.append):
        with watched_by(lambda what, *_: inner.append(what)):
            report_progress("training", 1, 2)
            report_note("refused")
        report_progress("publishing", 1, 1)
    assert (outer, inner) == (["training", "refused", "publishing"], ["training"])


def test_a_log_gets_a_line_now_and_then_and_none_of_a_short_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    watch = ProgressLines(lines.append, seconds=10)
    for done in range(31):
        now = 100.0 + done
        watch("training", done, 2_000)
    assert lines == [f"0:{done} training: {done} of 2,000" for done in (10, 20, 30)]
