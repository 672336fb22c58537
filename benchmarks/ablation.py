"""What each part of the model is worth: encoders, content and the sparse part, on lakes that have features.

    python benchmarks/ablation.py --spotify-songs spotify_songs.csv.gz --output docs/ablation.md
    python benchmarks/ablation.py --no-simulator --parts Playlists train.parquet tracks.parquet

With ``--parts`` the encoder stays and the rest is removed piece by piece, on files of likes and tracks. Every
variant is trained on the same likes and compared on the early-stopping fold; the test fold influences no
choice and is read once, at the end. A tenth of all likes is held out for each, more than in a lake,
because few held-out likes cannot distinguish variants. MAP@10 over the whole catalogue, liked tracks left
out, in per cent, mean over the seeds. Not here: comparison with other people's methods (`tunegraph evaluate
--baselines`).
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.graph.split import EARLY_STOPPING, GATE, TRAIN
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.trained_model import training_data
from tunegraph_pipeline.simulator.world import World
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training.blend import EVEN, Validation
from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData, train

Variants = dict[tuple[str, ...], dict[str, Any]]

ENCODERS = ("none", "propagation", "transformer")
CONTENT = {
    "id alone": {"use_tags": False, "use_features": False},
    "+ artist, album": {"use_tags": True, "use_features": False},
    "+ features": {"use_tags": False, "use_features": True},
    "+ both": {"use_tags": True, "use_features": True},
}


PARTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one space": {"spaces": 1},
    "four spaces": {"spaces": 4},
    "no list of an artist or album among the neighbour weights": {"content_weight": 0.0},
    "content never placed alone": {"content_likes": 0.0},
    "songs drawn in every step, as in a large catalogue": {"full_softmax_tracks": 1},
}


@dataclass(frozen=True)
class Row:
    """A variant and its MAP@10: of the embedding alone and of the served rule, on either fold."""

    name: tuple[str, ...]
    embedding: float
    served: float
    spread: float
    """Standard deviation of ``served`` over the seeds, 0 for a single one."""
    test: float
    seconds: float


def lake_of(batch: RawBatch, held_out: float = 0.2) -> tuple[TrainingData, Validation]:
    """What a model learns from, and the test: all other likes for context, the gate's as targets."""
    ids = batch.likes["track_id"].unique().sort()
    graph = build_like_graph(batch.likes, ids, split_key="ablation", held_out=held_out, calibration_share=0.0)
    data = training_data(graph, build_catalogue(ids, batch.tracks, batch.features, merge=False)[0])
    context = csr_matrix(graph.fold_matrix(TRAIN) + graph.fold_matrix(EARLY_STOPPING))
    everything = np.ones(len(ids), dtype=np.bool_)
    return data, Validation.draw(context, graph.fold_matrix(GATE), everything, graph.n_users)


def judge(model: TrainedModel, validation: Validation, *, embedding_alone: bool = False) -> float:
    """MAP@10 in per cent."""
    blend = replace(EVEN, neighbour=0.0) if embedding_alone else model.blend
    figures = validation.of_blends([blend], model.parts, model.prior)
    return 100 * float(figures.mean())


def encoders_and_content() -> Variants:
    return {
        (encoder, content): {"encoder": encoder, **switches}
        for encoder in ENCODERS
        for content, switches in CONTENT.items()
    }


def parts(data: TrainingData) -> Variants:
    """Those of `PARTS` that make a difference on ``data``."""
    tagged = bool(data.track_artists.nnz or (data.album >= 0).any())
    usual = TrainingConfig().spaces_for(data.train.nnz / np.unique(data.train.indices).size)
    return {
        (name,): switches
        for name, switches in PARTS.items()
        if (tagged or not {"content_weight", "content_likes"} & set(switches))
        and switches.get("spaces") != usual
    }


