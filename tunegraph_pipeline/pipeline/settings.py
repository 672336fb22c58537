"""All settings of a lake: one model of ``settings`` in `lake.json`, with a field for each section.

Here: that model, opening a lake with its settings checked, and the sections that stages of `pipeline` read.
Not here: what a stage does with its settings, or the sections of other folders (`training`, `sources`, …),
which are only listed here. Loads neither torch nor any other library that a stage loads when it runs.
"""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunegraph_pipeline.engine.engine import EngineSettings, settings_of
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.evaluation.gate import GateSettings
from tunegraph_pipeline.generations.training import GenerationConfig
from tunegraph_pipeline.lake.feedback_settings import FeedbackSettings
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import PlaysSettings
from tunegraph_pipeline.lake.retention import RetentionSettings
from tunegraph_pipeline.lake.schemas import JOINED_BY, JoinedBy
from tunegraph_pipeline.lake.settings_problem import settings_problem
from tunegraph_pipeline.recommend.index import Storage
from tunegraph_pipeline.recommend.indexing import THRESHOLD, Mode
from tunegraph_pipeline.simulator.source import SimulatorSettings
from tunegraph_pipeline.sources.crawl import CrawlSettings
from tunegraph_pipeline.sources.dumps.settings import DumpSettings
from tunegraph_pipeline.sources.limits import ImportLimits
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings
from tunegraph_pipeline.sources.spotify_login import SpotifySettings
from tunegraph_pipeline.training.train import TrainingConfig

