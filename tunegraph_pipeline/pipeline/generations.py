"""Write a trained generation (V1, V2, V3) into a lake.

Here: its files. Not here: how it is trained (`generations.training`).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tunegraph_pipeline.lake.arrays import write_arrays
from tunegraph_pipeline.lake.tensors import save_tensors

if TYPE_CHECKING:
    from tunegraph_pipeline.generations.training import GenerationConfig, TrainedGeneration


_CODE = 1  # of the training; raise it when the same data gives another model


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
