"""Choose the parent of a warm start, or the reason to train from scratch.

Here: the rule, reading the earlier model, and how much the likes changed over a chain of warm starts. Not
here: training (`training`), or writing a model (`trained_model`). In the facts of a model "from_nothing"
means from scratch.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.tensors import load_tensors
from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.recommend.publication import live_model

if TYPE_CHECKING:
    from tunegraph_pipeline.training.train import TrainingConfig
    from tunegraph_pipeline.training.warm_start import Start

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Earlier:
    """An earlier model over the tracks of today: the live one, or the current one where none is live."""

    folder: ArrayFolder

    @property
    def version(self) -> str:
        return str(self.folder.facts["version"])

    @property
    def embeddings(self) -> NDArray[np.float32]:
        return self.folder["embeddings"]


@dataclass(frozen=True)
class Origin:
    """Where a training starts. ``earlier`` is the model whose space the new one is aligned with, if any;
    ``from_scratch_because`` is the reason not to start from its weights, "" for a warm start."""

    earlier: Earlier | None
    from_scratch_because: str

    @property
    def parent(self) -> Earlier | None:
        """The model whose weights the training starts from, None from scratch."""
        return None if self.from_scratch_because else self.earlier

    @property
    def description(self) -> str:
        """In words, for metadata and facts."""
        if self.parent is None:
            return f"from scratch because {self.from_scratch_because}"
        return f"warm start from {self.parent.version}"

    @property
    def chain(self) -> int:
        """How many warm starts in a row lead to a model that starts here, this one included."""
        return 0 if self.parent is None else int(self.parent.folder.facts["chain"]) + 1

    def start(self) -> "Start | None":
        """The weights to start from, None from scratch."""
        if self.parent is None:
            return None
        from tunegraph_pipeline.training.warm_start import Start

        folder = self.parent.folder
        facts = folder.facts
        tensors, _ = load_tensors(folder.folder / WEIGHTS)
        return Start(
            tensors=tensors,
            artists=folder.strings("artists").tolist(),
            albums=folder.strings("albums").tolist(),
            blend=Blend.from_facts(facts["blend"]),
            # Models of earlier versions had that of their settings.
            regularisation=float(facts.get("regularisation", facts["settings"]["regularisation"])),
            turn=self.chain,
        )

    def basis(self, settings: "TrainingConfig") -> list[Any]:
        """What a model depends on besides the data: its parent, or the space it is aligned with."""
        onto = None if self.earlier is None else self.earlier.version
        if self.parent is None:
            return ["nothing", onto]
        return [self.parent.version, settings.warm_epochs, settings.warm_learning_rate]

    def facts(self, cut_off: date) -> dict[str, Any]:
        """The facts to keep of a model that started here, trained now on the likes up to ``cut_off``."""
        if self.parent is None:
            started = {"from_nothing": datetime.now(UTC).isoformat(timespec="seconds")}
            started["from_nothing_cut_off"] = cut_off.isoformat()
        else:
            before = self.parent.folder.facts
            started = {name: before[name] for name in ("from_nothing", "from_nothing_cut_off")}
        return {
            **started,
            "trained": self.description,
            "parent": None if self.parent is None else self.parent.version,
            "chain": self.chain,
        }

    def likes_from_scratch(self, likes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The likes of each track at the last training from scratch, int32; ``likes`` are today's."""
        return likes if self.parent is None else self.parent.folder["likes_from_nothing"]

    def canonical(self, canonical: NDArray[np.int32]) -> NDArray[np.int32]:
        """The id that stood for each track in every model since the last training from scratch, int32[N]; -1
        where it changed. ``canonical`` int32[N] is today's.

        An earlier model of the chain saw the likes of such a track under another id, for which other likes
        are held out; what it learned from them is still in the later models.
        """
        if self.parent is None:
            return canonical
        before = self.parent.folder["canonical"]
        now = canonical[: len(before)]
        return np.concatenate([np.where(before == now, now, -1), canonical[len(before) :]]).astype(np.int32)


@dataclass(frozen=True)
class Today:
    """The part of today's training that decides whether a warm start is possible.

    ``code``: the version of the training code; ``settings`` and ``spaces`` of the model; ``held_out`` and
    ``calibration_share``: the shares of likes and of users that it does not see; ``ids``: the id map;
    ``cut_off``; ``likes`` int[N]: the training likes of each track.
    """

    code: int
    settings: "TrainingConfig"
    spaces: int
    held_out: float
    calibration_share: float
    ids: pl.Series
    cut_off: date
    likes: NDArray[np.integer]


def origin_of(lake: Lake, today: Today, *, full: bool) -> Origin:
    """Where today's training starts; with ``full`` from scratch in any case. The earlier model is the live
    one, so that a refused challenger is never a parent; if none is live, the current one."""
    found = _earlier(lake, today.ids)
    if isinstance(found, str):
        return Origin(None, found)
    return Origin(found, "it was asked for" if full else _reason_against(found, today))


def share_changed(likes: NDArray[np.integer], before: NDArray[np.integer]) -> float:
    """How much the likes changed: the sum over tracks of the differences, divided by the likes before.

    ``likes`` int[N] and ``before`` int[M], M at most N. A model keeps only counts, which do not tell who
    likes what; a like that replaces another one of the same track goes unnoticed.
    """
    then = np.zeros(len(likes), dtype=np.int64)
    then[: len(before)] = before
    return float(np.abs(likes - then).sum() / max(then.sum(), 1))


def _earlier(lake: Lake, ids: pl.Series) -> Earlier | str:
    """The earlier model, or why there is none."""
    version = live_model(lake.serving)
    if version is None:
        if not lake.has_current("models"):
            return "there is no earlier model"
        version = lake.current_version("models")
    try:
        earlier = Earlier(ArrayFolder.open(lake.version_folder("models", version)))
        earlier.folder.verify()  # damage would spread to every model of the chain
        n, known = len(earlier.embeddings), earlier.folder.facts.get("id_map")
    except (TuneGraphError, OSError) as error:
        return f"the earlier model {version} cannot be read: {error}"
    if n > len(ids) or known != id_map_fingerprint(ids[:n]):
        return f"the earlier model {version} has another id map"
    return earlier


def _reason_against(earlier: Earlier, today: Today) -> str:
    """Why the earlier model cannot be the parent of a warm start, "" where it can."""
    facts: dict[str, Any] = earlier.folder.facts
    of = f"the earlier model {earlier.version}"
    if facts.get("code") != today.code:
        return f"{of} is from another version of the training code"
    if not facts["settings"].items() >= today.settings.from_scratch().items():
        return f"the settings differ from those of {earlier.version}"
    if (facts["held_out"], facts.get("calibration_share")) != (today.held_out, today.calibration_share):
        # It may have learned some of those held out today.
        return f"other likes or users are held out than from {earlier.version}"
    if facts["spaces"] != today.spaces:
        return f"the likes per track call for {today.spaces} spaces, {of} has {facts['spaces']}"
    if date.fromisoformat(facts["cut_off"]) > today.cut_off:
        return f"{of} was trained on likes from after the cut-off"
    days = (today.cut_off - date.fromisoformat(facts["from_nothing_cut_off"])).days
    if days > today.settings.full_after_days:
        return f"the last training from scratch was {days} days of likes ago"
    changed = share_changed(today.likes, earlier.folder["likes_from_nothing"])
    if changed > today.settings.full_after_share:
        return f"{changed:.0%} of the likes have changed since the last training from scratch"
    return ""
