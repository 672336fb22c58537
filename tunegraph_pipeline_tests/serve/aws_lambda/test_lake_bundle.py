"""Following the live bundle of a lake in a store: fetched without its users, replaced, withdrawn, or kept
while the store is away. The real store is in `cluster/test_lake_on_store.py`."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.snapshots import Current, Entry, Snapshot
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.aws_lambda.lake_bundle import FollowedLake, followed
from tunegraph_pipeline_tests.recommend.conftest import golden_content, random_content
from tunegraph_pipeline_tests.serve.aws_lambda.test_bundle_fetch import Host, certificate, host

__all__ = ["certificate", "host"]

URL = "s3://bucket/lake"


@pytest.fixture(autouse=True)
def _environment(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**given, "AWS_ENDPOINT_URL": host.url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "TUNEGRAPH_RELOAD_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    followed.cache_clear()


class Store:
    """The objects of a lake on a host, of which a snapshot names those that were kept last."""

    def __init__(self, host: Host) -> None:
        self._host, self._number = host, 0

    def commit(self, files: dict[str, bytes]) -> None:
        self._number += 1
        entries = {}
        for place, (path, data) in enumerate(files.items()):
            key = f"files/{self._number}/{place:06d}"
            self._host.keep(f"/bucket/lake/{key}", data)
            entries[path] = Entry(len(data), hashlib.sha256(data).hexdigest(), 0, key)
        key = f"snapshots/{self._number}.json"
        self._host.keep(f"/bucket/lake/{key}", Snapshot(entries).to_json())
        self._host.keep(
            "/bucket/lake/CURRENT", Current(self._number, key).to_json(), ETag=f'"{self._number}"'
        )

    def publish(self, folder: Path) -> None:
        files = {f"serving/{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        self.commit({**files, "serving/CURRENT": folder.name.encode(), "likes/x": b"secret listener"})


@pytest.fixture
def store(host: Host) -> Store:
    return Store(host)


def bundle(folder: Path, content: Any = None) -> Path:
    write_bundle(folder, content or golden_content())
    (folder / "index.faiss").write_bytes(b"of a library that Lambda has not")
    return folder


def test_the_live_bundle_is_fetched_without_its_users_and_followed(
    store: Store, host: Host, tmp_path: Path
) -> None:
    content = random_content(5)
    named = replace(content, user_ids=[f"secret listener {user}" for user in range(20)])
    store.publish(bundle(tmp_path / "serving" / "v1", named))
    lake = FollowedLake(URL, 0, tmp_path / "storage")
    first = lake.folder()
    opened = Bundle.open(first)
    opened.verify()
    whole = Recommender(Bundle.open(tmp_path / "serving" / "v1"))
    assert Recommender(opened).recommend(["t1", "t3"]) == whole.recommend(["t1", "t3"])
    kept = [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]
    assert not any(b"secret" in path.read_bytes() or path.suffix == ".faiss" for path in kept)
    asked = host.asked.total()
    assert lake.folder() == first
    assert host.asked.total() <= asked + 3, "what is there is not fetched again"

    store.publish(bundle(tmp_path / "serving" / "v2"))
    second = lake.folder()
    assert second != first
    assert Bundle.open(second).n_tracks == Bundle.open(tmp_path / "serving" / "v2").n_tracks
    assert not first.exists()
    assert Recommender(opened).recommend(["t1"]) == whole.recommend(["t1"]), "what is mapped is still there"
    assert FollowedLake(URL, 0, tmp_path / "storage").folder() == second  # another process of the container


def test_it_is_looked_for_again_only_after_the_time_that_was_set(
    store: Store, host: Host, tmp_path: Path
) -> None:
    store.publish(bundle(tmp_path / "serving" / "v1"))
    lake = FollowedLake(URL, 3600, tmp_path / "storage")
    first, asked = lake.folder(), host.asked.total()
    store.publish(bundle(tmp_path / "serving" / "v2"))
    assert lake.folder() == first
    assert host.asked.total() == asked


def test_a_store_that_is_away_or_damaged_leaves_the_bundle_of_before(
    store: Store, host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.publish(bundle(tmp_path / "serving" / "v1"))
    lake = FollowedLake(URL, 0, tmp_path / "storage")
    first = lake.folder()
    store.publish(bundle(tmp_path / "serving" / "v2", random_content(5)))
    answers = dict(host.answers)
    for address, (status, headers, data) in answers.items():
        if address.startswith("/bucket/lake/files/2/") and data != b"v2":
            host.answers[address] = (status, headers, bytes(255 - byte for byte in data))
    assert lake.folder() == first
    assert "does not match its checksum" in caplog.text
    host.answers.clear()
    assert lake.folder() == first
    assert "there is no lake at s3://bucket/lake" in caplog.text
    host.answers.update(answers)
    assert lake.folder() != first


def test_a_bundle_that_was_withdrawn_is_no_longer_there(store: Store, tmp_path: Path) -> None:
    store.publish(bundle(tmp_path / "serving" / "v1"))
    lake = FollowedLake(URL, 0, tmp_path / "storage")
    first = lake.folder()
    store.commit({"lake.json": b"{}"})
    with pytest.raises(BundleError, match="s3://bucket/lake has no live bundle"):
        lake.folder()
    assert not first.exists()


@pytest.mark.parametrize(
    ("variables", "url", "said"),
    [
        ({}, URL, "there is no lake at s3://bucket/lake"),
        ({}, "s3://bucket", "TUNEGRAPH_LAKE: --lake s3://bucket"),
        ({"TUNEGRAPH_RELOAD_SECONDS": "soon"}, URL, "TUNEGRAPH_RELOAD_SECONDS=soon: give seconds"),
        ({"AWS_ENDPOINT_URL": "http://store.example.org"}, URL, "is not encrypted"),
        ({"AWS_ENDPOINT_URL": "https://127.0.0.1:9"}, URL, "cannot be fetched"),
        ({"AWS_REGION": ""}, URL, "needs AWS_REGION"),
    ],
)
def test_what_cannot_be_followed_is_a_line(
    variables: dict[str, str], url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BundleError) as found:
        followed(url).folder()
    assert said in str(found.value)
    assert "\n" not in str(found.value)
    assert "secret" not in str(found.value)


def test_a_current_that_is_none_is_refused(host: Host, tmp_path: Path) -> None:
    host.keep("/bucket/lake/CURRENT", json.dumps({"other": 1}).encode())
    with pytest.raises(BundleError, match="CURRENT is not that of a lake"):
        FollowedLake(URL, 0, tmp_path).folder()
