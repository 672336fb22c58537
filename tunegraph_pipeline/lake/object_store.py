"""The client of an object store that speaks S3: objects of bytes under keys, below one bucket and prefix.

Here: reading, creating and swapping objects, streaming files, listing, deleting, the probe of a store, and
its errors in one line. Not here: what the objects are (`snapshots`), or who may write (`lease`). The one
module that loads obstore, of the extra `cluster`, and only once a store is used.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, …), and are in
no message: what the store answers may quote them, so of an answer only its code is shown.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from tunegraph_pipeline.errors import InputError, LakeError, LibraryMissingError
from tunegraph_pipeline.progress import report_progress

if TYPE_CHECKING:
    from obstore.store import S3Store

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
ALLOW_HTTP_VARIABLE = "AWS_ALLOW_HTTP"
CONNECTIONS = 8
"""Requests in flight at once."""
_PIECE = 8 << 20
"""Bytes of a file in memory at once, for each of a few requests."""
_PARTS = 9_000
"""Of a multipart upload; S3 allows 10,000."""
_RACERS = 10
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_LOCATION = re.compile(r"location (\S+) not found")
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")


class StoreError(LakeError):
    """A store that cannot be reached or used."""


class TakenError(Exception):
    """An object that was to be created is there, or one that was to be swapped is another one."""


class GoneError(Exception):
    """An object is not there."""


@dataclass(frozen=True)
class Address:
    """Where a lake is: ``s3://bucket/prefix``, at an endpoint ("" for that of AWS)."""

    bucket: str
    prefix: str
    endpoint: str

    @classmethod
    def of(cls, url: str, endpoint: str | None = None) -> "Address":
        """Parse an address; ``endpoint`` is by default that of the environment. Raises InputError."""
        bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
        if (
            not _BUCKET.fullmatch(bucket)
            or not _PREFIX.fullmatch(prefix)
            or {"..", "."} & {*prefix.split("/")}
        ):
            raise InputError(
                f"--lake {url}: write it as s3://bucket/prefix, of letters, digits, '.', '_', '=' and '-'"
            )
        given = os.environ.get(ENDPOINT_VARIABLE, "") if endpoint is None else endpoint
        return cls(bucket, prefix, given.rstrip("/"))

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def host(self) -> str:
        """The endpoint without what may be secret in it, for messages."""
        parts = urlsplit(self.endpoint)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}" if self.endpoint else "AWS"


