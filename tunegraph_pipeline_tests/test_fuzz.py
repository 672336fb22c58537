"""What fuzzing found stays mended: every file of the corpus is read or refused in one line, and strange
requests and events get an answer. `benchmarks/fuzz.py` finds more."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline_tests.fuzz_cases import (
    ServiceInProcess,
    answers_well,
    handles_well,
    imports_well,
    service_and_handler,
)

Service = tuple[ServiceInProcess, list[Any], list[Any]]
CORPUS = Path(__file__).parent / "data" / "fuzz"
FILES = sorted(CORPUS.iterdir())
STRANGE: list[Any] = [
    None,
    [],
    {"likes": "\ud800"},
    {"likes": [["t0"]], "k": 1e308},
    {"likes": ["\x00", "", "9" * 3_000], "k": float("nan")},
    {"user_id": {"a": 2**70}, "k": -1},
    {"events": [None], "user_id": "", "shown": [1]},
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with ExitStack() as opened:
        yield service_and_handler(tmp_path_factory.mktemp("fuzz"), opened)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_that_fuzzing_found_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    imports_well(tmp_path / "case", path.name.partition("-")[2], path.read_bytes())


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_request_or_event_gets_an_answer(service: Service, body: Any) -> None:
    client, requests, events = service
    for method, path, _ in requests:
        answers_well(client, method, path, body)
        answers_well(client, method, path + "%00%ff/../\u202e", body)
    for event in events:
        handles_well(body)
        handles_well(event | {"body": json.dumps(body), "queryStringParameters": body})
