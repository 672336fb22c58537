"""Compare models on the likes of a lake: each is trained from scratch, in turn, on the same splits.

Here: the stage; the loop over protocols, seeds and models, the cost of each, and the resulting document. Not
here: splits, models and tables (`evaluation`), or output (`cli`). What is trained here is never served.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.plots import comparison_chart
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import UInt16
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import staged_file
from tunegraph_pipeline.pipeline.like_ages import like_ages
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import ComparisonSettings
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.pipeline.trained_model import lake_training_data
from tunegraph_pipeline.progress import Measured, Progress, report_progress
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.compare import Outcome
    from tunegraph_pipeline.evaluation.splits import Split
    from tunegraph_pipeline.pipeline.model_registry import Settings
    from tunegraph_pipeline.training.train import TrainingData

PROTOCOLS = ("weak", "strong", "continuation", "temporal", "cold")


@dataclass(frozen=True)
class Comparison:
    """``outcomes`` of each protocol by its name; ``notes``: what a reader should know; ``protocols``: of
    `PROTOCOLS`, those that were gone through, none of them where a file was held out."""

    outcomes: dict[str, list["Outcome"]]
    notes: list[str]
    protocols: tuple[str, ...] = ()

    def document(self) -> str:
        """Markdown: the notes, and the tables of each protocol below a heading."""
        from tunegraph_pipeline.evaluation.compare import markdown

        parts = ["\n".join(f"- {note}" for note in self.notes)]
        for name, outcomes in self.outcomes.items():
            parts.append(f"### {name[0].upper()}{name[1:]}\n\n{markdown(outcomes)}")
        return "\n\n".join(parts)


def run(lake: Lake, *, run_id: str) -> StageResult:
    """Compare as the section ``comparison`` of the settings says, and add the figures to the ``evaluation``
    table, whose rows name ``run_id``.

    Where nobody can be judged, the fact "not compared" says why. Raises InputError for an unknown name in the
    settings.
    """
    from tunegraph_pipeline.evaluation.compare import markdown

    settings = lake.section("comparison", ComparisonSettings)
    check_names(settings)
    with Measured() as cost:
        try:
            found = compare_lake(lake, settings, report_progress)
        except InputError as error:
            return StageResult(None, None, cost, facts={"not compared": str(error)})
        dataset = f"likes of {lake.current_version('like_graph')}"
        rows = keep_figures(lake, found, dataset=dataset, run_id=run_id)
    return StageResult(
        None,
        None,
        cost,
        rows=rows,
        plots={
            f"{name}, plot": partial(comparison_chart, outcomes) for name, outcomes in found.outcomes.items()
        },
        tables={name: markdown(outcomes) for name, outcomes in found.outcomes.items()},
        notes=found.notes,
    )


def compare_lake(
    lake: Lake,
    settings: ComparisonSettings,
    progress: Progress,
    *,
    held_out: pl.DataFrame | None = None,
    origin: str = "",
) -> Comparison:
    """Train every model from scratch on splits of the lake's current likes, and judge each.

    ``held_out``: pairs (user_id, track_id) that are not in the lake, used instead of a split of it;
    ``origin`` names their file. Raises InputError for an unknown name, or where nobody can be judged.
    """
    from tunegraph_pipeline.evaluation.tuned import tuned
    from tunegraph_pipeline.generations.training import GenerationConfig
    from tunegraph_pipeline.pipeline.model_registry import CONTENDERS, Settings
    from tunegraph_pipeline.training.train import TrainingConfig

    check_names(settings)
    names = [name for name in CONTENDERS if not settings.models or name in settings.models]
    model_settings = Settings(
        training=lake.section("training", TrainingConfig),
        generations=lake.section("generations", GenerationConfig),
    )
    notes: list[str] = []
    if settings.tuned:
        found = tuned(settings.tuned)
        model_settings = replace(model_settings, baselines=found.config())
        notes += found.notes()
    else:
        notes.append("baselines at their default values")
    graph, ids = open_like_graph(lake), known_track_ids(lake)
    likes = graph.matrix()
    own = graph.canonical == np.arange(graph.n_tracks)
    known = lake_training_data(lake, graph)
    n_liked = np.unique(likes.indices).size
    notes.insert(
        0,
        f"{counted(likes.shape[0], 'user')}, {counted(n_liked, 'liked track')}, {counted(likes.nnz, 'like')}",
    )
    times, ages = liked_at(lake, graph), like_ages(lake, graph)
    protocols = () if held_out is not None else settings.protocols or usual_protocols(likes, times, ages)
    outcomes: dict[str, list[Outcome]] = {}
    for seed in range(settings.seeds):
        if held_out is not None:
            splits: Iterator[Split] = iter([_split_of_file(graph, ids, likes, held_out, origin)])
        else:
            splits = (_split(likes, times, ages, name, settings.users, seed) for name in protocols)
        for drawn in splits:
            split = replace(drawn, held_out=replace(drawn.held_out, own=own))
            judged = _judge_all(names, model_settings, split, known, settings, seed, notes, progress)
            outcomes.setdefault(split.name, []).extend(judged)
            if seed == 0:
                judges = counted(split.held_out.n_users, "user")
                likes_found = counted(int(split.held_out.n_held_out.sum()), "held-out like")
                learnt = counted(split.train.nnz, "like")
                when = f", {_when(times)}" if split.name == "temporal" else ""
                notes.append(f"{split.name}: {learnt} to learn from, {judges} judged on {likes_found}{when}")
    if not any(outcomes.values()):
        raise InputError(f"none of the models could be compared: {'; '.join(dict.fromkeys(notes))}")
    for judged in outcomes.values():
        judged.sort(key=lambda one: (names.index(one.model), one.seed))
    return Comparison(outcomes, list(dict.fromkeys(notes)), protocols)


def _judge_all(
    names: Sequence[str],
    model_settings: "Settings",
    split: "Split",
    known: "TrainingData",
    settings: ComparisonSettings,
    seed: int,
    notes: list[str],
    progress: Progress,
) -> list["Outcome"]:
    from tunegraph_pipeline.evaluation.baselines import too_large_for
    from tunegraph_pipeline.evaluation.compare import judge, material_of
    from tunegraph_pipeline.pipeline.model_registry import CONTENDERS

    material = material_of(split, known, seed)
    judged = []
    for number, name in enumerate(names):
        progress(f"{split.name}, seed {seed}", number, len(names))
        if why := too_large_for(name, split.train.shape[1], model_settings.baselines):
            notes.append(f"{name} was left out: {why}")
            continue
        held = _resident_mib_after_freeing()  # so that this model is not charged for the one before
        with Measured() as cost:
            model = CONTENDERS[name](replace(model_settings, seed=seed))
            try:
                model.fit(material, progress)
            except InputError as error:
                notes.append(f"{name} was left out: {error}")
                continue
        judged.append(
            judge(
                name,
                model,
                split,
                k=settings.k,
                seed=seed,
                training_seconds=cost.seconds,
                peak_mib=cost.peak_mib - held,
            )
        )
        del model
    progress(f"{split.name}, seed {seed}", len(names), len(names))
    return judged


def _resident_mib_after_freeing() -> float:
    """The memory of this process, once unused memory is freed and returned to the system."""
    import psutil

    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return float(psutil.Process().memory_info().rss / 2**20)


def keep_figures(lake: Lake, comparison: Comparison, *, dataset: str, run_id: str) -> int:
    """Add every figure to the ``evaluation`` table; returns how many rows. Needs the lake's lock."""
    from tunegraph_pipeline.evaluation.compare import outcome_rows

    every = [one for outcomes in comparison.outcomes.values() for one in outcomes]
    rows = outcome_rows(every, dataset=dataset, run_id=run_id)
    lake.append("evaluation", rows)
    return len(rows)


