"""What a listener brings is found in the catalogue, and nothing of it stays."""

import asyncio
import io
import json
import signal
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunegraph_pipeline.serve import matches
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.simulator.server import SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    StartService,
    artist_name,
    make_lake,
    small_content,
    start_service,
    track_id,
    track_name,
)
from tunegraph_pipeline_tests.serve.test_routes import problem

MBID = "01234567-89ab-4def-8123-456789abcdef"
PLAYLIST = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[RunningService]:
    lake = make_lake(tmp_path_factory.mktemp("matches") / "lake", small_content())
    running = start_service(lake, environment={"TMPDIR": str(temporary)})
    yield running
    running.stop()


def send(service: RunningService, content: bytes, name: str = "", **query: str) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    with service.client() as client:
        return client.post("/matches", params={"name": name, **query}, content=content, headers=headers)


def found(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["track_id"] for item in response.json()["items"]]


def exportify(*tracks: int) -> bytes:
    rows = "".join(
        f'spotify:track:{track_id(track)},{track_name(track)},"{artist_name(track)}"\n' for track in tracks
    )
    return f"Track URI,Track Name,Artist Name(s)\n{rows}".encode()


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.csv", content)
    return packed.getvalue()


# --- lines ---


def test_lines_are_found_by_id_link_and_names_in_their_order(service: RunningService) -> None:
    lines = [
        f"https://open.spotify.com/intl-de/track/{track_id(9)}?si=1",
        f"1. {artist_name(3).upper()} – {track_name(3)}  3:45",
        f"* {track_name(4)} - {artist_name(4)}",
        f"{track_name(11)} by {artist_name(11)}",
        f"spotify:track:{track_id(5)}, {track_id(6)}",
        f"{artist_name(8)} feat. Nobody - {track_name(8)} - Remastered 2011",
        track_id(9),
    ]
    response = service.post("/matches", {"text": "\n".join(lines)})
    assert found(response) == [track_id(track) for track in (9, 3, 4, 11, 5, 6, 8)]
    answer = response.json()
    assert answer["bundle_version"] == "v1"
    assert (answer["not_found"], answer["n_not_found"]) == ([], 0)
    assert {item["opinion"] for item in answer["items"]} == {"like"}
    assert answer["items"][1]["given"] == lines[1]
    assert answer["items"][1]["name"] == track_name(3)


def test_what_is_not_found_is_named_with_the_reason(service: RunningService) -> None:
    lines = {
        "Nobody - No Such Song": "not in the catalogue",
        "x" * 22: "not in the catalogue",
        "Yesterday": "not in the catalogue as an id; write artist - title",
        "https://open.spotify.com/album/4uLU6hMCjMI75M1A2tKUQC": "an album, not a song",
        "spotify:episode:512ojhOuo1ktJprKbVcKyQ": "an episode of a podcast, not a song",
    }
    answer = service.post("/matches", {"text": "\n".join([*lines, track_id(1)])}).json()
    assert {one["given"]: one["why"] for one in answer["not_found"]} == lines
    assert answer["n_not_found"] == len(lines)
    assert [item["track_id"] for item in answer["items"]] == [track_id(1)]
    many = service.post("/matches", {"text": "\n".join(f"Nobody - Song {n}" for n in range(300))}).json()
    assert (len(many["not_found"]), many["n_not_found"], many["items"]) == (200, 300, [])


def test_a_pasted_table_is_read_as_the_file_it_is_of(service: RunningService) -> None:
    table = "title;artist\n" + "".join(f"{track_name(n)};{artist_name(n)}\n" for n in (2, 7))
    response = service.post("/matches", {"text": table})
    assert found(response) == [track_id(2), track_id(7)]
    assert response.json()["format"] == "List of songs"


# --- files ---


def test_a_file_is_read_as_import_reads_it_and_nothing_of_it_stays(
    service: RunningService, temporary: Path
) -> None:
    response = send(service, exportify(7, 2, 9, 2), "my secret list.csv")
    assert found(response) == [track_id(track) for track in (7, 2, 9)]
    answer = response.json()
    assert answer["lists"] == [{"name": "my secret list.csv", "owner": "", "songs": 3}]
    assert answer["items"][0]["given"] == f"{artist_name(7)} - {track_name(7)}"
    assert list(temporary.iterdir()) == []
    assert not any("secret" in json.dumps(line) for line in service.log)
    assert not any("secret" in line for line in service.said)
    assert list(service.lake.glob("raw/**/*.parquet")) == []


