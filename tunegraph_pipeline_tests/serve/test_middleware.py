"""What every request passes: ids, limits, safe headers, the log and the counts."""

import http.client
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tunegraph_pipeline_tests.serve.conftest import RunningService, StartService, track_id
from tunegraph_pipeline_tests.serve.test_routes import problem


def raw(service: RunningService, request: bytes) -> bytes:
    """Send these bytes and read until the service closes the connection."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


# --- request ids ---


def test_a_sane_request_id_is_kept_and_another_is_made(shared_service: RunningService) -> None:
    kept = shared_service.get("/health", headers={"x-request-id": "Abc-1.2_3"})
    assert kept.headers["x-request-id"] == "Abc-1.2_3"
    made = {shared_service.get("/health").headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5


@pytest.mark.parametrize("strange", ['a"b', "a b", "x" * 65, "", "{}", "é"])
def test_a_request_id_that_could_spoil_the_log_is_replaced(
    shared_service: RunningService, strange: str
) -> None:
    response = shared_service.get("/nothing", headers=[(b"x-request-id", strange.encode())])
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])
    problem(response, 404)


# --- safe headers ---


@pytest.mark.parametrize(
    "path", ["/health", "/nothing", "/docs", "/openapi.json", "/metrics", "/tracks?query=", "/map"]
)
def test_every_answer_has_the_headers_that_keep_a_browser_safe(
    shared_service: RunningService, path: str
) -> None:
    headers = shared_service.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["font-src"] == "'self'"
    assert policy["connect-src"] == "'self' https://api.listenbrainz.org https://api.spotify.com"
    players = "https://open.spotify.com https://widget.deezer.com https://www.youtube-nocookie.com"
    assert policy["frame-src"] == players
    assert policy["img-src"] == "'self' https: data:"
    assert policy["media-src"] == "https: data:"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] in {"no-store", "no-cache"}
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


# --- methods ---


def test_another_method_is_told_which_ones_there_are(shared_service: RunningService) -> None:
    with shared_service.client() as client:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET"):
            response = client.request(method, "/recommendations")
            problem(response, 405)
            assert response.headers["allow"] == "POST"
        assert client.post("/health").headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/health", "/docs", "/nothing", "/map?limit=3"])
def test_head_is_get_without_the_body(shared_service: RunningService, path: str) -> None:
    with shared_service.client() as client:
        head, full = client.head(path), client.get(path)
    assert head.status_code == full.status_code
    assert head.content == b""
    assert head.headers["content-length"] == full.headers["content-length"]  # of what may be compressed


def test_what_is_no_http_is_refused(shared_service: RunningService) -> None:
    refused = raw(shared_service, b"\x16\x03\x01 hello\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400")
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["type"] == "urn:tunegraph:problem:not-http"
    assert shared_service.get("/health").status_code == 200


# --- what is too long ---


def problem_of(service: RunningService, method: str, path: str, body: Any = None, **headers: str) -> int:
    """The status that a client is given which reads only when it has sent all; errors are problem details."""
    host, port = service.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(method, path, body, headers, encode_chunked="transfer-encoding" in headers)
    answer = connection.getresponse()
    problem = json.loads(answer.read())
    connection.close()
    if answer.status >= 400:
        assert answer.getheader("content-type") == "application/problem+json"
        assert problem["status"] == answer.status
        assert problem["request_id"] == answer.getheader("x-request-id")
    return answer.status


@pytest.mark.parametrize("size", [65_000, 65_530, 65_536, 70_000, 1_000_000])
def test_a_head_above_64_kib_is_refused_as_any_other_request(
    shared_service: RunningService, size: int
) -> None:
    short = size == 65_000
    assert problem_of(shared_service, "GET", f"/tracks?query={'a' * size}") == (422 if short else 414)
    assert problem_of(shared_service, "GET", "/version", **{"x-any": "a" * size}) == (200 if short else 431)
    many = {f"x-{number}": "a" * 95 for number in range(600 if short else size // 90)}
    assert problem_of(shared_service, "GET", "/version", **many) == (200 if short else 431)
    assert shared_service.get("/health").status_code == 200


@pytest.mark.parametrize("size", [60_000, 70_000, 250_000, 263_000, 1_000_000, 8_000_000])
def test_a_body_is_refused_in_words_however_long_it_is(shared_service: RunningService, size: int) -> None:
    body = b'{"likes": ["' + b"a" * size + b'"]}'
    json_body = {"content-type": "application/json"}
    expected = 422 if size < 262_144 else 413
    assert problem_of(shared_service, "POST", "/recommendations", body, **json_body) == expected
    pieces = (body[at : at + 4096] for at in range(0, len(body), 4096))
    chunked = {**json_body, "transfer-encoding": "chunked"}
    assert problem_of(shared_service, "POST", "/recommendations", pieces, **chunked) == expected
    # Nor does it matter who refuses: the path, the method, the media type.
    assert problem_of(shared_service, "POST", "/nothing", body, **json_body) == (
        404 if expected == 422 else 413
    )
    assert problem_of(shared_service, "POST", "/recommendations", body) == (415 if expected == 422 else 413)


def test_who_asks_before_sending_a_long_body_is_refused_at_once(shared_service: RunningService) -> None:
    head = b"POST /recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    asked = raw(shared_service, head + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
    assert asked.startswith(b"HTTP/1.1 413")


# --- the rate limit ---


def test_a_client_over_its_rate_is_told_when_to_come_back(running_service: StartService) -> None:
    service = running_service("--rate-limit", 1, "--limit", "refused_seconds=0")
    with service.client() as client:
        answers = [client.get("/version") for _ in range(6)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        for answer in refused:
            problem(answer, 429, "rate-limit")
            assert 1 <= int(answer.headers["retry-after"]) <= 2
        for path in ("/health", "/ready", "/metrics"):
            assert client.get(path).status_code == 200
        # Nobody is let in under another name unless a proxy is said to be there.
        assert client.get("/version", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 429
    counted = service.get("/metrics").text
    assert re.search(r'tunegraph_requests_total\{method="GET",route="/version",status="429"\} [1-9]', counted)


def test_a_client_over_its_rate_waits_and_nothing_else_does(running_service: StartService) -> None:
    service = running_service("--rate-limit", 0.01, "--limit", "refused_seconds=0.3")
    with service.client() as client:
        assert client.get("/version").status_code == 200
        started = time.perf_counter()
        # Its body is read and forgotten, so that the connection can be used for the next request.
        refused = client.post("/recommendations", json={"likes": ["x" * 1_000] * 200})
        took = time.perf_counter() - started
        problem(refused, 429, "rate-limit")
        assert took > 0.29
        assert client.get("/health").status_code == 200
        service.wait_for(lambda: any(line["status"] == 429 for line in service.log))
    (logged,) = (line for line in service.log if line["status"] == 429)
    assert logged["ms"] < (took - 0.29) * 1e3  # what it costs the service, without the wait


def test_behind_a_proxy_its_clients_have_a_rate_each(running_service: StartService) -> None:
    service = running_service("--rate-limit", 1, "--proxies", 1, "--limit", "refused_seconds=0")

    def ask(client: Any, address: str) -> int:
        return int(client.get("/version", headers={"x-forwarded-for": address}).status_code)

    with service.client() as client:
        assert 429 in [ask(client, "1.2.3.4") for _ in range(6)]
        assert ask(client, "6.6.6.6, 1.2.3.4") == 429
        assert ask(client, "1.2.3.4, 5.6.7.8") == 200


# --- keys, where others can ask ---

KEY = "0123456789abcdef0123456789abcdef"
FEEDBACK = {"user_id": "listener-1", "events": [{"track_id": track_id(1), "action": "like"}]}


def test_elsewhere_than_on_loopback_stored_users_need_a_key_to_be_set(running_service: StartService) -> None:
    service = running_service("--host", "0.0.0.0")
    assert any("TUNEGRAPH_API_KEY" in line for line in service.said)
    problem(service.get("/users/listener-1/recommendations"), 403, "no-key-configured")
    problem(service.get("/users/nobody/recommendations?k=0"), 403, "no-key-configured")
    problem(service.post("/feedback", FEEDBACK), 403, "no-key-configured")
    assert not (service.lake / "feedback_spool").exists()
    assert service.post("/recommendations", {"likes": [track_id(1)]}).status_code == 200
    assert "security" not in service.get("/openapi.json").text


@pytest.mark.parametrize("options", [("--host", "0.0.0.0"), (), ("--proxies", 1)])
def test_where_a_key_is_set_stored_users_need_it(
    running_service: StartService, options: tuple[object, ...]
) -> None:
    service = running_service(*options, environment={"TUNEGRAPH_API_KEY": KEY})
    path = "/users/listener-1/recommendations"
    refused = service.get(path)
    problem(refused, 401, "no-key")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    problem(service.get(path, headers={"x-api-key": KEY[:-1]}), 401, "wrong-key")
    # Before anything is read: whether a body is right is not told to whoever has no key.
    problem(service.post("/feedback", {}), 401, "no-key")
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
        assert service.get(path, headers=headers).status_code == 200
        assert service.post("/feedback", FEEDBACK, headers=headers).status_code == 202
    schema = service.get("/openapi.json").json()
    assert schema["paths"]["/feedback"]["post"]["security"] == [{"key": []}]
    assert KEY not in "".join(service.said)


def test_behind_a_proxy_loopback_is_not_trusted(running_service: StartService) -> None:
    problem(
        running_service("--proxies", 1).get("/users/listener-1/recommendations"), 403, "no-key-configured"
    )


def test_a_page_under_a_foreign_name_learns_nothing(running_service: StartService) -> None:
    service = running_service("--allowed-host", "Music.lan")
    for path in ("/users/listener-1/recommendations", "/health", "/tracks"):
        problem(service.get(path, headers={"host": "evil.example.org"}), 403, "foreign-host")
        assert service.get(path, headers={"host": "music.lan:8000"}).status_code == 200
    both = raw(
        service, b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.org\r\nConnection: close\r\n\r\n"
    )
    assert both.startswith(b"HTTP/1.1 4")
    # A browser always names a host; who does not is none.
    assert raw(service, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


# --- CORS ---


def test_pages_of_other_origins_may_ask_where_they_are_named(running_service: StartService) -> None:
    service = running_service(
        "--cors-origin", "https://music.example.org", "--cors-origin", "http://localhost:5173"
    )
    asks = {
        "origin": "https://music.example.org",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-api-key",
    }
    with service.client() as client:
        preflight = client.options("/recommendations", headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://music.example.org"
        answer = client.post("/recommendations", json={}, headers={"origin": "http://localhost:5173"})
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        stranger = client.options("/recommendations", headers={**asks, "origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in stranger.headers
        asked = client.post("/recommendations", json={}, headers={"origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in asked.headers


# --- the log and the counts ---


def test_the_log_has_a_line_a_request_and_nothing_of_who_asked_about_whom(
    running_service: StartService,
) -> None:
    service = running_service()
    secret = "very-secret-person"
    with service.client(headers={"user-agent": secret, "x-request-id": "mine-7"}) as client:
        client.get(f"/users/{secret}/recommendations?k=3")
        client.get(f"/users/listener-1/recommendations?note={secret}")
        client.get(f"/users/{secret}")
        client.get("/tracks", params={"query": secret})
        client.get(f"/tracks/{secret}/similar")
        client.get(f"/{secret}")
        client.post("/recommendations", json={"likes": [secret]})
        client.post("/recommendations", json={"k": secret})
        client.put(f"/users/{secret}/recommendations")
        events = [{"track_id": track, "action": "like"} for track in (secret, track_id(1))]
        client.post("/feedback", json={"user_id": secret, "events": events})
    service.wait_for(lambda: len(service.log) >= 10)
    assert secret not in str(service.log)
    assert "127.0.0.1" not in str(service.log)
    assert [(line["method"], line["route"], line["status"]) for line in service.log] == [
        ("GET", "/users/{user_id}/recommendations", 404),
        ("GET", "/users/{user_id}/recommendations", 422),
        ("GET", "none", 404),
        ("GET", "/tracks", 200),
        ("GET", "/tracks/{track_id}/similar", 404),
        ("GET", "none", 404),
        ("POST", "/recommendations", 200),
        ("POST", "/recommendations", 422),
        ("PUT", "/users/{user_id}/recommendations", 405),
        ("POST", "/feedback", 202),
    ]
    for line in service.log:
        assert set(line) == {"at", "method", "route", "status", "ms", "request_id"}
        assert line["request_id"] == "mine-7"
        assert 0 < line["ms"] < 60_000
    counted = service.get("/metrics").text
    assert secret not in counted
    assert 'tunegraph_requests_total{method="POST",route="/feedback",status="202"} 1.0' in counted
    assert 'tunegraph_feedback_events_total{action="like"} 1.0' in counted
    assert service.stop() == 0
    assert secret not in "".join(service.said)


def test_the_log_can_be_left_out(running_service: StartService) -> None:
    service = running_service("--no-access-log")
    assert service.get("/health").status_code == 200
    assert service.stop() == 0
    assert service.log == []


def test_a_fault_says_nothing_to_the_client_and_its_place_to_the_log(
    running_service: StartService, serving_lake: Any
) -> None:
    # A bundle damaged in a way that opening does not see: bytes that are no UTF-8 where a name is.
    names = serving_lake / "serving" / "v1" / "names.bytes.npy"
    content = bytearray(names.read_bytes())
    content[-3:] = b"\xff" * 3
    names.write_bytes(content)
    service = running_service()
    response = service.post(
        "/recommendations", {"likes": [track_id(1)], "k": 240}, headers={"x-request-id": "f1"}
    )
    problem(response, 500)
    assert "utf" not in response.text.lower()
    service.wait_for(lambda: any("fault" in line for line in service.said))
    (line,) = [line for line in service.said if "fault" in line]
    assert '"fault":"builtins.UnicodeDecodeError"' in line
    assert '"request_id":"f1"' in line
    assert "recommender.py" in line
    assert "codec" not in line
    assert service.get("/health").status_code == 200


def test_a_client_that_goes_away_half_way_is_no_fault(running_service: StartService) -> None:
    service = running_service()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        service.get("/health")
    service.wait_for(lambda: any(line["status"] == 499 for line in service.log))
    assert not any("fault" in line for line in service.said)
    assert service.get("/health").status_code == 200


@pytest.mark.slow
def test_many_at_once_are_all_answered_and_some_together(running_service: StartService) -> None:
    service = running_service()

    def ask(number: int) -> list[str]:
        likes = [track_id(number % 200)]
        answer = service.post("/recommendations", {"likes": likes, "k": 3}).json()
        return [item["track_id"] for item in answer["items"]]

    with ThreadPoolExecutor(16) as pool:
        first, second = list(pool.map(ask, range(200))), list(pool.map(ask, range(200)))
    assert first == second
    assert all(len(items) == 3 for items in first)
    counted = dict(re.findall(r"(tunegraph_batch_queries_\w+) (\S+)", service.get("/metrics").text))
    assert float(counted["tunegraph_batch_queries_sum"]) == 400
    assert float(counted["tunegraph_batch_queries_count"]) <= 400
