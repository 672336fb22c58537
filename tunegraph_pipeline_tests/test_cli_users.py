"""`tunegraph users`, and what other commands answer for an alias."""

import json
from pathlib import Path

import pytest

from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline_tests.recommend.conftest import golden_content
from tunegraph_pipeline_tests.serve.conftest import make_lake
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

DAY = "2026-06-01"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake that received one file, and refreshed nothing."""
    pairs = [("ana", "a"), ("ana", "b"), ("anna", "b"), ("anna", "c"), ("[red]", "a")]
    (tmp_path / "likes.csv").write_text("user_id,track_id\n" + "".join(f"{u},{t}\n" for u, t in pairs))
    given = ("import", tmp_path / "likes.csv", "--as-of", DAY)
    assert tunegraph(*given, "--lake", tmp_path / "lake").returncode == 0
    return tmp_path / "lake"


def test_users_are_listed_before_any_refresh(lake: Path) -> None:
    done = tunegraph("users", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "user   likes  sources  last seen   aliases",
        f"[red]  1      files    {DAY}",
        f"ana    2      files    {DAY}",
        f"anna   2      files    {DAY}",
        "3 users in all",
    ]


def test_ids_are_joined_separated_and_searched(lake: Path) -> None:
    done = tunegraph("users", "--alias", "anna=ana", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "'anna' counts as 'ana'\n"
    assert "next: tunegraph refresh" in done.stderr
    found = tunegraph("users", "NNA", "--json", "--lake", lake)
    ana = {"user_id": "ana", "likes": 3, "sources": ["files"], "last_observed": DAY, "aliases": ["anna"]}
    assert json.loads(found.stdout) == {"users": [ana], "found": 1, "total": 2}
    shown = tunegraph("users", "--sort", "likes", "-n", 1, "--lake", lake).stdout.splitlines()
    assert shown[1:] == [
        f"ana   3      files    {DAY}  anna",
        "2 users in all; the first 1 are shown, --limit 0 shows all",
    ]
    assert tunegraph("users", "n", "--lake", lake).stdout.endswith(
        "2 users in all, 1 of them with 'n' in an id\n"
    )
    assert tunegraph("users", "--unalias", "anna", "--lake", lake).returncode == 0
    assert "3 users in all" in tunegraph("users", "-n", 0, "--lake", lake).stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--alias", "ana"), "give OLD=NEW, two ids"),
        (("--alias", "a=b=c"), "give OLD=NEW, two ids"),
        (("--alias", "=ana"), "is empty"),
        (("--alias", "ana=ana"), "alias of itself"),
        (("--alias", "ana=anna", "--alias", "anna=ana"), "already counts as"),
        (("--unalias", "ana"), "is not an alias"),
        (("--sort", "age"), "choose id or likes"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_bad_input_is_one_line(lake: Path, options: tuple[str, ...], why: str) -> None:
    assert why in complaint(tunegraph("users", *options, "--lake", lake))
    assert not (lake / "aliases.json").exists()


def test_ids_are_joined_by_the_one_writer(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def write(self: Aliases, root: Path) -> None:
        held.append((root / ".lock.holder.json").exists())

    monkeypatch.setattr(Aliases, "write", write)
    tunegraph("users", "--alias", "anna=ana", "--lake", lake)
    assert held == [True]


def test_recommendations_for_an_alias_are_those_of_the_user(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", golden_content())
    Aliases({"annie": "ann", "ann": "no likes"}).write(lake)
    asked = tunegraph("recommend", "--user", "ann", "--json", "--lake", lake)
    assert asked.returncode == 0, asked.stderr
    assert asked.stderr == ""  # the live bundle still has that id
    Aliases({"annie": "ann"}).write(lake)
    answered = tunegraph("recommend", "--user", "annie", "--json", "--lake", lake)
    assert answered.stdout == asked.stdout
    assert answered.stderr == "annie is an alias of ann\n"
    assert "bob" in complaint(tunegraph("recommend", "--user", "bob", "--lake", lake))
