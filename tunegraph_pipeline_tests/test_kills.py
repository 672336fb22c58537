"""A few kills -9, by `benchmarks/kills.py` of refreshes, and by `benchmarks/killed_commands.py` of others."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import flipped_bits, killed_commands
from benchmarks.kills import World
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.lean_command import LEAN
from tunegraph_pipeline_tests.test_cli import tunegraph

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

KILLS = examples(3)
QUICK = {"dimension": 4, "epochs": 1, "encoder": "none"}


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def refresh(lake: Lake) -> None:
    assert tunegraph("refresh", "--source", "none", "--lake", lake.root).returncode == 0


@pytest.fixture(scope="module")
def tormented(kills: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("kills")
    world = kills.World(80, 100, 1, QUICK)
    return folder, kills.torment(folder, world, KILLS, seed=163, pause=0.4, undisturbed=refresh, program=LEAN)


def test_killed_refreshes_leave_what_an_undisturbed_one_does(
    kills: ModuleType, tormented: tuple[Path, object]
) -> None:
    _, outcome = tormented
    assert isinstance(outcome, kills.Outcome)
    assert outcome.failures == []
    assert outcome.stages.total() == KILLS
    assert outcome.days == 1
    assert outcome.reader["queries"] > outcome.reader["bundles seen"] >= 2
    assert any("entries of B" in what for what in outcome.compared)


def test_what_differs_is_found(kills: ModuleType, tormented: tuple[Path, object]) -> None:
    folder, _ = tormented
    calm, lake = (Lake.open(folder / name) for name in ("calm", "killed"))
    assert all(same for _, same in kills.comparisons(calm, lake))
    key = lake.partitions("likes")[-1]
    rows = lake.read("likes", key)
    path = lake.table_path("likes", key)
    content = path.read_bytes()
    lake.write("likes", key, rows[1:], "")
    different = [what for what, same in kills.comparisons(calm, lake) if not same]
    assert [what.split(" ", 2)[2] for what in different] == ["12 daily partitions"]
    path.write_bytes(content)


def test_a_reader_that_finds_nothing_to_read_complains(kills: ModuleType, tmp_path: Path) -> None:
    outcome = kills.Outcome()
    with kills.Reader(tmp_path, outcome):
        pass
    assert outcome.failures
    assert "no bundle has been published" in outcome.failures[0]


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Lake]:
    world = World(40, 50, 1, QUICK)
    folder = tmp_path_factory.mktemp("commands")
    return world, killed_commands.two_days(world, folder / "start", flipped_bits.refresh)


# What else of the default run kills an import, an inbox or a command that forgets.
ELSEWHERE = {
    "import": "lake/test_storage.py",
    "inbox": "pipeline/test_inbox.py",
    "forget": "pipeline/test_forgetting.py",
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.nightly) if kind in ELSEWHERE else kind
        for kind in killed_commands.KINDS
    ],
)
def test_a_killed_command_is_finished_by_the_next_run(
    two_days: tuple[World, Lake], tmp_path: Path, kind: str
) -> None:
    world, start = two_days
    outcome = killed_commands.torment(
        start, tmp_path, world, kind, 1, seed=0, pause=0.4, undisturbed=flipped_bits.refresh
    )
    assert outcome.failures == []
    assert outcome.stages.total() == 1
