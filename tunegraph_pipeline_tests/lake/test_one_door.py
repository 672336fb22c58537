"""Only `Lake` and the folders beneath it know where the files of a lake lie."""

from pathlib import Path

import pytest

import tunegraph_pipeline
from tunegraph_pipeline.lake.lake import Lake

CODE = Path(tunegraph_pipeline.__file__).parent
MAY_JOIN = {"lake", "recommend"}


def test_no_other_module_joins_a_path_below_a_lake() -> None:
    joining = [
        path.relative_to(CODE).as_posix()
        for path in CODE.rglob("*.py")
        if path.relative_to(CODE).parts[0] not in MAY_JOIN and ".root /" in path.read_text()
    ]
    assert joining == []


def test_versions_are_the_folders_of_a_kind(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    assert lake.versions("models") == []
    assert not lake.has_current("models")
    for version in ("2", "1"):
        lake.write_version("models", version, lambda draft: (draft / "part").touch())
    (lake.folder("models") / ".hidden").mkdir()
    assert lake.versions("models") == ["1", "2"]
    assert lake.has_current("models")
    assert lake.current_file("models").read_text().strip() == "1"


@pytest.mark.parametrize("path", ["../inbox", "/srv/inbox"])
def test_a_path_from_the_settings_is_relative_to_the_lake(tmp_path: Path, path: str) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    assert lake.resolve(path) == tmp_path / "lake" / path
