"""`tunegraph refresh` and `publish`: run the jobs that rebuild and publish.

Here: the commands and what they print. Not here: the choice of days and sources (`pipeline/`), the jobs
(`orchestration/`).
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunegraph_pipeline.cli.lake_access import open_lake, run_with_bars, warn_of_future_days, writing
from tunegraph_pipeline.cli.options import MAIN_LAKE, LakeOption, WaitOption, as_date
from tunegraph_pipeline.cli.show import notes, show_status, warn
from tunegraph_pipeline.errors import InputError

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake


def refresh(
    lake: LakeOption = MAIN_LAKE,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="simulator, listenbrainz-dumps, listenbrainz, spotify, files, or none to rebuild from"
            " received data. Default: the lake's own.",
        ),
    ] = None,
    start_user: Annotated[
        list[str] | None,
        typer.Option(metavar="USER", help="A user the crawl starts from; repeatable. Saved in the lake."),
    ] = None,
    months: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=600,
            help="Months of listens to take from a full export of listenbrainz-dumps. Default: 3. Saved.",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where listenbrainz-dumps are. Default: MetaBrainz. Saved."),
    ] = None,
    day: Annotated[
        datetime | None,
        typer.Option(
            "--date", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="The day to fill. Default: today."
        ),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="The first of several days."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            metavar="YYYY-MM-DD",
            formats=["%Y-%m-%d"],
            help="The last of several days. Default: today.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Retrain the model from scratch.")] = False,
    step: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=1, help="Days per refresh. Default: one refresh for all days."),
    ] = None,
    wait: WaitOption = 0,
) -> None:
    """Fill the days, update graph, model and bundle, and publish.

    Runs the job `refresh` of the Dagster UI in this process; the run appears there too. Stages whose inputs
    did not change are reused.
    """
    from tunegraph_pipeline.orchestration.history import chosen_home
    from tunegraph_pipeline.pipeline.fill_days import days_to_fill
    from tunegraph_pipeline.pipeline.prepare_refresh import lake_to_refresh, prepare_crawl, prepare_dumps
    from tunegraph_pipeline.pipeline.sources import SOURCES

    if source not in (None, "none", *SOURCES):
        raise InputError(f"--source {source}: choose one of {', '.join(SOURCES)}, or none")
    if day and (first or last):
        raise InputError("give --date, or --from and --to, not both")
    chosen_home()  # before a lake is made that could not be filled
    home = lake_to_refresh(lake, source)
    with writing(home, "tunegraph refresh", wait) as home:
        source = source or home.file.source or "none"
        _collect_feedback(home)
        warn_of_future_days(home)
        for notice in prepare_dumps(home, source, months=months, mirror=mirror):
            warn(notice)
        days = days_to_fill(home, source, as_date(first or day), as_date(last or day))
        for notice in prepare_crawl(home, source, start_user or []):
            warn(notice)
        spans = days.stretches(home)
        if step:
            spans = [one for span in spans for one in span.steps(step)]
        for span in spans:
            # A person at the terminal can retry; a schedule cannot.
            crawl = {"source": source, "retries": 0, **span.crawl_config()}
            ops: dict[str, dict[str, Any]] = {"crawled_users": crawl}
            if step is None and span is not spans[-1]:
                notes.print(f"filling {_span(span.first, span.last)} of {home.name}")
                run_with_bars(home, "daily_tables", span.first, span.last, ops=ops)
                continue
            notes.print(f"refreshing {home.name} from {source}, {_span(span.first, span.last)}")
            ops["trained_model"] = {"full": full}
            run_with_bars(home, "refresh", span.first, span.last, ops=ops)
        refreshed = open_lake(home.root)  # the run may have changed the lake
    show_status(refreshed)


def publish(
    lake: LakeOption = MAIN_LAKE,
    override: Annotated[
        str | None,
        typer.Option(metavar="WHY", help="Why to publish the model that the gate refused. Recorded."),
    ] = None,
    wait: WaitOption = 0,
) -> None:
    """Publish the current model if it passes the gate.

    With --override, publish it although the gate refused it. `tunegraph rollback` returns to an earlier
    bundle.
    """
    home = open_lake(lake)
    if override is not None and not override.strip():
        raise InputError('--override has to say why: --override "the new catalogue is worth it"')
    with writing(home, "tunegraph publish", wait) as home:
        run_with_bars(home, "publish", ops={"serving_bundle": {"override": override or ""}})
    show_status(home)


def _collect_feedback(lake: "Lake") -> None:
    """Collect feedback before the days are chosen, since it makes the day it was given on stale."""
    from tunegraph_pipeline.lake.feedback_spool import collect

    found = collect(lake)
    for batch in found.batches:
        notes.print(f"feedback: {batch.rows['feedback']:,} of {batch.folder.parent.name.removeprefix('dt=')}")
    for note in found.sentences():
        warn(note)


def _span(first: date, last: date) -> str:
    return str(first) if first == last else f"{first} to {last}"
