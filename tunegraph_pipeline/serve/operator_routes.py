"""The operator page: its files, and the endpoints that it asks.

Here: the routes, all but the files behind the key, and the questions that they put to the reporter. Not here:
the answers (`pipeline.report`, `pipeline.playground`), the process that gives them (`reporter_process`), or
the page (`operator_page/`). Imported only by a service that is started with ``--operator``.
"""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve import operator_schemas as schemas
from tunegraph_pipeline.serve.answers import OF_BODY, problems
from tunegraph_pipeline.serve.fast_route import checked_by
from tunegraph_pipeline.serve.pages import PageFiles
from tunegraph_pipeline.serve.reporter_process import ReporterProcess
from tunegraph_pipeline.serve.routes import add_files
from tunegraph_pipeline.serve.service import Service

_PAGE = Path(__file__).parent / "operator_page"
_ALWAYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE)
SUBJECTS: dict[str, tuple[str, str, type[schemas.Answer]]] = {
    "overview": (
        "What the lake holds",
        "The lines of `tunegraph status`, and the bundles that are kept.",
        schemas.OverviewAnswer,
    ),
    "quality": (
        "Quality over time",
        "How each bundle that a refresh judged ranked held-out likes, beside the baselines.",
        schemas.QualityAnswer,
    ),
    "publications": (
        "Publications and the gate",
        "What was published when, and what the gate said, the newest first.",
        schemas.PublicationsAnswer,
    ),
    "drift": ("Drift of the models", "How far each kept model moved from its parent.", schemas.DriftAnswer),
    "runs": ("The last runs", "Runs of jobs and their steps, the newest first.", schemas.RunsAnswer),
    "feedback": (
        "The queue of feedback",
        "What waits for the next refresh, what was put aside, and what was collected each day.",
        schemas.FeedbackQueueAnswer,
    ),
    "tables": ("The tables", "The tables of the lake with their rows and sizes.", schemas.TablesAnswer),
}
"""The subjects without parameters: summary, description, and form of the answer."""


def add_operator(router: APIRouter, service: Service) -> ReporterProcess:
    """Add the page and its endpoints; returns the reporter, to be closed at the end."""
    reporter = ReporterProcess(service.settings.lake, service.settings.blocklist)
    add_files(router, PageFiles(_PAGE), "/operator", "/operator/page/{name:path}")
    for subject, (summary, description, model) in SUBJECTS.items():
        _add_subject(router, service, reporter, subject, summary, description, model)
    behind_key = checked_by(service.access.check)

    @router.get(
        "/operator/users",
        summary="The users",
        tags=["operator"],
        response_model=schemas.UsersAnswer,
        responses=problems(*_ALWAYS, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    @behind_key
    async def operator_users(how: Annotated[schemas.UsersParameters, Query()]) -> Response:
        """Who likes how many songs, from which sources, and when the list was last seen; also who came since
        the last refresh."""
        asked = {"search": how.search, "offset": how.offset, "limit": how.limit}
        return _json(await reporter.ask("users", **asked, by_likes=how.sort == "likes"))

    @router.get(
        "/operator/users/{user_id:path}",
        summary="The list of a user",
        tags=["operator"],
        response_model=schemas.UserAnswer,
        responses=problems(*_ALWAYS, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    @behind_key
    async def operator_user(user_id: str, how: Annotated[schemas.UserVersion, Query()]) -> Response:
        """What a user likes and dislikes, as a bundle has it."""
        return _json(await reporter.ask("user", user_id=user_id, version=how.version))

    @router.post(
        "/operator/recommendations",
        summary="Recommendations of a kept bundle, with their parts",
        tags=["operator"],
        response_model=schemas.PlaygroundAnswer,
        responses=problems(*OF_BODY, *_ALWAYS, HTTPStatus.NOT_FOUND),
    )
    @behind_key
    async def operator_recommendations(body: schemas.PlaygroundRequest) -> Response:
        """Songs for a stored user, or for somebody who likes these, of the live bundle or an earlier one that
        is kept. Each with the parts of its score, and what liked songs add to it."""
        return _json(await reporter.ask("recommendations", **body.model_dump()))

    return reporter


def _add_subject(
    router: APIRouter,
    service: Service,
    reporter: ReporterProcess,
    subject: str,
    summary: str,
    description: str,
    model: type[schemas.Answer],
) -> None:
    @checked_by(service.access.check)
    async def report(_request: Request) -> Response:
        return _json(await reporter.ask(subject))

    router.add_api_route(
        f"/operator/{subject}",
        report,
        name=f"operator_{subject}",
        methods=["GET"],
        summary=summary,
        description=description,
        tags=["operator"],
        response_model=model,
        responses=problems(*_ALWAYS),
    )


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
