"""Starting and ending: what is said when it cannot start, signals, and workers that die."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from uvicorn import Config

from tunegraph_pipeline.recommend.bundle import CURRENT
from tunegraph_pipeline.serve.run import _with_files_for_connections, _Worker
from tunegraph_pipeline.serve.settings import ServiceSettings
from tunegraph_pipeline.words import counted
from tunegraph_pipeline_tests.serve.conftest import RunningService, StartService, track_id
from tunegraph_pipeline_tests.serve.test_live_bundle import Asking
from tunegraph_pipeline_tests.test_cli import Done, tunegraph, tunegraph_process

pytestmark = pytest.mark.slow


def complaint(*arguments: object) -> str:
    """The one line of a service that did not start, which needs no process of its own."""
    return _only_line(tunegraph("serve", *arguments))


def _only_line(done: Done) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tunegraph: ")
    return lines[0]


# --- what it needs ---


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_what_keeps_it_from_starting_is_one_line(
    serving_lake: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--lake", serving_lake, "--workers", workers)
    nowhere = ("--lake", tmp_path / "nowhere", "--workers", workers)
    assert "there is no lake" in complaint(*nowhere)
    assert complaint(*nowhere) == _only_line(tunegraph_process("serve", *nowhere))
    (tmp_path / "blocked.txt").write_text("album:x\n")
    assert "blocked.txt line 1" in complaint(*given, "--blocklist", tmp_path / "blocked.txt")
    with monkeypatch.context() as patch:
        patch.setenv("TUNEGRAPH_API_KEY", "short")
        assert "at least 16" in complaint(*given)
    assert "--cors-origin" in complaint(*given, "--cors-origin", "music.example.org")
    assert "--host nowhere.invalid" in complaint(*given, "--host", "nowhere.invalid")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use; choose another --port" in complaint(
            *given, "--port", port
        )


def test_without_a_bundle_that_can_be_used_it_does_not_start(serving_lake: Path) -> None:
    (serving_lake / "serving" / "v1" / "embeddings.npy").unlink()
    assert "embeddings.npy" in complaint("--lake", serving_lake)
    (serving_lake / "serving" / CURRENT).unlink()
    assert "this lake has no list yet" in complaint("--lake", serving_lake)


def test_it_starts_without_the_machinery_that_trains(serving_lake: Path) -> None:
    code = (
        "import sys, tunegraph_pipeline.cli.app, tunegraph_pipeline.serve.app, tunegraph_pipeline.serve.run\n"
        "print(sorted({'torch', 'dagster', 'polars', 'pyarrow', 'duckdb', 'scipy', 'matplotlib', 'requests'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def unwritable(path: Path) -> tuple[str, ...]:
    """The start of a command for which nothing below the path can be written; nothing else is different."""
    if os.geteuid():
        path.chmod(0o555)
        return ()
    command = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount --bind "{path}" "{path}" && mount -o remount,ro,bind "{path}" && exec "$@"',
        "--",
    )
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        return command
    pytest.skip("this machine lets root mount nothing, so that nothing can be made read-only for it")


def test_it_serves_a_lake_it_cannot_write_to_and_says_so_of_feedback(
    running_service: StartService, serving_lake: Path
) -> None:
    service = running_service(prefix=unwritable(serving_lake))
    try:
        assert service.post("/recommendations", {"likes": [track_id(1)]}).status_code == 200
        said = {"user_id": "a", "events": [{"track_id": track_id(1), "action": "like"}]}
        refused = service.post("/feedback", said)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:tunegraph:problem:feedback-unwritable"
        assert str(serving_lake) not in refused.text
        assert service.stop() == 0
    finally:
        serving_lake.chmod(0o755)


# --- how it ends ---


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.nightly), 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_told_to_end_it_ends_well_and_leaves_nothing_behind(
    running_service: StartService, workers: int, number: signal.Signals, tmp_path: Path
) -> None:
    service = running_service("--workers", workers, environment={"TMPDIR": str(tmp_path)})
    family = psutil.Process(service.process.pid).children(recursive=True)
    assert service.get("/health").status_code == 200
    assert service.stop(number) == 0
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running()]
    assert list(tmp_path.glob("tunegraph-serve-*")) == []
    assert not any("Traceback" in line for line in service.said)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_the_request_in_flight_is_finished_first(running_service: StartService, workers: int) -> None:
    service = running_service("--workers", workers)
    body = b'{"likes":["' + track_id(1).encode() + b'"],"k":3}'
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body[:5]
        )
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        service.wait_for(lambda: not _takes_connections(service))
        assert service.process.poll() is None
        connection.sendall(body[5:])
        received = b""
        while part := connection.recv(65_536):
            received += part
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"rank":3' in received
    assert service.process.wait(20) == 0


def _takes_connections(service: RunningService) -> bool:
    try:
        service.get("/health")
    except httpx.TransportError:
        return False
    return True


def test_workers_whose_supervisor_is_killed_end_too(running_service: StartService) -> None:
    service = running_service("--workers", 2)
    workers = service.workers()
    service.process.kill()
    _gone, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


# --- workers ---


def test_a_killed_worker_is_replaced_and_takes_only_what_it_was_at(running_service: StartService) -> None:
    service = running_service("--workers", 2)
    assert len(service.workers()) == 2
    n_threads = 6
    with Asking(service, n_threads) as asking:
        service.wait_for(lambda: len(asking.answers) > 50)
        (victim, other) = service.workers()
        victim.kill()
        service.wait_for_replacement(victim.pid)
        answered = len(asking.answers)
        service.wait_for(lambda: len(asking.answers) > answered + 100)
    # A connection has one request in flight at most, and no other one is lost.
    assert len(asking.failures) <= n_threads
    assert {status for status, _ in asking.answers} == {200}
    assert other.is_running()
    assert all("Protocol" in failure or "Read" in failure for failure in asking.failures)


@pytest.mark.timeout(180)
def test_one_that_dies_while_it_is_asked_whether_it_lives_is_not_waited_for() -> None:
    worker = _Worker(Config("starlette.applications:Starlette", factory=True, log_config=None), [])
    worker.start()
    try:
        assert worker.ping(60)
        asked = psutil.Process(worker.pid)
        asked.suspend()
        while worker.ping(0.5):
            pass
        threading.Timer(0.3, asked.kill).start()
        assert not worker.ping(100_000)
    finally:
        worker.kill()
        worker.join()


def test_workers_are_counted_together_and_share_the_mapped_bundle(running_service: StartService) -> None:
    service = running_service("--workers", 2)
    with Asking(service, 8) as asking:
        service.wait_for(lambda: len(asking.answers) > 200)
    counted = (
        'tunegraph_requests_total{method="POST",route="/recommendations",status="200"} '
        f"{float(len(asking.answers))}\n"
    )
    # A request is counted once it is answered, which whoever asked may know first.
    service.wait_for(lambda: counted in service.get("/metrics").text)
    embeddings = str((service.lake / "serving" / "v1" / "embeddings.npy").resolve())
    for worker in service.workers():
        maps = Path(f"/proc/{worker.pid}/maps")
        if maps.exists():
            lines = [line for line in maps.read_text().splitlines() if line.endswith(embeddings)]
            assert lines
            assert all(line.split()[1].startswith("r--") for line in lines)
    # What a killed worker counted stays counted.
    service.workers()[0].kill()
    service.wait_for(lambda: len(service.worker_ids()) == 2)
    service.wait_for_answers()
    assert counted in service.get("/metrics").text


@pytest.mark.slow
def test_a_hangup_replaces_the_workers_one_by_one_and_reads_the_blocklist_anew(
    running_service: StartService, tmp_path: Path
) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("# nothing yet\n")
    service = running_service("--workers", 2, "--blocklist", path)
    asked = {"likes": [track_id(1)], "k": 3}
    first = service.post("/recommendations", asked).json()["items"][0]["track_id"]
    path.write_text(f"track:{first}\n")
    before = service.worker_ids()
    with Asking(service, 2, pause=0.02) as asking:
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(lambda: not before & service.worker_ids() and len(service.worker_ids()) == 2, 120)
    assert {status for status, _ in asking.answers} == {200}
    assert service.post("/recommendations", asked).json()["items"][0]["track_id"] != first


def test_feedback_that_was_acknowledged_outlives_a_killed_worker(running_service: StartService) -> None:
    service = running_service("--workers", 2)
    acknowledged: list[str] = []

    def say(number: int) -> None:
        with service.client() as client:
            for step in range(200):
                user = f"u{number}-{step}"
                body = {"user_id": user, "events": [{"track_id": track_id(1), "action": "like"}]}
                try:
                    if client.post("/feedback", json=body).status_code == 202:
                        acknowledged.append(user)
                except httpx.TransportError:
                    return

    threads = [threading.Thread(target=say, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    service.wait_for(lambda: len(acknowledged) > 20)
    for worker in service.workers():
        worker.kill()
    for thread in threads:
        thread.join()
    spool = service.lake / "feedback_spool"
    kept = {
        found
        for path in spool.glob("*/*.jsonl")
        for found in re.findall(r'"user_id": "([^"]+)"', path.read_text())
    }
    assert set(acknowledged) <= kept


@pytest.mark.parametrize(
    ("now", "set_to", "connections"),
    [
        ((1_024, resource.RLIM_INFINITY), 4_352, 4_096),
        ((1_024, 20_000), 4_352, 4_096),
        ((20_000, 20_000), None, 4_096),
        ((1_024, 2_000), 2_000, 1_744),
        ((100, 100), None, 1),
    ],
)
def test_there_are_files_for_all_connections_or_fewer_connections(
    now: tuple[int, int], set_to: int | None, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: now)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both[0]))
    said: list[str] = []
    settings = _with_files_for_connections(ServiceSettings(lake=Path("x")), said.append)
    assert limits == ([] if set_to is None else [set_to])
    assert settings.limits.connections == connections
    assert len(said) == (connections < 4_096)
    assert all(line.startswith(f"at most {counted(connections, 'connection')} at once") for line in said)