def test_a_zip_of_playlists_is_one_list_and_dislikes_are_told_apart(service: RunningService) -> None:
    response = send(service, zipped(Morning=exportify(1, 2), Night=exportify(2, 3)), "x.zip")
    assert found(response) == [track_id(1), track_id(2), track_id(3)]
    assert [(one["name"], one["songs"]) for one in response.json()["lists"]] == [
        ("Morning.csv", 2),
        ("Night.csv", 2),
    ]
    rated = f"track_id,rating\n{track_id(1)},like\n{track_id(2)},dislike\n".encode()
    items = send(service, rated, "../../etc/rated.csv").json()["items"]
    assert {item["track_id"]: item["opinion"] for item in items} == {
        track_id(1): "like",
        track_id(2): "dislike",
    }


def test_of_a_file_of_several_people_one_is_chosen(service: RunningService) -> None:
    lists = f"user,track_id\nann,{track_id(1)}\nbo,{track_id(2)}\n".encode()
    assert (
        "the lists of 2 people (ann, bo)" in problem(send(service, lists), 422, "unreadable-list")["detail"]
    )
    assert found(send(service, lists, user="bo")) == [track_id(2)]
    assert (
        "no list of user 'cy'" in problem(send(service, lists, user="cy"), 422, "unreadable-list")["detail"]
    )


def test_a_text_file_of_lines_is_read_as_lines(service: RunningService) -> None:
    text = "".join(f"{artist_name(n)} - {track_name(n)}\n" for n in (4, 1)).encode()
    assert found(send(service, text, "songs.txt")) == [track_id(4), track_id(1)]


# --- what must not be sent ---


def test_what_is_no_list_gets_one_clear_line(service: RunningService, temporary: Path) -> None:
    bomb = zipped(likes=b"track_id\n" + b"\0" * (120 << 20))
    for content, name, why in (
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "cover.png", "cover.png is a binary file of no known format"),
        (bomb, "bomb.zip", "bomb.zip has more than 100 times as many bytes unpacked as packed, the limit"),
        (b"", "empty.csv", "empty.csv is empty"),
        (b"PK\x03\x04 and nothing more", "broken.zip", "broken.zip"),
        (b"import os\nos.abort()\n", "json.py", "json.py is not a table"),
    ):
        detail = problem(send(service, content, name), 422, "unreadable-list")["detail"]
        assert detail.startswith(why)
        assert str(temporary) not in detail
        assert "lake.json" not in detail
    with service.client() as client:
        problem(client.post("/matches", content=b"x", headers={"Content-Type": "image/png"}), 415)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("mib", [70, pytest.param(200, marks=pytest.mark.nightly)])
