"""Engines are chosen by settings and environment, and the local one is a plain loop."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.engine import ray
from tunegraph_pipeline.engine.engine import (
    ADDRESS_VARIABLE,
    ENGINE_VARIABLE,
    EngineSettings,
    Outputs,
    Parcel,
    engine_of,
    settings_of,
)
from tunegraph_pipeline.engine.local import LOCAL, LocalEngine
from tunegraph_pipeline.engine.ray import RayEngine
from tunegraph_pipeline.errors import EngineError, InputError, LakeError, LibraryMissingError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.settings import check_settings

VALUES = {"values": np.arange(4)}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for variable in (ENGINE_VARIABLE, ADDRESS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return Lake.open_or_create(tmp_path / "lake")


def times(inputs: Parcel, block: int) -> Outputs:
    values = inputs.once("values as floats", lambda: inputs.array("values").astype(np.float64))
    return {"values": values * block, "made": values}


def test_the_local_engine_runs_each_block_when_it_is_asked_for() -> None:
    taken: list[int] = []

    def counted() -> Iterator[int]:
        for block in range(3):
            taken.append(block)
            yield block

    found = LOCAL.run(times, counted(), VALUES)
    assert taken == []
    assert next(found).array("values").tolist() == [0, 0, 0, 0]
    assert taken == [0]
    assert [one.array("values").tolist() for one in found] == [[0, 1, 2, 3], [0, 2, 4, 6]]


def test_what_blocks_share_is_neither_copied_nor_made_twice() -> None:
    first, second = LOCAL.run(times, [1, 2], VALUES)
    assert first.array("made") is second.array("made")
    (shared,) = LOCAL.run(lambda inputs, _: {"values": inputs.array("values")}, [0], VALUES)
    assert shared.array("values") is VALUES["values"]


def test_without_settings_everything_runs_here(lake: Lake) -> None:
    with engine_of(lake) as engine:
        assert isinstance(engine, LocalEngine)
    assert not [*lake.staging.iterdir()]


def test_the_environment_overrules_the_settings(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.set_section("engine", {"kind": "ray", "address": "here:1", "retries": 2})
    assert settings_of(lake) == EngineSettings(kind="ray", address="here:1", retries=2)
    monkeypatch.setenv(ADDRESS_VARIABLE, "there:2")
    assert settings_of(lake).address == "there:2"
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    with engine_of(lake) as engine:
        assert isinstance(engine, LocalEngine)


def test_an_unknown_engine_is_refused_before_anything_runs(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "spark")
    with pytest.raises(InputError, match=r"^TUNEGRAPH_ENGINE is 'spark'; set it to one of local, ray$"):
        check_settings(lake)
    monkeypatch.delenv(ENGINE_VARIABLE)
    lake.set_section("engine", {"kind": "spark"})
    with pytest.raises(LakeError, match="engine: kind: has to be 'local' or 'ray'") as raised:
        check_settings(lake)
    assert "\n" not in str(raised.value)


def test_a_ray_engine_that_runs_nothing_asks_no_cluster(lake: Lake) -> None:
    lake.set_section("engine", {"kind": "ray", "address": "127.0.0.1:1"})
    with engine_of(lake) as engine:
        assert isinstance(engine, RayEngine)
    assert not [*lake.staging.iterdir()]


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port"])
def test_an_address_that_is_none_is_refused(
    address: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, address)
    lake.set_section("engine", {"kind": "ray"})
    with pytest.raises(EngineError, match="give host:port of its head"), engine_of(lake) as engine:
        list(engine.run(times, [1], VALUES))
    assert not [*lake.staging.iterdir()]


def test_without_the_library_a_line_says_what_to_install(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ray._ray.cache_clear()
    lake.set_section("engine", {"kind": "ray"})
    with pytest.raises(LibraryMissingError, match="pip install") as raised, engine_of(lake) as engine:
        list(engine.run(times, [1], VALUES))
    assert str(raised.value).endswith("pip install 'tunegraph-pipeline[cluster]'")
    assert not [*lake.staging.iterdir()]


def test_stages_import_nothing_of_a_cluster() -> None:
    names = ("current_likes", "like_graph", "co_like_matrix", "trained_model", "user_recommendations")
    stages = ", ".join(f"tunegraph_pipeline.pipeline.{name}" for name in names)
    check = f"import sys, {stages}; print([name for name in sys.modules if name.split('.')[0] == 'ray'])"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
