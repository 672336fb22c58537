"""The values each baseline was tuned to, by the name of a set of likes, and how they were found.

Here: reading `tuned.json`. Not here: the search that writes it (`benchmarks/tune.py`), what the values mean
(`baselines.BaselineConfig`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig

TUNED_FILE = Path(__file__).with_name("tuned.json")


class TunedBaseline(BaseModel):
    """The values found for a baseline on one set of likes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, float | int]
    """Fields of `BaselineConfig`."""
    command: str
    """The command that finds the same values again."""
    likes: str
    """How much there was to tune on."""
    trials: int = Field(ge=1)
    metric: str
    validation: float
    """The best figure of ``metric`` on the validation split."""
    untuned: float
    """That of the defaults, which are the first trial."""


class TunedSet(RootModel[dict[str, TunedBaseline]]):
    """All that was found on one set of likes, by the name of the baseline."""

    model_config = ConfigDict(frozen=True)

    def config(self) -> BaselineConfig:
        """The default settings, with the tuned values in place of theirs."""
        settings = (setting for one in self.root.values() for setting in one.settings.items())
        return BaselineConfig.model_validate(dict(settings))

    def notes(self) -> list[str]:
        """How each baseline was tuned, for people; baselines tuned alike share a line."""
        ways: dict[str, list[str]] = {}
        for name, one in self.root.items():
            way = f"`{one.command}`, {one.trials} trials, {one.metric} of {one.likes}"
            ways.setdefault(way, []).append(name)
        return [f"{', '.join(names)} tuned by {way}" for way, names in ways.items()]


def read_tuned(path: Path = TUNED_FILE) -> dict[str, TunedSet]:
    """Every set of values by the name of its likes; empty without the file."""
    if not path.exists():
        return {}
    return TypeAdapter(dict[str, TunedSet]).validate_json(path.read_bytes())


def tuned(name: str, path: Path = TUNED_FILE) -> TunedSet:
    """The values found on the likes of that name. Raises InputError listing the known names."""
    known = read_tuned(path)
    if name not in known:
        raise InputError(
            f"no baseline was tuned on {name!r}; there is {', '.join(sorted(known)) or 'nothing'}"
        )
    return known[name]