def measure(
    variants: Variants, data: TrainingData, test: Validation, config: TrainingConfig, seeds: int
) -> list[Row]:
    validation = Validation.draw(data.context, data.targets, test.recommendable, config.validation_users)
    rows = []
    for name, switches in variants.items():
        start = time.perf_counter()
        models = [train(data, config.model_copy(update={"seed": seed, **switches})) for seed in range(seeds)]
        seconds = (time.perf_counter() - start) / seeds
        row = Row(
            name,
            float(np.mean([judge(m, validation, embedding_alone=True) for m in models])),
            float(np.mean(served := [judge(m, validation) for m in models])),
            float(np.std(served)),
            float(np.mean([judge(m, test) for m in models])),
            seconds,
        )
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    best = max(rows, key=lambda row: row.served)
    what = ("encoder", "content") if len(rows[0].name) == 2 else ("variant",)
    head = [*what, "embedding alone, validation", "served, validation", "served, test"]
    cells = []
    for row in rows:
        mark = "**" if row is best else ""
        name = [f"{mark}{row.name[0]}{mark}", *row.name[1:]]
        served = f"{mark}{row.served:.2f}{mark} ± {row.spread:.2f}"
        cells.append([*name, f"{row.embedding:.2f}", served, f"{row.test:.2f}"])
    return markdown_table(head, cells, words=len(what))


def describe(name: str, data: TrainingData, test: Validation, rows: list[Row]) -> str:
    likes = data.train.nnz + data.targets.nnz + test.targets.nnz
    return (
        f"## {name}\n\n{data.train.shape[0]:,} users, {data.train.shape[1]:,} tracks, {likes:,} likes, "
        f"of which {data.targets.nnz:,} to choose by and {test.targets.nnz:,} to test on.\n\n{table(rows)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spotify-songs", type=Path, help="spotify_songs.csv.gz; left out when not given")
    parser.add_argument(
        "--parts",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="take the model apart on the likes of these files; may be given several times",
    )
    parser.add_argument("--no-simulator", action="store_true", help="leave the simulated world out")
    parser.add_argument("--epochs", type=int, help="most epochs of every variant (default: the model's own)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the markdown here as well")
    arguments = parser.parse_args()
    config = TrainingConfig(epochs=arguments.epochs)
    batches: dict[str, RawBatch] = {}
    if not arguments.no_simulator:
        batches["The simulated world"] = World().crawl(date(2026, 12, 31))
    if arguments.spotify_songs:
        batches["Spotify songs: playlists as users"] = merged(read_files([arguments.spotify_songs]))
    doc = [f"# What each part of the model is worth\n\n{opening(arguments.epochs, arguments.seeds)}"]
    for name, batch in batches.items():
        data, test = lake_of(batch)
        rows = measure(encoders_and_content(), data, test, config, arguments.seeds)
        doc.append(describe(name, data, test, rows))
    for name, *files in arguments.parts:
        data, test = lake_of(merged(read_files([Path(file) for file in files])))
        doc.append(describe(name, data, test, measure(parts(data), data, test, config, arguments.seeds)))
    text = "\n".join(doc)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


def opening(epochs: int | None, seeds: int) -> str:
    limit = "" if epochs is None else f" No variant trains for more than {epochs} epochs."
    return (
        "Written by `benchmarks/ablation.py`. MAP@10 in per cent over the whole catalogue, liked tracks left "
        "out. A tenth of the likes is held out to choose by (validation), another tenth to test on, which no "
        "choice has seen. *Served* is the whole scoring rule: embedding plus neighbour weights, in the blend "
        "that validation prefers. Bold is what validation finds best; ± is the spread over "
        f"{seeds} seeds.{limit}\n"
    )


def merged(batches: list[RawBatch]) -> RawBatch:
    """One batch of all, since a file of tracks, features and likes may be read as several."""
    return replace(
        batches[0],
        likes=pl.concat([batch.likes for batch in batches]).unique(
            ["user_id", "track_id"], maintain_order=True
        ),
        tracks=pl.concat([batch.tracks for batch in batches]).unique("track_id", maintain_order=True),
        features=pl.concat([batch.features for batch in batches]).unique("track_id", maintain_order=True),
    )


if __name__ == "__main__":
    main()
