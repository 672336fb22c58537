"""What the command line prints where the output or the names in it are unusual."""

import ast
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tunegraph_pipeline.cli import show
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.bundle import write_bundle
from tunegraph_pipeline.recommend.publication import publish
from tunegraph_pipeline.words import counted, in_plain_words
from tunegraph_pipeline_tests.recommend.test_search import content_of
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

ODD: list[tuple[str, list[str], int]] = [
    ("Love :heart: [bold]you[/bold]", ["Sigur Rós"], 9),
    ("Love song", ["Ann"], 5),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = Lake.open_or_create(tmp_path_factory.mktemp("odd") / "lake [red]")
    write_bundle(lake.serving / "v", content_of(ODD, ["a", "b"]))
    publish(lake.serving, "v")
    return lake.root


def process(
    *arguments: object, stdout: object = subprocess.PIPE, encoding: str = "utf-8"
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tunegraph_pipeline", *map(str, arguments)],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    return done.returncode, done.stdout, done.stderr


def test_codes_in_names_are_part_of_the_names(lake: Path) -> None:
    assert ODD[0][0] in tunegraph("search", "love", "--lake", lake).stdout
    assert ODD[0][0] in tunegraph("similar", "Love song", "--lake", lake).stdout
    recommended = tunegraph("recommend", "--likes", "Love song", "--lake", lake)
    assert ODD[0][0] in recommended.stdout
    assert "score: " in recommended.stdout
    assert "lake [red]" in tunegraph("status", "--lake", lake).stdout


def test_an_answer_without_a_song_says_why(lake: Path) -> None:
    done = tunegraph("recommend", "--likes", "Love song", "--exclude", "a", "--lake", lake)
    assert done.returncode == 0
    assert "no song is left" in done.stderr


@pytest.mark.slow
def test_an_output_of_ascii_alone_is_no_fault(lake: Path) -> None:
    code, out, err = process("search", "love", "--lake", lake, encoding="ascii")
    assert (code, err) == (0, "")
    assert "Sigur R?s" in out
    code, out, _ = process("search", "love", "--lake", lake, "--json", encoding="ascii")
    assert json.loads(out)[0]["artists"] == "Sigur Rós"
    code, _, err = process("similar", "løve is nowhere", "--lake", lake, encoding="ascii")
    assert code == 2
    assert "l?ve is nowhere" in err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["search", "love", "--json"], ["search", "love"]])
def test_an_output_on_a_full_disk_ends_in_one_line(lake: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        code, _, err = process(
            *arguments, *(["--lake", lake] if arguments != ["--help"] else []), stdout=full
        )
    assert code == 2
    assert err.startswith("tunegraph: the output cannot be written: No space left")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recommend", "-k", "0"], "'-k': has to be at least 1"),
        (["recommend", "--familiarity", "2"], "'--familiarity': has to be at most 1"),
        (["recommend", "--familiarity", "x"], "'--familiarity': has to be a number"),
        (["refresh", "--date", "soon"], "'--date': 'soon' is no day; write it as YYYY-MM-DD"),
        (["simulator", "--faults", '{"latency": 1}'], "--faults: latency: is not known here"),
        (["simulator", "--dumps", "x", "--faults", '{"drop": 1}'], "--faults: drop: is not known here"),
        (["simulator", "--dumps", "x", "--development"], "does not go with --dumps: dumps have no such mode"),
    ],
)
def test_a_wrong_option_is_named_in_plain_words(arguments: list[str], says: str) -> None:
    assert complaint(tunegraph(*arguments)).endswith(says)


def test_a_sentence_of_our_own_stays_as_it_is() -> None:
    assert in_plain_words("No such option: --bogus") == "No such option: --bogus"
    assert in_plain_words("Value error, 'at four' is not cron") == "'at four' is not cron"


def test_one_thing_is_singular() -> None:
    assert [counted(n, "day") for n in (0, 1, 1200)] == ["0 days", "1 day", "1,200 days"]


_ALWAYS_SEVERAL = (
    "cli/evaluate.py: tables of likes",
    "cli/songs.py: songs are called",
    "evaluation/baselines/__init__.py: tracks are more",
    "evaluation/baselines/__init__.py: its dense matrix",
    "evaluation/plots.py: ",
    "evaluation/splits.py: times of",
    "graph/id_map.py: tracks are more",
    "lake/feedback_spool.py: bytes, and",
    "lake/parquet.py: rows and declares",
    "pipeline/alone.py: users of this lake",
    "pipeline/bundle.py: tracks ",
    "pipeline/user_list.py: users (",
    "pipeline/verify/other_files.py: files that do not belong",
    "recommend/bundle.py: entries for",
    "serve/aws_lambda/bundle_fetch.py: files named",
    "serve/aws_lambda/handler.py: ids;",
    "serve/middleware.py: bytes; s",
    "serve/protocol.py: bytes",
    "sources/account_export.py: accounts; import each",
    "sources/api_session.py: requests to",
    "sources/content.py: files, and no account export",
    "sources/file_import.py: users itself",
    "sources/json_documents.py: accounts; import each",
    "training/calibration.py: ",
    "training/warm_start.py: tracks in the earlier model",
)
"""What is said only of two or more, and of sizes that are never small."""


def test_numbers_of_things_are_counted_by_the_one_function_for_it() -> None:
    """An f-string with a number before a plural says "1 users" one day."""
    package = Path(show.__file__).parents[1]
    found = [
        f"{path.relative_to(package).as_posix()}: {after.value.strip()}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        for number, after in pairwise(node.values)
        if _is_a_number(number) and isinstance(after, ast.Constant) and isinstance(after.value, str)
        if _PLURAL.match(after.value)
    ]
    assert [place for place in found if not place.startswith(_ALWAYS_SEVERAL)] == []
    assert [words for words in _ALWAYS_SEVERAL if not any(place.startswith(words) for place in found)] == []


_PLURAL = re.compile(
    r" (?:held-out |liked |of these )?(?!is\b|was\b|has\b|as\b|this\b|does\b)[a-z]+s\b", re.ASCII
)


def _is_a_number(part: ast.expr) -> bool:
    """Whether a part of an f-string is a number for people: with commas, or the length of something. The name
    of a limit is in capitals, and no limit is one."""
    if not isinstance(part, ast.FormattedValue) or ast.unparse(part.value).isupper():
        return False
    commas = part.format_spec is not None and ast.unparse(part.format_spec) == "f','"
    return commas or ast.unparse(part.value).startswith("len(")
