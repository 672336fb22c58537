"""Services that are forked off a process which has loaded what they need: loading it takes most of a second,
and the tests start dozens of services.

Here: that process, and a forked service with the methods of `subprocess.Popen` that the tests call. Not here:
what a service is asked (`conftest`). One with several workers, other modules or another user is started as a
user starts it.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "300"}
"""Read while modules load, so every service has it."""


class Forked:
    """A service in a process of its own. Raises `subprocess.TimeoutExpired` as `Popen` does."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._line, theirs = socket.socketpair()
        reading, writing = zip(*(os.pipe(), os.pipe()), strict=True)
        with theirs:
            asked = json.dumps([list(arguments), dict(environment)]).encode()
            _forking().sendall(len(asked).to_bytes(4))
            socket.send_fds(_forking(), [asked], [*writing, theirs.fileno()])
        for end in writing:
            os.close(end)
        self.stdout, self.stderr = (os.fdopen(end, "r", encoding="utf-8") for end in reading)
        self.pid = int.from_bytes(self._line.recv(4))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                told = self._line.recv(4)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("a forked service", timeout or 0) from None
            assert told, "whoever waits for the service died"
            self.returncode = int.from_bytes(told, signed=True)
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forking() -> socket.socket:
    """The line to the process that forks, which ends when this one does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunegraph_pipeline_tests.serve.forked", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours


def _fork_until_told(line: socket.socket) -> None:
    """Fork a service for each request, until nobody is left to ask."""
    waiting: set[int] = set()
    while size := line.recv(4):
        asked, (out, err, told), _, _ = socket.recv_fds(line, int.from_bytes(size), 3)
        while len(asked) < int.from_bytes(size):
            asked += line.recv(int.from_bytes(size) - len(asked))
        if not (child := os.fork()):
            line.close()
            arguments, environment = json.loads(asked)
            with socket.socket(fileno=told) as answers:
                _wait_for_service(answers, arguments, environment, (out, err))
            os._exit(0)
        for end in (out, err, told):
            os.close(end)
        waiting = {one for one in (*waiting, child) if os.waitpid(one, os.WNOHANG) == (0, 0)}
    for one in waiting:
        os.waitpid(one, 0)


def _wait_for_service(
    answers: socket.socket, arguments: list[str], environment: dict[str, str], outputs: tuple[int, int]
) -> None:
    child = os.fork()
    if not child:
        answers.close()
        for end, number in zip(outputs, (1, 2), strict=True):
            os.dup2(end, number)
            os.close(end)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, closefd=False)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["tunegraph", *arguments]
        os._exit(_run())
    for end in outputs:
        os.close(end)
    answers.sendall(child.to_bytes(4))
    answers.sendall(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]).to_bytes(4, signed=True))


def _run() -> int:
    from tunegraph_pipeline.__main__ import main

    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    import tunegraph_pipeline.cli.app
    import tunegraph_pipeline.serve.app
    import tunegraph_pipeline.serve.run  # noqa: F401

    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _fork_until_told(asking)
