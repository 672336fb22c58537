"""Assemble the application of one worker: routes, exception handlers, CORS and middleware.

Here: assembly, and completing the OpenAPI document. Not here: any other behaviour.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.serve import problem_details
from tunegraph_pipeline.serve.access_log import note
from tunegraph_pipeline.serve.fast_route import ExactPaths
from tunegraph_pipeline.serve.middleware import RequestMiddleware
from tunegraph_pipeline.serve.routes import add_routes
from tunegraph_pipeline.serve.service import Service
from tunegraph_pipeline.serve.settings import ServiceSettings

if TYPE_CHECKING:
    from tunegraph_pipeline.serve.reporter_process import ReporterProcess

_ABOUT = (
    "Liked songs in, recommendations out. Requests about a stored user may need a key; all others need none."
    " Errors are problem details (RFC 9457)."
)
_KEY = {"type": "http", "scheme": "bearer", "description": "The key may also be sent as `X-API-Key`."}
_KEY_PATHS = {"/users/{user_id}/recommendations", "/feedback"}
_OPERATOR_PATHS = "/operator/"
_CLIENT_CLOSED_REQUEST = 499


def of_environment() -> ASGIApp:
    """The entry point of a worker process: its application, with the settings from the environment.

    The worker ends itself if its supervisor is killed.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        threading.Thread(target=_end_with, args=(supervisor,), name="supervisor", daemon=True).start()
    try:
        return create_app(ServiceSettings.of_environment())
    except TuneGraphError as error:  # something checked at the start has changed since, such as the blocklist
        note(f"a worker cannot start: {error}")
        sys.exit(1)


def create_app(settings: ServiceSettings) -> ASGIApp:
    """One worker's application. Its bundle is opened when the server starts, not here."""
    service = Service(settings)

    reporter: ReporterProcess | None = None

    @asynccontextmanager
    async def alive(_app: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield
        if reporter is not None:
            await reporter.close()

    app = FastAPI(
        title="TuneGraph",
        summary=_ABOUT,
        lifespan=alive,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            problem_details.Problem: problem_details.handle_problem,
            HTTPException: problem_details.handle_http_exception,
            ClientDisconnect: _client_disconnected,
            Exception: problem_details.handle_unexpected_error,
        },
    )
    add_routes(app.router, service)
    error_writer = None
    if settings.shapes:
        from tunegraph_pipeline.serve.shapes import add_shapes

        error_writer = add_shapes(app.router, service, settings.shapes)
    if settings.operator:
        from tunegraph_pipeline.serve.operator_routes import add_operator

        reporter = add_operator(app.router, service)
    generated_openapi = app.openapi
    app.openapi = lambda: _complete_openapi(generated_openapi(), service)  # type: ignore[method-assign]
    asked = ExactPaths(app, app.routes, _client_closed_request)
    cors = None
    if settings.cors_origins:
        cors = CORSMiddleware(
            asked,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-ID"),
            expose_headers=("X-Request-ID", "X-Bundle-Version", "Retry-After"),
            max_age=600,
        )
    return RequestMiddleware(
        app=cors or asked,
        cors=cors,
        routes=app.routes,
        metrics=service.metrics,
        log=service.log,
        limiter=service.limiter,
        proxies=settings.proxies,
        own_hosts=None if settings.public else frozenset(settings.allowed_hosts),
        limits=settings.limits,
        connections=service.connections,
        error_writer=error_writer,
    )


def _complete_openapi(schema: dict[str, Any], service: Service) -> dict[str, Any]:
    """The OpenAPI document with the problem schema and, if a key is set, the security scheme."""
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    if "Problem" in schemas:
        return schema
    problem = problem_details.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if service.access.asks_for_key:
        components["securitySchemes"] = {"key": _KEY}
        for path, operations in schema["paths"].items():
            if path in _KEY_PATHS or path.startswith(_OPERATOR_PATHS):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return schema


def _end_with(supervisor: BaseProcess) -> None:
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


async def _client_disconnected(_request: Request, _error: Exception) -> Response:
    return _client_closed_request()


def _client_closed_request() -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)
