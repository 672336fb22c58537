"""The APIs of others, asked by the clients that people use for them, of which only the address is changed."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as Xml

import libsonic
import numpy as np
import pytest
from liblistenbrainz import ListenBrainz
from liblistenbrainz.errors import ListenBrainzAPIException
from spotipy import Spotify, SpotifyException

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import BundleContent
from tunegraph_pipeline.recommend.lookup import Lookup
from tunegraph_pipeline.recommend.recommender import SONGS_OF_AN_ARTIST, Recommender
from tunegraph_pipeline.recommend.targets import SONGS_ORDERED
from tunegraph_pipeline.serve.settings import SHAPES, ServiceSettings, check_shapes
from tunegraph_pipeline.serve.shapes import TABLE
from tunegraph_pipeline_tests.serve.conftest import (
    N_TRACKS,
    RunningService,
    StartService,
    _end,
    artist_name,
    make_lake,
    small_content,
    start_service,
    track_id,
    track_name,
)

KEY = "a-key-of-enough-characters"


def mbid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def song_id(track: int) -> str:
    """Of the songs, every other is known by an id of Spotify, the others by one of MusicBrainz."""
    return track_id(track) if track % 2 == 0 else mbid(f"song {track}")


def artist_id(track: int) -> str:
    """Artists whose name has "Neon" are known by an id of Spotify, the others by one of MusicBrainz."""
    name = artist_name(track)
    return "neon" + mbid(name).replace("-", "")[:18] if "Neon" in name else mbid(name)


def isrc(track: int) -> str:
    return f"DEXY126{track:05d}"


def content() -> BundleContent:
    names = [artist_name(track) for track in range(N_TRACKS)]
    return replace(
        small_content(),
        track_ids=[song_id(track) for track in range(N_TRACKS)],
        isrcs=[isrc(track) for track in range(N_TRACKS)],
        feature_names=["energy", "key"],
        features=np.array(
            [[track / N_TRACKS for track in range(N_TRACKS)], [np.nan, 7] * (N_TRACKS // 2)], dtype=np.float16
        ),
        genre_names=["Ska"],
        genre_indptr=np.array([0, N_TRACKS // 2]),
        genre_tracks=np.arange(0, N_TRACKS, 2, dtype=np.int32),
        by=Artists.of_lists([[artist_id(track)] for track in range(N_TRACKS)], [[name] for name in names]),
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    lake = make_lake(tmp_path_factory.mktemp("shapes") / "lake", content())
    running = start_service(lake, "--shapes", ",".join(SHAPES))
    yield running
    _end(running.process)


@pytest.fixture(scope="module")
def recommender(service: RunningService) -> Recommender:
    return Recommender.open(service.lake / "serving")


def recommended(service: RunningService, likes: list[str], **options: Any) -> list[str]:
    """The ids that the service's own API recommends."""
    answer = service.post("/recommendations", {"likes": likes, **options}).json()
    return [item["track_id"] for item in answer["items"]]


def similar(service: RunningService, track: str, k: int) -> list[str]:
    answer = service.get(f"/tracks/{track}/similar?k={k}").json()
    return [item["track_id"] for item in answer["items"]]


def songs_of(recommender: Recommender, artist: str) -> list[str]:
    lookup = Lookup(recommender.bundle)
    place = lookup.artist(artist)
    assert place is not None
    return [recommender.bundle.tracks[song] for song in lookup.songs_of(place).tolist()]


def near_artists(service: RunningService, recommender: Recommender, artist: str, k: int) -> list[str]:
    """The names of the artists of what the service's own API recommends to who likes the artist."""
    songs = songs_of(recommender, artist)
    likes, exclude = songs[:SONGS_OF_AN_ARTIST], songs[SONGS_OF_AN_ARTIST:]
    body = {"likes": likes, "exclude": exclude, "k": k, "max_per_artist": 1}
    items = service.post("/recommendations", body).json()["items"]
    return [item["artists"] for item in items]


# --- Spotify ---


@pytest.fixture
def spotify(service: RunningService) -> Iterator[Spotify]:
    client = Spotify(auth="any token", retries=0)
    client.prefix = f"{service.url}/v1/"
    client._session.trust_env = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Spotify withdrew what is tested here
        yield client