def write_section(path: Path, title: str, command: str, comparison: Comparison) -> None:
    """Put the comparison into the document ``path``, replacing its section ``title`` if it has one."""
    from tunegraph_pipeline.evaluation.compare import put_section

    text = path.read_text(encoding="utf-8") if path.exists() else _OPENING
    section = f"    {command}\n\n{comparison.document()}"
    with staged_file(path, path.parent) as draft:
        draft.write_text(put_section(text, title, section), encoding="utf-8")


_OPENING = """# How the models compare

Written by `tunegraph compare`; [how models are compared](architecture.md#how-models-are-compared) says what
the protocols and columns are. Full ranking over the whole catalogue, what a user is known to like left out.
All but the last four columns of a first table are the same for the same likes, settings and seeds.
"""


def check_names(settings: ComparisonSettings) -> None:
    """Raise InputError for a protocol, a model or tuned values that do not exist."""
    from tunegraph_pipeline.evaluation.tuned import tuned
    from tunegraph_pipeline.pipeline.model_registry import CONTENDERS

    for what, given, known in (
        ("protocol", settings.protocols, PROTOCOLS),
        ("model", settings.models, tuple(CONTENDERS)),
    ):
        for name in given:
            if name not in known:
                raise InputError(f"there is no {what} {name!r}; choose from {', '.join(known)}")
    if settings.tuned:
        tuned(settings.tuned)


