"""Download a bundle once to local storage, for a function whose zip does not contain one.

Here: fetching an archive over TLS, unpacking it where nothing but the bundle's own files can land, comparing
every checksum, and making it visible by one rename. Not here: what is in a bundle (`recommend.bundle`). numpy
and the standard library alone.

The archive is a zip or a tar, of any compression that Python reads, of the folder of one bundle. Its address
is `https://…`, which may be presigned, or `s3://bucket/key`, which is signed with the credentials that AWS
gives the function (Signature Version 4), and so never expires.
"""

import fcntl
import hashlib
import hmac
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
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlsplit

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.recommend.bundle import Bundle

_SECONDS = 30.0
"""Without a byte for so long, a fetch is given up."""
_BLOCK = 1 << 20
_SPARE_BYTES = 16 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What unpacking raises for an archive that is cut off, damaged or of a kind that Python does not read."""
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


class _Member(NamedTuple):
    """A file of an archive."""

    name: str
    size: int
    handle: Any


def fetch_bundle(address: str, storage: Path | None = None) -> Path:
    """The folder of the bundle at ``address``, in ``storage``: the one fetched before, or fetched now.

    ``storage`` is a folder that may be written, the system's for temporary files unless given. What is at an
    address is fetched once a storage; a new bundle is given a new address. A bundle that is there is whole
    and has been verified.

    Raises BundleError where the address is of another kind, cannot be fetched or holds no sound bundle.
    """
    storage = (storage or Path(tempfile.gettempdir())) / "tunegraph"
    folder = storage / hashlib.sha256(address.encode()).hexdigest()[:20]
    try:
        if not folder.is_dir():
            storage.mkdir(parents=True, exist_ok=True)
            with _locked(storage / ".lock"):
                if not folder.is_dir():
                    _fetch(address, storage / ".draft", folder)
    except OSError as error:
        raise BundleError(f"the bundle of {_plain(address)} cannot be kept in {storage}: {error}") from error
    return folder


def _fetch(address: str, draft: Path, folder: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)  # of a function that ran into its time limit
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
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock of one that dies is free."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- fetching ---


class _HttpsRedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.has_header("Authorization"):  # signed for that host, and nobody else's to see
            raise BundleError(f"{_plain(req.full_url)} is in another region than AWS_REGION tells")
        if urlsplit(newurl).scheme != "https":
            raise BundleError(
                f"{_plain(req.full_url)} leads to an address that is not https; give one that is"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, target: Path) -> None:
    request = _request(address)
    opener = urllib.request.OpenerDirector()  # without the handlers of file:, ftp: and data:
    for handler in (
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsRedirectHandler(),
    ):
        opener.add_handler(handler)
    digest = hashlib.sha256()
    try:
        with opener.open(request, timeout=_SECONDS) as answer, target.open("wb") as file:
            told = answer.headers.get("Content-Length")
            while block := answer.read(_BLOCK):
                digest.update(block)
                file.write(block)
            got = file.tell()
    except urllib.error.HTTPError as error:
        raise BundleError(f"{_plain(address)} answers {error.code} {error.reason}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, HTTPException) as error:
        reason = getattr(error, "reason", None) or repr(error)
        raise BundleError(f"{_plain(address)} cannot be fetched: {reason}") from None
    if told is not None and told != str(got):
        raise BundleError(f"{_plain(address)} gave {got} of {told} bytes; fetch it again")
    wanted = os.environ.get("TUNEGRAPH_BUNDLE_SHA256", "").lower()
    if wanted and digest.hexdigest() != wanted:
        raise BundleError(f"{_plain(address)} is not the archive that TUNEGRAPH_BUNDLE_SHA256 tells")


def _request(address: str) -> urllib.request.Request:
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return urllib.request.Request(address)  # noqa: S310  # https, as was looked at
    if parts.scheme == "s3" and parts.hostname and parts.path.strip("/"):
        return _s3_request(parts.netloc, parts.path.lstrip("/"))
    raise BundleError(
        f"TUNEGRAPH_BUNDLE_URL: {_plain(address)} is neither https://… nor s3://bucket/key; give one of these"
    )


def _s3_request(bucket: str, key: str) -> urllib.request.Request:
    environment = os.environ
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    identity, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not (region and identity and secret):
        raise BundleError(
            f"s3://{bucket}/{key} needs AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which Lambda"
            " gives a function; elsewhere give a presigned https:// address"
        )
    path = quote(f"/{key}", safe="/-_.~")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3")
    if endpoint or "." in bucket:  # the certificate of S3 covers no bucket with a dot in its name
        url = f"{endpoint or f'https://s3.{region}.amazonaws.com'}/{bucket}{path}"
    else:
        url = f"https://{bucket}.s3.{region}.amazonaws.com{path}"
    if urlsplit(url).scheme != "https":
        raise BundleError("AWS_ENDPOINT_URL_S3 is not https://…")
    headers = {"x-amz-content-sha256": _EMPTY_SHA256}
    if token := environment.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    signed = sign(url, headers, region, identity, secret, datetime.now(UTC))
    return urllib.request.Request(url, headers=signed)  # noqa: S310  # https, as was looked at


def sign(
    url: str, headers: Mapping[str, str], region: str, identity: str, secret: str, at: datetime
) -> dict[str, str]:
    """The headers of a GET of S3 without a query, signed (Signature Version 4): those given, the date, and
    ``Authorization``. Names of ``headers`` are in lower case, one of them is ``x-amz-content-sha256``."""
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
    told = f"AWS4-HMAC-SHA256 Credential={identity}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": told}


def _plain(address: str) -> str:
    """The address as a log may have it: what presigns it, and a password in it, are secrets."""
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
        if error.errno is not None:  # of the disk; decompressors raise it without a number
            raise
        raise BundleError(f"{_plain(address)} is no archive that can be read") from error
    except _BROKEN as error:
        raise BundleError(f"{_plain(address)} is no archive that can be read") from error


def _unpack(archive: tuple[list[_Member], Any], target: Path, address: str) -> None:
    """Write the files that lie beside the archive's manifest, under their last name, into ``target``."""
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
        raise BundleError(f"{_plain(address)} has a file of a name that no bundle has; pack it again")
    size, room = sum(member.size for member in beside), shutil.disk_usage(target).free
    if size + _SPARE_BYTES > room:
        raise BundleError(
            f"the bundle of {_plain(address)} takes {size >> 20} MiB, {target.parents[1]} has room for"
            f" {room >> 20}; give the function more ephemeral storage"
        )
    for member, name in zip(beside, names, strict=True):
        with open_member(member.handle) as packed, (target / name).open("xb") as file:
            shutil.copyfileobj(packed, file, _BLOCK)
