"""The version that is served, while it changes: no request fails, and only a sound one takes over."""

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.recommend.bundle import CURRENT, write_bundle
from tunegraph_pipeline.recommend.publication import withdraw
from tunegraph_pipeline_tests.recommend.conftest import add_small_index, clustered_content
from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    StartService,
    publish_version,
    small_content,
    track_id,
)

pytestmark = pytest.mark.slow

QUICK = ("--reload-seconds", 0.05)


def make_current(lake: Path, version: str) -> None:
    """As a roll-back does, without its checks."""
    draft = lake / "serving" / ".current"
    draft.write_text(version)
    draft.replace(lake / "serving" / CURRENT)


def ready(service: RunningService) -> dict[str, Any]:
    found: dict[str, Any] = service.get("/ready").json()
    return found


class Asking:
    """Asks for as long as it is entered, over a few connections; `answers` are (status, bundle version).
    Each waits ``pause`` seconds between two questions."""

    def __init__(self, service: RunningService, n_threads: int = 4, pause: float = 0.0) -> None:
        self._pause = pause
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(n_threads)]

    def _ask(self, number: int) -> None:
        with self._service.client() as client:
            while not self._stop.wait(self._pause):
                try:
                    answer = client.post("/recommendations", json={"likes": [track_id(number)], "k": 5})
                    self.answers.append((answer.status_code, answer.json().get("bundle_version", "")))
                except Exception as error:  # noqa: BLE001  # whatever a client sees is a failure
                    self.failures.append(repr(error))

    def wait_for_version(self, version: str) -> None:
        """Wait until one of the last few answers is of this version."""
        self._service.wait_for(lambda: version in {found for _, found in self.answers[-4:]})

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_new_bundles_take_over_under_load_without_a_failed_request(
    running_service: StartService, workers: int
) -> None:
    service = running_service(*QUICK, "--workers", workers)
    for number in range(2, 8):
        write_bundle(service.lake / "serving" / f"v{number}", small_content(f"v{number}"))
    with Asking(service) as asking:
        for number in range(2, 8):
            make_current(service.lake, f"v{number}")
            asking.wait_for_version(f"v{number}")
            # Of old ones not even the files are needed any more.
            if number > 3:
                shutil.rmtree(service.lake / "serving" / f"v{number - 2}")
    assert asking.failures == []
    assert {status for status, _ in asking.answers} == {200}
    assert {version for _, version in asking.answers} >= {f"v{number}" for number in range(2, 8)}


def test_what_belongs_to_a_version_changes_with_it(running_service: StartService) -> None:
    service = running_service(*QUICK)
    before = service.get("/map?limit=5")
    content = small_content("v2", "m1")
    publish_version(service.lake, content)
    service.wait_for(lambda: ready(service)["bundle_version"] == "v2")
    after = service.get("/map?limit=5", headers={"if-none-match": before.headers["etag"]})
    assert after.json()["bundle_version"] == "v2"
    assert service.get("/version").json()["bundle_version"] == "v2"
    counts = service.get("/metrics").text
    assert 'tunegraph_bundle_info{bundle_version="v2",model_version="m1"} 1.0' in counts
    assert 'bundle_version="v1"' not in counts
    assert 'tunegraph_reloads_total{outcome="taken"} 1.0' in counts
    assert any("serving bundle v2" in line for line in service.said)


def damage(folder: Path) -> None:
    path = folder / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_bundle_is_refused_the_old_one_stays_and_ready_says_why(
    running_service: StartService,
) -> None:
    service = running_service(*QUICK)
    write_bundle(service.lake / "serving" / "v2", small_content("v2"))
    damage(service.lake / "serving" / "v2")
    with Asking(service) as asking:
        make_current(service.lake, "v2")
        service.wait_for(lambda: ready(service)["status"] == "degraded")
    assert asking.failures == []
    assert set(asking.answers) == {(200, "v1")}
    found = service.get("/ready")
    assert found.status_code == 200
    assert found.json()["bundle_version"] == "v1"
    assert re.search(r"v2/embeddings\.npy", found.json()["problem"])
    assert "tunegraph_newest_bundle_refused 1.0" in service.get("/metrics").text
    assert [line for line in service.said if "refused" in line and "bundle v1 is still served" in line]
    shutil.rmtree(service.lake / "serving" / "v2")
    write_bundle(service.lake / "serving" / "v2", small_content("v2"))
    service.wait_for(lambda: ready(service)["status"] == "ready")
    assert ready(service) == {"status": "ready", "bundle_version": "v2", "problem": None}


