"""A real Postgres on loopback for tests, and a `DAGSTER_HOME` that keeps Dagster's history in it.

Here: starting, stopping and asking the server. Not here: what is tested with it (`test_postgres`).

It is Debian's (`apt install postgresql`), found on the PATH or below /usr/lib/postgresql. Postgres refuses to
run as root, so root starts it as the user `postgres`, on a folder of its own.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.orchestration.history import project_file
from tunegraph_pipeline_tests.cluster.availability import without
from tunegraph_pipeline_tests.running_dagster import PATIENCE

USER = "tunegraph"
_OWNER: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []}
_START_SECONDS = 60.0


def programs() -> Path:
    """The folder with `initdb` and `postgres`; the test is left out where there is none."""
    found = shutil.which("initdb")
    if found is None:
        installed = sorted(
            Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[4])
        )
        if not installed:
            without("no Postgres here: apt install postgresql")
        found = str(installed[-1])
    return Path(found).resolve().parent


@dataclass
class Postgres:
    """A server, its port and the password of its one user."""

    programs: Path
    folder: Path
    port: int
    password: str = field(default_factory=lambda: f"s3cret/{secrets.token_hex(8)}", repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def owner(self) -> dict[str, Any]:
        return _OWNER if os.geteuid() == 0 else {}

    def initialise(self) -> None:
        if self.owner:
            shutil.chown(self.folder, **{name: _OWNER[name] for name in ("user", "group")})
        file = self.folder / "password"
        file.write_text(self.password)
        subprocess.run(
            [
                *(self.programs / "initdb", "--pgdata", self.folder / "data", "--username", USER),
                *("--auth", "scram-sha-256", "--pwfile", file, "--encoding", "UTF8", "--no-locale"),
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self.owner,
        )
        file.unlink()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"),
                    *("-c", "fsync=off", "-c", "full_page_writes=off"),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.owner,
            )
        until = time.monotonic() + _START_SECONDS
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"Postgres does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server at once: whoever is connected loses the connection."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": it does not wait for clients
            self.process.wait(60)
            self.process = None

    def ask(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of a statement, which is committed."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def environment(self, database: str) -> dict[str, str]:
        """The variables by which `dagster.cluster.yaml` finds a database."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
        }

    def history(self, home: Path) -> dict[str, str]:
        """A new database, and a `DAGSTER_HOME` with the settings of the project; returns the variables that
        name both."""
        database = f"history_{secrets.token_hex(4)}"
        self.ask(f"create database {database}")
        home.mkdir()
        shutil.copy(project_file("dagster.cluster.yaml"), home / "dagster.yaml")
        return {"DAGSTER_HOME": str(home), **self.environment(database)}

    def wait_for(
        self, what: str, database: str, sql: str, enough: Callable[[list[tuple[Any, ...]]], bool]
    ) -> None:
        """Ask a table, which may not be there yet, until its rows are enough."""
        import psycopg2

        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(psycopg2.errors.UndefinedTable):
                if enough(self.ask(sql, database)):
                    return
            time.sleep(0.05)
        pytest.fail(f"{what} is not in Postgres after {PATIENCE:.0f} seconds")

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Postgres"]:
        """A new server with no history, removed at the end."""
        where = programs()
        # Not below pytest's own folder, which nobody but its owner may enter.
        folder = Path(tempfile.mkdtemp(prefix="tunegraph-postgres-"))
        server = cls(where, folder, free_port())
        try:
            server.initialise()
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests; each asks it for a history of its own."""
    with Postgres.running() as server:
        yield server
