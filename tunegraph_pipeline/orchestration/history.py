"""Dagster's history of a lake: where it is, and opening it.

Here: the folder, its `dagster.yaml`, and the instance of a bare `dagster dev`. Not here: running a job
(`in_process`), which lake it is (`resources`), or whether a Postgres that the folder names answers
(`postgres`).
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance
from dagster._cli.utils import TMP_DAGSTER_HOME_PREFIX
from dagster._config import Field
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import staged_file
from tunegraph_pipeline.orchestration.dead_runs import close_dead_runs
from tunegraph_pipeline.orchestration.postgres import (
    check_postgres,
    connection_errors,
    in_postgres,
    quiet_retries,
    reason,
)
from tunegraph_pipeline.orchestration.resources import lake_name, settle_lake

_PACKAGE = Path(__file__).parents[1]
_HOME_VARIABLE = "DAGSTER_HOME"


def project_file(name: str) -> Path:
    """`dagster.yaml`, `workspace.yaml`, or one of both for a cluster: inside an installed package, at the top
    of a checkout."""
    installed = _PACKAGE / name
    return installed if installed.exists() else _PACKAGE.parent / name


def dagster_home(root: Path) -> Path:
    """The folder of Dagster's history of the lake at ``root``, ready for use, also before there is a lake;
    `DAGSTER_HOME` overrules it. Raises InputError as :func:`chosen_home` does, and LakeError where the lake
    cannot be written."""
    if chosen := chosen_home():
        return chosen
    home = Lake.history_of(root).resolve()
    settings = home / "dagster.yaml"
    if not settings.exists():
        with staged_file(settings, home) as draft:
            # What is for a bare `dagster dev` alone stays out: this folder is the lake's already.
            parts = project_file("dagster.yaml").read_text().split("\n\n")
            draft.write_text("\n\n".join(part for part in parts if "\ninstance_class:" not in part))
    return home


def chosen_home() -> Path | None:
    """The folder in `DAGSTER_HOME`; None where it is not set. Raises InputError where it cannot hold a
    history, and where it keeps one in Postgres, what :func:`check_postgres` raises."""
    chosen = os.environ.get(_HOME_VARIABLE)
    if not chosen:
        return None
    home = Path(chosen).expanduser()
    if not home.is_absolute():
        problem = "is not an absolute path"
    elif not os.access(home, os.F_OK):
        problem = "does not exist"
    elif not home.is_dir():
        problem = "is not a folder"
    elif not os.access(home, os.W_OK | os.X_OK):
        problem = "cannot be written"
    else:
        check_postgres(home)
        return home
    raise InputError(
        f"{_HOME_VARIABLE}: {chosen} {problem}; name a folder of your own by its absolute path, or unset"
        f" {_HOME_VARIABLE} to keep Dagster's history in the lake"
    )


class LakeInstance(DagsterInstance):
    """The instance of `dagster dev` without `DAGSTER_HOME`: what it would keep in a temporary folder, and
    remove at the end, is kept with the lake, as `tunegraph ui` keeps it.

    The `dagster.yaml` of a checkout names this class. Dagster asks it for the folders once, before it starts
    webserver, daemon and code servers, and hands them the answer.
    """

    @staticmethod
    def config_schema() -> Mapping[str, Field]:
        """Settings of its own in `dagster.yaml`: none."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Where everything is kept: in the lake by `dagster dev` and `dg dev`, else in ``base_dir``. To check
        or list definitions changes no lake."""
        # DAGSTER_IS_DEV_CLI does not tell them: every command of dg sets it.
        if "dev" in sys.argv[1:] and Path(base_dir).name.startswith(TMP_DAGSTER_HOME_PREFIX):
            root = settle_lake()
            home = dagster_home(root)
            with open_history(home):
                pass  # it can be written, and runs that died are closed
            # Dagster has just logged the temporary folder.
            logging.getLogger("dagster").info(f"The lake is {lake_name(root)}. Its history stays in {home}.")
            base_dir = str(home)
        return InstanceRef.config_defaults(base_dir)


@contextmanager
def open_history(home: Path) -> Iterator[DagsterInstance]:
    """Dagster's instance in ``home``, without runs that died. Raises LakeError where it cannot be read or
    written, at first or later."""
    try:
        made = DagsterInstance.from_config(str(home))
    except OSError as error:
        raise _unusable(home, error) from error
    except connection_errors() as error:
        raise _unusable(home, error) from error
    try:
        with made as instance, quiet_retries():
            # Before a daemon starts: a dead run that still counts as running would block the queue for ever.
            close_dead_runs(instance)
            yield instance
    except connection_errors() as error:
        raise _unusable(home, error) from error


def _unusable(home: Path, error: Exception) -> LakeError:
    what = error.strerror if isinstance(error, OSError) else reason(error)
    if in_postgres(home):
        return LakeError(
            f"Dagster's history in Postgres (by {home}/dagster.yaml) cannot be read or written: {what}; the"
            " lake is as it was after the last finished step. Once the server answers, do the same again"
        )
    return LakeError(
        f"Dagster's history in {home} cannot be written ({what}); free some space, end the process that holds"
        f" it, or set {_HOME_VARIABLE} to a folder of your own"
    )
