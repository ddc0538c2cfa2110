"""Real trainings of a contest, on a few random images: the same however they were cut, and never done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from told_runs import TellingPool, new_run

from evodiff.errors import Interrupted, TrialFailure
from evodiff.evaluation.score import ScoringInputs
from evodiff.pipeline import rival_tasks
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.rivals import Contest, plan_contest, score_file, weights_folder
from evodiff.pipeline.run import Run
from evodiff.workers import WorkerContext

SAMPLES = 16
STEPS = 4
IMAGES = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 8)).astype(np.float32))


class Pixels:
    """Pixels as features; there are no classes."""

    digest = "pixels"

    def features(self, images: torch.Tensor) -> Any:
        return images.flatten(1).double().numpy()

    def probabilities(self, images: torch.Tensor) -> Any:
        raise AssertionError("nothing has a label here")


@pytest.fixture(autouse=True)
def random_images(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = ScoringInputs(Pixels(), IMAGES, None, Pixels().features(IMAGES))
    monkeypatch.setattr(rival_tasks, "training_part", lambda path: (IMAGES, None))
    monkeypatch.setattr(rival_tasks, "_test_inputs", lambda path: inputs)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_contest_run(tmp_path / "run")


def new_contest_run(path: Path) -> Run:
    run = new_run(path, training={"steps": STEPS, "batch_size": 8, "warmup_steps": 2})
    evolve(run, TellingPool(lambda trial: {"kid": int(trial["candidate"], 16) / 2**64}), generations=1, holder="me")
    return run


def tiny(run: Run) -> Contest:
    """A contest that the smallest network of the zoo leads, for what is left to train is cheap then."""
    contest = plan_contest(run, seeds=1, samples=SAMPLES)
    found = [rival for rival in contest.rivals if rival.name == "tiny"] or [contest.rivals[0]]
    return replace(contest, rivals=tuple(found))


def work(run: Run, stages: list[int], *, seed: int = 0, samples: int = SAMPLES, should_stop: Callable[[], bool] = bool):
    rival = tiny(run).rivals[0]
    payload = {
        "run": str(run.path),
        "candidate": rival.candidate,
        "genome": run.space.to_json(rival.genome),
        "seed": seed,
        "stages": stages,
        "samples": samples,
    }
    rival_tasks.train_and_score(payload, WorkerContext("cpu", lambda data: None, should_stop))


def weights(run: Run, steps: int, seed: int = 0) -> bytes:
    folder = weights_folder(run, tiny(run).rivals[0].candidate, steps, seed)
    return (folder / "weights.safetensors").read_bytes()


def scored(run: Run, steps: int, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.path / score_file(tiny(run).rivals[0].candidate, steps, seed)).read_text())
    return found


def test_a_training_that_went_on_is_that_of_as_many_steps_at_once(run: Run, tmp_path: Path) -> None:
    work(run, [9, 6])
    other = new_contest_run(tmp_path / "other")
    work(other, [9])
    assert weights(run, 9) == weights(other, 9)
    assert scored(run, 9) == scored(other, 9)
    assert scored(run, 6)["kid"] != scored(run, 9)["kid"]
    assert list((run.path / "scratch" / "rivals").iterdir()) == []


def test_seeds_differ_and_one_seed_is_the_same_again(run: Run, tmp_path: Path) -> None:
    for seed in (0, 1):
        work(run, [6], seed=seed)
    assert weights(run, 6, 0) != weights(run, 6, 1)
    other = new_contest_run(tmp_path / "other")
    work(other, [6], seed=1)
    assert weights(other, 6, 1) == weights(run, 6, 1)


def test_a_stopped_training_goes_on_with_the_same_bytes(run: Run, tmp_path: Path) -> None:
    asked = []

    def after_five() -> bool:
        asked.append(0)
        return len(asked) > 5

    with pytest.raises(Interrupted):
        work(run, [3, 9], should_stop=after_five)
    assert scored(run, 3)["steps"] == 3
    assert list((run.path / "scratch" / "rivals").iterdir()) != []
    work(run, [9])
    other = new_contest_run(tmp_path / "other")
    work(other, [3, 9])
    assert weights(run, 9) == weights(other, 9)


def test_more_samples_need_no_new_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    work(run, [6])

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(rival_tasks, "train", refuse)
    first = scored(run, 6)
    work(run, [6], samples=20)
    assert (scored(run, 6)["samples"], first["samples"]) == (20, SAMPLES)


def test_a_training_that_fails_by_itself_is_stored_as_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*arguments: Any, **more: Any) -> None:
        raise TrialFailure("non_finite_loss", "the loss of step 2 is nan")

    monkeypatch.setattr(rival_tasks, "train", diverge)
    work(run, [3, 6])
    assert [scored(run, steps)["failure"]["cause"] for steps in (3, 6)] == ["non_finite_loss"] * 2


def test_latency_is_measured_of_every_network_in_turns(run: Run) -> None:
    contest = plan_contest(run, seeds=1, samples=SAMPLES)
    chosen = sorted(contest.rivals, key=contest.step_flops)[:2]
    genomes = {rival.candidate: run.space.to_json(rival.genome) for rival in chosen}
    payload = {"run": str(run.path), "genomes": genomes}
    rival_tasks.measure_rivals(payload, WorkerContext("cpu", lambda data: None, bool))
    found = json.loads((run.path / "validation" / "latency.json").read_text())
    assert found["networks"].keys() == genomes.keys()
    assert all(item["low_ms"] <= item["median_ms"] <= item["high_ms"] for item in found["networks"].values())
