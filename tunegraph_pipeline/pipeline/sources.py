"""Which source a name stands for.

Here: the names, the settings each source reads from `lake.json`, and opening one for a crawl. Not here: what
a source does (its own module), or when it is asked (`crawl_day`).
"""

from collections.abc import Callable
from datetime import date
from typing import Protocol, TypeVar

from pydantic import BaseModel

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import FILES, SIMULATED
from tunegraph_pipeline.lake.schemas import FEEDBACK
from tunegraph_pipeline.pipeline.settings import FilesSettings
from tunegraph_pipeline.simulator.source import SimulatorSettings, SimulatorSource
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import Source

LISTENBRAINZ, SPOTIFY = "listenbrainz", "spotify"
SOURCES = (SIMULATED, LISTENBRAINZ, SPOTIFY, FILES)
"""What can be crawled."""
PROVIDERS = (*SOURCES, "reccobeats", FEEDBACK)
"""What a lake may hold data of: those, a provider of audio features, and the listeners of the service."""

_Section = TypeVar("_Section", bound=BaseModel)


class SettingsReader(Protocol):
    """Gives a section of `lake.json`, validated: `Lake.section`."""

    def __call__(self, name: str, model: type[_Section]) -> _Section: ...


def open_source(
    name: str, settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date
) -> Source:
    """The source of this name, ready to be crawled for ``day``; its answers are kept in ``frontier``.

    Raises InputError for a name nobody knows, and for credentials or settings that do not do.
    """
    opened = _OPEN.get(name)
    if opened is None:
        raise InputError(f"source {name!r} is not known; it is one of {', '.join(SOURCES)}, or none")
    return opened(settings, policy, frontier, day)


def _open_spotify(settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date) -> Source:
    from tunegraph_pipeline.sources.spotify import SpotifySource
    from tunegraph_pipeline.sources.spotify_login import SpotifySettings

    return SpotifySource(settings(SPOTIFY, SpotifySettings), policy, frontier)


def _open_listenbrainz(
    settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date
) -> Source:
    from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource

    return ListenBrainzSource(settings(LISTENBRAINZ, ListenBrainzSettings), policy, frontier)


def _open_files(settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date) -> Source:
    from tunegraph_pipeline.sources.files import FileSource

    return FileSource(settings(FILES, FilesSettings).paths)


def _open_simulator(settings: SettingsReader, policy: RequestPolicy, frontier: Frontier, day: date) -> Source:
    return SimulatorSource(settings(SIMULATED, SimulatorSettings), policy, frontier, day)


_OPEN: dict[str, Callable[[SettingsReader, RequestPolicy, Frontier, date], Source]] = {
    SIMULATED: _open_simulator,
    LISTENBRAINZ: _open_listenbrainz,
    SPOTIFY: _open_spotify,
    FILES: _open_files,
}
