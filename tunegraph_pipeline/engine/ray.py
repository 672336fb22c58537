"""The engine of a cluster: every block is a task of Ray.

Here: joining a cluster, sending tasks, and what becomes of them when a node dies, a person presses Ctrl-C or
something does not fit. The one module that imports ray. Not here: how data travels (`workspace`); Ray carries
only names.

At most a few tasks a processor are under way. A task whose node or process died is run again elsewhere, by
Ray, and leaves the same parcel. Results are taken in the order of the blocks.
"""

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from tunegraph_pipeline.engine.engine import EngineSettings, Input, Outputs, Parcel
from tunegraph_pipeline.engine.workspace import Workspace
from tunegraph_pipeline.errors import EngineError, LibraryMissingError
from tunegraph_pipeline.progress import report_note

INSTALL = "pip install 'tunegraph-pipeline[cluster]'"
_WINDOW = 3
"""Tasks under way for each processor: one runs, one waits, one is done and waits for its turn."""
_BLOCKS = 4
"""Blocks for each processor, so that the last ones to end leave little to wait for."""
_CONNECT_SECONDS = 10.0
_PROBE_SECONDS = 120.0
_LOOK_SECONDS = 2.0
"""How often the head of the cluster is looked for while a task is waited for."""
_LOOKS = 3
"""After so many looks in vain the head is lost."""
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
"""A task has one processor, and its libraries may take no more: their sums could differ, too. Libraries read
these once, when they are imported. A `runtime_env` would set them as well, but then Ray starts two programs
for each process, and does not use those it has started ahead."""
_SAME_EVERYWHERE = ("numpy", "scipy", "polars", "sparse-dot-topn", "torch")
"""The libraries whose versions must be those of the driver, as their results are."""

_members_of: list["_Cluster"] = []
"""The cluster that this process joined last, if any."""
_Block = TypeVar("_Block")


class _Cluster(NamedTuple):
    """A cluster: its address as the settings give it, that of its head, and what tells it from the one that
    another head begins at the same address."""

    address: str
    head: str
    id: str


class RayEngine:
    """Runs blocks on the Ray cluster that ``settings`` name, and leaves what they need in ``workspace``.

    To be used in a ``with`` block: at its end, also by an error or Ctrl-C, no task of it goes on, and the
    workspace is empty. The first step joins the cluster; this process then stays in it.
    """

    cores = 1
    """As `Engine.cores`: a task has one processor."""

    def __init__(self, settings: EngineSettings, workspace: Workspace) -> None:
        self._settings = settings
        self._workspace = workspace
        self._steps = 0
        self._under_way: set[Any] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._steps:
            _cancel(self._under_way)
            self._workspace.clear()
            if self._workspace.cached:
                _leave_every_node(self._workspace)

    @property
    def blocks(self) -> int:
        """As `Engine.blocks`."""
        return self._settings.blocks or _BLOCKS * self._processors()

    def run(
        self,
        function: Callable[[Parcel, _Block], Outputs],
        blocks: Iterable[_Block],
        shared: Mapping[str, Input],
    ) -> Iterator[Parcel]:
        """As `Engine.run`; ``blocks`` are sent by Ray, which pickles them."""
        processors = self._processors()
        if not self._steps:
            self._workspace.prepare()
        self._steps += 1
        step = f"{self._steps:03}-{function.__name__}"
        self._workspace.put(step, shared)
        submit = _task(self._settings.retries)
        waiting: deque[tuple[str, Any]] = deque()
        number, ahead = 0, iter(blocks)
        try:
            while True:
                while len(waiting) < _WINDOW * processors:
                    block = next(ahead, None)
                    if block is None:
                        break
                    name = f"{step}-{number:07}"
                    with _as_lines(self._settings.address):
                        task = submit(run_block, function, self._workspace, step, name, block)
                    self._under_way.add(task)
                    waiting.append((name, task))
                    number += 1
                if not waiting:
                    break
                name, task = waiting.popleft()
                with _as_lines(self._settings.address):
                    _await(task)
                self._under_way.discard(task)
                yield Parcel(self._workspace.get(name))
                self._workspace.drop(name)
        finally:
            left = {task for _, task in waiting}
            _cancel(left)
            self._under_way -= left
        self._workspace.drop(step)

    def _processors(self) -> int:
        ray = _joined(self._settings.address)
        with _as_lines(self._settings.address):
            return max(1, int(ray.cluster_resources().get("CPU", 1)))


# --- on the nodes ---