class ObjectStore:
    """The objects of one lake. Keys are relative to the lake's prefix; a tag is the store's name of one
    content of an object. All methods raise StoreError, one line, where the store cannot be used."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._store = _connected(address)

    # --- single objects ---

    def read(self, key: str) -> tuple[bytes, str]:
        """The content of an object and its tag. Raises GoneError."""
        import obstore

        with self._errors():
            answer = obstore.get(self._store, key)
            return bytes(answer.bytes()), str(answer.meta["e_tag"])

    def read_changed(self, key: str, tag: str) -> tuple[bytes, str] | None:
        """The same, or None while the object still has this tag. Raises GoneError."""
        import obstore
        from obstore.exceptions import NotModifiedError

        with self._errors():
            try:
                answer = obstore.get(self._store, key, options={"if_none_match": tag})
                return bytes(answer.bytes()), str(answer.meta["e_tag"])
            except NotModifiedError:
                return None

    def create(self, key: str, data: bytes) -> str:
        """Make an object that is not there yet; returns its tag. Raises TakenError where it is."""
        return self._put(key, data, "create")

    def swap(self, key: str, data: bytes, tag: str) -> str:
        """Replace the content of an object that still has this tag; returns the new one. Raises TakenError
        where it has another one, or is gone."""
        return self._put(key, data, {"e_tag": tag})

    def _put(self, key: str, data: bytes, mode: Any) -> str:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors():
            try:
                made = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                raise TakenError(key) from None
        self._refuse_versions(made.get("version"))
        return str(made["e_tag"])

    def _refuse_versions(self, version: str | None) -> None:
        if version not in (None, "", "null"):
            raise StoreError(
                f"the bucket {self.address.bucket} keeps every version of its objects, so nobody would be"
                " forgotten: suspend its versioning (`aws s3api put-bucket-versioning"
                " --versioning-configuration Status=Suspended`) and remove its old versions, or use another"
            )

    # --- files ---

    def put_file(self, key: str, path: Path) -> tuple[int, str]:
        """Store a file under a key that nobody else uses; returns its size and sha256. Raises
        FileNotFoundError where the file is gone. A large one is sent in pieces."""
        size, digest = path.stat().st_size, hashlib.sha256()
        if size <= _PIECE:
            data = path.read_bytes()
            digest.update(data)
            with suppress(TakenError):  # sent already, and the answer was lost
                self.create(key, data)
            return len(data), digest.hexdigest()
        return self._put_in_pieces(key, path, size)

    def _put_in_pieces(self, key: str, path: Path, size: int) -> tuple[int, str]:
        import obstore

        digest, sent = hashlib.sha256(), 0
        piece = max(_PIECE, -(-size // _PARTS))

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            with path.open("rb") as file:
                while block := file.read(piece):
                    digest.update(block)
                    sent += len(block)
                    yield block

        with self._errors():
            made = obstore.put(self._store, key, pieces(), chunk_size=piece, max_concurrency=2)
        self._refuse_versions(made.get("version"))
        return sent, digest.hexdigest()

    def fetch(self, key: str, size: int, target: Path) -> str:
        """Write an object of ``size`` bytes to a file, piece by piece; returns its sha256. Raises
        GoneError."""
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for block in self.pieces(key, size):
                digest.update(block)
                file.write(block)
        return digest.hexdigest()

    def pieces(self, key: str, size: int) -> Iterator[bytes]:
        """The content of an object of ``size`` bytes, a piece in memory at a time. Raises GoneError."""
        import obstore

        if size <= _PIECE:
            yield self.read(key)[0]
            return
        for start in range(0, size, _PIECE):
            with self._errors():
                block = bytes(
                    obstore.get_range(self._store, key, start=start, length=min(_PIECE, size - start))
                )
            yield block

    # --- many objects ---

    def listing(self, prefix: str = "") -> dict[str, tuple[int, datetime]]:
        """The size of each object below a prefix, and when it was written by the clock of the store."""
        import obstore

        with self._errors():
            return {
                str(one["path"]): (int(one["size"]), one["last_modified"])
                for page in obstore.list(self._store, prefix or None)
                for one in page
            }

    def delete(self, keys: Collection[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        import obstore

        if keys:
            with self._errors(), suppress(FileNotFoundError):
                obstore.delete(self._store, sorted(keys))

    @staticmethod
    def each(work: Callable[[Any], Any], items: Collection[Any], what: str = "") -> list[Any]:
        """The results of ``work`` on each item, in order, a few at once; reports progress as ``what``. Raises
        the first error, once no other runs."""
        results = []
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="object-store") as pool:
            try:
                for result in pool.map(work, items):
                    results.append(result)
                    if what:
                        report_progress(what, len(results), len(items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return results

    # --- trust ---

    def probe(self) -> None:
        """Try what the lock of a lake rests on, with an object of its own. Raises StoreError where the store
        does not keep it: that of ten who create an object at once one succeeds, that an object is swapped
        only by its tag, and that no old versions stay."""
        key = f"probe/{uuid.uuid4().hex}"

        def race(number: int) -> str | None:
            try:
                return self.create(key, f"{number}".encode())
            except TakenError:
                return None

        with ThreadPoolExecutor(_RACERS) as pool:
            made = [tag for tag in pool.map(race, range(_RACERS)) if tag is not None]
        try:
            self._check_race(key, made)
        except StoreError:
            with suppress(StoreError):  # what is wrong with the store is said already
                self.delete([key])
            raise
        self.delete([key])

    def _check_race(self, key: str, made: list[str]) -> None:
        """The rest of the probe, once the tags of ``made`` objects were got for one key."""
        if len(made) != 1:
            raise self._untrusted("If-None-Match", f"{len(made)} of {_RACERS} writers created one object")
        try:
            self.swap(key, b"swapped", made[0])
        except TakenError:
            raise self._untrusted("If-Match", "an object was not swapped by its own tag") from None
        with suppress(TakenError):
            self.swap(key, b"swapped by a stale tag", made[0])
            raise self._untrusted("If-Match", "an object was swapped by a stale tag")
        if self.read(key)[0] != b"swapped":
            raise self._untrusted("If-Match", "an object is not what was written last")

    def _untrusted(self, header: str, why: str) -> StoreError:
        return StoreError(
            f"{self.address.host} ignores {header} ({why}), so two writers could change the lake"
            f" {self.address.url} at once; use a store that honours it, such as S3 or SeaweedFS 4.48"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the errors of obstore into one line without what the store said in them."""
        from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, PreconditionError, NotModifiedError):
            raise  # an answer, not a fault
        except FileNotFoundError as error:
            if _code(str(error)) == "NoSuchBucket":
                raise self._unusable(error) from None
            if "Error performing" not in str(error):
                raise  # a file of this machine
            found = _LOCATION.search(str(error))
            raise GoneError(found[1] if found else "an object") from None
        except (BaseError, PermissionError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a disk
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> StoreError:
        text, address = str(error), self.address
        code = _code(text)
        if code == "NoSuchBucket":
            return StoreError(
                f"there is no bucket {address.bucket!r} at {address.host}; make it, or correct --lake"
            )
        if "169.254." in text or "redential" in text:
            return StoreError(
                f"there are no credentials for {address.url}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken") or (
            (status := _STATUS.search(text)) and status[1].startswith(("401", "403"))
        ):
            return StoreError(
                f"{address.host} refuses the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for"
                f" {address.url} ({code or 'access denied'}); correct them, or ask for access"
            )
        if status := _STATUS.search(text):
            said = f"{status[1].strip()}{f', {code}' if code else ''}"
            return StoreError(f"{address.host} failed for {address.url} ({said}); try again later")
        return StoreError(
            f"{address.host} cannot be reached for {address.url}; check {ENDPOINT_VARIABLE} and the network"
        )


def _code(text: str) -> str:
    """The code in an answer of S3, such as NoSuchBucket; "" where there is none."""
    found = _CODE.search(text)
    return found[1] if found else ""


def _connected(address: Address) -> "S3Store":
    try:
        from obstore.store import S3Store
    except ImportError:
        raise LibraryMissingError(
            f"{address.url} needs the library obstore; install tunegraph-pipeline[cluster]"
        ) from None
    parts = checked_endpoint(address)
    options: dict[str, Any] = {}
    if address.endpoint:
        options = {"endpoint": address.endpoint, "virtual_hosted_style_request": False}
    return S3Store(
        address.bucket,
        prefix=address.prefix,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        client_options={
            "connect_timeout": "5s",
            "timeout": "120s",
            "allow_http": parts.scheme == "http",
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
        **options,
    )


def checked_endpoint(address: Address) -> SplitResult:
    """The parts of an endpoint, empty for that of AWS. Raises InputError where it is no address, or one that
    is not encrypted and was not allowed."""
    parts = urlsplit(address.endpoint)
    if address.endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise InputError(f"{ENDPOINT_VARIABLE} is not an address, such as https://store.example.org")
    allowed = os.environ.get(ALLOW_HTTP_VARIABLE, "").lower() in ("1", "true")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allowed:
        raise InputError(
            f"{ENDPOINT_VARIABLE} {address.host} is not encrypted; use https, or allow it by"
            f" {ALLOW_HTTP_VARIABLE}=true"
        )
    return parts