def test_spotipy_gets_the_songs_of_the_recommendations(service: RunningService, spotify: Spotify) -> None:
    seeds = [song_id(2), song_id(4)]
    answer = spotify.recommendations(seed_tracks=seeds, limit=30)
    assert [track["id"] for track in answer["tracks"]] == recommended(service, seeds, k=30)
    assert [(seed["id"], seed["type"], seed["initialPoolSize"]) for seed in answer["seeds"]] == [
        (seed, "TRACK", 1) for seed in seeds
    ]
    numbers = {song_id(track): track for track in range(N_TRACKS)}
    for track in answer["tracks"]:
        number = numbers[track["id"]]
        assert track["name"] == track_name(number)
        assert [(one["id"], one["name"]) for one in track["artists"]] == [
            (artist_id(number), artist_name(number))
        ]
        assert track["external_ids"] == {"isrc": isrc(number)}
        assert 0 <= track["popularity"] <= 100
        if number % 2 == 0:
            assert track["uri"] == f"spotify:track:{track['id']}"
        else:
            assert track["uri"] == f"https://musicbrainz.org/recording/{track['id']}"


def test_spotipy_seeds_of_artists_stand_for_their_most_liked_songs(
    service: RunningService, recommender: Recommender, spotify: Spotify
) -> None:
    neon = next(track for track in range(N_TRACKS) if "Neon" in artist_name(track))
    answer = spotify.recommendations(
        seed_artists=[artist_id(neon)], seed_tracks=[song_id(4)], limit=10, target_popularity=20
    )
    likes = [song_id(4), *songs_of(recommender, artist_id(neon))[:SONGS_OF_AN_ARTIST]]
    expected = recommended(service, likes, k=10, familiarity=0.2)
    assert [track["id"] for track in answer["tracks"]] == expected


def test_spotipy_bounds_and_genres_are_filters(service: RunningService, spotify: Spotify) -> None:
    filters = {"genres": ["Ska"], "features": {"energy": [0.25, 0.75]}}
    for likes in ([song_id(2)], []):
        answer = spotify.recommendations(
            seed_tracks=likes, seed_genres=["ska"], min_energy=0.25, max_energy=0.75, limit=20
        )
        expected = recommended(service, likes, k=20, filters=filters)
        assert [track["id"] for track in answer["tracks"]] == expected
        assert len(expected) == 20
        assert answer["seeds"][-1]["type"] == "GENRE"
    assert spotify.recommendations(seed_tracks=[song_id(2)], seed_genres=["ska"], max_key=5)["tracks"] == []
    assert spotify.recommendation_genre_seeds() == {"genres": ["Ska"]}


def test_spotipy_targets_put_the_nearest_songs_first(service: RunningService, spotify: Spotify) -> None:
    energies = {song_id(track): track / N_TRACKS for track in range(N_TRACKS)}

    def asked(**given: Any) -> list[str]:
        return [track["id"] for track in spotify.recommendations(seed_tracks=[song_id(2)], **given)["tracks"]]

    def distance(songs: list[str], energy: float) -> float:
        return float(np.mean([abs(energies[song] - energy) for song in songs]))

    plain = asked(limit=20)
    for energy in (0.1, 0.9):
        tuned = asked(target_energy=energy, limit=20)
        assert distance(tuned, energy) < 0.5 * distance(plain, energy)
        assert tuned == asked(target_energy=energy, limit=20)
        assert set(tuned) <= set(recommended(service, [song_id(2)], k=SONGS_ORDERED))
    # Nearer the front, songs are nearer; and of two at the same distance that of the higher score is first.
    all_songs = asked(target_energy=0.1, limit=100)
    assert distance(all_songs[:20], 0.1) < distance(all_songs[20:60], 0.1) < distance(all_songs[60:], 0.1)
    louder = asked(target_energy=0.1, min_energy=0.5, limit=20)
    assert min(energies[song] for song in louder) >= 0.5
    # All songs of which the key is known have the same.
    keys = asked(target_key=7, target_energy=0.1, target_popularity=80, limit=10)
    assert len(set(keys)) == 10
    of_genre = spotify.recommendations(seed_genres=["ska"], target_energy=0.9, limit=10)["tracks"]
    assert distance([track["id"] for track in of_genre], 0.9) < 0.2