def run_block(
    function: Callable[[Parcel, _Block], Outputs], workspace: Workspace, step: str, name: str, block: _Block
) -> None:
    """Run a block in a task, and leave its result as the parcel ``name``."""
    workspace.put(name, function(_inputs(workspace, step), block))


def leave(workspace: Workspace) -> None:
    """Remove what this machine keeps of a workspace."""
    workspace.leave()


@lru_cache(maxsize=1)
def _inputs(workspace: Workspace, step: str) -> Parcel:
    """The inputs of a step, opened once by each process that runs its tasks."""
    return Parcel(workspace.get(step))


def installed() -> dict[str, str]:
    """What has to be the same on every node: Python, this package by its code, and the libraries that
    calculate, each with its version."""
    root = Path(__file__).parents[1]
    code = blake2b(digest_size=4)
    for path in sorted(root.rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    found = {
        "Python": ".".join(map(str, sys.version_info[:3])),
        "tunegraph-pipeline": f"code {code.hexdigest()}",
    }
    for name in _SAME_EVERYWHERE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


# --- on the driver ---


@lru_cache(maxsize=1)
def _ray() -> Any:
    """The library. Raises LibraryMissingError where it is not installed."""
    # Its warnings and its reports of usage are not for who refreshes a lake.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the first that a step meets is raised
    # Ray would end this process where the head is away for a minute; `_await` says so instead.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(7 * 86_400))
    try:
        with _own_signals():
            import ray
            import ray.exceptions
            import ray.util.scheduling_strategies

            # Else it prints pages of the log of a node that dies, between the bars of progress.
            ray._private.worker._worker_logs_enabled = False
    except ImportError as error:
        raise LibraryMissingError(f"the engine ray needs Ray, which is not installed; {INSTALL}") from error
    return ray


def _joined(address: str) -> Any:
    """The library, with this process in the cluster at ``address``, whose nodes have been asked what they
    have. Raises EngineError where it cannot be."""
    host, port = _parsed(address)
    ray = _ray()
    if ray.is_initialized():
        if _members_of and _members_of[0].address == address and _has_head(_members_of[0]):
            return ray
        ray.shutdown()  # this process was in another cluster before, or in one whose head died
    if host:
        _check_reachable(host, port)
    try:
        with _own_signals():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise _no_cluster(address, error) from error
    try:
        _check_nodes(ray)
    except BaseException:
        ray.shutdown()
        raise
    head = ray.get_runtime_context().gcs_address
    _members_of[:] = [_Cluster(address, head, _id_of_cluster(head))]
    return ray


def _parsed(address: str) -> tuple[str, int]:
    """The host and port of an address; of ``auto`` none. Raises EngineError."""
    if address == "auto":
        return "", 0
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise EngineError(
            f"the address of the Ray cluster is {address!r}; give host:port of its head, or auto,"
            " and run this on a machine of the cluster"
        )
    return host, int(port)


def _check_head() -> None:
    """Leave the cluster and raise EngineError where its head is lost."""
    cluster = _members_of[0]
    for _ in range(_LOOKS):
        if _has_head(cluster):
            return
        time.sleep(_LOOK_SECONDS)
    _members_of.clear()
    _ray().shutdown()
    where = "of this machine" if cluster.address == "auto" else f"at {cluster.address}"
    raise EngineError(
        f"the head of the Ray cluster {where} is lost; start the cluster again, then run this again: finished"
        " stages are kept"
    )


def _has_head(cluster: _Cluster) -> bool:
    """Whether the head of a cluster still answers, and is not another one at the same address."""
    try:
        _check_reachable(*_parsed(cluster.head))
        return _id_of_cluster(cluster.head) == cluster.id
    except (EngineError, RuntimeError, _ray().exceptions.RayError):
        return False


def _id_of_cluster(head: str) -> str:
    # Not by what this process has joined: that ends the process where the head is another one.
    client = _ray()._raylet.GcsClient(address=head)
    return str(client.cluster_id.hex())


def _check_reachable(host: str, port: int) -> None:
    """Raise EngineError where nobody listens; Ray itself would try for minutes."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise _no_cluster(f"{host}:{port}", error) from error


def _no_cluster(address: str, error: Exception) -> EngineError:
    said = " ".join(str(error).split())
    if "ersion mismatch" in said:
        return EngineError(
            f"the Ray cluster at {address} is of another version ({said}); install the same Ray and Python on"
            " every node"
        )
    where = "on this machine" if address == "auto" else f"at {address}"
    return EngineError(
        f"no Ray cluster {where} can be joined ({said[:200]}); start one with `ray start --head`,"
        " or a node of it here with `ray start --address=HOST:PORT`, or set the engine to local"
    )


def _check_nodes(ray: Any) -> None:
    """Raise EngineError where a node has not what this process has."""

    answers = _on_every_node(ray, installed)
    done, late = ray.wait([*answers], num_returns=len(answers), timeout=_PROBE_SECONDS)
    mine = installed()
    for answer in done:
        where = answers[answer]["NodeManagerAddress"]
        try:
            theirs = ray.get(answer)
        except ImportError as error:  # RayTaskError is of the class of what the task raised as well
            raise EngineError(
                f"the Ray node {where} lacks tunegraph-pipeline ({_first_line(error)}); install the same"
                f" package there as here: {INSTALL}"
            ) from error
        except ray.exceptions.RayError as error:
            raise EngineError(
                f"the Ray node {where} cannot run a task ({_first_line(error)}); mend it or take it away"
            ) from error
        if differs := [name for name in mine if theirs.get(name) != mine[name]]:
            what = ", ".join(f"{name} {theirs.get(name)} instead of {mine[name]}" for name in differs)
            raise EngineError(f"the Ray node {where} has {what}; install there what is installed here")
    for answer in late:
        report_note(
            f"the Ray node {answers[answer]['NodeManagerAddress']} does not answer; tasks go to the others"
        )


def _on_every_node(ray: Any, work: Callable[..., Any], *given: Any) -> dict[Any, dict[str, Any]]:
    """Submit a task to each node that has processors; returns the node of each."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return {
        _submitting(num_cpus=0, max_retries=0, scheduling_strategy=strategy(node["NodeID"], soft=False))(
            work, *given
        ): node
        for node in nodes
    }


