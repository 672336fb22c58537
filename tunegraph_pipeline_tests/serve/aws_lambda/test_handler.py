"""The function of AWS Lambda: events as AWS documents them in, answers in both shapes out, no traceback."""

import base64
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.aws_lambda import handler as module
from tunegraph_pipeline.serve.aws_lambda.handler import lambda_handler
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.recommend.conftest import golden_content, random_content

Event = dict[str, Any]

REST_EVENT: Event = {
    "resource": "/recommendations",
    "path": "/recommendations",
    "httpMethod": "GET",
    "headers": {"Accept": "*/*", "Host": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com"},
    "multiValueHeaders": {"Accept": ["*/*"]},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "pathParameters": None,
    "stageVariables": None,
    "requestContext": {
        "resourceId": "2gxmpl",
        "resourcePath": "/recommendations",
        "httpMethod": "GET",
        "extendedRequestId": "JJbxmplHYosFVYQ=",
        "requestTime": "10/Mar/2020:00:03:59 +0000",
        "path": "/Prod/recommendations",
        "accountId": "123456789012",
        "protocol": "HTTP/1.1",
        "stage": "Prod",
        "domainPrefix": "70ixmpl4fl",
        "requestTimeEpoch": 1583798639428,
        "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
        "identity": {"sourceIp": "52.255.255.12", "userAgent": "curl"},
        "domainName": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com",
        "apiId": "70ixmpl4fl",
    },
    "body": None,
    "isBase64Encoded": False,
}
"""Of a REST API, format 1.0."""

HTTP_EVENT: Event = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/recommendations",
    "rawQueryString": "",
    "headers": {"accept": "*/*", "content-type": "application/json"},
    "requestContext": {
        "accountId": "123456789012",
        "apiId": "api-id",
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "domainPrefix": "id",
        "http": {
            "method": "GET",
            "path": "/recommendations",
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1",
            "userAgent": "agent",
        },
        "requestId": "JKJaXmPLvHcESHA=",
        "routeKey": "$default",
        "stage": "$default",
        "time": "12/Mar/2020:19:03:58 +0000",
        "timeEpoch": 1583348638390,
    },
    "isBase64Encoded": False,
}
"""Of an HTTP API or a function URL, format 2.0: what there is none of is left out."""


def rest(method: str, query: dict[str, list[str]] | None = None, body: object = None) -> Event:
    event = deepcopy(REST_EVENT)
    event["httpMethod"] = event["requestContext"]["httpMethod"] = method
    if query:
        event["multiValueQueryStringParameters"] = query
        event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
    if body is not None:
        event["body"] = json.dumps(body)
    return event


def http(method: str, query: dict[str, list[str]] | None = None, body: object = None) -> Event:
    event = deepcopy(HTTP_EVENT)
    event["requestContext"]["http"]["method"] = method
    if query:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in query.items()}
    if body is not None:
        event["body"] = json.dumps(body)
    return event


def balanced(
    method: str, query: dict[str, list[str]] | None = None, body: object = None, *, several: bool = False
) -> Event:
    """Of an application load balancer: the query string is as in the address; ``several`` as a target group
    gives it that is set to lists of values."""
    event: Event = {
        "requestContext": {
            "elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-2:1:targetgroup/t/1"}
        },
        "httpMethod": method,
        "path": "/recommendations",
        "body": "" if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
    values = {quote_plus(name): [quote_plus(one) for one in given] for name, given in (query or {}).items()}
    if several:
        event["multiValueHeaders"] = {"accept": ["*/*"], "x-request-id": ["mine"]}
        event["multiValueQueryStringParameters"] = values
    else:
        event["headers"] = {"accept": "*/*", "x-request-id": "mine"}
        event["queryStringParameters"] = {name: given[-1] for name, given in values.items()}
    return event


def encoded(event: Event) -> Event:
    return {**event, "body": base64.b64encode(event["body"].encode()).decode(), "isBase64Encoded": True}


