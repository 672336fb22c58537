"""Model tensors on disk, as safetensors: no pickle, mapped by name, written atomically.

Here: saving and loading named tensors with a few facts. Not here: what the tensors mean (`training`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.seals import BROKEN
from tunegraph_pipeline.lake.storage import STAGING, staged_file

_SEALED = "sealed"
"""In a file's metadata: the facts and a checksum of tensors and facts, as sorted JSON. One name alone, since
safetensors writes several in random order. Earlier versions wrote the facts by their own names."""


def save_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write the tensors and facts as one safetensors file that replaces ``path`` in a single rename. Raises
    LakeError where the disk cannot be written."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    said = {"facts": dict(facts), "checksum": _checksum(contiguous, facts)}
    sealed = {_SEALED: json.dumps(said, sort_keys=True)}
    with staged_file(path, path.parent / STAGING) as draft:
        # Not written by safetensors, whose own error does not say that the disk is full.
        draft.write_bytes(save(contiguous, metadata=sealed))


def load_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read what :func:`save_tensors` wrote. Raises LakeError where the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, str(error)) from error
    if _SEALED not in facts:
        return tensors, facts
    try:
        said = json.loads(facts[_SEALED])
        facts, checksum = dict(said["facts"]), said["checksum"]
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, str(error)) from error
    if checksum != _checksum(tensors, facts):
        raise _unreadable(path, BROKEN)
    return tensors, facts


def _unreadable(path: Path, why: str) -> LakeError:
    return LakeError(f"{path} cannot be read ({why}); train the model again with --full")


def _checksum(tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(json.dumps([name, tensors[name].dtype.str, tensors[name].shape]).encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
