"""Follow the live bundle of a lake in an object store, for a function whose zip does not contain one.

Here: asking the lake's store now and then which bundle is live, and fetching another one without its users.
Not here: signing requests (`bundle_fetch`), or what the objects of a lake are (`lake.snapshots`). Only numpy
and the standard library; it reads alone, so `s3:GetObject` suffices.

While nothing changed, a look is one request. A function that cannot reach the store goes on with the bundle
it has; its log says why.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError, TuneGraphError
from tunegraph_pipeline.lake.arrays import MANIFEST, StringColumn, write_arrays
from tunegraph_pipeline.lake.object_store import Address, checked_endpoint
from tunegraph_pipeline.lake.seals import read_json, read_name
from tunegraph_pipeline.lake.snapshots import CURRENT, Current, Entry, Snapshot
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.serve.aws_lambda.bundle_fetch import (
    BLOCK,
    AnswerError,
    answer_of,
    check_room,
    locked,
    signed_request,
)

RELOAD_VARIABLE = "TUNEGRAPH_RELOAD_SECONDS"
_RELOAD_SECONDS = 60.0
_LIVE = "serving/CURRENT"
_CONNECTIONS = 8
_ATTEMPTS = 3
"""Each at the newest snapshot: the objects of an earlier one may be deleted while they are fetched."""
OF_USERS = frozenset(
    {
        *("user_ids.bytes.npy", "user_ids.offsets.npy", "user_hashes.npy", "user_hash_order.npy"),
        *("user_indptr.npy", "user_tracks.npy", "user_ages.npy"),
        *("disliked_indptr.npy", "disliked_tracks.npy"),
    }
)
"""The arrays of a bundle that say who its users are, and what they like."""

_log = logging.getLogger("tunegraph")


@cache
def followed(address: str) -> "FollowedLake":
    """The lake at ``address``, followed by this process as often as ``TUNEGRAPH_RELOAD_SECONDS`` says. Raises
    BundleError where one of them cannot be."""
    given = os.environ.get(RELOAD_VARIABLE)
    try:
        seconds = _RELOAD_SECONDS if given is None else float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise BundleError(f"{RELOAD_VARIABLE}={given}: give seconds, from 0 to 86400")
    return FollowedLake(address, seconds)


class FollowedLake:
    """The live bundle of the lake at ``address`` (``s3://bucket/prefix``) in a folder below ``storage``, by
    default the system's for temporary files; looked for again once ``every_seconds`` have passed."""

    def __init__(self, address: str, every_seconds: float, storage: Path | None = None) -> None:
        try:
            self._address = Address.of(address)
            self._encrypted = checked_endpoint(self._address).scheme != "http"
        except TuneGraphError as error:
            raise BundleError(f"TUNEGRAPH_LAKE: {error}") from None
        name = hashlib.sha256(address.encode()).hexdigest()[:20]
        self._storage = (storage or Path(tempfile.gettempdir())) / "tunegraph" / name
        self._every = every_seconds
        self._looked = 0.0
        self._tag = ""
        self._folder: Path | None = None

    def folder(self) -> Path:
        """The folder of the bundle to answer from.

        Raises BundleError where the lake has no live bundle, or, before the first was fetched, where its
        store cannot be read; the next call tries again.
        """
        now = time.time()  # of the wall: a function is frozen between two requests
        if self._folder is None or not 0 <= now - self._looked < self._every:
            self._looked = now
            try:
                self._look()
            except BundleError as error:
                if self._folder is None:
                    raise
                _log.error("the lake cannot be followed at present: %s", error)
        assert self._folder is not None
        return self._folder

    def _look(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if (found := self._read_current()) is not None:
                    current, tag = found
                    self._folder = self._bring(current)
                    self._tag = tag
            except AnswerError as error:
                if error.status != HTTPStatus.NOT_FOUND or attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _read_current(self) -> tuple[Current, str] | None:
        """What ``CURRENT`` says, with its tag; None while it is the one of the last look."""
        headers = {"If-None-Match": self._tag} if self._tag else {}
        try:
            data, tag = self._read(CURRENT, headers)
        except AnswerError as error:
            if error.status == HTTPStatus.NOT_MODIFIED:
                return None
            if error.status == HTTPStatus.NOT_FOUND:
                raise BundleError(f"there is no lake at {self._address.url}") from None
            raise
        try:
            return Current(**json.loads(data)), tag
        except (ValueError, TypeError):
            raise BundleError(f"{self._address.url}/{CURRENT} is not that of a lake") from None

    def _bring(self, current: Current) -> Path:
        """Have the live bundle of a snapshot in the storage; returns its folder, and removes all others."""
        try:
            files = Snapshot.of_json(self._read(current.key)[0]).files
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{self._address.url}/{current.key} is damaged ({error})") from None
        if _LIVE not in files:
            self._folder = None  # it was withdrawn
            self._remove_others(None)
            raise BundleError(f"{self._address.url} has no live bundle; a refresh publishes one")
        try:
            version = read_name(self._read(files[_LIVE].key)[0].decode())
        except ValueError as error:
            raise BundleError(f"{self._address.url}/{files[_LIVE].key} is damaged ({error})") from None
        inside = f"serving/{version}/"
        parts = {path.removeprefix(inside): one for path, one in files.items() if path.startswith(inside)}
        content = json.dumps(sorted((name, one.sha256) for name, one in parts.items()))
        folder = self._storage / hashlib.sha256(content.encode()).hexdigest()[:20]
        try:
            self._storage.mkdir(parents=True, exist_ok=True)
            with locked(self._storage / ".lock"):
                if not folder.is_dir():
                    self._fetch(parts, self._storage / ".draft", folder)
                self._remove_others(folder)
        except OSError as error:
            raise BundleError(f"cannot store the bundle of {self._address.url}: {error}") from error
        return folder

    def _fetch(self, parts: Mapping[str, Entry], draft: Path, folder: Path) -> None:
        shutil.rmtree(draft, ignore_errors=True)  # left by a function that timed out
        draft.mkdir()
        try:
            if MANIFEST not in parts:
                raise BundleError(f"the live bundle of {self._address.url} is not there; a refresh makes one")
            # Other files belong to libraries that a function does not have.
            wanted = sorted(name for name in parts if name.endswith(".npy") and name not in OF_USERS)
            check_room(sum(parts[name].size for name in wanted), draft, self._address.url)
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                list(pool.map(lambda name: self._fetch_part(parts[name], draft / name), wanted))
            manifest = read_json(self._read(parts[MANIFEST].key)[0])
            write_without_users(draft, manifest["facts"], manifest["parts"]["user_hashes.npy"])
            Bundle.open(draft)
            draft.rename(folder)
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"the manifest of the live bundle of {self._address.url} is damaged ({error})"
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fetch_part(self, entry: Entry, target: Path) -> None:
        digest = hashlib.sha256()
        with self._answer(entry.key) as answer, target.open("xb") as file:
            while block := answer.read(BLOCK):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != entry.sha256:
            raise BundleError(f"{self._address.url}/{entry.key} does not match its checksum")

    def _remove_others(self, folder: Path | None) -> None:
        """Remove bundles that are no longer live; one that is still mapped stays readable."""
        for other in self._storage.glob("[0-9a-f]*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def _read(self, key: str, headers: Mapping[str, str] | None = None) -> tuple[bytes, str]:
        """The content of an object and its tag."""
        with self._answer(key, headers) as answer:
            return answer.read(), answer.headers.get("ETag", "")

    def _answer(self, key: str, headers: Mapping[str, str] | None = None) -> Any:
        address = self._address
        request = signed_request(address.bucket, f"{address.prefix}/{key}", address.endpoint)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        return answer_of(request, f"{address.url}/{key}", encrypted=self._encrypted)


def write_without_users(folder: Path, facts: Mapping[str, Any], hashes: Mapping[str, Any]) -> None:
    """Write the manifest of a bundle, and for its users arrays that name nobody, into a ``folder`` that has
    its other arrays. ``hashes`` is how its ``user_hashes.npy`` is declared: ``shape`` and ``dtype``."""
    n = int(hashes["shape"][0])
    empty_lists: NDArray[Any] = np.zeros(n + 1, dtype=np.int64)
    blanks: dict[str, NDArray[Any] | StringColumn] = {
        "user_ids": StringColumn(np.zeros(0, dtype=np.uint8), empty_lists),
        "user_hashes": np.zeros(n, dtype=np.dtype(hashes["dtype"])),
        "user_hash_order": np.arange(n, dtype=np.int32),
        "user_indptr": empty_lists,
        "user_tracks": np.zeros(0, dtype=np.int32),
        "disliked_indptr": empty_lists,
        "disliked_tracks": np.zeros(0, dtype=np.int32),
    }
    write_arrays(folder, blanks, {**facts, "without_users": True})
