import dataclasses
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.array_spec import NEUTRAL
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.recommend import bundle as bundle_module
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import (
    Bundle,
    BundleContent,
    IdIndex,
    read_current,
    write_bundle,
)
from tunegraph_pipeline.recommend.bundle_arrays import BUNDLE
from tunegraph_pipeline.recommend.publication import publish
from tunegraph_pipeline.recommend.recommender import Recommender

Golden = Callable[..., BundleContent]

PARTS = sorted(part.name for spec in BUNDLE for part in spec.parts())


def test_a_written_bundle_opens_with_what_went_in(golden: Golden, golden_bundle: Bundle) -> None:
    content = golden()
    golden_bundle.verify()
    for name in ("embeddings", "pooling_weight", "popularity", "recommendable", "prior", "neighbour_indptr"):
        np.testing.assert_array_equal(getattr(golden_bundle, name), getattr(content, name))
    assert golden_bundle.names.tolist() == ["Song A", "Song B", "Sång C", ""]
    assert golden_bundle.version == "v1"
    assert golden_bundle.model_version == "m1"
    assert golden_bundle.user_list(0).tolist() == [0, 1]
    assert golden_bundle.user_list(1).tolist() == []
    # 9 likes, then the tie at 7 with the smaller index first, then 5
    assert golden_bundle.popular_order.tolist() == [1, 2, 3, 0]


def test_the_popular_order_leaves_out_what_may_not_be_recommended(golden: Golden, tmp_path: Path) -> None:
    content = dataclasses.replace(golden(), recommendable=np.array([True, False, True, False]))
    write_bundle(tmp_path / "v1", content)
    assert Bundle.open(tmp_path / "v1").popular_order.tolist() == [2, 0]


def test_a_bundle_is_written_whole_or_not_at_all(
    golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "write_arrays", fail)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "v1", golden())
    assert list(tmp_path.rglob("*.npy")) == []
    assert not (tmp_path / "v1").exists()


def test_what_finishes_a_bundle_finds_it_complete_and_adds_to_it(golden: Golden, tmp_path: Path) -> None:
    def finish(draft: Path) -> dict[str, int]:
        (draft / "more.txt").write_text(Bundle.open(draft).tracks[0])
        return {"more": 1}

    write_bundle(tmp_path / "v1", golden(), finish)
    bundle = Bundle.verified(tmp_path / "v1")
    more = bundle.file("more.txt")
    assert more is not None
    assert (more.read_text(), bundle.facts["more"], bundle.version) == ("a", 1, "v1")
    assert bundle.file("manifest.json") is None

    def fail(draft: Path) -> dict[str, int]:
        raise ValueError(draft.name)

    with pytest.raises(ValueError, match="v2"):
        write_bundle(tmp_path / "v2", golden("v2"), fail)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["v1"]


def test_a_bundle_may_be_empty(golden: Golden, tmp_path: Path) -> None:
    empty: dict[str, Any] = {
        field.name: getattr(golden(), field.name)[:0]
        for field in dataclasses.fields(BundleContent)
        if field.default is dataclasses.MISSING
        and field.name not in {"facts", "neighbour_indptr", "user_indptr"}
    }
    none = np.zeros(1, dtype=np.int64)
    content = BundleContent(**empty, facts=golden().facts, neighbour_indptr=none, user_indptr=none)
    write_bundle(tmp_path / "v1", content)
    recommender = Recommender(Bundle.open(tmp_path / "v1"))
    answer = recommender.recommend(["a"])
    assert (answer.items, answer.unknown) == ([], ["a"])


def test_artists_are_told_apart_by_id_and_by_name_where_there_is_none() -> None:
    found = Artists.of_lists(
        [["1", "2", "1"], ["2"], [], [None], ["3"]],
        [["Ann", "Ben", "Ann"], ["Benjamin"], ["Cem"], ["Cem"], []],
    )
    rows = [found.indices[a:b].tolist() for a, b in pairwise(found.indptr.tolist())]
    assert rows == [[0, 1], [1], [2], [2], [3]]
    assert list(found.ids) == ["1", "2", "Cem", "3"]
    assert list(found.names) == ["Ann", "Ben", "Cem", "3"]  # the first name an id comes with


# ---- finding ids


@given(st.lists(st.text(), unique=True), st.lists(st.text()))
def test_an_id_is_found_where_it_stands_and_nowhere_else(ids: list[str], others: list[str]) -> None:
    expected = {text: position for position, text in enumerate(ids)}
    wanted = ids + others
    index = IdIndex.from_ids(ids)
    assert index.find(wanted).tolist() == [expected.get(text, -1) for text in wanted]
    assert [index.position(text) for text in wanted] == [expected.get(text, -1) for text in wanted]