def test_spotipy_bounds_of_the_popularity_are_filters(service: RunningService, spotify: Spotify) -> None:
    seeds = [song_id(2)]
    shown = {
        track["id"]: track["popularity"]
        for track in spotify.recommendations(seed_tracks=seeds, limit=100)["tracks"]
    }
    low, high = np.quantile(list(shown.values()), (0.3, 0.7)).astype(int).tolist()
    assert low < high
    bounded = spotify.recommendations(seed_tracks=seeds, min_popularity=low, max_popularity=high, limit=100)[
        "tracks"
    ]
    found = {track["id"]: track["popularity"] for track in bounded}
    assert all(low <= popularity <= high for popularity in found.values())
    assert {song for song, popularity in shown.items() if low <= popularity <= high} <= set(found)
    everything = spotify.recommendations(seed_tracks=seeds, min_popularity=0, max_popularity=100, limit=100)
    assert [track["id"] for track in everything["tracks"]] == list(shown)


def test_spotipy_gets_audio_features(spotify: Spotify) -> None:
    first, unknown, other = spotify.audio_features([song_id(60), "7" * 22, song_id(120)])
    assert (first["id"], first["energy"], "key" in first) == (song_id(60), 0.25, False)
    assert unknown is None
    assert other["energy"] == 0.5
    assert spotify._get("audio-features", ids=song_id(60))["audio_features"] == [first]
    assert spotify._get("audio-features/" + song_id(121))["key"] == 7
    spotify_refuses(lambda: spotify._get("audio-features/unknown"), 404, "no audio feature of this song")


def test_spotipy_gets_related_artists(
    service: RunningService, recommender: Recommender, spotify: Spotify
) -> None:
    neon = next(track for track in range(N_TRACKS) if "Neon" in artist_name(track))
    artists = spotify.artist_related_artists(artist_id(neon))["artists"]
    expected = near_artists(service, recommender, artist_id(neon), 20)
    assert [artist["name"] for artist in artists] == expected
    assert artist_name(neon) not in expected


def spotify_refuses(call: Callable[[], object], status: int, words: str) -> None:
    with pytest.raises(SpotifyException) as refusal:
        call()
    assert refusal.value.http_status == status
    assert words in refusal.value.msg


def test_what_the_bundle_cannot_answer_is_refused_by_name(spotify: Spotify) -> None:
    seeds = {"seed_tracks": [song_id(2)]}
    for name in ("target_duration_ms", "max_time_signature"):
        spotify_refuses(
            lambda name=name: spotify.recommendations(**seeds, **{name: 1}),  # type: ignore[misc]
            400,
            f"{name}: this service cannot answer",
        )
    spotify_refuses(lambda: spotify.recommendations(**seeds, country="DE"), 400, "market: ")
    spotify_refuses(lambda: spotify.recommendations(**seeds, seed_genres=["polka"]), 404, "no genre 'polka'")
    spotify_refuses(lambda: spotify.recommendations(**seeds, max_valence=1), 404, "the valence of no song")
    spotify_refuses(lambda: spotify.recommendations(**seeds, target_valence=1), 404, "the valence of no song")
    spotify_refuses(lambda: spotify.recommendations(**seeds, min_energy="loud"), 400, "min_energy: has to be")
    spotify_refuses(lambda: spotify.recommendations(**seeds, target_energy="x"), 400, "target_energy: has to")
    spotify_refuses(lambda: spotify.recommendations(**seeds, min_popularity=101), 400, "min_popularity: has")
    spotify_refuses(lambda: spotify.recommendations(**seeds, limit=101), 400, "limit: ")
    spotify_refuses(spotify.recommendations, 400, "at least one seed")
    spotify_refuses(lambda: spotify.recommendations(seed_tracks=["unknown"]), 404, "knows none")
    spotify_refuses(lambda: spotify.artist_related_artists("nobody"), 404, "knows none")
    spotify_refuses(lambda: spotify.album("nothing"), 404, "nothing at this path")


# --- Last.fm ---


