import dataclasses
import logging
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import BundleError, LibraryMissingError
from tunegraph_pipeline.lake.arrays import write_arrays
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent
from tunegraph_pipeline.recommend.index import (
    EXTRAS,
    INDEX_FILE,
    MANY,
    CandidateIndex,
    Form,
    Probes,
    read_index,
)
from tunegraph_pipeline.recommend.indexing import write_index
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline_tests.conftest import examples

pytestmark = pytest.mark.slow


def opened(bundle: Bundle) -> CandidateIndex:
    index = CandidateIndex.open(bundle)
    assert index is not None
    return index


# ---- finding


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_looking_into_every_list_finds_the_highest_products(
    clustered_bundle: Bundle, tmp_path: Path, storage: str
) -> None:
    form = write_index(clustered_bundle, tmp_path / INDEX_FILE, storage)  # type: ignore[arg-type]
    index = CandidateIndex(read_index(tmp_path / INDEX_FILE), form, Probes((), (), None))
    rng = np.random.default_rng(0)
    bundle, off = clustered_bundle, {"float32": 1e-5, "float16": 2e-3, "int8": 3e-2}[storage]
    for _ in range(20):
        direction = bundle.embeddings[rng.integers(bundle.n_tracks)] * rng.uniform(0.5, 3)
        familiarity = rng.uniform(-0.15, 0.15)
        found = index.search(direction, 1.0, familiarity, 40, index.lists)
        products = bundle.embeddings @ direction + bundle.prior + familiarity * bundle.screen[:, -1]
        products[~bundle.recommendable] = -np.inf
        # The 40 found are the highest 40, but for those that rounding may have changed sides.
        kth = np.sort(products)[-40]
        assert len(np.unique(found.tracks)) == 40
        assert products[found.tracks].min() >= kth - 2 * off
        assert np.isin(np.flatnonzero(products > kth + 2 * off), found.tracks).all()
        np.testing.assert_allclose(found.products, products[found.tracks], atol=2 * off)
        assert (np.diff(found.products) <= 0).all()


def test_asking_for_more_than_the_lists_hold_gives_what_they_hold(clustered_bundle: Bundle) -> None:
    index = opened(clustered_bundle)
    found = index.search(clustered_bundle.embeddings[0], 1.0, 0.0, 5_000, 1)
    assert 0 < len(found.tracks) < 5_000
    assert (found.tracks >= 0).all()
    everything = index.search(clustered_bundle.embeddings[0], 1.0, 0.0, 8_192, index.lists)
    assert sorted(everything.tracks.tolist()) == np.flatnonzero(clustered_bundle.recommendable).tolist()


@settings(max_examples=examples(50))
@given(seed=st.integers(0, 10**6), stretch=st.floats(1e-3, 1e3))
def test_eight_bits_keep_every_product_to_a_share_of_its_range(seed: int, stretch: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((50, 16)).astype(np.float32)
    query = (stretch * rng.standard_normal((1, 16))).astype(np.float32)
    exact = (vectors @ query[0]).astype(np.float64)
    # Each rounding is off by half a step of the range; there are 16 of them on both sides.
    largest = float(np.abs(vectors[:, :-EXTRAS]).max())
    step = float(np.abs(query / Form.of(vectors, "int8").scale).max()) / 127
    form = Form.of(vectors, "int8")
    form.encode_vectors(vectors)
    assert np.abs(vectors).max() == 127
    assert (vectors == np.rint(vectors)).all()
    factor = form.encode_query(query)
    assert np.abs(query).max() == 127
    kept = (vectors @ query[0]).astype(np.float64) * factor
    assert factor == pytest.approx(step, rel=1e-5)
    assert largest * float(form.scale[0]) == pytest.approx(127, rel=1e-5)
    assert np.abs(kept - exact).max() <= factor * 16 * (0.5 * 127 + 0.5 * 127 + 0.25)


# ---- how far to look


def test_a_familiarity_between_two_known_ones_looks_as_far_as_either_needs() -> None:
    probes = Probes(few=((0.0, None), (0.5, 64), (1.0, 16)), many=((0.0, 48), (0.5, 8), (1.0, 4)), similar=3)
    assert [probes.of(MANY - 1, of) for of in (0.5, 0.75, 1.0)] == [64, 64, 16]
    assert [probes.of(MANY, of) for of in (0.0, 0.1, 0.5, 0.9, 1.0)] == [48, 48, 8, 8, 4]
    assert probes.of(1, 0.0) is None
    assert probes.of(1, 0.49) is None
    assert Probes.from_facts(dataclasses.asdict(probes)) == probes
    assert {Probes.everywhere(5).of(likes, of) for likes in (1, 99) for of in (0.0, 0.3, 1.0)} == {5}


# ---- the file


def test_a_bundle_without_an_index_has_none(golden_bundle: Bundle) -> None:
    assert CandidateIndex.open(golden_bundle) is None
    recommender = Recommender(golden_bundle)
    assert recommender.index_problem is None


def test_the_index_is_a_declared_part_whose_checksum_is_compared(
    clustered_bundle: Bundle, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clustered_bundle.folder, tmp_path / "clustered"))
    Bundle.verified(folder)
    path = folder / INDEX_FILE
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"index\.faiss does not match its checksum"):
        Bundle.verified(folder)
    path.write_bytes(content[:-100])
    with pytest.raises(BundleError, match=r"index\.faiss has \d+ bytes, its manifest says"):
        Bundle.open(folder)


