"""The lineage of columns names columns that exist, of stages that come before, and leaves none out."""

import pytest

from tunegraph_pipeline.lake.schemas import PERSONAL
from tunegraph_pipeline.pipeline.columns import ARRAYS, MADE_FROM, about_people, columns_of
from tunegraph_pipeline.pipeline.stages import STAGES, Stage, stage

WITH_COLUMNS = [one for one in STAGES if columns_of(one)]
MADE_OF_OTHERS = [one for one in WITH_COLUMNS if not one.daily]
NAMED = {(one.name, column.name) for one in STAGES for column in columns_of(one)}


def stages_before(one: Stage) -> set[str]:
    before = set(one.inputs)
    for name in one.inputs:
        before |= stages_before(stage(name))
    return before


def test_every_stage_that_is_made_of_others_says_how() -> None:
    assert {one.name for one in MADE_OF_OTHERS} == set(MADE_FROM)
    assert set(ARRAYS) <= {one.name for one in STAGES if one.folder and not one.tables}


@pytest.mark.parametrize("one", MADE_OF_OTHERS, ids=lambda one: one.name)
def test_every_column_is_declared_once_and_made_of_columns_of_earlier_stages(one: Stage) -> None:
    declared = [column for columns in MADE_FROM[one.name] for column in columns.split()]
    assert sorted(declared) == sorted(column.name for column in columns_of(one))
    before = stages_before(one)
    for column in columns_of(one):
        for source in column.made_from:
            assert source in NAMED, f"{one.name}.{column.name} is made of {source}, which no stage has"
            assert source[0] in before, f"{one.name} does not come after {source[0]}"
        assert len(set(column.made_from)) == len(column.made_from), column.name


def test_likes_lead_to_recommendations() -> None:
    """From the first to the last stage, by columns alone."""
    found, waiting = set(), [("user_recommendations", "score")]
    while waiting:
        name, wanted = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for column in columns_of(stage(name)):
            if column.name == wanted or name != "user_recommendations":
                waiting += column.made_from
    assert {"liked_lists", "current_likes", "like_graph", "trained_model", "serving_bundle"} <= found
    assert {"tracks", "audio_features", "catalogue"} <= found


def test_columns_with_ids_of_people_are_known_as_such() -> None:
    personal = {(one.name, column.name) for one in STAGES for column in columns_of(one) if column.personal}
    like_one = {
        (name, column) for name, column in NAMED if column.rpartition(".")[2] in (PERSONAL | {"user_ids"})
    }
    assert personal == like_one | {("serving_bundle", "user_hashes")}


def test_stages_about_people() -> None:
    assert {one.name for one in STAGES if about_people(one)} == {
        "crawled_users",
        "liked_lists",
        "likes_from_plays",
        "plays",
        "feedback",
        "current_likes",
        "like_graph",
        "co_like_matrix",
        "serving_bundle",
        "user_recommendations",
    }
