"""The library as a notebook uses it, and what it does not import."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunegraph_pipeline
from tunegraph_pipeline import Query, blend, open_bundle, recommend_many
from tunegraph_pipeline.errors import BundleError, InputError
from tunegraph_pipeline_tests.conftest import PROJECT
from tunegraph_pipeline_tests.serve.conftest import make_lake, small_content, track_id

A, B = [track_id(track) for track in (1, 5, 9)], [track_id(track) for track in (2, 6)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return make_lake(tmp_path / "lake", small_content())


def test_five_lines_are_enough(lake: Path) -> None:
    music = open_bundle(lake)
    answer = music.recommend(A, k=5)
    assert len(answer.items) == 5
    assert music.similar(A[0], k=3)
    assert music.explain(A, answer.items[0].song.track_id).score == pytest.approx(answer.items[0].score)
    assert len(blend(music, [A, B], k=4)) == 4
    assert music.answer([Query(A, k=5)]) == [answer]


def test_a_bundle_opens_by_its_own_folder_too(lake: Path) -> None:
    assert open_bundle(str(lake / "serving" / "v1")).recommend(A) == open_bundle(lake).recommend(A)
    with pytest.raises(BundleError, match="no bundle has been published"):
        open_bundle(lake / "nothing")


def test_the_package_imports_nothing_and_the_library_numpy_alone(lake: Path) -> None:
    code = f"""
import sys
import tunegraph_pipeline
assert "numpy" not in sys.modules
from tunegraph_pipeline import open_bundle
open_bundle({str(lake)!r}).recommend({A!r})
heavy = {{"polars", "torch", "pyarrow", "pydantic", "scipy", "dagster", "fastapi"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'recommend_me'"):
        _ = tunegraph_pipeline.recommend_me
    assert set(tunegraph_pipeline.__all__) == {
        "Filters",
        "Query",
        "Recommender",
        "blend",
        "compare",
        "find_path",
        "open_bundle",
        "recommend_many",
    }
    assert all(getattr(tunegraph_pipeline, name) for name in tunegraph_pipeline.__all__)


def test_the_page_of_the_library_runs(lake: Path) -> None:
    text = (PROJECT / "docs" / "library.md").read_text()
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", text)
    first, second = (track_id(1), track_id(5))
    code = "\n".join(blocks).replace("data_lake/demo", str(lake))
    code = code.replace("0I3q5fE6wg7LIfHGngUTnV", first).replace("2Fxmhks0bxGSBdJ92vM42m", second)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["answer"].items) == len(names["near"]) == 5
    assert len(names["for_two"]) == 20
    assert names["table"].shape == (10, 7)
    assert [step.song.track_id for step in names["steps"]][:: len(names["steps"]) - 1] == [first, second]


def test_many_lists_are_one_table(lake: Path) -> None:
    music = open_bundle(lake)
    table = recommend_many(music, {"ann": A, "bo": B}, k=4, max_per_artist=1)
    for name, likes in (("ann", A), ("bo", [*B])):
        answer = music.recommend(likes, k=4, max_per_artist=1)
        rows = table.filter(list=name)
        assert rows["track_id"].to_list() == [item.song.track_id for item in answer.items]
        assert rows["score"].to_list() == [item.score for item in answer.items]
        assert rows["rank"].to_list() == [1, 2, 3, 4]
        assert set(rows["found"]) == {len(likes)}
    assert recommend_many(music, {}).is_empty()
    with pytest.raises(InputError, match="surprise is 2"):
        recommend_many(music, {"ann": A}, surprise=2)


def test_a_blend_takes_turns(lake: Path) -> None:
    music = open_bundle(lake)
    blended = blend(music, [A, B], k=10)
    ids = [one.song.track_id for one in blended]
    assert len(set(ids)) == 10
    assert not set(ids) & {*A, *B}
    # The two lists are of two scenes, and share no song near their tops.
    first = [one for one in blended if one.chosen_by == 0]
    assert abs(len(first) - 5) <= 1
    for listener, likes in enumerate((A, B)):
        alone = [item.song.track_id for item in music.recommend(likes, k=40, exclude=[*A, *B]).items]
        for one in blended:
            rank = one.ranks[listener]
            assert rank == (alone.index(one.song.track_id) + 1 if one.song.track_id in alone else None)
        own = [one.song.track_id for one in blended if one.chosen_by == listener]
        assert own == [track for track in alone if track in own]


def test_of_two_alike_both_get_the_best_of_one(lake: Path) -> None:
    music = open_bundle(lake)
    blended = blend(music, [A, A], k=6)
    assert [one.song for one in blended] == [item.song for item in music.recommend(A, k=6).items]
    assert all(one.ranks[0] == one.ranks[1] for one in blended)


def test_who_is_unknown_chooses_nothing(lake: Path) -> None:
    music = open_bundle(lake)
    blended = blend(music, [["nobody"], A], k=5, max_per_artist=1)
    assert {one.chosen_by for one in blended} == {1}
    assert {one.ranks[0] for one in blended} == {None}


@pytest.mark.parametrize(
    ("lists", "k", "words"),
    [
        ([A], 5, "of 2 to 50 lists"),
        ([A] * 51, 5, "of 2 to 50 lists"),
        ([A, B], 0, "at least one song"),
        ([["nobody"], []], 5, "no song for any"),
    ],
)
def test_a_blend_refuses(lake: Path, lists: list[list[str]], k: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        blend(open_bundle(lake), lists, k)
    with pytest.raises(InputError, match="familiarity"):
        blend(open_bundle(lake), [A, B], familiarity=2)
