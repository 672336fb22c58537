"""When the bundle of a lake gets an index, and what is told of it."""

import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.errors import LakeError, LibraryMissingError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import bundle
from tunegraph_pipeline.pipeline.bundle import add_index_if_set, bundle_of
from tunegraph_pipeline.pipeline.publish import index_facts
from tunegraph_pipeline.pipeline.settings import ServingSettings
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.recommend import indexing
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.index import INDEX_FILE
from tunegraph_pipeline.recommend.indexing import THRESHOLD
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

DAY = date(2026, 2, 1)


@pytest.fixture(autouse=True)
def _measured_on_few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_QUERIES", 60)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A small simulated lake, refreshed once with the settings it has by itself."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("indexed") / "lake")
    lake.set_section("simulator", {"n_users": 120, "n_tracks": 250, "over_http": False})
    lake.set_section("training", {"dimension": 16, "epochs": 1, "encoder": "none"})
    run_stages(lake, "refresh", DAY, DAY, {"crawled_users": {"source": "simulator"}})
    return Lake.open(lake.root)


def live(lake: Lake) -> Bundle:
    return Bundle.open(read_current(lake.serving))


def with_settings(lake: Lake, folder: Path, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    """The facts about the index that a copy of the live bundle gets, and what is told meanwhile."""
    draft = Path(shutil.copytree(live(lake).folder, folder / "draft"))
    notes: list[str] = []
    with watched_by(lambda *_: None, notes.append):
        return add_index_if_set(draft, ServingSettings(**settings)), notes


def test_a_small_catalogue_is_ranked_exactly(lake: Lake) -> None:
    bundle = live(lake)
    assert "index" not in bundle.facts
    assert bundle.file(INDEX_FILE) is None
    assert int(bundle.recommendable.sum()) < THRESHOLD
    assert index_facts(bundle)[0]["index"] == "none: every query reads all tracks"


@pytest.mark.parametrize(
    ("settings", "built"),
    [
        ({}, False),
        ({"index": "exact", "index_from": 1}, False),
        ({"index_from": 1}, True),
        ({"index": "approximate", "index_storage": "float16"}, True),
    ],
)
def test_the_settings_say_whether_there_is_one(
    lake: Lake, tmp_path: Path, settings: dict[str, Any], built: bool
) -> None:
    facts, _ = with_settings(lake, tmp_path, **settings)
    assert ("index" in facts) == built
    if built:
        assert facts["index"]["storage"] == settings.get("index_storage", "int8")
        kept = facts["index"]["probes"] is not None
        assert (tmp_path / "draft" / INDEX_FILE).exists() == kept


def test_a_catalogue_that_would_have_one_is_told_of_a_missing_library(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    facts, (note,) = with_settings(lake, tmp_path, index_from=1)
    assert facts == {}
    assert "are ranked exactly" in note
    assert "pip install 'tunegraph-pipeline[index]'" in note
    shutil.rmtree(tmp_path / "draft")
    with pytest.raises(LibraryMissingError, match="needs faiss"):
        with_settings(lake, tmp_path, index="approximate")


def test_an_index_that_finds_too_little_is_told_of(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = {"probes": None, "recall": {"three likes": 0.912, "stored lists": 0.95}}
    monkeypatch.setattr(bundle, "add_index", lambda folder, storage: poor)
    facts, (note,) = with_settings(lake, tmp_path, index="approximate")
    assert facts == {"index": poor}
    assert "found 0.912 of the best, not 0.99: it was left out" in note


def test_a_changed_setting_makes_a_bundle_of_its_own_with_the_index_in_its_metadata(
    lake: Lake,
) -> None:
    before = live(lake)
    lake.set_section("serving", {"index": "approximate", "index_storage": "float32"})
    try:
        result = run_stages(lake, "refresh", DAY, DAY)["serving_bundle"]
        after = live(Lake.open(lake.root))
        assert after.version != before.version
        assert after.model_version == before.model_version
        facts = after.facts["index"]
        assert facts["storage"] == "float32"
        assert len(Recommender(after).recommend_user(after.users[0], 5).items) == 5
        assert str(result.facts["index"]).startswith(f"faiss, {facts['lists']:,} lists")
        assert result.facts["index build (seconds)"] == facts["seconds"]
        assert "| three likes |" in str(result.tables["index recall@10 and @50"])
        assert bundle_of(Lake.open(lake.root), after.model_version).version == after.version
    finally:
        lake.set_section("serving", {})


def test_a_setting_that_is_none_is_named(lake: Lake) -> None:
    lake.set_section("serving", {"index": "fast"})
    try:
        with pytest.raises(LakeError, match="index"):
            bundle_of(Lake.open(lake.root), live(lake).model_version)
    finally:
        lake.set_section("serving", {})
