"""The file of tuned values: what is in it can be used, and what is written is read again."""

import runpy
from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines import ALL
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.tuned import TunedBaseline, read_tuned, tuned

TUNE = Path(__file__).parents[2] / "benchmarks" / "tune.py"


def test_every_value_that_is_kept_is_a_setting_of_its_baseline_and_no_worse_than_the_default() -> None:
    sets = read_tuned()
    assert "lastfm" in sets
    for name, found in sets.items():
        config = found.config().model_dump()
        for baseline, values in found.root.items():
            assert baseline in ALL
            assert f"--name {name}" in values.command
            assert all(config[field] == value for field, value in values.settings.items())
            assert all(field.startswith(f"{baseline}_") for field in values.settings)
            assert values.validation >= values.untuned
        # The same budget for all.
        assert len({values.trials for values in found.root.values()}) == 1


def ease_at(ease_lambda: float, command: str = "tune --name x") -> TunedBaseline:
    return TunedBaseline(
        settings={"ease_lambda": ease_lambda},
        command=command,
        likes="3 users",
        trials=3,
        metric="map@10",
        validation=0.2,
        untuned=0.1,
    )


def test_what_is_written_is_read_and_other_sets_and_baselines_stay(tmp_path: Path) -> None:
    path, write_tuned = tmp_path / "tuned.json", runpy.run_path(str(TUNE))["write_tuned"]
    assert read_tuned(path) == {}
    write_tuned("b", {"ease": ease_at(1.0)}, path)
    write_tuned("a", {"ease": ease_at(2.0)}, path)
    knn = ease_at(1.0, "tune again").model_copy(update={"settings": {"item_knn_k": 7}})
    write_tuned("b", {"item_knn": knn}, path)
    write_tuned("b", {"ease": ease_at(3.0)}, path)
    assert list(read_tuned(path)) == ["a", "b"]
    assert tuned("b", path).config() == BaselineConfig(ease_lambda=3.0, item_knn_k=7)
    assert tuned("b", path).notes() == [
        "ease tuned by `tune --name x`, 3 trials, map@10 of 3 users",
        "item_knn tuned by `tune again`, 3 trials, map@10 of 3 users",
    ]
    with pytest.raises(InputError, match="no baseline was tuned on 'c'; there is a, b"):
        tuned("c", path)
