"""Songs given on the command line, by id or by name.

Here: which song a text means, and what to say where that is not clear. Not here: searching
(`recommend.search`).
"""

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunegraph_pipeline.cli.show import song_name, warn
from tunegraph_pipeline.errors import InputError

if TYPE_CHECKING:
    from tunegraph_pipeline.recommend.recommender import Recommender


def given_song(recommender: "Recommender", text: str) -> str:
    """The id of the song that a text names. Raises InputError, with the nearest names, where none has it."""
    found = _named(recommender, text)
    if found is not None:
        return found
    from tunegraph_pipeline.recommend.search import TrackSearch

    tracks = recommender.bundle.tracks
    near = [song_name(recommender, tracks[at]) for at in TrackSearch(recommender.bundle).find(text, 3)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`tunegraph search` looks for a part of a name"
    raise InputError(f"no song of bundle {recommender.bundle.version} has the id or name {text!r}; {hint}")


def given_songs(recommender: "Recommender", texts: Sequence[str] | None) -> list[str]:
    """The ids of the songs that an option names: each text is a song, or several with commas between them,
    where quotation marks keep a name with a comma whole. What names no song stays as it is."""
    songs = []
    for text in texts or ():
        whole = _named(recommender, text) if "," in text else None
        parts = [text] if whole else next(csv.reader([text], skipinitialspace=True), [])
        for part in filter(None, map(str.strip, parts)):
            songs.append(whole or _named(recommender, part) or part)
    return songs


def _named(recommender: "Recommender", text: str) -> str | None:
    """The id of the song, of several the most popular; None where no song has this id or name."""
    from tunegraph_pipeline.recommend.search import TrackSearch

    bundle = recommender.bundle
    if bundle.tracks.position(text.strip()) >= 0:
        return text.strip()
    found = [bundle.tracks[at] for at in TrackSearch(bundle).called(text)]
    if len(found) > 1:
        warn(
            f"{len(found)} songs are called {text}; this is"
            f" {song_name(recommender, found[0])}, which most people like. For another one add its"
            f" artist, or give its id: `tunegraph search {text} --ids`"
        )
    return found[0] if found else None
