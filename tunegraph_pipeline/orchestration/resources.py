"""The lake as a Dagster resource: where it is, the lock for the length of a run, and its views at the end."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from dagster import EnvVar, InitResourceContext
from dagster._config.pythonic_config import ConfigurableResourceFactory

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.dead_runs import PROCESS, this_process
from tunegraph_pipeline.pipeline.settings import open_lake, open_or_create_lake
from tunegraph_pipeline.progress import report_note

LAKE_VARIABLE = "TUNEGRAPH_LAKE"
DEFAULT_LAKE = "data_lake/main"


def lake_folder() -> Path:
    """The lake of this code location, by the environment."""
    return Path(EnvVar(LAKE_VARIABLE).get_value(DEFAULT_LAKE) or DEFAULT_LAKE)


class LakeResource(ConfigurableResourceFactory[Lake]):
    """The lake at ``root``, held for writing from the start of a run to its end; assets and checks get the
    `Lake` itself.

    Runs use the in-process executor, so one run is one holder, however many assets it has.
    """

    root: str = str(lake_folder())
    wait_seconds: float = 3600.0
    """How long a run waits for another writer before it fails."""

    def create_resource(self, context: InitResourceContext) -> Lake:
        return open_lake(Path(self.root))

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Generator[Lake, None, None]:
        run = context.run.run_id if context.run else ""
        if run and context.instance:
            # For a run that the daemon launched: a process that dies with the daemon cannot say so itself.
            context.instance.add_run_tags(run, {PROCESS: this_process()})

        def on_wait(holder: str) -> None:
            if context.log:
                context.log.warning(f"waiting for {holder}, which writes to the lake")

        lake = open_or_create_lake(Path(self.root))
        with lake.writing(f"Dagster run {run[:8]}", self.wait_seconds, on_wait) as warning:
            if warning and context.log:
                context.log.warning(warning)
            lake = self.create_resource(context)  # the writer waited for may have changed it
            yield lake
            if note := lake.refresh_views():
                report_note(note)
                if context.log:
                    context.log.warning(note)
