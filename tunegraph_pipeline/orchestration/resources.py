"""The lake as a Dagster resource: where it is, the lock for the length of a run, and its views at the end."""

import os
from collections.abc import Iterator
from pathlib import Path

from dagster import Field, InitResourceContext, ResourceDefinition, resource

from tunegraph_pipeline.errors import InputError, LakeError, LakeMissingError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.snapshots import Node, lake_path, shown
from tunegraph_pipeline.orchestration.dead_runs import PROCESS, this_process
from tunegraph_pipeline.orchestration.run_days import check_days
from tunegraph_pipeline.pipeline.settings import open_lake, open_or_create_lake
from tunegraph_pipeline.progress import report_note

LAKE_VARIABLE = "TUNEGRAPH_LAKE"
MAIN_LAKE, DEMO_LAKE = Path("data_lake/main"), Path("data_lake/demo")
WAIT_SECONDS = 3600.0


def lake_folder() -> Path:
    """The lake of this code location: what `TUNEGRAPH_LAKE` names (the cache of one in a store), else
    `data_lake/main` where that is a lake, else the demo. Relative paths are from the working directory, as on
    the command line."""
    if chosen := os.environ.get(LAKE_VARIABLE):
        return lake_path(chosen)
    try:
        Lake.open(MAIN_LAKE)
    except LakeMissingError:
        return DEMO_LAKE
    except LakeError:
        pass  # it is one; whoever opens it is told what is wrong
    return MAIN_LAKE


def settle_lake() -> Path:
    """Fix :func:`lake_folder` for this process and all that it starts; returns the absolute path.

    Otherwise, once `data_lake/main` comes into being while Dagster shows the demo, runs would write to a
    lake that the page does not show.
    """
    root = lake_folder().absolute()
    os.environ[LAKE_VARIABLE] = str(root)
    return root


def is_demo(root: Path) -> bool:
    """Whether this is the demo, whose source is the simulator where none was chosen."""
    return root.resolve() == DEMO_LAKE.resolve()


def lake_name(root: Path) -> str:
    """What Dagster's page calls the lake at ``root``: its folder, relative to the working directory where it
    is below that."""
    if Node.of(root) is not None:
        return shown(root)
    root, here = root.absolute(), Path.cwd()
    return str(root.relative_to(here) if root.is_relative_to(here) else root)


def lake_resource(root: Path, wait_seconds: float = WAIT_SECONDS) -> ResourceDefinition:
    """The lake at ``root``, held for writing from the start of a run to its end; assets and checks get the
    `Lake` itself.

    Runs use the in-process executor, so one run is one holder, however many assets it has. Where the lake is
    must not be config: Dagster keeps the config of every run with the lake, and in a lake that was copied or
    moved, a run that is repeated would write to the original.
    """
    waits = Field(
        float,
        default_value=wait_seconds,
        description="How long a run waits for another writer of the lake before it fails.",
    )

    @resource(
        config_schema={"wait_seconds": waits},
        description=f"The lake {lake_name(root)}, held for writing during a run.",
    )
    def held_lake(context: InitResourceContext) -> Iterator[Lake]:
        run = context.run.run_id if context.run else ""
        if context.run and context.instance:
            # For a run that the daemon launched: a process that dies with the daemon cannot say so itself.
            context.instance.add_run_tags(run, {PROCESS: this_process()})
            try:
                check_days(context.run, context.instance)
            except InputError as error:
                # Dagster retries a run that fails before its first step.
                context.instance.add_run_tags(run, {"dagster/max_retries": "0"})
                if context.log:
                    context.log.error(str(error))  # noqa: TRY400  # the traceback follows
                raise

        def on_wait(holder: str) -> None:
            if context.log:
                context.log.warning(f"waiting for {holder}, which writes to the lake")

        seconds = context.resource_config["wait_seconds"]
        with open_or_create_lake(root).writing(f"Dagster run {run[:8]}", seconds, on_wait) as warning:
            if warning and context.log:
                context.log.warning(warning)
            lake = open_lake(root)  # the writer waited for may have changed it
            yield lake
            if note := lake.refresh_views():
                report_note(note)
                if context.log:
                    context.log.warning(note)

    return held_lake