def test_a_large_file_is_refused_or_read_in_bounded_memory(running_service: StartService, mib: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("noise.csv", b"\xff" * (mib << 20))
    large = packed.getvalue()
    service = running_service("--limit", "file_bytes=300000000")
    found(send(service, exportify(1)))
    before = peak_memory(service)
    problem(send(service, large, "large.zip"), 422, "unreadable-list")
    assert peak_memory(service) - before < 40
    refusing = running_service()
    before = peak_memory(refusing)
    detail = problem(send(refusing, large, "large.zip"), 413, "body-too-large")["detail"]
    assert "67,108,864" in detail
    assert peak_memory(refusing) - before < 40


def peak_memory(service: RunningService) -> float:
    """The most memory that the service had, in MiB."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_a_file_that_takes_too_long_or_too_much_memory_fails_alone(running_service: StartService) -> None:
    slow = running_service("--limit", "reading_seconds=0.05")
    detail = problem(send(slow, exportify(1)), 422, "unreadable-list")["detail"]
    assert detail == "it takes longer than 0.05 s to read; split it"
    small = running_service("--limit", "reading_mib=256")
    rows = b"Track URI,Track Name,Artist Name(s)\n" + b"".join(
        b"spotify:track:%022d,Song,Artist\n" % number for number in range(300_000)
    )
    assert "more memory" in problem(send(small, rows, "rows.csv"), 422, "unreadable-list")["detail"]
    assert found(small.post("/matches", {"text": track_id(1)})) == [track_id(1)]


def test_no_more_of_an_answer_is_kept_than_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pipe of a mebibyte: more than asyncio keeps before it stops reading, so some is unread at the end.
    (tmp_path / "endless.py").write_text(
        "import fcntl, sys\n"
        "fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)\n"
        "while True:\n"
        "    sys.stdout.write('x' * 65_536)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(matches, "_MODULE", "endless")
    answer = asyncio.wait_for(matches._in_process({}, "", 60.0), 90.0)
    with pytest.raises(Problem, match="more memory"):
        asyncio.run(answer)


def test_a_file_has_to_arrive_in_its_own_time(running_service: StartService) -> None:
    service = running_service("--limit", "file_seconds=0.5", "--limit", "body_seconds=0.1")
    arrived = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield exportify(1)
        arrived.wait(0.2)  # beyond the time of other bodies
        yield exportify(2)

    headers = {"Content-Type": "application/octet-stream"}
    with service.client() as client:
        assert client.post("/matches", content=slowly(), headers=headers).status_code == 200

        def never() -> Iterator[bytes]:
            yield exportify(1)
            arrived.wait(1.5)
            yield b"more"

        problem(client.post("/matches", content=never(), headers=headers), 408, "slow-body")


def test_what_a_killed_service_left_is_removed_by_the_next(
    running_service: StartService, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    service = running_service(environment={"TMPDIR": str(temporary)})
    sending = service.client()

    def forever() -> Iterator[bytes]:
        yield exportify(1)
        service.wait_for(lambda: bool(list(temporary.iterdir())))
        service.stop(signal.SIGKILL)
        yield b"more"

    headers = {"Content-Type": "application/octet-stream"}
    with sending, pytest.raises(httpx.TransportError):
        sending.post("/matches", content=forever(), headers=headers)
    assert list(temporary.iterdir())
    running_service(environment={"TMPDIR": str(temporary)})
    assert list(temporary.iterdir()) == []


# --- playlists ---


@contextmanager
def listenbrainz() -> Iterator[str]:
    """ListenBrainz's endpoint of playlists, with one of two songs. Yields its address."""
    tracks = [{"title": track_name(n), "creator": artist_name(n), "identifier": []} for n in (6, 2)]
    playlist = {"playlist": {"title": "Evenings", "creator": "ann", "track": tracks}}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == f"/1/playlist/{PLAYLIST}"
            content = json.dumps(playlist if known else {"error": "unknown"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/1"
        finally:
            server.shutdown()
            thread.join()


def set_settings(lake: Path, settings: dict[str, Any]) -> None:
    path = lake / "lake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))


def test_a_playlist_is_fetched_only_of_a_service_that_may_be_asked(
    running_service: StartService, serving_lake: Path
) -> None:
    link = f"https://listenbrainz.org/playlist/{PLAYLIST}/"
    with listenbrainz() as url:
        set_settings(serving_lake, {"listenbrainz": {"api_url": url}})
        closed = running_service()
        detail = problem(closed.post("/matches", {"text": link}), 422, "playlist-not-allowed")["detail"]
        assert "asks no service for playlists" in detail
        service = running_service("--playlists", "listenbrainz")
        response = service.post("/matches", {"text": link})
        assert found(response) == [track_id(6), track_id(2)]
        assert response.json()["lists"][0]["name"] == "Evenings"
        for text, name in (
            (f"https://listenbrainz.org/playlist/{MBID}", "unreadable-list"),
            ("https://open.spotify.com/playlist/37i9dQZF1DXcBWIGoYBM5M", "playlist-not-allowed"),
        ):
            problem(service.post("/matches", {"text": text}), 422, name)


def test_a_playlist_of_spotify_is_fetched_with_the_credentials_of_the_app(
    running_service: StartService, serving_lake: Path
) -> None:
    day = date(2026, 6, 1)
    world = World(WorldConfig(seed=3, n_users=40, n_tracks=60))
    server = SimulatorServer(world, day, port=0)
    with server:
        playlist = next(one for user in world.start_users() for one in world.playlists(user, day))
        urls = {"api_url": f"{server.url}/v1", "accounts_url": server.url}
        set_settings(serving_lake, {"spotify": urls})
        app = {"SPOTIPY_CLIENT_ID": "simulator", "SPOTIPY_CLIENT_SECRET": "simulator"}
        service = running_service("--playlists", "spotify", environment=app)
        link = f"https://open.spotify.com/playlist/{playlist.playlist_id}"
        answer = service.post("/matches", {"text": link}).json()
        assert answer["n_not_found"] == answer["lists"][0]["songs"] > 0, answer
        assert "why" in answer["not_found"][0]
