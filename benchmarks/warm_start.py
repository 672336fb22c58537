"""A chain of warm starts against trainings from scratch: what a day costs, and how good its model is.

    python benchmarks/warm_start.py DATA [--compare 1,3,7] [--quick]

Reads `train.parquet` and `tracks.parquet` of the folder, and `valid.parquet` to judge on. Days are made from
the file: each has a hundredth of the users, no user twice. A fifth of them arrive on that day, with their
whole list; for the others a random tenth of the likes, at least one, is added on it. Each day also has twenty
new tracks: the least liked of those that two or more of its users like; their other likes are left out
altogether, so that a day changes only its own users. Nothing is known of a track before its day.

A model is trained from scratch on day 0 and then warm started day by day, as `tunegraph refresh` does. On the
days in ``--compare`` another is trained from scratch on the same likes. Seconds are processor seconds of this
process, one thread, so other work on the machine does not count. MAP@10 is of the served rule, over the whole
catalogue, for the lists of `valid.parquet` whose users and tracks exist on that day.

Targets, on each of those days: a warm start takes at most a quarter of the seconds of a training from
scratch, calibration and map included, and its MAP@10 is at least 0.99 of that model's. Exits 1 when one is
missed. With ``--quick`` seconds are printed but have no target: with few users, the parts that are solved
again weigh more. Not here: the cost of the like graph and the co-like matrix (`benchmarks/incremental.py`).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.gate import GateSettings
from tunegraph_pipeline.graph.id_map import extend_track_ids
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.models import encoder
from tunegraph_pipeline.pipeline import trained_model as stage
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.lineage import Earlier, Origin
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training import train as training
from tunegraph_pipeline.training.blend import ScoreParts, Validation
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData

if TYPE_CHECKING:
    from tunegraph_pipeline.training.alignment import Drift

MOST_COST, LEAST_MAP = 0.25, 0.99
USERS_A_DAY, JOINING, HIDDEN, NEW_TRACKS = 0.01, 0.2, 0.1, 20
FIRST = date(2026, 1, 1)

PARTS = {
    "spectral start": (encoder, "spectral_start"),
    "strongest neighbours": (training, "strongest_neighbours"),
    "neighbour weights": (training, "local_ridge"),
    "epochs": (training._Epochs, "run"),
    "blend": (training, "tune_blend"),
    "alignment and drift": (stage, "turned"),
    "calibration": (stage, "calibrate_on"),
    "map": (stage, "laid_out"),
}
"""The parts that are timed, by their functions, those of the refit included; the rest is checkpoints and
validation."""


@dataclass(frozen=True)
class Day:
    """The input of a training on one day."""

    ids: pl.Series
    graph: LikeGraph
    data: TrainingData


@dataclass(frozen=True)
class Trained:
    """A model in its folder, the seconds of its parts, and its drift from the previous one."""

    folder: ArrayFolder
    seconds: dict[str, float]
    drift: "Drift | None"

    @property
    def total(self) -> float:
        return self.seconds["in all"]


def history(likes: pl.DataFrame, days: int, seed: int = 0) -> pl.DataFrame:
    """``likes`` (user_id, track_id) with the ``day`` on which each arrives, 0 for the base."""
    rng = np.random.default_rng(seed)
    users, tracks = (likes[name].unique().sort() for name in ("user_id", "track_id"))
    user = users.search_sorted(likes["user_id"]).to_numpy()
    track = tracks.search_sorted(likes["track_id"]).to_numpy()
    a_day = max(1, round(USERS_A_DAY * len(users)))
    order = rng.permutation(len(users))
    day_of, joins = np.zeros(len(users), dtype=np.int64), np.zeros(len(users), dtype=np.bool_)
    for day in range(days):
        changed = order[day * a_day : (day + 1) * a_day]
        day_of[changed] = day + 1
        joins[changed[: round(JOINING * a_day)]] = True
    later = rng.random(len(user)) < HIDDEN
    shuffled = rng.permutation(len(user))
    later[shuffled[np.unique(user[shuffled], return_index=True)[1]]] = True  # one like of everybody at least
    arrives = np.where(joins[user] | later, day_of[user], 0)
    degree, comes = np.bincount(track, minlength=len(tracks)), np.zeros(len(tracks), dtype=np.int64)
    for day in range(1, days + 1):
        of_the_day = np.bincount(track[day_of[user] == day], minlength=len(tracks))
        able = np.flatnonzero((of_the_day >= 2) & (comes == 0))
        comes[able[np.argsort(degree[able], kind="stable")[:NEW_TRACKS]]] = day
    new = comes[track] > 0
    arrives = np.where(new, comes[track], arrives)
    return likes.with_columns(day=arrives).filter(~new | (day_of[user] == comes[track]))


def state_on(day: int, likes: pl.DataFrame, tracks: RawBatch, ids: pl.Series) -> Day:
    """Graph and training data as of a day, whose id map continues ``ids``."""
    so_far = likes.filter(pl.col("day") <= day)
    ids = extend_track_ids(ids, so_far["track_id"])
    graph = build_like_graph(so_far, ids, split_key="warm", held_out=0.02, calibration_share=0.02)
    known = tracks.tracks.filter(pl.col("track_id").is_in(ids.implode()))
    catalogue, _ = build_catalogue(ids, known, tracks.features, merge=False)
    return Day(ids, graph, stage.training_data(graph, catalogue))


def trained(day: Day, number: int, origin: Origin, config: TrainingConfig, folder: Path) -> Trained:
    """Train a model as the pipeline does, and write it to ``folder``."""
    seconds = dict.fromkeys(PARTS, 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] += time.process_time() - start

        return run

    with ExitStack() as patches:
        for name, (module, function) in PARTS.items():
            patches.enter_context(patch.object(module, function, timed(name, getattr(module, function))))
        start = time.process_time()
        made = stage.make_model(
            day.graph, day.data, config, origin, checkpoint=folder.with_suffix(".safetensors"), on_epoch=tell
        )
        cut_off = FIRST + timedelta(days=number)
        stage.write_model(folder, folder.name, config, GateSettings(), made, origin.facts(cut_off))
        seconds["in all"] = time.process_time() - start
    return Trained(ArrayFolder.open(folder), seconds, made.drift)


def average_precision(day: Day, model: ArrayFolder, valid: pl.DataFrame) -> NDArray[np.float64]:
    """AP@10 of the served rule for the users of ``valid`` known on that day, float64[m]."""
    from tunegraph_pipeline.models.blend import Blend

    users = pl.DataFrame({"user_id": day.graph.user_ids.tolist()}).with_row_index("user")
    tracks = pl.DataFrame({"track_id": day.ids}).with_row_index("track")
    rows = valid.join(users, on="user_id").join(tracks, on="track_id")
    shape = (day.graph.n_users, len(day.ids))
    ones = np.ones(len(rows), dtype=np.float32)
    targets = csr_matrix((ones, (rows["user"].to_numpy(), rows["track"].to_numpy())), shape=shape)
    weights = csr_matrix(
        (model["neighbour_weight"], model["neighbour_indices"], model["neighbour_indptr"]),
        shape=(len(day.ids), len(day.ids)),
    )
    lists = Validation.draw(day.graph.matrix(), targets, model["recommendable"], day.graph.n_users)
    blend = Blend(**model.facts["blend"])
    embeddings, weight, prior = (model[name] for name in ("embeddings", "pooling_weight", "prior"))
    figures: NDArray[np.float64] = lists.of_blends([blend], ScoreParts(embeddings, weight, weights), prior)[0]
    return figures


def tell(report: Any) -> None:
    print(f"  epoch {report.epoch}: MAP@10 {report.validation:.4f}", file=sys.stderr, flush=True)


def show(name: str, model: Trained, against: Trained | None = None) -> None:
    rest = model.total - sum(model.seconds[part] for part in PARTS)
    parts = ", ".join(f"{part} {model.seconds[part]:.1f}" for part in PARTS if model.seconds[part] >= 0.05)
    print(f"{name}: {model.total:.1f} s ({parts}, the rest {rest:.1f})", flush=True)
    if model.drift is not None:
        drift = model.drift
        print(
            f"  previous model: mean cosine {drift.mean:.3f} ({drift.unaligned:.3f} on its own axes), "
            f"{drift.overlap:.1%} of the ten nearest the same; a query's screen needs {drift.width} "
            f"coordinates ({drift.least_width} on its own axes)",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with train, valid and tracks.parquet")
    parser.add_argument(
        "--compare", default="1,3,7", help="days on which another model is trained from scratch"
    )
    parser.add_argument("--quick", action="store_true", help="on a tenth of the users, in 64 dimensions")
    arguments = parser.parse_args()
    compared = sorted(int(day) for day in arguments.compare.split(","))
    config = TrainingConfig(dimension=64) if arguments.quick else TrainingConfig()
    (batch,) = read_files([arguments.data / "train.parquet"], kind="likes")
    (tracks,) = read_files([arguments.data / "tracks.parquet"])
    (judged,) = read_files([arguments.data / "valid.parquet"], kind="likes")
    likes = batch.likes.select("user_id", "track_id").unique(maintain_order=True)
    if arguments.quick:
        users = likes["user_id"].unique().sort()
        likes = likes.filter(pl.col("user_id").is_in(users.gather_every(10).implode()))
    likes = history(likes, compared[-1])
    missed: list[str] = []
    with TemporaryDirectory(prefix="tunegraph-warm-start-") as temporary:
        folder = Path(temporary)
        state = state_on(0, likes, tracks, pl.Series("track_id", [], dtype=pl.String))
        print(f"{state.graph.n_users:,} users, {len(state.ids):,} tracks, {len(state.graph.indices):,} likes")
        model = trained(state, 0, Origin(None, "the first model"), config, folder / "base")
        show("day 0, from scratch", model)
        for number in range(1, compared[-1] + 1):
            state = state_on(number, likes, tracks, state.ids)
            before = Earlier(model.folder)
            model = trained(state, number, Origin(before, ""), config, folder / f"warm-{number}")
            show(f"day {number}, warm", model)
            if number not in compared:
                continue
            full = trained(state, number, Origin(before, "asked for"), config, folder / f"full-{number}")
            show(f"day {number}, from scratch", full)
            warm_ap, full_ap = (average_precision(state, one.folder, judged.likes) for one in (model, full))
            cost, quality = model.total / full.total, warm_ap.mean() / full_ap.mean()
            error = (warm_ap - full_ap).std() / np.sqrt(len(full_ap)) / full_ap.mean()
            print(
                f"day {number}: cost {cost:.3f} of a training from scratch; MAP@10 {warm_ap.mean():.4f}"
                f" against {full_ap.mean():.4f}, {quality:.4f} ± {error:.4f} of it, {len(full_ap):,} lists",
                flush=True,
            )
            if cost > MOST_COST and not arguments.quick:
                missed.append(f"day {number}: cost {cost:.3f} is above {MOST_COST}")
            if quality < LEAST_MAP:
                missed.append(f"day {number}: MAP@10 is {quality:.4f} of the other's, below {LEAST_MAP}")
    print("\n".join(missed) or "every target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
