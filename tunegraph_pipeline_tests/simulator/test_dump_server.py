"""A folder over real HTTP: listings, ranges, versions, faults and counts."""

import hashlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError
from urllib3.exceptions import ProtocolError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dump_server import DumpFaults, DumpServer

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
PATH = "/pub/dump-1/a.tar"
Serve = Callable[..., DumpServer]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dump = tmp_path / "pub" / "dump-1"
    dump.mkdir(parents=True)
    (dump / "a.tar").write_bytes(CONTENT)
    (dump / "a.tar.sha256").write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  a.tar\n")
    (tmp_path / "pub" / ".dump-2").mkdir()
    (tmp_path / ".world.json").write_text("{}")
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    running = []

    def start(**faults: object) -> DumpServer:
        server = DumpServer(folder, faults=DumpFaults.model_validate(faults))
        running.append(server)
        return server.__enter__()

    yield start
    for server in running:
        server.close()


def get(server: DumpServer, path: str = PATH, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(server.url + path, headers=named, timeout=10, allow_redirects=False)


def test_folders_list_what_is_in_them(serve: Serve) -> None:
    server = serve()

    assert re.findall('href="([^"]+)"', get(server, "/").text) == ["pub/"]
    assert re.findall('href="([^"]+)"', get(server, "/pub/").text) == ["../", "dump-1/"]
    assert re.findall('href="([^"]+)"', get(server, "/pub/dump-1/").text) == ["../", "a.tar", "a.tar.sha256"]
    moved = get(server, "/pub")
    assert (moved.status_code, moved.headers["Location"]) == (301, "/pub/")


@pytest.mark.parametrize(
    "path",
    ["/pub/none", "/pub/.dump-2/", "/.world.json", "/pub/../../etc/passwd", "/%2e%2e/x", f"{PATH}/"],
)
def test_nothing_else_is_served(serve: Serve, path: str) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert plain.recv(100).startswith(b"HTTP/1.1 404 ")


def test_a_file_is_served_whole_and_described(serve: Serve) -> None:
    server = serve()
    whole, head = get(server), requests.head(server.url + PATH, timeout=10)

    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == whole.headers[name]
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert server.requests == {("GET", PATH, 200): 1, ("HEAD", PATH, 200): 1}


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-", 10_000, 10_240),
        ("bytes=10000-99999", 10_000, 10_240),
        ("bytes=-40", 10_200, 10_240),
        ("bytes=-99999", 0, 10_240),
    ],
)
def test_a_range_is_served(serve: Serve, asked: str, start: int, end: int) -> None:
    found = get(serve(), Range=asked)

    assert (found.status_code, found.content) == (206, CONTENT[start:end])
    assert found.headers["Content-Range"] == f"bytes {start}-{end - 1}/10240"


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=x-y"])
def test_what_is_no_range_is_ignored(serve: Serve, asked: str) -> None:
    assert get(serve(), Range=asked).status_code == 200


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=20000-20010", "bytes=-0"])
def test_a_range_outside_of_the_file_is_refused(serve: Serve, asked: str) -> None:
    found = get(serve(), Range=asked)

    assert (found.status_code, found.headers["Content-Range"]) == (416, "bytes */10240")


def test_a_replaced_file_has_another_version(serve: Serve) -> None:
    server = serve()
    before = get(server).headers
    server.replace(PATH)
    after = get(server).headers
    changed = [parsedate_to_datetime(one["Last-Modified"]) for one in (before, after)]

    assert before["ETag"] != after["ETag"]
    assert changed[0] < changed[1]
    assert get(server, Range="bytes=0-9", If_Range=before["ETag"]).status_code == 200
    assert get(server, Range="bytes=0-9", If_Range=after["ETag"]).status_code == 206
    assert get(server, Range="bytes=0-9", If_Range=after["Last-Modified"]).status_code == 206
    assert get(server, If_Match=before["ETag"]).status_code == 412
    assert get(server, If_Match=after["ETag"]).status_code == 200


def test_bytes_are_counted_where_they_are(serve: Serve) -> None:
    server = serve()
    for asked in ("bytes=0-99", "bytes=200-299", "bytes=50-249"):
        get(server, Range=asked)
    get(server, f"{PATH}.sha256")

    assert server.bytes_sent() == {PATH: 400, f"{PATH}.sha256": 72}
    assert server.bytes_sent_again() == {PATH: 100}


