"""What may go live: enforced by publishing itself, recorded, and undone by a roll-back that says so."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.recommend.bundle import BundleContent, read_current, write_bundle
from tunegraph_pipeline.recommend.publication import (
    LOG,
    Decision,
    last_judged,
    live_model,
    needed_models,
    publications,
    publish,
    roll_back,
)

Write = Callable[..., str]

SETTINGS = {"metric": "map", "k": 10, "margin": 0.01, "min_users": 30}
GOOD = {"map@10": {"champion": 0.2, "challenger": 0.21, "low": -0.01, "high": 0.03}}
BAD = {"map@10": {"champion": 0.2, "challenger": 0.1, "low": -0.12, "high": -0.08}}


def decision(figures: dict[str, Any], bundle: str = "b2", **changes: Any) -> Decision:
    found = Decision("m1", "m2", bundle, 100, figures, SETTINGS)
    return dataclasses.replace(found, **changes)


@pytest.fixture
def write(golden: Callable[..., BundleContent], tmp_path: Path) -> Write:
    """Write a bundle of a model into the serving folder, and give its version."""

    def write(version: str, model: str) -> str:
        content = golden(version)
        content.facts["model_version"] = model
        write_bundle(tmp_path / version, content)
        return version

    return write


@pytest.fixture
def serving(write: Write, tmp_path: Path) -> Path:
    """Live is bundle b1 of model m1; b2 is of model m2, b3 has fresh likes with m1."""
    publish(tmp_path, write("b1", "m1"))
    write("b2", "m2")
    write("b3", "m1")
    return tmp_path


def outcomes(serving: Path) -> list[str]:
    return [one.outcome for one in publications(serving)]


def test_the_first_model_goes_live_without_a_decision(serving: Path) -> None:
    (first,) = publications(serving)
    assert (first.outcome, first.bundle, first.model) == ("first", "b1", "m1")
    assert (first.replaced, first.replaced_model, first.decision) == (None, None, None)
    assert live_model(serving) == "m1"


def test_fresh_likes_with_the_live_weights_need_no_decision(serving: Path) -> None:
    publish(serving, "b3")
    assert read_current(serving).name == "b3"
    assert outcomes(serving) == ["first", "same model"]


def test_another_model_does_not_go_live_without_a_decision(serving: Path) -> None:
    with pytest.raises(
        BundleError, match=r"b2 is of model m2, which was not compared with the live model m1"
    ):
        publish(serving, "b2")
    assert read_current(serving).name == "b1"
    assert outcomes(serving) == ["first"]


def test_it_does_when_it_is_not_worse(serving: Path) -> None:
    found = decision(GOOD)
    assert publish(serving, "b2", found).model_version == "m2"
    last = last_judged(serving)
    assert last is not None
    assert (last.outcome, last.replaced, last.replaced_model) == ("accepted", "b1", "m1")
    assert last.decision == found
    assert live_model(serving) == "m2"


def test_a_refused_one_stays_out_and_is_recorded_with_the_fresh_likes(serving: Path) -> None:
    refused = decision(BAD)
    with pytest.raises(BundleError, match=r"bundle b2 was refused: map@10 is 0\.1000 against"):
        publish(serving, "b2", refused)
    assert read_current(serving).name == "b1"
    publish(serving, "b3", refused)
    assert live_model(serving) == "m1"
    (_, last) = publications(serving)
    assert last.outcome == "refused"
    assert "map@10 is 0.1000 against 0.2000" in last.reason
    # The same again is not news.
    publish(serving, "b3", refused)
    assert len(publications(serving)) == 2


def test_an_override_publishes_it_and_keeps_the_reason(serving: Path) -> None:
    publish(serving, "b2", decision(BAD, override="the old one has no jazz"))
    last = last_judged(serving)
    assert last is not None
    assert (last.outcome, last.reason) == ("overridden", "the old one has no jazz")
    assert live_model(serving) == "m2"


def test_an_override_without_a_reason_is_none(serving: Path) -> None:
    with pytest.raises(BundleError, match="was refused"):
        publish(serving, "b2", decision(BAD, override="  "))


@pytest.mark.parametrize(
    "changes",
    [
        {"champion": "m0"},
        {"challenger": "m3"},
        {"bundle": "b9"},
        {"objection": "worse than popularity"},
    ],
)
def test_a_decision_about_something_else_or_an_objection_does_not_let_it_in(
    serving: Path, changes: dict[str, str]
) -> None:
    with pytest.raises(BundleError):
        publish(serving, "b2", decision(GOOD, **changes))
    assert read_current(serving).name == "b1"


def test_a_decision_for_the_challenger_does_not_publish_the_champion(serving: Path) -> None:
    with pytest.raises(BundleError, match="the decision is about bundle b2"):
        publish(serving, "b3", decision(GOOD))


def test_losing_the_live_bundle_or_its_name_does_not_open_the_gate(serving: Path) -> None:
    shutil.rmtree(serving / "b1")
    with pytest.raises(BundleError, match="not compared with the live model m1"):
        publish(serving, "b2")
    (serving / "CURRENT").unlink()
    with pytest.raises(BundleError, match="not compared with the live model m1"):
        publish(serving, "b2")
    assert publish(serving, "b3").version == "b3"


def test_a_roll_back_goes_to_what_was_live_alone_and_is_recorded(serving: Path, write: Write) -> None:
    with pytest.raises(BundleError, match="of model m2, which was never live"):
        roll_back(serving, "b2")
    publish(serving, "b2", decision(GOOD))
    assert roll_back(serving, None, "m2 repeats itself").model_version == "m1"
    last = publications(serving)[-1]
    assert (last.outcome, last.model, last.reason) == ("rolled back", "m1", "m2 repeats itself")
    # Its model is the champion again, so the other needs a decision again.
    with pytest.raises(BundleError, match="not compared"):
        publish(serving, "b2")
    assert roll_back(serving, "b2").model_version == "m2"


def test_each_roll_back_goes_one_bundle_further_back(serving: Path) -> None:
    publish(serving, "b3")
    publish(serving, "b2", decision(GOOD))
    assert [roll_back(serving).version for _ in range(2)] == ["b3", "b1"]
    with pytest.raises(BundleError, match=r"no bundle that was live before b1 .*; others are b.* of model m"):
        roll_back(serving)
    assert read_current(serving).name == "b1"
    # What comes after is gone back from as before.
    publish(serving, "b3")
    assert roll_back(serving).version == "b1"


def test_a_roll_back_skips_what_is_gone_and_repairs_what_names_nothing(serving: Path) -> None:
    publish(serving, "b3")
    publish(serving, "b2", decision(GOOD))
    shutil.rmtree(serving / "b3")
    (serving / "CURRENT").write_bytes(b"\xff\0/")
    assert roll_back(serving).version == "b2"  # nothing was live: the last one that was
    assert publications(serving)[-1].replaced is None
    assert roll_back(serving).version == "b1"


def test_a_roll_back_to_what_is_not_there_lists_what_is(serving: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle b9; others are b3 of model m1, b2 of model m2"):
        roll_back(serving, "b9")
    with pytest.raises(BundleError, match="bundle b1 is already live; others are b3"):
        roll_back(serving, "b1")
    for version in ("b2", "b3"):
        shutil.rmtree(serving / version)
    with pytest.raises(BundleError, match=r"no bundle that was live before b1 .*; there are no others"):
        roll_back(serving)


def test_the_line_of_what_is_live_is_written_again_where_it_is_missing(serving: Path) -> None:
    (serving / LOG).write_text("")
    publish(serving, "b1")
    assert outcomes(serving) == ["same model"]


def test_the_models_of_the_bundles_at_hand_are_needed_and_the_live_one_without_a_bundle(
    serving: Path,
) -> None:
    assert needed_models(serving) == {"m1", "m2"}
    for version in ("b1", "b3"):
        shutil.rmtree(serving / version)
    assert needed_models(serving) == {"m1", "m2"}
    assert needed_models(serving / "nothing") == set()


def test_a_damaged_log_is_named_by_its_line(serving: Path) -> None:
    with (serving / LOG).open("a") as log:
        log.write('{"when": 1}\n')
    with pytest.raises(BundleError, match=r"publications\.jsonl line 2 is not a publication"):
        publish(serving, "b3")
    assert read_current(serving).name == "b1"
