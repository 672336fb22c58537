"""Links to songs in the service that a person uses, where one of the ids of a recording is known there.

Here: which of the ids of a recording is linked, and which service a list is of. Not here: the forms of ids,
and the addresses (`song_ids`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.song_ids import SERVICES, clean_id, page_of

_OTHERWISE = "musicbrainz"
"""The service to link to where the song has no id in the one that is asked for."""
_LOOKED_AT = 20
"""So many songs of a list show which service it is of."""


class Links:
    """Finds links to the songs of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._ids = bundle.tracks
        aliases = np.flatnonzero(bundle.canonical != np.arange(bundle.n_tracks, dtype=np.int32))
        of = bundle.canonical[aliases]
        order = np.argsort(of, kind="stable")
        self._aliases: NDArray[np.int64] = aliases[order]
        """The tracks that another one of their recording stands for, by that one."""
        self._of: NDArray[np.int32] = of[order]

    def of(self, tracks: NDArray[np.int32], service: str | None) -> list[str]:
        """A link to each of these canonical tracks: of ``service``, by default of that of its own id, or else
        of MusicBrainz, or of any; "" where no id has a page."""
        return [_link(ids, service) for ids in self._ids_of(tracks)]

    def service_of(self, given: Sequence[str], tracks: NDArray[np.int32]) -> str | None:
        """The service that most songs of a list are of: by the ids that were ``given``, or else by all ids
        of the recordings ``tracks``. None where none of the ids is of a service."""
        if given:
            return service_of(given)
        return service_of([one for ids in self._ids_of(tracks[:_LOOKED_AT]) for one in ids], None)

    def _ids_of(self, tracks: NDArray[np.int32]) -> Iterator[list[str]]:
        """The ids of recordings, that of the canonical track first."""
        starts = np.searchsorted(self._of, tracks, "left").tolist()
        ends = np.searchsorted(self._of, tracks, "right").tolist()
        for track, start, end in zip(tracks.tolist(), starts, ends, strict=True):
            others = self._aliases[start:end].tolist() if end > start else ()
            yield [self._ids[track], *(self._ids[alias] for alias in others)]


def service_of(ids: Sequence[str], most: int | None = _LOOKED_AT) -> str | None:
    """The service that most of the first ``most`` ids are of; None where none of them is of one."""
    pages = (page_of(one) or page_of(clean_id(one)) for one in ids[:most])
    counts = Counter(page.service for page in pages if page is not None)
    # On a tie one that plays songs, rather than MusicBrainz.
    return max(SERVICES, key=lambda service: counts[service]) if counts else None


def _link(ids: Sequence[str], service: str | None) -> str:
    pages = [page for one in ids if (page := page_of(one)) is not None]
    if not pages:
        return ""
    links = {page.service: page.url for page in reversed(pages)}
    return links.get(service or pages[0].service) or links.get(_OTHERWISE) or pages[0].url