def test_ids_whose_hashes_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def same_hash_for_all(encoded: Any) -> NDArray[np.uint32]:
        return np.full(len(list(encoded)), 7, dtype=np.uint32)

    monkeypatch.setattr(bundle_module, "_hash_ids", same_hash_for_all)
    index = IdIndex.from_ids(["x", "y", "z"])
    assert index.find(["z", "x", "nobody", "y"]).tolist() == [2, 0, -1, 1]
    assert [index.position(text) for text in ("z", "x", "nobody", "y")] == [2, 0, -1, 1]


def test_an_id_that_is_not_valid_text_is_unknown_and_not_an_error() -> None:
    index = IdIndex.from_ids(["x"])
    assert index.find(["\ud800"]).tolist() == [index.position("\ud800")] == [-1]


# ---- what cannot be written


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"track_ids": ["a", "b", "c", "a"]}, "track 'a' occurs twice"),
        ({"user_ids": ["ann", "ann"]}, "user 'ann' occurs twice"),
        ({"prior": np.zeros(3, dtype=np.float32)}, "prior has shape (3,) for 4 tracks"),
        ({"prior": np.array([0, np.nan, 0, 0], dtype=np.float32)}, "prior has a number that is not finite"),
        ({"names": ["one"]}, "names has 1 entries for 4 tracks"),
        ({"embeddings": np.ones((4, 2), dtype=np.float32)}, "differs from 1 by 0.414"),
        ({"embeddings": np.ones((3, 2), dtype=np.float32)}, "embeddings has shape (3, 2) for 4 tracks"),
        ({"neighbour_indices": np.array([2, 4, 2], dtype=np.int32)}, "neighbour_indptr and"),
        ({"neighbour_indices": np.array([2, -1, 2], dtype=np.int32)}, "neighbour_indptr and"),
        ({"neighbour_indptr": np.array([0, 3, 2, 3, 3])}, "neighbour_indptr and"),
        ({"neighbour_weight": np.zeros(2, dtype=np.float32)}, "2 neighbour weights for 3 neighbours"),
        ({"user_tracks": np.array([0, 4], dtype=np.int32)}, "user_indptr and user_tracks"),
        ({"user_tracks": np.array([1, 0], dtype=np.int32)}, "not ascending without duplicates"),
        ({"user_tracks": np.array([1, 1], dtype=np.int32)}, "not ascending without duplicates"),
        ({"facts": {"bundle_version": "v1", "model_version": "m1"}}, "its facts lack 'blend'"),
        ({"canonical": np.zeros(3, dtype=np.int32)}, "canonical has shape (3,) for 4 tracks"),
        ({"canonical": np.array([0, 2, 2, 3], dtype=np.int32)}, "not the first of its recording"),
        ({"canonical": np.array([0, 0, 1, 3], dtype=np.int32)}, "not the first of its recording"),
        ({"canonical": np.array([0, -1, 2, 3], dtype=np.int32)}, "not the first of its recording"),
        ({"canonical": np.array([0, 1, 2, 2], dtype=np.int32)}, "not canonical is recommendable"),
        (
            {
                "canonical": np.array([0, 0, 2, 3], dtype=np.int32),
                "recommendable": np.array([True, False, True, True]),
            },
            "likes a track that is not canonical",
        ),
    ],
)
def test_content_that_contradicts_itself_is_not_written(
    golden: Golden, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BundleError) as refusal:
        write_bundle(tmp_path / "v1", dataclasses.replace(golden(), **changes))
    assert complaint in str(refusal.value)
    assert not (tmp_path / "v1").exists()


def test_only_within_a_user_do_tracks_have_to_ascend(golden: Golden, tmp_path: Path) -> None:
    content = dataclasses.replace(
        golden(),
        user_ids=["u", "nobody", "v", "w"],
        user_indptr=np.array([0, 2, 2, 4, 4]),
        user_tracks=np.array([1, 3, 0, 3], dtype=np.int32),
        user_ages=NEUTRAL,
        disliked_indptr=np.array([0, 2, 3, 3, 3]),
        disliked_tracks=np.array([0, 2, 1], dtype=np.int32),
    )
    write_bundle(tmp_path / "v1", content)
    bundle = Bundle.open(tmp_path / "v1")
    assert [bundle.user_list(user).tolist() for user in range(4)] == [[1, 3], [], [0, 3], []]
    assert [bundle.user_dislikes(user).tolist() for user in range(4)] == [[0, 2], [1], [], []]


# ---- what cannot be opened


