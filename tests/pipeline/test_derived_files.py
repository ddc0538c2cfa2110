"""What came after a search, or beside it, is made again or left out where it is damaged; never more than that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from told_runs import TellingPool, new_run

from evodiff.errors import LedgerError
from evodiff.pipeline import trial as trial_tasks
from evodiff.pipeline.evolve import evolve
from evodiff.pipeline.final import champion, pictures, train_candidate, trained_steps, trial_row
from evodiff.pipeline.generation import evaluate, plan, planned_trials, train
from evodiff.pipeline.run import Run
from evodiff.reporting.run_view import view_of_run
from evodiff.training import TrainingResult, TrainingState, save_weights
from evodiff.workers import Outcome, Task, WorkerContext

CONTEXT = WorkerContext("cpu", lambda data: None, lambda: False)
STEPS = 7


def scored(trial: Mapping[str, Any]) -> Mapping[str, float]:
    return {"kid": int(trial["candidate"], 16) / 2**64}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a closed generation, on this machine as its target."""
    run = new_run(tmp_path / "run", target="local")
    evolve(run, TellingPool(scored), generations=1, holder="me")
    return run


@pytest.fixture
def best(run: Run) -> str:
    """Its champion, finally trained and with its pictures."""
    found = champion(run)
    assert found is not None
    publish(run.final_folder(found.id))
    draw(run, found.id)
    return found.id


def publish(folder: Path, steps: int = STEPS) -> None:
    save_weights(folder, {"weight": torch.ones(3)}, {"steps": steps, "loss_curve": [0.5, 0.25]})


def draw(run: Run, candidate: str) -> None:
    images = {"images": np.zeros((4, 1, 8, 8), np.uint8)}
    run.ledger.replace(run.final_folder(candidate) / "pictures.safetensors", save(images))


class DoingPool:
    """Stands where a worker pool does; remembers what it was asked for and does ``work``."""

    def __init__(self, work: Callable[[Task], None] = lambda task: None) -> None:
        self.asked: list[str] = []
        self._work = work

    def run(self, tasks: Sequence[Task], *, on_progress: object = None) -> Iterator[Outcome]:
        for task in tasks:
            self.asked.append(task.function.rpartition(":")[2])
            self._work(task)
            yield Outcome(task.id, {}, None, 0.0, 0)


def test_a_champion_that_was_trained_but_not_drawn_is_drawn(run: Run, best: str) -> None:
    (run.final_folder(best) / "pictures.safetensors").unlink()
    pool = DoingPool(lambda task: draw(run, best))
    train_candidate(run, best, pool, steps=STEPS)
    train_candidate(run, best, pool, steps=STEPS)
    assert pool.asked == ["draw_pictures"]


@pytest.mark.parametrize(
    "content", [b"", b"x", save({"labels": np.zeros(3)}), save({"images": np.zeros((4, 1, 9, 9), np.uint8)})]
)
def test_pictures_that_cannot_be_read_are_drawn_again(run: Run, best: str, content: bytes) -> None:
    (run.final_folder(best) / "pictures.safetensors").write_bytes(content)
    assert pictures(run, best) is None
    pool = DoingPool()
    train_candidate(run, best, pool, steps=STEPS)
    assert pool.asked == ["draw_pictures"]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "digests.json"])
def test_a_final_training_that_is_damaged_is_made_again(run: Run, best: str, name: str) -> None:
    (run.final_folder(best) / name).write_text("x")
    assert trained_steps(run, best) == 0
    pool = DoingPool()
    train_candidate(run, best, pool, steps=STEPS)
    assert pool.asked[0] == "train_final"


def train_alone(run: Run, trial: Any, network: Any, steps: int, curve: Any, context: Any) -> TrainingResult:
    """Stand in for a training: nothing is computed."""
    return TrainingResult({"weight": torch.full((3,), float(steps))}, [0.1], steps, TrainingState(steps, {}))


def final_payload(run: Run, candidate: str, steps: int) -> dict[str, Any]:
    return {"run": str(run.path), "trial": trial_row(run, candidate), "steps": steps}


