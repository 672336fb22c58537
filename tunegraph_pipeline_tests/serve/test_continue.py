"""Lists whose order counts, asked for over HTTP, by the command and by the Lambda function: one answer."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.aws_lambda import handler
from tunegraph_pipeline_tests.recommend.test_continue import continued
from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    end_service,
    make_lake,
    small_content,
    start_service,
)
from tunegraph_pipeline_tests.serve.conftest import track_id as song
from tunegraph_pipeline_tests.serve.test_routes import problem
from tunegraph_pipeline_tests.test_cli import tunegraph

LIKES = [song(track) for track in (3, 7, 11, 40)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every list of 12 songs has an order, and stored users are answered by it."""
    content = continued(small_content(), for_users=True)
    ages = np.tile(np.arange(12)[::-1], len(content.user_ids)).astype(np.uint16)
    return make_lake(tmp_path_factory.mktemp("lake") / "lake", dataclasses.replace(content, user_ages=ages))


@pytest.fixture(scope="module")
def service(lake: Path) -> Iterator[RunningService]:
    started = start_service(lake)
    yield started
    end_service(started)


@pytest.fixture(scope="module")
def music(lake: Path) -> Recommender:
    return Recommender.open(lake / "serving")


def places(answer: Any) -> list[tuple[str, float]]:
    return [(item["track_id"], item["score"]) for item in answer["items"]]


def test_the_answer_is_the_same_by_service_command_function_and_library(
    service: RunningService, lake: Path, music: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGRAPH_BUNDLE", str(music.bundle.folder))
    handler.recommender.cache_clear()
    found = {}
    for options in ({"mode": "continue"}, {"mode": "continue", "recency": 2.5}, {"mode": "mix"}, {}):
        expected = [(one.song.track_id, one.score) for one in music.recommend(LIKES, 7, **options).items]
        body = {"likes": LIKES, "k": 7, **options}
        assert places(service.post("/recommendations", body).json()) == expected
        event = {"httpMethod": "POST", "body": json.dumps(body | {"format": "tunegraph"})}
        assert places(json.loads(handler.lambda_handler(event, None)["body"])) == expected
        flags = [] if not options else ["--continue" if options["mode"] == "continue" else "--mix"]
        if "recency" in options:
            flags += ["--recency", str(options["recency"])]
        given = ["--lake", lake, "--likes", ",".join(LIKES), "-k", 7, "--json"]
        assert places(json.loads(tunegraph("recommend", *given, *flags).stdout)) == expected
        found[str(options)] = expected
    assert found["{}"] == found["{'mode': 'mix'}"]
    assert len(set(map(str, found.values()))) == 3


def test_a_stored_user_is_answered_by_the_order_of_their_list(
    service: RunningService, lake: Path, music: Recommender
) -> None:
    ask = "/users/listener-3/recommendations"
    for mode in (None, "continue", "mix"):
        expected = [
            (one.song.track_id, one.score) for one in music.recommend_user("listener-3", 7, mode=mode).items
        ]
        params = {"k": 7} | ({} if mode is None else {"mode": mode})
        assert places(service.get(ask, params=params).json()) == expected
        flags = [] if mode is None else ["--continue" if mode == "continue" else "--mix"]
        given = ["--lake", lake, "--user", "listener-3", "-k", 7, "--json", *flags]
        assert places(json.loads(tunegraph("recommend", *given).stdout)) == expected
    # In a query string the same name may be a range of the audio feature, which this bundle lacks.
    problem(service.get(ask, params={"mode": "0..1"}), 404, "unknown-filter")
    assert "continue" in problem(service.get(ask, params={"mode": "next"}), 422, "invalid-input")["detail"]


def test_a_score_is_explained_as_it_was_given(service: RunningService, music: Recommender) -> None:
    best = music.recommend(LIKES, 1, mode="continue").items[0]
    body = {"likes": LIKES, "track_id": best.song.track_id, "mode": "continue"}
    answer = service.post("/explanations", body).json()
    assert answer["score"] == pytest.approx(best.score)
    assert service.post("/explanations", body | {"mode": "mix"}).json()["score"] != answer["score"]


@pytest.mark.parametrize("options", [{"recency": 1}, {"mode": "continue", "recency": 11}, {"mode": "next"}])
def test_wrong_options_are_refused_alike(
    service: RunningService, lake: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem(service.post("/recommendations", {"likes": LIKES, **options}), 422, "invalid-input")
    problem(
        service.post("/explanations", {"likes": LIKES, "track_id": LIKES[0], **options}), 422, "invalid-input"
    )
    monkeypatch.setenv("TUNEGRAPH_BUNDLE", str(Recommender.open(lake / "serving").bundle.folder))
    handler.recommender.cache_clear()
    event = {"httpMethod": "POST", "body": json.dumps({"likes": LIKES, **options})}
    assert handler.lambda_handler(event, None)["statusCode"] == 400
