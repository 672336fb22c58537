"""`tunegraph evaluate` and `compare`: measure the quality of rankings.

Here: the commands and their options. Not here: metrics and protocols (`evaluation/`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from tunegraph_pipeline.cli.lake_access import import_limits, open_lake, writing
from tunegraph_pipeline.cli.options import (
    MAIN_LAKE,
    CountOption,
    LakeOption,
    TrackColumnOption,
    UserColumnOption,
)
from tunegraph_pipeline.cli.show import answers, comparison_table, notes, progress_bars
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import check_writable

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.raw import RawBatch
    from tunegraph_pipeline.pipeline.settings import ComparisonSettings


def evaluate(
    held_out: Annotated[
        Path, typer.Option(metavar="FILE", help="A file of user/track pairs that are not in the lake.")
    ],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also evaluate popularity, co-likes and EASE.")
    ] = False,
    user_column: UserColumnOption = None,
    track_column: TrackColumnOption = None,
) -> None:
    """Evaluate the live bundle on held-out likes, one line per metric."""
    from tunegraph_pipeline.evaluation.evaluate import comparison
    from tunegraph_pipeline.pipeline.alone import open_live
    from tunegraph_pipeline.pipeline.evaluate import judge_held_out_file

    home = open_lake(lake)
    recommender = open_live(home)
    batch = _held_out_likes(lake, held_out, user_column, track_column)
    with writing(home, "tunegraph evaluate"), progress_bars() as progress:
        judged = judge_held_out_file(
            home,
            recommender,
            batch.likes,
            held_out.name,
            k=k,
            with_baselines=baselines,
            run_id=uuid4().hex,
            progress=progress,
        )
    for what, count in batch.counts.items():
        notes.print(f"{held_out.name}: {what}: {count:,}")
    for note in judged.notes:
        notes.print(note)
    if baselines:
        answers.print(comparison_table(comparison(judged.evaluations)))
    for line in judged.served.lines():
        answers.print(line)


def compare(
    lake: LakeOption = MAIN_LAKE,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="weak, strong, continuation, temporal or cold; repeatable. Default: weak and strong, "
            "continuation where a list has an order, temporal where half of the likes or more have a time.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="tunegraph, v1, v2, v3_seed or a baseline such as ease; repeatable. Default: all.",
        ),
    ] = None,
    tuned: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Use the baseline settings that were tuned on this dataset."),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Evaluate on this file of user/track pairs, not on a split."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", metavar="N", min=1, max=1000, help="How many songs. Default: 10.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many splits to train on. Default: 1.")
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Evaluate at most this many users. Default: 10,000."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Markdown file to write the tables into.")
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The section of that file. Default: the name of the lake."),
    ] = None,
    user_column: UserColumnOption = None,
    track_column: TrackColumnOption = None,
) -> None:
    """Train the model and the baselines from scratch and compare them.

    Reports quality with confidence intervals, training time, peak memory and query time. Takes minutes to
    hours. Nothing trained here is served. The same lake, settings and seeds give the same figures.
    """
    from tunegraph_pipeline.pipeline.compare import compare_lake, keep_figures, write_section
    from tunegraph_pipeline.pipeline.settings import ComparisonSettings

    if held_out and protocol:
        raise InputError("--held-out replaces --protocol; give one of them")
    home = open_lake(lake)
    if output is not None:
        check_writable(output)
    given: dict[str, Any] = {"protocols": tuple(protocol or ()), "models": tuple(model or ())}
    given |= {"tuned": tuned, "k": k, "seeds": seeds, "users": users}
    settings = home.section("comparison", ComparisonSettings).model_copy(
        update={name: value for name, value in given.items() if value}
    )
    pairs, origin = None, ""
    if held_out is not None:
        batch = _held_out_likes(lake, held_out, user_column, track_column)
        pairs, origin = batch.likes, held_out.name
    with progress_bars() as progress:
        found = compare_lake(home, settings, progress, held_out=pairs, origin=origin)
    with writing(home, "tunegraph compare"):
        keep_figures(home, found, dataset=origin or home.root.name, run_id=uuid4().hex)
    if output is not None:
        command = _compare_command(settings, found.protocols, origin)
        write_section(output, title or home.root.resolve().name, command, found)
    answers.print(found.document(), soft_wrap=True)


def _compare_command(settings: "ComparisonSettings", protocols: Sequence[str], origin: str) -> str:
    """The command that repeats this comparison, whatever the lake's settings."""
    words = ["tunegraph", "compare"]
    words += ["--held-out", origin] if origin else [f"--protocol {name}" for name in protocols]
    words += [f"--model {name}" for name in settings.models]
    words += [f"--tuned {settings.tuned}"] if settings.tuned else []
    words += [f"-k {settings.k}", f"--seeds {settings.seeds}", f"--users {settings.users}"]
    return " ".join(words)


def _held_out_likes(
    lake: Path, held_out: Path, user_column: str | None, track_column: str | None
) -> "RawBatch":
    from tunegraph_pipeline.sources.files import read_files

    with import_limits(lake):
        batches = read_files([held_out], kind="likes", user_column=user_column, track_column=track_column)
    if len(batches) > 1:
        raise InputError(f"{held_out} has {len(batches)} tables of likes; give one alone")
    return batches[0]
