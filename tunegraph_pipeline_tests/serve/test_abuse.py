"""Abuse in small: requests that never end, clients that wait, floods; honest ones are answered all the while.

What `benchmarks/abuse.py` measures at length.
"""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    StartService,
    make_lake,
    small_content,
    start_service,
    track_id,
)
from tunegraph_pipeline_tests.serve.test_routes import problem

ORIGIN = "https://music.example.org"
HEAD = f"Origin: {ORIGIN}\r\nHost: localhost\r\n".encode()
pytestmark = pytest.mark.slow  # each waits for a deadline of a second or two
POST = b"POST /recommendations HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """With short deadlines, and room for twelve connections."""
    limits = ("head_seconds=1", "body_seconds=1", "write_seconds=1", "connections=12", "pipelined=4")
    service = start_service(
        make_lake(tmp_path_factory.mktemp("abused") / "lake", small_content()),
        *(part for limit in limits for part in ("--limit", limit)),
        "--cors-origin",
        ORIGIN,
    )
    yield service
    service.process.kill()
    service.process.wait()


def connected(service: RunningService) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def rest(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def refusal(answer: bytes) -> tuple[int, str]:
    """The status and the name of a refusal, which is a problem document with the headers of other answers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(body)
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"cache-control: no-store" in lines
    assert f"x-request-id: {found['request_id']}".encode() in lines
    assert "\n" not in found["detail"]
    return found["status"], found["type"].removeprefix("urn:tunegraph:problem:")


def flood(connection: socket.socket, piece: bytes) -> bytes:
    """What is answered to a client that sends a piece over and over; fails if the service goes on reading."""
    connection.settimeout(0.001)
    answer = b""
    sent = 0
    while sent < 50_000_000:
        try:
            connection.sendall(piece)
            sent += len(piece)
        except (ConnectionError, TimeoutError):
            break
        try:
            answer += connection.recv(65_536)
        except TimeoutError:
            continue
        break
    connection.settimeout(30)
    assert sent < 50_000_000, "the service never stopped reading"
    return answer + rest(connection)


