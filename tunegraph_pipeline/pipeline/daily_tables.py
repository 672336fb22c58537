"""Fill daily tables of one day from the raw batches received on it.

Here: the stage. Not here: deriving a table from the batches (`lake.daily`), or crawling (`crawl_day`).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date

from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured


def run(lake: Lake, *, day: date, tables: Sequence[str]) -> StageResult:
    """Fill ``tables`` of ``day``, unless they are up to date; the rows counted are those of the first."""
    with Measured() as cost:
        batches = lake.batches(day)
        reused = fill_day(lake, day, list(tables))
    skipped: Counter[str] = Counter()
    for batch in batches:
        skipped.update(batch.counts)
    return StageResult(
        None,
        "reused" if reused else "rebuilt",
        cost,
        rows=lake.row_count(tables[0], day.isoformat()),
        facts={"raw batches": len(batches)},
        tables={"skipped or noticed": skipped} if skipped else {},
    )
