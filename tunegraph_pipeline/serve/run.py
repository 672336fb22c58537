"""Running the service: checks first, then one server, or a supervisor and its workers.

Here: what has to hold before a port is opened, the port, and the processes with their signals. Not here: what
a worker answers (`app`). The first process imports neither the application nor a bundle where workers do.
"""

import errno
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.serve.access import KEY_VARIABLE, key_of_environment
from tunegraph_pipeline.serve.blocklist import Blocklist
from tunegraph_pipeline.serve.settings import ENVIRONMENT, ServiceSettings

_METRICS_FOLDER = (
    "PROMETHEUS_MULTIPROC_DIR"  # as `metrics` has it, which may not be imported before it is set
)
_GRACE_SECONDS = 30
_KEEP_ALIVE_SECONDS = 75  # longer than proxies keep a connection, so that they close it first
_WORKER_START_SECONDS = 60
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}


def serve(settings: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was asked and return.

    ``announce`` is told the address once it is answered at, and what a person should know. Raises LakeError,
    BundleError or InputError, before anything is served, where the lake has nothing to serve, the blocklist
    or the key is not one, or the address cannot be had.
    """
    _check(settings)
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(settings.host, settings.port))
        url = _url(settings.host, listener)
        if settings.public and key_of_environment() is None:
            announce(
                f"without {KEY_VARIABLE}, /users and /feedback are refused on an address others can reach"
            )
        stack.enter_context(_signals_end_quietly())
        if settings.workers == 1:
            _serve_alone(settings, listener, lambda: announce(f"listening on {url}"))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunegraph-serve-")))
            _serve_with_workers(
                settings.model_copy(update={"run_folder": folder}),
                listener,
                lambda: announce(f"listening on {url} with {settings.workers} workers"),
            )


def _check(settings: ServiceSettings) -> None:
    if not (settings.lake / "lake.json").is_file():
        raise LakeError(
            f"there is no lake at {settings.lake}; `tunegraph import` or `tunegraph refresh` makes one"
        )
    Bundle.open(read_current(settings.serving))
    Blocklist.read(settings.blocklist)
    key_of_environment()


def _serve_alone(settings: ServiceSettings, listener: socket.socket, announce: Callable[[], None]) -> None:
    from tunegraph_pipeline.serve.app import create_app

    server = _AnnouncingServer(_config(create_app(settings), workers=1), announce)
    server.run(sockets=[listener])


def _serve_with_workers(
    settings: ServiceSettings, listener: socket.socket, announce: Callable[[], None]
) -> None:
    assert settings.run_folder is not None
    counts = settings.run_folder / "metrics"
    counts.mkdir()
    os.environ[_METRICS_FOLDER] = str(counts)
    os.environ[ENVIRONMENT] = settings.model_dump_json()
    config = _config("tunegraph_pipeline.serve.app:of_environment", workers=settings.workers, factory=True)
    supervisor = _Supervisor(config, [listener], announce)
    supervisor.run()
    if supervisor.failed:
        raise TuneGraphError("a worker could not start; what it said is above")


class _AnnouncingServer(Server):
    """Says when it listens."""

    def __init__(self, config: Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


class _Supervisor(Multiprocess):
    """Starts the workers, says when all of them listen, and puts a new one in the place of a dead one."""

    def __init__(self, config: Config, sockets: list[socket.socket], announce: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._announce = announce
        self._stopped_by_signal = False

    @property
    def failed(self) -> bool:
        """Whether it ended although nobody asked it to."""
        return not self._stopped_by_signal

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(_WORKER_START_SECONDS) for process in self.processes):
            self._announce()

    def terminate_all(self) -> None:
        # Ours too, or whoever connects from now on is kept waiting until the last worker is done.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def handle_int(self) -> None:
        self._stopped_by_signal = True
        super().handle_int()

    def handle_term(self) -> None:
        self._stopped_by_signal = True
        super().handle_term()


def _config(app: Any, *, workers: int, factory: bool = False) -> Config:
    return Config(
        app,
        factory=factory,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=_LOGGING,
        access_log=False,
        proxy_headers=False,  # whom to believe is said by --proxies
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket. Raises InputError, naming the option, where it cannot be had."""
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
                raise InputError(
                    f"port {port} needs rights this user lacks; choose a --port above 1023"
                ) from None
            raise InputError(f"cannot listen on --host {host} --port {port}: {error.strerror}") from None
        listener.set_inheritable(True)
        yield listener


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """A server that was told to end raises the signal again when it is done; here that has been seen to."""
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
