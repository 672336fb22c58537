"""A list of recommendations as a client likes it: JSON, a table, a playlist, or Spotify URIs.

Here: writing the list. Not here: making it, or the JSON of other answers (`routes`).
"""

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import pydantic_core

from tunegraph_pipeline.recommend.recommender import Recommendation, Recommendations

_SPOTIFY_ID = re.compile(r"[0-9A-Za-z]{22}")
_SPOTIFY_PREFIX = "spotify:track:"
_COLUMNS = (
    "rank",
    "track_id",
    "name",
    "artists",
    "score",
    "explicit",
    "because",
    "image_url",
    "preview_url",
)


class Written(NamedTuple):
    """A list, its media type, and the name it is saved under ("" where it is not to be saved)."""

    content: bytes
    media_type: str
    file_name: str


def write_list(answer: Recommendations, model_version: str, form: str) -> Written:
    """The answer in the form ``json``, ``csv``, ``m3u`` or ``uris``."""
    if form == "csv":
        return Written(_csv(answer.items), "text/csv; charset=utf-8", "recommendations.csv")
    if form == "m3u":
        return Written(_m3u(answer.items), "audio/x-mpegurl; charset=utf-8", "recommendations.m3u8")
    if form == "uris":
        return Written(_uris(answer.items), "text/plain; charset=utf-8", "")
    return Written(_json(answer, model_version), "application/json", "")


def _json(answer: Recommendations, model_version: str) -> bytes:
    return pydantic_core.to_json(
        {
            "bundle_version": answer.bundle_version,
            "model_version": model_version,
            "items": [
                {
                    "rank": rank,
                    "track_id": item.track_id,
                    "name": item.name,
                    "artists": item.artists,
                    "image_url": item.image_url,
                    "preview_url": item.preview_url,
                    "explicit": item.explicit,
                    "score": item.score,
                    "x": item.x,
                    "y": item.y,
                    "reasons": [
                        {"track_id": track_id, "name": name, "artists": artists, "listeners": listeners}
                        for track_id, name, artists, listeners in item.reasons
                    ],
                }
                for rank, item in enumerate(answer.items, 1)
            ],
            "unknown": answer.unknown,
            "degraded": answer.degraded,
        }
    )


def _csv(items: Sequence[Recommendation]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for rank, item in enumerate(items, 1):
        explicit = "" if item.explicit is None else str(item.explicit).lower()
        because = "; ".join(reason.name or reason.track_id for reason in item.reasons)
        writer.writerow(
            (
                rank,
                item.track_id,
                item.name,
                item.artists,
                item.score,
                explicit,
                because,
                item.image_url,
                item.preview_url,
            )
        )
    return out.getvalue().encode()


def _m3u(items: Sequence[Recommendation]) -> bytes:
    lines = ["#EXTM3U"]
    for item in items:
        link = _link(item)
        if link is None:
            continue
        title = " - ".join(filter(None, (item.artists, item.name or item.track_id)))
        lines += [f"#EXTINF:-1,{' '.join(title.split())}", link]
    return ("\n".join(lines) + "\n").encode()


def _uris(items: Sequence[Recommendation]) -> bytes:
    found = (_spotify_id(item.track_id) for item in items)
    return "".join(f"{_SPOTIFY_PREFIX}{track}\n" for track in found if track is not None).encode()


def _link(item: Recommendation) -> str | None:
    """Where a player finds the song: its preview, or its page on Spotify."""
    preview = item.preview_url
    # A blank or a line break in it would begin another entry of the playlist.
    if preview.startswith(("https://", "http://")) and not any(part.isspace() for part in preview):
        return preview
    track = _spotify_id(item.track_id)
    return None if track is None else f"https://open.spotify.com/track/{track}"


def _spotify_id(track_id: str) -> str | None:
    plain = track_id.removeprefix(_SPOTIFY_PREFIX)
    return plain if _SPOTIFY_ID.fullmatch(plain) else None