@pytest.fixture(scope="module")
def lastfm(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ModuleType, Any]]:
    """pylast and its network. It speaks TLS only, so a proxy with a certificate stands before the service, as
    in front of any public one."""
    certificate = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(certificate), "-out", str(certificate) + ".crt"),
        ],
        check=True,
        capture_output=True,
    )
    public = Path(str(certificate) + ".crt")
    with certificate.open("a") as both:
        both.write(public.read_text())
    with pytest.MonkeyPatch.context() as environment, TlsFront(certificate, service.url) as address:
        environment.setenv("SSL_CERT_FILE", str(public))  # read when pylast is imported
        import pylast

        network = pylast.LastFMNetwork(api_key="any")
        network.ws_server = (address, "/2.0/")
        yield pylast, network


class TlsFront:
    """Ends TLS and passes the bytes on, as a proxy does; yields its host and port."""

    def __init__(self, certificate: Path, url: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        host, _, port = url.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(raw, server_side=True) as client,
            socket.create_connection(self._upstream) as upstream,
        ):
            back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
            back.start()
            _copy(client, upstream)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_pylast_gets_similar_songs(service: RunningService, lastfm: tuple[ModuleType, Any]) -> None:
    _, network = lastfm
    found = network.get_track(artist_name(8), track_name(8)).get_similar(limit=25)
    names = {song_id(track): (artist_name(track), track_name(track)) for track in range(N_TRACKS)}
    expected = [names[track] for track in similar(service, song_id(8), 25)]
    assert [(item.item.artist.name, item.item.title) for item in found] == expected
    assert all(0 <= item.match <= 1 for item in found)
    assert [item.match for item in found] == sorted((item.match for item in found), reverse=True)


def test_pylast_gets_similar_artists(
    service: RunningService, recommender: Recommender, lastfm: tuple[ModuleType, Any]
) -> None:
    _, network = lastfm
    found = network.get_artist(artist_name(8).upper()).get_similar(limit=12)
    assert [item.item.name for item in found] == near_artists(service, recommender, artist_name(8), 12)
    assert found[0].match == 1


def test_pylast_reads_the_errors(lastfm: tuple[ModuleType, Any]) -> None:
    pylast, network = lastfm
    with pytest.raises(pylast.WSError, match="no song of this artist and title"):
        network.get_track("Nobody", "Nothing").get_similar()
    with pytest.raises(pylast.WSError, match="no artist of this name"):
        network.get_artist("Nobody").get_similar()
    with pytest.raises(pylast.WSError, match="this service has the methods") as error:
        network.get_artist(artist_name(8)).get_bio_summary()
    assert error.value.status == "3"


def test_lastfm_speaks_json(service: RunningService) -> None:
    asked = {"method": "track.getsimilar", "mbid": song_id(9), "limit": "7", "format": "json", "api_key": "x"}
    answer = service.get("/2.0/", params=asked).json()["similartracks"]["track"]
    assert [track["name"] for track in answer] == [
        track_name(next(at for at in range(N_TRACKS) if song_id(at) == track))
        for track in similar(service, song_id(9), 7)
    ]
    assert {track["mbid"] for track in answer} & {song_id(track) for track in range(1, N_TRACKS, 2)}
    refused = service.get("/2.0/", params={**asked, "limit": "none"})
    assert (refused.status_code, refused.json()["error"]) == (400, 6)


# --- ListenBrainz ---


