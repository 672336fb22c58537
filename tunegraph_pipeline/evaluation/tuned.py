"""The values each baseline was tuned to, by the name of a set of likes, and how they were found.

Here: reading and writing `tuned.json`. Not here: the search (`benchmarks/tune.py`), what the values mean
(`baselines.BaselineConfig`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig

TUNED_FILE = Path(__file__).with_name("tuned.json")


class TunedBaseline(BaseModel):
    """What a baseline was tuned to on one set of likes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, float | int]
    """Fields of `BaselineConfig`."""
    command: str
    """Finds the same again."""
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
        """The defaults with everything that was tuned in their place."""
        found: dict[str, Any] = {}
        for baseline in self.root.values():
            found |= baseline.settings
        return BaselineConfig.model_validate(found)

    def notes(self) -> list[str]:
        """For people: which baseline was tuned how, one line a way."""
        ways: dict[str, list[str]] = {}
        for name, one in self.root.items():
            way = f"`{one.command}`, {one.trials} trials, {one.metric} of {one.likes}"
            ways.setdefault(way, []).append(name)
        return [f"{', '.join(names)} tuned by {way}" for way, names in ways.items()]


def read_tuned(path: Path = TUNED_FILE) -> dict[str, TunedSet]:
    """Every set of values by the name of its likes; none where there is no file."""
    if not path.exists():
        return {}
    return {
        name: TunedSet.model_validate(values)
        for name, values in json.loads(path.read_text(encoding="utf-8")).items()
    }


def tuned(name: str, path: Path = TUNED_FILE) -> TunedSet:
    """The values found on the likes of that name. Raises InputError naming those there are."""
    known = read_tuned(path)
    if name not in known:
        raise InputError(
            f"no baseline was tuned on {name!r}; there is {', '.join(sorted(known)) or 'nothing'}"
        )
    return known[name]


def write_tuned(name: str, found: Mapping[str, TunedBaseline], path: Path = TUNED_FILE) -> None:
    """Put what was found on the likes of that name into the file, beside what it holds of other baselines."""
    sets = read_tuned(path)
    before = sets[name].root if name in sets else {}
    sets[name] = TunedSet({**before, **found})
    text = json.dumps({key: sets[key].model_dump() for key in sorted(sets)}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
