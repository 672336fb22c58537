"""A small lake that can be served, and services over it: real processes, asked over real HTTP."""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest

from tunegraph_pipeline.recommend.bundle import BundleContent, write_bundle
from tunegraph_pipeline.recommend.genres import Genres
from tunegraph_pipeline.recommend.publication import publish
from tunegraph_pipeline_tests.serve.forked import ENVIRONMENT, Forked

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tunegraph_pipeline_tests.serve.browser import Open

N_TRACKS, N_USERS, DIMENSION = 240, 40, 16
_SCENES = ("Harbour", "Neon", "Meadow", "Static")
GENRES = ("Rock", "Jazz", "Folk", "Hip-Hop")
_THINGS = (
    "River",
    "Engine",
    "Window",
    "Sparrow",
    "Lantern",
    "Winter",
    "Signal",
    "Garden",
    "Satellite",
    "Coast",
)
_PATTERNS = ("{} Song", "After the {}", "No More {}s", "My {}", "{} at Night", "The Last {}")


def small_content(version: str = "v1", model: str = "m1", n_tracks: int = N_TRACKS) -> BundleContent:
    """Songs in four scenes: who likes one of a scene likes others of it. Ids are of the form of Spotify's.

    Every third song is marked explicit, every third not, and of the others nothing is known; every fourth has
    a cover and a preview. A scene is a genre, but of every fifth song it is unknown; tempo rises from 60 with
    the number of the song, years from 1980, and of every seventh song no feature is known.
    """
    rng = np.random.default_rng(5)
    scene = np.arange(n_tracks) % len(_SCENES)
    centres = rng.standard_normal((len(_SCENES), DIMENSION))
    embeddings = centres[scene] + 0.6 * rng.standard_normal((n_tracks, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    lists = [
        np.sort(rng.choice(np.flatnonzero(scene == user % len(_SCENES)), 12, replace=False))
        for user in range(N_USERS)
    ]
    rows, columns = np.nonzero(
        (scene[:, None] == scene[None, :])
        & ~np.eye(n_tracks, dtype=bool)
        & (rng.random((n_tracks,) * 2) < 0.2)
    )
    features = np.array([60 + np.arange(n_tracks) / 2, np.arange(n_tracks) % 10 / 10], dtype=np.float16)
    features[:, ::7] = np.nan
    genres = Genres.of_texts(GENRES, np.where(np.arange(n_tracks) % 5, scene, -1).astype(np.int32))
    popularity = np.bincount(np.concatenate(lists), minlength=n_tracks).astype(np.int32)
    return BundleContent(
        track_ids=[track_id(track) for track in range(n_tracks)],
        embeddings=embeddings.astype(np.float32),
        pooling_weight=np.ones(n_tracks, dtype=np.float32),
        popularity=popularity,
        recommendable=np.ones(n_tracks, dtype=np.bool_),
        prior=np.zeros(n_tracks, dtype=np.float32),
        neighbour_indptr=np.searchsorted(rows, np.arange(n_tracks + 1)).astype(np.int64),
        neighbour_indices=columns.astype(np.int32),
        neighbour_weight=rng.random(len(columns)).astype(np.float32),
        user_ids=[f"listener-{user}" for user in range(N_USERS)],
        user_indptr=np.cumsum([0, *map(len, lists)]),
        user_tracks=np.concatenate(lists).astype(np.int32),
        names=[track_name(track) for track in range(n_tracks)],
        artists=[artist_name(track) for track in range(n_tracks)],
        image_urls=[
            f"https://img.example.org/{track}.jpg" if track % 4 == 0 else "" for track in range(n_tracks)
        ],
        preview_urls=[
            f"https://cdn.example.org/{track}.mp3" if track % 4 == 0 else "" for track in range(n_tracks)
        ],
        years=(1980 + np.arange(n_tracks) // 6).astype(np.int32),
        feature_names=["tempo", "energy"],
        features=features,
        genre_names=genres.names,
        genre_indptr=genres.indptr,
        genre_tracks=genres.tracks,
        facts={
            "bundle_version": version,
            "model_version": model,
            "cut_off": "2026-06-01",
            "licences": [
                ["ListenBrainz", "CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"],
                ["imported files", "as the owner of each file says", ""],
            ],
            "blend": {"embedding": 2.0, "neighbour": 1.0, "length_exponent": 0.5},
            "calibration": None,
        },
    )


def track_id(track: int) -> str:
    return f"track{track:017d}"


def track_name(track: int) -> str:
    scene = track % len(_SCENES)
    thing = _THINGS[(track // len(_SCENES)) % len(_THINGS)]
    pattern = _PATTERNS[(track // (len(_SCENES) * len(_THINGS))) % len(_PATTERNS)]
    return f"{_SCENES[scene]} {pattern.format(thing)}"


def artist_name(track: int) -> str:
    return f"The {_SCENES[track % len(_SCENES)]} {_THINGS[(track // 7) % len(_THINGS)]}s"


def publish_version(lake: Path, content: BundleContent) -> None:
    """Write a bundle beside the others of the lake and make it live, as a refresh does."""
    version = str(content.facts["bundle_version"])
    write_bundle(lake / "serving" / version, content)
    publish(lake / "serving", version)


def make_lake(folder: Path, content: BundleContent) -> Path:
    """A lake with all that a service reads of one."""
    folder.mkdir(parents=True)
    description = {"format_version": 1, "created": "2026-06-01T00:00:00Z", "source": "files"}
    (folder / "lake.json").write_text(json.dumps(description))
    publish_version(folder, content)
    return folder


@dataclass
class RunningService:
    """A service in a process of its own. ``log`` grows with the lines of its access log."""

    process: subprocess.Popen[str] | Forked
    url: str
    lake: Path
    log: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, verify=False, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **options)

    def post(self, path: str, content: Any = None, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=content, **options)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)

    def workers(self) -> list[psutil.Process]:
        """The processes that answer, where there are several."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it ended just now
                if any("spawn_main" in part for part in child.cmdline()):
                    found.append(child)
        return found

    def worker_ids(self) -> set[int]:
        return {worker.pid for worker in self.workers()}

    def wait_for_replacement(self, gone: int, of: int = 2) -> None:
        """Wait until the worker of this process id is gone and there are as many as before."""
        self.wait_for(lambda: gone not in self.worker_ids() and len(self.worker_ids()) == of)

    def wait_for_answers(self) -> None:
        """Wait until whoever is asked answers."""

        def answered() -> bool:
            try:
                return self.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        self.wait_for(answered)

    def wait_for(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)


StartService = Callable[..., RunningService]


def start_service(
    lake: Path, *options: object, environment: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> RunningService:
    """Start `tunegraph serve` on a free port and wait until it listens. Options as on the command line."""
    arguments = [str(part) for part in ("serve", "--lake", lake, "--port", 0, *options)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNEGRAPH_")}
    chosen = {**kept, **ENVIRONMENT, **(environment or {})}
    process: subprocess.Popen[str] | Forked
    if prefix or "--workers" in options or "PYTHONPATH" in (environment or {}):
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tunegraph_pipeline", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=chosen,
        )
    else:
        process = Forked(arguments, chosen)
    service = RunningService(process, "", lake)
    try:
        service.url = _address(process, service.said)
    except AssertionError:
        process.kill()
        raise
    for stream, take in ((process.stdout, _take_log(service.log)), (process.stderr, service.said.append)):
        assert stream is not None
        threading.Thread(target=_drain, args=(stream, take), daemon=True).start()
    return service


def _address(process: subprocess.Popen[str] | Forked, said: list[str]) -> str:
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not selector.select(1):
                continue
            line = process.stderr.readline()
            if not line:
                break
            said.append(line.rstrip())
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                return found[1].replace("0.0.0.0", "127.0.0.1")
    raise AssertionError(f"the service did not start: {said}")


def _take_log(log: list[dict[str, Any]]) -> Callable[[str], None]:
    return lambda line: log.append(json.loads(line))


def _drain(stream: Any, take: Callable[[str], None]) -> None:
    for line in stream:
        take(line.rstrip("\n"))


@contextmanager
def below_prefix(url: str, prefix: str) -> Iterator[str]:
    """A proxy that serves what is at ``url`` below a prefix, which it strips from every path, as nginx does
    with `location /prefix/ { proxy_pass http://upstream/; }`. Yields its own address, with the prefix."""

    class Stripping(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            inside = self.path.startswith(prefix)
            length = int(self.headers.get("content-length") or 0)
            found = httpx.request(
                self.command,
                url + (self.path[len(prefix) - 1 :] if inside else "/nothing-outside-the-prefix"),
                content=self.rfile.read(length),
                headers={name: text for name, text in self.headers.items() if name.lower() != "host"},
                trust_env=False,
            )
            self.send_response(found.status_code)
            for name, text in found.headers.items():
                if name not in ("content-length", "date", "server", "content-encoding"):
                    self.send_header(name, text)
            self.send_header("content-length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_GET = do_POST = do  # noqa: N815  # the names that the standard library calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Stripping) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}{prefix}"
        finally:
            proxy.shutdown()
            thread.join()


@pytest.fixture
def serving_lake(tmp_path: Path) -> Path:
    """A lake of its own for a test, with a small live bundle."""
    return make_lake(tmp_path / "lake", small_content())


@pytest.fixture
def running_service(serving_lake: Path) -> Iterator[StartService]:
    """Starts services over `serving_lake`, with the options given; ended after the test.

    >>> service = running_service("--rate-limit", 5)  # doctest: +SKIP
    >>> service.get("/health").json()  # doctest: +SKIP
    """
    with ExitStack() as stack:

        def start(*options: object, lake: Path = serving_lake, **how: Any) -> RunningService:
            service = start_service(lake, *options, **how)
            stack.callback(_end, service.process)
            return service

        yield start


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for the tests of a module that ask and change nothing."""
    service = start_service(make_lake(tmp_path_factory.mktemp("shared") / "lake", small_content()))
    yield service
    end_service(service)


def end_service(service: "RunningService") -> None:
    """End the processes of a service that `start_service` started."""
    _end(service.process)


def _end(process: subprocess.Popen[str] | Forked) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium. Of one module each: while it runs, no other test of the process may have an event loop."""
    from tunegraph_pipeline_tests.serve.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def usual_page(browser: "Browser") -> Iterator["Page"]:
    """The page of most tests: a new context with a process to draw in costs more than what a test does."""
    from tunegraph_pipeline_tests.serve.browser import DESK, context_of

    with context_of(browser, viewport=DESK) as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def page_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service over the small lake, of which one song has a name that looks like HTML."""
    content = small_content()
    names = list(content.names)
    names[1] = '<img src=x onerror="document.title = 1"> & <b>bold</b>'
    service = start_service(
        make_lake(tmp_path_factory.mktemp("page") / "lake", replace(content, names=names))
    )
    yield service
    _end(service.process)


@pytest.fixture
def visit(browser: "Browser", usual_page: "Page", page_service: RunningService) -> Iterator["Open"]:
    """Opens the page of `page_service`, or of the service at ``url``: `browser.visits`."""
    from tunegraph_pipeline_tests.serve.browser import visits

    with visits(browser, usual_page, page_service.url) as open_page:
        yield open_page
