"""A server of files: listings, small files and ranges of large ones, under a request policy.

Here: requests, retries, and noticing that a file is not the one that was begun. Not here: which files there
are (`published`), or what is kept of them on disk (`archive`).

Every request has a timeout. Redirects are not followed. A failed attempt is repeated after a random, growing
pause; one that brought bytes does not count as failed, so that a slow line is no reason to give up.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import unquote

import requests
from requests.exceptions import RequestException

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.api_session import RequestPolicy, base_url, retry_after
from tunegraph_pipeline.sources.source import CrawlPaused, NoAnswer

_CONNECT_SECONDS = 5.0
_CHUNK = 1 << 18
_LARGEST_TEXT = 32 << 20  # a listing of every dump there ever was is below 1 MB
_LONGEST_PAUSE = 20.0
_HREF = re.compile(r'href="([^"]+)"', re.IGNORECASE)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Identity:
    """What tells one version of a file from another: its size in bytes, and the marks its server gives it."""

    size: int
    etag: str | None
    modified: str | None


class MissingFileError(Exception):
    """The mirror does not have the file, or no longer."""


class ReplacedFileError(Exception):
    """The file is not the one that was begun: another size, or another mark."""


class _FailedAttempt(Exception):  # noqa: N818
    """The request has to be sent again, after ``wait`` seconds or the usual pause."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class Mirror:
    """The folder of dumps at ``url``. One thread at a time.

    ``counts`` has the requests, the retries and the bytes received of files. Raises InputError for an address
    that is none, or that answers with what no server of files does; NoAnswer where it does not answer at all;
    CrawlPaused where it asks for a longer wait than the policy allows.
    """

    def __init__(self, url: str, policy: RequestPolicy, timeout: float = 20.0) -> None:
        self.url, _ = base_url(url, "settings.listenbrainz_dumps.mirror")
        self.counts: Counter[str] = Counter()
        self._policy = policy
        self._timeout = (min(_CONNECT_SECONDS, timeout), timeout)
        self._session = requests.Session()
        self._session.trust_env = False  # ignore .netrc and proxies of the environment
        self._session.headers["Accept-Encoding"] = "identity"  # ranges are of the file as it is

    def close(self) -> None:
        self._session.close()

    def listing(self, folder: str) -> list[str]:
        """The names in ``folder``, which ends with a slash; those of folders do too. Raises
        MissingFileError."""
        page = self.text(folder)
        names = (unquote(href) for href in _HREF.findall(page))
        return sorted({name for name in names if "/" not in name.removesuffix("/") and name[0] not in "?."})

    def text(self, path: str) -> str:
        """A small file. Raises MissingFileError."""

        def read() -> str:
            with self._answer("GET", path) as response:
                if response.status_code != 200:
                    raise _FailedAttempt(f"status {response.status_code}")
                body = bytearray()
                for chunk in response.iter_content(_CHUNK):
                    body += chunk
                    if len(body) > _LARGEST_TEXT:
                        raise InputError(f"{self._named(path)} is far larger than a listing or a checksum")
                return body.decode(errors="replace")

        return self._repeat(path, read)

    def identity(self, path: str) -> Identity:
        """The size of a file and its marks. Raises MissingFileError."""

        def ask() -> Identity:
            with self._answer("HEAD", path) as response:
                size = response.headers.get("Content-Length", "")
                if response.status_code != 200 or not size.isdecimal():
                    raise _FailedAttempt(f"status {response.status_code} without a size")
                return _identity(response, int(size))

        return self._repeat(path, ask)

    def fetch(
        self, path: str, known: Identity, start: int, end: int, write: Callable[[bytes], object]
    ) -> None:
        """Give ``write`` the bytes ``start`` to ``end`` (not included) of a file, in order, each once. Raises
        ReplacedFileError where the file is not the ``known`` one, and MissingFileError."""
        at = start

        def go_on() -> None:
            nonlocal at
            for chunk in self._range(path, known, at, end):
                write(chunk)
                at += len(chunk)
                self.counts["bytes"] += len(chunk)

        self._repeat(path, go_on, lambda: at)

    def _range(self, path: str, known: Identity, start: int, end: int) -> Iterator[bytes]:
        """One attempt: as much of a range as arrives. Raises _FailedAttempt where that is not all."""
        with self._answer("GET", path, {"Range": f"bytes={start}-{end - 1}"}) as response:
            status = response.status_code
            if status == 416:
                self._check_same(path, known)
                raise _FailedAttempt("status 416 for a part that the file has")
            if status != 206:
                raise _FailedAttempt(f"status {status} in place of a part of the file")
            given = re.fullmatch(
                r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip()
            )
            if given is None:
                raise _FailedAttempt("a part of the file that does not say which")
            first, last, size = map(int, given.groups())
            if _identity(response, size) != known:
                # A faulty answer is not yet another file.
                self._check_same(path, known)
                raise _FailedAttempt("a part of another file")
            if first != start or last >= end:
                raise _FailedAttempt("another part of the file than asked for")
            left = end - start
            for chunk in response.iter_content(_CHUNK):
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    return
            raise _FailedAttempt("half an answer")

    def _check_same(self, path: str, known: Identity) -> None:
        if self.identity(path) != known:
            raise ReplacedFileError(path)

    @contextmanager
    def _answer(
        self, method: str, path: str, headers: dict[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """The answer to one request, its body not yet read. Raises _FailedAttempt where there is none."""
        self.counts["requests"] += 1
        try:
            with self._session.request(
                method,
                f"{self.url}/{path}",
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                self._check_status(response, path)
                yield response
        except RequestException as error:
            raise _FailedAttempt(f"no answer ({type(error).__name__})") from error

    def _check_status(self, response: requests.Response, path: str) -> None:
        status = response.status_code
        if status in (404, 410):
            raise MissingFileError(path)
        if 300 <= status < 400:
            raise InputError(
                f"{self._named(path)} leads to {response.headers.get('Location', 'nowhere')}; give the"
                " address where the dumps are: --mirror URL"
            )
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            wait = retry_after(response)
            if wait > self._policy.longest_wait:
                until = (datetime.now(UTC) + timedelta(seconds=wait)).strftime("%Y-%m-%d %H:%M UTC")
                raise CrawlPaused(
                    f"{self.url} asks not to be asked again before {until}; what was fetched is kept; run it"
                    " again then"
                )
            raise _FailedAttempt(f"status {status}", wait)
        if status in (401, 403):
            raise InputError(f"{self._named(path)} is not open to everybody (status {status})")

    def _repeat(
        self, path: str, ask: Callable[[], _Answer], progress: Callable[[], int] = lambda: 0
    ) -> _Answer:
        failed = 0
        while True:
            before = progress()
            try:
                return ask()
            except _FailedAttempt as error:
                self.counts["retries"] += 1
                failed = 1 if progress() > before else failed + 1
                if failed >= self._policy.attempts:
                    raise NoAnswer(
                        f"{self._named(path)}: {error}, {failed} times in a row; what was fetched is kept;"
                        " run it again later"
                    ) from error
                most = min(_LONGEST_PAUSE, 0.1 * 2.0**failed)
                time.sleep(random.uniform(0, most) if error.wait is None else error.wait)  # noqa: S311

    def _named(self, path: str) -> str:
        return f"{self.url}/{path}"


def _identity(response: requests.Response, size: int) -> Identity:
    return Identity(size, response.headers.get("ETag"), response.headers.get("Last-Modified"))
