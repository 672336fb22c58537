"""`tunegraph evaluate` and `compare`: measure the quality of rankings.

Here: the commands and their options. Not here: metrics and protocols (`evaluation/`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from tunegraph_pipeline.cli.lake_access import (
    open_lake,
    writing,
)
from tunegraph_pipeline.cli.options import MAIN_LAKE, CountOption, LakeOption
from tunegraph_pipeline.cli.show import (
    answers,
    comparison_table,
    notes,
    progress_bars,
)
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import check_writable

if TYPE_CHECKING:
    from tunegraph_pipeline.pipeline.settings import ComparisonSettings


def evaluate(
    held_out: Annotated[Path, typer.Option("--held-out", help="User/track pairs that are not in the lake.")],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Judge popularity, co-likes and EASE beside it.")
    ] = False,
    user_column: Annotated[str | None, typer.Option(help="The column with the user.")] = None,
    track_column: Annotated[str | None, typer.Option(help="The column with the track.")] = None,
) -> None:
    """Evaluate the served ranking on held-out likes. Prints one line per metric, last."""
    from tunegraph_pipeline.evaluation.evaluate import comparison
    from tunegraph_pipeline.pipeline.evaluate import judge_held_out_file
    from tunegraph_pipeline.recommend.recommender import Recommender
    from tunegraph_pipeline.sources.files import read_files

    home = open_lake(lake)
    recommender = Recommender.open(home.serving)
    (batch,) = read_files([held_out], kind="likes", user_column=user_column, track_column=track_column)
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
        notes.print(f"{held_out.name}: {count:,} {what}")
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
            help="weak, strong, temporal or cold; may be given several times. weak and strong unless given."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to compare: tunegraph, a baseline such as ease or same_artist, v1, v2 or v3_seed; "
            "all unless given."
        ),
    ] = None,
    tuned: Annotated[
        str | None, typer.Option(help="Take the values the baselines were tuned to on likes of that name.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out", help="Judge on user/track pairs that are not in the lake, not on a split."
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, max=1000, help="How many songs; 10 unless given.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Split and train that often, each time anew; once unless given.")
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Judge at most that many users; 10,000 unless given.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A markdown document to put the tables into.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="The section of the document; the name of the lake unless given.")
    ] = None,
    user_column: Annotated[str | None, typer.Option(help="The column of --held-out with the user.")] = None,
    track_column: Annotated[str | None, typer.Option(help="The column with the track.")] = None,
) -> None:
    """Train our model and the baselines anew on the lake's likes, and judge them side by side.

    Quality with intervals, training time, peak memory, time of a query. Takes minutes to hours; nothing that
    is trained here is served. The same lake, settings and seeds give the same figures.
    """
    from tunegraph_pipeline.pipeline.compare import compare_lake, keep_figures, write_section
    from tunegraph_pipeline.pipeline.settings import ComparisonSettings
    from tunegraph_pipeline.sources.files import read_files

    if held_out and protocol:
        raise InputError("--held-out FILE is a protocol of its own; give it without --protocol")
    home = open_lake(lake)
    if output is not None:
        check_writable(output)
    given = {
        "protocols": tuple(protocol or ()),
        "models": tuple(model or ()),
        "tuned": tuned,
        "k": k,
        "seeds": seeds,
        "users": users,
    }
    chosen = {name: value for name, value in given.items() if value}
    settings = home.section("comparison", ComparisonSettings).model_copy(update=chosen)
    pairs, origin = None, ""
    if held_out is not None:
        (batch,) = read_files([held_out], kind="likes", user_column=user_column, track_column=track_column)
        pairs, origin = batch.likes, held_out.name
    with progress_bars() as progress:
        found = compare_lake(home, settings, progress, held_out=pairs, origin=origin)
    with writing(home, "tunegraph compare"):
        keep_figures(home, found, dataset=origin or home.root.name, run_id=uuid4().hex)
    if output is not None:
        write_section(output, title or home.root.resolve().name, _compare_command(settings, origin), found)
    answers.print(found.document(), markup=False, soft_wrap=True)


def _compare_command(settings: "ComparisonSettings", origin: str) -> str:
    """The command that compares like this, whatever the lake's settings are."""
    words = ["tunegraph", "compare"]
    words += ["--held-out", origin] if origin else [f"--protocol {name}" for name in settings.protocols]
    words += [f"--model {name}" for name in settings.models]
    words += [f"--tuned {settings.tuned}"] if settings.tuned else []
    words += [f"-k {settings.k}", f"--seeds {settings.seeds}", f"--users {settings.users}"]
    return " ".join(words)
