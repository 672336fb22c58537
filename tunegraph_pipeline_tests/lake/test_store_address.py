"""Addresses of lakes in object stores, and what is said without the extra; no store is asked."""

import sys
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake import snapshots
from tunegraph_pipeline.lake.snapshots import Node, lake_path, outbox_of, shown
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    folder = lake_path(str(tmp_path / "lake"))
    assert folder == tmp_path / "lake"
    assert (shown(folder), outbox_of(folder), Node.of(folder)) == (str(folder), folder, None)
    snapshots.pull(folder)
    snapshots.commit(folder)
    snapshots.send(folder)
    assert not folder.exists()


def test_an_address_has_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGRAPH_CACHE", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://one.example.org")
    root = lake_path("s3://bucket/lake/")
    assert root.is_relative_to(tmp_path)
    assert root == lake_path("s3://bucket/lake")
    assert shown(root) == "s3://bucket/lake"
    assert root.parent.stat().st_mode & 0o777 == 0o700
    assert lake_path("s3://bucket/other") != root
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://other.example.org")
    assert lake_path("s3://bucket/lake") != root


@pytest.mark.parametrize(
    "given", ["gs://bucket/lake", "http://host/lake", "s3://bucket", "s3://b", "s3://a/../b"]
)
def test_other_addresses_are_refused(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGRAPH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        lake_path(given)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGRAPH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    line = complaint(tunegraph("status", "--lake", "s3://bucket/lake"))
    assert line == (
        "tunegraph: s3://bucket/lake needs the library obstore; install tunegraph-pipeline[cluster]"
    )
