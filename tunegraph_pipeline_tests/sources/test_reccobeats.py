"""ReccoBeats: features are matched by the link in each of them, at most forty at a time."""

from typing import Any

import pytest

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.reccobeats import ReccoBeats
from tunegraph_pipeline.sources.source import AskLater, ProviderClosed, Unanswered

A, B, C = ("4uLU6hMCjMI75M1A2tKUQC", "11dFghVXANMlKmJXsNCbNl", "7ouMYWpwJ422jRcDASZB7P")
POLICY = RequestPolicy(requests_per_second=10_000, attempts=2)


@pytest.fixture
def provider(stub: Any, frontier: Frontier) -> ReccoBeats:
    return ReccoBeats(POLICY, frontier, f"{stub.url}/v1/")


def row(track_id: Any, **features: Any) -> dict[str, Any]:
    return {
        "id": "of-their-own",
        "href": track_id and f"https://open.spotify.com/track/{track_id}",
        **features,
    }


def test_features_belong_to_the_track_in_the_link_whatever_the_order(provider: ReccoBeats, stub: Any) -> None:
    stub.say({"content": [row(C, energy=0.3), row(A, energy=0.1)]})
    found = provider.audio_features([A, B, C])
    assert {track_id: values["energy"] for track_id, values in found.items()} == {A: 0.1, C: 0.3}
    assert all(tuple(values) == AUDIO_FEATURES for values in found.values())
    assert stub.asked[0].path == f"/v1/audio-features?ids={A}%2C{B}%2C{C}"


@pytest.mark.parametrize(
    "href", [f"https://open.spotify.com/track/{A}/", f"https://open.spotify.com/track/{A}?si=1", A]
)
def test_links_may_end_in_more(href: str, provider: ReccoBeats, stub: Any) -> None:
    stub.say({"content": [{"href": href, "tempo": 90}]})
    assert provider.audio_features([A])[A]["tempo"] == 90.0


def test_rows_about_something_else_are_left_out(provider: ReccoBeats, stub: Any) -> None:
    stub.say({"content": [row(B, energy=1), row(None), {"id": A}, {"href": 5}, None, 7, row(A, energy=0.5)]})
    assert set(provider.audio_features([A])) == {A}


def test_values_that_make_no_sense_are_unknown(provider: ReccoBeats, stub: Any) -> None:
    values = {
        "energy": "high",
        "key": -1,
        "mode": True,
        "tempo": 1e300,
        "valence": None,
        "liveness": [],
        "speechiness": float("nan"),
        "loudness": -60,
        "danceability": 10**400,
    }
    stub.say({"content": [row(A, **values)]})
    found = provider.audio_features([A])[A]
    assert {name: value for name, value in found.items() if value is not None} == {"loudness": -60.0}


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": {"href": A}}, {"content": "x"}])
def test_an_answer_without_rows_knows_nothing(content: Any, provider: ReccoBeats, stub: Any) -> None:
    stub.say(content)
    assert provider.audio_features([A]) == {}


def test_refusals(provider: ReccoBeats, stub: Any, reply: Any, frontier: Frontier) -> None:
    stub.say(reply(b"{}", 404))
    assert provider.audio_features([A]) == {}
    stub.say(reply(b"{}", 400))
    with pytest.raises(Unanswered):
        provider.audio_features([B])
    stub.say(reply(b"{}", 403))
    with pytest.raises(ProviderClosed):
        provider.audio_features([C])
    stub.say(reply(b"{}", 429, {"Retry-After": "86400"}))
    with pytest.raises(AskLater):
        provider.audio_features([A, B])
    with pytest.raises(AskLater, match="ReccoBeats"):
        ReccoBeats(POLICY, frontier, stub.url).audio_features([C])
