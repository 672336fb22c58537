"""Recommendations as JSON, put together from the songs that were written before.

Here: the JSON of `Recommendations.shown`, and the written songs of one bundle. Not here: other formats
(`formats`), or what a song has (`recommender`).

To describe ten songs and write them costs more than to find them. A song looks the same in every answer, but
for its rank, score and reasons, so what was written of it is kept, in bounded memory.
"""

from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import pydantic_core

from tunegraph_pipeline.recommend.recommender import Ranked, Recommendations, Recommender

_KEPT_BYTES = 12 << 20
_OVERHEAD = 150  # bytes that Python needs to keep a piece
_ITEMS = '"items":['
_rest_of = attrgetter(*(one.name for one in fields(Recommendations) if one.name not in {"items", "unknown"}))
"""What an answer has besides songs and unknown ids, all of which decide what stands around its songs."""
_REASON = ("track_id", "name", "artists")

_Pieces = dict[int, str]
"""What was written of songs, by their track."""


class ListWriter:
    """Writes the answers of one recommender. Belongs to one thread: the event loop."""

    def __init__(self, recommender: Recommender, kept_bytes: int = _KEPT_BYTES) -> None:
        self._recommender = recommender
        self._most = self._free = kept_bytes
        self._songs: dict[str | None, _Pieces] = {}  # by the service that they are linked to
        self._reasons: _Pieces = {}
        self._frames: dict[Any, tuple[str, str]] = {}

    @property
    def recommender(self) -> Recommender:
        return self._recommender

    def write(self, ranked: Ranked) -> bytes:
        """The same JSON as that of the described answer."""
        if self._free < 0:
            self._songs, self._reasons, self._frames, self._free = {}, {}, {}, self._most
        songs = self._songs.setdefault(ranked.query.service, {})
        try:
            items = self._items(ranked, songs)
        except KeyError:  # seldom, once the service has run for a while
            self._add(ranked, songs)
            items = self._items(ranked, songs)
        before, after = self._frame(ranked)
        return f"{before}{items}{after}".encode()

    def _items(self, ranked: Ranked, songs: _Pieces) -> str:
        """The songs with their reasons. Raises KeyError if one was not written yet."""
        best, reasons = ranked.best, self._reasons
        items = []
        rows = zip(
            best.indices.tolist(),
            best.scores.tolist(),
            best.because.tolist(),
            ranked.listeners.tolist(),
            strict=True,
        )
        # The two `REASONS` by name: a list of them for each song would double the time of the whole.
        for rank, (track, score, (first, second), (of_first, of_second)) in enumerate(rows, 1):
            why = f"{reasons[first]}{of_first}}}" if first >= 0 else ""
            if second >= 0:
                why += f",{reasons[second]}{of_second}}}"
            items.append(f'{{"rank":{rank},{songs[track]}{score!r},"reasons":[{why}]}}')
        return ",".join(items)

    def _frame(self, ranked: Ranked) -> tuple[str, str]:
        """What stands before the songs of an answer, and after them."""
        outline = self._recommender.outline(ranked)
        same = _rest_of(outline)
        frame = None if outline.unknown else self._frames.get(same)
        if frame is None:
            shown = _json(outline.shown(self._recommender.bundle.model_version))
            before, between, after = shown.partition(_ITEMS)
            frame = before + between, after
            if not outline.unknown:
                self._frames[same] = frame
                self._free -= len(shown) + _OVERHEAD
        return frame

    def _add(self, ranked: Ranked, songs: _Pieces) -> None:
        """Write the songs of an answer, and those that are its reasons, that were not written yet."""
        liked = ranked.best.because.reshape(-1).tolist()
        items = {track for track in ranked.best.indices.tolist() if track not in songs}
        reasons = {track for track in liked if track >= 0 and track not in self._reasons}
        missing = np.array(list(items | reasons), dtype=np.int32)
        # Together, since to describe a few songs costs as much as to describe one.
        for song in self._recommender.describe(missing, ranked.query.service):
            if song.track_idx in items:
                self._keep(songs, song.track_idx, _json(song.shown())[1:-1] + ',"score":')
            if song.track_idx in reasons:
                shown = {name: getattr(song, name) for name in _REASON}
                self._keep(self._reasons, song.track_idx, _json(shown)[:-1] + ',"listeners":')

    def _keep(self, pieces: _Pieces, track: int, written: str) -> None:
        pieces[track] = written
        self._free -= len(written) + _OVERHEAD


def _json(content: dict[str, Any]) -> str:
    return pydantic_core.to_json(content).decode()