def test_of_two_that_train_a_champion_the_second_adopts_what_the_first_published(
    run: Run, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.final_folder(best)

    def train_beside_a_twin(run: Run, trial: Any, network: Any, steps: int, curve: Any, context: Any) -> TrainingResult:
        if trained_steps(run, best) < steps:  # the twin is as far, and then faster
            monkeypatch.setattr(trial_tasks, "_train", train_alone)
            trial_tasks.train_final(final_payload(run, best, steps), CONTEXT)
            draw(run, best)
        return train_alone(run, trial, network, steps, curve, context)

    monkeypatch.setattr(trial_tasks, "_train", train_beside_a_twin)
    trial_tasks.train_final(final_payload(run, best, STEPS + 1), CONTEXT)
    assert trained_steps(run, best) == STEPS + 1
    assert pictures(run, best) is not None
    assert [path.name for path in folder.parent.iterdir()] == [best]


def test_a_longer_training_replaces_a_shorter_one_with_all_that_was_made_of_it_and_never_the_other_way(
    run: Run, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_tasks, "_train", train_alone)
    trial_tasks.train_final(final_payload(run, best, STEPS + 2), CONTEXT)
    assert (trained_steps(run, best), pictures(run, best)) == (STEPS + 2, None)
    draw(run, best)
    for steps in (STEPS + 2, STEPS):
        trial_tasks.train_final(final_payload(run, best, steps), CONTEXT)
    assert trained_steps(run, best) == STEPS + 2
    assert pictures(run, best) is not None


def test_weights_of_a_trial_without_a_result_that_are_damaged_are_set_aside_and_trained_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan(run, 1)[0]
    folder = run.ledger.weights_folder(trial)
    for other in planned_trials(run, 1):
        publish(run.ledger.weights_folder(other))
    (folder / "weights.safetensors").write_bytes(b"x")
    pool = DoingPool()
    train(run, 1, pool)
    assert len(pool.asked) == 1
    with pytest.raises(LedgerError, match=trial.id):
        evaluate(run, 1, pool)

    monkeypatch.setattr(trial_tasks, "_train", train_alone)
    row = next(row for row in run.ledger.plan(1) if row["id"] == trial.id)
    with pytest.warns(UserWarning, match="its trial is trained again"):
        trial_tasks.train_trial({"run": str(run.path), "trial": row, "steps": 4}, CONTEXT)
    assert [path.name.startswith("generations.0001.weights") for path in damaged(run)] == [True]
    evaluate(run, 1, pool)


def damaged(run: Run) -> list[Path]:
    return list((run.path / "telemetry" / "damaged").iterdir())


DERIVED = ("latency.json", "CHAMPION/config.json", "CHAMPION/pictures.safetensors", "CHAMPION/validation.json")


@pytest.mark.parametrize("content", ["", "x", "[]", '{"front": [{}]}', '{"front": 3, "loss_curve": "x", "kid": []}'])
@pytest.mark.parametrize("name", DERIVED)
def test_a_report_leaves_out_what_cannot_be_read_and_names_it(run: Run, best: str, name: str, content: str) -> None:
    file = run.path / "final" / name.replace("CHAMPION", best)
    file.write_text(content)
    named = [warning for warning in view_of_run(run).warnings if str(file.relative_to(run.path)) in warning]
    sound = name.endswith("config.json") and 'front": [' in content  # without a curve there is nothing to show
    assert len(named) == (0 if sound else 1)


def test_a_dataset_that_is_not_the_runs_own_is_no_mere_remark(run: Run, best: str) -> None:
    (run.inputs / "dataset.safetensors").unlink()
    with pytest.raises(LedgerError, match="is not the run's own"):
        view_of_run(run)


def test_sound_files_are_shown_without_a_remark(run: Run, best: str) -> None:
    row = {"candidate": best, "predicted_ms": 1.0, "median_ms": 1.1, "low_ms": 1.0, "high_ms": 1.2}
    (run.path / "final" / "latency.json").write_text(json.dumps({"front": [row, {**row, "predicted_ms": None}]}))
    view = view_of_run(run)
    assert view.warnings == ()
    assert [check.measured_ms for check in view.latency_checks] == [1.1]
    assert [point.step for point in view.champion_progress] == [4, 7]
    assert view.images is not None
    assert f"after {STEPS} training steps" in view.images.caption
