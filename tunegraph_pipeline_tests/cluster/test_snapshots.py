"""Snapshots of a lake in an object store: commits, pulls, the lease, and what is written without the lock."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.lake import feedback_spool, snapshots
from tunegraph_pipeline.lake.lock import write_lock
from tunegraph_pipeline.lake.object_store import GoneError
from tunegraph_pipeline.lake.snapshots import Node, lake_path, pull
from tunegraph_pipeline_tests.cluster.dies import DIED, write
from tunegraph_pipeline_tests.cluster.object_store import ObjectStore, environment

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@contextmanager
def writing(
    root: Path, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[str | None]:
    with write_lock(root, "a test", wait), snapshots.writing(root, "a test", wait, on_wait) as died:
        yield died


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a lake's folder with its time, but those of the lock."""
    paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_cache_becomes_what_another_machine_wrote(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url = object_store.url()
    a, b = on_node(url, "a"), on_node(url, "b")
    with writing(a):
        (a / "models" / "v1").mkdir(parents=True)
        (a / "models" / "v1" / "big").write_bytes(os.urandom(20 << 20))
        (a / "models" / "CURRENT").write_text("v1\n")
        (a / "empty").mkdir()
        for name in (".dagster/runs", "checkpoints/one", "downloads/part", ".staging/draft", "lake.duckdb"):
            (a / name).parent.mkdir(parents=True, exist_ok=True)
            (a / name).write_text("of this machine")
        snapshots.commit(a)
        (a / "lake.json").write_text("{}")
    assert pull(b)
    assert set(content(b)) == {"models/v1/big", "models/CURRENT", "lake.json"}
    assert all(content(a)[path] == facts for path, facts in content(b).items())
    assert (b / "empty").is_dir()
    assert (a / "models" / "v1").stat().st_mtime_ns == (b / "models" / "v1").stat().st_mtime_ns
    assert not pull(b)

    with writing(b):
        (b / "models" / "v1" / "big").unlink()
        (b / "models" / "v1").rmdir()
        (b / "models" / "CURRENT").unlink()
    (a / "leftover").write_text("of nobody who held the lock")
    with writing(a):
        assert not (a / "leftover").exists()
    assert not (a / "models" / "v1").exists()
    assert not (a / "leftover").exists()
    assert (a / "checkpoints" / "one").exists()
    # Nothing that changed is stored twice: only what is new.
    assert not [key for key in object_store.objects(url) if key.startswith("probe/")]


def test_a_service_pulls_what_it_serves_alone(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url = object_store.url()
    a, b = on_node(url, "a"), on_node(url, "b")
    names = ["lake.json", "raw/dt=1/likes", "serving/CURRENT", "serving/v1/array", "serving/v2/array"]
    with writing(a):
        for name in names:
            (a / name).parent.mkdir(parents=True, exist_ok=True)
            (a / name).write_text("v2\n" if name.endswith("CURRENT") else name)
    pull(b, only_served=True)
    assert set(content(b)) == {"lake.json", "serving/CURRENT", "serving/v2/array"}
    pull(b)
    assert set(content(b)) == set(names)
    with writing(a):
        (a / "raw" / "dt=1" / "likes").unlink()
        (a / ".expired").write_text("")
    pull(b, only_served=True)
    assert not (b / "raw" / "dt=1" / "likes").exists(), "what expired stays in no cache"


def test_a_driver_killed_at_any_call_leaves_the_old_or_the_new(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], tmp_path: Path
) -> None:
    start = [sys.executable, "-m", "tunegraph_pipeline_tests.cluster.dies"]
    url = object_store.url()
    root, reader = on_node(url, "driver"), on_node(url, "reader")
    on_node(url, "driver")
    variables = environment(object_store, tmp_path / "driver")
    write(root, ["v0"])
    lived = subprocess.run(
        [*start, "0", "before", root, "v1", "v0"],
        env=variables,
        check=True,
        capture_output=True,
        text=True,
    )
    calls = int(lived.stdout.split()[-1])
    assert calls > 20
    pull(reader)
    version = "v0"
    for number in range(1, calls + 1):
        new = f"w{number}"
        when = ("before", "after")[number % 2]
        died = subprocess.run([*start, str(number), when, root, new], env=variables, check=False)
        assert died.returncode in (0, DIED)
        pull(reader)
        found = (reader / "models" / "CURRENT").read_text().removeprefix("models/CURRENT ")
        assert found in (version, new)
        assert set(content(reader)) == {
            "lake.json",
            "table/day=1/data",
            "models/CURRENT",
            f"models/{found}/array",
        }
        assert {text.decode().split()[-1] for text, _ in content(reader).values()} == {found}
        version = found
        if not died.returncode:
            break
    write(root, ["last"])
    pull(reader)
    assert content(reader).keys() == content(root).keys()
    # What dead drivers left is gone: of this session, only what a reader may still be fetching is kept.
    flaws, unnamed = snapshots.check(root)
    assert (flaws, unnamed) == ([], [])


def test_two_writers_have_one_lease(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGRAPH_LEASE_SECONDS", "1")
    url = object_store.url()
    a, b = on_node(url, "a"), on_node(url, "b")
    waited: list[str] = []
    with writing(a):
        (a / "lake.json").write_text("{}")
        said = f"{url} is being written by a test .process {os.getpid()} on"
        with pytest.raises(LakeError, match=said), writing(b, on_wait=waited.append):
            pass
    assert len(waited) == 1
    assert waited[0].startswith(f"a test (process {os.getpid()}")
    with writing(b) as died:
        assert died is None
        assert (b / "lake.json").exists()


HOLD = """
import sys, time
from pathlib import Path
from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.lake import snapshots
from tunegraph_pipeline.lake.lock import write_lock
root = Path(sys.argv[1])
try:
    with write_lock(root, "a holder"), snapshots.writing(root, "a holder"):
        (root / "stale").write_text("written by a holder that lost its lease")
        print("holding", flush=True)
        sys.stdin.readline()
        snapshots.commit(root)
except TuneGraphError as error:
    print(error)
    sys.exit(2)
"""


@contextmanager
def holder(root: Path, variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, root],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_stopped_and_woken_holder_is_refused(
    object_store: ObjectStore,
    on_node: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEGRAPH_LEASE_SECONDS", "1.5")
    url = object_store.url()
    a, b = on_node(url, "a"), on_node(url, "b")
    write(b, ["v1"])
    with holder(a, environment(object_store, tmp_path / "a")) as process:
        process.send_signal(signal.SIGSTOP)
        with writing(b, wait=60) as died:
            assert died is not None
            assert f"a holder (process {process.pid}" in died
            (b / "lake.json").write_text("of the next holder")
            snapshots.commit(b)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("go on\n", timeout=60)
    assert process.returncode == 2
    assert said.startswith(f"{url} was taken over")
    assert said.count("\n") == 1
    pull(b)
    pull(a)
    for root in (a, b):
        assert (root / "lake.json").read_text() == "of the next holder"
        assert not (root / "stale").exists()
    with writing(b):
        pass
    assert b"lost its lease" not in b"".join(object_store.objects(url).values())


def test_a_dead_holder_of_the_same_machine_is_noticed_at_once(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], tmp_path: Path
) -> None:
    url = object_store.url()
    root = on_node(url, "a")
    with holder(root, environment(object_store, tmp_path / "a", TUNEGRAPH_LEASE_SECONDS="3600")) as process:
        process.kill()
        process.wait()
        with writing(root) as died:
            assert died is not None
            assert "died without finishing" in died
            assert not (root / "stale").exists()


def test_a_reader_that_finds_an_object_gone_takes_the_newest_snapshot(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = object_store.url()
    a, b = on_node(url, "a"), on_node(url, "b")
    write(a, ["v1"])
    before = snapshots._read_current(Node.of(a).connect())  # type: ignore[union-attr]
    with writing(a):
        (a / ".expired").write_text("")
    write(a, ["v2"])
    write(a, ["v3"])
    answers = [before]
    current = snapshots._read_current
    monkeypatch.setattr(
        snapshots, "_read_current", lambda store: answers.pop() if answers else current(store)
    )
    assert pull(b)
    assert (b / "models" / "CURRENT").read_text() == "models/CURRENT v3"
    with pytest.raises(GoneError):
        Node.of(a).connect().read(before[0].key)  # type: ignore[union-attr]


def test_feedback_arrives_once(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = object_store.url()
    service, driver = on_node(url, "service"), on_node(url, "driver")
    write(driver, ["v1"])
    pull(service, only_served=True)
    feedback_spool.append(service, "worker", "ann", [("song1", "like"), ("song2", "skip")])
    assert not (service / "feedback_spool").exists(), "a service writes nothing into the cache"
    snapshots.send(service)
    snapshots.send(service)
    assert len(snapshots.spooled(service, "feedback_spool")) == 1
    # A writer that fails leaves it in the store.
    with pytest.raises(ZeroDivisionError), writing(driver):
        assert feedback_spool.waiting_lines(driver) == 2
        raise ZeroDivisionError
    # One that collects it and dies before it deletes the object has collected it all the same.
    with monkeypatch.context() as patch:
        patch.setattr(snapshots.Writer, "_drop_old", lambda *_: None)
        with writing(driver):
            (path,) = driver.glob("feedback_spool/*/*.jsonl")
            assert path.read_text().count("\n") == 2
            path.unlink()
            (driver / "raw").mkdir()
            (driver / "raw" / "batch").write_text("of it")
    assert len(snapshots.spooled(driver, "feedback_spool")) == 1
    with writing(driver):
        assert feedback_spool.waiting_lines(driver) == 0
    assert snapshots.spooled(driver, "feedback_spool") == []


def test_bad_addresses_are_refused_in_one_line(
    object_store: ObjectStore, on_node: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, said in {
        "gs://bucket/lake": "a folder, or in a store at s3://",
        "s3://bucket": "s3://bucket/prefix",
        "s3://bucket/../x": "s3://bucket/prefix",
        "s3://B_ucket/x": "s3://bucket/prefix",
    }.items():
        with pytest.raises(InputError, match=said):
            lake_path(given)
    assert lake_path("some/folder") == Path("some/folder")
    began = time.monotonic()
    for change, said in {
        "AWS_SECRET_ACCESS_KEY": "refuses the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID": "refuses the credentials",
        "AWS_ENDPOINT_URL": "cannot be reached for s3://",
    }.items():
        secret = "http://127.0.0.1:9" if change == "AWS_ENDPOINT_URL" else "wrong-and-secret"
        with monkeypatch.context() as patch:
            patch.setenv(change, secret)
            root = on_node(object_store.url(), "x")
            with pytest.raises(LakeError, match=said) as found:
                pull(root)
            with pytest.raises(LakeError, match=said), writing(root):
                pass
            assert "wrong-and-secret" not in str(found.value)
            assert "\n" not in str(found.value)
            assert content(root) == {}
    root = on_node("s3://no-such-bucket/lake", "x")
    with pytest.raises(LakeError, match="there is no bucket 'no-such-bucket' at"):
        pull(root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example.org")
    with pytest.raises(InputError, match="is not encrypted"):
        pull(lake_path(object_store.url()))
    assert time.monotonic() - began < 300


def test_a_bucket_that_was_emptied_empties_no_cache(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    import obstore

    url = object_store.url()
    root = on_node(url, "a")
    write(root, ["v1"])
    before = content(root)
    prefix = url.removeprefix(f"s3://{object_store.bucket}/")
    obstore.delete(object_store.client(), [f"{prefix}/{key}" for key in object_store.objects(url)])
    with pytest.raises(LakeError, match="is empty, and this machine's cache has its snapshot 1"):
        pull(root)
    assert content(root) == before


def test_a_prefix_with_other_things_is_no_lake(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    import obstore

    url = object_store.url()
    prefix = url.removeprefix(f"s3://{object_store.bucket}/")
    obstore.put(object_store.client(), f"{prefix}/holiday.jpg", b"a picture")
    with pytest.raises(LakeError, match=f"{url} holds other things .holiday.jpg"), writing(on_node(url, "a")):
        pass
    assert object_store.objects(url) == {"holiday.jpg": b"a picture"}


def test_what_a_dead_writer_worked_with_is_deleted_by_the_next(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url = object_store.url()
    root = on_node(url, "a")
    write(root, ["v1"])
    node = Node.of(root)
    assert node is not None
    store = node.connect()
    for key in ("work/room/part", "files/00000009-dead/000000", "snapshots/00000009-dead.json"):
        store.create(key, b"of a writer that died")
    assert snapshots.check(root)[1] == ["files/00000009-dead/000000", "snapshots/00000009-dead.json"]
    with writing(root):
        pass
    assert b"of a writer that died" not in object_store.objects(url).values()
    assert snapshots.check(root) == ([], [])


def test_what_is_left_of_spooled_feedback_stays_spooled(
    object_store: ObjectStore, on_node: Callable[[str, str], Path]
) -> None:
    url = object_store.url()
    service, driver = on_node(url, "service"), on_node(url, "driver")
    write(driver, ["v1"])
    pull(service, only_served=True)
    for who in ("ann", "bob"):
        feedback_spool.append(service, "worker", who, [("song1", "like")])
    snapshots.send(service)
    with writing(driver):
        (path,) = driver.glob("feedback_spool/*/*.jsonl")
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "ann" not in line))
    spooled = [data for key, data in object_store.objects(url).items() if key.startswith("spool/")]
    assert spooled == [line.encode() for line in lines if "ann" not in line]
    with writing(driver):
        assert feedback_spool.waiting_lines(driver) == 1
