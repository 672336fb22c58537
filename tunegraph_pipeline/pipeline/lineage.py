"""Which earlier model a training goes on from, and why it begins from nothing where it does not.

Here: the rule, what is read of the earlier model, and the likes that a chain of warm starts has moved. Not
here: training (`training`), writing a model (`assets.model`).
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
    """Where a training begins: ``earlier`` to turn onto and to lay the map by, None where there is none;
    ``why_not`` it is gone on from, "" where it is."""

    earlier: Earlier | None
    why_not: str

    @property
    def parent(self) -> Earlier | None:
        """The model that is gone on from."""
        return None if self.why_not else self.earlier

    @property
    def said(self) -> str:
        """In words, for metadata and facts."""
        if self.parent is None:
            return f"from nothing because {self.why_not}"
        return f"gone on from {self.parent.version}"

    @property
    def chain(self) -> int:
        """How many warm starts lie behind a model that begins here, this one included."""
        return 0 if self.parent is None else int(self.parent.folder.facts["chain"]) + 1

    def start(self) -> "Start | None":
        """What is gone on from, None from nothing."""
        if self.parent is None:
            return None
        from tunegraph_pipeline.training.warm_start import Start

        folder = self.parent.folder
        tensors, _ = load_tensors(folder.folder / WEIGHTS)
        return Start(
            tensors=tensors,
            artists=folder.strings("artists").tolist(),
            albums=folder.strings("albums").tolist(),
            blend=Blend.from_facts(folder.facts["blend"]),
            turn=self.chain,
        )

    def basis(self, settings: "TrainingConfig") -> list[Any]:
        """What a model depends on beside the data: what it is gone on from, and turned onto."""
        onto = None if self.earlier is None else self.earlier.version
        if self.parent is None:
            return ["nothing", onto]
        return [self.parent.version, settings.warm_epochs, settings.warm_learning_rate]

    def facts(self, cut_off: date) -> dict[str, Any]:
        """What is to be known of a model that began here, trained now on the likes up to ``cut_off``."""
        if self.parent is None:
            began = {"from_nothing": datetime.now(UTC).isoformat(timespec="seconds")}
            began["from_nothing_cut_off"] = cut_off.isoformat()
        else:
            before = self.parent.folder.facts
            began = {name: before[name] for name in ("from_nothing", "from_nothing_cut_off")}
        return {
            **began,
            "trained": self.said,
            "parent": None if self.parent is None else self.parent.version,
            "chain": self.chain,
        }

    def likes_from_nothing(self, likes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The likes of each track at the last training from nothing, int32; ``likes`` are those of now."""
        return likes if self.parent is None else self.parent.folder["likes_from_nothing"]

    def canonical(self, canonical: NDArray[np.int32]) -> NDArray[np.int32]:
        """Which track stood for each one in every model since the last training from nothing, int32[N]; -1
        where that changed. ``canonical`` int32[N] is that of now.

        Likes of a track that changed were seen under another id, by which another share of them is held out;
        what an earlier model of the chain learned of them, the later ones hold too.
        """
        if self.parent is None:
            return canonical
        before = self.parent.folder["canonical"]
        now = canonical[: len(before)]
        return np.concatenate([np.where(before == now, now, -1), canonical[len(before) :]]).astype(np.int32)


@dataclass(frozen=True)
class Today:
    """What decides whether a model can be gone on from.

    ``code``: the version of the training; ``settings`` and ``spaces`` of it; ``held_out`` and
    ``calibration_share``: the shares of likes and of users that are kept from it; ``ids``: the id map;
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
    """Where today's training begins.

    The earlier model is the live one: a challenger that the gate refused is not gone on from. Where nothing
    is live, it is the current one. With ``full`` it is from nothing whatever there is.
    """
    found = _earlier(lake, today.ids)
    if isinstance(found, str):
        return Origin(None, found)
    return Origin(found, "it was asked for" if full else _why_not(found, today))


def share_changed(likes: NDArray[np.integer], before: NDArray[np.integer]) -> float:
    """How much the likes have changed, counted by track: the sum of the differences over the likes before.

    ``likes`` int[N] and ``before`` int[M], M at most N. Counts tell who likes what no more than a hit list
    does, so a model may keep them; one like that takes the place of another of the same track is not seen.
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
        earlier.folder.verify()  # what is damaged would go on in every model of the chain
        n, known = len(earlier.embeddings), earlier.folder.facts.get("id_map")
    except (TuneGraphError, OSError) as error:
        return f"the earlier model {version} cannot be read: {error}"
    if n > len(ids) or known != id_map_fingerprint(ids[:n]):
        return f"the earlier model {version} is of another id map"
    return earlier


def _why_not(earlier: Earlier, today: Today) -> str:
    """Why a model is not gone on from, "" where it is."""
    facts: dict[str, Any] = earlier.folder.facts
    of = f"the earlier model {earlier.version}"
    if facts.get("code") != today.code:
        return f"{of} is of another version of the training"
    if not facts["settings"].items() >= today.settings.from_nothing().items():
        return f"the settings are not those of {earlier.version}"
    if (facts["held_out"], facts.get("calibration_share")) != (today.held_out, today.calibration_share):
        return f"other likes or users are held out than from {earlier.version}"  # it may have learned them
    if facts["spaces"] != today.spaces:
        return f"likes a track ask for {today.spaces} spaces, {of} has {facts['spaces']}"
    if date.fromisoformat(facts["cut_off"]) > today.cut_off:
        return f"{of} knows likes from after the cut-off"
    days = (today.cut_off - date.fromisoformat(facts["from_nothing_cut_off"])).days
    if days > today.settings.full_after_days:
        return f"the last training from nothing was {days} days of likes ago"
    changed = share_changed(today.likes, earlier.folder["likes_from_nothing"])
    if changed > today.settings.full_after_share:
        return f"{changed:.0%} of the likes have changed since the last training from nothing"
    return ""
