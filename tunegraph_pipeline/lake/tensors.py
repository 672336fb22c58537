"""Model tensors on disk, as safetensors: no pickle, mapped by name, written atomically.

Here: saving and loading named tensors with a few facts. Not here: what the tensors mean (`training`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.storage import STAGING, staged_file


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write the tensors and facts as one safetensors file that replaces ``path`` in a single rename. Raises
    LakeError where the disk cannot be written."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with staged_file(path, path.parent / STAGING) as draft:
        # Not written by safetensors, whose own error does not say that the disk is full.
        draft.write_bytes(save(contiguous, metadata=dict(facts)))


def load_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read what :func:`save_tensors` wrote. Raises LakeError where the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LakeError(f"{path} cannot be read ({error}); train the model again with --full") from error
