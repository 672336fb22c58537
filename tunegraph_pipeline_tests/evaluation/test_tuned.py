"""The file of tuned values: what is in it can be used, and what is written is read again."""

from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines import ALL, BaselineConfig
from tunegraph_pipeline.evaluation.tuned import TunedBaseline, TunedSet, read_tuned, tuned, write_tuned


def test_every_value_that_is_kept_is_a_setting_of_its_baseline_and_no_worse_than_the_default() -> None:
    sets = read_tuned()
    assert "lastfm" in sets
    for name, found in sets.items():
        assert f"--name {name}" in found.command
        config = found.config().model_dump()
        for baseline, values in found.baselines.items():
            assert baseline in ALL
            assert all(config[field] == value for field, value in values.settings.items())
            assert all(field.startswith(f"{baseline}_") for field in values.settings)
            assert values.validation >= values.untuned
        # The same budget for all.
        assert len({values.trials for values in found.baselines.values()}) == 1


def found_with(ease_lambda: float) -> TunedSet:
    baseline = TunedBaseline(settings={"ease_lambda": ease_lambda}, trials=3, validation=0.2, untuned=0.1)
    return TunedSet(command="tune --name x", metric="map@10", likes="3 users", baselines={"ease": baseline})


def test_what_is_written_is_read_and_other_sets_stay(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    assert read_tuned(path) == {}
    write_tuned("b", found_with(1.0), path)
    write_tuned("a", found_with(2.0), path)
    write_tuned("b", found_with(3.0), path)
    assert list(read_tuned(path)) == ["a", "b"]
    assert tuned("b", path).config() == BaselineConfig(ease_lambda=3.0)
    with pytest.raises(InputError, match="no baseline was tuned on 'c'; there is a, b"):
        tuned("c", path)
