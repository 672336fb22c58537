"""Links to songs in the service that a person uses, where one of the ids of a recording is known there.

Here: which of the ids of a recording is linked, and which service a list is of. Not here: the forms of ids,
and the addresses (`song_ids`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.song_ids import SERVICES, clean_id, page_of, service_of

_OTHERWISE = "musicbrainz"
"""The service to link to where the song has no id in the one that is asked for."""
_SPOTIFY_LENGTH = 22
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

    def of(self, tracks: NDArray[np.int32], ids: Sequence[str]) -> list[dict[str, str]]:
        """The pages about each of these canonical tracks, whose own ids are ``ids``, by service: that of its
        own id first. Empty where no id has a page."""
        return list(map(_pages, ids, self._other_ids(tracks)))

    def service_of(self, given: Sequence[str], tracks: NDArray[np.int32]) -> str | None:
        """The service that most songs of a list are of: by the ids that were ``given``, or else by all ids
        of the recordings ``tracks``. None where none of the ids is of a service."""
        if given:
            return usual_service(given)
        tracks = tracks[:_LOOKED_AT]
        own = [self._ids[track] for track in tracks.tolist()]
        return usual_service([*own, *chain.from_iterable(self._other_ids(tracks))], None)

    def _other_ids(self, tracks: NDArray[np.int32]) -> Iterable[Sequence[str]]:
        """The ids of recordings but for that of the canonical track."""
        if not self._of.size:
            return [()] * len(tracks)
        starts = np.searchsorted(self._of, tracks, "left").tolist()
        ends = np.searchsorted(self._of, tracks, "right").tolist()
        return [
            [self._ids[alias] for alias in self._aliases[start:end].tolist()] if end > start else ()
            for start, end in zip(starts, ends, strict=True)
        ]


def usual_service(ids: Sequence[str], most: int | None = _LOOKED_AT) -> str | None:
    """The service that most of the first ``most`` ids are of; None where none of them is of one."""
    some = ids[:most]
    if set(map(len, some)) == {_SPOTIFY_LENGTH} and (joined := "".join(some)).isascii() and joined.isalnum():
        return "spotify"  # as most lists are, and much quicker than to look at each id
    counts = Counter(service_of(one) or service_of(clean_id(one)) for one in some)
    del counts[None]
    # On a tie one that plays songs, rather than MusicBrainz.
    return max(SERVICES, key=lambda service: counts[service]) if counts else None


def best_link(own: str, pages: Mapping[str, str], service: str | None) -> str:
    """Of the ``pages`` of a song (`Links.of`) that of ``service``, by default of the service of its ``own``
    id, or else of MusicBrainz, or any; "" without one."""
    wanted = service_of(own) if service is None else service
    if wanted is not None and wanted in pages:
        return pages[wanted]
    return pages.get(_OTHERWISE) or next(iter(pages.values()), "")


def _pages(own: str, others: Sequence[str]) -> dict[str, str]:
    service = service_of(own)
    pages = {} if service is None else {service: page_of(own, service)}
    for one in others:
        service = service_of(one)
        if service is not None and service not in pages:
            pages[service] = page_of(one, service)
    return pages
