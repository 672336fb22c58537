"""Whose data a lake holds, and what may be done with it.

Here: the licence of every source, and all that apply to a lake. Not here: what a source delivers (`sources`),
or where a batch keeps its licence (`raw`).

A raw batch carries the licence it came under, so that a lake says it without this program. For batches and
pruned days of earlier versions, which lack it, their source tells.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tunegraph_pipeline.lake.schemas import DUMPS, FEEDBACK, FILES


class Licence(NamedTuple):
    """``data``: whose it is; ``terms``: the licence or terms in a few words; ``url``: where they are, or
    ""."""

    data: str
    terms: str
    url: str = ""

    def in_words(self) -> str:
        """As "ListenBrainz: CC0-1.0"."""
        return f"{self.data}: {self.terms}"


_CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
MUSICBRAINZ = Licence("MusicBrainz, core data", "CC0-1.0", _CC0)
ACOUSTICBRAINZ = Licence("AcousticBrainz", "CC0-1.0", _CC0)
_LISTENBRAINZ = Licence("ListenBrainz", "CC0-1.0", _CC0)
_BY_SOURCE = {
    DUMPS: _LISTENBRAINZ,
    "listenbrainz": _LISTENBRAINZ,
    "spotify": Licence(
        "Spotify",
        "its developer terms, which forbid training models on its content",
        "https://developer.spotify.com/terms",
    ),
    "reccobeats": Licence("ReccoBeats", "its terms of use", "https://reccobeats.com"),
    "simulator": Licence("the simulator", "invented, and nobody's"),
    FILES: Licence("imported files", "as the owner of each file says"),
    FEEDBACK: Licence("feedback", "of the listeners of this service"),
}


def licence_of(source: str) -> Licence:
    """The licence of what a source delivers, unless a batch says otherwise."""
    return _BY_SOURCE.get(source) or Licence(source, "not known")


def read_licence(written: object) -> Licence | None:
    """A licence as JSON has it; None for anything else."""
    if not isinstance(written, list) or not all(isinstance(part, str) for part in written):
        return None
    return Licence(*written) if len(written) == len(Licence._fields) else None


def each_once(licences: Iterable[Licence]) -> list[Licence]:
    """The licences in the order of their names."""
    return sorted(set(licences))
