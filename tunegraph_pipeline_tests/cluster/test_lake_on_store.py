"""Whole lakes in an object store: refresh, forget, serve, and what a store must be able to do."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import World, comparisons
from tunegraph_pipeline.lake import feedback_spool, snapshots
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.object_store import Address, StoreError
from tunegraph_pipeline.lake.object_store import ObjectStore as Client
from tunegraph_pipeline.lake.raw import RawBatch, write_batch
from tunegraph_pipeline.lake.snapshots import lake_path, pull
from tunegraph_pipeline.pipeline import co_like_matrix
from tunegraph_pipeline.serve.aws_lambda import package
from tunegraph_pipeline.serve.aws_lambda.handler import lambda_handler
from tunegraph_pipeline_tests.cluster.object_store import (
    ObjectStore,
    environment,
    make_bucket,
    running_store,
)
from tunegraph_pipeline_tests.lean_command import LEAN
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.dagster,
    pytest.mark.kill,
    pytest.mark.usefixtures("blank_plots"),
]

WORLD = World(40, 50, 1, {"dimension": 4, "epochs": 1, "encoder": "none"})


def refreshed(where: object) -> None:
    done = tunegraph("refresh", "--source", "none", "--lake", where)
    assert done.returncode == 0, done.stderr


def test_a_refresh_in_a_store_is_that_in_a_folder(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], tmp_path: Path
) -> None:
    url = object_store.url()
    folder = WORLD.lake(tmp_path / "folder")
    WORLD.lake(on_node(url, "import"))
    for day in (0, 1):
        if day:
            WORLD.receive(folder, day)
            WORLD.receive(Lake.open(on_node(url, "import")), day)
        snapshots.send(on_node(url, "import"))
        refreshed(folder.root)
        on_node(url, f"driver {day}")  # every day another machine
        refreshed(url)
    reader = Lake.open(on_node(url, "reader"))
    compared = dict(comparisons(Lake.open(folder.root), reader))
    assert [what for what, same in compared.items() if not same] == []
    assert any("entries of B" in what for what in compared)
    assert any("arrays of serving" in what for what in compared)
    done = tunegraph("verify", "--lake", url)
    assert done.returncode == 0, done.stdout
    assert f"nothing is damaged in {url}" in done.stdout
    assert tunegraph("status", "--lake", url).stdout.startswith(url)
    before = reader.current_version("serving")
    refused = tunegraph("rollback", "--lake", url, "--reason", "a test")
    assert refused.returncode == 0, refused.stderr
    assert Lake.open(on_node(url, "driver 1")).current_version("serving") != before
    assert package.main(["--lake", url, "--only-bundle", "--output", str(tmp_path / "bundle.zip")]) == 0


def test_a_refresh_killed_at_a_call_of_the_store_is_finished_by_the_next(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    """At some of its calls; the benchmark without an option kills it at each of them."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.killed_store_calls", "--calls", "3", "--lake", object_store.url()],
        env=environment(object_store, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 0 failures" in done.stdout


def test_a_forgotten_user_is_in_no_object_and_no_cache(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url, who = object_store.url(), "user7"
    secret = who.encode()
    folder = WORLD.lake(on_node(url, "driver"))
    refreshed(url)
    other = Lake.open(on_node(url, "other")).root
    service = on_node(url, "service")
    pull(service, only_served=True)
    feedback_spool.append(service, "worker", who, [("song1", "like")])
    snapshots.send(service)
    assert any(secret in data for data in object_store.objects(url).values())
    root = on_node(url, "driver")
    done = tunegraph("forget", who, "--lake", url)
    assert done.returncode == 0, done.stderr

    def named(root: Path) -> list[str]:
        paths = [path for path in root.parent.rglob("*") if path.is_file() and ".dagster" not in path.parts]
        return [str(path) for path in paths if _names(path.read_bytes(), who)]

    assert [key for key, data in object_store.objects(url).items() if _names(data, who)] == []
    assert named(root) == []
    assert named(other)
    pull(other)
    pull(service, only_served=True)
    assert named(other) == []
    assert named(service) == []
    assert folder.name == url
    assert tunegraph("verify", "--lake", url).returncode == 0


def _names(data: bytes, who: str) -> bool:
    """Whether bytes hold a user id that is not the beginning of a longer one, such as that of user71."""
    text = who.encode()
    at = data.find(text)
    while at >= 0:
        following = data[at + len(text) : at + len(text) + 1]
        if not following.isdigit():
            return True
        at = data.find(text, at + 1)
    return False


@contextmanager
def serving(url: str, variables: dict[str, str], *options: str) -> Iterator[tuple[str, list[str]]]:
    """A service of a lake in a process of its own; yields its address, and the lines that it says."""
    command = [*LEAN, "serve", "--lake", url, "--port", "0", "--reload-seconds", "0.2", "--no-access-log"]
    process = subprocess.Popen([*command, *options], env=variables, stderr=subprocess.PIPE, text=True)
    said: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        said.extend(iter(process.stderr.readline, ""))
        said.append("")  # it ended

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        wait_until(lambda: any("listening on" in line or not line for line in said))
        (line,) = [line for line in said if "listening on" in line]
        yield line.split("listening on ")[1].split()[0], said
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        listener.join()


def asked(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with closing(urllib.request.urlopen(request, timeout=30)) as answer:
        return json.loads(answer.read() or b"null")


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def version_of_function() -> str:
    """The bundle that a Lambda function answers from."""
    answer = lambda_handler({"httpMethod": "GET", "queryStringParameters": {"format": "tunegraph"}}, None)
    assert answer["statusCode"] == 200, answer["body"]
    return str(json.loads(answer["body"])["bundle_version"])


def test_services_and_functions_elsewhere_follow_and_feedback_arrives(
    object_store: ObjectStore,
    on_node: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = object_store.url()
    root = on_node(url, "driver")
    lake = Lake.open_or_create(root)
    lake.admit_source("files")
    lake.set_section("training", dict(WORLD.training))

    def receive(batch: RawBatch) -> None:
        with lake.writing("a test"):
            write_batch(lake.raw, datetime.now(UTC).date(), batch)

    receive(WORLD.batch(0))
    refreshed(url)
    first = Lake.open(root).current_version("serving")
    monkeypatch.setenv("TUNEGRAPH_LAKE", url)
    monkeypatch.setenv("TUNEGRAPH_RELOAD_SECONDS", "0")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "function"))
    assert version_of_function() == first
    variables = environment(object_store, tmp_path / "service")
    with serving(url, variables, "--workers", "2") as (address, said_by_service):
        assert asked(f"{address}/version")["bundle_version"] == first
        said = {"user_id": "user3", "events": [{"track_id": "song2", "action": "like"}]}
        asked(f"{address}/feedback", said)
        wait_until(lambda: len(snapshots.spooled(root, "feedback_spool")) == 1)
        receive(WORLD.batch(1))
        refreshed(url)
        second = Lake.open(root).current_version("serving")
        assert second != first
        taken = f"serving bundle {second}"
        wait_until(lambda: sum(taken in line for line in said_by_service) == 2)  # each of the workers
        assert {asked(f"{address}/version")["bundle_version"] for _ in range(20)} == {second}
    assert version_of_function() == second
    kept = [path for path in (tmp_path / "function").rglob("*") if path.is_file()]
    assert kept
    assert not any(_names(path.read_bytes(), "user3") for path in kept)
    lake = Lake.open(root)
    rows = [row for day in lake.partitions("feedback") for row in lake.read("feedback", day).rows(named=True)]
    assert [row["track_id"] for row in rows if row["user_id"] == "user3"] == ["song2"]
    assert snapshots.spooled(root, "feedback_spool") == []


def test_damage_in_the_store_is_found_and_mended(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    import obstore

    url = object_store.url()
    WORLD.lake(on_node(url, "driver"))
    (damaged, gone, *_) = [key for key in object_store.objects(url) if key.startswith("files/")]
    client, prefix = object_store.client(), url.removeprefix(f"s3://{object_store.bucket}/")
    obstore.put(client, f"{prefix}/{damaged}", b"something else")
    obstore.delete(client, f"{prefix}/{gone}")
    done = tunegraph("verify", "--lake", url)
    assert done.returncode == 2
    assert f"{damaged} in the store does not match its checksum" in done.stdout
    assert f"{gone} in the store is missing" in done.stdout
    assert tunegraph("verify", "--repair", "--lake", url).returncode == 0
    assert tunegraph("verify", "--lake", url).returncode == 0
    assert Lake.open(on_node(url, "reader")).name == url


def test_bad_stores_are_refused_in_one_line(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = ("refresh", "--source", "simulator", "--lake")
    on_node(object_store.url(), "driver")
    assert "there is no lake at s3://" in complaint(tunegraph("status", "--lake", object_store.url()))
    assert "there is no bucket 'nowhere'" in complaint(tunegraph(*refresh, "s3://nowhere/lake"))
    assert "a lake is in a folder, or in a store" in complaint(tunegraph(*refresh, "gs://bucket/lake"))
    versioned = replace(object_store, bucket=f"versioned-{uuid.uuid4().hex[:8]}")
    make_bucket(versioned, versioning=True)
    url = versioned.url()
    on_node(url, "driver")
    assert "keeps every version of its objects" in complaint(tunegraph(*refresh, url))
    other = object_store.url()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-this-one")
        line = complaint(tunegraph(*refresh, other))
        assert "refuses the credentials" in line
        assert "not-this-one" not in line
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert "cannot be reached" in complaint(tunegraph(*refresh, other))
    assert object_store.objects(other) == {}


def test_a_store_that_goes_away_in_the_middle_is_told_in_a_line_and_the_next_refresh_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGRAPH_LEASE_SECONDS", "2")

    def connect(store: ObjectStore, cache: str) -> None:
        for name, value in {**store.variables, "TUNEGRAPH_CACHE": str(tmp_path / cache)}.items():
            monkeypatch.setenv(name, value)

    with running_store(tmp_path / "store") as store:
        connect(store, "driver")
        url = store.url()
        WORLD.lake(lake_path(url))
        with monkeypatch.context() as patch:
            patch.setattr(co_like_matrix, "report_progress", lambda *_: os.kill(store.pid, signal.SIGKILL))
            assert f"{store.endpoint} cannot be reached for {url}" in complaint(
                tunegraph("refresh", "--source", "none", "--lake", url)
            )
    with running_store(tmp_path / "store") as store:  # with what the killed server had on disk
        connect(store, "reader")
        lake = Lake.open(lake_path(url))
        assert lake.has_current("like_graph")
        assert not lake.has_current("co_like")
        refreshed(url)
        assert Lake.open(lake_path(url)).has_current("serving")
        assert tunegraph("verify", "--lake", url).returncode == 0


class _Careless(http.server.BaseHTTPRequestHandler):
    """A store that takes every object, whatever the conditions of the request."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"", self.objects[self.path])

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        elif self.path not in self.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, self.objects[self.path], self.objects[self.path])

    def do_POST(self) -> None:
        """The request that deletes objects."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", body)
        for key in keys:
            self.objects.pop(f"/bucket/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _answer(self, code: int, body: bytes, tagged: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(tagged)}"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_ignores_conditions_is_not_trusted(
    on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = type("Careless", (_Careless,), {"objects": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        on_node("s3://bucket/lake", "driver")  # which sets the address of the other store
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match="10 of 10 writers created one object"):
            Client(Address.of("s3://bucket/lake")).probe()
        line = complaint(tunegraph("refresh", "--source", "simulator", "--lake", "s3://bucket/lake"))
        assert "ignores If-None-Match" in line
        assert handler.objects == {}  # type: ignore[attr-defined]
        server.shutdown()


def test_what_a_command_changes_under_the_lock_is_committed(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url = object_store.url()
    Lake.open(WORLD.lake(on_node(url, "driver")).root)
    edit = 'sed -i "s/\\"epochs\\": 1/\\"epochs\\": 2/" "$TUNEGRAPH_LAKE_FOLDER/lake.json"'
    assert tunegraph("lock", "--lake", url, "--", "sh", "-c", edit).returncode == 0
    reader = Lake.open(on_node(url, "reader"))
    assert reader.file.settings["training"]["epochs"] == 2
