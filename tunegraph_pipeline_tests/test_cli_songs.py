"""Songs given on the command line by id or by name."""

import json
from pathlib import Path

import pytest

from tunegraph_pipeline.cli import show
from tunegraph_pipeline.cli.songs import given_song, given_songs
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.publication import publish
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.recommend.test_search import IDS, SONGS, content_of
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a live bundle of SONGS and nothing else."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("songs") / "lake")
    write_bundle(lake.serving / "v", content_of(SONGS, IDS))
    publish(lake.serving, "v")
    return lake.root


@pytest.fixture(scope="module")
def recommender(lake: Path) -> Recommender:
    return Recommender(Bundle.open(lake / "serving" / "v"))


def id_of(name: str) -> str:
    return IDS[[title for title, *_ in SONGS].index(name)]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["halo"], ["Halo"]),
        (["halo, song001"], ["Halo", "Don't Stop Me Now"]),
        (["halo", "kids"], ["Halo", "Kids"]),
        (["Take Me Home, Country Roads"], ["Take Me Home, Country Roads"]),
        (['"Take Me Home, Country Roads", halo'], ["Take Me Home, Country Roads", "Halo"]),
        ([" , "], []),
        (None, []),
    ],
)
def test_a_list_may_mix_ids_and_names(
    recommender: Recommender, given: list[str] | None, named: list[str]
) -> None:
    assert given_songs(recommender, given) == [id_of(name) for name in named]


def test_what_names_no_song_stays_as_it_is(recommender: Recommender) -> None:
    assert given_songs(recommender, ["halo,nobody knows"]) == [id_of("Halo"), "nobody knows"]


def test_a_name_that_no_song_has_is_refused_with_those_that_are_near(recommender: Recommender) -> None:
    with pytest.raises(InputError, match=r"id or name 'hlao'; did you mean Halo \(Beyoncé\)"):
        given_song(recommender, "hlao")
    with pytest.raises(InputError, match="`tunegraph search` looks for"):
        given_song(recommender, "zzzzzzzz")


def test_of_several_songs_of_a_name_the_most_liked_is_taken_and_the_others_are_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hellos: list[tuple[str, list[str], int]] = [("Hello", ["Adele"], 5), ("Hello", ["Lionel"], 9)]
    write_bundle(tmp_path / "v", content_of(hellos, ["a", "l"]))
    said: list[str] = []
    monkeypatch.setattr(show.notes, "print", lambda text, **_: said.append(text))
    asked = Recommender(Bundle.open(tmp_path / "v"))
    assert given_song(asked, "hello") == "l"
    assert "2 songs are called hello; this is Hello (Lionel)" in said[0]
    assert given_song(asked, "hello adele") == "a"
    assert len(said) == 1


def test_search_shows_names_and_with_ids_the_ids(lake: Path) -> None:
    found = tunegraph("search", "dont", "stop", "--lake", lake)
    assert found.returncode == 0, found.stderr
    assert "Don't Stop Me Now" in found.stdout
    assert "song001" not in found.stdout
    assert "song001" in tunegraph("search", "dont", "stop", "--lake", lake, "--ids").stdout
    (first, *_) = json.loads(tunegraph("search", "halo", "--lake", lake, "--json").stdout)
    assert (first["track_id"], first["name"], first["listeners"]) == (id_of("Halo"), "Halo", 70)
    nothing = tunegraph("search", "zzzzzzzz", "--lake", lake)
    assert nothing.returncode == 0
    assert "no song is called zzzzzzzz" in nothing.stderr


def test_similar_takes_a_name_and_says_which_names_there_are(lake: Path) -> None:
    by_name = tunegraph("similar", "Halo", "-k", 3, "--lake", lake, "--json")
    assert by_name.returncode == 0, by_name.stderr
    assert by_name.stdout == tunegraph("similar", id_of("Halo"), "-k", 3, "--lake", lake, "--json").stdout
    assert "did you mean Halo (Beyoncé)" in complaint(tunegraph("similar", "hlao", "--lake", lake))
