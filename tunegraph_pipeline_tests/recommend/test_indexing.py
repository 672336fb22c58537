import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.errors import LibraryMissingError
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.index import INDEX_FILE, CandidateIndex, Probes
from tunegraph_pipeline.recommend.indexing import (
    FAMILIARITIES,
    FEW,
    LONG,
    RECALL,
    SIMILAR,
    Kind,
    Recall,
    add_index,
    chosen_probes,
    recall_of,
    write_index,
)
from tunegraph_pipeline.recommend.ranking import Ranker
from tunegraph_pipeline_tests.recommend.conftest import add_small_index, rank_one

pytestmark = pytest.mark.slow


def test_the_facts_tell_what_was_built_and_what_it_finds(clustered_bundle: Bundle) -> None:
    facts = clustered_bundle.facts["index"]
    path = clustered_bundle.file(INDEX_FILE)
    assert path is not None
    index = CandidateIndex.open(clustered_bundle)
    assert index is not None
    assert (facts["library"], facts["storage"]) == ("faiss", "int8")
    assert (facts["lists"], facts["width"], facts["bytes"]) == (index.lists, index.width, path.stat().st_size)
    assert set(facts["recall"]) == {
        str(kind)
        for kind in [*(Kind(name, of) for name in (FEW, LONG) for of in FAMILIARITIES), Kind(SIMILAR)]
    }
    assert min(facts["recall"].values()) >= RECALL
    # 8 bits a coordinate, an id, and the centres in 32.
    n = int(clustered_bundle.recommendable.sum())
    assert facts["bytes"] < n * (facts["width"] + 8) + facts["lists"] * (4 * facts["width"] + 64) + 10_000


def test_the_same_bundle_gives_the_same_file(clustered_bundle: Bundle, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_index(clustered_bundle, tmp_path / name, "int8")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    built = clustered_bundle.file(INDEX_FILE)
    assert built is not None
    assert built.read_bytes() == (tmp_path / "one").read_bytes()


def test_tracks_that_may_not_be_recommended_are_not_in_it(clustered_bundle: Bundle) -> None:
    index = CandidateIndex.open(clustered_bundle)
    assert index is not None
    found = index.search(np.ones(16), 1.0, 0.0, 8_192, index.lists).tracks
    assert len(found) == index.size == int(clustered_bundle.recommendable.sum())
    assert clustered_bundle.recommendable[found].all()


def test_an_index_that_finds_too_little_is_left_out(
    clustered: Callable[..., BundleContent], tmp_path: Path
) -> None:
    # Noise in many dimensions cannot be cut into lists, and here nothing is cached as near either.
    content = clustered(n_tracks=1_500)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1_500, 64)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    alone = dataclasses.replace(
        content,
        embeddings=noise,
        neighbour_indptr=np.zeros(1_501, dtype=np.int64),
        neighbour_indices=np.zeros(0, dtype=np.int32),
        neighbour_weight=np.zeros(0, dtype=np.float32),
    )
    write_bundle(tmp_path / "noise", alone, lambda draft: {"index": add_small_index(draft)})
    bundle = Bundle.open(tmp_path / "noise")
    assert bundle.facts["index"]["probes"] is None
    assert bundle.facts["index"]["recall"][str(Kind(FEW))] < RECALL
    assert bundle.file(INDEX_FILE) is None
    assert not (tmp_path / "noise" / INDEX_FILE).exists()
    assert CandidateIndex.open(bundle) is None


@pytest.mark.slow
def test_a_bundle_without_users_is_measured_with_what_is_near(
    clustered: Callable[..., BundleContent], tmp_path: Path
) -> None:
    nobody = dataclasses.replace(
        clustered(),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=np.zeros(0, dtype=np.int32),
    )
    write_bundle(tmp_path / "nobody", nobody, lambda draft: {"index": add_small_index(draft, "float16")})
    bundle = Bundle.open(tmp_path / "nobody")
    assert bundle.facts["index"]["probes"] is not None
    index, exact = CandidateIndex.open(bundle), Ranker(bundle)
    liked = bundle.neighbour_indices[:12]
    (found,), (right,) = (
        [rank_one(ranker, liked, 50).indices] for ranker in (Ranker(bundle, index=index), exact)
    )
    assert recall_of([found], [right]) >= 0.9


def test_without_the_library_nothing_is_built(
    clustered: Callable[..., BundleContent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(LibraryMissingError, match=r"needs faiss, which is not installed; pip install"):
        write_bundle(tmp_path / "none", clustered(), lambda draft: {"index": add_index(draft)})
    assert not (tmp_path / "none").exists()


def test_each_kind_of_query_looks_as_far_as_it_has_to() -> None:
    few = [Recall(Kind(FEW, of), None if of < 0.5 else 64, 0.98) for of in FAMILIARITIES]
    many = [Recall(Kind(LONG, of), 16, 0.995) for of in FAMILIARITIES]
    similar = Recall(Kind(SIMILAR), None, 0.9)
    assert chosen_probes([*few, *many, similar]) == Probes(
        few=((0.0, None), (0.25, None), (0.5, 64), (0.75, 64), (1.0, 64)),
        many=tuple((of, 16) for of in FAMILIARITIES),
        similar=None,
    )
    bad = [recall if recall.kind != Kind(LONG) else Recall(Kind(LONG), None, 0.9) for recall in many]
    assert chosen_probes([*few, *bad, similar]) is None


def test_recall_is_the_mean_share_of_the_right_ones() -> None:
    def rows(*tracks: list[int]) -> list[np.ndarray]:
        return [np.array(row, dtype=np.int32) for row in tracks]

    assert recall_of(rows([1, 2, 3, 4], [5, 6]), rows([2, 4, 8, 9], [6, 5])) == 0.75
    assert recall_of(rows([], [1]), rows([], [1])) == 1.0
    assert recall_of(rows([]), rows([])) == 1.0
