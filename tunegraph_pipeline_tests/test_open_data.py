"""Open data from end to end: dumps are served and refreshed, then somebody who is in none of them comes with
an account export."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.licences import licence_of
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.pipeline.dump_days import SECTION
from tunegraph_pipeline.simulator.dump_server import DumpServer
from tunegraph_pipeline.simulator.dumps.archives import publish
from tunegraph_pipeline.song_ids import NAME_PREFIX
from tunegraph_pipeline_tests.dump_world import FULL, SERVED, TODAY, account_export, make_world
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.test_cli import tunegraph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

DAYS = [FULL, FULL + timedelta(days=1), FULL + timedelta(days=2)]
ASKED = {"crawled_users": {"source": DUMPS}}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that was refreshed from dumps."""
    folder = tmp_path_factory.mktemp("open")
    publish(make_world(), folder / "dumps", TODAY)
    lake = Lake.open_or_create(folder / "lake")
    lake.set_section("training", {"dimension": 8, "epochs": 2, "encoder": "none"})
    lake.set_section("plays", {"min_plays": 2, "min_days": 1})  # a month of a small world
    with DumpServer(folder / "dumps") as server:
        lake.set_section(SECTION, {"mirror": f"{server.url}/{SERVED}", "months": 1})
        run_stages(lake, "refresh", FULL, TODAY, ASKED)
    return lake


def test_plays_of_dumps_become_likes_a_model_and_recommendations(lake: Lake) -> None:
    key = lake.current_version("current_likes")
    assert key == TODAY.isoformat()
    played = lake.read("likes_from_plays", key)
    likes = lake.read("current_likes", key)
    assert set(likes.select("user_id", "track_id").rows()) == set(played.select("user_id", "track_id").rows())
    assert likes["user_id"].str.starts_with("listenbrainz:").all()
    known = read_catalogue(lake).filter(pl.col("track_id").is_in(likes["track_id"].implode()))
    assert known["album"].null_count() < 0.5 * len(known)
    assert lake.licences() == [licence_of(DUMPS)]
    done = tunegraph("recommend", "--user", likes["user_id"][0], "--lake", lake.root, "--json")
    assert json.loads(done.stdout)["items"], done.stderr


def test_who_comes_with_an_export_is_served_before_and_after_the_next_refresh(
    lake: Lake, tmp_path: Path
) -> None:
    export, theirs = account_export(lake, tmp_path / "my_spotify_data.zip", DAYS)
    done = tunegraph("import", export, "--as-of", TODAY, "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert f"{len(theirs)} of {len(theirs) + 1} songs" in done.stderr
    assert "not in it: Not There by Nobody Known" in done.stderr

    def recommended() -> list[dict[str, object]]:
        answer = tunegraph("recommend", "--user", "me", "-k", 5, "--lake", lake.root, "--json")
        assert answer.returncode == 0, answer.stderr
        items: list[dict[str, object]] = json.loads(answer.stdout)["items"]
        assert len(items) == 5
        assert not theirs & {str(item["track_id"]) for item in items}
        assert all(item["reasons"] for item in items)
        for item in items:
            of_musicbrainz = f"https://musicbrainz.org/recording/{item['track_id']}"
            assert item["link"] == ("" if str(item["track_id"]).startswith(NAME_PREFIX) else of_musicbrainz)
        shown = tunegraph("recommend", "--user", "me", "-k", 5, "--lake", lake.root, "--links", "auto")
        links = [line.split(maxsplit=1) for line in shown.stdout.splitlines()[-5:]]
        assert links == [[f"{n}", item["link"] or "no link is known"] for n, item in enumerate(items, 1)]
        return items

    recommended()
    lake = Lake.open(lake.root)
    run_stages(lake, "refresh", TODAY, TODAY, {"crawled_users": {"source": "none"}})
    likes = lake.read("current_likes", lake.current_version("current_likes"))
    assert len(likes.filter(user_id="me")) == len(theirs) + 1
    recommended()
