import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from dagster import AssetCheckResult
from pydantic import ValidationError

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import checks
from tunegraph_pipeline.pipeline.services import served_by
from tunegraph_pipeline.pipeline.settings import ServicesSettings
from tunegraph_pipeline.recommend.bundle import BundleContent, write_bundle
from tunegraph_pipeline.recommend.publication import publish


class Service:
    """Says on /version what it is told to, in turn; the last answer is repeated."""

    def __init__(self, *answers: str) -> None:
        self.asked = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name http.server calls
                body = answers[min(service.asked, len(answers) - 1)].encode()
                service.asked += 1
                self.send_response(200 if self.path == "/version" and body else 503)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def services() -> Iterator[list[Service]]:
    """Append to it what is to be shut down in the end."""
    started: list[Service] = []
    yield started
    for service in started:
        service.server.shutdown()
        service.server.server_close()


def version(name: str) -> str:
    return json.dumps({"bundle_version": name, "model_version": "m"})


def test_a_service_has_some_time_to_come_to_the_new_version(services: list[Service]) -> None:
    late = Service(version("v1"), version("v1"), version("v2"))
    services.append(late)
    assert served_by(ServicesSettings(urls=[f"{late.url}/"], patience=30), "v2") == {f"{late.url}/": "v2"}
    assert late.asked == 3


def test_a_service_that_stays_behind_or_does_not_answer_is_told_apart(services: list[Service]) -> None:
    services += [Service(version("v1")), Service("not json"), Service("")]
    urls = [*(service.url for service in services), "http://127.0.0.1:1"]
    answers = served_by(ServicesSettings(urls=urls, patience=0), "v2")
    assert answers[urls[0]] == "v1"
    assert answers[urls[2]] == "no version (HTTPError)"
    assert answers[urls[3]] == "no version (ConnectionError)"
    assert answers[urls[1]].startswith("no version (")


def test_the_check_compares_every_named_service_with_what_is_live(
    services: list[Service], tmp_path: Path
) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    write_bundle(lake.serving / "v2", one_song("v2"))
    publish(lake.serving, "v2")
    assert check(lake).passed  # no service is named
    services += [Service(version("v2")), Service(version("v1"))]
    lake.set_section("services", {"urls": [services[0].url], "patience": 0})
    assert check(lake).passed
    lake.set_section("services", {"urls": [service.url for service in services], "patience": 0})
    found = check(lake)
    assert not found.passed
    assert f"{services[1].url}: v1" in str(found.description)


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError):
        ServicesSettings.model_validate({"url": "http://127.0.0.1:8000"})


def check(lake: Lake) -> AssetCheckResult:
    found = checks.services_serve_it(lake=lake)
    assert isinstance(found, AssetCheckResult)
    return found


def one_song(name: str) -> BundleContent:
    one = np.ones(1, dtype=np.float32)
    nothing = np.zeros(0, dtype=np.int32)
    return BundleContent(
        track_ids=["a"],
        embeddings=one[:, None],
        pooling_weight=one,
        popularity=np.ones(1, dtype=np.int32),
        recommendable=np.ones(1, dtype=np.bool_),
        prior=one,
        neighbour_indptr=np.zeros(2, dtype=np.int64),
        neighbour_indices=nothing,
        neighbour_weight=nothing.astype(np.float32),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=nothing,
        names=["A"],
        artists=[""],
        image_urls=[""],
        preview_urls=[""],
        facts={
            "bundle_version": name,
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.0},
        },
    )