@pytest.mark.parametrize("damage", ["noise", "cut", "empty", "another kind"])
def test_a_file_that_is_no_index_is_refused_by_name(
    clustered_bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    import faiss

    folder = Path(shutil.copytree(clustered_bundle.folder, tmp_path / "clustered"))
    path = folder / INDEX_FILE
    content = path.read_bytes()
    if damage == "another kind":
        flat = faiss.IndexFlatIP(32)
        flat.add(np.zeros((int(clustered_bundle.recommendable.sum()), 32), dtype=np.float32))
        faiss.write_index(flat, str(path))
    else:
        noise = np.random.default_rng(0).bytes(len(content))
        path.write_bytes({"noise": noise, "cut": content[:1_000], "empty": b""}[damage])
    facts = clustered_bundle.facts
    (folder / "manifest.json").unlink()
    write_arrays(folder, {}, facts)  # as if it had been written so
    with pytest.raises(BundleError, match=r"index\.faiss cannot be read .*; rebuild this version"):
        Recommender(Bundle.open(folder))


def test_an_index_of_other_tracks_is_refused(
    clustered_bundle: Bundle, clustered: Callable[..., BundleContent], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clustered_bundle.folder, tmp_path / "clustered"))
    recommendable = np.array(clustered_bundle.recommendable)
    recommendable[np.flatnonzero(recommendable)[0]] = False
    facts = clustered_bundle.facts
    (folder / "manifest.json").unlink()
    write_arrays(folder, {"recommendable": recommendable}, facts)
    with pytest.raises(BundleError, match="is not an index of this bundle's tracks"):
        CandidateIndex.open(Bundle.open(folder))
    (folder / "manifest.json").unlink()
    write_arrays(
        folder, {"recommendable": clustered().recommendable}, {**facts, "index": {"storage": "int8"}}
    )
    with pytest.raises(BundleError, match="has no valid description of its index"):
        CandidateIndex.open(Bundle.open(folder))


# ---- without the library


def test_without_the_library_queries_are_answered_exactly_and_it_is_said(
    clustered_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    likes = [f"t{track}" for track in clustered_bundle.user_list(3).tolist()]
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(LibraryMissingError, match=r"pip install 'tunegraph-pipeline\[index\]'"):
        CandidateIndex.open(clustered_bundle)
    with caplog.at_level(logging.WARNING):
        recommender = Recommender(clustered_bundle)
        answer = recommender.recommend(likes, 50)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == recommender.index_problem
    assert "bundle clustered is answered exactly" in record.getMessage()
    assert r"tunegraph-pipeline[index]" in record.getMessage()
    monkeypatch.undo()
    with_it = Recommender(clustered_bundle)
    assert with_it.index_problem is None
    found = {item.song.track_idx for item in with_it.recommend(likes, 50).items}
    assert len(found & {item.song.track_idx for item in answer.items}) >= 45


# ---- threads


def test_threads_get_the_answers_that_one_gets(clustered_bundle: Bundle) -> None:
    recommender = Recommender(clustered_bundle)
    queries = [
        Query(user_id=f"u{user}", k=20, familiarity=familiarity, diversity=diversity)
        for user in range(0, 300, 5)
        for familiarity, diversity in ((0.5, 0.0), (0.8, 0.0), (0.5, 0.4))
    ]
    alone = [recommender.answer([query])[0] for query in queries]
    answers: dict[int, list[object]] = {}

    def ask(thread: int) -> None:
        order = np.random.default_rng(thread).permutation(len(queries))
        mine = {int(at): recommender.answer([queries[at]])[0] for at in order}
        answers[thread] = [mine[at] for at in range(len(queries))]

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(got == alone for got in answers.values())
    assert recommender.answer(queries) == alone
