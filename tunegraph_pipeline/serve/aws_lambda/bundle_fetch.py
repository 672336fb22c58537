"""Download a bundle once to local storage, for a function whose zip does not contain one.

Here: fetching an archive over TLS, unpacking only the bundle's own files, verifying every checksum, and
publishing the result by one rename. Not here: what is in a bundle (`recommend.bundle`). Only numpy and the
standard library.

The archive is a zip or tar, in any compression that Python reads, of the folder of one bundle. Its address is
`https://…`, which may be presigned, or `s3://bucket/key`. The latter is signed with the credentials that AWS
gives the function (Signature Version 4), so it never expires.
"""

import fcntl
import hashlib
import hmac
import http.client
import lzma
import os
import shutil
import ssl
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlsplit

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.recommend.bundle import Bundle

_SECONDS = 30.0
"""Timeout of a download without any data."""
BLOCK = 1 << 20
"""Bytes of a download in memory at once."""
_SPARE_BYTES = 16 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What unpacking raises for an archive that is truncated, damaged or in a format Python cannot read."""
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


class _Member(NamedTuple):
    """A file of an archive."""

    name: str
    size: int
    handle: Any


def fetch_bundle(address: str, storage: Path | None = None) -> Path:
    """The folder of the bundle at ``address``, in ``storage``; fetched unless it is there already.

    ``storage`` is a writable folder, by default the system's for temporary files. Each address is fetched
    once per storage, so a new bundle needs a new address. A bundle in the storage is complete and verified.

    Raises BundleError if the address is not supported, cannot be fetched or has no valid bundle.
    """
    storage = (storage or Path(tempfile.gettempdir())) / "tunegraph"
    folder = storage / hashlib.sha256(address.encode()).hexdigest()[:20]
    try:
        if not folder.is_dir():
            storage.mkdir(parents=True, exist_ok=True)
            with locked(storage / ".lock"):
                if not folder.is_dir():
                    _fetch(address, storage / ".draft", folder)
    except OSError as error:
        raise BundleError(f"cannot store the bundle of {_plain(address)} in {storage}: {error}") from error
    return folder


def _fetch(address: str, draft: Path, folder: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)  # left by a function that timed out
    draft.mkdir()
    try:
        archive, unpacked = draft / "archive", draft / "bundle"
        unpacked.mkdir()
        _download(address, archive)
        with _open_archive(archive, address) as members:
            _unpack(members, unpacked, address)
        Bundle.open(unpacked).verify()
        unpacked.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which is released if the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- fetching ---


class _HttpsRedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.has_header("Authorization"):  # signed for that host only
            raise BundleError(f"{_plain(req.full_url)} is in another region than AWS_REGION")
        if urlsplit(newurl).scheme != "https":
            raise BundleError(f"{_plain(req.full_url)} redirects to an address that is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class AnswerError(BundleError):
    """An answer other than the content that was asked for; ``status`` is its code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def answer_of(
    request: urllib.request.Request, address: str, *, encrypted: bool = True
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, to be read in a ``with`` block; ``address`` names it in messages. Raises
    BundleError, also while it is read."""
    opener = urllib.request.OpenerDirector()  # without the handlers of file:, ftp: and data:
    for handler in (
        urllib.request.HTTPSHandler(context=ssl.create_default_context())
        if encrypted
        else urllib.request.HTTPHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsRedirectHandler(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        raise AnswerError(error.code, f"{_plain(address)} answers {error.code} {error.reason}") from None
    except (
        urllib.error.URLError,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
        http.client.HTTPException,
    ) as error:
        reason = getattr(error, "reason", None) or repr(error)
        raise BundleError(f"{_plain(address)} cannot be fetched: {reason}") from None


def _download(address: str, target: Path) -> None:
    digest = hashlib.sha256()
    with answer_of(_request(address), address) as answer, target.open("wb") as file:
        expected = answer.headers.get("Content-Length")
        while block := answer.read(BLOCK):
            digest.update(block)
            file.write(block)
        size = file.tell()
    if expected is not None and expected != str(size):
        raise BundleError(f"{_plain(address)} sent {size} of {expected} bytes; fetch it again")
    expected_digest = os.environ.get("TUNEGRAPH_BUNDLE_SHA256", "").lower()
    if expected_digest and digest.hexdigest() != expected_digest:
        raise BundleError(f"the archive at {_plain(address)} does not match TUNEGRAPH_BUNDLE_SHA256")


def _request(address: str) -> urllib.request.Request:
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return urllib.request.Request(address)  # noqa: S310  # https, as checked
    if parts.scheme == "s3" and parts.hostname and parts.path.strip("/"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "")
        if endpoint and urlsplit(endpoint).scheme != "https":
            raise BundleError("AWS_ENDPOINT_URL_S3 is not https://…")
        return signed_request(parts.netloc, parts.path.lstrip("/"), endpoint)
    raise BundleError(f"TUNEGRAPH_BUNDLE_URL has to be https://… or s3://bucket/key, not {_plain(address)}")


def signed_request(bucket: str, key: str, endpoint: str = "") -> urllib.request.Request:
    """A GET of an object, signed with the credentials of the function, at ``endpoint`` or else at AWS. Raises
    BundleError where they are not in the environment."""
    environment = os.environ
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    identity, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not (region and identity and secret):
        raise BundleError(
            f"s3://{bucket}/{key} needs AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which Lambda"
            " gives a function; elsewhere give a presigned https:// address"
        )
    path = quote(f"/{key}", safe="/-_.~")
    if endpoint or "." in bucket:  # the certificate of S3 does not cover bucket names with a dot
        url = f"{endpoint or f'https://s3.{region}.amazonaws.com'}/{bucket}{path}"
    else:
        url = f"https://{bucket}.s3.{region}.amazonaws.com{path}"
    headers = {"x-amz-content-sha256": _EMPTY_SHA256}
    if token := environment.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    signed = sign(url, headers, region, identity, secret, datetime.now(UTC))
    return urllib.request.Request(url, headers=signed)  # noqa: S310  # of http or https, as checked


def sign(
    url: str, headers: Mapping[str, str], region: str, identity: str, secret: str, at: datetime
) -> dict[str, str]:
    """The headers of an S3 GET request without a query, signed (Signature Version 4): those given, the date,
    and ``Authorization``. ``headers`` has lower-case names and includes ``x-amz-content-sha256``."""
    parts, stamp = urlsplit(url), at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, **headers, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    canonical = "\n".join(["GET", parts.path, "", lines, names, headers["x-amz-content-sha256"]])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={identity}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {**headers, "Authorization": authorization}


def _plain(address: str) -> str:
    """The address without its secrets, for messages: without query (a presigned signature) and password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


# --- unpacking ---


@contextmanager
def _open_archive(path: Path, address: str) -> Iterator[tuple[list[_Member], Any]]:
    """The regular files of a zip or tar, and the function that opens one."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                files = [info for info in packed.infolist() if not info.is_dir()]
                yield [_Member(info.filename, info.file_size, info) for info in files], packed.open
        else:
            with tarfile.open(path) as tape:
                regular = [info for info in tape.getmembers() if info.isreg()]
                yield [_Member(info.name, info.size, info) for info in regular], tape.extractfile
    except OSError as error:
        if error.errno is not None:  # a disk error; decompressors raise OSError without a number
            raise
        raise BundleError(f"{_plain(address)} is not a readable archive") from error
    except _BROKEN as error:
        raise BundleError(f"{_plain(address)} is not a readable archive") from error


def _unpack(archive: tuple[list[_Member], Any], target: Path, address: str) -> None:
    """Write the files next to the archive's manifest into ``target``, under their base names."""
    members, open_member = archive
    manifests = [
        PurePosixPath(member.name) for member in members if PurePosixPath(member.name).name == MANIFEST
    ]
    if len(manifests) != 1:
        raise BundleError(
            f"{_plain(address)} has {len(manifests)} files named {MANIFEST}; pack the folder of one bundle"
        )
    beside = [member for member in members if PurePosixPath(member.name).parent == manifests[0].parent]
    names = [PurePosixPath(member.name).name for member in beside]
    if len(set(names)) != len(names) or any(
        name in ("", "..") or "\\" in name or "\0" in name for name in names
    ):
        raise BundleError(f"{_plain(address)} has a file with a name that no bundle has; pack it again")
    check_room(sum(member.size for member in beside), target, address)
    for member, name in zip(beside, names, strict=True):
        with open_member(member.handle) as packed, (target / name).open("xb") as file:
            shutil.copyfileobj(packed, file, BLOCK)


def check_room(size: int, target: Path, address: str) -> None:
    """Raise BundleError where the disk of ``target`` has no room for a bundle of ``size`` bytes."""
    room = shutil.disk_usage(target).free
    if size + _SPARE_BYTES > room:
        raise BundleError(
            f"the bundle of {_plain(address)} takes {size >> 20} MiB, {target.parents[1]} has room for"
            f" {room >> 20}; give the function more ephemeral storage"
        )
