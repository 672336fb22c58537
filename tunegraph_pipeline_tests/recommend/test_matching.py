"""Songs of a list from elsewhere are found by id, by ISRC, or by artist and title."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.matching import Song, match
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.recommend.conftest import golden_content, random_content


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Songs a, b, c and d of the golden bundle; a and c are called the same, and c is more popular."""
    makers = [["The Lanterns"], ["Ben", "Óla"], ["Dee", "the lanterns"], []]
    content = dataclasses.replace(
        golden_content(),
        names=["Blue Harbour", "Song B", "Blue  Harbour!", ""],
        by=Artists.of_lists([[]] * 4, makers),
    )
    write_bundle(tmp_path / "v1", content)
    return Bundle.open(tmp_path / "v1")


def test_the_id_counts_first_then_the_isrc_then_artist_and_title(bundle: Bundle) -> None:
    found = match(
        bundle,
        [
            Song("d", "GB-AYE-06-01498", "Blue Harbour", ["The Lanterns"]),
            Song("x1", "gb-aye-06-01498", "Blue Harbour", ["The Lanterns"]),
            Song("x2", "", "blue harbour", ["Somebody", "THE LANTERNS"]),
            Song("x3", "", "Blue Harbour", ["Somebody"]),
            Song("x4", "not a code", "Song B", []),
        ],
    )
    assert found.ids == ["d", "b", "c"]
    assert found.unknown == ["x3", "x4"]
    assert found.found == {"id": 1, "ISRC": 1, "artist and title": 1, "artist and title without remarks": 0}
    assert found.sentence() == ("in that model: 3 of 5 songs (1 by id, 1 by ISRC, 1 by artist and title)")


def test_a_song_that_nothing_else_finds_is_found_without_remarks_if_only_one_fits(tmp_path: Path) -> None:
    makers = [["The Lanterns"], ["Ben feat. Óla"], ["Dee"], ["Dee"]]
    content = dataclasses.replace(
        golden_content(),
        names=["Blue Harbour - 2011 Remaster", "Home", "Two (feat. Ann)", "Two (feat. Bo)"],
        by=Artists.of_lists([[]] * 4, makers),
    )
    write_bundle(tmp_path / "v1", content)
    found = match(
        Bundle.open(tmp_path / "v1"),
        [
            Song("x1", name="Blue Harbour (Deluxe Edition)", artists=["The Lanterns"]),
            Song("x2", name="Home", artists=["Ben"]),
            Song("x3", name="Two", artists=["Dee"]),
            Song("x4", name="Blue Harbour (Live)", artists=["The Lanterns", "Bo"]),
            Song("x5"),
        ],
    )
    assert found.ids == ["a", "b"]
    assert found.found["artist and title without remarks"] == 2
    assert (
        found.missing_sentence(2)
        == "not in it: Two by Dee, Blue Harbour (Live) by The Lanterns, Bo, and 1 more"
    )


def test_of_songs_that_are_called_the_same_the_popular_one_is_it_and_none_is_recommended(
    bundle: Bundle,
) -> None:
    found = match(bundle, [Song("x", name="Blue Harbour", artists=["The Lanterns"])])
    assert (found.ids, found.also) == (["c"], ["a"])
    answer = Recommender(bundle).recommend(found.ids, exclude=found.also)
    assert {item.song.track_id for item in answer.items} == {"b", "d"}


def test_a_song_found_by_its_id_counts_also_under_its_other_ids(bundle: Bundle) -> None:
    found = match(bundle, [Song("a", name="Blue Harbour", artists=["The Lanterns"])])
    assert (found.ids, found.also) == (["a"], ["c"])


def test_an_isrc_may_be_the_id_of_either_side(tmp_path: Path) -> None:
    ids = ["isrc:GBAYE0601498", "b", "c", "d"]
    content = dataclasses.replace(golden_content(), track_ids=ids, isrcs=["", "GBAYE0601477", "", ""])
    write_bundle(tmp_path / "v1", content)
    bundle = Bundle.open(tmp_path / "v1")
    found = match(bundle, [Song("x", "GBAYE0601498"), Song("isrc:GB-AYE-06-01477")])
    assert (found.ids, found.unknown) == (["isrc:GBAYE0601498", "b"], [])
    assert found.found == {"id": 0, "ISRC": 2, "artist and title": 0, "artist and title without remarks": 0}


def test_a_recording_is_found_once_under_its_canonical_id(tmp_path: Path) -> None:
    content = dataclasses.replace(
        golden_content(),
        canonical=np.array([0, 1, 2, 0], dtype=np.int32),
        recommendable=np.array([True, True, True, False]),
        isrcs=["GBAYE0601498", "", "", "GBAYE0601498"],
    )
    write_bundle(tmp_path / "v1", content)
    found = match(Bundle.open(tmp_path / "v1"), [Song("x", "GBAYE0601498"), Song("d")])
    assert (found.ids, found.also) == (["a", "a"], [])


def test_an_isrc_of_many_recordings_names_none_of_them(tmp_path: Path) -> None:
    content = dataclasses.replace(random_content(1), isrcs=["GBAYE0601498"] * 21 + [""] * 39)
    write_bundle(tmp_path / "v1", content)
    assert match(Bundle.open(tmp_path / "v1"), [Song("x", "GBAYE0601498")]).unknown == ["x"]


def test_an_empty_list_is_no_problem(bundle: Bundle) -> None:
    assert match(bundle, []).sentence() == "in that model: 0 of 0 songs"
