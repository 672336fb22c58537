"""The training loop of every model: epochs, early stopping, the epoch that is kept, and checkpoints.

Here: what all trainings share. Not here: what an epoch does and how a model is judged (`train.py`,
`generations.training`).
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.tensors import load_tensors, save_tensors
from tunegraph_pipeline.training.adam import Adam

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

Arrays = dict[str, NDArray[Any]]

_FORMAT = "3"  # of the checkpoint file; raise it when its content changes


@dataclass(frozen=True)
class EpochReport:
    """One epoch: ``epoch`` from 1, mean ``loss``, ``validation`` MAP@10 of the rule that is served (NaN where
    nothing was held out), ``seconds`` it took."""

    epoch: int
    loss: float
    validation: float
    seconds: float

    def metadata(self) -> dict[str, float]:
        """The figures that are known, by name."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}


@dataclass
class Course:
    """How a training went so far: all that an epoch passes to the next one beside weights and optimiser."""

    curves: list[EpochReport]
    best_epoch: int  # the one that is kept
    best_weights: dict[str, NDArray[np.float32]]
    peak: NDArray[np.float64]  # AP@10 of every validation user in the epoch of highest MAP@10

    @property
    def epochs_done(self) -> int:
        return len(self.curves)

    def keeps(self, figures: NDArray[np.float64]) -> bool:
        """Whether an epoch with these AP@10 is not clearly worse than the best; a better one is the new peak.

        Without users to judge by, every epoch is kept, so the last one is.
        """
        if not len(self.peak) or figures.mean() > self.peak.mean():
            self.peak = figures
            return True
        loss = self.peak - figures
        return bool(loss.mean() <= 2 * loss.std() / np.sqrt(len(loss)))


@dataclass
class Checkpoint:
    """The file from which an interrupted training resumes; none where ``path`` is None.

    ``fingerprint``: a digest of everything the result depends on; ``kept``: arrays that are costly to compute
    and the same in every epoch.
    """

    path: Path | None
    fingerprint: str
    kept: Arrays
    _found: tuple[Arrays, dict[str, str]] | None = None

    @classmethod
    def open(cls, path: Path | None, fingerprint: str, make: Callable[[], Arrays] = dict) -> Self:
        """Read the file if it has this fingerprint; else ``make`` the arrays to keep."""
        if path is not None and path.exists():
            tensors, facts = load_tensors(path)
            if facts.get("fingerprint") == fingerprint and facts.get("format") == _FORMAT:
                return cls(path, fingerprint, _below("kept/", tensors), (tensors, facts))
        return cls(path, fingerprint, make())

    def restore(self, module: "torch.nn.Module", optimiser: Adam) -> Course:
        """Load what was found into module and optimiser; a new course where nothing was found."""
        import torch

        if self._found is None:
            return Course([], 0, {}, np.zeros(0))
        (tensors, facts), self._found = self._found, None  # read once; an embedding twice over is large
        module.load_state_dict(as_tensors(_below("weight/", tensors)))
        for name, parameter in module.named_parameters():
            parts = _below(f"adam/{name}/", tensors)
            if parts:  # Adam has none for a parameter that never had a gradient
                optimiser.state[parameter] = {part: torch.from_numpy(value) for part, value in parts.items()}
        curves = [
            EpochReport(int(epoch), loss, validation, seconds)
            for epoch, loss, validation, seconds in tensors["curves"].tolist()
        ]
        return Course(curves, int(facts["best_epoch"]), _below("best/", tensors), tensors["peak"])

    def write(self, course: Course, module: "torch.nn.Module", optimiser: Adam) -> None:
        if self.path is None:
            return
        tensors: Arrays = {f"weight/{name}": value for name, value in tensors_of(module).items()}
        tensors |= {f"best/{name}": value for name, value in course.best_weights.items()}
        tensors |= {f"kept/{name}": value for name, value in self.kept.items()}
        for name, parameter in module.named_parameters():
            for part, value in optimiser.state.get(parameter, {}).items():
                tensors[f"adam/{name}/{part}"] = value.numpy()
        tensors["peak"] = course.peak
        rows = [list(asdict(report).values()) for report in course.curves]
        tensors["curves"] = np.array(rows, dtype=np.float64)
        facts = {"format": _FORMAT, "fingerprint": self.fingerprint, "best_epoch": str(course.best_epoch)}
        save_tensors(self.path, tensors, facts)


def run_epochs(
    module: "torch.nn.Module",
    optimiser: Adam,
    one_epoch: Callable[[int], float],
    judge: Callable[[], NDArray[np.float64]],
    *,
    epochs: int,
    patience: int,
    checkpoint: Checkpoint,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> Course:
    """Train ``module`` in place until ``epochs`` are done, or ``patience`` of them in a row were clearly
    worse than the best one; at the end it has the weights of the epoch that is kept.

    ``one_epoch`` passes once over the data and returns the mean loss; everything random in it has to follow
    from its argument, the number of the epoch from 1. ``judge`` returns the AP@10 of every validation user,
    float64[m]. After every epoch the checkpoint is written and then ``on_epoch`` is called.
    """
    course = checkpoint.restore(module, optimiser)
    while course.epochs_done < epochs and course.epochs_done - course.best_epoch < patience:
        epoch = course.epochs_done + 1
        start = time.perf_counter()
        loss = one_epoch(epoch)
        figures = judge()
        if course.keeps(figures):
            course.best_epoch = epoch
            course.best_weights = tensors_of(module)
        figure = float(figures.mean()) if len(figures) else float("nan")
        report = EpochReport(epoch, loss, figure, time.perf_counter() - start)
        course.curves.append(report)
        checkpoint.write(course, module, optimiser)
        if on_epoch is not None:
            on_epoch(report)
    if course.epochs_done:  # else it stays as it is
        module.load_state_dict(as_tensors(course.best_weights))
    return course


def users_to_learn_from(likes: "csr_matrix") -> NDArray[np.int64]:
    """The rows of ``likes`` (users x N) with two likes or more. Raises InputError where there is none."""
    users = np.flatnonzero(np.diff(likes.indptr) >= 2)
    if not len(users):
        raise InputError(
            "no user has two likes to learn from; import liked lists in which users like several tracks"
        )
    return users


def fingerprint(
    config: str, matrices: Iterable["csr_matrix"], arrays: Iterable[NDArray[Any]], more: bytes = b""
) -> str:
    """A digest of what a training depends on: its settings, the entries of matrices, arrays, and ``more``."""
    digest = hashlib.blake2b(config.encode(), digest_size=16)
    for matrix in matrices:
        digest.update(repr(matrix.shape).encode())
        digest.update(matrix.indptr.astype(np.int64).tobytes())
        digest.update(matrix.indices.astype(np.int64).tobytes())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(more)
    return digest.hexdigest()


def tensors_of(module: "torch.nn.Module") -> dict[str, NDArray[Any]]:
    """The weights by name, copied."""
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def as_tensors(arrays: Mapping[str, NDArray[Any]]) -> "dict[str, torch.Tensor]":
    import torch

    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _below(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
