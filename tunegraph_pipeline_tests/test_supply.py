"""What is installed is pinned, hashed, and the same in every file that says so. The image runs as nobody."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-cluster.lock"]
OF_CLUSTERS = ("cluster", "cluster-test")
"""Extras that `make setup` does not install."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
AGAIN = "run: make lock"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(file: str) -> dict[str, str]:
    """The version of each package; torch's without its build."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;+]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {plain(name): version for name, version in found}


def named(requirements: list[str]) -> set[str]:
    return {plain(re.split(r"[\[<>=!~ ;]", requirement)[0]) for requirement in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_file_of_a_lock_is_known_by_its_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().partition("\n")[2])
    assert len(entries) > 100
    for entry in entries:
        assert re.fullmatch(
            r"[\w.-]+(\[[\w,-]+\])?==[\w.+!]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+",
            entry.rstrip(),
        ), entry


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_the_versions_of_the_constraints(lock: str) -> None:
    constraints = pinned("constraints.txt")
    locked = pinned(lock)
    other = {name: version for name, version in locked.items() if constraints.get(name, version) != version}
    assert not other, f"{lock}: {other} differ from constraints.txt; {AGAIN}"


def test_a_lock_has_all_that_the_project_asks_for() -> None:
    asked = named([*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"]])
    extras = PYPROJECT["project"]["optional-dependencies"]
    for extra in extras.keys() - set(OF_CLUSTERS):
        assert not named(extras[extra]) - set(pinned("requirements-dev.lock")), AGAIN
    assert not named([*extras["cluster"], *extras["index"]]) - set(pinned("requirements-cluster.lock")), AGAIN
    # hatchling wants editables where `make setup` installs the package, and no build may fetch it.
    assert not (asked | {"editables"}) - set(pinned("requirements.lock")), AGAIN
    for lock in LOCKS:
        assert pinned("requirements.lock").items() <= pinned(lock).items(), AGAIN


def test_nothing_of_clusters_is_installed_by_default() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    of_clusters = named([wanted for extra in OF_CLUSTERS for wanted in extras[extra]])
    assert of_clusters <= set(pinned("constraints.txt"))
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert not of_clusters & set(pinned(lock)), AGAIN


def test_the_lock_has_the_build_of_torch_that_the_set_up_looks_for() -> None:
    for lock in LOCKS:
        assert re.search(r"^torch==[\d.]+\+cpu \\$", (ROOT / lock).read_text(), re.MULTILINE), AGAIN


def test_the_image_copies_what_there_is_and_runs_as_nobody() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert name in sent, f".dockerignore keeps {name} out"
    (*_, user) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user == "65534:65534"


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda file: file.name
)
def test_a_workflow_names_every_action_by_its_commit(workflow: Path) -> None:
    for action in re.findall(r"uses: (.*)", workflow.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
