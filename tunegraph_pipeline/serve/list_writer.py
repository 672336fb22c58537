"""Recommendations as JSON, put together from the songs that were written before.

Here: the JSON of `Recommendations.shown`, and the written songs of one bundle. Not here: other formats
(`formats`), or what a song has (`recommender`).

To describe ten songs and write them costs more than to find them. A song looks the same in every answer, but
for its rank, score and reasons, so what was written of it is kept, in bounded memory.
"""

import numpy as np
import pydantic_core

from tunegraph_pipeline.recommend.recommender import Ranked, Recommender, SongView

_KEPT_BYTES = 12 << 20
_OVERHEAD = 150  # bytes that Python needs to keep a piece
_ITEMS = b'"items":['
_REASON = ("track_id", "name", "artists")

_Pieces = dict[int, bytes]
"""What was written of songs, by their track."""


class ListWriter:
    """Writes the answers of one recommender. Belongs to one thread: the event loop."""

    def __init__(self, recommender: Recommender, kept_bytes: int = _KEPT_BYTES) -> None:
        self._recommender = recommender
        self._most = self._free = kept_bytes
        self._songs: dict[str | None, _Pieces] = {}  # by the service that they are linked to
        self._reasons: _Pieces = {}

    @property
    def recommender(self) -> Recommender:
        return self._recommender

    def write(self, ranked: Ranked) -> bytes:
        """The same JSON as that of the described answer."""
        best, service = ranked.best, ranked.query.service
        if self._free < 0:
            self._songs, self._reasons, self._free = {}, {}, self._most
        songs, reasons = self._songs.setdefault(service, {}), self._reasons
        tracks, because = best.indices.tolist(), best.because.tolist()
        for song in self._missing(songs, tracks, service):
            self._keep(songs, song.track_idx, pydantic_core.to_json(song.shown())[1:-1] + b',"score":')
        for song in self._missing(reasons, [liked for row in because for liked in row if liked >= 0], None):
            shown = {name: getattr(song, name) for name in _REASON}
            self._keep(reasons, song.track_idx, pydantic_core.to_json(shown)[:-1] + b',"listeners":')
        items = []
        rows = zip(tracks, best.scores.tolist(), because, ranked.listeners.tolist(), strict=True)
        for rank, (track, score, liked, listeners) in enumerate(rows, 1):
            why = [
                b"%b%d}" % (reasons[one], both)
                for one, both in zip(liked, listeners, strict=True)
                if one >= 0
            ]
            items.append(b'{"rank":%d,%b%r,"reasons":[%b]}' % (rank, songs[track], score, b",".join(why)))
        outline = self._recommender.outline(ranked).shown(self._recommender.bundle.model_version)
        before, between, after = pydantic_core.to_json(outline).partition(_ITEMS)
        return b"".join([before, between, b",".join(items), after])

    def _missing(self, pieces: _Pieces, tracks: list[int], service: str | None) -> list[SongView]:
        """Those of these songs that were not written yet."""
        missing = dict.fromkeys(track for track in tracks if track not in pieces)
        if not missing:
            return []
        return self._recommender.describe(np.array(list(missing), dtype=np.int32), service)

    def _keep(self, pieces: _Pieces, track: int, written: bytes) -> None:
        pieces[track] = written
        self._free -= len(written) + _OVERHEAD
