"""Fetching a bundle once, over real TLS: whole and verified under its name, or not there and said why."""

import hashlib
import http.server
import io
import json
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.serve.aws_lambda import handler as lambda_handler
from tunegraph_pipeline.serve.aws_lambda.bundle_fetch import fetch_bundle, sign
from tunegraph_pipeline_tests.recommend.conftest import golden_content

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Host:
    """A server on loopback, with a certificate of its own."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: dict[str, str] = field(default_factory=dict)

    def keep(self, path: str, body: bytes, **headers: str) -> str:
        self.answers[path] = (200, {"Content-Length": str(len(body)), **headers}, body)
        return self.url + path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def host(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    served: list[Host] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (host,) = served
            host.asked[self.path] += 1
            host.headers = {name.lower(): value for name, value in self.headers.items()}
            status, headers, body = host.answers.get(self.path, (404, {"Content-Length": "0"}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests have nothing to tell."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    served.append(Host(f"https://127.0.0.1:{server.server_address[1]}"))
    yield served[0]
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNEGRAPH_BUNDLE_SHA256", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "serving" / "v1", golden_content())
    return tmp_path / "serving" / "v1"


def zipped(folder: Path, prefix: str = "") -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, prefix + path.name)
    return body.getvalue()


def tarred(folder: Path, mode: Any, prefix: str = "") -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode=mode) as packed:
        packed.add(folder, prefix or ".")
    return body.getvalue()


def nothing_kept(storage: Path) -> bool:
    return [path.name for path in (storage / "tunegraph").iterdir() if path.name != ".lock"] == []


def refused(address: str, storage: Path) -> str:
    with pytest.raises(BundleError) as caught:
        fetch_bundle(address, storage)
    assert nothing_kept(storage)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "zip in a folder", "tar", "tar.gz", "tar.xz"])
def test_a_bundle_is_fetched_once_and_is_that_bundle(
    host: Host, bundle: Path, tmp_path: Path, kind: str
) -> None:
    packed = {
        "zip": zipped(bundle),
        "zip in a folder": zipped(bundle, "2026-11-24-abc/"),
        "tar": tarred(bundle, "w"),
        "tar.gz": tarred(bundle, "w:gz", "2026-11-24-abc"),
        "tar.xz": tarred(bundle, "w:xz"),
    }[kind]
    address = host.keep("/bundle", packed)
    folder = fetch_bundle(address, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    Bundle.open(folder).verify()
    assert fetch_bundle(address, tmp_path) == folder
    assert host.asked["/bundle"] == 1
    assert [path.name for path in (tmp_path / "tunegraph").iterdir() if path != folder] == [".lock"]


def test_the_function_answers_from_a_fetched_bundle(
    host: Host, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGRAPH_BUNDLE_URL", host.url + "/later.zip")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lambda_handler.recommender.cache_clear()
    event = {"httpMethod": "POST", "body": json.dumps({"likes": ["a"], "format": "tunegraph"})}
    assert lambda_handler.lambda_handler(event, None)["statusCode"] == 503
    host.keep("/later.zip", zipped(bundle))
    for _ in range(2):
        response = lambda_handler.lambda_handler(event, None)
        assert response["statusCode"] == 200
        assert json.loads(response["body"])["bundle_version"] == "v1"
    assert host.asked["/later.zip"] == 2  # once in vain
    lambda_handler.recommender.cache_clear()


def test_several_processes_fetch_it_once(host: Host, bundle: Path, tmp_path: Path) -> None:
    address = host.keep("/bundle.zip", zipped(bundle))
    code = (
        "import sys; from pathlib import Path\n"
        "from tunegraph_pipeline.serve.aws_lambda.bundle_fetch import fetch_bundle\n"
        "fetch_bundle(sys.argv[1], Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, address, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert host.asked["/bundle.zip"] == 1


def test_what_a_function_out_of_time_left_behind_is_cleared_away(
    host: Host, bundle: Path, tmp_path: Path
) -> None:
    left = tmp_path / "tunegraph" / ".draft" / "bundle"
    left.mkdir(parents=True)
    (left / "embeddings.npy").write_bytes(b"half")
    folder = fetch_bundle(host.keep("/bundle.zip", zipped(bundle)), tmp_path)
    Bundle.open(folder).verify()


# --- what is refused ---


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/b.zip",
        "file:///etc/passwd",
        "ftp://h/b.zip",
        "/tmp/b.zip",
        "https:///b",
        "s3://bucket",
        "",
    ],
)
def test_addresses_of_another_kind_are_refused(address: str, tmp_path: Path) -> None:
    assert "has to be https://… or s3://bucket/key" in refused(address, tmp_path)


def test_a_host_that_nobody_vouches_for_is_refused(
    host: Host, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    address = host.keep("/bundle.zip", zipped(bundle))
    assert "CERTIFICATE_VERIFY_FAILED" in refused(address, tmp_path)
    assert not host.asked


def test_what_presigns_an_address_is_in_no_message(host: Host, tmp_path: Path) -> None:
    said = refused(host.url.replace("//", "//someone:pass@") + "/none.zip?X-Amz-Signature=5ecre7", tmp_path)
    assert "5ecre7" not in said
    assert "pass" not in said


def test_an_address_without_anything_says_so(host: Host, tmp_path: Path) -> None:
    assert "/none.zip answers 404" in refused(host.url + "/none.zip?X-Amz-Signature=5ecre7", tmp_path)


def test_a_redirect_is_followed_to_https_alone(host: Host, bundle: Path, tmp_path: Path) -> None:
    host.keep("/bundle.zip", zipped(bundle))
    host.answers["/moved"] = (302, {"Location": host.url + "/bundle.zip", "Content-Length": "0"}, b"")
    Bundle.open(fetch_bundle(host.url + "/moved", tmp_path / "good")).verify()
    for target in ("http://127.0.0.1/bundle.zip", "file:///etc/passwd"):
        host.answers["/astray"] = (302, {"Location": target, "Content-Length": "0"}, b"")
        refused(host.url + "/astray", tmp_path)


def test_an_archive_that_is_cut_off_is_refused(host: Host, bundle: Path, tmp_path: Path) -> None:
    whole = zipped(bundle)
    host.answers["/bundle.zip"] = (
        200,
        {"Content-Length": str(len(whole)), "Connection": "close"},
        whole[:900],
    )
    refused(host.url + "/bundle.zip", tmp_path)
    for part in (
        zipped(bundle)[:2000],
        tarred(bundle, "w:gz")[:2000],
        tarred(bundle, "w:bz2")[:900],
        b"",
        b"x" * 99,
    ):
        said = refused(host.keep("/part", part), tmp_path)
        assert "is not a readable archive" in said


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "zip"])
def test_a_damaged_archive_is_refused_wherever_the_damage_is(
    host: Host, bundle: Path, tmp_path: Path, mode: str
) -> None:
    whole = zipped(bundle) if mode == "zip" else tarred(bundle, mode)
    for place in range(0, len(whole), max(1, len(whole) // 25)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        address = host.keep(f"/{place}", bytes(damaged))
        try:
            folder = fetch_bundle(address, tmp_path)
        except BundleError:
            assert nothing_kept(tmp_path)
        else:  # it was in what does not matter, such as a time
            Bundle.open(folder).verify()
            shutil.rmtree(folder)


def test_a_bundle_that_does_not_match_its_checksums_is_refused(
    host: Host, bundle: Path, tmp_path: Path
) -> None:
    path = bundle / "prior.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "does not match its checksum" in refused(host.keep("/bundle.zip", zipped(bundle)), tmp_path)


def test_an_archive_of_something_else_is_refused(host: Host, bundle: Path, tmp_path: Path) -> None:
    write_bundle(bundle.parent / "v2", golden_content("v2"))
    for packed, count in ((zipped(Path(__file__).parent), 0), (tarred(bundle.parent, "w"), 2)):
        said = refused(host.keep("/other", packed), tmp_path)
        assert f"has {count} files named manifest.json" in said


def test_the_archive_may_be_named_by_its_digest(
    host: Host, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = zipped(bundle)
    address = host.keep("/bundle.zip", packed)
    monkeypatch.setenv("TUNEGRAPH_BUNDLE_SHA256", "0" * 64)
    assert "does not match TUNEGRAPH_BUNDLE_SHA256" in refused(address, tmp_path)
    monkeypatch.setenv("TUNEGRAPH_BUNDLE_SHA256", hashlib.sha256(packed).hexdigest().upper())
    assert fetch_bundle(address, tmp_path).is_dir()


EVIL = ["../evil.npy", "/evil.npy", "b/../../evil.npy", "..\\evil.npy", "b/c/evil.npy"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_file_of_an_archive_lands_outside_of_the_bundle(
    host: Host, bundle: Path, tmp_path: Path, name: str, kind: str
) -> None:
    body = io.BytesIO()
    if kind == "zip":
        body.write(zipped(bundle, "b/"))
        with zipfile.ZipFile(body, "a") as packed:
            packed.writestr(name, b"evil")
    else:
        with tarfile.open(fileobj=body, mode="w") as tape:
            tape.add(bundle, "b")
            info = tarfile.TarInfo(name)
            info.size = 4
            tape.addfile(info, io.BytesIO(b"evil"))
    storage = tmp_path / "a" / "b" / "storage"
    storage.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    try:
        folder = fetch_bundle(host.keep("/bundle", body.getvalue()), storage)
    except BundleError:
        assert nothing_kept(storage)
    else:
        assert {path.name for path in folder.iterdir()} == {path.name for path in bundle.iterdir()}
    landed = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(storage / "tunegraph") for path in landed)
    assert not Path("/evil.npy").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_of_an_archive_are_not_made(
    host: Host, bundle: Path, tmp_path: Path, kind: bytes
) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tape:
        for path in bundle.iterdir():
            if path.name != "prior.npy":
                tape.add(path, f"b/{path.name}")
        info = tarfile.TarInfo("b/prior.npy")
        info.type, info.linkname = kind, str(bundle / "prior.npy")
        tape.addfile(info)
    assert "prior.npy" in refused(host.keep("/b", body.getvalue()), tmp_path)


def test_a_name_that_is_there_twice_is_refused(host: Host, bundle: Path, tmp_path: Path) -> None:
    body = io.BytesIO(zipped(bundle))
    with zipfile.ZipFile(body, "a") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr("prior.npy", b"other")
    assert "a name that no bundle has" in refused(host.keep("/b", body.getvalue()), tmp_path)


def test_a_bundle_larger_than_the_storage_is_refused_before_it_is_unpacked(
    host: Host, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever little the archive takes: it has to tell what it will become."""
    (bundle / "index.faiss").write_bytes(b"0" * (20 << 20))
    packed = zipped(bundle)
    assert len(packed) < 1 << 20
    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=30 << 20))
    said = refused(host.keep("/b", packed), tmp_path)
    assert said.endswith("has room for 30; give the function more ephemeral storage")


