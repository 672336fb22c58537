"""Metadata of assets in Dagster's own types: column schemas, row counts, cost and plots.

Here: turning schemas, measurements and PNGs into metadata values. Not here: the plots (`evaluation.plots`),
or what a number means (the stage that reports it).
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
)

from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.stage_result import StageResult

if TYPE_CHECKING:
    from tunegraph_pipeline.training.loop import EpochReport


def table_metadata(table: str) -> dict[str, Any]:
    """The declared columns of a table and what a row is, for an asset's definition."""
    spec = TABLES[table]
    columns = [
        TableColumn(
            name=column.name,
            type=str(column.type),
            description=(column.metadata or {}).get(b"description", b"").decode(),
            constraints=TableColumnConstraints(nullable=column.nullable),
        )
        for column in spec.schema
    ]
    return {"dagster/column_schema": TableSchema(columns), "row": spec.row}


def materialized(result: StageResult) -> MaterializeResult[Any]:
    """What Dagster keeps of a stage: its rows, cost, version, how it was made, facts and plots."""
    metadata: dict[str, Any] = {}
    if result.rows is not None:
        metadata["dagster/row_count"] = result.rows
    metadata["seconds"] = round(result.cost.seconds, 3)
    metadata["peak_memory_mib"] = round(result.cost.peak_mib, 1)
    if result.version is not None:
        metadata["version"] = result.version
    if result.how is not None:
        metadata["made"] = result.how
    metadata |= {name: _value(fact) for name, fact in result.facts.items()}
    metadata |= {name: picture(draw()) for name, draw in result.plots.items()}
    metadata |= {name: _table(table) for name, table in result.tables.items()}
    if result.notes:
        metadata["notes"] = notes_list(result.notes)
    return MaterializeResult(metadata=metadata)


def materialized_with_warning(context: AssetExecutionContext, result: StageResult) -> MaterializeResult[Any]:
    """The same of a stage that a lake may have too little for: facts that say "not …" are warned of."""
    for name, fact in result.facts.items():
        if name.startswith("not "):
            context.log.warning(f"{name}: {fact}")
    return materialized(result)


def materialized_unless_ended(
    context: AssetExecutionContext, result: StageResult
) -> Iterator[MaterializeResult[Any]]:
    """The same of a stage that may end the run: then the asset is not materialised, so that what follows is
    skipped, and an observation has the notes that say why."""
    if result.ends:
        for note in result.notes:
            context.log.warning(note)
        metadata = {"notes": notes_list(result.notes)}
        context.log_event(AssetObservation(context.asset_key, metadata=metadata))
    else:
        yield materialized(result)


def _value(fact: Any) -> Any:
    """An address as a link; Dagster shows any other fact by its type."""
    is_url = isinstance(fact, str) and fact.startswith(("http://", "https://"))
    return MetadataValue.url(fact) if is_url else fact


def _table(table: Mapping[str, int] | str) -> Any:
    return MetadataValue.md(table) if isinstance(table, str) else counts_table(table)


def notes_list(notes: Iterable[str]) -> Any:
    """Sentences as a Markdown list."""
    return MetadataValue.md("\n".join(f"- {note}" for note in notes))


def epoch_observer(context: AssetExecutionContext) -> Callable[["EpochReport"], None]:
    """A callback for trainings that logs the figures of each epoch as an observation of the asset."""

    def observe(report: "EpochReport") -> None:
        context.log_event(AssetObservation(context.asset_key, metadata=report.metadata()))

    return observe


def picture(png: bytes) -> Any:
    """A PNG as Markdown, the only form in which the UI shows pictures."""
    return MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def counts_table(counts: Mapping[str, int]) -> Any:
    """Counts as a two-column Markdown table."""
    rows = [(what, f"{count:,}") for what, count in counts.items()]
    return MetadataValue.md(markdown_table(["what", "count"], rows))