@pytest.fixture
def listenbrainz(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> ListenBrainz:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return ListenBrainz(api_base_url=service.url)


def test_liblistenbrainz_gets_the_recordings_recommended_to_a_user(
    service: RunningService, listenbrainz: ListenBrainz
) -> None:
    payload = listenbrainz.get_user_recommendation_recordings("listener-3", count=20, offset=10)["payload"]
    answer = service.get("/users/listener-3/recommendations?k=30").json()["items"][10:]
    expected = [item["track_id"] for item in answer if len(item["track_id"]) == 36]
    assert expected
    assert [one["recording_mbid"] for one in payload["mbids"]] == expected
    assert (payload["count"], payload["offset"], payload["type"]) == (len(expected), 10, "raw")


def test_liblistenbrainz_gets_a_jspf(
    service: RunningService, recommender: Recommender, listenbrainz: ListenBrainz
) -> None:
    prompt = {"prompt": f"artist:({artist_name(4)}) artist:{artist_id(8)}", "mode": "medium"}
    playlist = listenbrainz._get("/1/explore/lb-radio", params=prompt)["payload"]["jspf"]["playlist"]
    likes = [
        song
        for artist in (artist_name(4), artist_id(8))
        for song in songs_of(recommender, artist)[:SONGS_OF_AN_ARTIST]
    ]
    items = service.post("/recommendations", {"likes": likes, "k": 50, "familiarity": 0.25}).json()["items"]
    assert [(track["title"], track["creator"]) for track in playlist["track"]] == [
        (item["name"], item["artists"]) for item in items
    ]
    assert [track["identifier"] for track in playlist["track"]] == [[item["link"]] for item in items]


def test_liblistenbrainz_finds_the_playlist_created_for_a_user(
    service: RunningService, listenbrainz: ListenBrainz
) -> None:
    # What programs do that import such playlists: list them, choose one by how it was made, get it by its id.
    listed = listenbrainz._get("/1/user/listener-3/playlists/createdfor")
    assert (listed["count"], listed["offset"], listed["playlist_count"]) == (25, 0, 1)
    (found,) = (one["playlist"] for one in listed["playlists"])
    about = found["extension"]["https://musicbrainz.org/doc/jspf#playlist"]
    assert about["additional_metadata"]["algorithm_metadata"]["source_patch"] == "weekly-exploration"
    assert about["created_for"] == "listener-3"
    assert datetime.fromisoformat(found["date"]) == datetime(2026, 6, 1, tzinfo=UTC)
    assert "Weekly Exploration" in found["title"]
    address, _, playlist_mbid = found["identifier"].rpartition("/")
    assert (address, str(uuid.UUID(playlist_mbid))) == ("https://listenbrainz.org/playlist", playlist_mbid)
    playlist = listenbrainz._get(f"/1/playlist/{playlist_mbid}", params={"fetch_metadata": "true"})[
        "playlist"
    ]
    items = service.get("/users/listener-3/recommendations?k=50").json()["items"]
    assert [(track["title"], track["creator"]) for track in playlist["track"]] == [
        (item["name"], item["artists"]) for item in items
    ]
    for track, item in zip(playlist["track"], items, strict=True):
        (identifier,) = track["identifier"]
        assert identifier == item["link"]
        of_track = track["extension"]["https://musicbrainz.org/doc/jspf#track"]
        (artist,) = of_track["additional_metadata"]["artists"]
        assert artist["artist_credit_name"] == item["artists"]
        pages = [f"https://musicbrainz.org/artist/{artist['artist_mbid']}"] if artist["artist_mbid"] else []
        assert of_track["artist_identifiers"] == pages
    assert {**playlist, "track": []} == found
    later = listenbrainz._get("/1/user/listener-3/playlists/createdfor", params={"offset": 1, "count": 5})
    assert (later["playlists"], later["playlist_count"]) == ([], 1)
    other = listenbrainz._get("/1/user/listener-4/playlists/createdfor")["playlists"][0]["playlist"]
    assert other["identifier"] != found["identifier"]
    for path, status in (
        ("/1/user/nobody/playlists/createdfor", 404),
        ("/1/user/listener-3/playlists/createdfor?count=0", 400),
        ("/1/user/listener-3/playlists", 404),
        (f"/1/playlist/{uuid.uuid4()}", 404),
        (f"/1/playlist/{uuid.UUID(int=0)}", 404),
        ("/1/playlist/none", 400),
        (f"/1/playlist/{playlist_mbid}?fetch_metadata=some", 400),
        (f"/1/playlist/{playlist_mbid}?count=3", 400),
    ):
        refused = service.get(path)
        assert (refused.status_code, refused.json()["code"]) == (status, status), path


def test_liblistenbrainz_reads_the_errors(listenbrainz: ListenBrainz) -> None:
    with pytest.raises(ListenBrainzAPIException) as error:
        listenbrainz.get_user_recommendation_recordings("nobody")
    assert error.value.status_code == 404
    assert "no user of this id" in error.value.message
    with pytest.raises(ListenBrainzAPIException) as error:
        listenbrainz._get("/1/explore/lb-radio", params={"prompt": "tag:(ska)"})
    assert error.value.status_code == 400
    assert "this service understands artist:" in error.value.message


@pytest.mark.slow
def test_stored_users_need_the_key_as_the_token(running_service: StartService) -> None:
    service = running_service("--shapes", "listenbrainz", environment={"TUNEGRAPH_API_KEY": KEY})
    client = ListenBrainz(api_base_url=service.url)
    client.set_auth_token(KEY)
    (listed,) = client._get("/1/user/listener-3/playlists/createdfor")["playlists"]
    playlist_mbid = listed["playlist"]["identifier"].rpartition("/")[2]
    calls: list[Callable[[], Any]] = [
        lambda: client.get_user_recommendation_recordings("listener-3"),
        lambda: client._get("/1/explore/lb-radio", params={"prompt": "recs:listener-3"}),
        lambda: client._get("/1/user/listener-3/playlists/createdfor"),
        lambda: client._get(f"/1/playlist/{playlist_mbid}"),
    ]
    for call in calls:
        client._auth_token = None
        with pytest.raises(ListenBrainzAPIException) as error:
            call()
        assert error.value.status_code == 401
        client.set_auth_token(KEY)  # asks whether it is right
        assert call()

    def whose(token: str, scheme: str = "Token") -> Any:
        header = f"{scheme} {token}".encode()
        answer = service.get("/1/validate-token", headers={"Authorization": header}).json()
        return answer.get("user_name") if answer["valid"] else None

    # A token may name the user, for programs that ask whose it is.
    assert [whose(KEY), whose(f"listener-3:{KEY}"), whose(f"a:b:{KEY}")] == ["", "listener-3", "a:b"]
    assert whose(f"Jürgen:{KEY}") == "Jürgen"
    wrong = ("listener-3", "listener-3:", f"listener-3:{KEY}x", f"{KEY}:listener-3", f":{KEY}:")
    assert [whose(token) for token in wrong] == [None] * len(wrong)
    assert whose(f"listener-3:{KEY}", "Bearer") is None
    client.set_auth_token(f"listener-3:{KEY}")
    assert all(call() for call in calls)


def test_similar_recordings_are_those_of_similar(service: RunningService) -> None:
    expected = [track for track in similar(service, song_id(9), 50) if len(track) == 36]
    asked = [{"recording_mbids": [song_id(9)], "algorithm": "any"}]
    for answer in (
        service.get("/similar-recordings/json", params=asked[0]),
        service.post("/similar-recordings/json", asked),
    ):
        assert [row["recording_mbid"] for row in answer.json()] == expected
    wrong: list[Any] = [{}, [{}], [[]], [{"recording_mbids": [1]}], [{"recording_mbids": []}], "x", None]
    for body in wrong:
        refused = service.post("/similar-recordings/json", body)
        assert (refused.status_code, refused.json()["code"]) == (400, 400)


# --- OpenSubsonic ---


@pytest.fixture
def subsonic(service: RunningService) -> libsonic.Connection:
    host, _, port = service.url.rpartition(":")
    return libsonic.Connection(host, "anybody", "any password", port=int(port))


def children(answer: dict[str, Any], key: str) -> list[str]:
    return [child["id"] for child in answer[key]["song"]]


def test_pysonic_gets_similar_songs(
    service: RunningService, recommender: Recommender, subsonic: libsonic.Connection
) -> None:
    assert subsonic.ping()
    for artist in (artist_id(8), artist_name(8)):
        likes = songs_of(recommender, artist)[:SONGS_OF_AN_ARTIST]
        answer = subsonic.getSimilarSongs2(artist, count=15)
        assert children(answer, "similarSongs2") == recommended(service, likes, k=15)


@pytest.mark.parametrize("form", ["id", "isrc", "bare isrc", "name"])
def test_a_file_is_matched_by_id_isrc_or_name(
    service: RunningService, subsonic: libsonic.Connection, form: str
) -> None:
    named = {
        "id": song_id(9),
        "isrc": f"isrc:{isrc(9)}",
        "bare isrc": "DE-XY1-26-00009",
        "name": f"name:{artist_name(9)}/{track_name(9)} (Remastered 2017)",
    }
    answer = subsonic.getSimilarSongs(named[form], count=15)
    assert children(answer, "similarSongs") == similar(service, song_id(9), 15)
    for child in answer["similarSongs"]["song"]:
        number = next(at for at in range(N_TRACKS) if song_id(at) == child["id"])
        assert child["isrc"] == [isrc(number)]
        assert child.get("musicBrainzId") == (song_id(number) if number % 2 else None)
        assert (child["title"], child["artist"]) == (track_name(number), artist_name(number))


def test_pysonic_gets_similar_artists(
    service: RunningService, recommender: Recommender, subsonic: libsonic.Connection
) -> None:
    info = subsonic.getArtistInfo2(artist_id(8), count=9)["artistInfo2"]
    assert info["musicBrainzId"] == artist_id(8)
    assert [one["name"] for one in info["similarArtist"]] == near_artists(
        service, recommender, artist_id(8), 9
    )


def test_pysonic_reads_the_errors(subsonic: libsonic.Connection) -> None:
    with pytest.raises(libsonic.errors.DataNotFoundError, match="no song of this id"):
        subsonic.getSimilarSongs2("nothing")
    with pytest.raises(libsonic.errors.DataNotFoundError, match="no artist"):
        subsonic.getArtistInfo2("nobody")
    with pytest.raises(libsonic.errors.ParameterError, match="id: is needed"):
        subsonic.getSimilarSongs2("")
    with pytest.raises(libsonic.errors.SonicError, match="count: has to be"):
        subsonic.getSimilarSongs2(song_id(8), count=0)


def test_sonic_similarity_and_a_path(service: RunningService) -> None:
    def ask(method: str, **given: Any) -> dict[str, Any]:
        found = service.get(f"/rest/{method}", params={"f": "json", "u": "x", "c": "x", **given})
        answer: dict[str, Any] = found.json()["subsonic-response"]
        assert answer["status"] == "ok", answer
        return answer

    names = {one["name"] for one in ask("getOpenSubsonicExtensions")["openSubsonicExtensions"]}
    assert "sonicSimilarity" in names
    near = ask("getSonicSimilarTracks", id=song_id(8), count=12)["sonicMatch"]
    assert [one["entry"]["id"] for one in near] == similar(service, song_id(8), 12)
    assert all(0 <= one["similarity"] <= 1 for one in near)
    path = ask("findSonicPath", startSongId=song_id(8), endSongId=song_id(9), count=10)["sonicMatch"]
    ids = [one["entry"]["id"] for one in path]
    assert (ids[0], ids[-1], len(set(ids))) == (song_id(8), song_id(9), 10)
    assert set(ids[1:-1]) <= set(recommended(service, [song_id(8), song_id(9)], k=10))
    alone = ask("findSonicPath", startSongId=song_id(8), endSongId=song_id(8), count=1)["sonicMatch"]
    assert [one["entry"]["id"] for one in alone] == [song_id(8)]


def test_subsonic_speaks_xml_unless_asked_for_json(service: RunningService) -> None:
    name = "{http://subsonic.org/restapi}"
    info = Xml.fromstring(service.get("/rest/getArtistInfo2.view", params={"id": artist_id(8)}).text)
    assert info.attrib["status"] == "ok"
    assert info.findtext(f"{name}artistInfo2/{name}musicBrainzId") == artist_id(8)
    assert len(info.findall(f"{name}artistInfo2/{name}similarArtist")) > 3
    failed = Xml.fromstring(service.get("/rest/getArtistInfo2.view").text)
    assert failed.attrib["status"] == "failed"
    error = failed.find(f"{name}error")
    assert error is not None
    assert error.attrib["code"] == "10"


# --- Lidarr ---


def test_lidarr_reads_a_list_of_artists(service: RunningService, recommender: Recommender) -> None:
    answer = service.get("/lidarr", params={"artist": artist_name(8), "limit": 30}).json()
    expected = near_artists(service, recommender, artist_name(8), 30)
    assert [one["ArtistName"] for one in answer] == [name for name in expected if "Neon" not in name]
    assert [one["MusicBrainzId"] for one in answer] == [mbid(one["ArtistName"]) for one in answer]
    for asked in ({}, {"artist": "Nobody"}, {"artist": artist_name(8), "page": "2"}):
        assert service.get("/lidarr", params=asked).status_code in {404, 422}


# --- all of them ---

ASKED = {
    "spotify": "/v1/recommendations?seed_tracks=x",
    "lastfm": "/2.0/?method=artist.getSimilar&artist=x&format=json",
    "listenbrainz": "/1/explore/lb-radio?prompt=artist:x",
    "subsonic": "/rest/getSimilarSongs2?id=x&f=json",
    "lidarr": "/lidarr?artist=x",
}


def test_without_the_option_there_are_no_shapes(shared_service: RunningService) -> None:
    for path in ASKED.values():
        found = shared_service.get(path)
        assert found.status_code == 404
        assert found.headers["content-type"] == "application/problem+json"
        assert "nothing at this path" in found.json()["detail"]


def test_shapes_are_chosen_one_by_one(running_service: StartService) -> None:
    service = running_service("--shapes", "lidarr, Spotify")
    there = {name for name, path in ASKED.items() if "nothing at this path" not in service.get(path).text}
    assert there == {"spotify", "lidarr"}


def test_unknown_names_of_shapes_are_refused() -> None:
    assert check_shapes("subsonic,spotify,,subsonic") == ("spotify", "subsonic")
    assert check_shapes("") == ()
    with pytest.raises(InputError, match="--shapes deezer: there is no such API"):
        check_shapes("spotify,deezer")
    assert tuple(TABLE) == SHAPES
    settings = ServiceSettings(lake=Path("x"), shapes=("spotify", "lidarr"))
    assert ServiceSettings.model_validate_json(settings.model_dump_json()) == settings  # as workers get it


def test_shapes_are_imported_only_where_they_are_asked_for(serving_lake: Path) -> None:
    code = """
import sys
from pathlib import Path
from tunegraph_pipeline.serve.app import create_app
from tunegraph_pipeline.serve.settings import ServiceSettings
create_app(ServiceSettings(lake=Path(sys.argv[1])))
assert not [name for name in sys.modules if "serve.shapes" in name]
"""
    subprocess.run([sys.executable, "-c", code, str(serving_lake)], check=True)


def test_limits_apply_and_speak_the_shape(running_service: StartService) -> None:
    options = ("--shapes", ",".join(SHAPES), "--rate-limit", "0.001", "--limit", "refused_seconds=0")
    service = running_service(*options)
    service.get("/version")  # takes the burst
    messages: dict[str, Callable[[Any], str]] = {
        "spotify": lambda answer: answer["error"]["message"],
        "lastfm": lambda answer: answer["message"],
        "listenbrainz": lambda answer: answer["error"],
        "subsonic": lambda answer: answer["subsonic-response"]["error"]["message"],
        "lidarr": lambda answer: answer["detail"],
    }
    for shape, path in ASKED.items():
        found = service.get(path)
        assert found.status_code == 429
        assert found.headers["retry-after"]
        assert "over the rate limit" in messages[shape](found.json())


def test_requests_are_counted_by_route_and_nothing_of_them_is_logged(service: RunningService) -> None:
    service.get("/rest/getSimilarSongs2.view", params={"u": "me", "p": "secret-password", "id": song_id(8)})
    service.wait_for(lambda: any("getSimilarSongs2" in line["route"] for line in service.log))
    assert "secret-password" not in json.dumps(service.log)
    metrics = service.get("/metrics").text
    assert 'route="/rest/getSimilarSongs2.view"' in metrics
    assert "/v1/" not in service.get("/openapi.json").text


@pytest.mark.parametrize("text", ["\ud800", "a" * 2_000, "\0", "isrc:", "name:", "name:/", "name:a/", "%"])
def test_odd_ids_are_merely_refused(service: RunningService, text: str) -> None:
    quoted = text.encode("utf-8", "surrogatepass").hex(" ").replace(" ", "%")
    for path in (
        f"/v1/recommendations?seed_tracks=%{quoted}",
        f"/v1/artists/%{quoted}/related-artists",
        f"/2.0/?method=track.getSimilar&artist=%{quoted}&track=%{quoted}",
        f"/2.0/?method=track.getSimilar&mbid=%{quoted}",
        f"/2.0/?method=%{quoted}",
        f"/similar-recordings/json?recording_mbids=%{quoted}",
        f"/1/explore/lb-radio?prompt=artist:(%{quoted})",
        f"/1/user/%{quoted}/playlists/createdfor",
        f"/1/playlist/%{quoted}",
        f"/rest/getSimilarSongs2?id=%{quoted}",
        f"/lidarr?artist=%{quoted}&track=%{quoted}",
        f"/lidarr?artist=x&%{quoted}",
    ):
        assert service.get(path).status_code in {200, 400, 404, 422}, path
    many = "&".join(f"a{number}=" for number in range(1_200))
    assert service.get(f"/v1/recommendations?{many}").status_code == 400
