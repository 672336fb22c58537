"""A Ray cluster of nodes on loopback, for the tests that need one.

Here: starting nodes, each with its own ports, address and folder, and ending each with all its processes, by
their ids. Not here: what runs on them.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]
"""Nodes import the package and the block functions of tests from there."""
_START_SECONDS = 240
_STORE_BYTES = 80 * 2**20  # Ray takes no less than 75 MiB


class RayNode:
    """A node with ``cpus`` processors: a head where ``head`` is None, else a worker of that head.

    Each node has an address of its own among those of loopback, so that Ray takes them for machines.
    """

    def __init__(
        self,
        number: int,
        cpus: int,
        head: "RayNode | None" = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.ip = f"127.0.0.{number}"
        # The names of Ray's sockets are long, and a path to a socket has at most 107 letters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        self.port: int = free_port() if head is None else head.port
        where = (
            [
                "--head",
                f"--port={self.port}",
                "--include-dashboard=false",
                f"--ray-client-server-port={free_port()}",
                f"--temp-dir={self.folder}",
            ]
            if head is None
            else [f"--address={head.address}"]
        )
        command = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            *where,
            f"--node-ip-address={self.ip}",
            f"--num-cpus={cpus}",
            f"--object-store-memory={_STORE_BYTES}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--dashboard-agent-grpc-port={free_port()}",
            f"--metrics-export-port={free_port()}",
            f"--runtime-env-agent-port={free_port()}",
            f"--node-manager-port={free_port()}",
            f"--object-manager-port={free_port()}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            "--block",
        ]
        # Three seconds without an answer, and a node counts as dead.
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "1000"}
        quick |= {"RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "0"}
        self.log = self.folder / "start.log"
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(PROJECT), **quick, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def wait(self) -> None:
        """Wait until the node says that it is there."""
        deadline = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in (said := self.log.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise RuntimeError(f"no Ray node at {self.ip}: {said}")
            time.sleep(0.2)

    def processes(self) -> list[psutil.Process]:
        """Its processes that run, with those they started."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """End all its processes at once, by SIGKILL."""
        doomed = self.processes()
        for one in doomed:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(doomed, timeout=30)

    def end(self) -> None:
        """The same, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RayCluster:
    """A head at 127.0.0.1, where the tests run too, and workers at the addresses after it."""

    def __init__(self, cpus: int = 1, environment: dict[str, str] | None = None) -> None:
        self.nodes = [RayNode(1, cpus, environment=environment)]
        self.head.wait()

    @property
    def head(self) -> RayNode:
        return self.nodes[0]

    @property
    def address(self) -> str:
        return self.head.address

    def add_worker(self, cpus: int = 1, environment: dict[str, str] | None = None) -> RayNode:
        """A worker more, as soon as it is there."""
        self.nodes.append(RayNode(len(self.nodes) + 1, cpus, self.head, environment))
        self.nodes[-1].wait()
        return self.nodes[-1]

    def end(self) -> None:
        import ray

        ray.shutdown()  # a driver would report the end of its node
        for node in reversed(self.nodes):
            node.end()


@contextmanager
def running_cluster(cpus: int = 1, workers: int = 1) -> Iterator[RayCluster]:
    """A cluster for a ``with`` block: a head and so many workers, each with ``cpus`` processors."""
    cluster = RayCluster(cpus)
    try:
        for _ in range(workers):
            cluster.add_worker(cpus)
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A head and a worker with a processor each. Who kills a node adds one of their own first."""
    with running_cluster() as cluster:
        yield cluster


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
