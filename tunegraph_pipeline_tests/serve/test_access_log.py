"""The log: lines of JSON, whole ones, and no end of the service where nobody reads them."""

import json
import os

import pytest

from tunegraph_pipeline.serve import access_log
from tunegraph_pipeline.serve.access_log import AccessLog, note


def test_a_request_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    AccessLog(requests=True).request("GET", "/users/{user_id}/recommendations", 200, 1.2345, "abc-1")
    (line,) = capfd.readouterr().out.splitlines()
    found = json.loads(line)
    assert found.pop("at").endswith("Z")
    assert found == {
        "method": "GET",
        "route": "/users/{user_id}/recommendations",
        "status": 200,
        "ms": 1.23,
        "request_id": "abc-1",
    }


def test_it_is_silent_where_that_was_asked(capfd: pytest.CaptureFixture[str]) -> None:
    AccessLog(requests=False).request("GET", "/", 200, 1.0, "a")
    assert capfd.readouterr().out == ""


def test_a_fault_is_its_type_and_place_without_its_message(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        dict[str, int]()["the id of somebody"]
    except KeyError as error:
        AccessLog(requests=False).fault(error, "/map", "r1")
    found = json.loads(capfd.readouterr().err)
    assert found["fault"] == "builtins.KeyError"
    assert "test_access_log.py" in found["trace"][0]
    assert "somebody" not in json.dumps(found)


def test_a_note_may_hold_anything(capfd: pytest.CaptureFixture[str]) -> None:
    note('a "quoted"\nline')
    assert json.loads(capfd.readouterr().err)["note"] == 'a "quoted"\nline'


def test_where_nobody_reads_it_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    tried: list[int] = []
    real = os.write

    def write(stream: int, line: bytes) -> int:
        tried.append(stream)
        return real(stream, line)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(access_log, "_STDOUT", writer)
    log = AccessLog(requests=True)
    for _ in range(3):
        log.request("GET", "/", 200, 1.0, "a")
    assert tried == [writer]
    os.close(writer)
