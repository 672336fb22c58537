"""Make an asset of a stage.

Here: the name, inputs, columns, tags, links and code version of an asset, from the list of stages. Not here:
the config of an asset and what it passes to its stage (`assets`), or what a run reports (`metadata`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.metadata import links, materialized, stage_metadata
from tunegraph_pipeline.pipeline.columns import about_people
from tunegraph_pipeline.pipeline.settings import AssetSettings
from tunegraph_pipeline.pipeline.stages import STAGES, stage
from tunegraph_pipeline.progress import ProgressLines, watched_by

LAST_OF_REFRESH = [one.name for one in STAGES if one.in_refresh][-1]
_PROGRESS_SECONDS = 5.0
"""Between two lines of progress: who looks at a run sees within ten seconds that it goes on."""
_TABLE_KINDS = ("parquet", "polars")


def daily_partitions(first: date) -> DailyPartitionsDefinition:
    """A partition for every day from ``first`` to today: what is imported today is received today."""
    return DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC", end_offset=1)


def stage_asset(
    name: str, group: str, kinds: tuple[str, ...] = _TABLE_KINDS, **options: Any
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """`dagster.asset` for the stage ``name``; ``options`` are passed on.

    The list of stages says what it is built from, its code version, its tables, what it is about and whether
    it runs by the day; then ``options`` have the ``partitions_def``.
    A backfill of many days is one run. What no refresh runs comes after all that one does, so that publishing
    never waits for it: in one run as the last steps, in a backfill as a run of its own, by its own policy.
    """
    declared = stage(name)
    deps = list(declared.inputs)
    if declared.daily:
        options |= {"backfill_policy": BackfillPolicy.single_run()}
    if not declared.in_refresh:
        deps.append(LAST_OF_REFRESH)
        options |= {"backfill_policy": BackfillPolicy.single_run(), "op_tags": {"dagster/priority": "-1"}}
    decorate: Callable[[Callable[..., Any]], AssetsDefinition] = asset(
        name=name,
        group_name=group,
        kinds=set(kinds),
        deps=deps,
        code_version=str(declared.code),
        tags={"domain": declared.domain} | ({"pii": ""} if about_people(declared) else {}),
        metadata=stage_metadata(declared),
        **options,
    )
    return lambda run_stage: decorate(_logging_progress(run_stage))


def _logging_progress(run_stage: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with its progress in the log of the run, and what it raises for people as a line."""

    if isgeneratorfunction(run_stage):

        @wraps(run_stage)
        def watched(*args: Any, **inputs: Any) -> Iterator[Any]:
            with _logged():
                yield from run_stage(*args, **inputs)
                _keep(inputs)

    else:

        @wraps(run_stage)
        def watched(*args: Any, **inputs: Any) -> Any:
            with _logged():
                result = run_stage(*args, **inputs)
                _keep(inputs)
                return result

    return watched


def _keep(inputs: dict[str, Any]) -> None:
    """Commit what a stage wrote, so that a refresh that dies later goes on after it."""
    lake = inputs.get("lake")
    if isinstance(lake, Lake):
        lake.commit()


@contextmanager
def _logged() -> Iterator[None]:
    log = AssetExecutionContext.get().log
    try:
        with watched_by(ProgressLines(log.info, _PROGRESS_SECONDS)):
            yield
    except TuneGraphError as error:
        log.error(str(error))  # noqa: TRY400  # the traceback follows
        raise


def plain_asset(
    name: str, group: str, kinds: tuple[str, ...] = _TABLE_KINDS, **options: Any
) -> AssetsDefinition:
    """The asset of a stage that needs nothing but the lake; ``options`` as of `stage_asset`."""

    @stage_asset(name, group, kinds, **options)
    def run_stage(lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
        return materialized(stage(name).run(lake))

    return run_stage


def with_owners_and_links(made: AssetsDefinition, shown: AssetSettings) -> AssetsDefinition:
    """The same asset with the owners of the settings, and links to the code and the docs of its stage."""

    def complete(spec: AssetSpec) -> AssetSpec:
        references = links(stage(spec.key.to_user_string()), shown.code_url)
        return spec.replace_attributes(
            owners=list(shown.owners), metadata={**spec.metadata, "dagster/code_references": references}
        )

    return made.map_asset_specs(complete)
