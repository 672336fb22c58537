"""Make an asset of a stage.

Here: the name, inputs, tables and code version of an asset, from the list of stages. Not here: the config of
an asset and what it passes to its stage (`assets`), or what a run reports (`metadata`).
"""

from collections.abc import Callable
from typing import Any

from dagster import (
    AssetsDefinition,
    BackfillPolicy,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from tunegraph_pipeline.lake.lake import FIRST_DAY, Lake
from tunegraph_pipeline.orchestration.metadata import materialized, table_metadata
from tunegraph_pipeline.pipeline.stages import stage

# end_offset=1: today is a partition, since an import made today is received today.
DAILY = DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)
_OWNERS = ["team:tunegraph"]
_TABLE_KINDS = ("parquet", "polars")


def stage_asset(
    name: str, group: str, kinds: tuple[str, ...] = _TABLE_KINDS, **options: Any
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """`dagster.asset` for the stage ``name``; ``options`` are passed on.

    The list of stages says what it is built from, its code version, its table and whether it runs by the day.
    A backfill of many days is one run.
    """
    declared = stage(name)
    if declared.daily:
        options |= {"partitions_def": DAILY, "backfill_policy": BackfillPolicy.single_run()}
    decorator: Callable[[Callable[..., Any]], AssetsDefinition] = asset(
        name=name,
        group_name=group,
        kinds=set(kinds),
        deps=declared.inputs,
        code_version=str(declared.code),
        owners=_OWNERS,
        metadata=table_metadata(declared.tables[0]) if declared.tables else None,
        **options,
    )
    return decorator


def plain_asset(
    name: str, group: str, kinds: tuple[str, ...] = _TABLE_KINDS, *, description: str
) -> AssetsDefinition:
    """The asset of a stage that needs nothing but the lake."""

    @stage_asset(name, group, kinds, description=description)
    def run_stage(lake: ResourceParam[Lake]) -> MaterializeResult[Any]:
        return materialized(stage(name).run(lake))

    return run_stage