def usual_protocols(likes: "csr_matrix", times: NDArray[np.float64], ages: UInt16 | None) -> tuple[str, ...]:
    """What is gone through where no protocol is named: weak, strong, continuation where a list has an order,
    and temporal where half of the ``times`` or more are known and somebody has likes before and after the
    moment."""
    from tunegraph_pipeline.evaluation.splits import temporal

    usual = ("weak", "strong") if ages is None else ("weak", "strong", "continuation")
    if 2 * np.isfinite(times).sum() >= len(times):
        with suppress(InputError):
            temporal(likes, times)
            return (*usual, "temporal")
    return usual


def _when(times: NDArray[np.float64]) -> str:
    from tunegraph_pipeline.evaluation.splits import SECONDS_PER_DAY, moment_of

    moment, last = moment_of(times), float(np.nanmax(times))
    until = datetime.fromtimestamp(moment, UTC)
    return f"made until {until:%Y-%m-%d} and in the {(last - moment) / SECONDS_PER_DAY:,.1f} days after"


def _split(
    likes: "csr_matrix", times: NDArray[np.float64], ages: UInt16 | None, name: str, users: int, seed: int
) -> "Split":
    from tunegraph_pipeline.evaluation import splits as protocol

    if name == "continuation":
        known = np.zeros(likes.nnz, dtype=np.uint16) if ages is None else ages
        return protocol.continuation(likes, known, times, users=users, seed=seed)
    if name == "temporal":
        return protocol.temporal(likes, times, users=users, seed=seed)
    splits: dict[str, Callable[..., Split]] = {
        "weak": protocol.weak_generalisation,
        "strong": protocol.strong_generalisation,
        "cold": protocol.cold_start_tracks,
    }
    return splits[name](likes, users=users, seed=seed)


def _split_of_file(
    graph: LikeGraph, ids: pl.Series, likes: "csr_matrix", pairs: pl.DataFrame, origin: str
) -> "Split":
    from tunegraph_pipeline.evaluation.evaluate import held_out_pairs
    from tunegraph_pipeline.evaluation.splits import Split

    user_ids = graph.user_ids.tolist()
    held_out = held_out_pairs(
        pairs,
        user_ids=user_ids,
        track_ids=ids.to_list(),
        likes=likes,
        origin=origin,
        canonical=graph.canonical,
    )
    rows = pl.DataFrame({"user_id": user_ids}, {"user_id": pl.String}).with_row_index("row")
    judged = pairs.select(pl.col("user_id").cast(pl.String)).unique().sort("user_id")
    users = judged.join(rows, on="user_id", how="left", maintain_order="left")["row"]
    return Split(
        f"held-out file {origin}",
        likes,
        users.cast(pl.Int64).fill_null(-1).to_numpy(),
        held_out,
        np.zeros(likes.shape[1], dtype=np.bool_),
    )


def liked_at(lake: Lake, graph: LikeGraph) -> NDArray[np.float64]:
    """When each like of the graph was made, seconds since 1970 in the order of ``graph.indices``; else NaN.
    Where a user likes a recording under several ids, the earliest."""
    rows = lake.read("current_likes", current_cut_off(lake).isoformat())
    users = pl.DataFrame({"user_id": graph.user_ids.tolist()}, {"user_id": pl.String}).with_row_index("user")
    ids = known_track_ids(lake)
    tracks = pl.DataFrame({"track_id": ids, "track": graph.canonical})
    known: dict[str, Any] = {
        "user": np.repeat(np.arange(graph.n_users, dtype=np.uint32), np.diff(graph.indptr)),
        "track": graph.indices,
    }
    times = (
        rows.select("user_id", "track_id", "liked_at")
        .join(users, on="user_id")
        .join(tracks, on="track_id")
        .group_by("user", "track")
        .agg(pl.col("liked_at").min().dt.epoch("ms"))
    )
    joined = pl.DataFrame(known).join(times, on=["user", "track"], how="left", maintain_order="left")
    return (joined["liked_at"].cast(pl.Float64) / 1000).fill_null(np.nan).to_numpy()
