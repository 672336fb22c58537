"""All settings of a lake: one model of `lake.json`'s ``settings``, with a field a section.

Here: that model, opening a lake with its settings checked, and the sections that stages of `pipeline` read.
Not here: what a stage does with its settings, or the sections of folders below (`training`, `sources`, …),
whose models are only named here. Loads neither torch nor any other library that a stage loads when it runs.
"""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.evaluation.gate import GateSettings
from tunegraph_pipeline.generations.training import GenerationConfig
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.settings_problem import settings_problem
from tunegraph_pipeline.recommend.index import Storage
from tunegraph_pipeline.recommend.indexing import THRESHOLD, Mode
from tunegraph_pipeline.simulator.source import SimulatorSettings
from tunegraph_pipeline.sources.crawl import CrawlSettings
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings
from tunegraph_pipeline.sources.spotify_login import SpotifySettings
from tunegraph_pipeline.training.train import TrainingConfig

_CRON = re.compile(r"@\w+|\S+(\s+\S+){4}")


class FilesSettings(BaseModel):
    """Settings of files as a source, section ``files`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: tuple[str, ...] = ()
    """Files read again on every day that is refreshed; those of `tunegraph import` are not named here."""


class InboxSettings(BaseModel):
    """The folder whose files are imported, section ``inbox`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = "../inbox"
    """Where files are dropped, from the lake's folder on unless it is absolute."""
    settle_seconds: float = Field(default=10.0, ge=0)
    """How long a file has to stay as it is until it counts as complete."""


class GraphSettings(BaseModel):
    """Settings of the graph, section ``graph`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the (user, track) pairs no model is trained on; half for early stopping, half for the gate."""
    calibration_share: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the users no model is trained on, for the neighbour probability alone."""
    merge_recordings: bool = True
    """Whether ids with the same ISRC are one node; off, every id is a song of its own."""
    neighbours: int = Field(default=100, ge=1)
    """How many neighbours a track the pruned form of B keeps."""
    memory_mib: int = Field(default=1024, ge=16)
    """What a block of B may take while it is built."""
    max_exact_entries: int = Field(default=1_000_000_000, ge=0)
    """Above this many entries B is kept in its pruned form alone, and rebuilt whenever a like changed."""
    refreeze_days: int = Field(default=7, ge=0)
    """After how many days B is rebuilt, with the degrees of that day to normalise by."""
    drift: float = Field(default=0.2, ge=0)
    """Share of its degree by which that of a track may be another one before it is normalised by the new."""
    delta_share: float = Field(default=0.1, gt=0)
    """How many entries may have been added to the base of B, as a share of it, before they are merged."""


class ServingSettings(BaseModel):
    """The index of a bundle, section ``serving`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: Mode = "auto"
    """Whether queries are answered ``exact``-ly or with an ``approximate`` index of the tracks; ``auto``:
    with one from a size on, where its library is installed."""

    index_from: int = Field(default=THRESHOLD, ge=1)
    """That size: how many tracks may be recommended."""

    index_storage: Storage = "int8"
    """The numbers in the index: ``float32``, ``float16`` or ``int8``. Scores come from the embeddings,
    whatever these are."""


class ServicesSettings(BaseModel):
    """The running services to ask after a publication, section ``services`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[str] = []
    """Where services over this lake listen, as http://127.0.0.1:8000; each is asked after a publication."""

    patience: float = Field(default=15.0, ge=0)
    """Seconds a service has to come to the version just published."""


class ComparisonSettings(BaseModel):
    """What is compared and how, section ``comparison`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocols: tuple[str, ...] = ("weak", "strong")
    """Of `PROTOCOLS`; see `evaluation.splits` for what each asks."""
    models: tuple[str, ...] = ()
    """Of `evaluation.registry.CONTENDERS`; all of them when empty."""
    tuned: str = ""
    """The name in `evaluation/tuned.json` whose values the baselines take; their defaults when empty."""
    k: int = Field(default=10, ge=1)
    """Length of the lists that are judged."""
    seeds: int = Field(default=1, ge=1)
    """How often everything is split and trained, each time with another seed."""
    users: int = Field(default=10_000, ge=1)
    """The most users that are judged."""


class ScheduleSettings(BaseModel):
    """When the schedules tick, in UTC; section ``schedules`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    daily: str = "0 2 * * *"
    weekly: str = "0 3 * * 0"

    @field_validator("daily", "weekly")
    @classmethod
    def _looks_like_cron(cls, text: str) -> str:
        # Only Dagster knows exactly which expressions it takes; it is asked where the schedules are defined.
        if not _CRON.fullmatch(text.strip()):
            raise ValueError(f"{text!r} is no cron expression; write one as '0 2 * * *'")
        return text


class LakeSettings(BaseModel):
    """Every section of the settings in `lake.json`; what a lake does not set has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    simulator: SimulatorSettings = SimulatorSettings()
    listenbrainz: ListenBrainzSettings = ListenBrainzSettings()
    spotify: SpotifySettings = SpotifySettings()
    files: FilesSettings = FilesSettings()
    crawl: CrawlSettings = CrawlSettings()
    inbox: InboxSettings = InboxSettings()
    graph: GraphSettings = GraphSettings()
    training: TrainingConfig = TrainingConfig()
    generations: GenerationConfig = GenerationConfig()
    serving: ServingSettings = ServingSettings()
    gate: GateSettings = GateSettings()
    services: ServicesSettings = ServicesSettings()
    comparison: ComparisonSettings = ComparisonSettings()
    retention: RetentionSettings = RetentionSettings()
    schedules: ScheduleSettings = ScheduleSettings()


def check_settings(lake: Lake) -> LakeSettings:
    """All settings of a lake. Raises LakeError, in one line, for an unknown section or key, which names the
    nearest known one, and for a wrong value."""
    try:
        return LakeSettings.model_validate(lake.file.settings)
    except ValidationError as error:
        raise LakeError(f"{lake.path}: {settings_problem(LakeSettings, error)}") from None


def open_lake(root: Path) -> Lake:
    """Open the lake at ``root`` with its settings checked. Raises LakeError as `Lake.open` and
    :func:`check_settings` do."""
    lake = Lake.open(root)
    check_settings(lake)
    return lake


def open_or_create_lake(root: Path) -> Lake:
    """The same, making an empty lake where there is none."""
    lake = Lake.open_or_create(root)
    check_settings(lake)
    return lake
