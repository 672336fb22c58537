"""ReccoBeats: audio features for Spotify's track ids, open to everyone.

Here: one call and the meaning of its answer. Not here: rate limits and retries (`api_session`), or the order
of providers (`SpotifySource.feature_providers`).
"""

from collections.abc import Sequence
from typing import Any

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.api_session import ApiSession, Keep, RequestPolicy, base_url
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import Features, ProviderClosed, Unanswered, feature_values

_KEEP: Keep = {"content": {"href": True, **dict.fromkeys(AUDIO_FEATURES, True)}}
_CEILING = 5.0


class ReccoBeats:
    """A provider of audio features; ``url`` is the address of its API."""

    name = "reccobeats"
    batch_size = 40

    def __init__(
        self,
        policy: RequestPolicy,
        frontier: Frontier,
        url: str = "https://api.reccobeats.com/v1",
        ceiling: float = _CEILING,
    ) -> None:
        self._url, origin = base_url(url, "the address of ReccoBeats")
        self.session = ApiSession("ReccoBeats", {origin}, frontier, policy, _KEEP, ceiling)

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        self.session.check_not_before()
        response = self.session.get(f"{self._url}/audio-features", params={"ids": ",".join(track_ids)})
        if response.status_code in (401, 403, 410):
            raise ProviderClosed(f"ReccoBeats gives no audio features (status {response.status_code})")
        if response.status_code == 404:
            return {}  # none of these
        if response.status_code != 200:
            raise Unanswered(f"ReccoBeats answered with status {response.status_code}")
        content = response.json().get("content")
        wanted = set(track_ids)
        found: dict[str, Features] = {}
        for value in content if isinstance(content, list) else []:
            track_id = _track_id(value)
            if track_id in wanted:
                found[track_id] = feature_values(value)
        return found

    def close(self) -> None:
        self.session.close()


def _track_id(value: Any) -> str:
    """The last part of the link to Spotify, since the answer has other ids and another order."""
    href = value.get("href") if isinstance(value, dict) else None
    return href.rstrip("/").rpartition("/")[2].partition("?")[0] if isinstance(href, str) else ""