def test_these_are_the_parts_of_a_bundle(golden_bundle: Bundle) -> None:
    assert sorted(path.stem for path in golden_bundle.folder.glob("*.npy")) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_a_truncated_and_a_changed_part_are_refused_by_name(
    golden_bundle: Bundle, part: str
) -> None:
    path = golden_bundle.folder / f"{part}.npy"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(golden_bundle.folder)
    path.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(golden_bundle.folder)
    changed = bytearray(whole)
    changed[128] ^= 1  # the first byte after the header: no shape or size tells
    path.write_bytes(changed)
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(golden_bundle.folder).verify()


@pytest.mark.parametrize(
    "part", [part for part in PARTS if part not in {"popular_order", "search_tracks", "embeddings"}]
)
def test_a_part_of_another_length_is_refused_though_the_manifest_declares_it(
    golden_bundle: Bundle, part: str
) -> None:
    path = golden_bundle.folder / f"{part}.npy"
    array = np.load(path)
    np.save(path, np.concatenate([array, array[-1:], array[-1:] + array[-1:]]))
    declare_again(path)
    with pytest.raises(BundleError, match=r"rebuild this version"):
        Bundle.open(golden_bundle.folder)


@pytest.mark.parametrize("part", ["embeddings", "popular_order", "user_tracks", "track_ids.bytes"])
def test_a_part_of_another_type_is_refused_though_the_manifest_declares_it(
    golden_bundle: Bundle, part: str
) -> None:
    path = golden_bundle.folder / f"{part}.npy"
    np.save(path, np.load(path).astype(np.float64))
    declare_again(path)
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(golden_bundle.folder)


def declare_again(path: Path) -> None:
    """Make the manifest agree with a part that was written anew."""
    manifest_path = path.parent / MANIFEST
    manifest = read_json(manifest_path.read_bytes())
    array = np.load(path)
    manifest["parts"][path.name] |= {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "bytes": path.stat().st_size,
    }
    manifest_path.write_text(json.dumps(manifest))


def test_a_bundle_without_a_readable_manifest_is_refused(golden_bundle: Bundle) -> None:
    manifest = golden_bundle.folder / MANIFEST
    manifest.write_text("{")
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(golden_bundle.folder)
    manifest.unlink()
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(golden_bundle.folder)


def test_a_bundle_of_another_format_is_refused(golden_bundle: Bundle) -> None:
    manifest = golden_bundle.folder / MANIFEST
    said = read_json(manifest.read_bytes())
    said["facts"]["bundle_format"] = 2
    manifest.write_text(json.dumps(said))
    with pytest.raises(BundleError, match="format 2, this version reads 3"):
        Bundle.open(golden_bundle.folder)


# ---- publishing


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_where_nothing_is_published_the_reader_is_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle has been published in .*run `tunegraph refresh` first"):
        read_current(tmp_path / "serving")


