"""An HTTP server on loopback that can be closed at once, for the simulated services.

Here: binding, threads, and the connections that are open. Not here: what is answered (`server`,
`dump_server`)."""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tunegraph_pipeline.errors import InputError


class LoopbackServer(ThreadingHTTPServer):
    """Listens on a port of 127.0.0.1, 0 for any that is free.

    Raises InputError for a port in use.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            super().__init__(("127.0.0.1", port), handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"the simulator cannot listen on port {port} ({error}); choose another --port, or 0 for any"
            ) from error

    def start(self) -> None:
        """Begin to answer, first the connections that already wait."""
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), name="simulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close every connection. A second call does nothing."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # already closed

    def server_bind(self) -> None:
        # The base class resolves this machine's name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
