"""The gate on a lake: a broken model is refused in a run that succeeds, and only an override lets it in."""

import json
import re
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity, AssetKey, DagsterInstance
from typer.testing import CliRunner

from tunegraph_pipeline.cli import app as cli
from tunegraph_pipeline.errors import BundleError, InputError, LakeError
from tunegraph_pipeline.graph.split import GATE
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.lake.tensors import save_tensors
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.evaluate import judge_gate
from tunegraph_pipeline.pipeline.gate import gate_likes_unseen_by
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.publication import LOG, live_model, publications, publish
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.run_stages import run_stages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

FIRST, SECOND = date(2026, 2, 1), date(2026, 5, 1)
GOOD = {"dimension": 16, "epochs": 4, "encoder": "none"}
BROKEN = {**GOOD, "epochs": 1, "learning_rate": 1e-9, "ridge_neighbours": 1, "regularisation": 1e9}
WHY = "the new one knows the spring releases"


@dataclass(frozen=True)
class Refused:
    """A lake whose second refresh trained a broken model."""

    lake: Lake
    champion: str
    challenger: str


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    lake = Lake.open_or_create(tmp_path_factory.mktemp("gate") / "lake")
    lake.set_section("simulator", {"n_users": 300, "n_tracks": 300, "over_http": False})
    lake.set_section("graph", {"held_out": 0.2})
    for day, training in ((FIRST, GOOD), (SECOND, BROKEN)):
        lake.set_section("training", training)
        if day == SECOND:
            # More recent trainings than are kept: the live model has to outlast them.
            for version in ("abandoned", "failed", "stopped"):
                (lake.root / "models" / version).mkdir()
            # A training that was killed, and would by now be of other likes.
            save_tensors(lake.root / "checkpoints" / "model-2026-04-30-abandoned.safetensors", {}, {})
        # In Dagster where it is to be refused, for the checks; raises where one stops the run.
        run = run_stages if day == FIRST else run_job
        run(lake, "refresh", day, day, {"crawled_users": {"source": "simulator"}})
        lake = Lake.open(lake.root)
    champion = publications(lake.serving)[0].model
    return Refused(lake, champion, lake.current_version("models"))


def edited(path: Path, pattern: str, text: str) -> int:
    """Replace ``pattern`` in a JSON document, under a right checksum; how often it was there."""
    said, found = re.subn(pattern, text, json.dumps(read_json(path.read_bytes())))
    path.write_text(sealed_json(said))
    return found


def live(lake: Lake) -> Bundle:
    return Bundle.open(read_current(lake.serving))


def last_check(lake: Lake, name: str) -> tuple[bool, AssetCheckSeverity, str]:
    """What the latest run found of a check of the bundle."""
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        found = [
            entry.dagster_event.asset_check_evaluation_data
            for run in reversed(list(instance.get_runs()))
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event is not None
            and entry.dagster_event.event_type_value == "ASSET_CHECK_EVALUATION"
        ]
    last = [one for one in found if one.check_name == name][-1]
    return last.passed, last.severity, last.description or ""


def tunegraph(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_live_weights_are_served_over_the_likes_of_the_day(refused: Refused) -> None:
    lake = refused.lake
    bundle = live(lake)
    assert refused.challenger != refused.champion
    assert bundle.model_version == refused.champion
    assert bundle.facts["cut_off"] == SECOND.isoformat()
    first = publications(lake.serving)[0]
    assert first.outcome == "first"
    before = Bundle.open(lake.serving / first.bundle)
    assert len(bundle.user_tracks) > len(before.user_tracks)
    assert (bundle.embeddings[: before.n_tracks] == before.embeddings).all()
    new = bundle.facts["tracks_new_to_the_model"]
    assert new == bundle.n_tracks - before.n_tracks > 0
    assert not bundle.recommendable[before.n_tracks :].any()
    # The tables behind are those of what is live.
    shown = lake.read("user_recommendations", bundle.version)
    assert shown["model_version"].unique().to_list() == [refused.champion]
    assert lake.read("evaluation")["dataset"][-1] == f"gate of {bundle.version}"


def test_the_decision_is_kept_and_shown_and_the_check_warns(refused: Refused) -> None:
    lake = refused.lake
    last = publications(lake.serving)[-1]
    assert last.outcome == "refused"
    assert last.decision is not None
    found = last.decision.figures["map@10"]
    assert found["high"] is not None
    assert found["champion"] is not None
    assert found["high"] < -0.01 * found["champion"]
    assert set(last.decision.figures) == {"map@10", "recall@10"}
    assert last.decision.users >= 100
    passed, severity, said = last_check(lake, "no_worse_than_the_live_model")
    assert not passed
    assert severity == AssetCheckSeverity.WARN
    assert f"refused: {refused.challenger}" in said
    assert last_check(lake, "live_bundle_opens")[0]
    assert lake.has_version("models", refused.champion)
    assert not lake.has_version("models", "abandoned")
    assert not list((lake.root / "checkpoints").glob("*.safetensors"))
    status = lake_status(lake)
    assert f"model {refused.challenger} refused, {refused.champion} stays live" in status["gate"]
    assert f"of model {refused.champion}" in status["live bundle"]


def test_materialising_the_bundle_alone_does_not_go_round_it(refused: Refused) -> None:
    lake = refused.lake
    log, current = (lake.serving / LOG).read_bytes(), live(lake).version
    with DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        done = (
            build_definitions(lake.root)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                asset_selection=[AssetKey("serving_bundle")],
                instance=instance,
            )
        )
    assert done.success
    assert live(lake).version == current
    # Judged by the same settings the same was found, and nothing new is to be told.
    assert (lake.serving / LOG).read_bytes() == log


