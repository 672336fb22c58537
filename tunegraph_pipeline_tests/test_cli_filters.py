"""`tunegraph recommend` and `similar` with filters."""

import json
from pathlib import Path

import pytest

from tunegraph_pipeline_tests.recommend.conftest import golden_content
from tunegraph_pipeline_tests.serve.conftest import make_lake
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with the four golden songs: a is jazz of 1999, b of 1967, c jazz and hip-hop, d of 2004."""
    return make_lake(tmp_path / "lake", golden_content())


@pytest.mark.parametrize(
    ("options", "songs"),
    [
        (["--genre", "jazz"], ["c"]),
        (["--genre", "hip hop, jazz", "--not-genre", "hip-hop"], []),
        (["--year", "2000.."], ["d"]),
        (["--year", "2000..", "--allow-unknown"], ["c", "d"]),
        (["--mood", "calm"], []),
        (["--loudness", "-10--5"], ["c"]),
        (["--energy", "0.5..", "--loudness", "..-5", "--allow-unknown"], ["c", "d"]),
    ],
)
def test_songs_that_do_not_pass_are_left_out(lake: Path, options: list[str], songs: list[str]) -> None:
    done = tunegraph("recommend", "--user", "ann", "--json", "--lake", lake, *options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [item["track_id"] for item in answer["items"]] == songs
    assert answer["passing"] >= len(songs)


def test_similar_songs_are_filtered_too(lake: Path) -> None:
    def near(*options: str) -> list[str]:
        done = tunegraph("similar", "b", "--json", "--lake", lake, *options)
        assert done.returncode == 0, done.stderr
        return [item["track_id"] for item in json.loads(done.stdout)]

    assert sorted(near()) == ["a", "c", "d"]
    assert sorted(near("--genre", "jazz")) == ["a", "c"]
    assert near("--genre", "jazz", "--year", "1990..", "--loudness", "..-10") == ["a"]
    assert "no genre 'jaz'" in complaint(tunegraph("similar", "b", "--genre", "jaz", "--lake", lake))


def test_the_number_of_songs_that_pass_is_said(lake: Path) -> None:
    done = tunegraph("recommend", "--user", "ann", "--genre", "jazz", "--lake", lake)
    assert "2 songs pass the filters" in done.stderr
    assert "pass" not in tunegraph("recommend", "--user", "ann", "--lake", lake).stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--genre", "jaz"], "bundle v1 has no genre 'jaz'; near it: Jazz"),
        (["--tempo", "fast"], "tempo is 'fast'; write a range as 90-120, 90.. or ..120, or one number"),
        (["--mood", "angry"], "mood is 'angry'; choose one of"),
        (["--tempo", "90-120"], "bundle v1 knows the tempo of no song"),
    ],
)
def test_a_wrong_filter_is_one_line(lake: Path, options: list[str], line: str) -> None:
    assert line in complaint(tunegraph("recommend", "--user", "ann", "--lake", lake, *options))
