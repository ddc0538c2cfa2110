"""Options of the strategy: chosen by settings, frozen with the run, and what they have workers measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from told_runs import new_run

from evodiff.engine import NSGA2
from evodiff.errors import SettingsError
from evodiff.evaluation.score import ScoringInputs
from evodiff.pipeline import trial as trials
from evodiff.pipeline.frozen import check_resume
from evodiff.pipeline.generation import plan
from evodiff.pipeline.run import Run
from evodiff.search import arm_folder, random_arm
from evodiff.settings import EvaluationSettings, TrainingSettings, load_settings
from evodiff.workers import WorkerContext


def test_options_are_those_of_the_strategy_and_frozen_with_the_run(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", strategy="nsga2", strategy_options={"informed": 0.5, "crossover_rate": 0.2})
    assert run.evolution().strategy == NSGA2(informed=0.5, crossover_rate=0.2)
    assert run.options()["strategy_options.informed"] == 0.5
    assert run.options()["strategy_options.operator_floor"] == 1.0  # all of them, as the run has them
    assert Run.open(run.path).evolution().strategy == run.evolution().strategy


def test_an_option_that_the_strategy_does_not_have_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"crossover_rate.*found .*pool"):
        new_run(tmp_path / "run", strategy="nsga2", strategy_options={"pool": 3})
    with pytest.raises(SettingsError, match="informed: expected a number from 0 to 1"):
        new_run(tmp_path / "other", strategy_options={"informed": 7})


def test_options_come_from_the_environment_and_a_resume_refuses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVODIFF_STRATEGY_OPTIONS", '{"informed": 0.5, "growing": false}')
    assert load_settings({}).strategy_options == {"informed": 0.5, "growing": False}
    run = new_run(tmp_path / "run", strategy_options={"informed": 0.5, "growing": False})
    check_resume(run, load_settings({}), {})
    monkeypatch.setenv("EVODIFF_STRATEGY_OPTIONS", '{"informed": 0.25}')
    with pytest.raises(SettingsError, match=r"INFORMED.* is frozen: expected 0.5, found 0.25"):
        check_resume(run, load_settings({}), {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("true", True), ("yes", True), ("null", None)],
)
def test_a_variable_of_one_option_holds_a_number_true_false_or_null(
    text: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVODIFF_STRATEGY_OPTIONS__POOL", text)
    (found,) = load_settings({}).strategy_options.values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", ["many", [1]])
def test_an_option_of_another_kind_is_refused_by_its_name(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as refused:
        load_settings({"strategy_options": {"pool": value}})
    assert f"strategy_options.pool: expected true, false, a number or null, found {value!r}" in str(refused.value)


def test_the_random_arm_has_no_options_and_is_an_arm_all_the_same(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", strategy_options={"informed": 0.5})
    new_run(arm_folder(run.path), strategy="random")
    found = random_arm(run)
    assert found is not None
    assert found.strategy_options == {}


class Pixels:
    """Pixels as features."""

    digest = "pixels"

    def features(self, images: torch.Tensor) -> np.ndarray:
        return images.flatten(1).numpy().astype(np.float64)

    def probabilities(self, images: torch.Tensor) -> np.ndarray:
        return np.ones((len(images), 1))


@pytest.fixture
def judged_by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inputs = ScoringInputs(Pixels(), images, None, Pixels().features(images))
    monkeypatch.setattr(trials, "_scoring_inputs", lambda path: inputs)


@pytest.mark.parametrize("informed", [0.0, 0.5])
@pytest.mark.usefixtures("judged_by_pixels")
def test_what_layers_are_worth_is_stored_where_mutations_read_it_and_nowhere_else(
    informed: float, tmp_path: Path
) -> None:
    run = new_run(
        tmp_path / "run",
        strategy_options={"informed": informed},
        training=TrainingSettings(steps=2, batch_size=4),
        evaluation=EvaluationSettings(samples=16, sampler_steps=2, loss_batch=8),
    )
    plan(run, 0)
    (row, *_) = run.ledger.plan(0)
    payload = {"run": str(run.path), "trial": row, "steps": 2}
    context = WorkerContext("cpu", lambda content: None, lambda: False)
    found = trials.train_and_evaluate_trial(payload, context)["details"]
    assert ("sensitivity" in found) == (informed > 0)
    if informed:
        assert list(found["sensitivity"]) == [layer["key"] for layer in row["genome"]["layers"]]
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert trials.evaluate_trial(payload, context)["details"] == found
