"""A lake that an earlier TuneGraph wrote opens, answers as it did, and goes on being refreshed.

`data/lake_of_november_2026.tar.gz` is such a lake, of format 1, without its Dagster history: 48 users and 60
songs, two of them one recording, with graph, co-likes, model, bundle and recommendations.
"""

import tarfile
from pathlib import Path

import duckdb
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.test_cli import tunegraph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

ARCHIVE = Path(__file__).parent / "data" / "lake_of_november_2026.tar.gz"
ANSWER = {"song15": 1.3695509, "song47": 1.3051088, "song23": 1.3027887}
"""The best songs for user03 and their scores, as the TuneGraph that wrote the lake gave them."""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "lake"


def test_an_earlier_lake_answers_as_it_did(earlier: Path) -> None:
    best = Recommender.open(Lake.open(earlier).serving).recommend_user("user03", k=3)
    found = {item.song.track_id: item.score for item in best.items}
    assert list(found) == list(ANSWER)
    assert found == pytest.approx(ANSWER, abs=1e-6)


def test_an_earlier_lake_is_sound_and_keeps_its_model_in_a_refresh(earlier: Path) -> None:
    sound = tunegraph("verify", "--lake", str(earlier))
    assert sound.returncode == 0
    assert "lake.duckdb: has views of an earlier version, which name files such as" in sound.stdout
    before = Lake.open(earlier).current_version("models")
    done = tunegraph("refresh", "--source", "none", "--lake", str(earlier))
    assert done.returncode == 0, done.stderr
    assert Lake.open(earlier).current_version("models") == before, "the model was trained again"
    sound = tunegraph("verify", "--lake", str(earlier))
    assert sound.returncode == 0
    assert "lake.duckdb" not in sound.stdout


def test_the_views_of_an_earlier_lake_are_repaired_and_a_persons_own_kept(earlier: Path) -> None:
    with duckdb.connect(str(earlier / "lake.duckdb")) as database:
        database.execute("CREATE VIEW mine AS SELECT 7")
    assert tunegraph("verify", "--repair", "--lake", str(earlier)).returncode == 0
    with duckdb.connect(str(earlier / "lake.duckdb"), read_only=True) as database:
        users = database.execute("SELECT count(DISTINCT user_id) FROM tunegraph.current_likes").fetchall()
        assert users == [(48,)]
        assert database.execute("FROM mine").fetchall() == [(7,)]
