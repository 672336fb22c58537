"""Where Dagster's history of a lake is, and what is said of a `DAGSTER_HOME` that cannot hold one."""

import shutil
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster_shared.yaml_utils import load_yaml_from_path

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.history import LakeInstance, dagster_home, project_file
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = pytest.mark.dagster


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.chdir(tmp_path)
    return Lake.open_or_create(tmp_path / "data_lake" / "demo")


@pytest.mark.parametrize("command", ["refresh", "publish", "ui"])
@pytest.mark.parametrize(
    ("home", "problem"),
    [
        ("{here}/missing", "does not exist"),
        ("{here}/file", "is not a folder"),
        (".", "is not an absolute path"),
    ],
)
def test_a_dagster_home_that_is_no_folder_is_a_line(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, home: str, problem: str
) -> None:
    (tmp_path / "file").touch()
    named = home.format(here=tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", named)
    assert f"DAGSTER_HOME: {named} {problem}; " in complaint(tunegraph(command, "--lake", lake.root))
    assert not (tmp_path / "missing").exists()


def test_no_lake_is_made_where_dagster_home_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "missing"))
    complaint(tunegraph("refresh", "--lake", tmp_path / "lake", "--source", "simulator"))
    assert not list(tmp_path.iterdir())


def test_a_dagster_home_holds_the_history_and_the_lake_holds_none(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert dagster_home(lake.root) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "~")
    assert dagster_home(lake.root) == tmp_path
    assert not lake.history.exists()


def test_a_history_in_postgres_without_the_extra_is_a_line(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(project_file("dagster.cluster.yaml"), home / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setattr("tunegraph_pipeline.orchestration.postgres.find_spec", lambda _: None)
    told = complaint(tunegraph("refresh", "--lake", lake.root))
    assert "needs the extra `cluster`: pip install 'tunegraph-pipeline[cluster]'" in told


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("sturage: 1\n", 'Received unexpected config entry "sturage" at the root'),
        ("storage: {postgres: {postgres_db: {}}}\n", "Missing required config entries"),
        ("a: [1\nb: {", "expected ',' or ']'"),
        ("- 1\n", "it has to be names with values"),
    ],
)
def test_settings_that_dagster_cannot_read_are_a_line(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, problem: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(settings)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    told = complaint(tunegraph("refresh", "--lake", lake.root))
    assert f"{tmp_path}/dagster.yaml cannot be used by Dagster: {problem}" in told


def test_a_lake_has_all_settings_of_the_checkout_but_the_class_that_finds_the_lake(lake: Lake) -> None:
    home = dagster_home(lake.root)
    assert home == lake.history.resolve()
    theirs, ours = (
        load_yaml_from_path(str(path)) for path in (project_file("dagster.yaml"), home / "dagster.yaml")
    )
    assert isinstance(theirs, dict)
    assert theirs.pop("instance_class")["class"] == LakeInstance.__name__
    assert ours == theirs
    with DagsterInstance.from_config(str(home)) as instance:
        assert type(instance) is DagsterInstance


def test_only_a_bare_dagster_dev_keeps_its_history_in_the_lake(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dg check defs`, for one, is to change no lake."""
    temporary, chosen = tmp_path / ".tmp_dagster_home_1", tmp_path / "chosen"
    monkeypatch.setenv("TUNEGRAPH_LAKE", "data_lake/demo")

    def kept_in(home: Path) -> Path:
        home.mkdir(exist_ok=True)
        ref = InstanceRef.from_dir(str(home), config_dir=str(project_file("dagster.yaml").parent))
        with DagsterInstance.from_ref(ref) as instance:
            assert isinstance(instance, LakeInstance)
            return Path(instance.root_directory)

    monkeypatch.setattr("sys.argv", ["dg", "check", "defs"])
    assert kept_in(temporary) == temporary
    monkeypatch.setattr("sys.argv", ["dagster", "dev", "-w", "workspace.yaml"])
    assert kept_in(chosen) == chosen
    assert not lake.history.exists()
    assert kept_in(temporary) == lake.history.resolve()
