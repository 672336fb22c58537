"""Open the source of a name.

Here: the names, the settings each source reads from `lake.json`, and opening one for a crawl. Not here: what
a source does (its own module), or when it is asked (`crawl_day`).
"""

from datetime import date
from typing import Protocol, TypeVar

from pydantic import BaseModel

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import SIMULATED
from tunegraph_pipeline.lake.schemas import DUMPS, FEEDBACK, FILES
from tunegraph_pipeline.pipeline.settings import FilesSettings
from tunegraph_pipeline.simulator.source import SimulatorSettings, SimulatorSource
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import Source

LISTENBRAINZ, SPOTIFY = "listenbrainz", "spotify"
CRAWLED = (SIMULATED, LISTENBRAINZ, SPOTIFY, FILES)
"""What is crawled, user by user."""
SOURCES = (SIMULATED, DUMPS, LISTENBRAINZ, SPOTIFY, FILES)
"""What a refresh can ask; `dump_days` fetches what is published as dumps."""
PROVIDERS = (*SOURCES, "reccobeats", FEEDBACK)
"""Whose data a lake may hold: the sources, a provider of audio features, and listeners of the service."""

_Section = TypeVar("_Section", bound=BaseModel)


class SettingsReader(Protocol):
    """Gives a section of `lake.json`, validated: `Lake.section`."""

    def __call__(self, name: str, model: type[_Section]) -> _Section: ...


def check_known(name: str) -> None:
    """Raise InputError for a source of another name."""
    if name not in SOURCES:
        raise InputError(f"source {name!r} is unknown; choose from {', '.join(SOURCES)}, or none")


def open_source(
    name: str, settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date
) -> Source:
    """The source of this name, one of ``CRAWLED``, ready to be crawled for ``day``; its answers are kept in
    ``frontier``. Raises InputError for an unknown name, and for unusable credentials or settings."""
    check_known(name)
    # Imported when used: each service has libraries of its own.
    if name == SPOTIFY:
        from tunegraph_pipeline.sources.spotify import SpotifySource
        from tunegraph_pipeline.sources.spotify_login import SpotifySettings

        return SpotifySource(settings(SPOTIFY, SpotifySettings), policy, frontier)
    if name == LISTENBRAINZ:
        from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource

        return ListenBrainzSource(settings(LISTENBRAINZ, ListenBrainzSettings), policy, frontier)
    if name == FILES:
        from tunegraph_pipeline.sources.files import FileSource
        from tunegraph_pipeline.sources.limits import ImportLimits, limited_by

        with limited_by(settings("imports", ImportLimits)):
            return FileSource(settings(FILES, FilesSettings).paths)
    return SimulatorSource(settings(SIMULATED, SimulatorSettings), policy, frontier, day)
