"""What the commands print: consoles, tables, progress and JSON.

Here: how things look. Not here: how they are computed. Answers go to standard output, the rest to standard
error.
"""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from tunegraph_pipeline.progress import Progress as Watcher
from tunegraph_pipeline.progress import ProgressLines
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    import polars as pl

    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.recommend.matching import Matches
    from tunegraph_pipeline.recommend.recommender import Recommender


# Without emoji codes and markup: `:heart:` and `[b]` in the name of a song, a file or a lake are part of it.
answers = Console(highlight=False, emoji=False, markup=False)
notes = Console(stderr=True, highlight=False, emoji=False, markup=False)


class Bars:
    """Draws the progress that the stages report, a bar per task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[Watcher]:
    """Bars on a terminal, else lines."""
    if not notes.is_terminal:
        yield ProgressLines(partial(notes.print, soft_wrap=True))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=notes) as progress:
        yield Bars(progress)


def comparison_table(figures: "pl.DataFrame") -> Table:
    """One column per model and one row per metric, narrow enough for any terminal."""
    table = Table("", *figures["model"])
    for metric in figures.columns[1:]:
        table.add_row(metric, *(f"{value:,.4f}" for value in figures[metric]))
    return table


def show_recommendations(
    recommender: "Recommender",
    answer: Any,
    liked: Sequence[str],
    as_json: bool,
    found: "Matches | None" = None,
    *,
    ids: bool = False,
    links: bool = False,
) -> None:
    """``found``: how the songs of a list from elsewhere were found. With ``links`` these follow the table."""
    if as_json:
        items = [
            song_facts(item) | {"score": item.score, "reasons": [reason._asdict() for reason in item.reasons]}
            for item in answer.items
        ]
        matched = (
            {}
            if found is None
            else {"found": found.found, "missing": [song.in_words() for song in found.missing]}
        )
        about = {"passing": answer.passing, "unknown": answer.unknown, "degraded": answer.degraded}
        print_json({"items": items, **about, **matched})
        return
    _show_asked(recommender, answer, liked, found)
    if answer.passing is not None:
        notes.print(f"{counted(answer.passing, 'song passes', 'songs pass')} the filters")
    if not answer.items:
        warn(f"{answer.degraded}")
        return
    table = song_table(
        [item.song for item in answer.items],
        {
            "because you like (listeners of both)": [
                " and ".join(f"{why.name or why.track_id} ({why.listeners:,})" for why in item.reasons)
                for item in answer.items
            ],
            "score": [f"{item.score:.3f}" for item in answer.items],
        },
        ids=ids,
    )
    table.title = "recommendations"
    table.caption = (
        "score: how many listeners like it"
        if answer.degraded
        else "score: likeness to the list, with what neighbours and popularity add; it only orders"
    )
    answers.print(table)
    for rank, item in enumerate(answer.items if links else (), 1):
        # A column would break them in two.
        answers.print(f"{rank:3} {item.song.link or 'no link is known'}", soft_wrap=True, highlight=False)


def song_table(songs: Sequence[Any], figures: Mapping[str, Sequence[str]], *, ids: bool) -> Table:
    """A row per song: rank, name, artists, with ``ids`` the id, then its ``figures`` by the name of their
    column. A terminal that can opens the link of a name."""
    table = Table("", "song", "artists")
    if ids:
        table.add_column("id", overflow="fold")
    for what in figures:
        table.add_column(what)
    for rank, (song, *cells) in enumerate(zip(songs, *figures.values(), strict=True), 1):
        name = Text(song.name or song.track_id, style=Style(link=song.link or None))
        table.add_row(str(rank), name, song.artists, *([song.track_id] if ids else []), *cells)
    return table


def _show_asked(
    recommender: "Recommender", answer: Any, liked: Sequence[str], found: "Matches | None"
) -> None:
    """The liked songs, which of them are known, and whether the answer is personal."""
    known = [track for track in liked if track not in set(answer.unknown)]
    if known:
        shown = [song_name(recommender, track) for track in known[:10]]
        more = f", and {len(known) - 10} more" if len(known) > 10 else ""
        answers.print(Text.assemble(("likes", "bold"), f" {', '.join(shown)}{more}\n"), soft_wrap=True)
    if found is not None:
        show_found(found)
    elif answer.unknown:
        warn(
            f"{counted(len(answer.unknown), 'unknown song')}:"
            f" {', '.join(answer.unknown[:5])};"
            " `tunegraph search` finds songs by a part of their name"
        )
    if answer.degraded and answer.items:
        warn(f"not personal: {answer.degraded}")


def show_found(found: "Matches") -> None:
    """How many songs of a list from elsewhere a model knows, and some of the others."""
    for line in filter(None, (found.sentence(), found.missing_sentence())):
        notes.print(line, soft_wrap=True)


def song_facts(item: Any) -> dict[str, Any]:
    """What the JSON of an answer says of an item's song."""
    return {**item.song.shown(), "track_idx": item.song.track_idx}


def song_name(recommender: "Recommender", track: str) -> str:
    idx = recommender.bundle.tracks.position(track)
    name, artists = recommender.bundle.names[idx], recommender.bundle.artists[idx]
    return f"{name} ({artists})" if name and artists else name or track


def show_status(lake: "Lake") -> None:
    from tunegraph_pipeline.pipeline.status import lake_status

    table = Table(show_header=False, title=lake.name, title_justify="left")
    for what, value in lake_status(lake).items():
        table.add_row(what, value)
    answers.print(table)


def print_json(value: Any) -> None:
    ascii_alone = (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_alone, indent=1))  # noqa: T201  # rich would wrap long lines


def complain(line: str) -> None:
    notes.print(Text.assemble(("tunegraph:", "red"), f" {' '.join(line.split())}"), soft_wrap=True)


def warn(line: str) -> None:
    """A line that somebody should read, on standard error."""
    notes.print(line, style="yellow", soft_wrap=True)


def refresh_of(root: Path, *options: str) -> str:
    """The command that refreshes a lake, to be copied into a shell."""
    from tunegraph_pipeline.lake.snapshots import shown

    return shlex.join(["tunegraph", "refresh", *options, "--lake", shown(root)])