BOTH = pytest.mark.parametrize("make", [rest, http])
MakeEvent = Callable[..., Event]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A new container over the golden bundle."""
    content = golden_content()
    content.facts["cut_off"] = "2026-11-24"
    write_bundle(tmp_path / "bundle", content)
    for name in ("TUNEGRAPH_BUNDLE_URL", "TUNEGRAPH_CORS_ORIGIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEGRAPH_BUNDLE", str(tmp_path / "bundle"))
    module.recommender.cache_clear()


def answer(event: Event, status: int = 200) -> dict[str, Any]:
    response = lambda_handler(event, None)
    assert response["statusCode"] == status, response["body"]
    assert response["isBase64Encoded"] is False
    assert all(isinstance(value, str) for value in response["headers"].values())
    found: dict[str, Any] = json.loads(response["body"])
    return found


# --- the two shapes ---


@BOTH
def test_the_shape_of_the_2022_service_is_given_unless_ours_is_asked_for(make: MakeEvent) -> None:
    assert answer(make("GET", {"likes": ["a"], "k": ["2"]})) == {
        "count": 2,
        "music": [
            {"musicId": "d", "musicName": "", "artistName": "", "imageUrl": "", "musicUrl": ""},
            {
                "musicId": "c",
                "musicName": "Sång C",
                "artistName": "Cem, Dee",
                "imageUrl": "https://example.org/c.jpg",
                "musicUrl": "https://example.org/c.mp3",
            },
        ],
        "message": "ok",
    }


@BOTH
def test_our_shape_is_that_of_the_http_service(make: MakeEvent) -> None:
    ours = answer(make("GET", {"likes": ["a", "nobody"], "k": ["2"], "format": ["tunegraph"]}))
    recommended = module.recommender().recommend(["a", "nobody"], 2)
    assert ours == {
        "bundle_version": "v1",
        "model_version": "m1",
        "items": [
            {
                "rank": rank,
                "track_id": item.song.track_id,
                "name": item.song.name,
                "artists": item.song.artists,
                "image_url": item.song.image_url,
                "preview_url": item.song.preview_url,
                "explicit": None,
                "score": item.score,
                "x": item.song.x,
                "y": item.song.y,
                "year": item.song.year,
                "link": "",
                "genres": list(item.song.genres),
                "links": {},
                "reasons": [{"track_id": "a", "name": "Song A", "artists": "Ann", "listeners": 0}],
            }
            for rank, item in enumerate(recommended.items, 1)
        ],
        "found": 1,
        "passing": None,
        "unknown": ["nobody"],
        "degraded": None,
    }


def test_the_artist_of_the_2022_service_is_the_first_one(tmp_path: Path) -> None:
    content = golden_content()
    names = [["Ann"], ["Ben"], ["Cem", "Dee"], []]
    written = {**content.__dict__, "by": Artists.of_lists(names, names)}
    write_bundle(tmp_path / "bundle", type(content)(**written))
    music = answer(http("GET", {"likes": ["a"]}))["music"]
    assert {one["musicId"]: one["artistName"] for one in music}["c"] == "Cem"


@pytest.mark.parametrize(
    ("likes", "message"),
    [
        (["a"], "ok"),
        (["a", "nobody"], "not known of the given songs: 1"),
        (["nobody"], "no given song is known, so these are the most popular ones"),
        ([], "no liked songs were given, so these are the most popular ones"),
    ],
)
def test_the_message_says_what_a_listener_should_know(likes: list[str], message: str) -> None:
    assert answer(http("POST", body={"likes": likes}))["message"] == message


# --- a load balancer ---


@pytest.mark.parametrize("several", [False, True])
def test_a_load_balancer_is_answered_in_its_form(several: bool) -> None:
    event = balanced("GET", {"likes": ["a", "nobody é, &"], "k": ["1"]}, several=several)
    if not several:
        event["queryStringParameters"]["likes"] = quote_plus("a,nobody é, &")
    response = lambda_handler(event, None)
    assert response["statusCode"] == 200, response["body"]
    assert response["statusDescription"] == "200 OK"
    assert response["isBase64Encoded"] is False
    headers = {"X-Request-ID": "mine", "Content-Type": "application/json"}
    if several:
        assert response["multiValueHeaders"] == {name: [text] for name, text in headers.items()}
        assert "headers" not in response
    else:
        assert response["headers"] == headers
    found = json.loads(response["body"])
    assert (found["count"], found["message"]) == (1, "not known of the given songs: 2")


def test_what_a_load_balancer_sends_encoded_is_decoded_once() -> None:
    event = balanced("GET", {"likes": ["100%25"], "format": ["tunegraph"]})
    assert json.loads(lambda_handler(event, None)["body"])["unknown"] == ["100%25"]
    posted = encoded(balanced("POST", body={"likes": ["a"], "k": 1}))
    assert json.loads(lambda_handler(posted, None)["body"])["count"] == 1
    refused = lambda_handler(balanced("DELETE"), None)
    assert (refused["statusCode"], refused["statusDescription"]) == (405, "405 Method Not Allowed")


# --- asking ---


@BOTH
def test_a_query_string_and_a_body_in_clear_or_base64_ask_the_same(make: MakeEvent) -> None:
    """The same as the recommender is asked directly, with every option."""
    asked = {
        "likes": ["a", "b"],
        "dislikes": ["d"],
        "exclude": ["nobody"],
        "k": 3,
        "familiarity": 0.9,
        "diversity": 0.25,
        "max_per_artist": 1,
        "explicit": False,
    }
    query = {
        "likes": ["a,b"],
        "dislikes": ["d"],
        "exclude": ["nobody"],
        "k": ["3"],
        "familiarity": ["0.9"],
        "diversity": ["0.25"],
        "max_per_artist": ["1"],
        "explicit": ["false"],
        "format": ["tunegraph"],
    }
    by_body = make("POST", body={**asked, "format": "tunegraph"})
    found = answer(by_body)
    assert found == answer(encoded(by_body))
    assert found == answer(make("GET", query))
    assert found == answer(make("GET", {**query, "likes": ["a", " b "]}))  # given twice
    assert found == answer(make("POST", {"format": ["tunegraph"], "k": ["1"]}, body=asked))
    direct = Recommender(Bundle.open(module.recommender().bundle.folder)).recommend(**asked)  # type: ignore[arg-type]
    assert [item["track_id"] for item in found["items"]] == [item.song.track_id for item in direct.items]
    assert [item["score"] for item in found["items"]] == [item.score for item in direct.items]
    assert found["unknown"] == ["nobody"]


@pytest.mark.parametrize(("shape", "length"), [("seed", 30), ("tunegraph", 10)])
def test_each_shape_is_as_long_as_its_clients_expect(tmp_path: Path, shape: str, length: int) -> None:
    write_bundle(tmp_path / "bundle", random_content(3))
    found = answer(http("GET", {"likes": ["t1"], "format": [shape]}))
    assert len(found["music" if shape == "seed" else "items"]) == length


def test_songs_without_a_preview_are_left_out_where_asked_for(tmp_path: Path) -> None:
    content = random_content(4, n_tracks=200)
    heard = {track for track in range(200) if track % 9 == 0}
    previews = [f"https://p/{track}" if track in heard else "" for track in range(200)]
    write_bundle(tmp_path / "bundle", type(content)(**{**content.__dict__, "preview_urls": previews}))
    ask = {"likes": ["t1"], "k": ["7"]}
    music = answer(http("GET", {**ask, "only_with_preview": ["true"]}))["music"]
    every = module.recommender().recommend(["t1"], 200).items
    assert [one["musicId"] for one in music] == [
        item.song.track_id for item in every if item.song.preview_url
    ][:7]
    assert not all(one["musicUrl"] for one in answer(http("GET", ask))["music"])
    many = answer(http("GET", {**ask, "k": ["100"], "only_with_preview": ["true"]}))
    assert many["count"] == len([item for item in every if item.song.preview_url]) < 100


def test_where_no_song_has_a_preview_none_is_left(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", random_content(4))
    found = answer(http("GET", {"likes": ["t1"], "only_with_preview": ["1"]}))
    assert (found["count"], found["music"]) == (0, [])


# --- refusing ---

REFUSED: list[tuple[Event, int, str]] = [
    (http("GET", {"likes": ["a"], "k": ["0"]}), 400, "k is 0; it goes from 1 to 500"),
    (http("GET", {"likes": ["a"], "k": ["501"]}), 400, "k is 501; it goes from 1 to 500"),
    (http("GET", {"likes": ["a"], "k": ["ten"]}), 400, "k has to be a whole number"),
    (
        http("GET", {"likes": ["a"], "familiarity": ["nan"]}),
        400,
        "familiarity has to be a number from 0 to 1",
    ),
    (http("GET", {"likes": ["a"], "explicit": ["no"]}), 400, "explicit has to be true or false"),
    (http("GET", {"likes": ["a"], "format": ["xml"]}), 400, "format has to be seed or tunegraph"),
    (http("GET", {"liked": ["a"]}), 400, "'liked' is not one of likes, dislikes, exclude,"),
    (http("GET", {"likes": ["ä" * 513]}), 400, "likes has an id that is empty or longer than 1,024 bytes"),
    (http("GET", {"likes": ["a,"] * 2001}), 400, "likes has 2001 ids; 2000 are the most"),
    (http("POST", body=["a"]), 400, 'the body has to be an object, such as {"likes": ["ID"]}'),
    (http("POST", body={"likes": "a"}), 400, "likes has to be a list of track ids"),
    (http("POST", body={"likes": [1]}), 400, "likes has to be a list of track ids"),
    (http("POST", body={"likes": [""]}), 400, "likes has an id that is empty"),
    (http("POST", body={"k": True}), 400, "k has to be a whole number"),
    (http("POST", body={"k": None}), 400, "k has to be a whole number"),
    (http("POST", body={"k": 10**400}), 400, "k is 1000"),
    (http("POST", body={"diversity": 1.5}), 400, "diversity has to be a number from 0 to 1"),
    (http("POST", body={"only_with_preview": 1}), 400, "only_with_preview has to be true or false"),
    (http("POST", body={"user_id": "ann"}), 400, "'user_id' is not one of"),
    ({**http("POST"), "body": "{'likes'"}, 400, "the body is not JSON"),
    ({**http("POST"), "body": "[" * 100_000}, 400, "the body is not JSON"),
    ({**http("POST"), "body": "[" * 101 + "]" * 101}, 400, "the body is not JSON"),
    ({**http("POST"), "body": "[" * 100 + "]" * 100}, 400, "the body has to be an object"),
    ({**http("POST"), "body": "/w==", "isBase64Encoded": True}, 400, "the body is not JSON"),
    ({**http("POST"), "body": "%%%", "isBase64Encoded": True}, 400, "is marked as base64 but is not"),
    ({**http("POST"), "body": " " * 262_200}, 413, "the body is longer than 262144 bytes"),
    (rest("DELETE"), 405, "DELETE is not one of GET and POST"),
    ({}, 400, "this is not an event of API Gateway"),
    ({"likes": ["a"]}, 400, "this is not an event of API Gateway"),
    ({"requestContext": "x"}, 400, "this is not an event of API Gateway"),
    ({**http("POST"), "body": 7}, 400, "this is not an event of API Gateway"),
]


@pytest.mark.parametrize(("event", "status", "says"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_line(event: Event, status: int, says: str) -> None:
    found = answer(event, status)
    assert found["message"].startswith(says) or says in found["message"]
    assert found == {"count": 0, "music": [], "message": found["message"]}
    assert "\n" not in found["message"]


def test_a_refusal_in_our_shape_is_a_problem() -> None:
    for event in (
        http("GET", {"k": ["0"], "format": ["tunegraph"]}),
        http("POST", body={"k": 0, "format": "tunegraph"}),
    ):
        response = lambda_handler(event, None)
        assert response["headers"]["Content-Type"] == "application/problem+json"
        assert json.loads(response["body"]) == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "k is 0; it goes from 1 to 500",
            "request_id": "JKJaXmPLvHcESHA=",
        }
    assert lambda_handler(rest("PUT"), None)["headers"]["Allow"] == "GET, POST, OPTIONS"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    ["likes", "dislikes", "exclude", "k", "diversity", "explicit", "format", "max_per_artist"]
)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(sorted({*REST_EVENT, *HTTP_EVENT})), json_values)
    | st.builds(lambda body: http("POST", body=body), st.dictionaries(fields, json_values))
    | st.builds(
        lambda query: {**HTTP_EVENT, "queryStringParameters": query}, st.dictionaries(fields, st.text())
    )
)
def test_whatever_the_event_the_answer_is_json_and_no_fault(event: Event) -> None:
    response = lambda_handler(event, None)
    assert response["statusCode"] in (200, 204, 400, 405, 413)
    assert response["statusCode"] == 204 or isinstance(json.loads(response["body"]), dict)


# --- what goes wrong inside ---


def test_without_a_bundle_the_answer_is_503_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TUNEGRAPH_BUNDLE", str(tmp_path / "later"))
    found = answer(http("GET", {"likes": ["a"]}), 503)
    assert str(tmp_path) not in json.dumps(found)
    assert str(tmp_path / "later") in caplog.text
    write_bundle(tmp_path / "later", golden_content("v2"))
    assert answer(http("GET", {"likes": ["a"], "format": ["tunegraph"]}))["bundle_version"] == "v2"


def test_a_fault_is_told_to_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Recommender:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(module, "recommender", broken)
    with caplog.at_level(logging.ERROR):
        response = lambda_handler(http("GET", {"likes": ["a"]}), None)
    assert response["statusCode"] == 500
    assert "secret" not in json.dumps(response)
    assert "secret of the house" in caplog.text
    assert "Traceback" in caplog.text


# --- around the answer ---


def test_the_bundle_is_opened_once_a_container() -> None:
    answer(http("GET", {"likes": ["a"]}))
    first = module.recommender()
    answer(rest("GET", {"likes": ["b"]}))
    assert module.recommender() is first


@BOTH
def test_a_request_keeps_its_id(make: MakeEvent) -> None:
    class Context:
        aws_request_id = "of-lambda"

    def told(event: Event) -> str:
        found: str = lambda_handler(event, Context())["headers"]["X-Request-ID"]
        return found

    event = make("GET", {"likes": ["a"]})
    assert told(event) == event["requestContext"]["requestId"]
    assert told({**event, "headers": {"X-Request-Id": "mine-7"}}) == "mine-7"
    assert told({**event, "headers": {"X-Request-Id": "no\nsuch"}}) == event["requestContext"]["requestId"]
    del event["requestContext"]["requestId"]
    assert told(event) == "of-lambda"


def test_other_origins_may_ask_where_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    event = http("GET", {"likes": ["a"]})
    assert "Access-Control-Allow-Origin" not in lambda_handler(event, None)["headers"]
    monkeypatch.setenv("TUNEGRAPH_CORS_ORIGIN", "https://songs.example.org")
    for asked, status in ((event, 200), (http("OPTIONS"), 204), (http("GET", {"k": ["0"]}), 400)):
        response = lambda_handler(asked, None)
        assert response["statusCode"] == status
        assert response["headers"]["Access-Control-Allow-Origin"] == "https://songs.example.org"
    assert lambda_handler(http("OPTIONS"), None)["body"] == ""


def test_the_handler_loads_numpy_and_nothing_else_of_others() -> None:
    code = (
        "import json, sys; before = set(sys.modules)\n"
        "from tunegraph_pipeline.serve.aws_lambda.handler import lambda_handler\n"
        "early = 'numpy' in sys.modules\n"
        f"done = lambda_handler({http('GET', {'likes': ['a']})!r}, None)\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(done['statusCode'], early, sorted(loaded - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "200 False ['numpy', 'tunegraph_pipeline']"


def test_a_container_is_ready_before_the_first_request() -> None:
    """Lambda lends a starting container a whole core; the bundle is opened in that time."""
    code = (
        "import os; os.environ['AWS_LAMBDA_FUNCTION_NAME'] = 'f'\n"
        "from tunegraph_pipeline.serve.aws_lambda import handler as module\n"
        "print(module.recommender.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
