"""Dagster's history in Postgres: whether it can be reached, and what is said where it cannot.

Here: one connection before Dagster opens the history. Dagster would try six times, and say so in sixty lines.
Not here: the history itself (`history`), or its settings (`dagster.cluster.yaml`). The driver and Dagster's
storage come with the extra `cluster`; they are imported where a `DAGSTER_HOME` asks for Postgres, and there
alone.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.ref import InstanceRef
from dagster_shared.check import CheckError
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool
from yaml import YAMLError

from tunegraph_pipeline.errors import InputError, LakeError, LibraryMissingError

_MODULE = "dagster_postgres"
_PATIENCE = 10
"""Seconds until a server that does not answer at all counts as unreachable."""


def check_postgres(home: Path) -> None:
    """Connect once to the Postgres that `dagster.yaml` in ``home`` names; nothing where it names none.

    Raises LibraryMissingError without the extra, InputError where the file cannot be read, a variable is
    missing or no such address can be, LakeError where the server cannot be reached or refuses.
    """
    if (config := _settings(home)) is None:
        return
    if find_spec(_MODULE) is None:
        raise LibraryMissingError(
            f"{home}/dagster.yaml keeps Dagster's history in Postgres, which needs the extra `cluster`:"
            f" pip install 'tunegraph-pipeline[cluster]', or unset DAGSTER_HOME"
        )
    from dagster_postgres import utils

    named = _with_variables(home, config)
    address = "the server"
    try:
        engine = utils.create_pg_engine(
            utils.pg_url_from_config(named),
            utils.get_token_provider_from_config(named),
            poolclass=NullPool,
            connect_args={"connect_timeout": _PATIENCE},
        )
        url = engine.url
        address = f"{url.username}@{url.host}:{url.port}/{url.database}"
        engine.connect().close()
    except (ArgumentError, ValueError):  # the text of the error may have the address, and so the password
        raise InputError(
            f"{home}/dagster.yaml and its variables give no address of a Postgres; PGPORT has to be a number"
        ) from None
    except ModuleNotFoundError as error:
        raise InputError(
            f"{home}/dagster.yaml needs {error.name} for Postgres; name the scheme postgresql+psycopg2, or"
            f" install {error.name}"
        ) from None
    except DBAPIError as error:
        raise LakeError(
            f"Dagster's history in Postgres ({address}, by {home}/dagster.yaml) cannot be reached:"
            f" {reason(error)}; start it, or correct PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, or"
            " unset DAGSTER_HOME to keep the history in the lake"
        ) from None


def in_postgres(home: Path) -> bool:
    """Whether the history in ``home`` is kept in Postgres."""
    return _settings(home) is not None


def connection_errors() -> tuple[type[Exception], ...]:
    """What Dagster raises where its history cannot be read or written, in SQLite or Postgres."""
    loaded = sys.modules.get(f"{_MODULE}.utils")
    return (DBAPIError, *([loaded.DagsterPostgresException] if loaded else []))


def reason(error: BaseException | None) -> str:
    """What the driver says, in a line without addresses of its own."""
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    said = str(error.orig).strip() if error else ""
    # psycopg2: connection to server at "127.0.0.1", port 5432 failed: FATAL:  …; a line for each address.
    return " ".join(said.partition("\n")[0].rpartition("failed: ")[2].split()) or "no connection"


@contextmanager
def quiet_retries() -> Iterator[None]:
    """Dagster does not report each of the six times, in some 12 seconds, that it asks for a lost connection:
    if the last fails too, that error says it."""

    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Retrying failed database connection")

    root = logging.getLogger()
    root.addFilter(other)
    try:
        yield
    finally:
        root.removeFilter(other)


def _settings(home: Path) -> dict[str, Any] | None:
    """Section `storage: postgres` of `dagster.yaml` in ``home``; None where the history is elsewhere. Raises
    InputError where Dagster cannot read that file."""
    try:
        storage = InstanceRef.from_dir(str(home)).storage_data
    except DagsterInvalidConfigError as error:
        raise _unreadable(home, error.errors[0].message.partition(". ")[0]) from None
    except YAMLError as error:
        raise _unreadable(home, getattr(error, "problem", None) or "it is no YAML") from None
    except CheckError:
        raise _unreadable(home, "it has to be names with values") from None
    if storage is None or storage.module_name != _MODULE:
        return None
    return dict(storage.config_dict)


def _unreadable(home: Path, problem: str) -> InputError:
    return InputError(
        f"{home}/dagster.yaml cannot be used by Dagster: {problem}; correct or remove that file"
    )


def _with_variables(home: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The settings with the values of the variables that they name."""
    named: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(value, dict):
            named[key] = value
        elif value.keys() != {"env"}:
            named[key] = _with_variables(home, value)
        elif (found := os.environ.get(value["env"])) is not None:
            named[key] = found
        else:
            raise InputError(
                f"{home}/dagster.yaml takes {key} of Postgres from {value['env']}, which is not set; set it,"
                " or unset DAGSTER_HOME to keep Dagster's history in the lake"
            )
    return named
