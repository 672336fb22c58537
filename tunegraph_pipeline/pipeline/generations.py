"""Train one of the earlier generations (V1, V2, V3) on a lake's current like graph.

Here: the stage and its files. Not here: how a generation is trained (`generations.training`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tensors import save_tensors
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import current_cut_off
from tunegraph_pipeline.pipeline.trained_model import fingerprint_of, lake_training_data, training_result
from tunegraph_pipeline.progress import Measured, Progress, report_progress

if TYPE_CHECKING:
    from tunegraph_pipeline.generations.training import GenerationConfig, GenerationName, TrainedGeneration
    from tunegraph_pipeline.training.loop import EpochReport


def run(
    lake: Lake,
    name: "GenerationName",
    *,
    on_epoch: "Callable[[EpochReport], None] | None" = None,
    progress: Progress = report_progress,
) -> StageResult:
    """Train the generation ``name``, unless one of the same data and settings is there. ``on_epoch`` is
    called after each epoch. Where nobody has two likes, or no liked track has audio features, nothing is
    trained, and the fact "not trained" says so."""
    from tunegraph_pipeline.generations.training import GenerationConfig, train_generation

    kind = f"{name}_model"
    settings = lake.section("generations", GenerationConfig).model_copy(update={"generation": name})
    with Measured() as cost:
        data = lake_training_data(lake, open_like_graph(lake))
        inputs = [stage(kind).code, lake.current_version("like_graph"), fingerprint_of(data.features)]
        version = f"{current_cut_off(lake)}-" + digest([*inputs, settings.model_dump(mode="json")])
        reused = lake.has_version(kind, version)
        if reused:
            lake.set_current(kind, version)
        else:
            checkpoint = lake.checkpoint(f"{name}-{version}")
            try:
                trained = train_generation(
                    data, settings, checkpoint=checkpoint, on_epoch=on_epoch, progress=progress
                )
            except InputError as error:
                return StageResult(None, None, cost, facts={"not trained": str(error)})
            lake.write_version(
                kind, version, lambda folder: write_generation(folder, version, settings, trained)
            )
            checkpoint.unlink(missing_ok=True)
        facts = ArrayFolder.open(lake.current_folder(kind)).facts
    return training_result(facts, "reused" if reused else "rebuilt", cost, tables={"tracks": facts["tracks"]})


def write_generation(
    folder: Path, version: str, settings: "GenerationConfig", trained: "TrainedGeneration"
) -> None:
    """Put where a generation placed the tracks, its weights and how it was made into ``folder``."""
    generation = trained.generation
    save_tensors(folder / "weights.safetensors", trained.tensors, {"version": version})
    facts = {
        "version": version,
        "settings": settings.model_dump(mode="json"),
        "curves": [report.metadata() for report in trained.curves],
        "best_epoch": trained.best_epoch,
        # MAP@10 on the early-stopping fold; null in a lake too small to hold anything out.
        "validation": None if math.isnan(trained.validation) else trained.validation,
        "tracks": {
            "placed": int(generation.placed.sum()),
            "liked, without audio features": generation.without_features,
        },
    }
    write_arrays(folder, {"embeddings": generation.embeddings, "placed": generation.placed}, facts)
