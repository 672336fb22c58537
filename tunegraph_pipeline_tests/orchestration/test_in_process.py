"""Running jobs in this process: what becomes of Ctrl-C."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator

import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from sqlalchemy import create_engine

from tunegraph_pipeline.orchestration import in_process as run

pytestmark = pytest.mark.dagster


@pytest.fixture
def deaf() -> Iterator[None]:
    """SIGINT is noted by nobody, as where an extension module swallowed its exception."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_error_that_ctrl_c_caused_is_ctrl_c(deaf: None) -> None:
    with pytest.raises(KeyboardInterrupt), run._noticing_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        raise TypeError("incompatible function arguments")


def test_an_error_of_its_own_stays_what_it_is(deaf: None) -> None:
    with pytest.raises(TypeError, match="of its own"), run._noticing_interrupts():
        raise TypeError("of its own")


class Lasting(sqlite3.Connection):
    """Ctrl-C strikes while it is closed."""

    def close(self) -> None:
        super().close()
        raise DagsterExecutionInterruptedError


def test_ctrl_c_while_a_connection_is_closed_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(":memory:", factory=Lasting))
    with pytest.raises(DagsterExecutionInterruptedError), run._noticing_interrupts():
        engine.connect().invalidate()
    assert not caplog.records


@pytest.fixture
def alert() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, in a process too that the background of a shell makes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_that_strikes_in_a_finaliser_comes_again(
    alert: None, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), run._noticing_interrupts():
        Finalised()
        for _ in range(1_000):
            time.sleep(0.01)  # a simulated signal ends no sleep: it is noticed after it
    assert "Traceback" not in capsys.readouterr().err