def test_the_published_bundle_is_the_current_one(golden: Golden, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write_bundle(tmp_path / version, golden(version))
        assert publish(tmp_path, version).version == version
        assert read_current(tmp_path) == tmp_path / version
    publish(tmp_path, "v1")
    assert read_current(tmp_path) == tmp_path / "v1"


def test_a_corrupt_bundle_is_not_published_and_the_old_one_stays_live(golden: Golden, tmp_path: Path) -> None:
    write_bundle(tmp_path / "v1", golden("v1"))
    publish(tmp_path, "v1")
    write_bundle(tmp_path / "v2", golden("v2"))
    flip_last_byte(tmp_path / "v2" / "prior.npy")
    with pytest.raises(BundleError, match=r"prior\.npy does not match its checksum"):
        publish(tmp_path, "v2")
    assert read_current(tmp_path) == tmp_path / "v1"


@pytest.mark.parametrize("version", ["", "..", ".staging", "a/b", "missing"])
def test_what_is_no_bundle_is_not_published(golden_bundle: Bundle, version: str) -> None:
    serving = golden_bundle.folder.parent
    publish(serving, "v1")
    with pytest.raises(BundleError):
        publish(serving, version)
    assert read_current(serving) == serving / "v1"


def test_a_folder_with_the_name_of_another_bundle_is_not_published(golden: Golden, tmp_path: Path) -> None:
    write_bundle(tmp_path / "v1", golden("v7"))
    with pytest.raises(BundleError, match="says it is bundle v7"):
        publish(tmp_path, "v1")


def test_a_current_file_that_names_nothing_usable_is_an_error_of_one_line(golden_bundle: Bundle) -> None:
    serving = golden_bundle.folder.parent
    publish(serving, "v1")
    (serving / "CURRENT").write_text("../elsewhere\n")
    with pytest.raises(BundleError, match="is not the name of a bundle"):
        read_current(serving)
    (serving / "CURRENT").write_text("v1\n")
    shutil.rmtree(serving / "v1")
    with pytest.raises(BundleError, match="which is not there"):
        read_current(serving)


def test_the_last_few_bundles_are_kept_and_so_is_the_one_before(golden: Golden, tmp_path: Path) -> None:
    def versions() -> list[str]:
        return sorted(path.parent.name for path in tmp_path.glob(f"*/{MANIFEST}"))

    for version in ("v1", "v2", "v3"):
        write_bundle(tmp_path / version, golden(version))
        publish(tmp_path, version, keep=2)
    assert versions() == ["v2", "v3"]
    publish(tmp_path, "v2", keep=2)
    for version in ("v4", "v5"):
        write_bundle(tmp_path / version, golden(version))
    publish(tmp_path, "v5", keep=2)
    # v2 was live until this moment; v3 is neither among the last two nor was it live
    assert versions() == ["v2", "v4", "v5"]
    (tmp_path / "notes").mkdir()
    publish(tmp_path, "v5", keep=1)
    assert versions() == ["v5"]
    assert (tmp_path / "notes").is_dir()


def test_an_open_bundle_answers_on_after_it_was_pruned(golden: Golden, tmp_path: Path) -> None:
    write_bundle(tmp_path / "v1", golden("v1"))
    recommender = Recommender(publish(tmp_path, "v1"))
    before = recommender.recommend_user("ann")
    for version in ("v2", "v3"):
        write_bundle(tmp_path / version, golden(version))
        publish(tmp_path, version, keep=1)
    assert not (tmp_path / "v1").exists()
    assert recommender.recommend_user("ann") == before


def test_readers_see_the_old_bundle_or_the_new_one_while_current_is_replaced(
    golden: Golden, tmp_path: Path
) -> None:
    # In v2 song d gets a prior that puts it first.
    write_bundle(tmp_path / "v1", golden("v1"))
    raised = np.array([0, 0, 0, 9], dtype=np.float32)
    write_bundle(tmp_path / "v2", dataclasses.replace(golden("v2"), prior=raised))
    publish(tmp_path, "v1")
    best = {"v1": "c", "v2": "d"}
    seen: set[str] = set()
    failures: list[object] = []
    stop = threading.Event()

    def query() -> None:
        while not stop.is_set():
            try:
                recommender = Recommender.open(tmp_path)
                first = recommender.recommend(["a", "b"]).items[0].song.track_id
            except BundleError as error:
                failures.append(error)
                return
            version = recommender.bundle.version
            seen.add(version)
            if first != best[version]:
                failures.append((version, first))

    readers = [threading.Thread(target=query) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(24):
            publish(tmp_path, "v2" if turn % 2 == 0 else "v1")
    finally:
        stop.set()  # or they would go on behind whatever went wrong
        for reader in readers:
            reader.join()
    assert failures == []
    assert seen <= {"v1", "v2"}
    assert seen


POINTING = [part for spec in BUNDLE for part in spec.parts() if part.ends_at or part.indexes]


def test_a_flipped_bit_is_found_by_whoever_has_every_byte_compared(golden_bundle: Bundle) -> None:
    publish(golden_bundle.folder.parent, "v1")
    path = golden_bundle.folder / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert Recommender.open(golden_bundle.folder.parent).bundle.version == "v1"  # nothing of it is read
    with pytest.raises(BundleError, match=re.escape(f"{path} does not match its checksum")):
        Recommender.verified(golden_bundle.folder.parent)


@pytest.mark.parametrize("value", [-1, 1_000_000])
@pytest.mark.parametrize("part", [part.name for part in POINTING])
def test_a_value_that_points_elsewhere_is_refused_though_its_checksum_is_right(
    golden_bundle: Bundle, part: str, value: int
) -> None:
    path = golden_bundle.folder / f"{part}.npy"
    array = np.load(path)
    if not array.size:
        pytest.skip("nothing in it")
    array[len(array) // 2] = value
    np.save(path, array)
    manifest = read_json((golden_bundle.folder / MANIFEST).read_bytes())
    manifest["parts"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (golden_bundle.folder / MANIFEST).write_text(sealed_json(json.dumps(manifest)))
    with pytest.raises(BundleError, match=re.escape(path.name)) as refused:
        Bundle.open(golden_bundle.folder)
    assert "\n" not in str(refused.value)


@given(st.lists(st.sets(st.integers(0, 6)), max_size=12), st.integers(1, 9))
def test_listeners_are_the_lists_turned_round(lists: list[set[int]], a_block: int) -> None:
    indptr = np.concatenate([[0], np.cumsum([len(some) for some in lists])]).astype(np.int64)
    tracks = np.array([track for some in lists for track in sorted(some)], dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_module, "_LIKES_A_BLOCK", a_block)
        found = bundle_module._listeners(indptr, tracks, 8)
    cuts = found["listener_indptr"]
    for track in range(8):
        expected = [user for user, some in enumerate(lists) if track in some]
        assert found["listeners"][cuts[track] : cuts[track + 1]].tolist() == expected
