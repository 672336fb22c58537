"""A list of recommendations as JSON, CSV, an M3U playlist, or Spotify URIs.

Here: writing the list. Not here: computing it, or the JSON of other answers (`routes`).
"""

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import pydantic_core

from tunegraph_pipeline.recommend.recommender import Recommendation, Recommendations, SongView
from tunegraph_pipeline.song_ids import clean_id
from tunegraph_pipeline.spreadsheet_cells import harmless

OF_SPOTIFY = frozenset({"m3u", "uris"})
"""The formats that have Spotify's links."""
_SPOTIFY_ID = re.compile(r"[0-9A-Za-z]{22}")
_SPOTIFY_PREFIX = "spotify:track:"
_COLUMNS = (
    *("rank", "track_id", "name", "artists", "score", "explicit", "because", "image_url", "preview_url"),
    *("year", "link"),
)


class Written(NamedTuple):
    """A list, its media type, and its file name ("" if browsers should show it instead of saving it)."""

    content: bytes
    media_type: str
    file_name: str


def write_list(answer: Recommendations, model_version: str, form: str) -> Written:
    """The answer in the format ``json``, ``csv``, ``m3u`` or ``uris``."""
    if form == "csv":
        return Written(_csv(answer.items), "text/csv; charset=utf-8", "recommendations.csv")
    if form == "m3u":
        return Written(_m3u(answer.items), "audio/x-mpegurl; charset=utf-8", "recommendations.m3u8")
    if form == "uris":
        return Written(_uris(answer.items), "text/plain; charset=utf-8", "")
    return Written(pydantic_core.to_json(answer.shown(model_version)), "application/json", "")


def _csv(items: Sequence[Recommendation]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for rank, item in enumerate(items, 1):
        row = {"rank": rank, **item.song.shown(), "score": item.score}
        row["explicit"] = "" if item.song.explicit is None else str(item.song.explicit).lower()
        row["because"] = "; ".join(reason.name or reason.track_id for reason in item.reasons)
        writer.writerow([harmless(row[column]) for column in _COLUMNS])
    return out.getvalue().encode()


def _m3u(items: Sequence[Recommendation]) -> bytes:
    lines = ["#EXTM3U"]
    for item in items:
        song = item.song
        link = _link(song)
        if link is None:
            continue
        title = " - ".join(filter(None, (song.artists, song.name or song.track_id)))
        lines += [f"#EXTINF:-1,{' '.join(title.split())}", link]
    return ("\n".join(lines) + "\n").encode()


def _uris(items: Sequence[Recommendation]) -> bytes:
    found = (_spotify_id(item.song) for item in items)
    return "".join(f"{_SPOTIFY_PREFIX}{track}\n" for track in found if track is not None).encode()


def _link(song: SongView) -> str | None:
    """The preview of a song, or else its Spotify page; None if it has neither."""
    preview = song.preview_url
    # Whitespace in the address could start another entry of the playlist.
    if preview.startswith(("https://", "http://")) and not any(letter.isspace() for letter in preview):
        return preview
    track = _spotify_id(song)
    return None if track is None else f"https://open.spotify.com/track/{track}"


def _spotify_id(song: SongView) -> str | None:
    """The song's own id, or that of its link, if it is Spotify's."""
    plain = (clean_id(track_id) for track_id in (song.track_id, song.link))
    return next((one for one in plain if _SPOTIFY_ID.fullmatch(one)), None)