def _leave_every_node(workspace: Workspace) -> None:
    """Remove what the nodes keep. One that cannot be reached does it when the next room is opened there."""
    ray = _ray()
    with suppress(ray.exceptions.RayError):
        there = ray.is_initialized() and bool(_members_of) and _has_head(_members_of[0])
        if there and (tasks := [*_on_every_node(ray, leave, workspace)]):
            ray.wait(tasks, num_returns=len(tasks), timeout=_CONNECT_SECONDS)


def _task(retries: int) -> Callable[..., Any]:
    """What submits work that has a processor of any node."""
    return _submitting(num_cpus=1, max_retries=retries, scheduling_strategy="SPREAD")


def _submitting(**options: Any) -> Callable[..., Any]:
    """What submits a function of this package and what it is given, with these options of a task."""
    one_thread = dict(_ONE_THREAD)

    def with_one_thread(work: bytes) -> Any:
        # Ray sends this function by value, so that it runs before anything imports a library.
        import os
        import pickle

        os.environ.update(one_thread)
        function, given = pickle.loads(work)  # noqa: S301  # from the driver, as all that Ray sends
        return function(*given)

    remote = _ray().remote(**options)(with_one_thread)
    return lambda function, *given: remote.remote(pickle.dumps((function, given)))


def _await(task: Any) -> None:
    """Wait for a task. Raises what its function raised, and EngineError where the head is lost."""
    ray = _ray()
    while not ray.wait([task], timeout=_LOOK_SECONDS, fetch_local=False)[0]:
        _check_head()
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _cancel(tasks: Iterable[Any]) -> None:
    """End tasks at once, with their processes: what a task leaves is complete or not there."""
    ray = _ray()
    if not ray.is_initialized():
        return
    for task in tasks:
        with suppress(Exception):  # it may be over, or the cluster gone
            ray.cancel(task, force=True)


@contextmanager
def _as_lines(address: str) -> Iterator[None]:
    """Turn the errors of Ray into an EngineError of one line."""
    exceptions = _ray().exceptions
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise EngineError(
            f"a task needs more memory than the Ray nodes have ({_first_line(error)}); lower `memory_mib`"
            " in the settings, or the processors that a node offers (ray start --num-cpus)"
        ) from error
    except (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
    ) as error:
        raise EngineError(
            f"a task was lost with its node or process as often as `retries` in the settings allows"
            f" ({_first_line(error)}); look at the nodes with `ray status`, then run this again"
        ) from error
    except exceptions.RayError as error:
        raise EngineError(
            f"the Ray cluster at {address} cannot go on ({_first_line(error)}); look at it with `ray status`,"
            " then run this again"
        ) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :200
    ]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of this process: Ray sets its own, and Dagster would not notice a termination."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