@pytest.mark.parametrize(
    ("begins", "piece"),
    [
        (b"GET /version HTTP/1.1\r\n" + HEAD, b"a: " + b"b" * 1_000 + b"\r\n"),
        (b"GET /version HTTP/1.1\r\n" + HEAD + b"a: ", b"b" * 1_000),
        (b"GET /version HTTP/1.1\r\n" + HEAD, b"b" * 1_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", b"a: " + b"b" * 1_000 + b"\r\n"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\na: ", b"b" * 1_000),
    ],
    ids=["headers", "a header", "a name", "a chunk extension", "trailers", "a trailer"],
)
def test_what_has_no_end_is_refused(service: RunningService, begins: bytes, piece: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(begins)
        answer = flood(connection, piece)
    if answer:  # a client that goes on sending may not get to read it
        assert refusal(answer)[0] in (400, 422, 431)
    assert service.get("/health").status_code == 200


def test_an_address_without_end_is_refused(service: RunningService) -> None:
    with connected(service) as connection:
        connection.sendall(b"GET /")
        answer = flood(connection, b"a" * 1_000)
    assert not answer or refusal(answer) == (414, "address-too-long")


def test_headers_that_do_not_arrive_in_time_are_refused(service: RunningService) -> None:
    with connected(service) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\n" + HEAD)
        answer = rest(connection)
    assert refusal(answer) == (408, "slow-headers")
    assert f"access-control-allow-origin: {ORIGIN}".encode() in answer.lower()
    service.wait_for(lambda: any(line["status"] == 408 for line in service.log))
    assert (
        'tunegraph_requests_total{method="OTHER",route="none",status="408"}' in service.get("/metrics").text
    )


@pytest.mark.parametrize("sent", [b"", b"\r\n" * 5], ids=["nothing", "empty lines"])
def test_a_connection_on_which_nothing_is_asked_is_closed(service: RunningService, sent: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


@pytest.mark.parametrize("kind", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_in_time_is_refused(service: RunningService, kind: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(POST + kind + b"\r\n\r\n5\r\n")
        answer = rest(connection)
    assert refusal(answer) == (408, "slow-body")
    assert f"access-control-allow-origin: {ORIGIN}".encode() in answer.lower()


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(service: RunningService) -> None:
    with connected(service) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\n" + HEAD + b"Content-Length: 500\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200")


def test_connections_that_ask_nothing_make_room(service: RunningService) -> None:
    with service.client() as kept:
        assert kept.get("/health").status_code == 200
        waiting = [connected(service) for _ in range(40)]
        for connection in waiting:
            try:
                connection.sendall(b"GET /ver")
            except ConnectionError:
                continue  # it made room
        assert service.post("/recommendations", {"likes": [track_id(1)]}).status_code == 200
        assert kept.get("/health").status_code == 200
        for connection in waiting:
            connection.close()


def test_who_left_a_request_unfinished_for_the_longest_time_makes_room_in_memory(
    running_service: StartService,
) -> None:
    service = running_service("--limit", f"unfinished_bytes={2**20}")
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(service)) for _ in range(6)]
        for connection in waiting:
            with suppress(ConnectionError):
                connection.sendall(POST + b"Content-Length: 250000\r\n\r\n" + b" " * 200_000)
        assert rest(waiting[0]) == b""  # long before its deadline
        assert 'tunegraph_connections_ended_total{reason="room"} 1.0' in service.get("/metrics").text
        waiting[-1].sendall(b" " * 49_998 + b"{}")
        assert waiting[-1].recv(100).startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_are_answered_in_order_up_to_a_number(service: RunningService) -> None:
    asked = b"GET /version HTTP/1.1\r\n" + HEAD + b"\r\n"
    with connected(service) as connection:
        connection.sendall(asked * 3 + asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert rest(connection).count(b"HTTP/1.1 200") == 4
    with connected(service) as connection:
        connection.sendall(asked * 500)
        answer = rest(connection)
    first, _, last = answer.rpartition(b"HTTP/1.1 ")
    assert refusal(last) == (429, "pipelined")
    assert first.count(b"HTTP/1.1 200") == 5


def test_what_is_no_http_is_refused_after_what_was_asked_before(service: RunningService) -> None:
    with connected(service) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\n" + HEAD + b"\r\n\x16\x03\x01 hello\r\n\r\n")
        answer = rest(connection)
    first, _, last = answer.rpartition(b"HTTP/1.1 ")
    assert first.startswith(b"HTTP/1.1 200")
    assert refusal(last) == (400, "not-http")


def test_who_does_not_take_the_answer_is_cut_off(service: RunningService) -> None:
    with connected(service) as connection:
        asked = b"GET /openapi.json HTTP/1.1\r\n" + HEAD + b"\r\n"
        end = time.monotonic() + 30
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:
                connection.sendall(asked)
                time.sleep(0.01)


def test_deep_and_huge_bodies_are_one_line(service: RunningService) -> None:
    for body in (b'{"likes":' * 20_000, b"[" * 200_000, b'{"likes": ["' + b"x" * 200_000 + b'"]}'):
        answer = service.get("/health")
        with service.client() as client:
            answer = client.post(
                "/recommendations", content=body, headers={"content-type": "application/json"}
            )
        assert answer.status_code in (400, 422)
        assert "\n" not in answer.json()["detail"]


# --- the rate limit ---


def test_refusals_can_be_read_by_pages_of_other_origins_and_count_for_the_rate(
    running_service: StartService,
) -> None:
    service = running_service(
        *("--rate-limit", 2, "--cors-origin", ORIGIN),
        *("--limit", "body_bytes=2000", "--limit", "refused_seconds=0"),
    )
    headers = {"origin": ORIGIN}
    with service.client(headers=headers) as client:
        large = client.post("/recommendations", json={"likes": ["x" * 100] * 100})
        problem(large, 413, "body-too-large")
        answers = [large, *(client.get("/version") for _ in range(8))]
    over = [answer for answer in answers if answer.status_code == 429]
    assert over
    for answer in (large, *over):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
    # A browser asks before it sends; that is answered, so that the page can read why it is refused.
    asks = {**headers, "access-control-request-method": "POST"}
    with service.client(headers=asks) as client:
        assert client.options("/recommendations").status_code == 200
    connections = [connected(service) for _ in range(8)]
    for connection in connections:
        connection.sendall(b"no http\r\n\r\n")
    statuses = [refusal(rest(connection))[0] for connection in connections]
    for connection in connections:
        connection.close()
    assert set(statuses) <= {400, 429}
    assert 429 in statuses


def test_a_full_spool_is_said_to_the_client_and_to_the_operator(
    running_service: StartService, serving_lake: Path
) -> None:
    lake_file = serving_lake / "lake.json"
    description = json.loads(lake_file.read_text())
    lake_file.write_text(json.dumps({**description, "settings": {"feedback": {"spool_mib": 1}}}))
    waiting = serving_lake / "feedback_spool" / "2026-06-01"
    waiting.mkdir(parents=True)
    (waiting / "w.jsonl").write_bytes(b"x" * (2**20 - 100))
    service = running_service()
    said = {"user_id": "a", "events": [{"track_id": track_id(1), "action": "like"}]}
    refused = service.post("/feedback", said)
    problem(refused, 503, "feedback-full")
    assert int(refused.headers["retry-after"]) > 0
    assert str(serving_lake) not in refused.text
    figures = dict(re.findall(r"^(tunegraph_feedback\S+) (\S+)$", service.get("/metrics").text, re.MULTILINE))
    assert float(figures["tunegraph_feedback_spool_bytes"]) == 2**20 - 100
    assert float(figures["tunegraph_feedback_spool_limit_bytes"]) == 2**20
    service.wait_for(lambda: any("feedback is refused" in line for line in service.said))
    (waiting / "w.jsonl").unlink()
    assert service.post("/feedback", said).status_code == 202
