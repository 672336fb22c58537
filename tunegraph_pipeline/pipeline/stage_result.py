"""What a stage of the refresh did: the version it left, how it was made, and its figures.

Here: the one form in which stages answer, whoever calls them. Not here: how Dagster shows it
(`orchestration.metadata`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunegraph_pipeline.progress import Measured

How = Literal["reused", "updated", "rebuilt"]
Plot = Callable[[], bytes]
"""Draws a PNG when it is called: where nobody looks, nothing is drawn."""


@dataclass(frozen=True)
class StageResult:
    """``version`` is None for a table without versions; ``how`` is None where a stage has one way to run.

    ``facts`` are bool, int, float, str, Path or dict by the name they are shown under; ``plots`` draw PNGs;
    ``tables`` are counts by name, or Markdown; ``notes`` are sentences for a person. ``ends`` says that the
    stages after this one have nothing to do.
    """

    version: str | None
    how: How | None
    cost: Measured
    rows: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    plots: Mapping[str, Plot] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, int] | str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ends: bool = False