def test_neither_does_publishing_it_directly(refused: Refused) -> None:
    lake = refused.lake
    decision = publications(lake.serving)[-1].decision
    assert decision is not None
    assert Bundle.open(lake.serving / decision.bundle).model_version == refused.challenger
    for given in (None, decision):
        with pytest.raises(BundleError, match=r"not compared|was refused"):
            publish(lake.serving, decision.bundle, given)
    assert live_model(lake.serving) == refused.champion


def test_judging_again_gives_the_same_figures(refused: Refused) -> None:
    from tunegraph_pipeline.pipeline.publish import publish_current

    lake = refused.lake
    log = (lake.serving / LOG).read_text()
    before = publications(lake.serving)[-1].decision
    (lake.serving / LOG).write_text(log.splitlines(keepends=True)[0])
    _, again = publish_current(lake, "")
    assert again == before
    (lake.serving / LOG).write_text(log)


def test_what_is_served_is_not_evaluated_on_likes_its_model_was_shown(refused: Refused) -> None:
    lake = refused.lake
    recommender, graph = Recommender.open(lake.serving), open_like_graph(lake)

    def notes() -> list[str]:
        return judge_gate(lake, recommender, k=10).notes

    assert f"{graph.fold_matrix(GATE).nnz:,} held-out likes" in notes()[0]
    manifest = lake.version_folder("models", refused.champion) / "manifest.json"
    before = manifest.read_text()
    # Live is a model from when less was held out.
    assert edited(manifest, '"held_out": 0.2', '"held_out": 0.1')
    hidden = gate_likes_unseen_by(lake, [refused.champion])
    assert 0 < hidden.nnz < graph.fold_matrix(GATE).nnz
    assert f"{hidden.nnz:,} held-out likes" in notes()[0]
    manifest.write_text(before)


def test_without_the_live_weights_nothing_is_judged_and_the_remedy_is_named(refused: Refused) -> None:
    from tunegraph_pipeline.pipeline.publish import publish_current

    lake = refused.lake
    folder = lake.version_folder("models", refused.champion)
    away = folder.rename(lake.root / "away")
    shutil.rmtree(lake.serving / live(lake).version)
    with pytest.raises(LakeError, match=r"the live model .* cannot be judged .* --override"):
        publish_current(lake, "")
    # Neither is one whose rows are those of other tracks.
    shutil.copytree(away, folder)
    manifest = folder / "manifest.json"
    assert edited(manifest, r'"id_map": "\w+"', '"id_map": "another"')
    with pytest.raises(LakeError, match="was trained over another id map"):
        publish_current(lake, "")
    shutil.rmtree(folder)
    away.rename(folder)
    publish_current(lake, "")
    assert live_model(lake.serving) == refused.champion


def test_an_override_says_why_and_a_roll_back_undoes_it(refused: Refused) -> None:
    lake = refused.lake
    before = live(lake).version
    with pytest.raises(InputError, match="has to say why"):
        tunegraph("publish", "--lake", lake.root, "--override", " ")
    said = tunegraph("publish", "--lake", lake.root, "--override", WHY)
    assert live(lake).model_version == refused.challenger
    assert WHY in " ".join(said.split()) or WHY in lake_status(lake)["gate"]
    last = publications(lake.serving)[-1]
    assert (last.outcome, last.reason) == ("overridden", WHY)
    passed, _, shown = last_check(lake, "no_worse_than_the_live_model")
    assert passed
    assert f"published by override: {WHY}" in shown
    assert WHY in lake_status(lake)["gate"]
    # A run that has nothing to decide shows by which comparison the live model came.
    again = stage("serving_bundle").run(lake)
    assert again.facts["gate"]["override"] == WHY
    assert set(again.plots) == {"challenger against champion"}
    with pytest.raises(InputError, match="nothing to override"):
        tunegraph("publish", "--lake", lake.root, "--override", WHY)
    overridden = live(lake).version
    said = " ".join(tunegraph("rollback", "--lake", lake.root, "--reason", "it has no jazz").split())
    assert f"live was {overridden}, is {before}: model {refused.champion}" in said
    assert publications(lake.serving)[-1].reason == "it has no jazz"
    assert live(lake).version == before
    assert "rolled back to bundle" in lake_status(lake)["gate"]
