"""Alerts: what is told of a run that failed, to a real server, and that the address stays a secret."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from dagster import (
    DagsterEventType,
    DagsterInstance,
    RunFailureSensorContext,
    SkipReason,
    build_run_status_sensor_context,
)

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import alert
from tunegraph_pipeline.orchestration.automation import alert_on_failure
from tunegraph_pipeline.orchestration.in_process import run_job

pytestmark = pytest.mark.dagster

SECRET = "T0P-S3CRET"
DAY = date(2026, 2, 1)


@dataclass
class Webhook:
    """A server that takes alerts, and refuses as many as it is told to first."""

    url: str = ""
    refuse: int = 0
    drip: float = 0.0
    """For how many seconds its answer goes on."""
    asked: int = 0
    taken: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    told = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.asked += 1
            refused = told.asked <= told.refuse
            if not refused:
                assert self.headers["Content-Type"] == "application/json"
                told.taken.append(json.loads(body))
            self.send_response(503 if refused else 200)
            self.end_headers()
            until = time.monotonic() + told.drip
            with suppress(ConnectionError):
                while time.monotonic() < until:
                    self.wfile.write(b"x")
                    time.sleep(0.02)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def lake_that_failed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose refresh failed: it is empty, and has nothing to refresh."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("alert") / "music")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        with pytest.raises(LakeError):
            run_job(lake, "refresh", DAY, DAY)
    return lake


@pytest.fixture
def failed(lake_that_failed: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFailureSensorContext]:
    """The sensor's view of that refresh."""
    lake = lake_that_failed
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(lake.root))
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        (run,) = instance.get_runs()
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        (failure,) = [e for e in events if e and e.event_type == DagsterEventType.RUN_FAILURE]
        yield build_run_status_sensor_context("alert_on_failure", failure, instance, run).for_run_failure()


def test_a_failed_run_is_told_in_one_document(
    failed: RunFailureSensorContext, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(alert.WEBHOOK_VARIABLE, hook.url)
    assert alert_on_failure(failed) is None
    (told,) = hook.taken
    assert set(told) == {"text", "job", "run_id", "partitions", "lake", "error", "will_retry", "time"}
    assert (told["job"], told["partitions"], told["lake"]) == ("refresh", "2026-02-01", "music")
    assert told["error"].endswith("has no filled day yet; import files, then run `tunegraph refresh`")
    assert "\n" not in told["text"]
    assert told["error"] in told["text"]
    assert told["run_id"] == failed.dagster_run.run_id


def test_without_an_address_nobody_is_told_and_it_says_so(
    failed: RunFailureSensorContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(alert.WEBHOOK_VARIABLE, raising=False)
    said = alert_on_failure(failed)
    assert isinstance(said, SkipReason)
    assert str(said.skip_message) == "no alert is sent: TUNEGRAPH_ALERT_WEBHOOK is not set"


def test_a_webhook_that_is_busy_is_asked_again(hook: Webhook) -> None:
    hook.refuse = 2
    alert.send(hook.url, {"text": "x"}, pause=0.01)
    assert hook.taken == [{"text": "x"}]


def test_an_answer_that_does_not_end_holds_nobody_up(hook: Webhook) -> None:
    hook.drip = 5.0
    began = time.monotonic()
    alert.send(hook.url, {"text": "x"})
    assert time.monotonic() - began < hook.drip / 2
    assert hook.taken == [{"text": "x"}]


@pytest.mark.parametrize("how", ["refuses", "closed", "no address"])
def test_one_that_never_takes_it_is_given_up_and_its_address_stays_a_secret(
    hook: Webhook, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    hook.refuse = 1_000
    urls = {"refuses": hook.url, "closed": f"http://127.0.0.1:9/{SECRET}", "no address": f"://{SECRET}"}
    with pytest.raises(LakeError, match=r"TUNEGRAPH_ALERT_WEBHOOK did not accept the alert") as caught:
        alert.send(urls[how], {"text": "x"}, pause=0.01)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert how != "refuses" or hook.asked == 4