@pytest.mark.parametrize("what", ["nowhere", "../../etc", ""])
def test_a_current_that_names_nothing_changes_nothing(running_service: StartService, what: str) -> None:
    service = running_service(*QUICK)
    make_current(service.lake, what)
    service.wait_for(lambda: ready(service)["status"] == "degraded")
    assert service.post("/recommendations", {"likes": [track_id(1)]}).json()["bundle_version"] == "v1"
    make_current(service.lake, "v1")
    service.wait_for(lambda: ready(service)["status"] == "ready")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_withdrawn_bundles_are_served_no_longer_and_the_next_one_is_checked(
    running_service: StartService, workers: int
) -> None:
    service = running_service(*QUICK, "--workers", workers)
    stored = "/users/listener-1/recommendations"
    assert service.get(stored).status_code == 200
    withdraw(service.lake / "serving")
    service.wait_for(lambda: {service.get("/ready").status_code for _ in range(20)} == {503})
    assert service.get(stored).status_code == 503
    assert "no bundle is live" in ready(service)["detail"]
    assert any("bundle v1 was withdrawn" in line for line in service.said)
    write_bundle(service.lake / "serving" / "v2", small_content("v2"))
    damage(service.lake / "serving" / "v2")
    make_current(service.lake, "v2")
    service.wait_for(lambda: {"embeddings.npy" in ready(service)["detail"] for _ in range(20)} == {True})
    assert service.get(stored).status_code == 503
    publish_version(service.lake, small_content("v3"))
    service.wait_for(lambda: {service.get(stored).status_code for _ in range(20)} == {200})
    assert ready(service) == {"status": "ready", "bundle_version": "v3", "problem": None}
    assert any("serving bundle v3" in line for line in service.said)


def test_a_lake_that_cannot_be_reached_is_not_a_withdrawal(running_service: StartService) -> None:
    service = running_service(*QUICK)
    (service.lake / "serving").rename(service.lake / "elsewhere")
    service.wait_for(lambda: ready(service)["status"] == "degraded")
    assert service.get("/users/listener-1/recommendations").status_code == 200


def test_a_bundle_that_answers_no_query_is_refused(running_service: StartService) -> None:
    service = running_service(*QUICK)
    content = small_content("v2")
    folder = service.lake / "serving" / "v2"
    write_bundle(folder, content)
    # Written so, and with the right checksum: every name in it is bytes that are no text.
    broken = folder.with_name("v3")
    shutil.copytree(folder, broken)
    names = np.load(broken / "names.bytes.npy")
    np.save(broken / "names.bytes.npy", np.full_like(names, 0xFF))
    _declare_anew(broken, "v3")
    make_current(service.lake, "v3")
    service.wait_for(lambda: ready(service)["status"] == "degraded")
    assert "does not answer a query" in ready(service)["problem"]
    assert service.post("/recommendations", {"likes": [track_id(1)]}).json()["bundle_version"] == "v1"
    make_current(service.lake, "v2")
    service.wait_for(lambda: ready(service)["bundle_version"] == "v2")


def _declare_anew(folder: Path, version: str) -> None:
    import hashlib
    import json

    path = folder / "manifest.json"
    manifest = read_json(path.read_bytes())
    manifest["facts"]["bundle_version"] = version
    changed = (folder / "names.bytes.npy").read_bytes()
    manifest["parts"]["names.bytes.npy"]["sha256"] = hashlib.sha256(changed).hexdigest()
    path.write_text(json.dumps(manifest))


def test_a_worker_that_takes_the_place_of_a_dead_one_does_not_begin_with_a_damaged_bundle(
    running_service: StartService,
) -> None:
    service = running_service(*QUICK, "--workers", 2)
    write_bundle(service.lake / "serving" / "v2", small_content("v2"))
    damage(service.lake / "serving" / "v2")
    make_current(service.lake, "v2")
    service.wait_for(lambda: ready(service)["status"] == "degraded")
    for worker in service.workers():
        worker.kill()
        service.wait_for_replacement(worker.pid)
    service.wait_for_answers()
    for _ in range(10):
        found = service.get("/ready")
        assert found.status_code == 200
        assert found.json()["bundle_version"] == "v1"
        assert "v2" in found.json()["problem"]


@pytest.mark.slow
def test_an_index_without_its_library_is_told_of_and_queries_are_answered(
    running_service: StartService, serving_lake: Path, tmp_path: Path
) -> None:
    folder = serving_lake / "serving" / "clustered"
    write_bundle(folder, clustered_content(), lambda draft: {"index": add_small_index(draft)})
    make_current(serving_lake, "clustered")
    (tmp_path / "faiss.py").write_text("raise ImportError('no faiss here')\n")
    assert ready(running_service()) == {"status": "ready", "bundle_version": "clustered", "problem": None}
    without = running_service(environment={"PYTHONPATH": str(tmp_path)})
    found = ready(without)
    assert found["status"] == "degraded"
    assert "pip install 'tunegraph-pipeline[index]'" in found["problem"]
    answer = without.post("/recommendations", {"likes": ["t1", "t2"], "k": 5})
    assert len(answer.json()["items"]) == 5
