"""The service against its own description: schemathesis asks by the OpenAPI and looks for a lie."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunegraph_pipeline_tests.conftest import PROJECT, examples
from tunegraph_pipeline_tests.serve.conftest import StartService, artist_name, track_id

KEY = "0123456789abcdef0123456789abcdef"
TOO_LARGE = """
# What has more than its schema allows may be too large for a body, too.
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429", "5xx"]

# Each file is read in a process of its own.
[[operations]]
include-name = "POST /matches"
generation.max-examples = 4
# A body of any bytes is allowed, and most are no list.
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]

# `recency` is an option of one mode, which a schema of each by itself cannot say.
[[operations]]
include-name = [
    "POST /recommendations", "GET /users/{user_id}/recommendations", "POST /explanations"
]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""
KNOWN = f"""
[parameters]
"path.user_id" = "listener-1"
"path.track_id" = "{track_id(7)}"
"path.artist_id" = "{artist_name(7)}"
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("known", "key", "operator"),
    [
        pytest.param(True, KEY, False, id="known ids, a key"),
        pytest.param(True, KEY, True, id="the operator page"),
        pytest.param(
            False,
            "",
            False,
            id="any ids, no key",
            marks=pytest.mark.nightly,  # test_routes has the same
        ),
    ],
)
def test_schemathesis_finds_nothing(
    running_service: StartService, tmp_path: Path, known: bool, key: str, operator: bool
) -> None:
    page = ["--operator"] if operator else []
    service = running_service(*page, environment={"TUNEGRAPH_API_KEY": key} if key else {})
    (tmp_path / "schemathesis.toml").write_text(TOO_LARGE + (KNOWN if known else ""))
    schemathesis = Path(sys.executable).with_name("schemathesis")
    only = ["--include-path-regex", "^/operator/"] if operator else []
    options = [*only, "--seed", "20", "--max-examples", str(examples(30)), "--generation-database", "none"]
    command = [
        schemathesis,
        "--config-file",
        tmp_path / "schemathesis.toml",
        "run",
        f"{service.url}/openapi.json",
    ]
    done = subprocess.run(
        [*map(str, command), *options, *(["--header", f"Authorization: Bearer {key}"] if key else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("10 selected / 29 total" if operator else "19 selected / 19 total") in done.stdout
    assert not any("fault" in line for line in service.said)


def test_every_example_of_the_documentation_is_answered_as_it_says(
    running_service: StartService, tmp_path: Path
) -> None:
    curl = shutil.which("curl")
    assert curl, "the examples are curl commands; install curl"
    service = running_service()
    text = (PROJECT / "docs" / "service.md").read_text()
    examples = re.findall(r"(?m)^    (curl (?:.*\\\n)*.*)$", text)
    (tmp_path / "liked.csv").write_text(f"track_id,artist,title\n{track_id(7)},Ann,Song\n")
    asked = set()
    for example in examples:
        if "$TUNEGRAPH_API_KEY" in example:
            continue
        command = example.replace("http://127.0.0.1:8000", service.url).replace(
            "/users/0275i1VNfBnsNbPl0QIBpG", "/users/listener-1"
        )
        command = re.sub(r"\b[0-9A-Za-z]{22}\b", track_id(7), command)
        command = command.replace("/artists/OutKast", "/artists/The%20Static%20Rivers")
        command = command.replace(
            "curl", f"{curl} --silent --output /dev/null --write-out '%{{http_code}}'", 1
        )
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=30, cwd=tmp_path
        )
        wanted = "422" if '"k": 0' in example else "202" if "/feedback" in example else "200"
        assert done.stdout == wanted, example
        asked.add(
            re.sub(
                r"track0\d+|listener-1|The%20Static%20Rivers",
                "…",
                re.sub(r".*http://[^/]+(/[\w/%-]*).*", r"\1", command, flags=re.S),
            )
        )
    assert asked == {
        "/recommendations",
        "/users/…/recommendations",
        "/explanations",
        "/tracks",
        "/tracks/…/similar",
        "/genres",
        "/tracks/…/path",
        "/artists",
        "/artists/…/songs",
        "/blends",
        "/comparisons",
        "/matches",
        "/map",
        "/map/columns",
        "/feedback",
        "/health",
        "/ready",
        "/version",
        "/metrics",
    }
