"""What an engine is: it runs a pure function over blocks of work and gives the results in their order.

Here: the engine as stages see it, what its functions take and return, its settings, and choosing one. Not
here: the engines (`local`, `ray`). Nothing of a cluster is imported unless the settings ask for it.

A block function is public and at the top level of its module, so that another machine can import it. It has
no state and no effects: ``function(inputs, block)`` gives the same bytes wherever and however often it runs.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar, cast

import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.lake.lake import Lake

ENGINE_VARIABLE, ADDRESS_VARIABLE = "TUNEGRAPH_ENGINE", "RAY_ADDRESS"
KINDS = ("local", "ray")

Output = NDArray[Any] | StringColumn | pl.DataFrame
Outputs = Mapping[str, Output]
"""What a block function returns: arrays, strings and tables by name."""


class Files(NamedTuple):
    """Files that are there already: ``names`` below a ``folder``, such as the tables of a lake."""

    folder: Path
    names: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, paths: Iterable[Path]) -> Self:
        """Those of ``paths``, which are below ``folder``."""
        return cls(folder, tuple(sorted({path.relative_to(folder).as_posix() for path in paths})))


Input = Output | Files | str | None
"""What all blocks of a step share: the same, texts, and files."""

_Block = TypeVar("_Block")
_Made = TypeVar("_Made")


class Parcel:
    """Values by name: what the blocks of a step share, or the result of a block; and what a process makes of
    the first once, not for every block.

    >>> inputs = Parcel({"name": "x"})
    >>> inputs.once("twice", lambda: inputs.text("name") * 2)
    'xx'
    """

    def __init__(self, values: Mapping[str, Input]) -> None:
        self._values = values
        self._made: dict[str, Any] = {}

    def array(self, name: str) -> NDArray[Any]:
        return cast(NDArray[Any], self._values[name])

    def strings(self, name: str) -> StringColumn:
        return cast(StringColumn, self._values[name])

    def frame(self, name: str) -> pl.DataFrame:
        return cast(pl.DataFrame, self._values[name])

    def folder(self, name: str) -> Path:
        """The folder below which :class:`Files` are on this machine."""
        return cast(Files, self._values[name]).folder

    def text(self, name: str) -> str:
        return cast(str, self._values[name])

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """What ``make`` returned when it was first asked for by this name."""
        if name not in self._made:
            self._made[name] = make()
        return cast(_Made, self._made[name])


class Engine(Protocol):
    """Runs block functions."""

    @property
    def blocks(self) -> int:
        """Into how many blocks work should be cut at least, so that all processors have some; 1 where only
        memory decides."""

    @property
    def cores(self) -> int:
        """How many processors a block may use."""

    def run(
        self,
        function: Callable[[Parcel, _Block], Outputs],
        blocks: Iterable[_Block],
        shared: Mapping[str, Input],
    ) -> Iterator[Parcel]:
        """Yield ``function(inputs, block)`` for every block, in their order, with ``shared`` as the inputs.

        ``blocks`` are small, and are taken as they are needed. What is yielded stays valid as long as it is
        held. Raises what the function raises; EngineError where a cluster cannot be used.
        """


class EngineSettings(BaseModel):
    """Where stages run their blocks, section ``engine`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["local", "ray"] = "local"
    """``local``: in the process of the refresh; ``ray``: as tasks of a Ray cluster. `TUNEGRAPH_ENGINE` in the
    environment overrules it."""
    address: str = "auto"
    """The Ray cluster: host:port of its head, or ``auto`` for that of this machine. `RAY_ADDRESS` in the
    environment overrules it."""
    blocks: int = Field(default=0, ge=0)
    """Into how many tasks a step is cut at least; 0: four for each processor of the cluster."""
    retries: int = Field(default=5, ge=0)
    """How often a task is tried again whose node or process died."""


def settings_of(lake: Lake) -> EngineSettings:
    """The settings of a lake and of the environment. Raises LakeError or InputError for a wrong one."""
    settings = lake.section("engine", EngineSettings)
    changed: dict[str, Any] = {}
    if kind := os.environ.get(ENGINE_VARIABLE):
        if kind not in KINDS:
            raise InputError(f"{ENGINE_VARIABLE} is {kind!r}; set it to one of {', '.join(KINDS)}")
        changed["kind"] = kind
    if address := os.environ.get(ADDRESS_VARIABLE):
        changed["address"] = address
    return settings.model_copy(update=changed)


@contextmanager
def engine_of(lake: Lake) -> Iterator[Engine]:
    """The engine of a lake for a ``with`` block, at whose end no task of it runs and nothing that it wrote
    is left. A cluster is joined once it is needed. Raises as :func:`settings_of`."""
    settings = settings_of(lake)
    if settings.kind == "local":
        from tunegraph_pipeline.engine.local import LocalEngine

        yield LocalEngine()
        return
    from tunegraph_pipeline.engine.ray import RayEngine
    from tunegraph_pipeline.engine.store_workspace import StoreWorkspace
    from tunegraph_pipeline.engine.workspace import FolderWorkspace
    from tunegraph_pipeline.lake.snapshots import Node

    node = Node.of(lake.root)
    workspace = FolderWorkspace.below(lake.staging) if node is None else StoreWorkspace.at(node.address)
    with RayEngine(settings, workspace) as engine:
        yield engine