@pytest.mark.parametrize("fault", ["reset", "truncated", "stall"])
def test_an_answer_may_stop_halfway(serve: Serve, fault: str) -> None:
    server = serve(**{fault: 1.0}, stall_seconds=0.1)

    for _ in range(2):
        with pytest.raises(requests.exceptions.RequestException):
            get(server)
    assert get(server).content == CONTENT
    assert server.faults_made == {fault: 2}
    assert server.bytes_sent() == {PATH: 2 * 5_120 + 10_240}


@pytest.mark.parametrize("path", [PATH, "/pub/dump-1/"])
def test_a_server_may_be_busy(serve: Serve, path: str) -> None:
    server = serve(unavailable=1.0, retry_after_seconds=3)
    busy = get(server, path)

    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "3")
    assert [get(server, path).status_code for _ in range(2)] == [503, 200]


def test_a_range_may_be_wrong(serve: Serve) -> None:
    other = get(serve(wrong_range=1.0), Range="bytes=100-199")
    short = get(serve(short_range=1.0), Range="bytes=100-199")
    refused = get(serve(not_satisfiable=1.0), Range="bytes=100-199")

    assert (other.status_code, other.headers["Content-Range"]) == (206, "bytes 99-198/10240")
    assert other.content == CONTENT[99:199]
    assert (short.status_code, short.headers["Content-Range"]) == (206, "bytes 100-149/10240")
    assert short.content == CONTENT[100:150]
    assert refused.status_code == 416


def test_a_first_range_may_be_wrong(serve: Serve) -> None:
    found = get(serve(wrong_range=1.0), Range="bytes=0-99")

    assert found.headers["Content-Range"] == "bytes 1-100/10240"
    assert found.content == CONTENT[1:101]


def test_a_checksum_may_be_wrong(serve: Serve) -> None:
    server = serve(wrong_checksum=1.0)
    wrong = [get(server, f"{PATH}.sha256").text.split() for _ in range(2)]
    right = get(server, f"{PATH}.sha256").text.split()

    assert right == [hashlib.sha256(CONTENT).hexdigest(), "a.tar"]
    assert [name for _, name in wrong] == ["a.tar", "a.tar"]
    assert all(len(digest) == 64 and digest != right[0] for digest, _ in wrong)
    assert get(server).content == CONTENT


def test_a_listing_may_lack_the_files(serve: Serve) -> None:
    server = serve(unlisted=1.0)

    assert re.findall('href="([^"]+)"', get(server, "/pub/dump-1/").text) == ["../"]
    assert re.findall('href="([^"]+)"', get(server, "/pub/").text) == ["../", "dump-1/"]


def test_a_file_is_replaced_once_at_most(serve: Serve) -> None:
    server = serve(replaced=1.0)
    tags = {
        requests.get(server.url + PATH, headers={"Range": f"bytes={i}-"}, timeout=10).headers["ETag"]
        for i in range(4)
    }

    assert len(tags) == 1
    assert server.faults_made == {"replaced": 1}


def test_answers_may_be_slow(serve: Serve) -> None:
    server = serve(bytes_per_second=51_200.0, latency_ms=50.0)
    began = time.monotonic()

    assert get(server).content == CONTENT
    assert time.monotonic() - began >= 0.24


def test_a_stalled_answer_ends_with_the_server(serve: Serve) -> None:
    server = serve(stall=1.0, stall_seconds=600.0)
    with requests.get(server.url + PATH, stream=True, timeout=30) as found:
        assert found.raw.read(5_120) == CONTENT[:5_120]
        server.close()
        with pytest.raises(ProtocolError):
            found.raw.read()


def test_shares_of_faults_are_checked() -> None:
    with pytest.raises(ValidationError, match="more than 1"):
        DumpFaults(reset=0.6, stall=0.6)


def test_a_port_in_use_is_one_line(serve: Serve, folder: Path) -> None:
    with pytest.raises(InputError, match="cannot listen on port"):
        DumpServer(folder, port=serve().port)
