"""What has to hold for any file, request or event, however strange.

Here: the three checks, and good requests and events to begin with, for `benchmarks/fuzz.py` and
`test_fuzz.py`. Not here: making strange ones.
"""

import asyncio
import json
import os
from contextlib import ExitStack
from copy import deepcopy
from datetime import date
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import write_batch
from tunegraph_pipeline.serve.app import create_app
from tunegraph_pipeline.serve.aws_lambda import handler as lambda_module
from tunegraph_pipeline.serve.settings import ServiceSettings
from tunegraph_pipeline.sources.content import readable_name
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline_tests.serve.aws_lambda.test_handler import HTTP_EVENT, REST_EVENT
from tunegraph_pipeline_tests.serve.conftest import make_lake, small_content, track_id

_DAY = date(2026, 6, 1)


def imports_well(folder: Path, name: str, content: bytes) -> None:
    """A file becomes batches that can be kept, or a refusal of one line that names it."""
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / name
    path.write_bytes(content)
    try:
        batches = read_files([path])
    except InputError as error:
        line = str(error)
        assert "\n" not in line, line
        assert "cannot be read (" not in line, line  # what no reader foresaw
        assert readable_name(path) in line or str(folder) in line or line.startswith("--"), line
        return
    for batch in batches:
        write_batch(folder / "raw", _DAY, batch)


class ServiceInProcess:
    """A service in this process, asked from this machine, which a service lets in without a key. An exception
    of the service is raised here."""

    def __init__(self, app: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._ends, self._said = asyncio.Event(), asyncio.Queue[str]()
        self._life = self._loop.create_task(self._live(app))
        assert self._loop.run_until_complete(self._said.get()) == "lifespan.startup.complete"
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", trust_env=False)

    def request(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        asked = self._client.request(method, path, content=content, headers=headers)
        return self._loop.run_until_complete(asked)

    def close(self) -> None:
        self._ends.set()
        self._loop.run_until_complete(self._life)
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    async def _live(self, app: Any) -> None:
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            event = next(events)
            if event == "lifespan.shutdown":
                await self._ends.wait()
            return {"type": event}

        async def send(message: dict[str, str]) -> None:
            await self._said.put(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


def answers_well(client: ServiceInProcess, method: str, path: str, body: Any) -> None:
    """A request gets an answer that is no fault of the service, in JSON where it says so."""
    content = None if body is None else json.dumps(body).encode(errors="replace")
    headers = {"content-type": "application/json"}
    where = "/" + quote(path.lstrip("/"), safe="/?&=%:", errors="replace")
    answer = client.request(method, where, content=content, headers=headers)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.headers.get("content-type", "").startswith(("application/json", "application/problem+json")):
        json.loads(answer.content)


def handles_well(event: Any) -> None:
    """An event gets an answer of the Lambda handler, with JSON that says what is wrong."""
    answer = lambda_module.lambda_handler(event, None)
    json.dumps(answer)
    if isinstance(answer, dict) and "statusCode" in answer:
        assert answer["statusCode"] < 500, answer
        json.loads(answer.get("body") or "null")


def service_and_handler(folder: Path, opened: ExitStack) -> tuple[ServiceInProcess, list[Any], list[Any]]:
    """A service over a small lake in this process, and good requests and events. ``opened`` ends it."""
    lake = make_lake(folder / "lake", small_content())
    patch = opened.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("TUNEGRAPH_BUNDLE", str(lake / "serving" / "v1"))
    for name in [name for name in os.environ if name.startswith("TUNEGRAPH_") and name != "TUNEGRAPH_BUNDLE"]:
        patch.delenv(name)
    lambda_module.recommender.cache_clear()
    app = create_app(ServiceSettings(lake=lake, rate_limit=0, access_log=False))
    client = ServiceInProcess(app)
    opened.callback(client.close)
    return client, _requests(), _events()


def _requests() -> list[Any]:
    likes = [track_id(n) for n in (1, 5, 9)]
    return [
        ("POST", "/recommendations", {"likes": likes, "k": 5, "format": "csv", "familiarity": 0.5}),
        ("POST", "/recommendations", {"user_id": "listener-1", "diversity": 0.3, "max_per_artist": 1}),
        ("GET", "/users/listener-1/recommendations?k=5", None),
        ("GET", f"/tracks/{likes[0]}", None),
        ("GET", f"/tracks/{likes[0]}/similar?k=3", None),
        ("GET", "/search?q=river&k=3", None),
        ("GET", "/map?limit=20", None),
        ("POST", "/explanations", {"likes": likes, "track_id": track_id(13)}),
        (
            "POST",
            "/feedback",
            {"user_id": "ann", "events": [{"track_id": likes[0], "action": "like"}], "shown": likes},
        ),
        ("GET", "/healthz", None),
        ("GET", "/", None),
    ]


def _events() -> list[Any]:
    likes = [track_id(n) for n in (1, 5, 9)]
    post = deepcopy(HTTP_EVENT) | {"body": json.dumps({"likes": likes, "k": 4})}
    post["requestContext"]["http"]["method"] = "POST"
    get = deepcopy(REST_EVENT) | {"multiValueQueryStringParameters": {"likes": likes, "k": ["3"]}}
    return [post, get, {"likes": likes, "k": 3}, {"user_id": "listener-1"}]
