"""Run the service: checks, then a single server, or a supervisor with workers.

Here: the checks before a port is opened, the port, and the processes with their signals. Not here: the
application of a worker (`app`). With workers, the supervisor does not import the application.
"""

import errno
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess, multiprocess

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.lake.feedback_settings import feedback_settings
from tunegraph_pipeline.lake.snapshots import Node, shown
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.serve.access import KEY_VARIABLE, key_of_environment
from tunegraph_pipeline.serve.blocklist import Blocklist
from tunegraph_pipeline.serve.settings import ENVIRONMENT, ServiceSettings
from tunegraph_pipeline.serve.store_follower import following_store
from tunegraph_pipeline.words import counted

# The same as in `metrics`, which must not be imported before the variable is set.
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_GRACE_SECONDS = 30
_OTHER_FILES = 256
"""Files that a worker has open besides its connections, with room to spare."""
_WORKER_START_SECONDS = 60
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}


def serve(settings: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests and return.

    ``announce`` is called with the address once the service listens there, and with warnings. Raises
    LakeError, BundleError or InputError before serving if the lake has nothing to serve, the blocklist or the
    key is invalid, or the address is unavailable.
    """
    _check(settings)
    settings = _with_files_for_connections(settings, announce)
    with ExitStack() as stack:
        listener = stack.enter_context(listening(settings.host, settings.port))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        if settings.public and key_of_environment() is None:
            announce(f"without {KEY_VARIABLE}, /users and /feedback are refused, as other machines can ask")
        stack.enter_context(_ignoring_repeated_signals())
        stack.enter_context(following_store(settings.lake, settings.reload_seconds))
        if settings.workers == 1:
            _serve_alone(settings, listener, lambda: announce(f"listening on {url}"))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunegraph-serve-")))
            _serve_with_workers(
                settings.model_copy(update={"run_folder": folder}),
                listener,
                lambda: announce(f"listening on {url} with {counted(settings.workers, 'worker')}"),
            )


def _check(settings: ServiceSettings) -> None:
    if not (settings.lake / "lake.json").is_file():
        raise LakeError(
            f"there is no lake at {shown(settings.lake)}; `tunegraph import` or `tunegraph refresh` makes one"
        )
    Bundle.open(read_current(settings.serving))
    Blocklist.read(settings.blocklist)
    feedback_settings(settings.lake)
    if key_of_environment() is None and settings.operator:
        raise InputError(
            f"--operator needs a key, since its page shows everybody's lists: set {KEY_VARIABLE} in the"
            " environment; `openssl rand -hex 32` makes one"
        )
    if settings.operator and Node.of(settings.lake) is not None:
        raise InputError(
            f"--operator cannot show {shown(settings.lake)}: a service has only the live bundle of a lake in"
            " a store on its machine; leave the option out, or use it where the lake is a folder"
        )


def _with_files_for_connections(
    settings: ServiceSettings, announce: Callable[[str], None]
) -> ServiceSettings:
    """Let this process and its workers open a file for each connection, or allow fewer connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.limits.connections + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return settings
    most = max(1, allowed - _OTHER_FILES)
    announce(
        f"at most {counted(most, 'connection')} at once, as a process may open {counted(hard, 'file')}"
        " (ulimit -Hn)"
    )
    limits = settings.limits.model_copy(update={"connections": most})
    return settings.model_copy(update={"limits": limits})


def _serve_alone(settings: ServiceSettings, listener: socket.socket, announce: Callable[[], None]) -> None:
    from tunegraph_pipeline.serve.app import create_app

    server = _AnnouncingServer(_config(create_app(settings), settings), announce)
    server.run(sockets=[listener])


def _serve_with_workers(
    settings: ServiceSettings, listener: socket.socket, announce: Callable[[], None]
) -> None:
    assert settings.run_folder is not None
    metrics_folder = settings.run_folder / "metrics"
    metrics_folder.mkdir()
    os.environ[_METRICS_FOLDER] = str(metrics_folder)
    os.environ[ENVIRONMENT] = settings.model_dump_json()
    config = _config("tunegraph_pipeline.serve.app:of_environment", settings, factory=True)
    multiprocess.Process = _Worker  # type: ignore[misc]  # the supervisor makes them by this name
    supervisor = _Supervisor(config, [listener], announce)
    supervisor.run()
    if supervisor.failed:
        raise TuneGraphError("a worker could not start; see its message above")


class _AnnouncingServer(Server):
    """Calls ``announce`` once it listens."""

    def __init__(self, config: Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


class _Worker(multiprocess.Process):
    """If it dies while it is asked whether it lives, that is noticed at once, not when its time to answer is
    over: here its end of the line is closed."""

    def start(self) -> None:
        super().start()
        self.child_conn.close()


class _Supervisor(Multiprocess):
    """Starts the workers, announces when all of them listen, and replaces dead ones."""

    def __init__(self, config: Config, sockets: list[socket.socket], announce: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._announce = announce
        self.failed = True  # unless a signal ends it

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(_WORKER_START_SECONDS) for process in self.processes):
            self._announce()

    def terminate_all(self) -> None:
        # Closed here too: otherwise new connections would wait until the last worker has ended.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def handle_int(self) -> None:
        self.failed = False
        super().handle_int()

    def handle_term(self) -> None:
        self.failed = False
        super().handle_term()


def _config(app: Any, settings: ServiceSettings, *, factory: bool = False) -> Config:
    return Config(
        app,
        factory=factory,
        workers=settings.workers,
        loop="uvloop",
        http="tunegraph_pipeline.serve.protocol:Protocol",
        ws="none",
        lifespan="on",
        log_config=_LOGGING,
        access_log=False,
        proxy_headers=False,  # --proxies says which to trust
        server_header=False,
        timeout_keep_alive=settings.limits.idle_seconds,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        # Also how long a new worker may take after a hangup, before the old ones are kept.
        timeout_worker_healthcheck=_WORKER_START_SECONDS,
    )


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket. Raises InputError, naming the option, if the address cannot be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(f"--host {host} is not an address of this machine ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} on {host} is in use; choose another --port") from None
            if error.errno == errno.EACCES:
                raise InputError(f"this user may not open port {port}; choose a --port above 1023") from None
            raise InputError(f"cannot listen on --host {host} --port {port}: {error.strerror}") from None
        listener.set_inheritable(True)
        yield listener


@contextmanager
def _ignoring_repeated_signals() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again after a graceful shutdown."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
