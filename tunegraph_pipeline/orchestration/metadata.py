"""Metadata of assets in Dagster's own types: columns and their lineage, links, row counts, cost and plots.

Here: turning declarations, measurements and PNGs into metadata values. Not here: the plots
(`evaluation.plots`), or what a number means (the stage that reports it).
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
    UrlCodeReference,
)

from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.columns import Column, columns_of
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stages import Stage

if TYPE_CHECKING:
    from tunegraph_pipeline.training.loop import EpochReport

_PACKAGE = Path(__file__).parents[1]
_NAMES_SHOWN = 6
"""Of the columns that a column is made from, how many of one stage are named in its description."""
_DIGITS = 4
"""Of a measured figure; more would say nothing, and hide what changed."""


def stage_metadata(declared: Stage) -> dict[str, Any]:
    """The columns or arrays that a stage writes, what they are made from, and what a row is, for an asset's
    definition. Empty where it has no columns.

    The lineage is under Dagster's own key, and in the description of each column, since the pages of the
    open-source UI show it nowhere else.
    """
    columns = columns_of(declared)
    if not columns:
        return {}
    metadata: dict[str, Any] = {
        "dagster/column_schema": TableSchema([_table_column(column) for column in columns])
    }
    lineage = {
        column.name: [TableColumnDep(AssetKey(made_by), name) for made_by, name in column.made_from]
        for column in columns
        if column.made_from
    }
    if lineage:
        metadata["dagster/column_lineage"] = TableColumnLineage(lineage)
    if declared.tables:
        main = declared.tables[0]
        metadata |= {"dagster/table_name": f"tunegraph.{main}", "a row is": TABLES[main].row}
    return metadata


def _table_column(column: Column) -> TableColumn:
    made_from: dict[str, list[str]] = {}
    for made_by, name in column.made_from:
        made_from.setdefault(made_by, []).append(name)
    told = ", ".join(f"{made_by} ({_in_short(names)})" for made_by, names in made_from.items())
    return TableColumn(
        name=column.name,
        type=column.type,
        description=f"{column.meaning}. From {told}" if told else column.meaning,
        constraints=TableColumnConstraints(nullable=column.nullable),
        tags={"pii": ""} if column.personal else None,
    )


def _in_short(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:_NAMES_SHOWN])} and {more} more"


def links(declared: Stage, code_url: str) -> CodeReferencesMetadataValue:
    """Links to the code of a stage and to the page of the docs that explains it: below ``code_url``, or where
    that is "", to the files of this checkout. An installed package has no docs."""
    references: list[LocalFileCodeReference | UrlCodeReference] = []
    for label, path in (
        ("code", f"{_PACKAGE.name}/pipeline/{declared.module}.py"),
        ("docs", f"docs/{declared.guide}"),
    ):
        if code_url:
            references.append(UrlCodeReference(url=f"{code_url}/{path}", label=label))
        elif (file := _PACKAGE.parent / path).exists():
            references.append(LocalFileCodeReference(file_path=str(file), label=label))
    return CodeReferencesMetadataValue(code_references=references)


def materialized(result: StageResult) -> MaterializeResult[Any]:
    """What Dagster keeps of a stage: its rows, cost, version, how it was made, facts and plots."""
    metadata: dict[str, Any] = {}
    if result.rows is not None:
        metadata["dagster/row_count"] = result.rows
    metadata["seconds"] = shortened(result.cost.seconds)
    metadata["peak memory (MiB)"] = shortened(result.cost.peak_mib)
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
    return MetadataValue.url(fact) if is_url else shortened(fact)


def shortened(fact: Any) -> Any:
    """The same fact, its fractions to four significant digits, also within lists and mappings."""
    if isinstance(fact, float):
        return float(f"{fact:.{_DIGITS}g}")
    if isinstance(fact, Mapping):
        return {name: shortened(value) for name, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [shortened(value) for value in fact]
    return fact


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
