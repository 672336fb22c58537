"""Problems: one clear line, whatever was sent."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunegraph_pipeline.serve.problem_details import REQUEST_ID, Problem, internal_error, validation_problem
from tunegraph_pipeline.serve.schemas import FeedbackRequest, RecommendationRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def body_of(problem: Problem) -> dict[str, Any]:
    response = problem.response({"type": "http", REQUEST_ID: "r1"})
    assert response.media_type == "application/problem+json"
    assert response.status_code == problem.status
    content: dict[str, Any] = json.loads(bytes(response.body))
    return content


@given(st.sampled_from([RecommendationRequest, FeedbackRequest]), json_values)
def test_whatever_is_sent_is_taken_or_refused_in_one_line_with_its_place(model: Any, content: Any) -> None:
    try:
        model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        problem = validation_problem(error, "body")
        assert problem.status == HTTPStatus.UNPROCESSABLE_ENTITY
        found = body_of(problem)
        assert found["detail"].startswith("body")
        assert 1 <= len(found["errors"]) <= 20
        assert all(entry["location"].startswith("body") and entry["reason"] for entry in found["errors"])


def test_many_faults_are_counted_and_the_first_is_said() -> None:
    with pytest.raises(ValidationError) as raised:
        RecommendationRequest.model_validate_json('{"k": 0, "familiarity": 2, "diversity": 3}')
    assert validation_problem(raised.value, "body").detail == ("body.k: has to be at least 1, and 2 more")


def test_a_problem_says_what_it_is_by_name_or_by_status_alone() -> None:
    plain, named = (
        Problem(HTTPStatus.NOT_FOUND, "not here"),
        Problem(HTTPStatus.NOT_FOUND, "not here", name="unknown-x"),
    )
    assert body_of(plain) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "not here",
        "request_id": "r1",
    }
    assert body_of(named)["type"] == "urn:tunegraph:problem:unknown-x"


def test_a_fault_has_nothing_but_its_request_id() -> None:
    content = json.loads(bytes(internal_error({"type": "http", REQUEST_ID: "r9"}).body))
    assert content["request_id"] == "r9"
    assert content["status"] == 500
