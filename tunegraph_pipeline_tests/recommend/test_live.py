import dataclasses
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake import arrays
from tunegraph_pipeline.recommend.bundle import CURRENT, BundleContent, write_bundle
from tunegraph_pipeline.recommend.live import LiveRecommender

Golden = Callable[..., BundleContent]


@pytest.fixture
def serving(golden: Golden, tmp_path: Path) -> Path:
    folder = tmp_path / "serving"
    for version in ("v1", "v2"):
        names = [f"{name} of {version}" for name in golden().names]
        write_bundle(folder / version, dataclasses.replace(golden(version), names=names))
    make_current(folder, "v1")
    return folder


def make_current(folder: Path, version: str) -> None:
    draft = folder / ".draft"
    draft.write_text(version + "\n")
    draft.replace(folder / CURRENT)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_new_version_takes_over_and_who_has_the_old_one_keeps_it(serving: Path) -> None:
    live = LiveRecommender(serving)
    old = live.current
    assert live.refresh() is False
    make_current(serving, "v2")
    assert live.refresh() is True
    assert live.current.bundle.version == "v2"
    shutil.rmtree(serving / "v1")
    assert old.recommend(["a"]).items[0].song.name == " of v1"  # the fourth song has no name but this
    assert live.refresh() is False


@pytest.mark.parametrize("part", ["embeddings.npy", "names.bytes.npy", "manifest.json"])
def test_a_damaged_version_is_refused_and_the_old_one_stays(serving: Path, part: str) -> None:
    live = LiveRecommender(serving)
    flip_a_byte(serving / "v2" / part)
    if part == "manifest.json":
        (serving / "v2" / part).write_text("{")
    make_current(serving, "v2")
    assert live.refresh() is False
    assert live.current.bundle.version == "v1"
    assert live.problem is not None
    assert part in live.problem
    # Written anew, it is looked at again.
    shutil.rmtree(serving / "v2")
    shutil.copytree(serving / "v1", serving / "v2")
    assert live.refresh() is False
    assert "says it is bundle v1" in str(live.problem)
    make_current(serving, "v1")
    assert live.refresh() is False
    assert live.problem is None


def test_a_refused_version_that_is_written_anew_takes_over(serving: Path, golden: Golden) -> None:
    live = LiveRecommender(serving)
    flip_a_byte(serving / "v2" / "embeddings.npy")
    make_current(serving, "v2")
    live.refresh()
    assert live.current.bundle.version == "v1"
    shutil.rmtree(serving / "v2")
    write_bundle(serving / "v2", golden("v2"))
    before = (serving / "v2").stat()
    os.utime(serving / "v2", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert live.refresh() is True
    assert live.problem is None


@pytest.mark.parametrize(("part", "fault"), [("_map", errno.EMFILE), ("_checksum", errno.EIO)])
def test_a_version_that_the_system_could_not_read_for_a_while_takes_over_then(
    serving: Path, monkeypatch: pytest.MonkeyPatch, part: str, fault: int
) -> None:
    live = LiveRecommender(serving)
    make_current(serving, "v2")

    def refuse(_path: Path) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(arrays, part, refuse)
        assert live.refresh() is False
        assert os.strerror(fault) in str(live.problem)
    assert live.refresh() is True
    assert live.problem is None


def test_a_version_that_is_gone_or_a_name_that_is_none_is_refused(serving: Path) -> None:
    live = LiveRecommender(serving)
    for version in ("v9", "../v2", ""):
        make_current(serving, version)
        assert live.refresh() is False
        assert live.current.bundle.version == "v1"
        assert live.problem
    (serving / CURRENT).unlink()
    assert live.refresh() is False
    assert "published" in str(live.problem)


def test_there_has_to_be_a_bundle_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle has been published"):
        LiveRecommender(tmp_path)


def test_what_is_blocked_stays_blocked_in_the_next_version(serving: Path) -> None:
    live = LiveRecommender(serving, blocked_tracks=["d"], blocked_artists=["cem, dee"])
    make_current(serving, "v2")
    assert live.refresh()
    assert [item.song.track_id for item in live.current.recommend(["a"]).items] == ["b"]


@pytest.mark.slow
def test_queries_go_on_through_many_changes(serving: Path) -> None:
    live = LiveRecommender(serving)
    done = threading.Event()
    wrong: list[str] = []
    answered = 0

    def query() -> None:
        nonlocal answered
        while not done.is_set():
            answer = live.current.recommend(["a", "b"])
            names = {item.song.name.rpartition(" ")[2] for item in answer.items}
            if names != {answer.bundle_version}:
                wrong.append(f"{names} from {answer.bundle_version}")
            answered += 1

    threads = [threading.Thread(target=query) for _ in range(3)]
    for thread in threads:
        thread.start()
    changes = 0
    for turn in range(60):
        make_current(serving, f"v{1 + turn % 2}")
        changes += live.refresh()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert answered > 0
    assert changes == 59  # the first turn names what is live already