# --- S3 ---


def test_the_signature_is_that_of_the_example_of_aws() -> None:
    """ "GET Object" of "Signature Calculations for the Authorization Header", Amazon S3 API reference."""
    nothing = hashlib.sha256().hexdigest()
    signed = sign(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        {"range": "bytes=0-9", "x-amz-content-sha256": nothing},
        "us-east-1",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        " SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        " Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@pytest.fixture
def role(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda gives a function, with S3 on loopback."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", host.url)


@pytest.mark.usefixtures("role")
def test_an_object_of_s3_is_fetched_with_the_rights_of_the_function(
    host: Host, bundle: Path, tmp_path: Path
) -> None:
    host.keep("/my.bucket/bundles/a%20b.zip", zipped(bundle))
    Bundle.open(fetch_bundle("s3://my.bucket/bundles/a b.zip", tmp_path)).verify()
    sent = host.headers
    at = datetime.strptime(sent["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    given = {name: sent[name] for name in ("x-amz-content-sha256", "x-amz-security-token")}
    url = host.url + "/my.bucket/bundles/a%20b.zip"
    assert given["x-amz-security-token"] == "token"
    assert sent["authorization"] == sign(url, given, "eu-central-1", "AKID", "topsecret", at)["Authorization"]


@pytest.mark.usefixtures("role")
def test_what_is_signed_for_one_host_is_sent_to_no_other(host: Host, bundle: Path, tmp_path: Path) -> None:
    host.answers["/bucket/key"] = (307, {"Location": host.url + "/elsewhere", "Content-Length": "0"}, b"")
    assert "in another region" in refused("s3://bucket/key", tmp_path)
    assert not host.asked["/elsewhere"]


@pytest.mark.usefixtures("role")
def test_s3_without_credentials_or_over_http_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        assert "is not https" in refused("s3://bucket/key", tmp_path)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "needs AWS_REGION" in refused("s3://bucket/key", tmp_path)
