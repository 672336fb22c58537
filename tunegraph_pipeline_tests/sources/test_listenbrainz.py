"""ListenBrainz: what counts as a recording, covers, pages, and the pace its headers ask for."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.server import Faults, SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource
from tunegraph_pipeline.sources.source import Unanswered, UserGone, UserPrivate

DAY = date(2026, 6, 1)
ONE, TWO, THREE = (f"{n}0000000-0000-4000-8000-000000000000" for n in (1, 2, 3))
Open = Callable[..., ListenBrainzSource]


@pytest.fixture
def open_source(frontier: Frontier) -> Iterator[Open]:
    with ExitStack() as opened:

        def start(url: str, policy: RequestPolicy | None = None, users: tuple[str, ...] = ("anna",)) -> Any:
            settings = ListenBrainzSettings(start_users=users, api_url=f"{url}/1")
            policy = policy or RequestPolicy(requests_per_second=10_000, attempts=2)
            source = ListenBrainzSource(settings, policy, frontier)
            opened.callback(source.close)
            return source

        yield start


def love(mbid: Any, created: Any = 1_767_322_800, **metadata: Any) -> dict[str, Any]:
    return {"recording_mbid": mbid, "created": created, "score": 1, "track_metadata": metadata or None}


def listing(*feedback: Any) -> dict[str, Any]:
    return {"feedback": list(feedback), "total_count": len(feedback)}


def test_start_users_have_to_be_named(stub: Any, open_source: Open) -> None:
    assert open_source(stub.url, users=("anna", "ben")).start_users() == ["anna", "ben"]
    with pytest.raises(InputError, match="--start-user NAME"):
        open_source(stub.url, users=()).start_users()


def test_only_recordings_of_musicbrainz_are_likes(stub: Any, open_source: Open) -> None:
    mapped = {"mbid_mapping": {"recording_mbid": TWO}, "track_name": "Two"}
    stub.say(
        listing(
            love(ONE, track_name="One", artist_name="Someone"),
            love(None, **mapped),
            love(None, track_name="Nobody knows"),
            love("../" + ONE),
            love(ONE + "\n"),
            love(ONE.upper().replace("1", "G")),
            love(5),
            None,
        )
    )
    liked = open_source(stub.url).liked_list("anna")
    assert [like.track_id for like in liked.likes] == [ONE, TWO]
    assert liked.counts == {"loved recordings without an MBID": 6}
    one, two = liked.described
    assert (one.name, one.artists, one.artist_ids) == ("One", ["Someone"], None)
    assert (two.name, two.artists) == ("Two", None)


def test_loved_twice_is_liked_since_the_first_time(stub: Any, open_source: Open) -> None:
    stub.say(
        listing(
            love(ONE, 1_767_322_800),
            love(ONE, 1_767_000_000),
            love(ONE, None),
            love(TWO, -5),
            love(TWO, 1e300),
            love(TWO, True),
            love(TWO, "2026"),
        )
    )
    one, two = open_source(stub.url).liked_list("anna").likes
    assert one.liked_at == datetime.fromtimestamp(1_767_000_000, UTC)
    assert two.liked_at is None


@pytest.mark.parametrize(
    ("caa_id", "release", "cover"),
    [
        (123, TWO, f"https://coverartarchive.org/release/{TWO}/123-250.jpg"),
        (None, TWO, None),
        (123, None, None),
        (-1, TWO, None),
        (True, TWO, None),
        ("123/../..", TWO, None),
        (123, "x/../y", None),
    ],
)
def test_covers_come_from_the_archive(
    caa_id: Any, release: Any, cover: str | None, stub: Any, open_source: Open
) -> None:
    mapping = {"caa_id": caa_id, "caa_release_mbid": release, "release_mbid": THREE}
    stub.say(listing(love(ONE, track_name="One", mbid_mapping=mapping)))
    (track,) = open_source(stub.url).liked_list("anna").described
    assert track.image_url == cover
    assert track.album_id == THREE

    stub.say({ONE: {"recording": {"name": "One"}, "release": {**mapping, "mbid": THREE}}})
    (track,) = open_source(stub.url).describe([ONE])
    assert (track.image_url, track.album_id) == (cover, THREE)


def test_artists_keep_their_ids_beside_their_names(stub: Any, open_source: Open) -> None:
    artists = [
        {"artist_mbid": ONE, "name": "A"},
        {"artist_mbid": "odd", "name": "B"},
        {"artist_mbid": TWO, "name": ""},
        {"artist_mbid": THREE, "name": "C"},
        None,
    ]
    recording = {"name": "Song", "length": 1_000, "isrcs": [None, "GBAYE0601498"]}
    release = {"mbid": THREE, "name": "First Light", "year": 1997}
    stub.say({ONE: {"recording": recording, "artist": {"artists": artists}, "release": release}})
    (track,) = open_source(stub.url).describe([ONE, TWO])
    assert (track.artists, track.artist_ids) == (["A", "C"], [ONE, THREE])
    assert (track.isrc, track.duration_ms) == ("GBAYE0601498", 1_000)
    assert (track.album_id, track.album, track.year) == (THREE, "First Light", 1997)


def test_what_is_no_mbid_is_never_asked_about(stub: Any, open_source: Open) -> None:
    assert open_source(stub.url).describe(["4uLU6hMCjMI75M1A2tKUQC", "a,b", ""]) == []
    assert stub.asked == []


def test_every_page_is_read_and_a_list_without_end_is_given_up(
    stub: Any, reply: Any, open_source: Open
) -> None:
    def respond(request: Any) -> Any:
        query = parse_qs(urlsplit(request.path).query)
        start = int(query["offset"][0])
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(start, min(start + 2, 5))]
        return reply(json.dumps({"feedback": [love(mbid) for mbid in ids], "total_count": 5}).encode())

    stub.respond = respond
    source = open_source(stub.url)
    assert len(source.liked_list("anna").likes) == 5
    assert len(stub.asked) == 3

    endless = json.dumps({"feedback": [love(ONE)], "total_count": 10**15}).encode()
    stub.respond = lambda request: reply(endless)
    with pytest.raises(Unanswered, match="same page"):
        source.liked_list("ben")
    for said in (b"{}", b'{"feedback": null}', b'{"feedback": {}}'):
        stub.respond = lambda request, said=said: reply(said)
        with pytest.raises(Unanswered):
            source.liked_list(f"carla {said!r}")


def test_users_are_followed_both_ways_and_names_are_quoted(stub: Any, reply: Any, open_source: Open) -> None:
    said = {
        "following": b'{"following": ["ben", "an/na", "carla", "", "x\\ny", 5, null]}',
        "followers": b'{"followers": ["carla", "dora", "ben"]}',
    }
    stub.respond = lambda request: reply(said[request.path.rpartition("/")[2]])
    assert open_source(stub.url).discover("an/na") == ["ben", "carla", "dora"]
    assert [request.path for request in stub.asked] == [
        "/1/user/an%2Fna/following",
        "/1/user/an%2Fna/followers",
    ]


@pytest.mark.parametrize(
    ("status", "refusal"), [(404, UserGone), (401, UserPrivate), (403, UserPrivate), (400, Unanswered)]
)
def test_refusals_of_a_user(
    status: int, refusal: type[Exception], stub: Any, reply: Any, open_source: Open
) -> None:
    stub.say(reply(b'{"code": 1}', status))
    source = open_source(stub.url)
    for ask in (source.discover, source.liked_list):
        with pytest.raises(refusal):
            ask("anna")


def test_headers_keep_the_pace_below_the_limit(open_source: Open) -> None:
    world = World(WorldConfig(n_users=100, n_tracks=100, likes_per_user=10))
    faults = Faults(requests_per_second=20, window_seconds=0.5)
    with SimulatorServer(world, DAY, faults=faults) as server:
        source = open_source(server.url, RequestPolicy(requests_per_second=10_000))
        found = [
            user
            for start in world.start_users()
            for user in source.discover(start)
            if world.state(user, DAY) == "listed"
        ]
        for user in found[:15]:
            source.liked_list(user)
        asked = sum(server.requests.values())
        assert asked >= 20
        # Unheeded, a rate this far beyond the limit has every second request refused.
        assert server.summary()["answered_429"] <= asked / 10