_OWNER = re.compile(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_CRON = re.compile(r"@\w+|\S+(\s+\S+){4}")


class Section(BaseModel):
    """A section of the settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FilesSettings(Section):
    """Settings of files as a source, section ``files`` of `lake.json`."""

    paths: tuple[str, ...] = ()
    """Files that every refresh reads again; those of `tunegraph import` are not listed here."""


class InboxSettings(Section):
    """The folder whose files are imported, section ``inbox`` of `lake.json`."""

    on: bool = False
    """Whether the folder is watched as soon as Dagster runs; a switch in its UI overrules this."""
    folder: str = "../inbox"
    """Where files are dropped; relative to the lake's folder unless it is absolute."""
    settle_seconds: float = Field(default=10.0, ge=0)
    """How long a file must be unchanged until it counts as complete."""


class GraphSettings(Section):
    """Settings of the graph, section ``graph`` of `lake.json`."""

    held_out: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the (user, track) pairs no model is trained on; half for early stopping, half for the gate."""
    calibration_share: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the users no model is trained on; they calibrate the neighbour probability."""
    merge_recordings: bool = True
    """Whether ids of one recording are one node; off, every id is a song of its own."""
    join_by: tuple[JoinedBy, ...] = JOINED_BY
    """How ids are found to be of one recording (`graph.recordings`): leave one out to undo its joins."""
    neighbours: int = Field(default=100, ge=1)
    """How many neighbours of a track the pruned form of B keeps."""
    longest_list: int = Field(default=10_000, ge=2)
    """How many likes of one user count in B, a fixed random choice of longer lists: a list of n likes makes
    n * n pairs. It shortens no list elsewhere."""
    memory_mib: int = Field(default=1024, ge=16)
    """The memory that a block of B may take while it is built."""
    max_exact_entries: int = Field(default=1_000_000_000, ge=0)
    """With more entries B is kept only in its pruned form, and rebuilt whenever a like changed."""
    refreeze_days: int = Field(default=7, ge=0)
    """After how many days B is rebuilt and normalised by the degrees of that day."""
    drift: float = Field(default=0.2, ge=0)
    """A track is normalised by its new degree once that differs from the old by more than this share."""
    delta_share: float = Field(default=0.1, gt=0)
    """Entries added to the base of B are merged into it when they exceed this share of it."""


class ServingSettings(Section):
    """The index of a bundle, section ``serving`` of `lake.json`."""

    index: Mode = "auto"
    """Whether queries are ``exact`` or use an ``approximate`` index of the tracks; ``auto``: an index from
    ``index_from`` tracks on, if its library is installed."""

    index_from: int = Field(default=THRESHOLD, ge=1)
    """How many recommendable tracks make ``auto`` build an index."""

    index_storage: Storage = "int8"
    """The numbers in the index: ``float32``, ``float16`` or ``int8``. Scores come from the embeddings in any
    case."""


class ServicesSettings(Section):
    """The running services to ask after a publication, section ``services`` of `lake.json`."""

    urls: list[str] = []
    """The services of this lake, such as http://127.0.0.1:8000; each is asked after a publication."""

    patience: float = Field(default=15.0, ge=0)
    """Seconds a service may take to serve the version just published."""


class ComparisonSettings(Section):
    """What is compared and how, section ``comparison`` of `lake.json`."""

    protocols: tuple[str, ...] = ()
    """Of `compare.PROTOCOLS`; `evaluation.splits` describes each. When empty: weak, strong, and temporal
    where half of the likes or more have a time."""
    models: tuple[str, ...] = ()
    """Of `model_registry.CONTENDERS`; all of them when empty."""
    tuned: str = ""
    """The entry of `evaluation/tuned.json` whose values the baselines use; their defaults when empty."""
    k: int = Field(default=10, ge=1)
    """Length of the lists that are judged."""
    seeds: int = Field(default=1, ge=1)
    """How many times everything is split and trained, each time with another seed."""
    users: int = Field(default=10_000, ge=1)
    """The largest number of users that are judged."""


class ScheduleSettings(Section):
    """The schedules, with their times in UTC; section ``schedules`` of `lake.json`."""

    on: bool = False
    """Whether they tick as soon as Dagster runs; a switch in its UI overrules this."""
    daily: str = "0 2 * * *"
    weekly: str = "0 3 * * 0"

    @field_validator("daily", "weekly")
    @classmethod
    def _looks_like_cron(cls, text: str) -> str:
        # Only Dagster knows exactly which expressions it accepts; the schedules ask it.
        if not _CRON.fullmatch(text.strip()):
            raise ValueError(f"{text!r} is not a cron expression; write one as '0 2 * * *'")
        return text


class AssetSettings(Section):
    """What Dagster shows beside every asset, section ``assets`` of `lake.json`."""

    owners: tuple[str, ...] = ()
    """Who answers for them: e-mail addresses, or teams as ``team:music``."""

    code_url: str = ""
    """Where this repository is shown, such as https://github.com/me/tunegraph/blob/main: links to code and
    docs begin with it. Empty: they lead to the files on the machine that runs Dagster."""

    @field_validator("owners")
    @classmethod
    def _as_dagster_takes_them(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not _OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an e-mail address nor a team, as 'team:music'")
        return owners

    @field_validator("code_url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError(f"{url!r} does not begin with https:// or http://")
        return url.rstrip("/")


class LakeSettings(Section):
    """Every section of the settings in `lake.json`, with the defaults of what a lake does not set."""

    simulator: SimulatorSettings = SimulatorSettings()
    listenbrainz: ListenBrainzSettings = ListenBrainzSettings()
    listenbrainz_dumps: DumpSettings = DumpSettings()
    spotify: SpotifySettings = SpotifySettings()
    files: FilesSettings = FilesSettings()
    crawl: CrawlSettings = CrawlSettings()
    imports: ImportLimits = ImportLimits()
    inbox: InboxSettings = InboxSettings()
    plays: PlaysSettings = PlaysSettings()
    graph: GraphSettings = GraphSettings()
    training: TrainingConfig = TrainingConfig()
    generations: GenerationConfig = GenerationConfig()
    serving: ServingSettings = ServingSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    gate: GateSettings = GateSettings()
    services: ServicesSettings = ServicesSettings()
    comparison: ComparisonSettings = ComparisonSettings()
    retention: RetentionSettings = RetentionSettings()
    schedules: ScheduleSettings = ScheduleSettings()
    engine: EngineSettings = EngineSettings()
    assets: AssetSettings = AssetSettings()


def check_settings(lake: Lake) -> LakeSettings:
    """All settings of a lake. Raises LakeError, in one line, for a wrong value, and for an unknown section or
    key, naming the nearest known one; InputError for an engine in the environment that there is not."""
    try:
        settings = LakeSettings.model_validate(lake.file.settings)
    except ValidationError as error:
        raise LakeError(f"{lake.path}: {settings_problem(LakeSettings, error)}") from None
    settings_of(lake)
    return settings


def open_lake(root: Path, *, only_served: bool = False) -> Lake:
    """Open the lake at ``root`` with its settings checked; ``only_served`` as of `Lake.open`. Raises
    LakeError as that and :func:`check_settings` do."""
    lake = Lake.open(root, only_served=only_served)
    check_settings(lake)
    return lake


def open_or_create_lake(root: Path) -> Lake:
    """The same, making an empty lake where there is none."""
    lake = Lake.open_or_create(root)
    check_settings(lake)
    return lake
