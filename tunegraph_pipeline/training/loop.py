"""The loop every model is trained by: epochs, early stopping, the epoch that is kept, and checkpoints.

Here: what is the same whatever is trained. Not here: what an epoch does and how a model is judged, which
`train.py` and `generations.py` bring.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    import torch

Arrays = dict[str, NDArray[Any]]

_FORMAT = "2"  # of the checkpoint file; raise it when what is in one changes


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
    """How a training went so far: all that an epoch leaves to the next one beside weights and optimiser."""

    curves: list[EpochReport]
    best_epoch: int  # the one that is kept, whose weights are
    best_weights: dict[str, NDArray[np.float32]]
    peak: NDArray[np.float64]  # AP@10 of every validation user in the epoch of highest MAP@10

    @property
    def epochs_done(self) -> int:
        return len(self.curves)

    def keeps(self, figures: NDArray[np.float64]) -> bool:
        """Whether an epoch of these AP@10 is not clearly worse than the best; a better one is the new peak.

        Without users to judge by every epoch is kept, and so the last.
        """
        if not len(self.peak) or figures.mean() > self.peak.mean():
            self.peak = figures
            return True
        loss = self.peak - figures
        return bool(loss.mean() <= 2 * loss.std() / np.sqrt(len(loss)))


@dataclass
class Checkpoint:
    """The file a training can be gone on from, or nowhere where ``path`` is None.

    ``fingerprint``: a digest of everything the result depends on; ``kept``: arrays that are costly to make
    and are the same in every epoch.
    """

    path: Path | None
    fingerprint: str
    kept: Arrays
    _found: tuple[Arrays, dict[str, str]] | None = None

    @classmethod
    def open(cls, path: Path | None, fingerprint: str, make: Callable[[], Arrays] = dict) -> Self:
        """Read the file where there is one of this fingerprint; else ``make`` what is kept."""
        if path is not None and path.exists():
            tensors, facts = load_tensors(path)
            if facts.get("fingerprint") == fingerprint and facts.get("format") == _FORMAT:
                return cls(path, fingerprint, _below("kept/", tensors), (tensors, facts))
        return cls(path, fingerprint, make())

    def restore(self, module: "torch.nn.Module", optimiser: "torch.optim.Optimizer") -> Course:
        """Put what was found into module and optimiser; a new course where nothing was."""
        import torch

        if self._found is None:
            return Course([], 0, {}, np.zeros(0))
        (tensors, facts), self._found = self._found, None  # read once; an embedding twice over is large
        module.load_state_dict(as_tensors(_below("weight/", tensors)))
        for name, parameter in module.named_parameters():
            parts = _below(f"adam/{name}/", tensors)
            if parts:  # Adam has none for a parameter that was never asked for its gradient
                optimiser.state[parameter] = {part: torch.from_numpy(value) for part, value in parts.items()}
        curves = [
            EpochReport(int(epoch), loss, validation, seconds)
            for epoch, loss, validation, seconds in tensors["curves"].tolist()
        ]
        return Course(curves, int(facts["best_epoch"]), _below("best/", tensors), tensors["peak"])

    def write(self, course: Course, module: "torch.nn.Module", optimiser: "torch.optim.Optimizer") -> None:
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
    optimiser: "torch.optim.Optimizer",
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

    ``one_epoch`` passes once over the data, given the number of the epoch from 1, from which all that is
    random in it has to follow, and returns the mean loss; ``judge`` returns the AP@10 of every validation
    user, float64[m]. After every epoch the checkpoint is written and then ``on_epoch`` is called.
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
    module.load_state_dict(as_tensors(course.best_weights))
    return course


def tensors_of(module: "torch.nn.Module") -> dict[str, NDArray[Any]]:
    """The weights by name, as arrays of their own."""
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def as_tensors(arrays: Mapping[str, NDArray[Any]]) -> "dict[str, torch.Tensor]":
    import torch

    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _below(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
