"""Running the jobs in this process, on the Dagster instance that lives in the lake.

Here: the instance, and one function that runs a job and turns its failure into the error a person reads.
Not here: what the jobs are (`jobs`), or how progress is drawn (`cli`).
"""

import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from sqlalchemy.exc import OperationalError

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import staged_file

_PACKAGE = Path(__file__).parents[1]


def project_file(name: str) -> Path:
    """`dagster.yaml` or `workspace.yaml`: inside an installed package, at the top of a checkout."""
    installed = _PACKAGE / name
    return installed if installed.exists() else _PACKAGE.parent / name


def dagster_home(lake: Lake) -> Path:
    """The folder of the lake's Dagster history, ready for use; `DAGSTER_HOME` overrules it."""
    if chosen := os.environ.get("DAGSTER_HOME"):
        return Path(chosen)
    home = lake.root.resolve() / ".dagster"
    settings = home / "dagster.yaml"
    if not settings.exists():
        with staged_file(settings, home) as draft:
            shutil.copyfile(project_file("dagster.yaml"), draft)
    return home


def run_job(
    lake: Lake,
    name: str,
    first: date | None = None,
    last: date | None = None,
    ops: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Run a job and wait for it; the UI shows the run.

    One that fills days does so from ``first`` to ``last``; for any other both are None.
    ``ops`` is the config of single assets by name. Raises what the failing asset raised, or LakeError
    naming the check that stopped the run; KeyboardInterrupt on Ctrl-C, which ends the run as failed.
    """
    from tunegraph_pipeline.orchestration.build import build_definitions

    config: dict[str, Any] = {
        "ops": {asset: {"config": dict(values)} for asset, values in (ops or {}).items()},
        "resources": {"lake": {"config": {"root": str(lake.root.resolve())}}},
        # The command line draws its own progress; the event log keeps the rest.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    bounds = {"start": first, "end": last}
    tags = {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in bounds.items() if day}
    job = build_definitions().resolve_job_def(name)
    home = dagster_home(lake)
    try:
        with DagsterInstance.from_config(str(home)) as instance:
            job.execute_in_process(run_config=config, instance=instance, tags=tags)
    except DagsterExecutionInterruptedError:
        # Dagster takes the signal, so that the run is closed in its history; then it is Ctrl-C again.
        raise KeyboardInterrupt from None
    except DagsterAssetCheckFailedError as error:
        raise LakeError(f"a check stopped the run: {error}") from error
    except OperationalError as error:
        raise LakeError(
            f"Dagster's history in {home} cannot be written ({error.orig});"
            " free some space, or end what holds it"
        ) from error
